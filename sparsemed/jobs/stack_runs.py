"""One stack of images and its result: checked, planned, computed."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from sparsemed.frames.choice import ANY, Choice
from sparsemed.frames.stacks import open_stack, require_readable, stack_kind, writing
from sparsemed.jobs.runs import FILE_SUFFIXES, Run, check_folder
from sparsemed.jobs.selection import check_paths
from sparsemed.progress import Progress
from sparsemed.rtdc.measurement import Measurement
from sparsemed.rtdc.pipeline_id import to_ppid
from sparsemed.storage.identity import States
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

IMAGES = "background images"
"""What a result holds, unless it holds frames less their background."""

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
        said = {
            "frame_rate (--fps)": self.frame_rate,
            "subtracted": self.subtracted,
            **self.choice._asdict(),
        }
        if names := [name for name, value in said.items() if value is not None]:
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
    in_place : bool
        Always False: stacks are never changed.
    folder_is_made : bool
        Whether the folder of the output is made if it is missing.
    """

    source: Path
    output: Path
    options: StackOptions = ABOUT_NONE
    in_place: bool = False
    folder_is_made: bool = False

    def absolute(self) -> Self:
        """Return this run with absolute paths, which is valid in any working folder."""
        subtracted = self.options.subtracted
        options = self.options._replace(subtracted=subtracted and subtracted.absolute())
        return self._replace(
            source=self.source.absolute(), output=self.output.absolute(), options=options
        )

    def check(self) -> None:
        """Check that results can be written.

        Raises
        ------
        ValueError, OSError, ImportError
            See `sparsemed.frames.stacks.writing.check_writable`.
        """
        check_folder(self.output, is_made=self.folder_is_made)
        if self.output.suffix.lower() in TO_STACKS:
            writing.check_writable(self.output, folder_is_made=self.folder_is_made)
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

        if self.folder_is_made:
            self.output.parent.mkdir(parents=True, exist_ok=True)
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
        write_images(self.output, background, findings, self.options)
        if self.options.subtracted is not None:
            self._subtract(self.options.subtracted, background, options)
        return done_values(background, findings, stopwatch, with_thumbnail=options.thumbnails)

    def _subtract(self, path: Path, background: "SparseBackground", options: "RunOptions") -> None:
        from sparsemed.inputs import open_again

        with open_again(background, options.num_cpus) as given:
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

            notes = _notes(background, self.options) | {"what": "frames less their background"}
            writing.write_stack(path, differences(), frames.shape, dtype, notes)


AnyRun = Run | StackRun


def kind_of(runs: Sequence[AnyRun]) -> str:
    """Return what is computed, in the plural."""
    kinds = {"stacks" if isinstance(run, StackRun) else "measurements": True for run in runs}
    return " and ".join(kinds)


def write_images(
    path: Path,
    background: "SparseBackground",
    findings: "Sequence[Finding]",
    options: StackOptions = ABOUT_NONE,
) -> None:
    """Write the images of a background as a stack that ImageJ reads, or as HDF5.

    Parameters
    ----------
    path : Path
        It ends in one of `SUFFIXES`.
    background : SparseBackground
    findings : sequence of Finding
        Its quality. HDF5 holds all of it, a stack only the verdict.
    options : StackOptions
        What else the background was computed with.

    Raises
    ------
    OSError, ValueError, ImportError
        If it cannot be written.
    """
    if path.suffix.lower() not in TO_STACKS:
        background.save(path, findings=findings)
        return
    from sparsemed.quality import overall

    images = background.images
    count, height, width = images.shape
    firsts = np.searchsorted(background.frame_index, np.arange(count))
    times = background.step_times[background.kept]
    notes = _notes(background, options) | {
        "what": IMAGES,
        "verdict": overall(findings),
        "height": height,
        "width": width,
        "kept": count,
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


def _notes(background: "SparseBackground", options: StackOptions) -> dict[str, Any]:
    """Return the notes to store with background images: their origin and parameters."""
    states = () if background.identity is None else background.identity.states
    return {
        **origin_of(states, options),
        "version": __version__,
        "pipeline": to_ppid(background.parameters),
        "parameters": asdict(background.parameters),
        "offset_rows": background.offset_rows,
        "stack": str(background.stack),
        "frames": len(background),
        "seconds": float(background.time[-1]),
    }


def origin_of(states: States, options: StackOptions) -> dict[str, Any]:
    """Return notes that are equal as long as neither files nor options change."""
    return {
        "files": hashlib.sha256(repr(states).encode()).hexdigest(),
        "frame_rate": options.frame_rate,
        "chosen": options.choice._asdict(),
    }


def part_stacks(
    paths: Sequence[AnyPath], options: StackOptions = ABOUT_NONE, *, recursive: bool = False
) -> tuple[list[AnyPath], list[AnyPath]]:
    """Return which paths are stacks, and the others.

    Raises
    ------
    ValueError, FileNotFoundError
        If there are options of stacks, but no stack.
    """
    stacks = [path for path in paths if is_stack(path, options, recursive=recursive)]
    if not stacks:
        options.require_none(paths)
    return stacks, [path for path in paths if path not in stacks]


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
