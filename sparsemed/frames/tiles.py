"""Arrays in blocks that are long in time and small in space, read tile by tile.

To read whole frames of such an array takes all blocks across the frame, which may be the whole
array.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sparsemed.frames.arrays import ArrayFrames, block_edges
from sparsemed.frames.dask_blocks import is_dask
from sparsemed.frames.sampled import SampledFrames
from sparsemed.frames.source import FrameSource

TILE_BYTES = 32 * 1024**2
"""Largest bytes of the blocks of a tile that are held at once."""


class Tile(NamedTuple):
    """A part of all frames.

    Attributes
    ----------
    rows, columns : slice
        Where it is in a frame.
    frames : ArrayFrames
        These rows and columns of the frames.
    """

    rows: slice
    columns: slice
    frames: ArrayFrames


def tiles_of(frames: FrameSource) -> list[Tile]:
    """Return the tiles by which to read frames; none if whole frames are read better.

    Each tile holds whole blocks, as many as may be held at once, so that each block is read once.

    Parameters
    ----------
    frames : FrameSource
    """
    source: Any = frames
    while isinstance(source, SampledFrames):
        source = source.source
    if not isinstance(source, ArrayFrames):
        return []
    array, (count, height, width) = source.array, source.shape
    if not are_long_in_time(array, source.shape, source.dtype.itemsize):
        return []
    of_rows = block_edges(array, 1, height)
    of_columns = block_edges(array, 2, width)
    longest = int(np.diff(block_edges(array, 0, count)).max()) * source.dtype.itemsize
    tallest = int(np.diff(of_rows).max())
    across = _joined(of_columns, TILE_BYTES // max(1, longest * tallest))
    down = _joined(of_rows, TILE_BYTES // max(1, longest * width)) if len(across) == 2 else of_rows
    return [
        Tile(rows, columns, _part(source, rows, columns))
        for rows in _slices(down)
        for columns in _slices(across)
    ]


def are_long_in_time(array: Any, shape: tuple[int, ...], itemsize: int) -> bool:
    """Whether frames consist of several blocks side by side that weigh too much together.

    Parameters
    ----------
    array : array-like, shape (N, H, W)
        See `sparsemed.frames.arrays.block_edges`.
    shape : (int, int, int)
    itemsize : int
        Bytes of a pixel.
    """
    edges = [block_edges(array, axis, length) for axis, length in enumerate(shape)]
    weight = int(np.diff(edges[0]).max()) * shape[1] * shape[2] * itemsize
    return weight > TILE_BYTES and len(edges[1]) * len(edges[2]) > 4  # a single one has two each


def _joined(edges: NDArray[np.int64], most: int) -> list[int]:
    """Join neighbouring blocks up to the length `most`; return the edges that are left."""
    kept = [int(edges[0])]
    for before, edge in pairwise(edges.tolist()):
        if edge - kept[-1] > most and before != kept[-1]:
            kept.append(before)
    return [*kept, int(edges[-1])]


def _slices(edges: Any) -> Iterator[slice]:
    for start, stop in pairwise(edges):
        yield slice(int(start), int(stop))


def _part(source: ArrayFrames, rows: slice, columns: slice) -> ArrayFrames:
    array = source.array
    part = array[:, rows, columns] if is_dask(array) else _Part(array, rows, columns)
    frames = ArrayFrames(part, source.label, source.dtype.type)
    if source.gaps is not None:
        frames.gaps = source.gaps.part(0, rows.start, columns.start)
    return frames


class _Part:
    """Rows and columns of an array, read when sliced; other attributes are those of the array."""

    def __init__(self, array: Any, rows: slice, columns: slice) -> None:
        self._array = array
        self._rows = rows
        self._columns = columns

    def __getattr__(self, name: str) -> Any:
        return getattr(self._array, name)

    @property
    def shape(self) -> tuple[int, int, int]:
        rows, columns = self._rows, self._columns
        return self._array.shape[0], rows.stop - rows.start, columns.stop - columns.start

    def __getitem__(self, wanted: slice | tuple[slice, slice]) -> Any:
        frames, rows = wanted if isinstance(wanted, tuple) else (wanted, slice(None))
        within = range(self._rows.start, self._rows.stop)[rows]
        return self._array[frames, within.start : within.stop, self._columns]
