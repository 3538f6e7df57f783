"""Cells that stay: how much they cover, what they leave, and dropped images."""

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from sparsemed.quality.advice import advise
from sparsemed.quality.finding import EXPLAINS, LIMIT, Finding, judge, percent
from sparsemed.quality.maps import PLACES_OFF, Floats, fill, sizes
from sparsemed.quality.quantiles import median
from sparsemed.quality.question import is_clean
from sparsemed.quality.view import LEAST_WINDOWS, View

CROWDED = 0.45
"""From this share of frames with a cell at a place on, its median is unreliable."""

CROWDED_THEN = 0.35
"""The same share while something is left of the frames: more than chance."""

STREAKED_PLACES = 0.005
"""Least share of places with remains of cells in an image with streaks."""

STREAKED_IMAGES = 0.05
"""Largest share of images with streaks in a good background."""

ONE_IMAGE = 0.2
"""A single image counts from this share on: among many, one may show a lasting change."""

FULL_ROW = 0.7
"""From this share of columns on, a row is not filled by objects: the whole picture moves."""

BY_CHANCE = 3
"""Largest number of consecutive images that may be dropped, however few images there are."""

MOST_PASSED = 1.0
"""Grey values that slow objects may leave in background images."""

MOST_PASSING = 0.35
"""Largest share of places with slow objects in an image; beyond, the picture itself changes."""


def crowd(view: View) -> Finding | None:
    """How often cells cover a place, and the error of a median from that.

    The share ``c`` of frames in which a place of the middle rows is covered (see `View.covered`),
    in the fullest tenth of these rows. Cells that are all darker, or all brighter, move the median
    of a pixel with the noise ``n`` by ``n z(0.5 / (1 - c))``, ``z`` the quantile of the normal
    distribution. Look here if ``c`` is above 45 %, or above 35 % of the frames of which something
    is left, or if that explains half of what is left.
    """
    if not view.is_sampled:
        return None
    share, when_crowded = view.covered, ""
    if not is_clean(view) and view.covered_then > max(CROWDED_THEN, share):
        share, when_crowded = view.covered_then, " of which something is left"
    is_crowded = share > CROWDED or bool(when_crowded)
    harm = 3 * view.noise * NormalDist().inv_cdf(0.5 / (1 - min(share, 0.49)))
    advice = ""
    if is_crowded or (not is_clean(view) and harm > EXPLAINS * view.left.size):
        remedy = "dilute the sample" if view.is_channel else "let fewer of them be in a frame"
        why = f"{view.cells.capitalize()} cover places too often for a median"
        advice = advise(view, why, remedy)
    return judge(
        "crowd",
        f"Room between {view.cells}",
        share,
        f"{view.cells} cover a place in {percent(share)} of the frames{when_crowded}; a median may "
        f"be off by {harm:.2g} grey values",
        f"How often {view.cells} cover a place. Near one half, the median shows them, too.",
        advice,
    )


def streaks(view: View, cause: str) -> Finding | None:
    """Share of the background images that show what was not there before, and goes: slow cells.

    The kept images whose windows share no frames, in the order of time and under one light. What
    an image shows that is neither in an earlier nor in a later one is the least by which it is
    above (or below) the lowest (highest) of those before, and of those after. It has streaks if
    that is more than 0.75 grey values, and six times what is usual, in more than 0.5 % of the rows
    where cells may pass, but in no row in more than 70 % of the columns: a channel that moves is
    off in all of them. Look here if more than 5 % of the images, and more than one of many, have
    streaks, and if that matters: if something is left of the frames, or if what comes and goes is
    more than 1 grey value (see `what_passes`).
    """
    if len(view.apart) < LEAST_WINDOWS:
        return None
    streaked = np.array([np.mean(each) > STREAKED_PLACES for each in passing(view)])
    value = float(np.mean(streaked))
    advice = ""
    often = value > STREAKED_IMAGES and (value > ONE_IMAGE or np.count_nonzero(streaked) > 1)
    if often and (not is_clean(view) or what_passes(view) > MOST_PASSED):
        why = f"{view.cells.capitalize()} stay in the background images"
        advice = cause or advise(view, why, "let them pass faster, or measure for longer")
    return judge(
        "streaks",
        "Streaks in the background",
        value,
        f"in {percent(value)} of the images",
        "Share of the background images with streaks or patches that those before and after do "
        f"not have: mostly {view.cells} that the median did not remove.",
        advice,
    )


