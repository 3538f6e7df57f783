"""Frames of an HDF5 dataset, read past HDF5: each chunk once, by many threads.

HDF5 tells where in the file the chunks are. From there on it is reading and
decoding, which needs no HDF5 and hence waits for none of its locks.
"""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import product
from math import prod
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from sparsemed.frames.codecs import DECOMPRESS, DEFLATE, KNOWN, SHUFFLE, Pipeline, UndecodableError
from sparsemed.frames.source import Read

BATCH_BYTES = 2 * 1024**2
"""Weight of the frames that a thread reads at once, if chunks are no heavier."""

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
    filters = [number for number, _ in _filters(dataset)]
    if unknown := [number for number in filters if number not in KNOWN]:
        return f"of its filters, those of number {unknown} are not known here"
    if sum(number in DECOMPRESS for number in filters) > 1:  # the size in between is not known
        return "its chunks are compressed twice"
    for number, values in _filters(dataset):
        is_level = len(values) == 1 and values[0] <= 9
        if (number == SHUFFLE and values != (dataset.dtype.itemsize,)) or (
            number == DEFLATE and not is_level
        ):
            return f"its filter {number} has the values {values}"
    if plain > HEAVY_BYTES:
        return f"its chunks weigh {plain / 2**20:.0f} MiB each"
    if count > MOST_CHUNKS:
        return f"it is made of {count} chunks"
    if dataset.maxshape.count(None) == 1 and dataset.maxshape[0] is not None:
        # HDF5 finds these chunks, but lists them at wrong places.
        return "it can grow, but not by frames"
    try:
        chunks = _index_of_chunks(dataset, count)
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


def _index_of_chunks(dataset: h5py.Dataset, count: int) -> list[Any]:
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


def _filters(dataset: h5py.Dataset) -> list[tuple[int, tuple[int, ...]]]:
    """Return number and values of each filter, in the order in which they were applied."""
    plist = dataset.id.get_create_plist()
    every = (plist.get_filter(i) for i in range(plist.get_nfilters()))
    return [(number, values) for number, _, values, _ in every]


class ChunkFrames:
    """The frames of an HDF5 dataset without `obstacle`.

    Parameters
    ----------
    dataset : h5py.Dataset, shape (N, H, W), uint8 or uint16
    num_cpus : int
        Threads that read and decode.
    label : str
        What errors call the images.
    """

    def __init__(self, dataset: h5py.Dataset, num_cpus: int, label: str) -> None:
        self.dataset = dataset
        self.label = label
        count, height, width = dataset.shape
        self.shape = (int(count), int(height), int(width))
        self.dtype = dataset.dtype.newbyteorder("=")
        self.block = int(dataset.chunks[0])
        block_bytes = self.block * height * width * self.dtype.itemsize
        self.batch = self.block * max(1, BATCH_BYTES // block_bytes)
        size = prod(dataset.chunks) * self.dtype.itemsize
        self.threads = max(1, min(num_cpus, 8 * HEAVY_BYTES // size))
        filters = tuple(number for number, _ in _filters(dataset))
        self._pipeline = Pipeline(filters, self.dtype.itemsize, size)
        self._chunks: list[Any] = []  # where they are; read when frames are

    @property
    def _per_row(self) -> int:
        """Chunks of a row of them; as none is missing, each row has as many."""
        return len(self._chunks) // -(-self.shape[0] // self.block)

    @contextmanager
    def reading(self) -> Iterator[Read]:
        """Provide the function that reads; see `sparsemed.frames.FrameSource`."""
        # A job reopens its input at the end, and reads nothing then. This is no cached_property:
        # before Python 3.12 these have a lock, which a child forked meanwhile would never get.
        if not self._chunks:
            self._chunks = _index_of_chunks(self.dataset, MOST_CHUNKS)
        with ExitStack() as files:
            largest = max(chunk.size for chunk in self._chunks)
            yield partial(self._read, _OfThread(self.dataset.file, largest, files))

    def _read(self, own: "_OfThread", start: int, stop: int, out: NDArray[Any]) -> None:
        first, last = start // self.block, -(-stop // self.block)
        for chunk in self._chunks[first * self._per_row : last * self._per_row]:
            self._read_chunk(own, start, stop, out, chunk)

    def _read_chunk(
        self, own: "_OfThread", start: int, stop: int, out: NDArray[Any], chunk: Any
    ) -> None:
        """Read one chunk and put its part of the frames from start to stop into `out`."""
        begin = tuple(int(n) for n in chunk.chunk_offset)
        limits = (stop, *self.shape[1:])
        ends = [min(b + n, e) for b, n, e in zip(begin, self.dataset.chunks, limits, strict=True)]
        first = max(begin[0], start)
        here = (slice(first, ends[0]), slice(begin[1], ends[1]), slice(begin[2], ends[2]))
        target = out[(slice(first - start, ends[0] - start), *here[1:])]

        is_whole = target.nbytes == self._pipeline.size and target.flags.c_contiguous
        direct = is_whole and self.dataset.dtype == self.dtype
        decoded = (
            target.reshape(-1).view(np.uint8) if direct else np.empty(self._pipeline.size, np.uint8)
        )
        span = f"frames {begin[0]} to {ends[0] - 1}"
        try:
            stored = own.read_stored(chunk.byte_offset, chunk.size)
        except OSError as error:
            reason = error.strerror
            raise OSError(error.errno, f"{self.label}: {span} cannot be read ({reason})") from error
        if stored is None:  # HDF5 would take what is missing for zeros
            raise OSError(f"{self.label}: {span} cannot be read, the file has become shorter")
        try:
            self._pipeline.decode(stored, chunk.filter_mask, decoded)
        except UndecodableError as error:
            raise OSError(
                f"{self.label}: frames {first} to {ends[0] - 1} cannot be read, the file "
                f"is damaged ({error})"
            ) from error
        if not direct:
            frames = decoded.view(self.dataset.dtype).reshape(self.dataset.chunks)
            within = tuple(slice(s.start - b, s.stop - b) for s, b in zip(here, begin, strict=True))
            target[...] = frames[within]


class _OfThread(threading.local):
    """What each thread has of its own: a buffer for stored chunks, and maybe the open file."""

    def __init__(self, h5: h5py.File, largest: int, files: ExitStack) -> None:
        self.buffer = memoryview(bytearray(largest))
        self.read_at: Callable[[int, memoryview], int]
        if hasattr(os, "preadv"):
            # The very file that HDF5 has open, whatever has become of its name.
            descriptor = h5.id.get_vfd_handle()
            self.read_at = lambda offset, buffer: os.preadv(descriptor, [buffer], offset)
        else:  # Windows, where an open file can be neither replaced nor removed
            file = files.enter_context(open(h5.filename, "rb", buffering=0))  # noqa: SIM115

            def read_at(offset: int, buffer: memoryview) -> int:
                file.seek(offset)
                return file.readinto(buffer) or 0

            self.read_at = read_at

    def read_stored(self, offset: int, size: int) -> memoryview | None:
        """Return bytes of the file, valid until the next call; None if some are missing."""
        done = 0
        while done < size:
            count = self.read_at(offset + done, self.buffer[done:size])
            if not count:
                return None
            done += count
        return self.buffer[:size]
