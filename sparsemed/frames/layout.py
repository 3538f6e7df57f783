"""How a dataset is stored: its chunks, its filters, and why HDF5 must read it itself."""

from collections import Counter
from itertools import product
from math import prod
from typing import Any, NamedTuple

import h5py

from sparsemed.frames.codecs import DECOMPRESS, DEFLATE, KNOWN, SHUFFLE, missing_codec
from sparsemed.frames.source import Spans, join_spans

HEAVY_BYTES = 64 * 1024**2
"""Weight of chunks up to which several of them are decoded at once."""

MOST_CHUNKS = 2**20
"""Chunks whose places are kept in memory; it takes some 400 bytes for each."""


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
    'it is not stored in chunks'
    """
    if not dataset.size:
        return "there are no frames"
    if dataset.chunks is None:  # contiguous, compact, external, or virtual
        return "it is not stored in chunks"
    plain = prod(dataset.chunks) * dataset.dtype.itemsize
    count = prod(-(-n // step) for n, step in zip(dataset.shape, dataset.chunks, strict=True))
    is_vast = plain > 4 * HEAVY_BYTES and plain > 4 * prod(dataset.shape) * dataset.dtype.itemsize
    if is_vast or (plain < 64 and count > MOST_CHUNKS):
        raise ValueError(
            f"{dataset.file.filename}: {dataset.name.lstrip('/')}, of the shape {dataset.shape}, "
            f"is stored in {count} chunks of the shape {dataset.chunks}, which take far more "
            "memory than the frames; store it with chunks of one or a few frames"
        )
    if dataset.dtype.kind != "u" or dataset.dtype.itemsize > 2:
        return f"its dtype is {dataset.dtype}"
    stored = dataset.id.get_type()
    is_plain = isinstance(stored, h5py.h5t.TypeIntegerID)
    if not is_plain or stored.get_precision() < 8 * dataset.dtype.itemsize:
        return "its values are not stored as plain integers"
    file = dataset.file
    if file.driver != "sec2":
        return f"its file is opened through the driver '{file.driver}'"
    if file.mode != "r" or file.swmr_mode:
        return "its file is open for writing"
    if file.userblock_size:
        return "its file begins with a user block"
    filters = [each.number for each in filters_of(dataset)]
    if unknown := [number for number in filters if number not in KNOWN]:
        return f"of its filters, those of number {unknown} are not known here"
    for number in filters:
        if (reason := missing_codec(number)) is not None:
            return f"its filter {number} cannot be undone here ({reason})"
    if sum(number in DECOMPRESS for number in filters) > 1:  # the size in between is not known
        return "its chunks are compressed twice"
    for number, values, _ in filters_of(dataset):
        is_level = len(values) == 1 and values[0] <= 9
        if (number == SHUFFLE and values != (dataset.dtype.itemsize,)) or (
            number == DEFLATE and not is_level
        ):
            return f"its filter {number} has the values {values}"
    if plain > HEAVY_BYTES:
        return f"its chunks weigh {plain / 2**20:.0f} MiB each"
    if count > MOST_CHUNKS:
        return f"it is made of {count} chunks"
    if not lists_chunks(dataset):
        return "this build of HDF5 does not list chunks"
    if _lists_wrong_places(dataset):
        return "it can grow, but not by frames"
    try:
        chunks = index_of_chunks(dataset, count)
    except RuntimeError as error:
        return f"its index of chunks cannot be read ({error})"
    begins = [chunk.chunk_offset for chunk in chunks]
    steps = [range(0, n, step) for n, step in zip(dataset.shape, dataset.chunks, strict=True)]
    if begins != (grid := list(product(*steps))):
        # HDF5 would not find chunks at such places, and take the fill value instead.
        if len(set(begins)) < len(begins) or not set(begins) <= set(grid):
            raise OSError(
                f"{file.filename}: {dataset.name.lstrip('/')} cannot be read, its index of chunks "
                "is damaged (it lists some twice, or beyond the frames)"
            )
        return "some of its chunks were never written"

    def at_edge(begin: tuple[int, ...]) -> bool:
        ends = zip(begin, dataset.chunks, dataset.shape, strict=True)
        return any(first + step > size for first, step, size in ends)

    try:
        # No filter makes a chunk twice as large: such sizes, of which buffers would
        # be made, are those of a damaged index.
        if max(chunk.size for chunk in chunks) > 2 * plain + 65536:
            return "some of its chunks are larger than they can be"
        # An option of HDF5 stores chunks at the edges as they are, and nothing says so of them.
        as_they_are = [chunk for chunk in chunks if chunk.size == plain and not chunk.filter_mask]
        if filters and any(at_edge(chunk.chunk_offset) for chunk in as_they_are):
            return "chunks at its edges may be stored without its filters"
        # HDF5 knows where the file ends, and refuses chunks that lie beyond.
        last = max(chunks, key=lambda chunk: chunk.byte_offset + chunk.size)
        dataset.id.read_direct_chunk(last.chunk_offset)
        dataset.id.get_create_plist().fill_value_defined()  # it may be damaged, too
    except (RuntimeError, OSError, ValueError) as error:
        return f"its index of chunks cannot be read ({error})"
    return None


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
    steps = [range(0, n, step) for n, step in zip(dataset.shape, dataset.chunks, strict=True)]
    count = prod(map(len, steps))
    try:
        if count > MOST_CHUNKS or dataset.id.get_num_chunks() >= count:
            return []
        of_row = Counter(chunk.chunk_offset[0] for chunk in index_of_chunks(dataset, count))
    except RuntimeError:  # the index is damaged, as HDF5 will say when it reads
        return []
    rows = [start for start in steps[0] if of_row[start] < count // len(steps[0])]
    return join_spans((start, min(start + steps[0].step, len(dataset))) for start in rows)


def lists_chunks(dataset: h5py.Dataset) -> bool:
    """Whether HDF5 tells where chunks are; version 1.10, on some clusters, does not."""
    return hasattr(dataset.id, "chunk_iter")


def _lists_wrong_places(dataset: h5py.Dataset) -> bool:
    """Whether HDF5 finds the chunks, but lists them at wrong places."""
    return bool(dataset.maxshape.count(None) == 1 and dataset.maxshape[0] is not None)


def index_of_chunks(dataset: h5py.Dataset, count: int) -> list[Any]:
    """Return where the chunks of a dataset are, in the order of the frames; one more than count.

    The index may be damaged: one that leads back into itself has no end.
    """
    chunks: list[Any] = []

    def take(chunk: Any) -> bool | None:
        if chunk.byte_offset is not None:
            chunks.append(chunk)
        return True if len(chunks) > count else None  # anything but None ends it

    dataset.id.chunk_iter(take)
    return sorted(chunks, key=lambda chunk: chunk.chunk_offset)


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
