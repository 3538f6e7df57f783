"""Facts about a stack of images, for `sparsemed info`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sparsemed.frames.choice import Choice
from sparsemed.frames.labelled import own_times
from sparsemed.frames.stacks import files_of_stack, stack_kind
from sparsemed.hdf5.file_access import Policy
from sparsemed.jobs.stack_runs import ABOUT_NONE, StackOptions
from sparsemed.method.time_axis import as_numbers


@dataclass(frozen=True)
class StackInfo:
    """Facts about a stack of images.

    Attributes
    ----------
    path, kind : str
        The stack, and the name of its kind.
    size : int
        Bytes of its files.
    count, height, width : int
        Number of frames, and their shape.
    dtype : str
        Dtype as stored.
    files : tuple of str
        The first and the last of single images.
    frame_rate : float or None
        Frames per second, if known.
    span : float or None
        Seconds from first to last frame, if known.
    """

    path: str
    kind: str
    size: int
    count: int
    height: int
    width: int
    dtype: str
    files: tuple[str, ...]
    frame_rate: float | None
    span: float | None


def stack_info(path: Path, options: StackOptions = ABOUT_NONE, basins: Policy = "any") -> StackInfo:
    """Return facts about a stack.

    Parameters
    ----------
    path : Path
    options : StackOptions
    basins : str
        Which other files it may lead to; see `sparsemed.compute_background`.

    Raises
    ------
    OSError, ValueError, TypeError, ImportError
        If it cannot be opened, or its background cannot be computed.
    """
    from sparsemed.inputs import open_input

    with open_input(path, basins=basins, num_cpus=1, choice=options.choice) as given:
        images = given.data
        count, height, width = given.frames.shape
        times, rate = own_times(images)
        if options.frame_rate is not None:
            times, rate = None, options.frame_rate
        span: Any = None
        if times is not None:
            axis = as_numbers(times)
            span = float(axis[-1] - axis[0])
        elif rate is not None:
            span = (count - 1) / rate
        files = getattr(images, "files", [])
        return StackInfo(
            path=str(path),
            kind=stack_kind(path) or "HDF5",
            size=_size(path, options.choice),
            count=count,
            height=height,
            width=width,
            dtype=str(np.dtype(images.dtype)),
            files=tuple(file.name for file in (files[0], files[-1])) if files else (),
            frame_rate=None if rate is None else float(rate),
            span=span,
        )


def _size(path: Path, choice: Choice) -> int:
    """Return the bytes of the files of a stack."""
    return sum(file.stat().st_size for file in files_of_stack(path, choice) if file.is_file())
