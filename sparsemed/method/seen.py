"""A few pixels of a few frames, by which the frames of a background are recognized later."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sparsemed.frames.sampled import SampledFrames

SIDE = 96
"""Largest number of pixels along each side of a slice to use, evenly spaced."""

LEAST_ALIKE = 0.2
"""Least correlation of the same frame in two files, one of which may be a lossy copy.

Of lossless copies it is 1; of other frames of the same channel, some 0.01.
"""


class Seen(NamedTuple):
    """Some pixels of some frames.

    Attributes
    ----------
    numbers : ndarray of int, shape (n,)
        Numbers of the frames, ascending.
    pixels : ndarray, shape (n, h, w)
        See `sparse`.
    """

    numbers: NDArray[np.intp]
    pixels: NDArray[np.generic]

    def are_in(self, frames: NDArray[np.generic]) -> bool:
        """Whether frames with these numbers, of shape (n, H, W), are the same.

        Two measurements of one channel look alike, as what stands still is most of each frame. So
        only what differs from frame to frame is compared: noise and cells. A copy may be scaled,
        or compressed with loss.
        """
        pixels = frames[sparse(frames)]
        if np.array_equal(self.pixels, pixels):
            return True
        one, other = (_changes(each) for each in (self.pixels, pixels))
        power = np.sqrt((one * one).sum(axis=(1, 2)) * (other * other).sum(axis=(1, 2)))
        alike = (one * other).sum(axis=(1, 2)) / np.maximum(power, 1e-9)
        return bool(np.median(alike) > LEAST_ALIKE)


def sparse(slices: NDArray[np.generic]) -> tuple[slice, slice, slice]:
    """Return the index of a few pixels of each slice, evenly spaced."""
    _, height, width = slices.shape
    down, along = -(-height // SIDE), -(-width // SIDE)
    return slice(None), slice(None, None, down), slice(None, None, along)


def seen_of(sample: SampledFrames) -> Seen | None:
    """Return what was seen of frames that were kept as they were read; None if they were not."""
    if not sample.read.all():
        return None
    chosen = sample.kept[::2]  # one of each pair
    return Seen(sample.numbers[::2], chosen[sparse(chosen)].copy())


def _changes(pixels: NDArray[np.generic]) -> NDArray[np.float32]:
    """Return what differs from frame to frame, without brightness."""
    left: NDArray[np.float32] = pixels.astype(np.float32)
    left -= np.median(left, axis=0)
    left -= left.mean(axis=(1, 2), keepdims=True)
    return left