def passing(view: View) -> NDArray[np.bool_]:
    """Return where images of the series show passing objects, which do not fill all columns."""
    bumps = _bumps(view)
    usual = float(np.median(bumps[bumps > 0])) if np.any(bumps) else 0.0
    shown: NDArray[np.bool_] = bumps > max(LIMIT, 6 * 1.4826 * usual)
    shown[fill(shown) >= FULL_ROW] = False
    return shown


def what_passes(view: View) -> float:
    """Return the remains of slow objects in background images, in grey values.

    Objects are at one place after the other; changes at a single place count as background. The
    value is exceeded at `PLACES_OFF` of the places, in a tenth of the images.
    """
    series = view.series[:, view.rows]
    unusual = np.abs(series - median(series, axis=0)) > LIMIT
    if np.median(np.mean(unusual, axis=(1, 2))) > MOST_PASSING:
        return 0.0  # the whole picture moves
    bumps = _bumps(view)
    shown = bumps > LIMIT
    large = (np.mean(shown, axis=(1, 2)) > PLACES_OFF / 2) & _has_gaps(bumps, shown)
    if not np.any(large):
        return 0.0
    one, all_of_them = np.mean(shown[large]), np.mean(np.any(shown[large], axis=0))
    if all_of_them < 1.5 * one:
        return 0.0
    bumps[~large] = 0
    return float(np.quantile(sizes(bumps), 0.9, method="higher"))


def _has_gaps(bumps: Floats, shown: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether objects, and not the whole picture, make these images differ.

    In no row, they are in all columns; or what differs at least half as much as the most is not.
    """
    strong = bumps > np.maximum(LIMIT, sizes(bumps) / 2)[:, np.newaxis, np.newaxis]
    columns = np.mean(np.any(strong, axis=1), axis=1)
    has_gaps: NDArray[np.bool_] = (fill(shown) < FULL_ROW) | (columns < FULL_ROW)
    return has_gaps


def _bumps(view: View) -> Floats:
    """Return by how much images differ both from all earlier and from all later ones."""
    series = view.series[:, view.rows]
    bumps = np.zeros_like(series)
    if len(series) < LEAST_WINDOWS:
        return bumps
    for sign in (1, -1):
        values = sign * series
        before = np.minimum.accumulate(values, axis=0)[:-2]
        after = np.minimum.accumulate(values[::-1], axis=0)[::-1][2:]
        np.maximum(bumps[1:-1], values[1:-1] - np.maximum(before, after), out=bumps[1:-1])
    # Between two objects, a place has its usual value.
    usual: Floats = np.minimum(bumps, np.abs(series - median(series, axis=0)))
    return usual


def dropped(view: View) -> Finding | None:
    """Share of the background images that cleansing dropped, and where in time.

    They are spread over the measurement if chance may have picked them: the longest run
    of dropped images is no longer than ``2 + log(m (1 - p)) / log(1 / p)``, with ``p``
    their share of the ``m`` images, and no longer than 3. Their frames get the image of another
    time, which only matters if something changes; see `change`. So it is never judged. It is left
    out for a loaded background, as files do not keep dropped images.
    """
    background = view.background
    if background.is_loaded:
        return None
    dropped = ~background.kept
    count = int(np.count_nonzero(dropped))
    share = count / len(dropped)
    first, longest = _longest_run(dropped)
    by_chance: float = BY_CHANCE
    if 0 < share < 1:
        by_chance = max(BY_CHANCE, 2 + math.log(count * (1 - share) / share) / math.log(1 / share))
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
        f"Images that cleansing took for images with {view.cells}, and whether they are "
        "consecutive.",
        "",
    )


def _longest_run(flags: NDArray[np.bool_]) -> tuple[int, int]:
    """Return begin and length of the longest run of true flags."""
    edges = np.flatnonzero(np.diff(flags, prepend=False, append=False))
    begins, lengths = edges[::2], edges[1::2] - edges[::2]
    if not len(begins):
        return 0, 0
    longest = int(np.argmax(lengths))
    return int(begins[longest]), int(lengths[longest])
