"""The series of median images, computed from frames that come in the order of the file.

Frames are held as long as windows need them. The medians of all complete windows are computed
together, many in one launch.
"""

from bisect import bisect_right
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsemed.kernels.median import median_images

HELD_BYTES = 64 * 1024**2
"""Bytes of frames that are held before medians are computed."""

LAUNCH_BYTES = 1024**3
"""Bytes of the windows of one launch, each counted in full. Signals wait for the end of a launch: a
fraction of a second on one core."""


class Series:
    """Median images of windows, computed from frames that come in batches.

    Parameters
    ----------
    starts : ndarray of int, shape (M,), ascending and distinct
        First frame of each window.
    length : int
        Frames in a window.
    shape : (int, int, int)
        ``(N, H, W)``: number, height and width of the frames.
    dtype : dtype
        dtype of the frames: native uint8 or uint16.
    batch : int
        Frames in a batch; the last may have fewer.
    ahead : int
        Batches that may have a place before the first of them has arrived.
    num_cpus : int
        Largest number of threads.

    Attributes
    ----------
    images : ndarray, shape (M, H, W)
        The median image of each window; complete once `is_complete`.
    """

    def __init__(
        self,
        starts: NDArray[np.intp],
        length: int,
        shape: tuple[int, int, int],
        dtype: np.dtype[Any],
        batch: int,
        ahead: int,
        num_cpus: int,
    ) -> None:
        _, height, width = shape
        self._starts = starts
        self._sorted: list[int] = starts.tolist()
        self._length = length
        self._num_cpus = num_cpus
        self.images = np.empty((len(starts), height, width), dtype)
        frame_bytes = height * width * dtype.itemsize
        # Even a very small window takes some time.
        self._at_once = max(1, LAUNCH_BYTES // max(64 * 1024, length * frame_bytes))
        of_a_window = -(-length // batch) + 1
        places = max(HELD_BYTES // (batch * frame_bytes), of_a_window) + ahead
        self._room = _Room(shape, dtype, batch, places)
        self._held: list[tuple[int, int]] = []
        self._done = 0  # windows whose median is known

    @property
    def has_room(self) -> bool:
        """Whether there is a place for another batch."""
        return bool(self._room.free)

    @property
    def is_complete(self) -> bool:
        """Whether all medians are known."""
        return self._done == len(self._starts)

    def needs(self, start: int, stop: int) -> bool:
        """Whether a window needs any of the frames from start to stop."""
        first = max(self._done, bisect_right(self._sorted, start - self._length))
        return first < len(self._sorted) and self._sorted[first] < stop

    def place(self, start: int, stop: int) -> NDArray[Any] | None:
        """Return the array for the frames from start to stop; None if no window needs them.

        There must be room.
        """
        return self._room.take(start, stop) if self.needs(start, stop) else None

    def arrived(self, start: int, stop: int) -> None:
        """Note that frames are in their place; batches arrive in the order of the file."""
        if self.needs(start, stop):
            self._held.append((start, stop))

    def compute(self) -> None:
        """Compute the medians of all complete windows, and free batches that are not needed now."""
        complete = bisect_right(self._sorted, self._held[-1][1] - self._length)
        while self._done < complete:
            part = slice(self._done, min(self._done + self._at_once, complete))
            median_images(
                self._room.buffer,
                self._room.row,
                self._starts[: part.stop],
                self._length,
                self.images[: part.stop],
                self._num_cpus,
                part.start,
            )
            self._done = part.stop
        for batch in self._held:
            if not self.needs(*batch):
                self._room.give_back(batch[0])
        self._held = [batch for batch in self._held if self.needs(*batch)]


class _Room:
    """A buffer for batches of frames, in any order.

    Attributes
    ----------
    buffer : ndarray, shape (n, H, W)
        The frames.
    row : ndarray of int, shape (N,)
        For each held frame, its row in `buffer`.
    free : list of int
        First rows of free places. The place freed last is used first, as it may
        still be in the cache.
    """

    def __init__(
        self, shape: tuple[int, int, int], dtype: np.dtype[Any], batch: int, places: int
    ) -> None:
        count, height, width = shape
        size = min(batch, count)
        self.free = list(range(0, places * size, size))
        self.buffer = np.empty((places * size, height, width), dtype)
        self.row = np.zeros(count, np.intp)

    def take(self, start: int, stop: int) -> NDArray[Any]:
        """Return the array for the frames from start to stop."""
        first = self.free.pop()
        end = first + stop - start
        self.row[start:stop] = np.arange(first, end)
        return self.buffer[first:end]

    def give_back(self, start: int) -> None:
        """Free the place of the batch that begins with frame `start`."""
        self.free.append(int(self.row[start]))
