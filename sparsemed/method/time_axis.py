"""The time axis: the time of each frame, recorded or estimated."""

import logging
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sparsemed.frames.shapes import frames_last
from sparsemed.warned import warn

logger = logging.getLogger(__name__)

GUESSED_FRAME_RATE = 3600
"""Frames per second assumed when nothing is known (Hz)."""

STRETCH = 1.5
"""A measurement keeps only frames with events, so it lasts longer than its frames."""


def time_axis(
    count: int,
    time: ArrayLike | None = None,
    frame: ArrayLike | None = None,
    frame_rate: Any = None,
    label: str = "time",
) -> NDArray[Any]:
    """Return the time of each frame in seconds, the first being 0.

    The first of these that is given decides: `time`; `frame` together with
    `frame_rate`; `frame_rate` alone (the duration is then an estimate, and logged);
    nothing (the duration is then a guess, with a warning).

    Parameters
    ----------
    count : int
        Number of frames N.
    time : array-like, shape (N,), seconds, optional
        Time of each frame. Floats keep their dtype, and so their rounding. Dates and
        differences of dates (NumPy, pandas, xarray, Python) become seconds.
    frame : array-like, shape (N,), optional
        Number of each frame, counted by the camera.
    frame_rate : number, Hz, optional
        Rate of the camera.
    label : str
        Name of the time axis in errors.

    Returns
    -------
    ndarray, shape (N,)

    Raises
    ------
    ValueError
        If an axis does not have length N, or is not numeric or not finite, or if times are masked.

    Examples
    --------
    >>> time_axis(3, time=[10.0, 10.5, 12.0])
    array([0. , 0.5, 2. ])
    """
    if frame_rate is not None and time is None:
        frame_rate = _checked_rate(frame_rate)
    if time is not None:
        if np.ma.is_masked(time):
            first = int(np.argmax(np.ma.getmaskarray(np.ma.asarray(time))))
            raise ValueError(f"{label}: is masked at frame {first}; each frame needs its time")
        return _from_zero(_checked(as_numbers(time), count, label), label)
    if frame is not None and frame_rate is not None:
        return _from_zero(frame_times(frame, count, frame_rate, label), label)
    if frame_rate is not None:
        with np.errstate(over="ignore"):
            duration = count / frame_rate * STRETCH
        if not np.isfinite(duration):
            raise ValueError(f"frame rate {frame_rate} Hz is too small: the duration is infinite")
        logger.info("The frame rate suggests a duration of about %.1f s", duration)
    else:
        duration = count / GUESSED_FRAME_RATE * STRETCH
        warn(
            f"The times are unknown: {GUESSED_FRAME_RATE / STRETCH:.0f} frames per second are "
            f"assumed, a duration of {duration:.1f} s"
        )
    return np.linspace(0, duration, count)


def frame_times(frame: ArrayLike, count: int, frame_rate: Any, label: str) -> NDArray[Any]:
    """Return times from frame numbers of the camera, with its zero; see `time_axis`."""
    rate = _checked_rate(frame_rate)
    with np.errstate(over="ignore"):
        times: NDArray[Any] = _checked(np.asarray(frame), count, label) / rate
    return times


def array_time(
    shape: tuple[int, int, int], time: ArrayLike | None, frame_rate: Any
) -> NDArray[Any]:
    """Return the time of each frame of an array, in seconds, the first being 0.

    With a rate, frame ``i`` is at ``i / frame_rate``: unlike measurements, arrays have all frames.

    Raises
    ------
    ValueError
        If the rate is no number above 0, or so small that times are infinite. Also raises what
        `time_axis` raises.

    Examples
    --------
    >>> array_time((3, 80, 320), None, frame_rate=2)
    array([0. , 0.5, 1. ])
    """
    count, _, width = shape
    if time is not None and np.shape(time) == (width,) != (count,):
        raise ValueError(f"time: has {width} entries, but {frames_last(shape)}")
    if time is not None or frame_rate is None:
        return time_axis(count, time=time)
    rate = _checked_rate(frame_rate)
    with np.errstate(over="ignore"):
        axis: NDArray[Any] = np.arange(count) / float(rate)
    if not np.isfinite(axis[-1]):
        raise ValueError(f"frame rate {rate} Hz is too small: the duration is infinite")
    return axis


def coarseness(time: NDArray[Any], split_time: float) -> str | None:
    """Return a warning if times are too coarse to find the frames of a step, otherwise None.

    They are if they have few different values, more than a quarter of `split_time` apart. An
    example is seconds since 1970 in 32 bits, which are multiples of 128.
    """
    different = np.unique(time)
    if not 1 < len(different) <= len(time) // 2:
        return None
    tick = float(np.median(np.diff(different)))
    if tick <= split_time / 4:
        return None
    return (
        f"{len(time)} frames have only {len(different)} different times, {tick:g} s apart: too "
        f"coarse for split_time={split_time:g}. If seconds since 1970 or the like were rounded to "
        f"{time.dtype}, subtract the first time before rounding; or give frame_rate= instead"
    )


def require_axis(shape: tuple[int, ...], dtype: np.dtype[Any], count: int, label: str) -> None:
    """Check that an array of this shape and dtype can be a time axis; it need not be read for that.

    Raises
    ------
    ValueError
        If it does not hold a number for each of `count` frames.
    """
    if dtype.kind not in "fiu":
        raise ValueError(f"{label}: must hold numbers, but its dtype is {dtype}")
    if shape != (count,):
        raise ValueError(f"{label}: has shape {shape}, but there are {count} frames")


def as_numbers(time: Any) -> NDArray[Any]:
    """Return times as numbers; dates and the like become seconds since the first one.

    Examples
    --------
    >>> as_numbers(np.array(["2024-01-01T00:00:00.0", "2024-01-01T00:00:02.5"], "M8[ms]"))
    array([0. , 2.5])
    """
    axis = np.asarray(time)
    if axis.dtype.kind in "mM" and axis.size:
        passed = axis - axis.flat[0]
        seconds: NDArray[Any] = passed / np.timedelta64(1, "s")
        return seconds  # NaN where there is no date
    first = axis.flat[0] if axis.dtype == object and axis.size else None
    if isinstance(first, (datetime, timedelta)):  # with a time zone, NumPy has no type for them
        passed = [(each - first).total_seconds() for each in axis.flat]
        return np.array(passed, np.float64).reshape(axis.shape)
    return axis


def _from_zero(axis: NDArray[Any], label: str) -> NDArray[Any]:
    with np.errstate(over="ignore", invalid="ignore"):
        shifted: NDArray[Any] = axis - axis[0]
    if axis.dtype.kind in "iu":
        exact = (axis.astype(np.uint64) - np.uint64(int(axis[0]) % 2**64)).view(np.int64)
        if (exact != shifted).any():  # differences that the dtype cannot hold have wrapped around
            shifted = exact
    if not np.isfinite(shifted).all():
        raise ValueError(f"{label}: its span exceeds {axis.dtype}; use a wider dtype")
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
