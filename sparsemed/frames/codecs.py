"""HDF5 filters undone without HDF5, so that many threads can do it at once.

HDF5 holds one lock while it decodes. imagecodecs has all the codecs that occur
in measurements, and releases Python's lock.

Wrong checksums and lengths are damage. HDF5's word alone would not do: its Zstandard filter does
not notice when decoding fails, other filters make room for whatever the bytes yield, and where that
is less than a chunk, the rest is what lay in memory.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

try:
    import imagecodecs
except Exception as error:  # not there, or made for another NumPy: HDF5 reads in its place
    imagecodecs = None  # type: ignore[assignment,unused-ignore]
    _why_not = error

FLETCHER32 = 3
SHUFFLE = 2
DEFLATE = 1


class UndecodableError(Exception):
    """The bytes of a chunk are not what its filters can have made."""


class CodecFailedError(UndecodableError):
    """A codec does not take the bytes; another one might."""


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


def _require_size(found: int, size: int) -> None:
    if found != size:
        raise UndecodableError(f"{found} bytes instead of {size}")


DECOMPRESS: dict[int, Callable[..., Any]] = {
    DEFLATE: lambda data, out: imagecodecs.deflate_decode(data, out=out),
    32000: lambda data, out: imagecodecs.lzf_decode(data, out=out),
    32001: _decode_blosc,
    32004: _decode_lz4,
    # any number of frames, whether or not they say their size
    32015: lambda data, out: imagecodecs.zstd_decode(data, out=out),
}
"""Decompression functions by the registered numbers of HDF5 filters."""

KNOWN = frozenset({FLETCHER32, SHUFFLE, *DECOMPRESS})
"""The filters that can be undone here, if their codec is there."""

_TEXT = b"sparsemed " * 3
_SAMPLES = {
    DEFLATE: b"x\x9c+.H,*N\xcdMMQ(\xc6\xc2\x02\x00\xb9\xf4\x0b\xad",
    32000: b"\nsparsemed s\xe0\n\t",
    32001: b"\x02\x01\x03\x01\x1e\x00\x00\x00\x1e\x00\x00\x00.\x00\x00\x00" + _TEXT,
    32004: bytes(7) + b"\x1e\x00\x00\x00\x1e\x00\x00\x00\x13\xabsparsemed \n\x00Pemed ",
    32015: b"(\xb5/\xfd \x1e\x85\x00\x00Psparsemed \x01\x00\xa5\x0b\x12",
}
"""What `_TEXT` becomes by each filter that compresses."""


@functools.cache
def missing_codec(number: int) -> str | None:
    """Say why a filter cannot be undone here although it is known; None if it can.

    Builds of distributions and frozen programs lack some codecs, which shows when they are called.
    """
    if number == SHUFFLE:
        return None
    if imagecodecs is None:
        return f"imagecodecs cannot be imported: {_why_not}"
    try:
        if number == FLETCHER32:
            works = imagecodecs.h5checksum_fletcher32(_TEXT) == 2740538730
        else:
            works = bytes(DECOMPRESS[number](_SAMPLES[number], np.empty(30, np.uint8))) == _TEXT
    except Exception as error:  # whatever goes wrong with a library that is not whole
        return " ".join(str(error).split()) or repr(error)
    return None if works else "its codec does not work"


_TOO_SMALL = ("too small", "INSUFFICIENT_SPACE", "not large enough")
"""What codecs say when there is more in the bytes than there is room for."""


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
            If a checksum or a size is wrong.
        CodecFailedError
            If a codec does not take the bytes.
        """
        applied = self.filters
        if mask:
            applied = tuple(f for i, f in enumerate(self.filters) if not mask >> i & 1)
        data: Any = stored
        for position in reversed(range(len(applied))):
            number = applied[position]
            if number == FLETCHER32:
                data = _checked(data)
            elif number == SHUFFLE:
                if self.itemsize > 1:  # otherwise there is nothing to shuffle
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
        if any(words in str(error) for words in _TOO_SMALL):
            raise UndecodableError(f"more than {len(out)} bytes") from error
        raise CodecFailedError(str(error)) from error
    _require_size(len(written), len(out))
    return out
