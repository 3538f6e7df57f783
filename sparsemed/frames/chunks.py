"""Frames of an HDF5 dataset, read past HDF5: each chunk once, by many threads.

A layout says where in the file the chunks are. Reading and decoding them needs
no HDF5, and so waits for none of its locks.
"""

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sparsemed.frames.codecs import CodecFailedError, Pipeline, UndecodableError
from sparsemed.frames.layout import HEAVY_BYTES, Layout
from sparsemed.frames.source import Batch, Read, Spans
from sparsemed.storage.stored import StoredBytes

BATCH_BYTES = 2 * 1024**2
"""Bytes of frames that a thread reads at once, unless a chunk is larger."""

ROWS_BYTES = 64 * 1024
"""Bytes of an uncompressed frame above which a few rows of it are read alone.

Below, one read of whole frames takes less time than many reads of a few rows.
"""


class _Run(NamedTuple):
    """Chunks that lie together in the file, and are read together.

    Attributes
    ----------
    begin, end : int
        Offsets in the file.
    chunks : range or list of int
        Their numbers in the index, in the order of the file; a range if they are consecutive.
    """

    begin: int
    end: int
    chunks: range | list[int]


class ChunkFrames:
    """The frames of a layout without `sparsemed.frames.layout.obstacle`.

    Parameters
    ----------
    layout : Layout
    stored : StoredBytes
        The file with this layout.
    num_cpus : int
        Threads that read and decode.
    label : str
        Name of the images in errors.
    """

    def __init__(self, layout: Layout, stored: StoredBytes, num_cpus: int, label: str) -> None:
        self.layout = layout
        self.stored = stored
        self.label = label
        self.shape = layout.shape
        self.dtype = layout.dtype.newbyteorder("=")
        self._chunk = layout.chunk
        self.block = self._chunk[0]
        _, height, width = layout.shape
        block_bytes = self.block * height * width * self.dtype.itemsize
        self.batch = self.block * max(1, BATCH_BYTES // block_bytes)
        self._size = layout.chunk_bytes
        # Chunks of whole frames in native byte order are decoded straight into the output.
        self._is_direct = self._chunk[1:] == self.shape[1:] and layout.dtype == self.dtype
        at_once = min(num_cpus, stored.habits.at_once, 8 * HEAVY_BYTES // self._size)
        self.threads = max(1, at_once)
        self._pipeline = Pipeline(
            [(each.number, each.values) for each in layout.filters], self._size
        )
        self._is_copied = self._is_direct and not layout.filters
        self._frame_bytes = height * width * self.dtype.itemsize
        self._is_by_rows = self._is_copied and self._frame_bytes > ROWS_BYTES
        self.row_block = 1 if self._is_by_rows else min(self._chunk[1], height)
        self.unwritten: Spans = []  # if chunks are missing, HDF5 reads

    def interrupt(self) -> None:
        """End reads that are under way; see `sparsemed.frames.source.FrameSource`."""
        self.stored.interrupt()

    @contextmanager
    def reading(self, wanted: Iterable[Batch] = ()) -> Iterator[Read]:
        """Provide the function that reads; see `sparsemed.frames.source.FrameSource`."""
        self.stored.expect(each for batch in wanted for each in self._ranges(*batch))
        try:
            yield partial(self._read, _OfThread(self._size))
        finally:
            self.stored.close()

    def _ranges(self, start: int, stop: int, rows: int) -> list[tuple[int, int]]:
        """Return the ranges of the file to read for these rows of some frames."""
        if self._is_by_rows and rows < self.shape[1]:
            size = self._frame_bytes // self.shape[1] * rows
            begins = self._frame_addresses(start, stop)
            return [(begin, begin + size) for begin in begins]
        return [(run.begin, run.end) for run in self._runs(start, stop, rows)]

    def _frame_addresses(self, start: int, stop: int) -> list[int]:
        """Return the offsets of frames that need no decoding."""
        chunk, within = np.divmod(np.arange(start, stop), self.block)
        index = self.layout.index
        addresses = index.addresses[chunk - index.begin] + within * self._frame_bytes
        return addresses.tolist()  # type: ignore[no-any-return]

    def _runs(self, start: int, stop: int, rows: int) -> list[_Run]:
        """Return the chunks that hold these rows of some frames, in runs."""
        habits = self.stored.habits
        numbers, begins, ends = self._chunks_in_order(start, stop, rows)
        gaps = begins[1:] - ends[:-1]
        # A run ends where the next chunk lies elsewhere, or would make the run too long.
        # Uncompressed chunks without gaps are read straight into the output.
        is_apart = (gaps < 0) | (gaps > (0 if self._is_copied else habits.gap))
        piece = (ends - begins[0]) // habits.piece
        is_apart |= piece[1:] != piece[:-1]
        edges = [0, *(np.flatnonzero(is_apart) + 1).tolist(), len(begins)]
        return [
            _Run(int(begins[first]), int(ends[last - 1]), numbers[first:last])
            for first, last in pairwise(edges)
        ]

    def _chunks_in_order(
        self, start: int, stop: int, rows: int
    ) -> tuple[range | list[int], NDArray[np.int64], NDArray[np.int64]]:
        """Return numbers, begins and ends of these chunks, in the order of the file."""
        index = self.layout.index
        _, down, across = index.grid
        first, last = start // self.block, -(-stop // self.block)
        needed = min(down, -(-rows // self._chunk[1]))  # tiles below are left out
        listed = slice(first * down * across - index.begin, last * down * across - index.begin)
        begins, sizes = index.addresses[listed], index.sizes[listed]
        numbers: range | list[int] = range(first * down * across, last * down * across)
        if needed == down:
            ends = begins + sizes
            if (begins[1:] >= ends[:-1]).all():  # as it nearly always is
                return numbers, begins, ends
        kept = np.arange(len(begins)).reshape(-1, down * across)[:, : needed * across].ravel()
        order = kept[np.argsort(begins[kept], kind="stable")]
        begins, sizes = begins[order], sizes[order]
        return (order + numbers[0]).tolist(), begins, begins + sizes

    def _read(self, own: "_OfThread", start: int, stop: int, out: NDArray[Any]) -> None:
        """Read as many rows of some frames as `out` has."""
        if self._is_by_rows and out.shape[1] < self.shape[1]:
            for place, address in enumerate(self._frame_addresses(start, stop)):
                rows = out[place].reshape(-1).view(np.uint8)
                self._read_alone(memoryview(rows.data), address, (start + place, start + place + 1))
            return
        index = self.layout.index
        per_row = index.grid[1] * index.grid[2]
        for run in self._runs(start, stop, out.shape[1]):
            if self._copy(run, start, stop, out):
                continue
            bytes_ = own.room(run.end - run.begin)
            try:
                is_there = self.stored.read_into(bytes_, run.begin)
            except OSError:
                is_there = False
            for number in run.chunks:
                address = int(index.addresses[number - index.begin])
                size = int(index.sizes[number - index.begin])
                chunk = bytes_[address - run.begin : address - run.begin + size]
                if not is_there:  # find out which chunk
                    begin = number // per_row * self.block
                    self._read_alone(chunk, address, (begin, min(begin + self.block, stop)))
                self._decode(own, chunk, number, start, stop, out)

    def _copy(self, run: _Run, start: int, stop: int, out: NDArray[Any]) -> bool:
        """Read whole uncompressed frames straight into `out`; return whether that was possible."""
        begin, end = run.chunks[0] * self.block, (run.chunks[-1] + 1) * self.block
        if not (
            self._is_copied
            and isinstance(run.chunks, range)
            and start <= begin
            and end <= stop
            and out.shape[1:] == self.shape[1:]
            and run.end - run.begin == len(run.chunks) * self._size
        ):
            return False
        target = out[begin - start : end - start].reshape(-1).view(np.uint8)
        try:
            return self.stored.read_into(memoryview(target.data), run.begin)
        except OSError:  # reported by `_read_alone`, which knows the chunk
            return False

    def _read_alone(self, into: memoryview, address: int, frames: tuple[int, int]) -> None:
        """Read the stored bytes of some frames; errors name the frames."""
        span = f"{self.label}: frames {frames[0]} to {frames[1] - 1}"
        try:
            is_there = self.stored.read_into(into, address)
        except OSError as error:
            if error.errno is None:
                raise OSError(f"{span} cannot be read ({error})") from error
            raise OSError(error.errno, f"{span} cannot be read ({error.strerror})") from error
        if not is_there:  # HDF5 would read missing bytes as zeros
            raise OSError(f"{span} cannot be read, the file has become shorter")

    def _decode(
        self,
        own: "_OfThread",
        stored: memoryview,
        number: int,
        start: int,
        stop: int,
        out: NDArray[Any],
    ) -> None:
        """Decode a chunk, and put its part of the frames from start to stop into `out`."""
        index = self.layout.index
        row, tile = divmod(number, index.grid[1] * index.grid[2])
        begin = row * self.block
        first, last = max(begin, start), min(begin + self.block, stop)
        is_direct = self._is_direct and last - first == self.block and out.shape[1] == self.shape[1]
        if is_direct:
            decoded = out[first - start : last - start].reshape(-1).view(np.uint8)
        else:
            decoded = own.scratch
        try:
            self._pipeline.decode(stored, int(index.masks[number - index.begin]), decoded)
        except UndecodableError as error:
            span = f"{self.label}: frames {first} to {last - 1} cannot be read"
            if isinstance(error, CodecFailedError):
                raise OSError(
                    f"{span}, decompression failed ({error}): either the file is damaged, "
                    "or its compression is unknown here; try another copy of the file"
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
            frames = decoded.view(self.layout.dtype).reshape(self._chunk)
            _, height, width = target.shape
            target[...] = frames[first - begin : last - begin, :height, :width]


class _OfThread(threading.local):
    """Buffers of a thread: one for stored bytes, one for a decoded chunk."""

    def __init__(self, size: int) -> None:
        self.scratch = np.empty(size, np.uint8)
        self._bytes = memoryview(bytearray(0))

    def room(self, size: int) -> memoryview:
        """Return a buffer of that many bytes, which the next call overwrites."""
        if len(self._bytes) < size:
            self._bytes = memoryview(bytearray(size))
        return self._bytes[:size]
