"""Cells that stay: how much they cover, what is left of them, and images that were dropped."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsemed.quality.advice import longer
from sparsemed.quality.change import lag
from sparsemed.quality.finding import LIMIT, Finding, judge, percent
from sparsemed.quality.view import LEAST_WINDOWS, View

CROWDED = 0.33
"""Share of frames in which cells cover a place, from which on a median is not to be trusted."""


def crowd(view: View) -> Finding | None:
    """How often cells cover a place; where they do half of the time, the median is a cell.

    In each frame of the sample, less its background under the same light and shifted with it,
    a place is covered if it is off its own median by more than 2 grey values, and by more than
    five times its noise. The number is the share of covered places in a row of the middle rows
    over all frames, 90 % quantile over these rows. Look here above 33 %: no window helps.
    """
    if not view.is_sampled:
        return None
    value = view.covered
    advice = ""
    if value > CROWDED:
        cure = "dilute the sample" if view.has_wall else "there must be fewer objects in a frame"
        advice = f"Cells cover places so often that no parameter helps: {cure}."
    return judge(
        "crowd",
        "Room between cells",
        value,
        f"cells cover a place in {percent(value)} of the frames",
        "How often a place of the channel shows a cell; near one half, so does the median.",
        advice,
    )


def streaks(view: View, cause: str) -> Finding | None:
    """Share of the background images that show what is gone in the next: slow cells.

    Of the kept images whose windows share no frames, in the order of time and under one light,
    each is compared with the running median over three of them. It has streaks if more than
    0.5 % of the middle rows differ by more than 0.75 grey values, and by more than six times
    what these differences usually are; but in less than 70 % of the columns, as a channel that
    moves differs in all of them. Look here if more than 5 % of the images, and more than one of
    many, have streaks.
    """
    if len(view.apart) < LEAST_WINDOWS:
        return None
    from scipy import ndimage  # takes a while to import

    steady = ndimage.median_filter(view.series, size=(3, 1, 1), mode="nearest")
    off = np.abs(view.series - steady)[:, view.middle]
    limit = max(LIMIT, 6 * 1.4826 * float(np.median(off[off > 0])) if np.any(off) else 0)
    shown = off > limit
    columns = np.mean(np.any(shown, axis=1), axis=1)
    streaked = (np.mean(shown, axis=(1, 2)) > 0.005) & (columns < 0.7)
    value = float(np.mean(streaked))
    advice = ""
    # One of many may be a window in which something changes for good.
    if value > 0.05 and (value > 0.2 or np.count_nonzero(streaked) > 1):
        cure = longer(view)
        if 3 * lag(view, whole=True) > LIMIT:
            cure = "no parameter helps, as longer windows would be late where the channel changes"
        advice = cause or f"Cells stay in the median, as they are slow: {cure}."
    return judge(
        "streaks",
        "Streaks in the background",
        value,
        f"in {percent(value)} of the images (of windows that share no frames)",
        "Share of the background images with streaks or patches that those before and after do "
        "not have: mostly cells that the median did not remove.",
        advice,
    )


def dropped(view: View) -> Finding | None:
    """Share of the background images that cleansing dropped, and where in time.

    They are spread over the measurement if chance may have picked them: the longest run
    of dropped images is no longer than ``2 + log(m (1 - p)) / log(1 / p)``, with ``p``
    their share of the ``m`` images, and no longer than 3. Their frames get the image of another
    time, which does no harm but where something changes; see `change`. So this is only told.
    Left out of a background that was loaded, as files do not keep it.
    """
    background = view.background
    if background.is_loaded:
        return None
    dropped = ~background.kept
    count = int(np.count_nonzero(dropped))
    share = count / len(dropped)
    first, longest = _longest_run(dropped)
    by_chance = 3.0
    if 0 < share < 1:
        by_chance = max(3.0, 2 + math.log(count * (1 - share) / share) / math.log(1 / share))
    where = ""
    if longest > by_chance:
        begin, end = background.step_times[first], background.step_times[first + longest - 1]
        where = f"; {longest} of them in a row, from {begin:.4g} to {end:.4g} s"
    elif count:
        where = f", spread over the measurement ({longest} in a row at most)"
    return judge(
        "dropped",
        "Background images dropped",
        share,
        f"{count} of {len(dropped)} images ({percent(share)}){where}",
        "What cleansing took for images with cells, and whether that happened all at once.",
        "",
    )


def _longest_run(flags: NDArray[np.bool_]) -> tuple[int, int]:
    """Return begin and length of the longest run of true flags."""
    from scipy import ndimage  # takes a while to import

    runs: list[Any] = [run for (run,) in ndimage.find_objects(ndimage.label(flags)[0])]
    longest = max(runs, key=lambda run: run.stop - run.start, default=slice(0, 0))
    return int(longest.start), int(longest.stop - longest.start)
