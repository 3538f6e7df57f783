"""What frames say against what was taken for granted: the order of axes, and the rows for offsets.

A few frames are looked at, which were kept as they were read.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sparsemed.frames.sampled import SampledFrames
from sparsemed.frames.shapes import frames_last
from sparsemed.frames.source import FrameSource
from sparsemed.method.result import Background
from sparsemed.warned import warn

PLACES = 8
"""Places in a recording from which two neighbouring frames are looked at each."""

LOOK_BYTES = 16 * 1024**2
"""What these frames may weigh, if they are more than four."""

LEAST_LENGTH = 12
"""Length of an axis below which nothing is told of it."""

SIDE = 96
"""Pixels along each side of a slice that are looked at, evenly spaced."""

OFF = 2.0
"""Grey values by which an offset is wrong, if the noise of a pixel is no more than twice that."""

OFTEN = 0.2
"""Part of the frames with a wrong offset from which on that is told."""


def looked_at(frames: FrameSource) -> SampledFrames:
    """Return frames of which some are kept as they are read: pairs of neighbours."""
    count, height, width = frames.shape
    most = LOOK_BYTES // max(1, 2 * height * width * frames.dtype.itemsize)
    pairs = max(2, min(PLACES, most))
    firsts = np.linspace(0, max(0, count - 2), pairs).astype(np.intp)
    numbers = np.unique(np.concatenate([firsts, firsts + 1]))
    return SampledFrames(frames, numbers[numbers < count])


def doubt(found: Background, sample: SampledFrames, kernel_size: int, label: str | None) -> None:
    """Warn if the frames of an array or stack are not what they were taken for.

    Parameters
    ----------
    found : Background
    sample : SampledFrames
        The frames that it was computed from, some of which were kept, if they were read here.
    kernel_size : int
        As it was asked for, if times are not known; otherwise 0, as their number tells that of the
        frames.
    label : str or None
        The file of the frames, if there is one.
    """
    about = f"{label}: " if label else ""
    is_read = bool(sample.read.all())
    axis = axis_of_time(sample.images) if is_read else None
    count, _, width = sample.shape
    if axis == "last" or (axis is None and count < kernel_size <= width):
        warn(f"{about}{frames_last(sample.shape)}")
    elif is_read and found.offsets is not None:
        offsets_in_doubt(found, sample, about)


def offsets_in_doubt(found: Background, sample: SampledFrames, about: str) -> None:
    """Warn if offsets are wrong in many frames, as something passes in the rows they are from.

    What an offset should be, the median of all pixels tells, on which what passes has less effect.
    """
    assert found.offsets is not None
    places = _sparse(sample.images)
    left = sample.images[places] - found[sample.numbers][places].astype(np.float32)
    shift = np.median(left, axis=(1, 2))
    noise = 1.4826 * np.median(np.abs(left - shift[:, np.newaxis, np.newaxis]))
    tolerance = max(OFF, float(noise) / 2)
    wrong = np.abs(found.offsets[sample.numbers] - shift) > tolerance
    if wrong.sum() < max(2, OFTEN * len(wrong)):
        return
    warn(
        f"{about}Offsets are wrong by more than {tolerance:.3g} grey values in {wrong.sum()} of "
        f"{len(wrong)} frames that were looked at: something passes in the first "
        f"{found.offset_rows} rows, which they are taken from. offset_correction=False does "
        "without; if the light flickers, turn the frames so that rows where nothing passes come "
        "first, and say how many they are by offset_rows="
    )


class _Changes(NamedTuple):
    """How much slices along an axis differ: median of the absolute differences of grey values.

    Attributes
    ----------
    far, near : float
        Of slices that are far apart, and of neighbours.
    own : float
        Of slices that are far apart, once one of them is made as bright as the other: without
        flicker and bleaching.
    """

    far: float
    near: float
    own: float


def axis_of_time(frames: NDArray[np.generic]) -> str | None:
    """Return which axis seems to number the frames, by what they show.

    In a recording, most of an image is the same in all frames; so slices along time differ less
    than those along an axis of space. Where the light flickers they differ more, but in brightness
    alone, and as much from their neighbours as from any other, while images are smooth.

    Parameters
    ----------
    frames : ndarray, shape (n, H, W)
        Pairs of neighbours along the first axis.

    Returns
    -------
    str or None
        ``"first"`` or ``"last"``; None if that cannot be told, as of noise.
    """
    if len(frames) < 4 or min(frames.shape[1:]) < LEAST_LENGTH:
        return None
    frames = frames[: len(frames) // 2 * 2]
    first = _changes(frames[::2], frames[1::2])
    rows, columns = (_along(frames, axis) for axis in (1, 2))
    is_smooth = first.near < first.far / 2 and rows.near < rows.far / 2
    is_least = columns.own < min(first.own, rows.own) / 2 and first.own > 0.4 * rows.own
    is_least_in_all = (
        is_smooth
        and columns.far < min(first.far, rows.far) / 2
        and columns.own < min(first.own, rows.own) / 1.15
    )
    flickers = columns.near > 0.7 * columns.far > 1.4 * max(first.far, rows.far)
    if is_least or is_least_in_all or (is_smooth and flickers):
        return "last"
    is_first = first.own < 0.7 * columns.own or first.far < 0.7 * columns.far
    return "first" if is_first else None


def _sparse(slices: NDArray[np.generic]) -> tuple[slice, slice, slice]:
    """Return the index of a few pixels of each slice, evenly spaced."""
    _, height, width = slices.shape
    down, along = -(-height // SIDE), -(-width // SIDE)
    return slice(None), slice(None, None, down), slice(None, None, along)


def _along(frames: NDArray[np.generic], axis: int) -> _Changes:
    places = np.linspace(0, frames.shape[axis] - 2, PLACES).astype(np.intp)
    slices = np.moveaxis(frames, axis, 0)
    return _changes(slices[places], slices[places + 1])


def _changes(slices: NDArray[np.generic], neighbours: NDArray[np.generic]) -> _Changes:
    """Return how slices change over half of the axis, and to their neighbours."""
    places = _sparse(slices)
    here, there = (each[places].astype(np.float32) for each in (slices, neighbours))
    near = np.abs(here - there)
    one, other = here[: -(len(here) // 2)], here[len(here) // 2 :]
    far = np.abs(other - one)
    power = (one * one).sum(axis=(1, 2), keepdims=True)
    brighter = (one * other).sum(axis=(1, 2), keepdims=True) / np.maximum(power, 1e-9)
    own = np.abs(other - brighter * one)
    return _Changes(*(float(np.median(each)) for each in (far, near, own)))
