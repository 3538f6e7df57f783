"""The main question: what is left of the frames besides cells and noise, where and when."""

import numpy as np

from sparsemed.quality.advice import advise
from sparsemed.quality.finding import Finding, judge
from sparsemed.quality.left import MOST_LEFT
from sparsemed.quality.maps import Floats
from sparsemed.quality.view import View


def is_clean(view: View) -> bool:
    """Whether nothing but cells and noise is left, as far as can be told."""
    return not view.is_sampled or view.left.size <= MOST_LEFT


def what_is_left(view: View, cause: str) -> Finding | None:
    """Judge what is left of the frames after subtraction, where and when; see `find_left`.

    Each frame of the sample minus its background and offset, with cells set aside and the noise of
    the camera removed: the absolute value exceeded at 2.5 % of the places where cells may pass (5 %
    of a channel), and of that the value exceeded in 2 % of the frames. Look here above 1.2 grey
    values, whatever the other numbers are.
    """
    if not view.is_sampled:
        return None
    left = view.left
    digits = 3 if round(left.size, 1) == MOST_LEFT else 2
    size = f"{left.size:.{digits}g} grey values"
    text = f"{size}; the noise of the camera, over 3 × 3 pixels, is {left.noise:.2g}"
    advice = ""
    if not is_clean(view):
        text = f"{size} {when(view)}, {where(view)}"
        why = "The background does not fit these frames, for a reason that no number tells"
        advice = cause or advise(view, why, "find out what differs at that place and time")
    return judge(
        "left",
        "What is left of the frames",
        left.size,
        text,
        "What frames still show when their background is subtracted and "
        f"{view.cells} are set aside; up to {MOST_LEFT:g} grey values are good.",
        advice,
    )


def when(view: View) -> str:
    """Return in words when something is left."""
    assert view.sample is not None
    off = view.left.course > MOST_LEFT
    time = view.background.time[view.sample.numbers]
    share = float(np.mean(off))
    if share > 0.9:
        return "all the time"
    numbers = np.flatnonzero(off)
    first, last = int(numbers[0]), int(numbers[-1])
    if len(numbers) < 0.8 * (last - first + 1):
        return f"in {len(numbers)} of {len(off)} frames, now and then"
    if last == len(off) - 1:
        return f"from {time[first]:.4g} s on"
    return f"from {time[first]:.4g} to {time[last]:.4g} s"


def where(view: View) -> str:
    """Return in words where something is left in the worst frame."""
    shown = worst_map(view)
    off = np.abs(shown) > max(MOST_LEFT, 0.5 * float(np.quantile(np.abs(shown), 0.99)))
    first_row = view.rows.start
    columns = np.flatnonzero(np.any(off, axis=0))
    rows = np.flatnonzero(np.any(off, axis=1))
    if not len(rows):
        return "at single places"
    share = len(columns) / off.shape[1]
    y, x = (
        [
            2 + view.grid * (int(np.quantile(places, q, method="nearest")) + start)
            for q in (0.05, 0.95)
        ]
        for places, start in ((np.nonzero(off)[0], first_row), (np.nonzero(off)[1], 0))
    )
    across = f"in rows {y[0]} to {y[1]}"
    return across if share > 0.7 else f"{across}, columns {x[0]} to {x[1]}"


def worst(view: View) -> int:
    """Return the index in the sample of the worst frame, of which most is left."""
    return int(np.argmax(view.left.course))


def worst_map(view: View) -> Floats:
    """Return what is left in the worst frame, at places where cells may pass."""
    return view.left.map_of(worst(view))
