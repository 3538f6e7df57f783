"""The layout of a dataset of HDF5, read from its file, and why HDF5 must read it itself."""

from math import prod
from typing import Any

import h5py
import numpy as np

from sparsemed.frames.layout import HEAVY_BYTES, Filter, Index, Layout, obstacle
from sparsemed.frames.source import Spans
from sparsemed.frames.tiles import are_long_in_time
from sparsemed.hdf5.opening import bytes_behind
from sparsemed.storage.stored import StoredBytes

MOST_CHUNKS = 2**20
"""Largest number of very small chunks; HDF5 takes far more memory for each than it has bytes."""

AT_ONCE = 256
"""Chunks of an index that are converted together; so few that Python collects no garbage."""


class UnsuitableError(Exception):
    """A dataset has to be read by HDF5 itself; the message says why."""


def why_hdf5_reads(dataset: h5py.Dataset) -> str | None:
    """Return why HDF5 itself must read a dataset, or None if it need not.

    Parameters
    ----------
    dataset : h5py.Dataset
        Images, of shape (N, H, W).

    Returns
    -------
    str or None

    Raises
    ------
    OSError, ValueError
        See `past_hdf5`.

    Examples
    --------
    >>> import h5py
    >>> with h5py.File("memory.h5", "w", driver="core", backing_store=False) as h5:
    ...     why_hdf5_reads(h5.create_dataset("image", data=[[[1]]], dtype="u1"))
    "its file is opened through the driver 'core'"
    """
    try:
        past_hdf5(dataset)
    except UnsuitableError as reason:
        return str(reason)
    return None


def past_hdf5(dataset: h5py.Dataset) -> tuple[Layout, StoredBytes]:
    """Return the layout of a dataset and the bytes of its file, to read it past HDF5.

    Raises
    ------
    UnsuitableError
        If HDF5 must read it; the message says why.
    OSError
        If the index of chunks is damaged in a way that HDF5 does not notice.
    ValueError
        If chunks are large and reach far beyond the frames, or if there are millions of chunks of
        a few bytes: HDF5 would need gigabytes for them.
    """
    if not dataset.size:
        raise UnsuitableError("there are no frames")
    if dataset.chunks is None and not _is_in_one_piece(dataset):  # compact, external, or virtual
        raise UnsuitableError("it is stored neither in chunks nor in one piece")
    _require_bearable(dataset)
    _require_plain_integers(dataset)
    if are_long_in_time(dataset, dataset.shape, dataset.dtype.itemsize):
        raise UnsuitableError("its chunks are long in time, and read tile by tile")
    stored = _bytes_at_hand(dataset.file)
    layout = read_layout(dataset)
    if (reason := obstacle(layout)) is not None:
        raise UnsuitableError(reason)
    if layout.end > stored.size:
        raise UnsuitableError("its file is shorter than its frames")
    return layout, stored


def read_layout(dataset: h5py.Dataset) -> Layout:
    """Return the layout of a dataset of plain integers, in chunks or in one piece.

    Raises
    ------
    UnsuitableError
        If HDF5 does not tell where its chunks are.
    OSError
        If the index of chunks is damaged in a way that HDF5 does not notice.
    """
    index = _contiguous_index(dataset) if dataset.chunks is None else _chunk_index(dataset)
    count, height, width = map(int, dataset.shape)
    _, rows, columns = chunk = _chunk_shape(dataset)
    return Layout(
        (count, height, width),
        dataset.dtype,
        (chunk[0], rows, columns),
        tuple(filters_of(dataset)),
        index,
    )


def _require_bearable(dataset: h5py.Dataset) -> None:
    """Check that a few frames do not take gigabytes of memory."""
    chunk = _chunk_shape(dataset)
    plain = prod(chunk) * dataset.dtype.itemsize
    count = prod(_grid(dataset))
    is_vast = plain > 4 * HEAVY_BYTES and plain > 4 * prod(dataset.shape) * dataset.dtype.itemsize
    if is_vast or (plain < 64 and count > MOST_CHUNKS):
        raise ValueError(
            f"{dataset.file.filename}: {dataset.name.lstrip('/')}, of the shape {dataset.shape}, "
            f"is stored in {count} chunks of the shape {chunk}, which take far more "
            "memory than the frames; store it with chunks of one or a few frames"
        )


def _require_plain_integers(dataset: h5py.Dataset) -> None:
    """Check that values are stored as integers of 8 or 16 significant bits."""
    if dataset.dtype.kind != "u" or dataset.dtype.itemsize > 2:
        raise UnsuitableError(f"its dtype is {dataset.dtype}")
    stored = dataset.id.get_type()
    is_plain = isinstance(stored, h5py.h5t.TypeIntegerID)
    if not is_plain or stored.get_precision() < 8 * dataset.dtype.itemsize:
        raise UnsuitableError("its values are not stored as plain integers")


def _bytes_at_hand(file: h5py.File) -> StoredBytes:
    """Return the bytes of a file, if HDF5 addresses are offsets in them and do not change."""
    stored = bytes_behind(file)
    if stored is None:
        raise UnsuitableError(f"its file is opened through the driver '{file.driver}'")
    if file.mode != "r" or file.swmr_mode:
        raise UnsuitableError("its file is open for writing")
    if file.userblock_size:
        raise UnsuitableError("its file begins with a user block")
    return stored


