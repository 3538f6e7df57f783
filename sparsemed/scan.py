"""One pass over the frames: each is read once, and feeds every window it is part of."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sparsemed.brightness import band_means
from sparsemed.frames import FrameSource
from sparsemed.median import median_into


class Scan(NamedTuple):
    """What one pass over the frames yields.

    Attributes
    ----------
    series : ndarray, shape (M, H, W)
        Median image of each window.
    band_means : ndarray of float64, shape (N,), or None
        Brightness of each frame's wall band, where it was asked for.
    """

    series: NDArray[Any]
    band_means: NDArray[np.float64] | None


def scan(
    frames: FrameSource,
    starts: NDArray[np.intp],
    length: int,
    *,
    with_bands: bool,
    num_cpus: int | None,
    report: Callable[[float], None],
) -> Scan:
    """Compute the median image of each window, and the band mean of each frame.

    Windows are visited in the order of the file, whatever the order of `starts`,
    and equal windows are computed once. Memory holds the frames of a window and
    those that were read with them, however long the measurement is.

    Parameters
    ----------
    frames : FrameSource
    starts : ndarray of int, shape (M,)
        First frame of each window.
    length : int
        Frames in a window.
    with_bands : bool
        Whether to compute `band_means`. Otherwise frames that no window needs
        are not read.
    num_cpus : int or None
        Largest number of threads; None means all cores available.
    report : callable
        Called with the fraction of the frames that were passed.

    Returns
    -------
    Scan
    """
    count, height, width = frames.shape
    distinct, window_of_step = np.unique(starts, return_inverse=True)
    images = np.empty((len(distinct), height, width), frames.dtype)
    means = np.empty(count) if with_bands else None

    recent = _Recent(frames, length)

    def read_on(stop: int) -> None:
        while recent.end < stop:
            block = recent.read_block()
            if means is not None:
                means[recent.end - len(block) : recent.end] = band_means(block)
            report(recent.end / count)

    for image, start in zip(images, distinct.tolist(), strict=True):
        if not with_bands:
            recent.skip_to(start)
        recent.needed_from = start
        read_on(start + length)
        median_into(recent[start : start + length], image, num_cpus)
    recent.needed_from = count
    if with_bands:
        read_on(count)

    once_each = np.array_equal(window_of_step, np.arange(len(distinct)))
    return Scan(images if once_each else images[window_of_step], means)


class _Recent:
    """The frames read last, from which windows are cut, in one reused buffer.

    Frames from `needed_from` on are kept; earlier ones make room when the next
    block does not fit any more. The buffer holds two windows and a block, so a
    frame is moved at most once on average.
    """

    def __init__(self, frames: FrameSource, length: int) -> None:
        self.frames = frames
        room = min(2 * length + frames.block, frames.shape[0])
        self.buffer = np.empty((room, *frames.shape[1:]), frames.dtype)
        self.begin = 0  # number of the frame that the buffer starts with
        self.end = 0  # number of the frame after the last one read
        self.needed_from = 0

    def __getitem__(self, span: slice) -> NDArray[Any]:
        frames: NDArray[Any] = self.buffer[span.start - self.begin : span.stop - self.begin]
        return frames

    def skip_to(self, frame: int) -> None:
        """Go on reading at `frame`, unless reading is beyond it already."""
        if frame > self.end:
            self.begin = self.end = frame

    def read_block(self) -> NDArray[Any]:
        """Read up to the next block boundary and return what was read."""
        block = self.frames.block
        stop = min((self.end // block + 1) * block, self.frames.shape[0])
        if stop - self.begin > len(self.buffer):
            self._make_room()
        fresh = self.buffer[self.end - self.begin : stop - self.begin]
        self.frames.read(self.end, stop, fresh)
        self.end = stop
        return fresh

    def _make_room(self) -> None:
        keep_from = min(self.needed_from, self.end)
        kept = self[keep_from : self.end]
        self.buffer[: len(kept)] = kept
        self.begin = keep_from
