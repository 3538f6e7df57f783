"""How frames are stored, as data: chunks, filters, and where each chunk is. It can be pickled."""

from dataclasses import dataclass, replace
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sparsemed.frames.codecs import CODECS, missing_codec
from sparsemed.frames.source import Spans, join_spans

HEAVY_BYTES = 64 * 1024**2
"""Weight of chunks up to which several of them are decoded at once."""


class Filter(NamedTuple):
    """What each chunk went through.

    Attributes
    ----------
    number : int
        The one that HDF5's registry of filters has for it.
    values : tuple of int
        What it was told, such as a level.
    name : str
        What the file calls it.
    """

    number: int
    values: tuple[int, ...]
    name: str


class Index(NamedTuple):
    """Where chunks are, in the order of the frames, and of columns within.

    Attributes
    ----------
    grid : tuple of int
        Chunks along frames, height and width.
    addresses : ndarray of int64, shape (n,)
        Offset of each chunk in the file; -1 where it was never written.
    sizes : ndarray of uint32, shape (n,)
        Bytes of each as it is stored.
    masks : ndarray of uint32, shape (n,)
        Filters that were left out for it: bit ``i`` stands for filter ``i``.
    is_damaged : bool
        Whether some are listed twice, or beyond the frames.
    begin : int
        How many chunks at the beginning are left out; all others are numbered as if they were not.
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
        """Return the frames, `count` in blocks, of which some chunk was never written."""
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
        That of their values as they are stored, byte order included: 8 or 16 bits without sign.
    chunk : tuple of int
        Shape of what is stored together. Frames that are stored in one piece are taken one by one.
    filters : tuple of Filter
        What each chunk went through, in that order.
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
        """Return what it takes to read some of the frames; they keep their numbers."""
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
        """Where in the file the last of the chunks ends."""
        return int((self.index.addresses + self.index.sizes).max())


def obstacle(layout: Layout) -> str | None:
    """Say why frames of a layout cannot be decoded here, or None if they can.

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
        return "its chunks are compressed twice"  # and the size in between is not known
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
    # No filter makes a chunk twice as large: such sizes, of which buffers would
    # be made, are those of a damaged index.
    if index.sizes.max() > 2 * plain + 65536:
        return "some of its chunks are larger than they can be"
    # An option of HDF5 stores chunks at the edges as they are, and nothing says so of them.
    as_they_are = (index.sizes == plain) & (index.masks == 0)
    if layout.filters and (as_they_are & index.at_edge(layout.shape, layout.chunk)).any():
        return "chunks at its edges may be stored without its filters"
    return None
