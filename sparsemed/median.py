"""The median image of a window of frames: one Numba kernel.

Nothing is sorted and nothing is copied. The kernel finds the wanted value of
each pixel bit by bit, by counting.
"""

import functools
from typing import Any

import numba
import numpy as np
from numba import njit, prange
from numpy.typing import ArrayLike, NDArray

from sparsemed.cores import kernel_threads

CACHE_BYTES = 400_000
"""What one chunk of pixels may weigh, over all frames: it should stay in a core's cache."""


@njit(parallel=True, nogil=True, cache=True)
def _select_rank(frames, rank, bits, chunk, image):  # type: ignore[no-untyped-def]
    """Write the value at `rank` of the sorted values of each pixel into `image`.

    The value at rank ``r`` is the largest ``v`` below which there are at most
    ``r`` frames. So its bits can be tried one by one, the most significant
    first: set the bit, count the frames below the candidate, and keep the bit
    if there are at most ``r`` of them. As the count never falls while the
    candidate grows, no decision has to be taken back.

    The inner loops run along pixels, which are contiguous, and count in bytes,
    which makes them a handful of vector instructions; the bytes are emptied
    into wide counters before they can overflow (31 times 8 frames).

    Parameters
    ----------
    frames : array, shape (K, P), unsigned integers
    rank : int, from 0 to K - 1
    bits : array of the same dtype
        The powers of two of that dtype, the largest first.
    chunk : int
        Pixels that one thread handles at a time.
    image : array, shape (P,), same dtype
        Receives the result.
    """
    count, pixels = frames.shape
    for c in prange(-(-pixels // chunk)):
        lo = c * chunk
        hi = min(lo + chunk, pixels)
        width = hi - lo
        value = np.zeros(width, frames.dtype)
        candidate = np.empty(width, frames.dtype)
        few = np.empty(width, np.uint8)
        below = np.empty(width, np.uint32)
        for bit in bits:
            for j in range(width):
                candidate[j] = value[j] | bit
            below[:] = 0
            for first in range(0, count, 248):
                last = min(first + 248, count)
                few[:] = 0
                k = first
                while k + 8 <= last:
                    a, b = frames[k, lo:hi], frames[k + 1, lo:hi]
                    c_, d = frames[k + 2, lo:hi], frames[k + 3, lo:hi]
                    e, f = frames[k + 4, lo:hi], frames[k + 5, lo:hi]
                    g, h = frames[k + 6, lo:hi], frames[k + 7, lo:hi]
                    for j in range(width):
                        v = candidate[j]
                        few[j] += (
                            (a[j] < v) + (b[j] < v) + (c_[j] < v) + (d[j] < v)
                            + (e[j] < v) + (f[j] < v) + (g[j] < v) + (h[j] < v)
                        )  # fmt: skip
                    k += 8
                while k < last:
                    a = frames[k, lo:hi]
                    for j in range(width):
                        few[j] += a[j] < candidate[j]
                    k += 1
                for j in range(width):
                    below[j] += few[j]
            for j in range(width):
                if below[j] <= rank:
                    value[j] = candidate[j]
        image[lo:hi] = value


def median_image(stack: ArrayLike, num_cpus: int | None = None) -> NDArray[Any]:
    """Return the median of each pixel over a stack of frames.

    For an even number of frames this is the *upper* of the two middle values:
    the element at index ``K // 2`` of the K sorted values, never a mean.

    Parameters
    ----------
    stack : array-like, shape (K, H, W), uint8 or uint16
        The frames, along the first axis. Any memory layout and byte order; a
        stack that is not C-contiguous in native byte order is copied once.
    num_cpus : int, optional
        Largest number of threads. Default: all cores available.

    Returns
    -------
    ndarray, shape (H, W), of the stack's dtype

    Raises
    ------
    TypeError
        If the dtype is neither uint8 nor uint16.
    ValueError
        If the stack is not of rank 3, holds no frame, or `num_cpus` is not a
        whole number from 1 up.

    Examples
    --------
    >>> import numpy as np
    >>> stack = np.array([[[7, 1]], [[5, 2]], [[6, 9]]], dtype=np.uint8)
    >>> median_image(stack)
    array([[6, 2]], dtype=uint8)
    """
    frames = np.asarray(stack)
    if frames.dtype.kind != "u" or frames.dtype.itemsize > 2:
        raise TypeError(
            f"stack: dtype must be uint8 or uint16, got {frames.dtype}; "
            "convert it, for example with stack.astype(numpy.uint8)"
        )
    if frames.ndim != 3 or frames.shape[0] == 0:
        raise ValueError(f"stack: shape must be (K, H, W) with K >= 1, got {frames.shape}")
    native = np.ascontiguousarray(frames, dtype=frames.dtype.newbyteorder("="))
    image = np.empty(native.shape[1:], dtype=native.dtype)
    if image.size:
        median_into(native, image, num_cpus)
    return image


def median_into(frames: NDArray[Any], image: NDArray[Any], num_cpus: int | None) -> None:
    """Write the median of C-contiguous native `frames` (K, H, W) into `image` (H, W)."""
    flat = frames.reshape(len(frames), -1)
    flat.flags.writeable = False  # one type for the compiler, whatever the caller has
    with kernel_threads(num_cpus):
        share = -(-flat.shape[1] // numba.get_num_threads())
        chunk = min(share, max(512, CACHE_BYTES // (flat.itemsize * len(flat))))
        _select_rank(flat, len(flat) // 2, _bits(flat.dtype), chunk, image.reshape(-1))


@functools.cache
def _bits(dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return the powers of two of an unsigned dtype, the largest first."""
    return (1 << np.arange(8 * dtype.itemsize)[::-1]).astype(dtype)
