"""Time that falls: where recordings were joined, or an axis was turned round."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class TimeReversals:
    """Where the time of a frame is before that of the frame before it.

    Attributes
    ----------
    count : int
        How often that is; 0 where time never falls.
    frame : int
        The first frame of which it is true.
    before, after : float, seconds
        Time of the frame before that, and of the frame itself.
    is_reversed : bool
        Whether time never rises, so that the axis as a whole is turned round.
    """

    count: int
    frame: int = 0
    before: float = 0.0
    after: float = 0.0
    is_reversed: bool = False

    @property
    def text(self) -> str:
        """What is odd, in words; empty where time never falls."""
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
                "turn round both."
            )
        if self.count == 1:
            return (
                "If two recordings were joined there, compute them one by one: frames are given "
                "backgrounds by their times, and so those of the other recording."
            )
        return (
            "Frames are given backgrounds by their times. Put them in order, or, if recordings "
            "were joined, compute these one by one."
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
