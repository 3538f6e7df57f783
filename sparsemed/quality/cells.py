"""Cells that stay: streaks, movement, and images that were dropped."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsemed.method.result import Background
from sparsemed.quality.finding import Finding, follow_faster, judge, more_frames, percent
from sparsemed.quality.light import is_unsteady
from sparsemed.quality.sample import AT_MOST, NEIGHBOURS, Sample, spread


def movement(background: Background) -> Finding | None:
    """Share of pixels in which the background moves from one kept image to the next.

    With ``d = B median(A) / median(B) - A`` the difference of two kept images that follow
    each other under the same light, a pixel moves if ``abs(d)`` is above ``max(3 q, 5 s)``
    grey values. ``q`` is the least step of grey values (mostly 1), and ``s`` the noise of the
    background images: 1.48 times the median of ``abs(d)``, and of that the median over
    pairs. Look here above 2 % of the pixels, on average over pairs.
    """
    images = background.images
    if len(images) < 3:
        return None
    pairs = spread(len(images) - 1, AT_MOST)
    limit = _limit(images)
    value = float(np.mean([np.mean(_moved(images[i], images[i + 1]) > limit) for i in pairs]))
    advice = ""
    if value > 0.02:
        advice = (
            f"If cells come and go: {more_frames(background)}. If the channel itself moves: "
            f"split_time={background.parameters.split_time / 2:g}."
        )
    return judge(
        "movement",
        "Background that still moves",
        value,
        f"{percent(value)} of the pixels from one kept image to the next",
        "Share of pixels that change more between kept background images than noise explains; "
        "an empty channel stands still.",
        advice,
    )


def streaks(background: Background, sample: Sample | None) -> Finding | None:
    """Share of the kept background images with streaks: they still show cells.

    Each image is compared with its neighbours: with ``A`` the median of the about 21 images
    around it, streaks are where ``abs(d)`` is above the limit, both as in
    `movement`, in the rows that cleansing looks at. An image has streaks if they cover more
    than 0.5 % of these rows. Look here if more than 5 % of the kept images do.
    """
    if len(background.series) < 3:
        return None
    streaked = _has_streaks(background)
    value = float(np.mean(streaked))
    advice = ""
    if value > 0.05 and is_unsteady(background, sample):
        advice = (
            "An unsteady lamp upsets the median while its brightness changes: see to its flicker "
            f"first, or try {follow_faster(background)}."
        )
    elif value > 0.05:
        advice = f"Cells stay in the median, as they are many or slow: {more_frames(background)}"
        kept = float(np.mean(background.kept))
        cleaner = math.floor(10 * kept * (1 - value)) / 10
        if value <= 0.3 and cleaner > 0:
            advice += f", or drop more images with frac_cleansing={cleaner:g}"
        advice += ". If it stays, dilute the sample."
    return judge(
        "streaks",
        "Streaks in the background",
        value,
        f"in {percent(value)} of the kept images",
        "Share of the kept background images with streaks or patches that their neighbours do "
        "not have: mostly cells that the median did not remove.",
        advice,
    )


def _has_streaks(background: Background) -> NDArray[np.bool_]:
    series = background.series
    height = series.shape[1]
    reach = max(20, height // 4)
    rows = slice(max(0, height // 2 - reach), height // 2 + reach)
    limit = _limit(series)
    kept = np.flatnonzero(background.kept)
    kept = kept[spread(len(kept), AT_MOST)]
    blocks = np.array_split(np.arange(len(series)), max(1, round(len(series) / NEIGHBOURS)))
    shown = []
    for block in blocks:
        inside = kept[(kept >= block[0]) & (kept <= block[-1])]
        if len(inside):
            usual = np.median(series[block[0] : block[-1] + 1, rows], axis=0)
            shown += [np.mean(_moved(usual, series[i, rows]) > limit) > 0.005 for i in inside]
    return np.array(shown)


def dropped(background: Background, sample: Sample | None) -> Finding:
    """Share of the background images that cleansing dropped, and where in time.

    They are spread over the measurement if chance may have picked them: the longest run
    of dropped images is no longer than ``2 + log(m (1 - p)) / log(1 / p)``, with ``p``
    their share of the ``m`` images, and no longer than 3. Look here if it is longer.
    """
    dropped = ~background.kept
    count = int(np.count_nonzero(dropped))
    share = count / len(dropped)
    first, longest = _longest_run(dropped)
    by_chance = 3.0
    if 0 < share < 1:
        by_chance = max(3.0, 2 + math.log(count * (1 - share) / share) / math.log(1 / share))
    where = text = advice = ""
    if longest > by_chance:
        begin, end = background.step_times[first], background.step_times[first + longest - 1]
        where = f"; {longest} of them in a row, from {begin:.4g} to {end:.4g} s"
        cause = "there were many or slow cells, or something moved"
        if is_unsteady(background, sample):
            cause, cure = "the lamp changed", follow_faster(background)
        else:
            cure = more_frames(background)
        advice = f"Frames of that time get the background of another, as {cause}: try {cure}."
    elif count:
        where = f", spread over the measurement ({longest} in a row at most)"
    text = f"{count} of {len(dropped)} images ({percent(share)}){where}"
    return judge(
        "dropped",
        "Background images dropped",
        share,
        text,
        "What cleansing took for images with cells, and whether that happened all at once.",
        advice,
    )


def _moved(image: NDArray[Any], other: NDArray[Any]) -> NDArray[np.float64]:
    """Return how far pixels are apart when both images are under the light of the first."""
    light = max(float(np.median(image)), 1.0) / max(float(np.median(other)), 1.0)
    moved: NDArray[np.float64] = np.abs(other * light - image)
    return moved


def _limit(images: NDArray[Any]) -> float:
    """Return how far noise and rounding can move a pixel from one background image to the next."""
    pairs = spread(len(images) - 1, NEIGHBOURS)
    noise = [1.4826 * np.median(_moved(images[i], images[i + 1])) for i in pairs]
    # cameras of 10 to 14 bits may write their values times a power of two
    step = max(1, int(np.gcd.reduce(images[0].ravel() - images[0].min())))
    return max(3.0 * step, 5 * float(np.median(noise)))


def _longest_run(flags: NDArray[np.bool_]) -> tuple[int, int]:
    """Return begin and length of the longest run of true flags."""
    from scipy import ndimage  # takes a while to import

    runs = [run for (run,) in ndimage.find_objects(ndimage.label(flags)[0])]
    longest = max(runs, key=lambda run: run.stop - run.start, default=slice(0, 0))
    return int(longest.start), int(longest.stop - longest.start)
