"""The median images of windows of frames: one Numba kernel.

Nothing is sorted and nothing is copied. The value at rank ``r`` of a pixel is
the largest ``v`` below which there are at most ``r`` frames, and everything
here is counting how many frames are below some value.
"""

import functools
from typing import Any

import numba
import numpy as np
from numba import njit, prange
from numpy.typing import ArrayLike, NDArray

from sparsemed.kernels.compiling import call, kernel
from sparsemed.kernels.cores import check_num_cpus, kernel_threads, share_out

CACHE_BYTES = 400_000
"""What one chunk of pixels may weigh, over the frames of a window: a core's cache holds it."""

LEVELS = 8
"""Values around the median for which counts are kept while windows overlap."""

GUESSES = 4
"""Values around the last window's median that are tried first where windows do not."""

NEAR = 4
"""Counts are updated if at most one in NEAR frames of a window is new."""

FEW = 32
"""Pixels are searched for one by one if at most one in FEW is left."""


@njit(nogil=True)  # type: ignore[untyped-decorator,unused-ignore]
def _count_below(frames, rows, lo, hi, limit, few, below):  # type: ignore[no-untyped-def]
    """Count, for pixels lo to hi, the frames in `rows` that are below `limit`.

    The inner loops run along pixels, which are contiguous, and count in bytes,
    which makes them a handful of vector instructions; the bytes are emptied
    into wide counters before they can overflow (31 times 8 frames).
    """
    width = hi - lo
    for j in range(width):
        below[j] = 0
    for begin in range(0, len(rows), 248):
        end = min(begin + 248, len(rows))
        for j in range(width):
            few[j] = 0
        k = begin
        while k + 8 <= end:
            a, b = frames[rows[k], lo:hi], frames[rows[k + 1], lo:hi]
            c, d = frames[rows[k + 2], lo:hi], frames[rows[k + 3], lo:hi]
            e, f = frames[rows[k + 4], lo:hi], frames[rows[k + 5], lo:hi]
            g, h = frames[rows[k + 6], lo:hi], frames[rows[k + 7], lo:hi]
            for j in range(width):
                v = limit[j]
                few[j] += (  # 0 makes it a number, where Python runs this without Numba, too
                    0
                    + (a[j] < v)
                    + (b[j] < v)
                    + (c[j] < v)
                    + (d[j] < v)
                    + (e[j] < v)
                    + (f[j] < v)
                    + (g[j] < v)
                    + (h[j] < v)
                )
            k += 8
        while k < end:
            a = frames[rows[k], lo:hi]
            for j in range(width):
                few[j] += a[j] < limit[j]
            k += 1
        for j in range(width):
            below[j] += few[j]


@njit(nogil=True)  # type: ignore[untyped-decorator,unused-ignore]
def _count_below_each(frames, rows, lo, hi, limits, fews, below):  # type: ignore[no-untyped-def]
    """Do so for GUESSES limits at once, for which each value is loaded once.

    Four frames at a time are as many as there are registers for; 63 times four fill a byte.
    """
    width = hi - lo
    u, v, w, x = limits[0], limits[1], limits[2], limits[3]
    few_u, few_v, few_w, few_x = fews[0], fews[1], fews[2], fews[3]
    for level in range(GUESSES):
        for j in range(width):
            below[level, j] = 0
    for begin in range(0, len(rows), 252):
        end = min(begin + 252, len(rows))
        for level in range(GUESSES):
            for j in range(width):
                fews[level, j] = 0
        k = begin
        while k + 4 <= end:
            a, b = frames[rows[k], lo:hi], frames[rows[k + 1], lo:hi]
            c, d = frames[rows[k + 2], lo:hi], frames[rows[k + 3], lo:hi]
            for j in range(width):
                p, q, r, s = a[j], b[j], c[j], d[j]
                few_u[j] += 0 + (p < u[j]) + (q < u[j]) + (r < u[j]) + (s < u[j])
                few_v[j] += 0 + (p < v[j]) + (q < v[j]) + (r < v[j]) + (s < v[j])
                few_w[j] += 0 + (p < w[j]) + (q < w[j]) + (r < w[j]) + (s < w[j])
                few_x[j] += 0 + (p < x[j]) + (q < x[j]) + (r < x[j]) + (s < x[j])
            k += 4
        while k < end:
            a = frames[rows[k], lo:hi]
            for level in range(GUESSES):
                for j in range(width):
                    fews[level, j] += a[j] < limits[level, j]
            k += 1
        for level in range(GUESSES):
            for j in range(width):
                below[level, j] += fews[level, j]


@njit(nogil=True)  # type: ignore[untyped-decorator,unused-ignore]
def _count_in_column(column, limit, j):  # type: ignore[no-untyped-def]
    """Count the values of pixel j that are below its limit."""
    count = 0
    for each in column:
        count += each < limit[j]
    return count


