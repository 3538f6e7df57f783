"""The median images of windows of frames: three Numba kernels, and the choice among them.

Nothing is sorted and nothing is copied. The value at rank ``r`` of a pixel is
the largest ``v`` such that at most ``r`` frames are below ``v``. So all kernels
count frames below some values.

Each kernel is compiled when it is first needed, or by `load_kernels`. Kernels share parts, which
are compiled again in each kernel. To compile fast, there are few parts, loops are written out, and
no part makes an array.

All kernels take

- frames (n, P), unsigned integers; for each frame its row in these; first frames of windows,
  ascending; frames in a window; and the powers of two of the dtype, the largest first;
- the first pixel, and the one after the last; and buffers, see `_room`;
- images (m, P), of the same dtype, for the medians; the window to begin with, and the one after
  the last.

They return the first window whose median they have not found.
"""

import functools
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sparsemed.kernels.compiling import Kernel, kernel, part, ready
from sparsemed.kernels.cores import check_num_cpus, share_out

CACHE_BYTES = 400_000
"""Bytes of one chunk of pixels over the frames of a window, which fit into the cache of a core."""

WORTH_BYTES = 2_000_000
"""Bytes of windows that are worth another thread, each window counted in full."""

LEVELS = 8
"""Number of values around the median for which counts are kept while windows overlap."""

GUESSES = 4
"""Number of values around the last median that are tried first if windows do not overlap."""

NEAR = 4
"""Counts are updated if at most one in NEAR frames of a window is new."""

FEW = 32
"""Pixels are searched one by one if at most one in FEW is left."""


@part
def _count_below(frames, rows, lo, hi, limit, few, below):  # type: ignore[no-untyped-def]
    """Count, for pixels lo to hi, the frames in `rows` that are below `limit`.

    The inner loops run along pixels, which are contiguous, and count in bytes, so
    that they compile to a few vector instructions. The bytes are added to wide
    counters before they can overflow (after 31 times 8 frames).
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


@part
def _count_below_each(frames, rows, lo, hi, limits, fews, below):  # type: ignore[no-untyped-def]
    """Count, for pixels lo to hi, the frames below each of GUESSES limits.

    Each value is loaded once. Registers suffice for four frames at a time; 63 times four frames
    fill a byte.
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


@part
def _count_in_column(column, limit, j):  # type: ignore[no-untyped-def]
    """Count the values of a column that are below the limit of pixel j."""
    count = 0
    for each in column:
        count += each < limit[j]
    return count


@part
def _read_column(frames, window, pixel, column):  # type: ignore[no-untyped-def]
    """Gather the values of a pixel, which are far apart."""
    for k in range(len(window)):
        column[k] = frames[window[k], pixel]


