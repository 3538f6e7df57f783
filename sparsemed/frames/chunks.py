"""Frames of an HDF5 dataset, read past HDF5: each chunk once, by many threads.

HDF5 tells where in the file the chunks are. From there on it is reading and
decoding, which needs no HDF5 and hence waits for none of its locks.
"""

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from math import prod
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from sparsemed.frames.codecs import CodecFailedError, Pipeline, UndecodableError
from sparsemed.frames.layout import HEAVY_BYTES, MOST_CHUNKS, filters_of, index_of_chunks
from sparsemed.frames.source import Read, Spans
from sparsemed.storage.stored import LocalBytes, StoredBytes

BATCH_BYTES = 2 * 1024**2
"""Weight of the frames that a thread reads at once, if chunks are no heavier."""


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
        filters = tuple(each.number for each in filters_of(dataset))
        self._pipeline = Pipeline(filters, self.dtype.itemsize, size)
        self.unwritten: Spans = []  # otherwise HDF5 reads
        self._chunks: list[Any] = []  # where they are; read when frames are

    @property
    def _per_row(self) -> int:
        """Chunks of a row of them; as none is missing, each row has as many."""
        return len(self._chunks) // -(-self.shape[0] // self.block)

    @contextmanager
    def reading(self) -> Iterator[Read]:
        """Provide the function that reads; see `sparsemed.frames.source.FrameSource`."""
        # A job reopens its input at the end, and reads nothing then. This is no cached_property:
        # before Python 3.12 these have a lock, which a child forked meanwhile would never get.
        if not self._chunks:
            self._chunks = index_of_chunks(self.dataset, MOST_CHUNKS)
        file = self.dataset.file
        with closing(LocalBytes(file.filename, file.id.get_vfd_handle())) as stored:
            largest = max(chunk.size for chunk in self._chunks)
            yield partial(self._read, stored, _Buffer(largest))

    def _read(
        self, file: StoredBytes, own: "_Buffer", start: int, stop: int, out: NDArray[Any]
    ) -> None:
        first, last = start // self.block, -(-stop // self.block)
        for chunk in self._chunks[first * self._per_row : last * self._per_row]:
            self._read_chunk(file, own.bytes, start, stop, out, chunk)

    def _read_chunk(
        self,
        file: StoredBytes,
        buffer: memoryview,
        start: int,
        stop: int,
        out: NDArray[Any],
        chunk: Any,
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
            stored = buffer[: chunk.size]
            is_there = file.read_into(stored, chunk.byte_offset)
        except OSError as error:
            reason = error.strerror
            raise OSError(error.errno, f"{self.label}: {span} cannot be read ({reason})") from error
        if not is_there:  # HDF5 would take what is missing for zeros
            raise OSError(f"{self.label}: {span} cannot be read, the file has become shorter")
        try:
            self._pipeline.decode(stored, chunk.filter_mask, decoded)
        except UndecodableError as error:
            span = f"{self.label}: frames {first} to {ends[0] - 1} cannot be read"
            if isinstance(error, CodecFailedError):
                raise OSError(
                    f"{span}, their compression cannot be undone ({error}): either the file is "
                    "damaged, or it was compressed in a way that is not known here; if there is "
                    "another copy of it, try that"
                ) from error
            raise OSError(f"{span}, the file is damaged ({error})") from error
        if not direct:
            frames = decoded.view(self.dataset.dtype).reshape(self.dataset.chunks)
            within = tuple(slice(s.start - b, s.stop - b) for s, b in zip(here, begin, strict=True))
            target[...] = frames[within]

class _Buffer(threading.local):
    """What each thread has of its own: room for the stored bytes of a chunk."""

    def __init__(self, size: int) -> None:
        self.bytes = memoryview(bytearray(size))
