"""HDF5 filters undone without HDF5, so that many threads can do it at once.

HDF5 holds one lock while it decodes. imagecodecs has all the codecs that occur
in measurements, and releases Python's lock; so does the checksum of our own.

Wrong checksums and lengths count as damage. HDF5 checks less: its Zstandard filter does not
notice when decoding fails, other filters accept any length, and if a chunk comes out short, HDF5
fills it with whatever lay in memory.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

try:
    import imagecodecs
except Exception as error:  # missing, or built for another NumPy: HDF5 reads instead
    imagecodecs = None  # type: ignore[assignment,unused-ignore]
    _why_not = error

Values = tuple[int, ...]
"""Parameters of a filter when it was applied, such as a level."""


class UndecodableError(Exception):
    """The bytes of a chunk cannot come from its filters."""


class CodecFailedError(UndecodableError):
    """A codec fails on the bytes; another decoder might not."""


class Codec(NamedTuple):
    """One HDF5 filter, undone.

    Attributes
    ----------
    number : int
        Its number in HDF5's registry of filters.
    name : str
        Its common name.
    decode : callable
        ``decode(data, out, values)`` returns the bytes before the filter. Whatever the data, it
        never writes beyond `out`, an array of uint8 of the length of the result. It need not use
        `out`.
    sample : bytes
        `TEXT` after the filter; decoding it shows whether the codec works.
    added : int or None
        Bytes that the filter adds to each chunk; None if it compresses.
    accepts : callable
        ``accepts(values)`` tells whether chunks with such values are decoded here.
    has_level : bool
        Whether the first of its values is a level, which `info` shows.
    """

    number: int
    name: str
    decode: Callable[[Any, Any, Values], Any]
    sample: bytes
    added: int | None = None
    accepts: Callable[[Values], bool] = lambda _: True
    has_level: bool = False


def _undo_checksum(data: Any, _out: Any, _values: Values) -> Any:
    """Return data without the checksum at its end, which must be right."""
    from sparsemed.kernels.fletcher32 import fletcher32  # imports Numba, which takes a moment

    if len(data) < 4:
        raise UndecodableError(f"{len(data)} bytes, which is no checksum")
    content: Any = memoryview(data)[:-4]
    checksum = bytes(memoryview(data)[-4:])
    if fletcher32(content) != int.from_bytes(checksum, "little"):
        raise UndecodableError("wrong checksum")
    return memoryview(content)


def _undo_shuffle(data: Any, out: Any, values: Values) -> Any:
    """Return data with the bytes of each element together again; a rest stays as it is."""
    (itemsize,) = values
    if itemsize == 1:  # there is nothing to shuffle
        return data
    shuffled = np.frombuffer(data, np.uint8)
    _require_size(len(shuffled), len(out))
    whole = len(shuffled) // itemsize * itemsize
    out[:whole].reshape(-1, itemsize)[...] = shuffled[:whole].reshape(itemsize, -1).T
    out[whole:] = shuffled[whole:]
    return out


def _undo_blosc(data: Any, out: Any, _: Values) -> Any:
    """Decode Blosc data, after a check of its length, which the decoder does not do."""
    if len(data) < 16 or int.from_bytes(data[12:16], "little") > len(data):
        raise UndecodableError("it is shorter than its header says")
    _require_size(int.from_bytes(data[4:8], "little"), len(out))
    return imagecodecs.blosc_decode(
        data[: int.from_bytes(data[12:16], "little")], numthreads=1, out=out
    )


def _undo_lz4(data: Any, out: Any, _: Values) -> Any:
    _require_size(int.from_bytes(data[:8], "big"), len(out))
    return imagecodecs.lz4h5_decode(data, out=out)


def _require_size(found: int, size: int) -> None:
    if found != size:
        raise UndecodableError(f"{found} bytes instead of {size}")


TEXT = b"sparsemed " * 3
"""The content of samples."""

_CODECS = (
    Codec(
        number=1,
        name="gzip",
        decode=lambda data, out, _: imagecodecs.deflate_decode(data, out=out),
        sample=b"x\x9c+.H,*N\xcdMMQ(\xc6\xc2\x02\x00\xb9\xf4\x0b\xad",
        accepts=lambda values: len(values) == 1 and values[0] <= 9,
        has_level=True,
    ),
    Codec(
        number=2,
        name="shuffle",
        decode=_undo_shuffle,
        sample=TEXT[::2] + TEXT[1::2],
        added=0,
        accepts=lambda values: values in ((1,), (2,)),
    ),
    Codec(
        number=3,
        name="fletcher32",
        decode=_undo_checksum,
        sample=TEXT + (2740538730).to_bytes(4, "little"),
        added=4,
    ),
    Codec(
        number=32000,
        name="lzf",
        decode=lambda data, out, _: imagecodecs.lzf_decode(data, out=out),
        sample=b"\nsparsemed s\xe0\n\t",
    ),
    Codec(
        number=32001,
        name="blosc",
        decode=_undo_blosc,
        sample=b"\x02\x01\x03\x01\x1e\x00\x00\x00\x1e\x00\x00\x00.\x00\x00\x00" + TEXT,
    ),
    Codec(
        number=32004,
        name="lz4",
        decode=_undo_lz4,
        sample=bytes(7) + b"\x1e\x00\x00\x00\x1e\x00\x00\x00\x13\xabsparsemed \n\x00Pemed ",
    ),
    Codec(
        number=32015,
        name="zstd",
        # any number of frames, whether or not they say their size
        decode=lambda data, out, _: imagecodecs.zstd_decode(data, out=out),
        sample=b"(\xb5/\xfd \x1e\x85\x00\x00Psparsemed \x01\x00\xa5\x0b\x12",
        has_level=True,
    ),
)

CODECS = {codec.number: codec for codec in _CODECS}
"""The filters that can be undone here, if their codec works, by number."""


@functools.cache
def missing_codec(number: int) -> str | None:
    """Return why a known filter cannot be undone here, or None if it can.

    Some distributions and frozen programs lack codecs; only a call shows it.
    """
    codec = CODECS[number]
    if codec.added is not None:  # it is written here
        return None
    try:
        # The values are those of shuffled pairs of bytes; no other filter looks at them.
        works = bytes(codec.decode(codec.sample, np.empty(len(TEXT), np.uint8), (2,))) == TEXT
    except UndecodableError:
        works = False
    except Exception as error:  # an incomplete library may raise anything
        if imagecodecs is None:
            return f"imagecodecs cannot be imported: {_why_not}"
        return " ".join(str(error).split()) or repr(error)
    return None if works else "its codec does not work"


_TOO_SMALL = ("too small", "INSUFFICIENT_SPACE", "not large enough")
"""Words in the errors of codecs if the decoded bytes exceed the buffer."""


class Pipeline:
    """How the chunks of a dataset are decoded.

    Parameters
    ----------
    filters : list of (int, tuple of int)
        Number and values of each filter, in the order in which they were applied: no more than
        one that compresses.
    size : int
        Bytes of a chunk before any filter.
    """

    def __init__(self, filters: list[tuple[int, Values]], size: int) -> None:
        self.size = size
        self._filters = [(CODECS[number], values) for number, values in filters]
        self._steps = _steps(self._filters, size)

    def decode(self, stored: memoryview, mask: int, out: NDArray[np.uint8]) -> None:
        """Undo the filters of one chunk.

        No size in the bytes decides how much memory is allocated.

        Parameters
        ----------
        stored : memoryview
            The chunk as stored in the file.
        mask : int
            If bit ``i`` is set, filter ``i`` was skipped for this chunk.
        out : ndarray of uint8, shape (size,)
            Receives the chunk.

        Raises
        ------
        UndecodableError
            If a checksum or a size is wrong.
        CodecFailedError
            If a codec fails.
        """
        steps = self._steps
        if mask:
            applied = [each for i, each in enumerate(self._filters) if not mask >> i & 1]
            steps = _steps(applied, self.size)
        data: Any = stored
        for step in steps[:-1]:
            known = step.size
            size = max(0, len(data) - (step.codec.added or 0)) if known is None else known
            data = _undone(step, data, np.empty(size, np.uint8))
        for step in steps[-1:]:
            data = _undone(step, data, out)
        _require_size(len(data), self.size)
        if data is not out:
            out[:] = np.frombuffer(data, np.uint8)


class _Step(NamedTuple):
    """A filter to undo; `size` is the length of its result, or None if unknown."""

    codec: Codec
    values: Values
    size: int | None


def _steps(filters: list[tuple[Codec, Values]], size: int) -> list[_Step]:
    """Return the steps that undo filters, for chunks of some size."""
    steps = []
    left: int | None = size
    for codec, values in filters:
        steps.append(_Step(codec, values, left))
        # Compressed data has any size; other filters add a fixed number of bytes.
        left = None if left is None or codec.added is None else left + codec.added
    return steps[::-1]


def _undone(step: _Step, data: Any, out: NDArray[np.uint8]) -> Any:
    codec = step.codec
    try:
        decoded = codec.decode(data, out, step.values)
    except UndecodableError:
        raise
    except Exception as error:  # each codec has an error of its own
        if any(words in str(error) for words in _TOO_SMALL):
            raise UndecodableError(f"more than {len(out)} bytes") from error
        raise CodecFailedError(str(error)) from error
    _require_size(len(decoded), len(out))
    return out if codec.added is None else decoded
