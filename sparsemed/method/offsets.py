"""Brightness of the channel wall: one offset per frame, against a flickering lamp.

The first rows of a frame show the wall of the channel, where no cells pass.
The offset of a frame is the brightness of the wall in the frame minus that in
its background image.
"""

from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray

BAND_ROWS = 20
"""Default number of rows at the top of a frame that count as the wall."""


def band_means(frames: NDArray[Any], rows: int = BAND_ROWS) -> NDArray[np.float64]:
    """Return the mean of the wall band of each frame: its first `rows`, or all if it has fewer.

    The sum is an exact integer, and only the division rounds. So the bits of
    the mean depend on the pixels alone.

    Parameters
    ----------
    frames : ndarray, shape (n, H, W), uint8 or uint16
    rows : int

    Returns
    -------
    ndarray of float64, shape (n,)

    Examples
    --------
    >>> frames = np.zeros((2, 30, 4), dtype=np.uint8)
    >>> frames[1, :10] = 3
    >>> band_means(frames)
    array([0. , 1.5])
    """
    band = frames[:, :rows]
    pixels = band.shape[1] * band.shape[2]
    # Sums in 32 bits are faster, if they suffice.
    fits = pixels * np.iinfo(frames.dtype).max < 2**32
    sums = band.sum(axis=(1, 2), dtype=np.uint32 if fits else np.uint64)
    means: NDArray[np.float64] = sums / np.float64(pixels)
    return means


def check_offset_rows(rows: Any) -> int:
    """Return the number of rows for offsets as an int.

    Raises
    ------
    ValueError
        If it is no whole number from 1 up.
    """
    if isinstance(rows, bool) or not isinstance(rows, Integral) or int(rows) < 1:
        raise ValueError(f"offset_rows must be a whole number from 1 up (rows), got {rows!r}")
    return int(rows)


def offsets(
    of_frames: NDArray[np.float64], of_images: NDArray[np.float64], frame_index: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return how much brighter the wall is in each frame than in its background image.

    Parameters
    ----------
    of_frames : ndarray, shape (N,)
        `band_means` of the frames.
    of_images : ndarray, shape (M,)
        `band_means` of the background images.
    frame_index : ndarray of int64, shape (N,)
        Background image of each frame.

    Returns
    -------
    ndarray of float64, shape (N,)
    """
    return of_frames - of_images[frame_index]