@njit(nogil=True)  # type: ignore[untyped-decorator,unused-ignore]
def _select_in_chunk(frames, rows, starts, length, bits, lo, hi, done, images):  # type: ignore[no-untyped-def]
    """Write the median of each window into `images`, for pixels lo to hi.

    *One window.* The bits of the value at rank ``r`` can be tried one by one,
    the most significant first: set the bit, count the frames below the
    candidate, and keep the bit if there are at most ``r`` of them. As the count
    never falls while the candidate grows, no decision has to be taken back.

    *The next window.* Its median is hardly ever far from the last. Frames are
    counted below each of GUESSES values around that; the median is the last
    of the values with at most ``r`` frames below it, unless all or none are
    like that: then it is none of these values, and is searched for as above.

    *Overlapping windows.* Frames are counted below each of LEVELS values, and
    when the window moves on, the counts are updated by the frames that came
    and those that went.

    The result is the same in any case; only the time differs. Loops are
    written out, as array expressions take longer to compile.

    Parameters
    ----------
    frames : array, shape (n, P), unsigned integers
    rows : array of int
        For each frame, which row of `frames` it is in.
    starts : array of int, shape (m,), ascending
        First frame of each window.
    length : int
        Frames in a window.
    bits : array of the frames' dtype
        The powers of two of that dtype, the largest first.
    lo, hi : int
        First pixel, and the one after the last.
    done : int
        Windows whose medians are in `images` already.
    images : array, shape (m, P), of the frames' dtype
        Receives the result.
    """
    rank = length // 2
    top = bits[0] - 1 + bits[0]
    width = hi - lo
    value = np.empty(width, frames.dtype)
    limit = np.empty(width, frames.dtype)
    limits = np.empty((GUESSES, width), frames.dtype)
    fews = np.empty((GUESSES, width), np.uint8)
    few = fews[0]
    below = np.empty(width, np.int32)
    lowest = np.empty(width, frames.dtype)
    counts = np.empty((max(LEVELS, GUESSES), width), np.int32)
    passed = np.empty(width, np.uint8)
    column = np.empty(length, frames.dtype)
    left = np.empty(width, np.intp)
    lasted = 2  # windows for which counts were of use
    is_counted = False
    is_guessed = done > 0
    if is_guessed:
        for j in range(width):
            value[j] = images[done - 1, lo + j]
    for w in range(done, len(starts)):
        start = starts[w]
        window = rows[start : start + length]
        last = starts[max(w - 1, 0)]
        is_near = w > 0 and NEAR * (start - last) <= length
        # Where the median does not stay around for long, counting does not pay.
        is_anew = is_near and not is_counted and lasted >= 2
        is_counted = is_anew or (is_near and is_counted)
        levels = LEVELS if is_counted else GUESSES
        if is_anew or (is_guessed and not is_counted):
            # Of so many values one less can be told from the rest, the last median in their middle.
            back = max(levels // 2 - 1, 0)
            for j in range(width):
                lowest[j] = min(max(value[j], back) - back, top - levels + 1)

        if is_counted:
            if is_anew:
                lasted = 0
                counts[:] = 0
            for turn in range(1 if is_anew else 2):
                if is_anew:
                    part, sign = window, 1
                elif turn == 0:
                    part, sign = rows[last + length : start + length], 1  # they came
                else:
                    part, sign = rows[last:start], -1  # they went
                for level in range(LEVELS):
                    for j in range(width):
                        limit[j] = lowest[j] + level
                    _count_below(frames, part, lo, hi, limit, few, below)
                    for j in range(width):
                        counts[level, j] += sign * below[j]
        elif is_guessed:
            for level in range(GUESSES):
                for j in range(width):
                    limits[level, j] = lowest[j] + level
            _count_below_each(frames, window, lo, hi, limits, fews, counts)

        is_found = is_counted or is_guessed
        number_left = 0
        if is_found:
            for j in range(width):
                passed[j] = 0
            for level in range(levels):
                for j in range(width):
                    passed[j] += counts[level, j] <= rank
            for j in range(width):
                found = lowest[j] + passed[j] - 1
                if passed[j] == 0 or (passed[j] == levels and found != top):
                    left[number_left] = j
                    number_left += 1
                else:
                    value[j] = found
            is_found = FEW * number_left <= width

        if is_found:
            lasted += is_counted
            for j in left[:number_left]:
                for k in range(length):
                    column[k] = frames[window[k], lo + j]
                value[j] = 0
                for bit in bits:
                    limit[j] = value[j] | bit
                    if _count_in_column(column, limit, j) <= rank:
                        value[j] = limit[j]
                if is_counted:
                    back = LEVELS // 2 - 1
                    lowest[j] = min(max(value[j], back) - back, top - LEVELS + 1)
                    for level in range(LEVELS):
                        limit[j] = lowest[j] + level
                        counts[level, j] = _count_in_column(column, limit, j)
        else:
            is_counted = False
            for j in range(width):
                value[j] = 0
            for bit in bits:
                for j in range(width):
                    limit[j] = value[j] | bit
                _count_below(frames, window, lo, hi, limit, few, below)
                for j in range(width):
                    if below[j] <= rank:
                        value[j] = limit[j]
            # Where medians go far, guesses do not pay.
            moved = 0
            if w > 0:
                for j in range(width):
                    before = images[w - 1, lo + j]
                    moved += max(value[j], before) - min(value[j], before) >= GUESSES // 2
            is_guessed = FEW * moved <= width

        for j in range(width):
            images[w, lo + j] = value[j]


@kernel(parallel=True, nogil=True)  # type: ignore[untyped-decorator,unused-ignore]
def _select_medians(frames, rows, starts, length, bits, chunk, done, images):  # type: ignore[no-untyped-def]
    """Write the median of each window into `images`, by Numba's threads, chunk by chunk."""
    pixels = frames.shape[1]
    for number in prange(-(-pixels // chunk)):
        lo = number * chunk
        hi = min(lo + chunk, pixels)
        _select_in_chunk(frames, rows, starts, length, bits, lo, hi, done, images)


@kernel(nogil=True)  # type: ignore[untyped-decorator,unused-ignore]
def _select_medians_here(frames, rows, starts, length, bits, lo, hi, done, images):  # type: ignore[no-untyped-def]
    """Do so in the thread that calls it, for pixels lo to hi."""
    _select_in_chunk(frames, rows, starts, length, bits, lo, hi, done, images)


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
        If the stack is not of rank 3, holds no frame, or has masked values; or if
        `num_cpus` is not a whole number from 1 up.

    Examples
    --------
    >>> import numpy as np
    >>> stack = np.array([[[7, 1]], [[5, 2]], [[6, 9]]], dtype=np.uint8)
    >>> median_image(stack)
    array([[6, 2]], dtype=uint8)
    """
    if hasattr(stack, "__dask_graph__") and hasattr(stack, "compute"):
        stack = stack.compute()  # NumPy would drop the masks of its blocks
    frames = np.asarray(stack)
    if frames.dtype.kind != "u" or frames.dtype.itemsize > 2:
        raise TypeError(
            f"stack: dtype must be uint8 or uint16, got {frames.dtype}; "
            "convert it, for example with stack.astype(numpy.uint8)"
        )
    if frames.ndim != 3 or frames.shape[0] == 0:
        raise ValueError(f"stack: shape must be (K, H, W) with K >= 1, got {frames.shape}")
    if np.ma.is_masked(stack):
        raise ValueError(
            "stack: some values are masked, but this median leaves none out; "
            "fill them with stack.filled(value)"
        )
    native = np.ascontiguousarray(frames, dtype=frames.dtype.newbyteorder("="))
    images = np.empty((1, *native.shape[1:]), dtype=native.dtype)
    if images.size:
        rows, starts = np.arange(len(native)), np.zeros(1, np.intp)
        median_images(native, rows, starts, len(native), images, num_cpus)
    image: NDArray[Any] = images[0]
    return image


def median_images(
    frames: NDArray[Any],
    rows: NDArray[np.intp],
    starts: NDArray[np.intp],
    length: int,
    images: NDArray[Any],
    num_cpus: int | None,
    done: int = 0,
) -> None:
    """Write the median image of each window of frames into `images`.

    Parameters
    ----------
    frames : ndarray, shape (n, H, W), uint8 or uint16, native and C-contiguous
    rows : ndarray of int, shape (N,)
        Where in `frames` each frame is; those of no window are not looked at.
    starts : ndarray of int, shape (m,), ascending
        First frame of each window, as an index into `rows`. Windows that overlap
        by three quarters or more cost in proportion to the frames that are new.
    length : int
        Frames in a window.
    images : ndarray, shape (m, H, W), of the same dtype
        Receives the result.
    num_cpus : int or None
        Largest number of threads; None means all cores available.
    done : int
        Windows whose median images are there already; the last of them is where the search begins.
    """
    flat = frames.reshape(len(frames), -1)
    flat.flags.writeable = False  # one type for the compiler, whatever the caller has
    flat_images = images.reshape(len(images), -1)
    bits = _bits(flat.dtype)
    num_cpus = check_num_cpus(num_cpus)
    most = max(512, CACHE_BYTES // (flat.itemsize * length))
    with kernel_threads(num_cpus) as are_there:
        if are_there:
            chunk = min(most, -(-flat.shape[1] // numba.get_num_threads()))
            call(_select_medians, flat, rows, starts, length, bits, chunk, done, flat_images)
            return

        def select(lo: int, hi: int) -> None:
            call(_select_medians_here, flat, rows, starts, length, bits, lo, hi, done, flat_images)

        share_out(select, flat.shape[1], most, num_cpus)


@functools.cache
def _bits(dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return the powers of two of an unsigned dtype, the largest first."""
    return (1 << np.arange(8 * dtype.itemsize)[::-1]).astype(dtype)
