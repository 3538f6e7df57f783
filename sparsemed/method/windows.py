"""Steps in time, and the window of frames for each step."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsemed.warned import warn

MOST_STEPS = 10**6
"""Largest number of background images; more would not fit into memory."""


def step_times(time: NDArray[Any], split_time: float, label: str = "time") -> NDArray[Any]:
    """Return the times at which background images are computed, in seconds.

    They are every `split_time` seconds from 0 on. If the axis spans no time (one
    frame, or all at the same time), there is a single step at 0. Errors begin with `label`.

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
    require_few_steps(duration, split_time, label)
    steps = np.arange(0, duration, split_time)
    return steps if steps.size else np.zeros(1, dtype=steps.dtype)


def require_few_steps(duration: Any, split_time: float, label: str) -> None:
    """Check that a duration makes no more than `MOST_STEPS` steps; see `step_times`."""
    if float(duration) > MOST_STEPS * float(split_time):
        raise ValueError(
            f"{label}: split_time {split_time} s is too small for a duration of {duration} s: "
            f"at most {MOST_STEPS} background images are possible (is time in seconds?)"
        )


def window_length(kernel_size: int, time: NDArray[Any]) -> int:
    """Return the number of frames in a window: `kernel_size`, or all if fewer or without a span."""
    count = len(time)
    if time[-1] <= time[0]:
        what = "spans no time" if time[-1] == time[0] else "ends before it begins"
        warn(f"The time axis {what}; all frames make one background image")
        return count
    if kernel_size > count:
        warn(f"kernel_size {kernel_size} is more than the {count} frames: all frames are used")
    return min(int(kernel_size), count)  # small NumPy integers would overflow later


def window_starts(time: NDArray[Any], steps: NDArray[Any], length: int) -> NDArray[np.intp]:
    """Return the first frame of the window of each step.

    It is the frame nearest to the step (the first of several), or an earlier
    one, so that the window ends with the measurement.

    Examples
    --------
    >>> time = np.array([0.0, 0.4, 0.9, 1.1, 2.5])
    >>> window_starts(time, np.array([0.0, 1.0, 2.0]), length=2)
    array([0, 2, 3])
    """
    return np.minimum(nearest_to(time, steps), len(time) - length)


def nearest_to(time: NDArray[Any], steps: NDArray[Any]) -> NDArray[np.intp]:
    """Return the frame nearest to each step, the first of several."""
    if is_bisectable(time, steps):
        return nearest_frames(time, steps, 0)
    return np.array([np.argmin(np.abs(s - time)) for s in steps], dtype=np.intp)


def nearest_frames(time: NDArray[Any], steps: NDArray[Any], delay: Any) -> NDArray[np.intp]:
    """Return ``argmin(abs(time - s - delay))`` for each step ``s``, on a sorted axis.

    The signed distance ``g(i) = (time[i] - s) - delay`` never decreases as ``i``
    grows, also after rounding, because rounding is monotonic. So the nearest frame
    is the first with ``g >= 0`` or the last before it; of several at the same
    distance, the first.
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


def is_bisectable(time: NDArray[Any], steps: NDArray[Any]) -> bool:
    """Whether distances are floats (integers may wrap around) and time never decreases."""
    floats = np.result_type(time, steps).kind == "f"
    return floats and bool(np.all(time[1:] >= time[:-1]))


def _first_true(test: Any, count: int, size: int) -> NDArray[np.intp]:
    """Return, `size` at once, the first index at which a monotonic `test` holds, or `count`."""
    low = np.zeros(size, dtype=np.intp)
    high = np.full(size, count, dtype=np.intp)
    while np.any(low < high):
        middle = (low + high) // 2
        holds = test(np.minimum(middle, count - 1))
        open_ = low < high
        high = np.where(open_ & holds, middle, high)
        low = np.where(open_ & ~holds, middle + 1, low)
    return low
