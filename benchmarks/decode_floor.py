"""Read and decode the images of a measurement on all cores, and do nothing else.

A program of its own: ``python decode_floor.py measurement.rtdc``. It shares no
line with sparsemed's reader, and shows how much of a run is decompression,
which no way of computing the background can avoid. It prints the seconds that
it took, without the imports.
"""

import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import h5py
import imagecodecs
import numpy as np

FLETCHER32 = 3
DECODE = {1: imagecodecs.deflate_decode, 32015: imagecodecs.zstd_decode}

PIECE_BYTES = 2 * 1024**2
"""What is read at once of frames without filters."""


class Chunk(NamedTuple):
    """Where a chunk is in the file, and the first frame, row and column of it."""

    begin: tuple[int, ...]
    place: int
    size: int


@contextmanager
def open_chunks(path: Path) -> Iterator[tuple[list[Chunk], Callable[[Chunk], np.ndarray]]]:
    """Provide the chunks of the images, and the function that reads and decodes one.

    What the function returns is the thread's own buffer: the next call in the
    same thread overwrites it.
    """
    with h5py.File(path, "r") as h5:
        images = h5["events/image"]
        chunks, filters = _chunks(images)
        shape = images.chunks
    largest = max(chunk.size for chunk in chunks)
    own = threading.local()

    def decode(chunk: Chunk) -> np.ndarray:
        if not hasattr(own, "file"):
            own.file = files.enter_context(open(path, "rb", buffering=0))  # noqa: SIM115
            own.stored = bytearray(largest)
            own.frames = np.empty(math.prod(shape) if filters else largest, np.uint8)
        data = memoryview(own.stored)[: chunk.size]
        own.file.seek(chunk.place)
        if own.file.readinto(data) != chunk.size:
            raise OSError(f"{path}: the file ends within a chunk")
        if not filters:
            return np.frombuffer(data, np.uint8)
        for number in reversed(filters):
            if number == FLETCHER32:
                data, checksum = data[:-4], data[-4:]
                if imagecodecs.h5checksum_fletcher32(data) != int.from_bytes(checksum, "little"):
                    raise OSError(f"{path}: wrong checksum")
            else:
                DECODE[number](data, out=own.frames)
        return own.frames.reshape(shape)

    with ExitStack() as files:
        yield chunks, decode


def _chunks(images: h5py.Dataset) -> tuple[list[Chunk], list[int]]:
    """Return the chunks of a dataset, and the numbers of its filters.

    Without filters there is nothing to decode, and large pieces stand for the chunks.
    """
    found: list[Chunk] = []
    filters: list[int] = []
    if images.chunks is None:
        found.append(Chunk((0, 0, 0), images.id.get_offset(), images.nbytes))
    else:
        images.id.chunk_iter(
            lambda each: found.append(Chunk(each.chunk_offset, each.byte_offset, each.size))
        )
        plist = images.id.get_create_plist()
        filters = [plist.get_filter(i)[0] for i in range(plist.get_nfilters())]
    if not filters:
        begin = min(each.place for each in found)
        end = max(each.place + each.size for each in found)
        found = [
            Chunk((), place, min(PIECE_BYTES, end - place))
            for place in range(begin, end, PIECE_BYTES)
        ]
    return found, filters


def decode_all(path: Path) -> None:
    """Read and decode all chunks, on all cores."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count()
    with open_chunks(path) as (chunks, decode), ThreadPoolExecutor(cores) as pool:

        def decode_some(first: int) -> None:
            for chunk in chunks[first : first + 16]:
                decode(chunk)

        for _ in pool.map(decode_some, range(0, len(chunks), 16)):
            pass


def main() -> None:
    began = time.perf_counter()
    decode_all(Path(sys.argv[1]))
    print(time.perf_counter() - began)


if __name__ == "__main__":
    main()