def _contiguous_index(dataset: h5py.Dataset) -> Index:
    """Return the index of frames in one piece: each counts as a chunk."""
    grid = _grid(dataset)
    count = prod(grid)
    size = prod(dataset.shape[1:]) * dataset.dtype.itemsize
    addresses = dataset.id.get_offset() + size * np.arange(count, dtype=np.int64)
    sizes, masks = np.full(count, size, np.uint32), np.zeros(count, np.uint32)
    return Index(grid, addresses, sizes, masks, is_damaged=False)


def _chunk_index(dataset: h5py.Dataset) -> Index:
    """Return the index of chunks, if HDF5 finds them at the listed places."""
    if not lists_chunks(dataset):
        raise UnsuitableError("this build of HDF5 does not list chunks")
    if _lists_wrong_places(dataset):
        raise UnsuitableError("it can grow, but not by frames")
    try:
        index = read_index(dataset)
    except RuntimeError as error:
        raise UnsuitableError(f"its index of chunks cannot be read ({error})") from error
    if index.is_damaged:  # HDF5 would not find these chunks, and return the fill value
        raise OSError(
            f"{dataset.file.filename}: {dataset.name.lstrip('/')} cannot be read, its index of "
            "chunks is damaged (it lists some twice, or beyond the frames)"
        )
    if index.is_whole:
        _require_end(dataset, index)
    return index


def _require_end(dataset: h5py.Dataset, index: Index) -> None:
    """Check that HDF5 can read the last chunk in the file, which may lie beyond its end."""
    last = int(np.argmax(index.addresses + index.sizes))
    begin = np.array(np.unravel_index(last, index.grid)) * dataset.chunks
    try:
        dataset.id.read_direct_chunk(tuple(begin.tolist()))
        dataset.id.get_create_plist().fill_value_defined()  # it may be damaged, too
    except (RuntimeError, OSError, ValueError) as error:
        raise UnsuitableError(f"its index of chunks cannot be read ({error})") from error


def _chunk_shape(dataset: h5py.Dataset) -> tuple[int, ...]:
    """Return the shape of a chunk; of frames in one piece, that of a frame."""
    return tuple(int(n) for n in dataset.chunks or (1, *dataset.shape[1:]))


def _grid(dataset: h5py.Dataset) -> tuple[int, ...]:
    """Return how many chunks there are along each axis."""
    chunk = _chunk_shape(dataset)
    return tuple(-(-n // step) for n, step in zip(dataset.shape, chunk, strict=True))


def _is_in_one_piece(dataset: h5py.Dataset) -> bool:
    """Whether all frames lie one after the other in this file."""
    plist = dataset.id.get_create_plist()
    is_here = plist.get_layout() == h5py.h5d.CONTIGUOUS and not plist.get_external_count()
    return is_here and dataset.id.get_offset() is not None


def lists_chunks(dataset: h5py.Dataset) -> bool:
    """Whether HDF5 tells where chunks are; version 1.10, on some clusters, does not."""
    return hasattr(dataset.id, "chunk_iter")


def _lists_wrong_places(dataset: h5py.Dataset) -> bool:
    """Whether HDF5 finds the chunks, but lists them at wrong places."""
    return bool(dataset.maxshape.count(None) == 1 and dataset.maxshape[0] is not None)


def unwritten_spans(dataset: h5py.Dataset) -> Spans:
    """Return the frames of which some chunk was never written; HDF5 returns the fill value there.

    Interrupted acquisitions and incomplete copies have such chunks.
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
    except RuntimeError:  # the index is damaged; reading reports it
        return []
    return index.unwritten(len(dataset), dataset.chunks[0])


def read_index(dataset: h5py.Dataset) -> Index:
    """Read the index of the chunks of a dataset at once: 16 bytes for each chunk.

    Raises
    ------
    RuntimeError
        If HDF5 cannot read its index.
    """
    grid = _grid(dataset)
    count = prod(grid)
    chunk, most = np.array(dataset.chunks, np.uint64), np.array(grid, np.uint64)
    addresses, sizes = np.full(count, -1, np.int64), np.zeros(count, np.uint32)
    masks = np.zeros(count, np.uint32)
    found: list[Any] = []
    add = found.append
    taken = 0
    is_damaged = False

    def take(each: Any) -> bool | None:
        add(each)
        # This is called for each chunk, so it is short. Any value but None ends the iteration.
        return None if len(found) < AT_ONCE else keep()

    def keep() -> bool | None:
        nonlocal taken, is_damaged
        written = [each for each in found if each[2] is not None]
        found.clear()
        if written:
            columns = zip(*written, strict=True)
            begin, mask, address, size = (np.array(each, np.uint64) for each in columns)
            row, within = np.divmod(begin, chunk)
            is_damaged |= bool(within.any() or (row >= most).any() or (address >> 63).any())
            # A damaged index may lead back into itself and never end.
            taken += len(written)
            if is_damaged or taken > count:
                return True
            number = np.ravel_multi_index(tuple(row.T.astype(np.int64)), grid)
            addresses[number] = address
            sizes[number] = np.minimum(size, 2**32 - 1)
            masks[number] = mask
        return None

    dataset.id.chunk_iter(take)
    keep()
    is_damaged |= taken != np.count_nonzero(addresses >= 0)  # some are listed twice
    return Index(grid, addresses, sizes, masks, is_damaged)


def filters_of(dataset: h5py.Dataset) -> list[Filter]:
    """Return the filters of a dataset, in the order in which they were applied."""
    plist = dataset.id.get_create_plist()
    filters = []
    for place in range(plist.get_nfilters()):
        number, _, values, name = plist.get_filter(place)
        filters.append(Filter(number, values, name.decode(errors="replace")))
    return filters
