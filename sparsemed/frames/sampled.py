"""Frames of another source; some are kept as they are read."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsemed.frames.source import Batch, FrameSource, Read, Spans


class SampledFrames:
    """Frames of a source, with copies of some, so that looking at these needs no second read.

    Parameters
    ----------
    source : FrameSource
    numbers : ndarray of int, shape (n,)
        The frames to keep, ascending.

    Attributes
    ----------
    kept : ndarray, shape (n, H, W)
        These frames, as far as they were read.
    read : ndarray of bool, shape (n,)
        Which of them were read.
    """

    def __init__(self, source: FrameSource, numbers: NDArray[np.intp]) -> None:
        self.source = source
        self.numbers = numbers
        self.shape = source.shape
        self.dtype = source.dtype
        self.block = source.block
        self.row_block = source.row_block
        self.batch = source.batch
        self.threads = source.threads
        self.kept = np.empty((len(numbers), *source.shape[1:]), source.dtype)
        self.read = np.zeros(len(numbers), bool)

    @property
    def unwritten(self) -> Spans:
        """Frames that were never written."""
        return self.source.unwritten

    def read_all(self) -> None:
        """Read all frames to keep, those of a block together."""
        block, height = self.numbers // self.block, self.shape[1]
        groups = np.split(np.arange(len(self.numbers)), np.flatnonzero(np.diff(block)) + 1)
        spans = [
            Batch(int(self.numbers[each[0]]), int(self.numbers[each[-1]]) + 1, height)
            for each in groups
        ]
        with self.source.reading(spans) as read:
            for group, (start, stop, _) in zip(groups, spans, strict=True):
                found = np.empty((stop - start, *self.shape[1:]), self.dtype)
                read(start, stop, found)
                self.kept[group] = found[self.numbers[group] - start]
        self.read[:] = True

    def interrupt(self) -> None:
        """End reads that are under way; see `FrameSource`."""
        self.source.interrupt()

    @contextmanager
    def reading(self, wanted: Iterable[Batch] = ()) -> Iterator[Read]:
        """Provide the function that reads; see `FrameSource`."""
        with self.source.reading(wanted) as read:

            def read_and_keep(start: int, stop: int, out: NDArray[Any]) -> None:
                read(start, stop, out)
                first, last = np.searchsorted(self.numbers, (start, stop))
                if out.shape[1] == self.shape[1]:
                    self.kept[first:last] = out[self.numbers[first:last] - start]
                else:  # whole frames are kept
                    self._read_whole(read, first, last)
                self.read[first:last] = True

            yield read_and_keep

    def _read_whole(self, read: Read, first: int, last: int) -> None:
        """Read some of the frames to keep, one by one."""
        for place in range(first, last):
            number = int(self.numbers[place])
            read(number, number + 1, self.kept[place : place + 1])
