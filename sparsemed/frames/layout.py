"""How frames are stored: chunks, filters, and where each chunk is. All of it can be pickled."""

from dataclasses import dataclass, replace
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sparsemed.frames.codecs import CODECS, missing_codec
from sparsemed.frames.source import Spans, join_spans

HEAVY_BYTES = 64 * 1024**2
"""Largest bytes of a chunk that is decoded here."""


class Filter(NamedTuple):
    """A filter of the chunks.

    Attributes
    ----------
    number : int
        Its number in HDF5's registry of filters.
    values : tuple of int
        Its parameters, such as a level.
    name : str
        Its name in the file.
    """

    number: int
    values: tuple[int, ...]
    name: str


class Index(NamedTuple):
    """Where chunks are, in the order of frames, rows and columns.

    Attributes
    ----------
    grid : tuple of int
        Chunks along frames, height and width.
    addresses : ndarray of int64, shape (n,)
        Offset of each chunk in the file; -1 if it was never written.
    sizes : ndarray of uint32, shape (n,)
        Stored bytes of each chunk.
    masks : ndarray of uint32, shape (n,)
        Filters that each chunk skipped: bit ``i`` stands for filter ``i``.
    is_damaged : bool
        Whether some chunks are listed twice, or beyond the frames.
    begin : int
        Number of the first chunk in these arrays.
    """

    grid: tuple[int, ...]
    addresses: NDArray[np.int64]
    sizes: NDArray[np.uint32]
    masks: NDArray[np.uint32]
    is_damaged: bool
    begin: int = 0

    @property
    def is_whole(self) -> bool:
        """Whether every chunk was written."""
        return not self.is_damaged and bool((self.addresses >= 0).all())

    def unwritten(self, count: int, block: int) -> Spans:
        """Return those of `count` frames, in blocks, of which some chunk was never written."""
        rows = (self.addresses.reshape(self.grid[0], -1) < 0).any(axis=1)
        begins = (np.flatnonzero(rows) * block).tolist()
        return join_spans((begin, min(begin + block, count)) for begin in begins)

    def at_edge(self, shape: tuple[int, ...], chunk: tuple[int, ...]) -> NDArray[np.bool_]:
        """Return which chunks reach beyond the frames."""
        reaches = np.zeros(self.grid, bool)
        for axis, (size, step) in enumerate(zip(shape, chunk, strict=True)):
            if size % step:
                reaches[(slice(None),) * axis + (-1,)] = True
        return reaches.ravel()


@dataclass(frozen=True)
class Layout:
    """How the frames of a dataset are stored.

    Attributes
    ----------
    shape : tuple of int
        ``(N, H, W)``: number, height and width of the frames.
    dtype : dtype
        As stored, byte order included: uint8 or uint16.
    chunk : tuple of int
        Shape of a chunk. If frames are stored in one piece, each counts as a chunk.
    filters : tuple of Filter
        Filters in the order in which they were applied.
    index : Index
        Where each chunk is.
    """

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    chunk: tuple[int, int, int]
    filters: tuple[Filter, ...]
    index: Index

    @property
    def chunk_bytes(self) -> int:
        """Bytes of a chunk before any filter."""
        return prod(self.chunk) * self.dtype.itemsize

    def part(self, begin: int, end: int) -> "Layout":
        """Return the layout with the chunks of some frames only; frames keep their numbers."""
        _, down, across = self.index.grid
        first = begin // self.chunk[0] * down * across
        listed = slice(first, -(-end // self.chunk[0]) * down * across)
        index = self.index._replace(
            addresses=self.index.addresses[listed].copy(),
            sizes=self.index.sizes[listed].copy(),
            masks=self.index.masks[listed].copy(),
            begin=first,
        )
        return replace(self, index=index)

    @property
    def end(self) -> int:
        """Offset in the file at which the last chunk ends."""
        return int((self.index.addresses + self.index.sizes).max())


def obstacle(layout: Layout) -> str | None:
    """Return why frames of a layout cannot be decoded here, or None if they can.

    Parameters
    ----------
    layout : Layout

    Returns
    -------
    str or None

    Examples
    --------
    >>> one = np.zeros(1, np.uint32)
    >>> index = Index((1, 1, 1), np.array([4096]), one + 96, one, is_damaged=False)
    >>> szip = Filter(4, (141, 8), "szip")
    >>> obstacle(Layout((1, 8, 12), np.dtype("u1"), (1, 8, 12), (szip,), index))
    'of its filters, those of number [4] are not known here'
    """
    return _obstacle_of_filters(layout.filters) or _obstacle_of_chunks(layout)


def _obstacle_of_filters(filters: tuple[Filter, ...]) -> str | None:
    numbers = [each.number for each in filters]
    if unknown := [number for number in numbers if number not in CODECS]:
        return f"of its filters, those of number {unknown} are not known here"
    for number in numbers:
        if (reason := missing_codec(number)) is not None:
            return f"its filter {number} cannot be undone here ({reason})"
    if sum(CODECS[number].added is None for number in numbers) > 1:
        return "its chunks are compressed twice"  # the size in between is unknown
    for number, values, _ in filters:
        if not CODECS[number].accepts(values):
            return f"its filter {number} has the values {values}"
    return None


def _obstacle_of_chunks(layout: Layout) -> str | None:
    index, plain = layout.index, layout.chunk_bytes
    if plain > HEAVY_BYTES:
        return f"its chunks weigh {plain / 2**20:.0f} MiB each"
    if not index.is_whole:
        return "some of its chunks were never written"
    # No filter makes a chunk twice as large: only a damaged index has such sizes. Buffers of
    # such sizes must not be made.
    if index.sizes.max() > 2 * plain + 65536:
        return "some of its chunks are larger than they can be"
    # An option of HDF5 stores chunks at the edges unfiltered, without a sign of it in the chunk.
    as_they_are = (index.sizes == plain) & (index.masks == 0)
    if layout.filters and (as_they_are & index.at_edge(layout.shape, layout.chunk)).any():
        return "chunks at its edges may be stored without its filters"
    return None
