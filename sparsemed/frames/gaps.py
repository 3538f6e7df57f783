"""Frames that were never written, found by the value with which their store fills them."""

from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from sparsemed.frames.source import Spans, join_spans


class Gaps(NamedTuple):
    """Finds frames never written among frames from a store that lacks chunks.

    Attributes
    ----------
    chunks : (int, int, int) or None
        Shape of the chunks, if the frames are stored as they are: then a chunk counts as missing
        if it holds only the fill value. None if the frames were cut or computed from those of a
        store: then a frame counts if all its pixels are equal.
    fill : int or float
        The fill value.
    origin : (int, int, int)
        Number, row and column in the store of the first pixel.
    """

    chunks: tuple[int, ...] | None = None
    fill: Any = 0
    origin: tuple[int, ...] = (0, 0, 0)

    def part(self, number: int, row: int = 0, column: int = 0) -> Self:
        """Return the same for frames without those before, or without rows or columns before."""
        begin = zip(self.origin, (number, row, column), strict=True)
        return self._replace(origin=tuple(before + more for before, more in begin))

    def find(self, frames: NDArray[Any], start: int) -> Spans:
        """Return which of some frames, the first of which has the number `start`, are missing."""
        if self.chunks is None:
            pixels = frames.reshape(len(frames), -1)
            equal = np.flatnonzero((pixels == pixels[:, :1]).all(axis=1))
            return join_spans((start + i, start + i + 1) for i in equal.tolist())
        is_fill = frames == self.fill
        starts = [
            np.maximum(0, np.arange(-(begin % chunk), length, chunk))
            for begin, chunk, length in zip(
                self.part(start).origin, self.chunks, frames.shape, strict=True
            )
        ]
        for axis, edges in enumerate(starts):
            is_fill = np.logical_and.reduceat(is_fill, edges, axis=axis)
        edges = np.append(starts[0], len(frames)) + start
        missing = np.flatnonzero(is_fill.any(axis=(1, 2)))
        return join_spans((int(edges[i]), int(edges[i + 1])) for i in missing)
