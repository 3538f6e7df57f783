"""One pass over the frames: each is read once, and feeds every window it is part of."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sparsemed.brightness import band_means
from sparsemed.frames import FrameSource
from sparsemed.median import median_images


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
        Whether to compute `band_means`. Otherwise blocks of frames that no
        window needs are not read.
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
    spans = [(0, count)] if with_bands else _needed_spans(distinct, length, frames)

    recent = _Recent(frames, length)
    done = 0
    with frames.reading() as read:
        for start, stop in _batches(spans, frames.batch):
            needed_from = int(distinct[done]) if done < len(distinct) else stop
            fresh = recent.make_room(start, stop, needed_from)
            for begin, end in read(start, stop, fresh):
                if means is not None:
                    means[begin:end] = band_means(fresh[begin - start : end - start])
            complete = int(np.searchsorted(distinct, stop - length, side="right"))
            if complete > done:
                within = distinct[done:complete] - recent.begin
                median_images(recent.frames, within, length, images[done:complete], num_cpus)
                done = complete
            report(stop / count)

    once_each = np.array_equal(window_of_step, np.arange(len(distinct)))
    return Scan(images if once_each else images[window_of_step], means)


def _needed_spans(
    starts: NDArray[np.intp], length: int, frames: FrameSource
) -> list[tuple[int, int]]:
    """Return the spans of frames, in whole blocks, that windows are made of."""
    block = frames.block
    spans: list[tuple[int, int]] = []
    for start in starts.tolist():
        begin = start // block * block
        end = min(-(-(start + length) // block) * block, frames.shape[0])
        if spans and begin <= spans[-1][1]:
            spans[-1] = (spans[-1][0], end)
        else:
            spans.append((begin, end))
    return spans


def _batches(spans: list[tuple[int, int]], batch: int) -> Iterator[tuple[int, int]]:
    for begin, end in spans:
        for start in range(begin, end, batch):
            yield start, min(start + batch, end)


class _Recent:
    """The frames read last, from which windows are cut, in one reused buffer."""

    def __init__(self, source: FrameSource, length: int) -> None:
        # Frames of a window, those of a batch, and as many again: then frames
        # are moved to the front of the buffer at most once on average.
        room = min(2 * length + source.batch, source.shape[0])
        self._buffer = np.empty((room, *source.shape[1:]), source.dtype)
        self.begin = 0  # number of the frame that the buffer starts with
        self.end = 0  # number of the frame after the last one read

    @property
    def frames(self) -> NDArray[Any]:
        """The frames from `begin` to `end`."""
        return self._buffer[: self.end - self.begin]

    def make_room(self, start: int, stop: int, needed_from: int) -> NDArray[Any]:
        """Return where frames from start to stop are to go; keep those that are needed."""
        if start > self.end or needed_from >= self.end:
            self.begin = self.end = start
        if stop - self.begin > len(self._buffer):
            kept = self.frames[needed_from - self.begin :]
            self._buffer[: len(kept)] = kept
            self.begin = needed_from
        self.end = stop
        return self._buffer[start - self.begin : stop - self.begin]
