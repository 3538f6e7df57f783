"""How a dataset is stored: its chunks, its filters, and why HDF5 must read it itself."""

import os
from math import prod
from typing import Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from sparsemed.frames.codecs import DECOMPRESS, DEFLATE, KNOWN, SHUFFLE, missing_codec
from sparsemed.frames.source import Spans, join_spans

HEAVY_BYTES = 64 * 1024**2
"""Weight of chunks up to which several of them are decoded at once."""

MOST_CHUNKS = 2**20
"""Chunks of a few bytes each that HDF5 can bear; it takes far more than that for each."""


AT_ONCE = 256
"""Chunks of an index that are taken note of together; so few that Python collects no garbage."""


class Index(NamedTuple):
    """Where the chunks of a dataset are, in the order of the frames, and of columns within.

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
    """

    grid: tuple[int, ...]
    addresses: NDArray[np.int64]
    sizes: NDArray[np.uint32]
    masks: NDArray[np.uint32]
    is_damaged: bool

    @property
    def is_whole(self) -> bool:
        """Whether every chunk was written."""
        return not self.is_damaged and bool((self.addresses >= 0).all())

    def at_edge(self, shape: tuple[int, ...], chunk: tuple[int, ...]) -> NDArray[np.bool_]:
        """Return which chunks reach beyond the frames."""
        reaches = np.zeros(self.grid, bool)
        for axis, (size, step) in enumerate(zip(shape, chunk, strict=True)):
            if size % step:
                reaches[(slice(None),) * axis + (-1,)] = True
        return reaches.ravel()


class UnsuitableError(Exception):
    """A dataset has to be read by HDF5 itself; the message says why."""


def obstacle(dataset: h5py.Dataset) -> str | None:
    """Say why a dataset has to be read by HDF5 itself, or None if it need not be.

    Parameters
    ----------
    dataset : h5py.Dataset
        Images, of shape (N, H, W).

    Returns
    -------
    str or None

    Raises
    ------
    OSError
        If the index of chunks is damaged in a way that HDF5 does not notice.
    ValueError
        If chunks are heavy and reach far beyond the frames, or if there are millions of a few
        bytes each: HDF5 would need gigabytes for them.

    Examples
    --------
    >>> import h5py
    >>> with h5py.File("memory.h5", "w", driver="core", backing_store=False) as h5:
    ...     obstacle(h5.create_dataset("image", data=[[[1]]], dtype="u1"))
    "its file is opened through the driver 'core'"
    """
    try:
        suitable_index(dataset)
    except UnsuitableError as reason:
        return str(reason)
    return None


