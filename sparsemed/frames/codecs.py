"""HDF5 filters undone without HDF5, so that many threads can do it at once.

HDF5 holds one lock while it decodes. imagecodecs has all the codecs that occur
in measurements, and releases Python's lock.

What this module finds wrong is wrong; HDF5 is not asked. Its Zstandard filter does
not notice when decoding fails, other filters make room for whatever the bytes yield,
and where that is less than a chunk, the rest is what lay in memory.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import imagecodecs
import numpy as np
from numpy.typing import NDArray

FLETCHER32 = 3
SHUFFLE = 2
DEFLATE = 1


class UndecodableError(Exception):
    """The bytes of a chunk are not what its filters can have made."""


def _decode_blosc(data: Any, out: Any) -> Any:
    """Decode Blosc data, which must be as long as it says: its decoder does not check that."""
    if len(data) < 16 or int.from_bytes(data[12:16], "little") > len(data):
        raise UndecodableError("it is shorter than its header says")
    _require_size(int.from_bytes(data[4:8], "little"), len(out))
    return imagecodecs.blosc_decode(
        data[: int.from_bytes(data[12:16], "little")], numthreads=1, out=out
    )


def _decode_lz4(data: Any, out: Any) -> Any:
    _require_size(int.from_bytes(data[:8], "big"), len(out))
    return imagecodecs.lz4h5_decode(data, out=out)


def _decode_zstd(data: Any, out: Any) -> Any:
    if (size := _zstd_size(bytes(data[:18]))) is None:
        raise UndecodableError("it does not say its size")
    _require_size(size, len(out))
    return imagecodecs.zstd_decode(data, out=out)


def _zstd_size(header: bytes) -> int | None:
    """Return the size that the header of a Zstandard frame tells, or None if it tells none."""
    if len(header) < 6 or header[:4] != b"\x28\xb5\x2f\xfd":
        return None
    descriptor = header[4]
    is_single = bool(descriptor & 0x20)  # one segment: no byte for the window
    width = (int(is_single), 2, 4, 8)[descriptor >> 6]
    begin = 5 + (not is_single) + (0, 1, 2, 4)[descriptor & 3]  # after the number of a dictionary
    if not width or len(header) < begin + width:
        return None
    size = int.from_bytes(header[begin : begin + width], "little")
    return size + 256 if width == 2 else size


def _require_size(found: int, size: int) -> None:
    if found != size:
        raise UndecodableError(f"{found} bytes instead of {size}")


DECOMPRESS: dict[int, Callable[..., Any]] = {
    DEFLATE: imagecodecs.deflate_decode,
    32000: imagecodecs.lzf_decode,
    32001: _decode_blosc,
    32004: _decode_lz4,
    32015: _decode_zstd,
}
"""Decompression functions by the registered numbers of HDF5 filters."""

KNOWN = frozenset({FLETCHER32, SHUFFLE, *DECOMPRESS})
"""The filters that can be undone here."""


class Pipeline(NamedTuple):
    """How the chunks of a dataset are stored.

    Attributes
    ----------
    filters : tuple of int
        Numbers of the filters, in the order in which they were applied.
    itemsize : int
        Bytes of an element.
    size : int
        Bytes of a chunk before any filter.
    """

    filters: tuple[int, ...]
    itemsize: int
    size: int

    def decode(self, stored: memoryview, mask: int, out: NDArray[np.uint8]) -> None:
        """Undo the filters of one chunk.

        Nothing is allocated by what the bytes say about themselves.

        Parameters
        ----------
        stored : memoryview
            The chunk as it is in the file.
        mask : int
            Bit ``i`` says that filter ``i`` was left out for this chunk.
        out : ndarray of uint8, shape (size,)
            Receives the chunk.

        Raises
        ------
        UndecodableError
            If a checksum or a size is wrong, or a codec fails.
        """
        applied = [f for i, f in enumerate(self.filters) if not mask >> i & 1]
        data: Any = stored
        for position in reversed(range(len(applied))):
            number = applied[position]
            if number == FLETCHER32:
                data = _checked(data)
            elif number == SHUFFLE:
                data = _unshuffled(data, self.itemsize)
            else:
                # checksums that were added earlier are still there
                size = self.size + 4 * applied[:position].count(FLETCHER32)
                whole = out if not position else np.empty(size, np.uint8)
                data = _decompressed(number, data, whole)
        _require_size(len(data), self.size)
        if data is not out:
            out[:] = np.frombuffer(data, np.uint8)


def _checked(data: Any) -> memoryview:
    """Return data without the checksum at its end, which must be right."""
    if len(data) < 4:
        raise UndecodableError(f"{len(data)} bytes, which is no checksum")
    content: Any = memoryview(data)[:-4]
    checksum = bytes(memoryview(data)[-4:])
    if imagecodecs.h5checksum_fletcher32(content) != int.from_bytes(checksum, "little"):
        raise UndecodableError("wrong checksum")
    return memoryview(content)


def _unshuffled(data: Any, itemsize: int) -> NDArray[np.uint8]:
    """Return data with the bytes of each element together again; what is left over stays."""
    flat = np.frombuffer(data, np.uint8)
    whole = len(flat) // itemsize * itemsize
    plain = np.empty_like(flat)
    plain[:whole] = flat[:whole].reshape(itemsize, -1).T.ravel()
    plain[whole:] = flat[whole:]
    return plain


def _decompressed(number: int, data: Any, out: NDArray[np.uint8]) -> NDArray[np.uint8]:
    try:
        written = DECOMPRESS[number](data, out=out)
    except UndecodableError:
        raise
    except Exception as error:  # each codec has an error of its own
        raise UndecodableError(str(error)) from error
    _require_size(len(written), len(out))
    return out
