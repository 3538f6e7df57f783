"""Checks on frames what was assumed: the order of axes, and the rows for offsets.

The checks use a few frames, which were kept as they were read.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sparsemed.frames.sampled import SampledFrames
from sparsemed.frames.shapes import frames_last
from sparsemed.frames.source import FrameSource
from sparsemed.method.result import Background
from sparsemed.method.seen import sparse
from sparsemed.warned import warn

PLACES = 8
"""Places in a recording at each of which two neighbouring frames are kept."""

LOOK_BYTES = 16 * 1024**2
"""Largest bytes of these frames, if they are more than four."""

LEAST_LENGTH = 12
"""Frames with a shorter side are not checked for the order of axes."""

OFF = 2.0
"""Least error of a wrong offset in grey values; if noise is large, half the noise of a pixel."""

OFTEN = 0.2
"""From this share of frames with wrong offsets on, there is a warning."""


def looked_at(frames: FrameSource) -> SampledFrames:
    """Return frames that keep some of them as they are read: pairs of neighbours."""
    count, height, width = frames.shape
    most = LOOK_BYTES // max(1, 2 * height * width * frames.dtype.itemsize)
    pairs = max(2, min(PLACES, most))
    firsts = np.linspace(0, max(0, count - 2), pairs).astype(np.intp)
    numbers = np.unique(np.concatenate([firsts, firsts + 1]))
    return SampledFrames(frames, numbers[numbers < count])


def doubt(found: Background, sample: SampledFrames, kernel_size: int, label: str | None) -> None:
    """Warn if axes of an array or stack seem to be in another order, or offsets to be wrong.

    Parameters
    ----------
    found : Background
    sample : SampledFrames
        The frames of the background; some were kept if they were read here.
    kernel_size : int
        As given, if there are no times; otherwise 0, as the number of times confirms that of the
        frames.
    label : str or None
        The file of the frames, if there is one.
    """
    about = f"{label}: " if label else ""
    is_read = bool(sample.read.all())
    axis = axis_of_time(sample.kept) if is_read else None
    count, _, width = sample.shape
    if axis == "last" or (axis is None and count < kernel_size <= width):
        warn(f"{about}{frames_last(sample.shape)}")
    elif is_read and found.offsets is not None:
        offsets_in_doubt(found, sample, about)


def offsets_in_doubt(found: Background, sample: SampledFrames, about: str) -> None:
    """Warn if offsets are wrong in many frames, as something passes in the rows for offsets.

    The true offset is estimated by the median over all pixels, on which passing objects have less
    effect.
    """
    assert found.offsets is not None
    places = sparse(sample.kept)
    left = sample.kept[places] - found[sample.numbers][places].astype(np.float32)
    shift = np.median(left, axis=(1, 2))
    noise = 1.4826 * np.median(np.abs(left - shift[:, np.newaxis, np.newaxis]))
    tolerance = max(OFF, float(noise) / 2)
    wrong = np.abs(found.offsets[sample.numbers] - shift) > tolerance
    if wrong.sum() < max(2, OFTEN * len(wrong)):
        return
    warn(
        f"{about}Offsets are wrong by more than {tolerance:.3g} grey values in {wrong.sum()} of "
        f"{len(wrong)} checked frames: something passes in the first {found.offset_rows} rows, "
        "from which offsets are computed. Turn offsets off with offset_correction=False; or, if "
        "the light flickers, turn the frames so that rows where nothing passes come first, and "
        "give their number as offset_rows="
    )


class _Changes(NamedTuple):
    """Changes along an axis: median absolute difference in grey values between slices.

    Attributes
    ----------
    far, near : float
        Between slices that are far apart, and between neighbours.
    own : float
        Between slices that are far apart, after they were made equally bright: without flicker
        and bleaching.
    """

    far: float
    near: float
    own: float


def axis_of_time(frames: NDArray[np.generic]) -> str | None:
    """Return which axis seems to be time, judged by the frames.

    In a recording, most of the image is the same in all frames, so slices along time differ less
    than slices along a spatial axis. If the light flickers, slices along time differ more, but only
    in brightness, and from neighbours as much as from all others; images, however, are smooth.

    Parameters
    ----------
    frames : ndarray, shape (n, H, W)
        Pairs of neighbours along the first axis.

    Returns
    -------
    str or None
        ``"first"`` or ``"last"``; None if it cannot be told, for example from noise.
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


def _along(frames: NDArray[np.generic], axis: int) -> _Changes:
    places = np.linspace(0, frames.shape[axis] - 2, PLACES).astype(np.intp)
    slices = np.moveaxis(frames, axis, 0)
    return _changes(slices[places], slices[places + 1])


def _changes(slices: NDArray[np.generic], neighbours: NDArray[np.generic]) -> _Changes:
    """Return the changes of slices over half of the axis, and to their neighbours."""
    places = sparse(slices)
    here, there = (each[places].astype(np.float32) for each in (slices, neighbours))
    near = np.abs(here - there)
    one, other = here[: -(len(here) // 2)], here[len(here) // 2 :]
    far = np.abs(other - one)
    power = (one * one).sum(axis=(1, 2), keepdims=True)
    brighter = (one * other).sum(axis=(1, 2), keepdims=True) / np.maximum(power, 1e-9)
    own = np.abs(other - brighter * one)
    return _Changes(*(float(np.median(each)) for each in (far, near, own)))
