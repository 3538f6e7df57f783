"""One stack of images and its result: checked, planned, computed."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sparsemed.frames.choice import ANY, Choice
from sparsemed.frames.stacks import open_stack, require_readable, stack_kind, writing
from sparsemed.jobs.runs import FILE_SUFFIXES
from sparsemed.jobs.selection import check_paths
from sparsemed.progress import Progress
from sparsemed.rtdc.measurement import Measurement
from sparsemed.rtdc.pipeline_id import to_ppid
from sparsemed.storage.places import AnyPath
from sparsemed.version import __version__

if TYPE_CHECKING:
    from sparsemed.inputs import Input
    from sparsemed.jobs.options import RunOptions
    from sparsemed.quality import Finding
    from sparsemed.result import SparseBackground

TO_STACKS = writing.SUFFIXES
"""Endings of results of stacks that are stacks themselves."""

SUFFIXES = (*TO_STACKS, *FILE_SUFFIXES)
"""Endings of names for the background of a stack."""

PIECE_BYTES = 16 * 1024**2
"""Bytes of frames that are read at once to subtract their background."""


class StackOptions(NamedTuple):
    """Options that are for stacks only.

    Attributes
    ----------
    frame_rate : float or None
        Rate of the camera in Hz.
    choice : Choice
        Which of several stacks to take.
    subtracted : Path or None
        File for the frames minus their background.
    """

    frame_rate: float | None = None
    choice: Choice = ANY
    subtracted: Path | None = None

    def require_none(self, paths: "Sequence[AnyPath]") -> None:
        """Check that no option is set, as none of `paths` is a stack.

        Raises
        ------
        ValueError, FileNotFoundError
            If an option is set; the message says why a path is no stack, if that is known.
        """
        said = {"fps": self.frame_rate, "subtracted": self.subtracted, **self.choice._asdict()}
        if names := [f"--{name}" for name, value in said.items() if value is not None]:
            explain_no_stack(paths)
            raise ValueError(f"{', '.join(names)}: for stacks of images only, not for measurements")


ABOUT_NONE = StackOptions()
"""No option is set."""


class StackRun(NamedTuple):
    """One stack, and the file for its result; see `sparsemed.jobs.runs.Run`.

    Attributes
    ----------
    source, output : Path
    options : StackOptions
    in_place, folder_is_made : bool
        Always False: stacks are never changed, and their results are files.
    """

    source: Path
    output: Path
    options: StackOptions = ABOUT_NONE
    in_place: bool = False
    folder_is_made: bool = False

    def check(self) -> None:
        """Check that results can be written.

        Raises
        ------
        ValueError, OSError, ImportError
            See `sparsemed.frames.stacks.writing.check_writable`.
        """
        if self.output.suffix.lower() in writing.SUFFIXES:
            writing.check_writable(self.output)
        if self.options.subtracted is not None:
            writing.check_writable(self.options.subtracted)

    def open(self, options: "RunOptions") -> "Input":
        """Open the frames."""
        from sparsemed.inputs import open_input

        return open_input(
            self.source,
            frame_rate=self.options.frame_rate,
            basins=options.basins,
            num_cpus=options.num_cpus,
            choice=self.options.choice,
        )

    def plan(self, options: "RunOptions") -> dict[str, Any]:
        """Return what `compute` would do, after the same checks."""
        from sparsemed.jobs.file_result import planned_values
        from sparsemed.method.compute import plan

        with self.open(options) as given:
            shape, axis = given.frames.shape, given.time
        planned = plan(axis, options.parameters, str(self.source))
        change = "replaces an earlier result" if self.output.exists() else "new file"
        return planned_values(shape, planned, change)

    def compute(
        self, options: "RunOptions", executor: Any = None, progress: Progress | None = None
    ) -> dict[str, Any]:
        """Compute, judge and write a background; subtract it if that is wanted."""
        from sparsemed.background import compute_background
        from sparsemed.jobs.file_result import Stopwatch, done_values

        stopwatch = Stopwatch()
        background = compute_background(
            self.source,
            frame_rate=self.options.frame_rate,
            num_cpus=options.num_cpus,
            basins=options.basins,
            executor=executor,
            progress=progress,
            **self.options.choice._asdict(),
            **asdict(options.parameters),
        )
        with stopwatch.paused():
            findings = background.quality(try_cures=False)
        write_images(self.output, background, findings)
        if self.options.subtracted is not None:
            self._subtract(self.options.subtracted, background, options)
        return done_values(background, findings, stopwatch, with_thumbnail=options.thumbnails)

    def _subtract(self, path: Path, background: "SparseBackground", options: "RunOptions") -> None:
        from sparsemed.inputs import open_again

        assert background.identity is not None
        with open_again(background.identity, options.basins, options.num_cpus) as given:
            frames, dtype = given.frames, np.dtype(np.float32)
            piece = max(1, PIECE_BYTES // (frames.shape[1] * frames.shape[2] * dtype.itemsize))
            piece = -(-piece // frames.block) * frames.block

            def differences() -> Iterator[NDArray[Any]]:
                with frames.reading() as read:
                    for start in range(0, frames.shape[0], piece):
                        stop = min(start + piece, frames.shape[0])
                        part = np.empty((stop - start, *frames.shape[1:]), frames.dtype)
                        read(start, stop, part)
                        yield background.subtract(part, start, out=np.empty(part.shape, dtype))

            notes = _notes(background) | {"what": "frames less their background"}
            writing.write_stack(path, differences(), frames.shape, dtype, notes)


def write_images(path: Path, background: "SparseBackground", findings: "Sequence[Finding]") -> None:
    """Write the images of a background as a stack that ImageJ reads, or as HDF5.

    Parameters
    ----------
    path : Path
        It ends in one of `SUFFIXES`.
    background : SparseBackground
    findings : sequence of Finding
        Its quality, which is stored in HDF5 only.

    Raises
    ------
    OSError, ValueError, ImportError
        If it cannot be written.
    """
    if path.suffix.lower() not in writing.SUFFIXES:
        background.save(path, findings=findings)
        return
    images = background.images
    count, height, width = images.shape
    firsts = np.searchsorted(background.frame_index, np.arange(count))
    times = background.step_times[background.kept]
    notes = _notes(background) | {
        "what": "background images",
        "times": times.tolist(),
        "first_frames": firsts.tolist(),
    }
    labels = [
        f"at {moment:.6g} s, from frame {first}"
        for moment, first in zip(times.tolist(), firsts.tolist(), strict=True)
    ]
    piece = max(1, PIECE_BYTES // (height * width * images.dtype.itemsize))
    batches = (images[start : start + piece] for start in range(0, count, piece))
    writing.write_stack(path, batches, (count, height, width), images.dtype, notes, labels)


def _notes(background: "SparseBackground") -> dict[str, Any]:
    """Return the notes to store with background images: their origin and parameters."""
    return {
        "version": __version__,
        "pipeline": to_ppid(background.parameters),
        "parameters": asdict(background.parameters),
        "offset_rows": background.offset_rows,
        "stack": str(background.stack),
        "frames": len(background),
        "seconds": float(background.time[-1]),
    }


def is_stack(path: AnyPath, options: StackOptions = ABOUT_NONE, *, recursive: bool = False) -> bool:
    """Whether a path is a stack of images, rather than measurements.

    A folder of measurements and its subfolders may hold a few pictures. So images in a folder are
    a stack only if there are enough of them, and not in a recursive search. An address in a
    network is none.
    """
    if not isinstance(path, Path):
        return False
    from sparsemed.frames.stacks.pictures import LEAST_IMAGES, images_in

    kind = stack_kind(path)
    if kind is None:
        return options.choice.dataset is not None
    if kind == "folder of images" and path.is_dir():
        return not recursive and len(list(islice(images_in(path), LEAST_IMAGES))) == LEAST_IMAGES
    return True


def explain_no_stack(paths: Sequence[AnyPath]) -> None:
    """Raise why the first path is no stack, if that is known, where only stacks make sense.

    Raises
    ------
    ValueError, FileNotFoundError
        If a path is missing, in a network, of a kind that is not read, or holds too few images.
    """
    check_paths(paths)
    for path in paths:
        if not isinstance(path, Path):
            raise ValueError(
                f"{path}: is in a network, but stacks of images are read from this machine only; "
                "download it first"
            )
        require_readable(path)
        if stack_kind(path) is not None:  # a folder of a few images; opening it says so
            with open_stack(path, 1):
                pass
        elif path.is_file():  # HDF5 without events tells of its datasets
            with suppress(OSError), Measurement(path, "off"):
                pass


def choose_stack_runs(
    paths: Sequence[AnyPath], output: Path | None, options: StackOptions, *, in_place: bool = False
) -> list[StackRun]:
    """Return the run of a stack.

    Raises
    ------
    ValueError
        If there are several stacks, or if the output is missing or cannot be used.
    """
    source = next(path for path in paths if isinstance(path, Path))
    what = f"{source}: is a stack ({stack_kind(source) or 'HDF5'}), not a measurement"
    if len(paths) > 1:
        raise ValueError(
            f"{what}; give one at a time, and many single images as a folder, or as a pattern in "
            f"quotes, such as '{source.parent / f'*{source.suffix}'}'"
        )
    if in_place:
        raise ValueError(f"{what}; only measurements can be changed --in-place")
    if output is None:
        raise ValueError(
            f"{what}; name a file for its background, such as -o {_stem(source)}_bg.tif"
        )
    if output.suffix.lower() not in SUFFIXES:
        raise ValueError(
            f"{output}: the name for the background of a stack must end in {', '.join(SUFFIXES)}"
        )
    for path in (output, options.subtracted):
        if path is not None and path.resolve() == source.resolve():
            raise ValueError(f"{path}: is the stack itself, which is not changed; choose another")
    if options.subtracted is not None and options.subtracted.resolve() == output.resolve():
        raise ValueError(f"{output}: --output and --subtracted name the same file")
    return [StackRun(source, output, options)]


def _stem(source: Path) -> str:
    return source.name.partition(".")[0].strip("*?[]_- ") or "stack"