def suitable_index(dataset: h5py.Dataset) -> Index:
    """Return where the chunks of a dataset are, if there is no `obstacle`.

    Raises
    ------
    UnsuitableError
        If there is one; and what `obstacle` raises.
    """
    if not dataset.size:
        raise UnsuitableError("there are no frames")
    if dataset.chunks is None and not _is_in_one_piece(dataset):  # compact, external, or virtual
        raise UnsuitableError("it is stored neither in chunks nor in one piece")
    chunk = chunk_shape(dataset)
    plain = prod(chunk) * dataset.dtype.itemsize
    count = prod(_grid(dataset))
    is_vast = plain > 4 * HEAVY_BYTES and plain > 4 * prod(dataset.shape) * dataset.dtype.itemsize
    if is_vast or (plain < 64 and count > MOST_CHUNKS):
        raise ValueError(
            f"{dataset.file.filename}: {dataset.name.lstrip('/')}, of the shape {dataset.shape}, "
            f"is stored in {count} chunks of the shape {chunk}, which take far more "
            "memory than the frames; store it with chunks of one or a few frames"
        )
    if dataset.dtype.kind != "u" or dataset.dtype.itemsize > 2:
        raise UnsuitableError(f"its dtype is {dataset.dtype}")
    stored = dataset.id.get_type()
    is_plain = isinstance(stored, h5py.h5t.TypeIntegerID)
    if not is_plain or stored.get_precision() < 8 * dataset.dtype.itemsize:
        raise UnsuitableError("its values are not stored as plain integers")
    file = dataset.file
    if file.driver != "sec2":
        raise UnsuitableError(f"its file is opened through the driver '{file.driver}'")
    if file.mode != "r" or file.swmr_mode:
        raise UnsuitableError("its file is open for writing")
    if file.userblock_size:
        raise UnsuitableError("its file begins with a user block")
    filters = [each.number for each in filters_of(dataset)]
    if unknown := [number for number in filters if number not in KNOWN]:
        raise UnsuitableError(f"of its filters, those of number {unknown} are not known here")
    for number in filters:
        if (reason := missing_codec(number)) is not None:
            raise UnsuitableError(f"its filter {number} cannot be undone here ({reason})")
    if sum(number in DECOMPRESS for number in filters) > 1:  # the size in between is not known
        raise UnsuitableError("its chunks are compressed twice")
    for number, values, _ in filters_of(dataset):
        is_level = len(values) == 1 and values[0] <= 9
        if (number == SHUFFLE and values != (dataset.dtype.itemsize,)) or (
            number == DEFLATE and not is_level
        ):
            raise UnsuitableError(f"its filter {number} has the values {values}")
    if plain > HEAVY_BYTES:
        raise UnsuitableError(f"its chunks weigh {plain / 2**20:.0f} MiB each")
    if dataset.chunks is None:
        index = read_index(dataset)
        if index.addresses[-1] + plain > os.stat(file.id.get_vfd_handle()).st_size:
            raise UnsuitableError("its file is shorter than its frames")
        return index
    if not lists_chunks(dataset):
        raise UnsuitableError("this build of HDF5 does not list chunks")
    if _lists_wrong_places(dataset):
        raise UnsuitableError("it can grow, but not by frames")
    try:
        index = read_index(dataset)
    except RuntimeError as error:
        raise UnsuitableError(f"its index of chunks cannot be read ({error})") from error
    if index.is_damaged:  # HDF5 would not find chunks at such addresses, and take the fill value
        raise OSError(
            f"{file.filename}: {dataset.name.lstrip('/')} cannot be read, its index of chunks "
            "is damaged (it lists some twice, or beyond the frames)"
        )
    if not index.is_whole:
        raise UnsuitableError("some of its chunks were never written")
    try:
        # No filter makes a chunk twice as large: such sizes, of which buffers would
        # be made, are those of a damaged index.
        if index.sizes.max() > 2 * plain + 65536:
            raise UnsuitableError("some of its chunks are larger than they can be")
        # An option of HDF5 stores chunks at the edges as they are, and nothing says so of them.
        as_they_are = (index.sizes == plain) & (index.masks == 0)
        if filters and (as_they_are & index.at_edge(dataset.shape, dataset.chunks)).any():
            raise UnsuitableError("chunks at its edges may be stored without its filters")
        # HDF5 knows where the file ends, and refuses chunks that lie beyond.
        last = int(np.argmax(index.addresses + index.sizes))
        begin = np.array(np.unravel_index(last, index.grid)) * dataset.chunks
        dataset.id.read_direct_chunk(tuple(begin.tolist()))
        dataset.id.get_create_plist().fill_value_defined()  # it may be damaged, too
    except (RuntimeError, OSError, ValueError) as error:
        raise UnsuitableError(f"its index of chunks cannot be read ({error})") from error
    return index


def chunk_shape(dataset: h5py.Dataset) -> tuple[int, ...]:
    """Return the shape of what is stored together; frames in one piece are taken one by one."""
    return tuple(int(n) for n in dataset.chunks or (1, *dataset.shape[1:]))


def _is_in_one_piece(dataset: h5py.Dataset) -> bool:
    """Whether all frames lie one after the other in the file itself, as they are."""
    plist = dataset.id.get_create_plist()
    is_here = plist.get_layout() == h5py.h5d.CONTIGUOUS and not plist.get_external_count()
    return is_here and dataset.id.get_offset() is not None


