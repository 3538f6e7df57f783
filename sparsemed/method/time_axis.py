"""The time axis: which frames make a background image, and which ones it serves.

All of it is defined by ``argmin`` over the whole axis, once per background image.
Where the axis is sorted, `_nearest` finds the very same index by bisection.
"""

import logging
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

logger = logging.getLogger(__name__)

GUESSED_FRAME_RATE = 3600
"""Frames per second assumed when nothing is known (Hz)."""

STRETCH = 1.5
"""A measurement keeps only frames with events, so it lasts longer than its frames."""

MOST_STEPS = 10**6
"""Background images that can be asked for; more would never fit into memory."""


def time_axis(
    count: int,
    time: ArrayLike | None = None,
    frame: ArrayLike | None = None,
    frame_rate: Any = None,
    label: str = "time",
) -> NDArray[Any]:
    """Return the time of each frame in seconds, the first being 0.

    The first of these that is given decides: `time`; `frame` together with
    `frame_rate`; `frame_rate` alone (then the duration is an estimate);
    nothing (then it is a guess). The last two are logged.

    Parameters
    ----------
    count : int
        Number of frames N.
    time : array-like, shape (N,), seconds, optional
        Time of each frame. Its dtype is kept, and with it its rounding.
    frame : array-like, shape (N,), optional
        Number of each frame, counted by the camera.
    frame_rate : number, Hz, optional
        Rate of the camera.
    label : str
        What errors call the time axis.

    Returns
    -------
    ndarray, shape (N,)

    Raises
    ------
    ValueError
        If an axis is not of length N, is not numeric, or is not finite.

    Examples
    --------
    >>> time_axis(3, time=[10.0, 10.5, 12.0])
    array([0. , 0.5, 2. ])
    """
    if frame_rate is not None and time is None:
        frame_rate = _checked_rate(frame_rate)
    if time is not None:
        return _from_zero(_checked(np.asarray(time), count, label), label)
    if frame is not None and frame_rate is not None:
        with np.errstate(over="ignore"):
            axis = _checked(np.asarray(frame), count, label) / frame_rate
        return _from_zero(axis, label)
    if frame_rate is not None:
        with np.errstate(over="ignore"):
            duration = count / frame_rate * STRETCH
        if not np.isfinite(duration):
            raise ValueError(f"frame rate {frame_rate} Hz is too small")
        logger.info("The frame rate suggests a duration of about %.1f s", duration)
    else:
        duration = count / GUESSED_FRAME_RATE * STRETCH
        logger.warning(
            "No time is known; %d frames per second are assumed, so a duration of %.1f s",
            GUESSED_FRAME_RATE / STRETCH,
            duration,
        )
    return np.linspace(0, duration, count)


def require_axis(shape: tuple[int, ...], dtype: np.dtype[Any], count: int, label: str) -> None:
    """Check that an array of this shape and dtype can be a time axis, before it is read.

    Raises
    ------
    ValueError
        If it does not hold a number for each of `count` frames.
    """
    if dtype.kind not in "fiu":
        raise ValueError(f"{label}: must hold numbers, but its dtype is {dtype}")
    if shape != (count,):
        raise ValueError(f"{label}: has shape {shape}, but there are {count} frames")


def _from_zero(axis: NDArray[Any], label: str) -> NDArray[Any]:
    with np.errstate(over="ignore", invalid="ignore"):
        shifted: NDArray[Any] = axis - axis[0]
    if not np.isfinite(shifted).all():
        raise ValueError(f"{label}: its span is beyond what {axis.dtype} can hold")
    return shifted


def _checked(axis: NDArray[Any], count: int, label: str) -> NDArray[Any]:
    require_axis(axis.shape, axis.dtype, count, label)
    if not (finite := np.isfinite(axis)).all():
        first = int(np.argmin(finite))
        raise ValueError(f"{label}: is {axis[first]} at frame {first}; it must be finite")
    return axis


def _checked_rate(frame_rate: Any) -> Any:
    rate = np.asarray(frame_rate)
    if rate.size != 1 or rate.dtype.kind not in "fiu" or not 0 < rate.item() < np.inf:
        shown = rate.item() if rate.size == 1 else frame_rate
        raise ValueError(f"frame rate must be a number above 0 (Hz), got {shown!r}")
    return rate.reshape(())[()]


