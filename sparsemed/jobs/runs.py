"""One measurement and its result: checked, planned, computed."""

import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sparsemed.hdf5.file_access import Policy
from sparsemed.progress import Progress
from sparsemed.rtdc.measurement import has_own_images
from sparsemed.rtdc.pipeline_id import CODE
from sparsemed.rtdc.unfinished import is_unfinished, open_output
from sparsemed.storage import disk
from sparsemed.storage.places import AnyPath

if TYPE_CHECKING:
    from sparsemed.parameters import Parameters

SUFFIX = ".rtdc"
"""What names of measurements end with."""

FILE_SUFFIXES = (SUFFIX, ".h5", ".hdf5")
"""Endings that make the output of one measurement a file; all else is a folder."""


class Run(NamedTuple):
    """One measurement, and where its result goes.

    What is done is told as a row of facts. What takes long to import is imported for that.

    Attributes
    ----------
    source : Path or RemotePath
    output : Path
    in_place : bool
        Whether the result is to go into the measurement itself.
    folder_is_made : bool
        Whether the folder of the output is one for results, to be made if need be.
    """

    source: AnyPath
    output: Path
    in_place: bool = False
    folder_is_made: bool = False

    def check(self) -> None:
        """Check that the output is not a measurement that nobody asked to change.

        Raises
        ------
        ValueError
            If the output holds images of its own.
        OSError
            If there is no folder for results and none can be made, or if it is read-only.
        """
        if not self.in_place:
            check_folder(self.output, is_made=self.folder_is_made)
        if self.in_place or not self.output.is_file() or is_unfinished(self.output):
            return
        open_output(self.output).close()
        if has_own_images(self.output):
            raise ValueError(
                f"{self.output}: holds images of its own, and is not changed; "
                "give another output, or add the background to a measurement with --in-place"
            )

    def plan(self, parameters: "Parameters", basins: Policy) -> dict[str, Any]:
        """Say what `compute` would do, after the checks that come before its work."""
        from sparsemed.inputs import open_input
        from sparsemed.method.compute import plan
        from sparsemed.rtdc.output import check_output

        with open_input(self.source, basins=basins, num_cpus=1) as given:
            frames, height, width = given.frames.shape
            axis = given.time
        if self.output.parent.is_dir() or not self.folder_is_made:
            check_output(self.output, frames, self.source, basins)
        planned = plan(axis, parameters, str(self.source))
        change = "into the file that is there" if self.output.exists() else "new file"
        if self.in_place:
            change = "into the measurement itself"
        replaced = _replaced(self.output)
        if replaced is not None and not replaced.startswith(CODE):
            change += f", in place of {replaced}"
        return {
            "status": "planned",
            "frames": frames,
            "height": height,
            "width": width,
            "windows": len(planned.steps),
            "frames_per_window": planned.length,
            "change": change,
            "replaces": replaced,
        }

    def compute(
        self,
        parameters: "Parameters",
        basins: Policy,
        *,
        num_cpus: int | None = None,
        executor: Any = None,
        progress: Progress | None = None,
        is_pictured: bool = False,
    ) -> dict[str, Any]:
        """Compute, write and judge a background; and draw it, small, if it is to be pictured."""
        from sparsemed.jobs.job import BackgroundSparseMed
        from sparsemed.kernels.compiling import seconds_compiling
        from sparsemed.quality import assess, overall
        from sparsemed.report.thumbnail import thumbnail

        if self.folder_is_made:
            self.output.parent.mkdir(parents=True, exist_ok=True)
        replaced = _replaced(self.output)
        began, compiled = time.perf_counter(), seconds_compiling()
        job = BackgroundSparseMed(
            self.source,
            self.output,
            num_cpus=num_cpus,
            basins=basins,
            executor=executor,
            **asdict(parameters),
        )
        with job:
            result = job.process_approach(progress)
        judging, compiled_before = time.perf_counter(), seconds_compiling()
        findings = assess(result, job.sample)
        began += time.perf_counter() - judging  # which counts for nothing
        compiled += seconds_compiling() - compiled_before
        # records two paths, where the class records one
        result.save(self.output, in_place=self.in_place, findings=findings)
        seconds = time.perf_counter() - began
        working = seconds - (seconds_compiling() - compiled)
        height, width = job.image_shape
        size = len(result) * height * width * result.images.itemsize
        return {
            "status": "done",
            "frames": len(result),
            "height": height,
            "width": width,
            "windows": len(result.series),
            "kept": len(result.images),
            "seconds": round(seconds, 3),
            "megabytes_per_second": round(size / working / 1e6, 3),
            "replaces": replaced,
            "verdict": overall(findings),
            "findings": findings,
            "thumbnail": thumbnail(result.images[len(result.images) // 2]) if is_pictured else None,
        }


def _replaced(path: Path) -> str | None:
    """Return the pipeline identifier of the background that a new one takes the place of.

    One that a recording program wrote has none: then it is said to be of unknown origin.
    """
    from sparsemed.rtdc.measurement import Measurement
    from sparsemed.rtdc.stored_backgrounds import stored_backgrounds

    try:
        with Measurement(path, "off") as measurement:
            for each in stored_backgrounds(measurement):
                dataset = each.dataset.removeprefix(f"{path}: ")
                return each.ppid or f"a background of unknown origin ({dataset})"
    except (OSError, ValueError):  # no such file, or none that will do, as is said elsewhere
        pass
    return None


def check_folder(output: Path, *, is_made: bool) -> None:
    """Check that a result can be made in its folder, which may have to be made itself.

    Raises
    ------
    OSError
        If there is no such folder and it is not to be made, or it cannot be; or if it is read-only.
    """
    folder = output.parent
    nearest = next(each for each in (folder, *folder.parents) if os.path.lexists(each))
    if not nearest.is_dir() and is_made:
        raise NotADirectoryError(
            f"{nearest}: is no folder; an output that does not end like a file is a folder"
        )
    if nearest.is_dir() and (is_made or nearest == folder) and not disk.can_create_in(nearest):
        named = nearest if is_made else output
        raise PermissionError(
            f"{named}: the folder is read-only; say with -o where else results are to go"
        )
