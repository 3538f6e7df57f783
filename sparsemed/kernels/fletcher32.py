"""The checksum of HDF5 chunks, several times as fast as word by word.

Fletcher's first sum is that of all words, the second that of all values of the first. Of n words,
word ``i`` counts n - i times in the second sum, so that words can be added in any order: here in
rows of LANES words, each lane by itself. In the total of the second sum, a lane counts LANES times
for each row, minus its place in the row.

Both sums are taken modulo 65535, where 65535 stands for 0 unless all words are 0. The first byte of
a word is the high one in HDF5. Modulo 65535, swapping the bytes of all words swaps the bytes of
both sums.

Source: J. G. Fletcher, "An arithmetic checksum for serial transmissions", IEEE Transactions on
Communications 30 (1982) 247-252, as HDF5 applies it (``H5_checksum_fletcher32``).
"""

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsemed.kernels.compiling import Kernel, kernel, part, ready

LANES = 64
"""Words in a row."""

ROWS = 256
"""Rows after which sums are reduced, so that those of a lane stay below 2³²."""


def fletcher32(data: Any) -> int:
    """Return the checksum of bytes as in HDF5.

    Parameters
    ----------
    data : bytes-like
        If their number is odd, the last is the high byte of a word.

    Returns
    -------
    int
        The second sum in the higher 16 bits, the first in the lower ones.
    """
    found = np.frombuffer(data, np.uint8)
    words, odd = found[: len(found) // 2 * 2].view("<u2"), found[len(found) // 2 * 2 :]
    arguments = _arguments(words if words.flags.aligned else words.copy(), odd)
    first, second = (int(each).to_bytes(2, "little") for each in _compiled()(*arguments))
    return int.from_bytes(second + first, "big")


def _arguments(words: NDArray[Any], odd: NDArray[Any]) -> tuple[NDArray[Any], ...]:
    return words, odd, *np.empty((2, LANES), np.uint32)


@functools.cache
def _compiled() -> Kernel:
    nothing = np.frombuffer(b"", np.uint8)
    return ready(_sums, *_arguments(nothing.view("<u2"), nothing))


@part
def _modulo(number):  # type: ignore[no-untyped-def]
    return (number - 1) % 65535 + 1 if number > 0 else 0


@kernel
def _sums(words, odd, a, b):  # type: ignore[no-untyped-def]
    """Return both sums of words and of an odd byte; `a` and `b` are room for those of lanes."""
    first = second = np.int64(0)
    for begin in range(0, len(words), ROWS * LANES):
        end = min(begin + ROWS * LANES, len(words))
        for lane in range(LANES):
            a[lane] = b[lane] = 0
        at = begin
        while at + 4 * LANES <= end:  # by four, as the time goes to a and b
            w, x = words[at : at + LANES], words[at + LANES : at + 2 * LANES]
            y, z = words[at + 2 * LANES : at + 3 * LANES], words[at + 3 * LANES : at + 4 * LANES]
            for lane in range(LANES):
                one = a[lane] + w[lane]
                two = one + x[lane]
                three = two + y[lane]
                four = three + z[lane]
                a[lane] = four
                b[lane] += one + two + three + four
            at += 4 * LANES
        second += (at - begin) * first
        for lane in range(LANES):
            first += np.int64(a[lane])
            second += LANES * np.int64(b[lane]) - lane * np.int64(a[lane])
        for i in range(at, end):
            first += np.int64(words[i])
            second += first
        first, second = _modulo(first), _modulo(second)
    for byte in odd:
        first += np.int64(byte)
        second += first
    return _modulo(first), _modulo(second)