def step_times(time: NDArray[Any], split_time: float, label: str = "time") -> NDArray[Any]:
    """Return the times at which a background image is computed, in seconds.

    Every `split_time` seconds from 0 on. When the axis spans no time (one
    frame, or all at once) there is a single step, at 0. Errors begin with `label`.

    Raises
    ------
    ValueError
        If there would be more than `MOST_STEPS`.

    Examples
    --------
    >>> step_times(np.array([0.0, 0.5, 2.5]), split_time=1.0)
    array([0., 1., 2.])
    """
    duration = time[-1] - time[0]
    if float(duration) > MOST_STEPS * float(split_time):
        raise ValueError(
            f"{label}: split_time {split_time} s is too small for a duration of {duration} s: "
            f"there can be no more than {MOST_STEPS} background images (is the time axis right?)"
        )
    steps = np.arange(0, duration, split_time)
    return steps if steps.size else np.zeros(1, dtype=steps.dtype)


def window_starts(time: NDArray[Any], steps: NDArray[Any], length: int) -> NDArray[np.intp]:
    """Return the first frame of each step's window of `length` frames.

    It is the frame nearest to the step (the first of several), or as much
    earlier as it takes for the window to end with the measurement.

    Examples
    --------
    >>> time = np.array([0.0, 0.4, 0.9, 1.1, 2.5])
    >>> window_starts(time, np.array([0.0, 1.0, 2.0]), length=2)
    array([0, 2, 3])
    """
    if _bisectable(time, steps):
        nearest = _nearest(time, steps, 0)
    else:
        nearest = np.array([np.argmin(np.abs(s - time)) for s in steps], dtype=np.intp)
    return np.minimum(nearest, len(time) - length)


def assign_frames(time: NDArray[Any], kept: NDArray[Any], split_time: float) -> NDArray[np.int64]:
    """Return, for each frame, the index of its background image.

    An image serves up to the frame nearest to half a `split_time` after its
    step, where the next one takes over; the last serves to the end.

    Parameters
    ----------
    time : ndarray, shape (N,), seconds
    kept : ndarray, shape (M,), seconds
        Step times of the images to choose from; at least one.
    split_time : float
        Seconds between steps.

    Returns
    -------
    ndarray of int64, shape (N,)

    Examples
    --------
    >>> time = np.array([0.0, 0.4, 0.9, 1.1, 2.5])
    >>> assign_frames(time, np.array([0.0, 1.0]), split_time=1.0)
    array([0, 1, 1, 1, 1])
    """
    delay = split_time / 2
    if _bisectable(time, kept):
        stops = _nearest(time, kept, delay)
    else:
        stops = np.array([np.argmin(np.abs(time - s - delay)) for s in kept], dtype=np.intp)

    index = np.zeros(len(time), dtype=np.int64)
    start = 0
    for image, stop in enumerate(stops):
        # On an unsorted axis `stop` may lie before `start`; what an earlier
        # image was given there is then given away again by the next slice.
        index[start:stop] = image
        start = stop
    index[start:] = len(kept) - 1
    return index


def _nearest(time: NDArray[Any], steps: NDArray[Any], delay: Any) -> NDArray[np.intp]:
    """``argmin(abs(time - s - delay))`` for every step ``s``, on a sorted axis.

    The signed distance ``g(i) = (time[i] - s) - delay`` never
    falls as ``i`` grows, rounding included, because rounding is monotonic. So
    the nearest frame is either the first with ``g >= 0`` or the last before it,
    and of several at that same distance the first counts.
    """

    def distance(index: NDArray[np.intp]) -> NDArray[Any]:
        signed: NDArray[Any] = time[index] - steps - delay
        return signed

    last = len(time) - 1
    after = _first_true(lambda i: distance(i) >= 0, len(time), steps.size)
    behind = np.maximum(after - 1, 0)
    after = np.minimum(after, last)
    gap = np.abs(distance(behind))
    nearer = np.where(gap <= np.abs(distance(after)), behind, after)
    reach = distance(nearer)
    return _first_true(lambda i: distance(i) >= reach, len(time), steps.size)


def _bisectable(time: NDArray[Any], steps: NDArray[Any]) -> bool:
    """Whether distances are floats (integers may wrap around) and time never falls."""
    floats = np.result_type(time, steps).kind == "f"
    return floats and bool(np.all(time[1:] >= time[:-1]))


def _first_true(test: Any, count: int, size: int) -> NDArray[np.intp]:
    """First index from 0 up at which a monotonic `test` holds, or `count`; `size` at once."""
    low = np.zeros(size, dtype=np.intp)
    high = np.full(size, count, dtype=np.intp)
    while np.any(low < high):
        middle = (low + high) // 2
        holds = test(np.minimum(middle, count - 1))
        open_ = low < high
        high = np.where(open_ & holds, middle, high)
        low = np.where(open_ & ~holds, middle + 1, low)
    return low
