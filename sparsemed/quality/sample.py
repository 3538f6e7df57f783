"""A few frames, evenly spaced, and what is left of them without their background."""

from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sparsemed.frames.labelled import as_frames
from sparsemed.frames.stacks import open_stack, require_readable, stack_kind
from sparsemed.method.result import Background
from sparsemed.rtdc.measurement import Measurement
from sparsemed.warned import warn


class Sample(NamedTuple):
    """Some frames of a measurement, evenly spaced.

    Attributes
    ----------
    numbers : ndarray of int, shape (n,)
        Numbers of the frames, ascending.
    frames : ndarray, shape (n, H, W)
        The frames.
    """

    numbers: NDArray[np.intp]
    frames: NDArray[Any]


SAMPLE = 48
"""Frames of a sample, where there are as many."""

SAMPLE_BYTES = 256 * 1024**2
"""What these may weigh, if they are more than the least."""

LEAST_FRAMES = 16
"""Frames of the sample below which nothing can be told of single places."""


def sample_numbers(count: int, height: int, width: int) -> NDArray[np.intp]:
    """Return which of the frames a sample is made of, evenly spaced."""
    return spread(count, min(SAMPLE, max(LEAST_FRAMES, SAMPLE_BYTES // max(1, 2 * height * width))))


def take_sample(background: Background, frames: Any = None, count: int = SAMPLE) -> Sample | None:
    """Read a few frames, evenly spaced from the first to the last.

    Parameters
    ----------
    background : Background
    frames : array-like, shape (N, H, W), or str or path, optional
        The frames that the background was computed from, or the measurement or stack that has
        them. Default: the measurement `background.source`, its basins included, or the stack
        `background.stack`.
    count : int
        Number of frames, or all if there are fewer.

    Returns
    -------
    Sample or None
        None without `frames` if the background is of an array, or if its
        measurement or stack cannot be read any more (which is a warning).

    Raises
    ------
    ValueError
        If the frames do not fit the background.
    """
    if isinstance(frames, (str, PathLike)):
        with _frames_of(Path(frames), background) as frames:
            return _pick(background, frames, count)
    if frames is not None:
        return _pick(background, as_frames(frames), count)
    if background.origin is None:
        return None
    try:
        with _frames_of(background.origin, background) as frames:
            return _pick(background, frames, count)
    except (OSError, ImportError) as error:
        warn(f"What needs frames is left out: {error}")
        return None


@contextmanager
def _frames_of(path: Path, background: Background) -> Iterator[Any]:
    """Open the frames of a measurement or of a stack."""
    if stack_kind(path) is not None:
        with open_stack(path, 1) as stack:
            yield stack
    else:
        require_readable(path)
        with Measurement(path, background.basins) as measurement:
            yield measurement.image


def _pick(background: Background, frames: Any, count: int) -> Sample:
    expected = (len(background), *background.images.shape[1:])
    shape = tuple(frames.shape) if hasattr(frames, "shape") else np.shape(frames)
    if shape != expected:
        raise ValueError(f"frames: the background is of {expected} frames, got {shape}")
    numbers = spread(len(background), count)
    # One at a time: not all arrays take lists of indices.
    frames = [np.asarray(frames[number : number + 1]) for number in numbers.tolist()]
    return Sample(numbers, np.concatenate(frames))


def corrected(
    background: Background, sample: Sample, rows: int | None = None
) -> NDArray[np.float64]:
    """Return the frames of the sample less their background, and offset; or their first rows."""
    below = background[sample.numbers][:, :rows]
    left: NDArray[np.float64] = sample.frames[:, :rows].astype(np.float64) - below
    if background.offsets is not None:
        left -= background.offsets[sample.numbers, np.newaxis, np.newaxis]
    return left


def spread(length: int, count: int) -> NDArray[np.intp]:
    """Return at most `count` indices from 0 to ``length - 1``, evenly spaced; at least one."""
    return np.unique(np.linspace(0, length - 1, max(1, min(length, count))).round().astype(np.intp))
