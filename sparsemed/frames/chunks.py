"""Frames of an HDF5 dataset, read past HDF5: each chunk once, by many threads.

HDF5 tells where in the file the chunks are. From there on it is reading and
decoding, which needs no HDF5 and hence waits for none of its locks.
"""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property, partial
from itertools import product
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from sparsemed.frames import Read
from sparsemed.frames.codecs import KNOWN, Pipeline, UndecodableError

BATCH_BYTES = 2 * 1024**2
"""Weight of the frames that a thread reads at once, if chunks are no heavier."""


def obstacle(dataset: h5py.Dataset) -> str | None:
    """Say why a dataset has to be read by HDF5 itself, or None if it need not be.

    Parameters
    ----------
    dataset : h5py.Dataset
        Images, of shape (N, H, W).

    Returns
    -------
    str or None

    Examples
    --------
    >>> import h5py
    >>> with h5py.File("memory.h5", "w", driver="core", backing_store=False) as h5:
    ...     obstacle(h5.create_dataset("image", data=[[[1]]], dtype="u1"))
    'it is not stored in chunks'
    """
    if dataset.chunks is None:  # contiguous, compact, external, or virtual
        return "it is not stored in chunks"
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
    if unknown := [number for number in _filters(dataset) if number not in KNOWN]:
        return f"of its filters, those of number {unknown} are not known here"
    try:
        chunks = _index_of_chunks(dataset)
    except RuntimeError as error:
        return f"its index of chunks cannot be read ({error})"
    steps = [range(0, n, step) for n, step in zip(dataset.shape, dataset.chunks, strict=True)]
    if [chunk.chunk_offset for chunk in chunks] != list(product(*steps)):
        return "some of its chunks were never written"
    # No filter makes a chunk twice as large: such sizes, of which buffers would
    # be made, are those of a damaged index.
    plain = int(np.prod(dataset.chunks)) * dataset.dtype.itemsize
    if max(chunk.size for chunk in chunks) > 2 * plain + 65536:
        return "some of its chunks are larger than they can be"
    return None


def _index_of_chunks(dataset: h5py.Dataset) -> list[Any]:
    """Return where the chunks of a dataset are, in the order of the frames."""
    chunks: list[Any] = []
    dataset.id.chunk_iter(chunks.append)
    return sorted(chunks, key=lambda chunk: chunk.chunk_offset)


def _filters(dataset: h5py.Dataset) -> tuple[int, ...]:
    plist = dataset.id.get_create_plist()
    return tuple(plist.get_filter(i)[0] for i in range(plist.get_nfilters()))


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
        self.threads = num_cpus

        self._pipeline = Pipeline(
            _filters(dataset),
            self.dtype.itemsize,
            int(np.prod(dataset.chunks)) * self.dtype.itemsize,
        )

    @cached_property
    def _chunks(self) -> list[Any]:
        """Where the chunks are; read when frames are, as a job reopens its input at the end."""
        return _index_of_chunks(self.dataset)

    @property
    def _per_row(self) -> int:
        """Chunks of a row of them; as none is missing, each row has as many."""
        return len(self._chunks) // -(-self.shape[0] // self.block)

    @contextmanager
    def reading(self) -> Iterator[Read]:
        """Provide the function that reads; see `sparsemed.frames.FrameSource`."""
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
        stored = own.read_stored(chunk.byte_offset, chunk.size)
        if stored is None:  # HDF5 would take what is missing for zeros
            raise OSError(
                f"{self.label}: frames {begin[0]} to {ends[0] - 1} cannot be read, "
                "the file has become shorter"
            )
        try:
            self._pipeline.decode(stored, chunk.filter_mask, decoded)
        except UndecodableError as reason:
            target[...] = self._ask_hdf5(here, reason)
            return
        if not direct:
            frames = decoded.view(self.dataset.dtype).reshape(self.dataset.chunks)
            within = tuple(slice(s.start - b, s.stop - b) for s, b in zip(here, begin, strict=True))
            target[...] = frames[within]

    def _ask_hdf5(self, here: tuple[slice, ...], reason: UndecodableError) -> NDArray[Any]:
        """Let HDF5 read what could not be decoded; it has the last word on what is broken."""
        try:
            frames: NDArray[Any] = self.dataset[here]
        except OSError as error:
            span = here[0]
            raise OSError(
                f"{self.label}: frames {span.start} to {span.stop - 1} cannot be read, the file "
                f"is damaged ({reason}; HDF5: {error})"
            ) from error
        return frames


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
