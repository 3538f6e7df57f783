"""Frames of an HDF5 dataset, read past HDF5: each chunk once, by many threads.

HDF5 tells where in the file the chunks are. From there on it is reading and
decoding, which needs no HDF5 and hence waits for none of its locks.
"""

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from itertools import pairwise
from math import prod
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from sparsemed.frames.codecs import CodecFailedError, Pipeline, UndecodableError
from sparsemed.frames.layout import HEAVY_BYTES, Index, chunk_shape, filters_of, read_index
from sparsemed.frames.source import Read, Spans
from sparsemed.storage.stored import LocalBytes, StoredBytes

BATCH_BYTES = 2 * 1024**2
"""Weight of the frames that a thread reads at once, if chunks are no heavier."""

GAP_BYTES = 16 * 1024
"""What may lie between two chunks that are read at once; HDF5 puts parts of its index there."""


class ChunkFrames:
    """The frames of an HDF5 dataset without `obstacle`.

    Parameters
    ----------
    dataset : h5py.Dataset, shape (N, H, W), uint8 or uint16
    num_cpus : int
        Threads that read and decode.
    label : str
        What errors call the images.
    index : Index, optional
        Where its chunks are, if that is known already.
    """

    def __init__(
        self, dataset: h5py.Dataset, num_cpus: int, label: str, index: Index | None = None
    ) -> None:
        self.dataset = dataset
        self.label = label
        count, height, width = dataset.shape
        self.shape = (int(count), int(height), int(width))
        self.dtype = dataset.dtype.newbyteorder("=")
        self._chunk = chunk_shape(dataset)
        self.block = self._chunk[0]
        block_bytes = self.block * height * width * self.dtype.itemsize
        self.batch = self.block * max(1, BATCH_BYTES // block_bytes)
        self._stored_dtype = dataset.dtype
        self._size = prod(self._chunk) * self.dtype.itemsize
        # A chunk of whole frames is decoded where they are to go, if their bytes are in our order.
        self._is_direct = self._chunk[1:] == self.shape[1:] and self._stored_dtype == self.dtype
        self.threads = max(1, min(num_cpus, 8 * HEAVY_BYTES // self._size))
        filters = tuple(each.number for each in filters_of(dataset))
        self._pipeline = Pipeline(filters, self.dtype.itemsize, self._size)
        self._is_copied = self._is_direct and not filters
        self.unwritten: Spans = []  # otherwise HDF5 reads
        self._index = index

    @contextmanager
    def reading(self) -> Iterator[Read]:
        """Provide the function that reads; see `sparsemed.frames.source.FrameSource`."""
        if self._index is None:
            self._index = read_index(self.dataset)
        file = self.dataset.file
        with closing(LocalBytes(file.filename, file.id.get_vfd_handle())) as stored:
            yield partial(self._read, self._index, stored, _OfThread(self._size))

    def _read(
        self,
        index: Index,
        file: StoredBytes,
        own: "_OfThread",
        start: int,
        stop: int,
        out: NDArray[Any],
    ) -> None:
        """Read the chunks of some frames: those that lie together in the file, together."""
        per_row = index.grid[1] * index.grid[2]
        first, last = start // self.block * per_row, -(-stop // self.block) * per_row
        places, sizes = index.addresses[first:last], index.sizes[first:last].astype(np.int64)
        is_all = stop - start == (last - first) * self.block
        if self._is_copied and is_all and (sizes == self._size).all():
            flat = memoryview(out.reshape(-1).view(np.uint8).data)
            if self._copy(file, places, flat):
                return
        order = np.argsort(places, kind="stable")
        begins, ends = places[order], (places + sizes)[order]
        gaps = begins[1:] - ends[:-1]
        # A run ends where the next chunk is elsewhere, or else would make it too long.
        is_apart = (gaps < 0) | (gaps > GAP_BYTES)
        piece = (ends[1:] - begins[0]) // BATCH_BYTES
        is_apart |= piece != (ends[:-1] - begins[0]) // BATCH_BYTES
        for run in np.split(order, np.flatnonzero(is_apart) + 1):
            begin, end = int(places[run[0]]), int(places[run[-1]] + sizes[run[-1]])
            bytes_ = own.room(end - begin)
            try:
                is_there = file.read_into(bytes_, begin)
            except OSError:
                is_there = False
            for i in run.tolist():
                place, size = int(places[i]), int(sizes[i])
                stored = bytes_[place - begin : place - begin + size]
                if not is_there:  # find out which
                    self._read_alone(file, stored, place, first + i, index, stop)
                mask = int(index.masks[first + i])
                self._decode(stored, mask, first + i, index, own, start, stop, out)

    def _copy(self, file: StoredBytes, places: NDArray[np.int64], out: memoryview) -> bool:
        """Read frames that are stored as they are; return whether all of them were there."""
        size = self._size
        edges = [0, *(np.flatnonzero(np.diff(places) != size) + 1).tolist(), len(places)]
        try:
            return all(
                file.read_into(out[first * size : last * size], int(places[first]))
                for first, last in pairwise(edges)
            )
        except OSError:  # as is said once it is known which
            return False

    def _read_alone(
        self,
        file: StoredBytes,
        stored: memoryview,
        place: int,
        number: int,
        index: Index,
        stop: int,
    ) -> None:
        begin = number // (index.grid[1] * index.grid[2]) * self.block
        span = f"{self.label}: frames {begin} to {min(begin + self.block, stop) - 1}"
        try:
            is_there = file.read_into(stored, place)
        except OSError as error:
            reason = error.strerror
            raise OSError(error.errno, f"{span} cannot be read ({reason})") from error
        if not is_there:  # HDF5 would take what is missing for zeros
            raise OSError(f"{span} cannot be read, the file has become shorter")

    def _decode(
        self,
        stored: memoryview,
        mask: int,
        number: int,
        index: Index,
        own: "_OfThread",
        start: int,
        stop: int,
        out: NDArray[Any],
    ) -> None:
        """Decode a chunk, and put its part of the frames from start to stop into `out`."""
        row, tile = divmod(number, index.grid[1] * index.grid[2])
        begin = row * self.block
        first, last = max(begin, start), min(begin + self.block, stop)
        is_direct = self._is_direct and last - first == self.block
        if is_direct:
            decoded = out[first - start : last - start].reshape(-1).view(np.uint8)
        else:
            decoded = own.scratch
        try:
            self._pipeline.decode(stored, mask, decoded)
        except UndecodableError as error:
            span = f"{self.label}: frames {first} to {last - 1} cannot be read"
            if isinstance(error, CodecFailedError):
                raise OSError(
                    f"{span}, their compression cannot be undone ({error}): either the file is "
                    "damaged, or it was compressed in a way that is not known here; if there is "
                    "another copy of it, try that"
                ) from error
            raise OSError(f"{span}, the file is damaged ({error})") from error
        if not is_direct:
            down, across = divmod(tile, index.grid[2])
            top, left = down * self._chunk[1], across * self._chunk[2]
            target = out[
                first - start : last - start,
                top : top + self._chunk[1],
                left : left + self._chunk[2],
            ]
            frames = decoded.view(self._stored_dtype).reshape(self._chunk)
            _, height, width = target.shape
            target[...] = frames[first - begin : last - begin, :height, :width]


class _OfThread(threading.local):
    """What each thread has of its own: room for stored bytes, and for a chunk of them decoded."""

    def __init__(self, size: int) -> None:
        self.scratch = np.empty(size, np.uint8)
        self._bytes = memoryview(bytearray(0))

    def room(self, size: int) -> memoryview:
        """Return room for that many bytes, which the next call takes again."""
        if len(self._bytes) < size:
            self._bytes = memoryview(bytearray(size))
        return self._bytes[:size]
