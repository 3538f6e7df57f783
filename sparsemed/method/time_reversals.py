"""Finds where time falls: at joints of recordings, or along a reversed axis."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class TimeReversals:
    """Frames whose time is earlier than that of the frame before.

    Attributes
    ----------
    count : int
        Number of these frames; 0 if time never decreases.
    frame : int
        The first of these frames.
    before, after : float, seconds
        Time of the frame before it, and of the frame itself.
    is_reversed : bool
        Whether time never increases, so that the whole axis is reversed.
    """

    count: int
    frame: int = 0
    before: float = 0.0
    after: float = 0.0
    is_reversed: bool = False

    @property
    def text(self) -> str:
        """The finding in words; empty if time never decreases."""
        if not self.count:
            return ""
        at = f"frame {self.frame}, from {self.before:.6g} s to {self.after:.6g} s"
        if self.is_reversed:
            return f"time runs backwards, beginning at {at}"
        if self.count == 1:
            return f"time falls at {at}"
        return f"time falls {self.count:,} times, first at {at}"

    @property
    def advice(self) -> str:
        """What to do about it."""
        if self.is_reversed:
            return (
                "If only the times are in reverse order, give time[::-1]; if the frames are, too, "
                "reverse both."
            )
        if self.count == 1:
            return (
                "If two recordings were joined there, compute them one by one; otherwise frames "
                "get backgrounds of the other recording, as these are assigned by time."
            )
        return (
            "Backgrounds are assigned by time. Sort the frames by time or, if recordings were "
            "joined, compute these one by one."
        )


def find_falls(time: NDArray[Any]) -> TimeReversals:
    """Find where time falls.

    Parameters
    ----------
    time : ndarray, shape (N,), seconds

    Returns
    -------
    TimeReversals

    Examples
    --------
    >>> find_falls(np.array([0.0, 1.0, 2.0, 0.0, 1.0, 2.0])).text
    'time falls at frame 3, from 2 s to 0 s'
    >>> find_falls(np.array([0.0, 0.0, 1.0]))
    TimeReversals(count=0, frame=0, before=0.0, after=0.0, is_reversed=False)
    """
    falling = time[1:] < time[:-1]
    count = int(np.count_nonzero(falling))
    if not count:
        return TimeReversals(0)
    first = int(np.argmax(falling)) + 1
    is_reversed = not np.any(time[1:] > time[:-1])
    return TimeReversals(count, first, float(time[first - 1]), float(time[first]), is_reversed)