def unwritten_spans(dataset: h5py.Dataset) -> Spans:
    """Return the frames of which some chunk was never written: HDF5 takes the fill value there.

    An acquisition that stopped leaves such chunks behind, and so does an incomplete copy.
    """
    if not dataset.size:
        return []
    plist = dataset.id.get_create_plist()
    if dataset.chunks is None:
        is_here = plist.get_layout() == h5py.h5d.CONTIGUOUS and not plist.get_external_count()
        return [(0, len(dataset))] if is_here and not dataset.id.get_storage_size() else []
    if not lists_chunks(dataset) or _lists_wrong_places(dataset):
        return []
    try:
        if dataset.id.get_num_chunks() >= prod(_grid(dataset)):
            return []
        index = read_index(dataset)
    except RuntimeError:  # the index is damaged, as HDF5 will say when it reads
        return []
    block = dataset.chunks[0]
    rows = np.flatnonzero((index.addresses.reshape(index.grid[0], -1) < 0).any(axis=1)) * block
    return join_spans((row, min(row + block, len(dataset))) for row in rows.tolist())


def lists_chunks(dataset: h5py.Dataset) -> bool:
    """Whether HDF5 tells where chunks are; version 1.10, on some clusters, does not."""
    return hasattr(dataset.id, "chunk_iter")


def _lists_wrong_places(dataset: h5py.Dataset) -> bool:
    """Whether HDF5 finds the chunks, but lists them at wrong addresses."""
    return bool(dataset.maxshape.count(None) == 1 and dataset.maxshape[0] is not None)


def read_index(dataset: h5py.Dataset) -> Index:
    """Read where the chunks of a dataset are, all at once: 16 bytes for each.

    Raises
    ------
    RuntimeError
        If HDF5 cannot read its index.
    """
    grid = _grid(dataset)
    count = prod(grid)
    if dataset.chunks is None:
        size = prod(dataset.shape[1:]) * dataset.dtype.itemsize
        addresses = dataset.id.get_offset() + size * np.arange(count, dtype=np.int64)
        sizes, masks = np.full(count, size, np.uint32), np.zeros(count, np.uint32)
        return Index(grid, addresses, sizes, masks, is_damaged=False)
    chunk, most = np.array(dataset.chunks, np.uint64), np.array(grid, np.uint64)
    addresses, sizes = np.full(count, -1, np.int64), np.zeros(count, np.uint32)
    masks = np.zeros(count, np.uint32)
    found: list[Any] = []
    add = found.append
    taken = 0
    is_damaged = False

    def take(each: Any) -> bool | None:
        add(each)
        # What is called for each chunk had better be short. Anything but None ends it.
        return None if len(found) < AT_ONCE else keep()

    def keep() -> bool | None:
        nonlocal taken, is_damaged
        written = [each for each in found if each[2] is not None]
        found.clear()
        if written:
            columns = zip(*written, strict=True)
            begin, mask, place, size = (np.array(each, np.uint64) for each in columns)
            row, within = np.divmod(begin, chunk)
            is_damaged |= bool(within.any() or (row >= most).any() or (place >> 63).any())
            # An index that leads back into itself has no end.
            taken += len(written)
            if is_damaged or taken > count:
                return True
            number = np.ravel_multi_index(tuple(row.T.astype(np.int64)), grid)
            addresses[number] = place
            sizes[number] = np.minimum(size, 2**32 - 1)
            masks[number] = mask
        return None

    dataset.id.chunk_iter(take)
    keep()
    is_damaged |= taken != np.count_nonzero(addresses >= 0)  # some are listed twice
    return Index(grid, addresses, sizes, masks, is_damaged)


def _grid(dataset: h5py.Dataset) -> tuple[int, ...]:
    """Return how many chunks there are along each axis."""
    chunk = chunk_shape(dataset)
    return tuple(-(-n // step) for n, step in zip(dataset.shape, chunk, strict=True))


class Filter(NamedTuple):
    """What each chunk of a dataset went through."""

    number: int
    values: tuple[int, ...]
    name: str


def filters_of(dataset: h5py.Dataset) -> list[Filter]:
    """Return the filters of a dataset, in the order in which they were applied."""
    plist = dataset.id.get_create_plist()
    filters = []
    for place in range(plist.get_nfilters()):
        number, _, values, name = plist.get_filter(place)
        filters.append(Filter(number, values, name.decode(errors="replace")))
    return filters
