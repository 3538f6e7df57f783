"""Frames of another source, in any order."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsemed.frames.arrays import BATCH_BYTES
from sparsemed.frames.source import Batch, FrameSource, Read, Spans, join_spans


class PickedFrames:
    """Frames picked from another source, in any order and any number of times.

    Parameters
    ----------
    source : FrameSource
        Where the frames are.
    picks : ndarray of int64, shape (N,)
        For each frame, its index in `source`.

    Raises
    ------
    ValueError
        If nothing is picked.
    """

    def __init__(self, source: FrameSource, picks: NDArray[np.int64]) -> None:
        if not len(picks):
            raise ValueError("there are no frames; the mapping is empty")
        self.source = source
        self.picks = picks
        self.shape = (len(picks), source.shape[1], source.shape[2])
        self.dtype = source.dtype
        self.block = 1
        self.row_block = source.row_block
        # Two batches may pick from one block, which is then read twice.
        frame_bytes = self.shape[1] * self.shape[2] * self.dtype.itemsize
        self.batch = max(source.batch, BATCH_BYTES // frame_bytes)
        self.threads = source.threads

    @property
    def unwritten(self) -> Spans:
        """Picked frames that were never written."""
        picked = np.zeros(len(self.picks), bool)
        for start, stop in self.source.unwritten:
            picked |= (self.picks >= start) & (self.picks < stop)
        return join_spans((i, i + 1) for i in np.flatnonzero(picked).tolist())

    def interrupt(self) -> None:
        """End reads that are under way; see `FrameSource`."""
        self.source.interrupt()

    @contextmanager
    def reading(self, wanted: Iterable[Batch] = ()) -> Iterator[Read]:
        """Provide the function that reads; see `FrameSource`."""
        pieces = (
            Batch(int(ranked[0]), int(ranked[-1]) + 1, batch.rows)
            for batch in wanted
            for ranked, _ in self._pieces(batch.start, batch.stop)
        )
        with self.source.reading(pieces) as read:
            yield lambda start, stop, out: self._pick(read, start, stop, out)

    def _pick(self, read: Read, start: int, stop: int, out: NDArray[Any]) -> None:
        for ranked, places in self._pieces(start, stop):
            first, last = int(ranked[0]), int(ranked[-1])
            piece = np.empty((last - first + 1, *out.shape[1:]), self.dtype)
            read(first, last + 1, piece)
            out[places] = piece[ranked - first]

    def _pieces(self, start: int, stop: int) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
        """Yield picks, ascending, and their places, for one batch of the source after the other.

        Picks may lie far apart; no more than a batch is held.
        """
        picks = self.picks[start:stop]
        order = np.argsort(picks, kind="stable")
        ranked = picks[order]
        done = 0
        while done < len(ranked):
            batch = int(ranked[done]) // self.source.batch
            end = int(np.searchsorted(ranked, (batch + 1) * self.source.batch))
            yield ranked[done:end], order[done:end]
            done = end
