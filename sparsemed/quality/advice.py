"""What to change: settings within what the measurement has, or that there are none."""

import math

from sparsemed.quality.finding import LIMIT
from sparsemed.quality.view import LEAST_WINDOWS, View

LEAST_CHANGE = 1.0
"""Grey values by which a place must change to count."""

SHORTEST = 25
"""Frames of the shortest window that is advised."""


def shortest(view: View) -> int:
    """Return the frames that a window needs to forget cells, and grain.

    With cells that cover a place in a share ``p`` of frames, more than half of ``K`` frames
    show them by chance once in ten thousand times if ``K = 3.7² p (1 - p) / (0.5 - p)²``. Grain
    asks for ``K = (2 · 1.25 n / 0.75)²``.
    """
    covered = min(view.covered, 0.4)
    forget = 3.7**2 * covered * (1 - covered) / (0.5 - covered) ** 2
    grain = (2.5 * view.noise / LIMIT) ** 2
    return math.ceil(max(SHORTEST, forget, grain))


def shorter(view: View, late: float) -> str:
    """Return settings that follow a change which leaves `late` grey values; at least twice as fast.

    What is left grows with the length of windows and the time between them.
    """
    if view.sample is None:
        return "no parameter can be advised without frames"
    if len(view.apart) <= LEAST_WINDOWS + 1:
        return (
            f"no parameter can be advised, as {len(view.apart)} windows do not tell slow cells "
            "from a channel that changes: measure for longer"
        )
    step, seconds = view.background.parameters.split_time, view.length / view.rate
    factor = min(0.5, 0.7 * LIMIT / late)
    size, least = view.length, shortest(view)
    if seconds > step / 2:
        size = max(least, min(size // 2, math.floor(factor * size)))
    if size > 0.8 * view.length and seconds > step / 2:
        return (
            f"no parameter helps, as windows of less than {least} frames would keep cells or "
            "noise. See to what changes"
        )
    split = max(
        min(step * (factor if size == view.length else 1), size / view.rate / 2), 4 / view.rate
    )
    split = float(f"{split:.2g}")
    if split > 0.8 * step and size == view.length:
        return "no parameter helps, as it changes from frame to frame. See to what changes"
    return f"kernel_size={size}, split_time={min(split, step):g}"


def longer(view: View, factor: float = 3) -> str:
    """Return the setting of a window longer by a factor, if the measurement has the frames."""
    most = len(view.background) // (LEAST_WINDOWS + 1)
    size = min(math.ceil(factor * view.length), most)
    if size < 1.25 * view.length:
        return (
            f"no parameter helps, as {len(view.background):,} frames do not hold enough windows "
            "that are longer: measure for longer"
        )
    return f"kernel_size={size}"