@part
def _surround(medians, levels, bits, lowest):  # type: ignore[no-untyped-def]
    """Write the lowest of `levels` consecutive values around the median of each pixel.

    The counts below so many values tell one value less from all others.
    """
    back = max(levels // 2 - 1, 0)
    highest = bits[0] - 1 + bits[0] - (levels - 1)
    for j in range(len(lowest)):
        lowest[j] = min(max(medians[j], back) - back, highest)


@part
def _settle(frames, window, lo, bits, levels, lowest, counts, passed, limit, column, image):  # type: ignore[no-untyped-def]
    """Write medians into `image`, from the counts of frames below some values.

    The median is the last value with no more frames below it than its rank. If this holds for all
    or none of the values, the median is not among them. If there are few such pixels, their medians
    are searched bit by bit, and the pixels are listed in the last row of `counts`.

    Returns
    -------
    int
        Number of these pixels; -1 if they are so many that the whole window should be searched.
    """
    rank = len(window) // 2
    top = bits[0] - 1 + bits[0]
    left = counts[-1]
    number = 0
    for j in range(len(lowest)):
        passed[j] = 0
    for level in range(levels):
        for j in range(len(lowest)):
            passed[j] += counts[level, j] <= rank
    for j in range(len(lowest)):
        found = lowest[j] + passed[j] - 1
        if passed[j] == 0 or (passed[j] == levels and found != top):
            left[number] = j
            number += 1
        else:
            image[j] = found
    if FEW * number > len(lowest):
        return -1
    for j in left[:number]:
        _read_column(frames, window, lo + j, column)
        image[j] = 0
        for bit in bits:
            limit[j] = image[j] | bit
            if _count_in_column(column, limit, j) <= rank:
                image[j] = limit[j]
    return number


@kernel
def _by_bits(  # type: ignore[no-untyped-def]
    frames, rows, starts, length, bits, lo, hi, limits, fews, counts, _column, images, begin, _end
):
    """Find the median of window `begin` without prior knowledge.

    The bits of the value at rank ``r`` are found one by one, the most significant first: set the
    bit, count the frames below the candidate, and keep the bit if at most ``r`` frames are. The
    count never decreases while the candidate grows, so each decision is final.
    """
    window = rows[starts[begin] : starts[begin] + length]
    rank = length // 2
    image = images[begin, lo:hi]
    limit, few, below = limits[0], fews[0], counts[0]
    for j in range(hi - lo):
        image[j] = 0
    for bit in bits:
        for j in range(hi - lo):
            limit[j] = image[j] | bit
        _count_below(frames, window, lo, hi, limit, few, below)
        for j in range(hi - lo):
            if below[j] <= rank:
                image[j] = limit[j]
    return begin + 1


@kernel
def _by_guesses(  # type: ignore[no-untyped-def]
    frames, rows, starts, length, bits, lo, hi, limits, fews, counts, column, images, begin, end
):
    """Find the medians of windows from `begin` on, as long as each is near the last one.

    Frames are counted below each of GUESSES values around the last median.
    """
    lowest, limit = limits[0], limits[-1]
    for w in range(begin, end):
        window = rows[starts[w] : starts[w] + length]
        image = images[w, lo:hi]
        _surround(images[w - 1, lo:hi], GUESSES, bits, lowest)
        for level in range(1, GUESSES):
            for j in range(hi - lo):
                limits[level, j] = lowest[j] + level
        _count_below_each(frames, window, lo, hi, limits, fews, counts)
        number = _settle(
            frames, window, lo, bits, GUESSES, lowest, counts, fews[0], limit, column, image
        )
        if number < 0:
            return w
    return end


@kernel
def _by_counts(  # type: ignore[no-untyped-def]
    frames, rows, starts, length, bits, lo, hi, limits, fews, counts, column, images, begin, end
):
    """Find the medians of overlapping windows from `begin` on, as long as they change little.

    Frames are counted below each of LEVELS values. For the next window, counts are updated by the
    frames that came and those that went.
    """
    lowest, limit, few, below = limits[0], limits[-1], fews[0], counts[-1]
    _surround(images[begin - 1, lo:hi], LEVELS, bits, lowest)
    for level in range(LEVELS):
        for j in range(hi - lo):
            counts[level, j] = 0
    for w in range(begin, end):
        start, last = starts[w], starts[w - 1]
        window = rows[start : start + length]
        came, went = rows[last + length : start + length], rows[last:start]
        if w == begin:
            came, went = window, rows[:0]
        for changed, sign in ((came, 1), (went, -1)):
            for level in range(LEVELS):
                for j in range(hi - lo):
                    limit[j] = lowest[j] + level
                _count_below(frames, changed, lo, hi, limit, few, below)
                for j in range(hi - lo):
                    counts[level, j] += sign * below[j]
        image = images[w, lo:hi]
        number = _settle(
            frames, window, lo, bits, LEVELS, lowest, counts, few, limit, column, image
        )
        if number < 0:
            return w
        for j in counts[-1, :number]:  # from now on, count around the new median
            _read_column(frames, window, lo + j, column)
            _surround(image[j : j + 1], LEVELS, bits, lowest[j : j + 1])
            for level in range(LEVELS):
                limit[j] = lowest[j] + level
                counts[level, j] = _count_in_column(column, limit, j)
    return end


def _select(
    frames: NDArray[Any],
    rows: NDArray[np.intp],
    starts: NDArray[np.intp],
    length: int,
    stretches: "list[_Stretch]",
    images: NDArray[Any],
    lo: int,
    hi: int,
    ways: "_Ways",
) -> None:
    """Write the medians of windows into `images`, for pixels lo to hi.

    All kernels find the same medians; only the time differs. The median of a window is usually near
    the last one, so values around it are guessed or, if windows overlap, counts are kept. Medians
    that are not found in this way are searched bit by bit.

    Parameters
    ----------
    frames : ndarray, shape (n, P)
    rows, starts, length
        See `median_images`.
    stretches : list of _Stretch
        The windows.
    images : ndarray, shape (m, P)
        Receives the medians.
    lo, hi : int
        First pixel, and the one after the last.
    ways : _Ways
        The kernels.
    """
    room = _room(hi - lo, length, frames.dtype)
    of_all = (frames, rows, starts, length, _bits(frames.dtype), lo, hi, *room, images)
    is_guessed = stretches[0].begin > 0
    lasted = 2  # number of windows for which counts were of use
    for is_near, w, end in stretches:
        while w < end:
            # If the median changes much, counting does not pay.
            if is_near and lasted >= 2:
                first, w = w, ways.by_counts(*of_all, w, end)
                lasted = w - first
            elif is_guessed:
                w = ways.by_guesses(*of_all, w, end)
            if w < end:
                ways.by_bits(*of_all, w, end)
                is_guessed = w == 0 or _is_near(images[w, lo:hi], images[w - 1, lo:hi])
                w += 1


def _is_near(image: NDArray[Any], last: NDArray[Any]) -> bool:
    """Return whether all but few medians could have been guessed."""
    far = np.maximum(image, last) - np.minimum(image, last) >= GUESSES // 2
    return bool(FEW * np.count_nonzero(far) <= len(image))


class _Stretch(NamedTuple):
    """Consecutive windows: all of them near the one before, or none."""

    is_near: bool
    begin: int
    end: int


def _stretches(starts: NDArray[np.intp], length: int, done: int) -> list[_Stretch]:
    """Return the windows from `done` on as stretches."""
    near = NEAR * np.diff(starts[done:], prepend=starts[max(done - 1, 0)]) <= length
    near[:1] &= done > 0
    edges = [0, *(np.flatnonzero(near[1:] != near[:-1]) + 1).tolist(), len(near)]
    return [_Stretch(bool(near[b]), done + b, done + e) for b, e in pairwise(edges) if b < e]


class _Ways(NamedTuple):
    """The kernels, compiled."""

    by_bits: Kernel
    by_guesses: Kernel
    by_counts: Kernel


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
        If the stack is not of rank 3, has no frame or masked values, or if `num_cpus`
        is not a whole number from 1 up.

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
    native = np.require(frames, frames.dtype.newbyteorder("="), ["C_CONTIGUOUS", "ALIGNED"])
    images = np.empty((1, *native.shape[1:]), dtype=native.dtype)
    if images.size:
        rows, starts = np.arange(len(native)), np.zeros(1, np.intp)
        median_images(native, rows, starts, len(native), images, check_num_cpus(num_cpus))
    image: NDArray[Any] = images[0]
    return image


def median_images(
    frames: NDArray[Any],
    rows: NDArray[np.intp],
    starts: NDArray[np.intp],
    length: int,
    images: NDArray[Any],
    num_cpus: int,
    done: int = 0,
) -> None:
    """Write the median image of each window of frames into `images`.

    Parameters
    ----------
    frames : ndarray, shape (n, H, W), uint8 or uint16, native and C-contiguous
    rows : ndarray of int, shape (N,)
        For each frame, its row in `frames`; only frames in windows are used.
    starts : ndarray of int, shape (m,), ascending
        First frame of each window, as an index into `rows`. Windows that overlap
        by three quarters or more cost in proportion to the frames that are new.
    length : int
        Frames in a window.
    images : ndarray, shape (m, H, W), of the same dtype
        Receives the result.
    num_cpus : int
        Largest number of threads.
    done : int
        Number of windows whose median images are in `images` already; the search begins with the
        last of these.
    """
    flat = frames.reshape(len(frames), -1)
    flat.flags.writeable = False  # one type for the compiler, whatever the flag of the caller
    flat_images = images.reshape(len(images), -1)
    pixels = flat.shape[1]
    most = max(512, CACHE_BYTES // (flat.itemsize * length))
    threads = min(
        num_cpus,
        1 + (len(starts) - done) * length * pixels * flat.itemsize // WORTH_BYTES,
    )
    stretches = _stretches(starts, length, done)
    if not stretches:
        return
    ways = _Ways(
        _compiled(_by_bits, flat.dtype),
        _compiled(_by_guesses, flat.dtype) if len(starts) > 1 else _by_guesses,
        _compiled(_by_counts, flat.dtype) if any(s.is_near for s in stretches) else _by_counts,
    )

    def select(lo: int, hi: int) -> None:
        _select(flat, rows, starts, length, stretches, flat_images, lo, hi, ways)

    share_out(select, pixels, most, threads)


def load_kernels(dtype: np.dtype[Any]) -> None:
    """Load or compile all kernels for frames of a native dtype, so that no later call has to."""
    for each in (_by_bits, _by_guesses, _by_counts):
        _compiled(each, dtype)


@functools.cache
def _compiled(kernel: Kernel, dtype: np.dtype[Any]) -> Kernel:
    """Return a kernel compiled for a dtype of frames."""
    frames = np.empty((1, 1), dtype)
    frames.flags.writeable = False
    numbers = np.empty(1, np.intp)
    of_all = (frames, numbers, numbers, 1, _bits(dtype), 0, 1, *_room(1, 1, dtype))
    return ready(kernel, *of_all, np.empty((1, 1), dtype), 0, 1)


def _room(width: int, length: int, dtype: np.dtype[Any]) -> tuple[NDArray[Any], ...]:
    """Return buffers for kernels, for so many pixels and windows of that length.

    Returns
    -------
    tuple of ndarray
        Limits; counts of frames below them, in bytes and in full; and the values of one pixel.
    """
    levels = max(LEVELS, GUESSES)
    return (
        np.empty((GUESSES + 1, width), dtype),
        np.empty((GUESSES, width), np.uint8),
        np.empty((levels + 1, width), np.int32),
        np.empty(length, dtype),
    )


@functools.cache
def _bits(dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return the powers of two of an unsigned dtype, the largest first."""
    return (1 << np.arange(8 * dtype.itemsize)[::-1]).astype(dtype)
