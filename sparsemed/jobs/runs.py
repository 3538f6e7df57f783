"""One measurement and its result: checked, planned, computed."""

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from sparsemed.progress import Progress
from sparsemed.rtdc.measurement import has_own_images
from sparsemed.rtdc.pipeline_id import CODE
from sparsemed.rtdc.unfinished import is_unfinished, open_output
from sparsemed.storage import disk
from sparsemed.storage.places import AnyPath

if TYPE_CHECKING:
    from sparsemed.inputs import Input
    from sparsemed.jobs.options import RunOptions

SUFFIX = ".rtdc"
"""Ending of the names of measurements."""

FILE_SUFFIXES = (SUFFIX, ".h5", ".hdf5")
"""Endings of an output that is a file; any other output is a folder."""


class Run(NamedTuple):
    """One measurement, and the file for its result.

    `plan` and `compute` return values of a `FileResult`. Slow imports are inside the methods.

    Attributes
    ----------
    source : Path or RemotePath
    output : Path
    in_place : bool
        Whether the result goes into the measurement itself.
    folder_is_made : bool
        Whether the folder of the output is made if it is missing.
    """

    source: AnyPath
    output: Path
    in_place: bool = False
    folder_is_made: bool = False

    def absolute(self) -> Self:
        """Return this run with absolute paths, which is valid in any working folder."""
        return self._replace(source=self.source.absolute(), output=self.output.absolute())

    def check(self) -> None:
        """Check that the output is no measurement, unless in place, and can be written.

        Raises
        ------
        ValueError
            If the output holds images of its own.
        OSError
            If the folder of the output is read-only, or cannot be made.
        """
        if not self.in_place:
            check_folder(self.output, is_made=self.folder_is_made)
        if self.in_place or not self.output.is_file() or is_unfinished(self.output):
            return
        open_output(self.output).close()
        if has_own_images(self.output):
            raise ValueError(
                f"{self.output}: holds images of its own, and is not changed; "
                "choose another output, or add the background to a measurement with --in-place"
            )

    def open(self, options: "RunOptions") -> "Input":
        """Open the frames."""
        from sparsemed.inputs import open_input

        return open_input(self.source, basins=options.basins, num_cpus=options.num_cpus)

    def plan(self, options: "RunOptions") -> dict[str, Any]:
        """Return what `compute` would do, after the same checks."""
        from sparsemed.jobs.file_result import planned_values
        from sparsemed.method.compute import plan
        from sparsemed.rtdc.output import check_output

        with self.open(options) as given:
            shape, axis = given.frames.shape, given.time
        if self.output.parent.is_dir() or not self.folder_is_made:
            check_output(self.output, shape[0], self.source, options.basins)
        planned = plan(axis, options.parameters, str(self.source))
        change = "into the existing file" if self.output.exists() else "new file"
        if self.in_place:
            change = "into the measurement itself"
        replaced = _replaced(self.output)
        if replaced is not None and not replaced.startswith(CODE):
            change += f", in place of {replaced}"
        return planned_values(shape, planned, change, replaced)

    def compute(
        self, options: "RunOptions", executor: Any = None, progress: Progress | None = None
    ) -> dict[str, Any]:
        """Compute, judge and write a background."""
        from sparsemed.jobs.file_result import Stopwatch, done_values
        from sparsemed.jobs.job import BackgroundSparseMed
        from sparsemed.quality import assess

        if self.folder_is_made:
            self.output.parent.mkdir(parents=True, exist_ok=True)
        replaced = _replaced(self.output)
        stopwatch = Stopwatch()
        job = BackgroundSparseMed(
            self.source,
            self.output,
            num_cpus=options.num_cpus,
            basins=options.basins,
            executor=executor,
            **asdict(options.parameters),
        )
        with job:
            background = job.process_approach(progress)
        with stopwatch.paused():
            findings = assess(background, job.sample)
        # `save` records two paths; `job.process` would record one
        background.save(self.output, in_place=self.in_place, findings=findings)
        return done_values(
            background, findings, stopwatch, replaced, with_thumbnail=options.thumbnails
        )


def _replaced(path: Path) -> str | None:
    """Return the pipeline identifier of the background that a new one replaces, or None.

    A background written by a recording program has no identifier; the text says so.
    """
    from sparsemed.rtdc.measurement import Measurement
    from sparsemed.rtdc.stored_backgrounds import stored_backgrounds

    try:
        with Measurement(path, "off") as measurement:
            for each in stored_backgrounds(measurement):
                dataset = each.dataset.removeprefix(f"{path}: ")
                return each.ppid or f"a background of unknown origin ({dataset})"
    except (OSError, ValueError):  # a missing or unusable file; later checks report it
        pass
    return None


def check_folder(output: Path, *, is_made: bool) -> None:
    """Check that a result can be created in its folder, or that the folder can be made.

    Raises
    ------
    OSError
        If the folder is read-only, or cannot be made.
    """
    folder = output.parent
    nearest = next(each for each in (folder, *folder.parents) if os.path.lexists(each))
    if not nearest.is_dir() and is_made:
        raise NotADirectoryError(
            f"{nearest}: is no folder; an output without the ending of a file is a folder"
        )
    if nearest.is_dir() and (is_made or nearest == folder) and not disk.can_create_in(nearest):
        named = nearest if is_made else output
        raise PermissionError(f"{named}: the folder is read-only; choose another output with -o")
