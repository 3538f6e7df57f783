"""Cleansing: drop the background images that still show cells.

A cell that stays in the median leaves a streak, which widens the range of grey
values along the flow in the rows where it passed. The score of an image is the
deviation of that range, in the middle of the channel, from the usual range.
"""

import logging
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from sparsemed.method.repeated import apart
from sparsemed.warned import warn

logger = logging.getLogger(__name__)

BASELINE_LENGTH = 10
"""Number of images for the usual range: the size of a median filter."""


class Cleansing(NamedTuple):
    """Which background images to keep, and why.

    Attributes
    ----------
    kept : ndarray of bool, shape (M,)
        Images to keep: those with ``score <= threshold``. At least one.
    score : ndarray of float64, shape (M,)
        Deviation of the range of grey values; large where cells are left.
    threshold : float
        Images with scores up to this are kept; infinite if cleansing is off.
    """

    kept: NDArray[np.bool_]
    score: NDArray[np.float64]
    threshold: float


def cleanse(series: Any, thresh_cleansing: float, frac_cleansing: float) -> Cleansing:
    """Score a series of background images and choose which to keep.

    Parameters
    ----------
    series : ndarray or RepeatedImages, shape (M, H, W), uint8 or uint16
        Background images in the order of time; M >= 1.
    thresh_cleansing, frac_cleansing : float
        See `sparsemed.parameters.Parameters`.

    Returns
    -------
    Cleansing

    Notes
    -----
    With ``d`` the score, the threshold is ``150 var(d) / thresh_cleansing``. If
    `thresh_cleansing` is 0, or this would keep less than `frac_cleansing` of the
    images (then with a warning), it is the quantile `frac_cleansing` of ``d``.
    Method and constants are those of ``BackgroundSparseMed`` in dcnum.
    """
    score = _score(series)
    if frac_cleansing == 1:
        logger.info("All %d background images are kept: cleansing is off", len(score))
        return Cleansing(np.ones(len(score), dtype=bool), score, np.inf)

    spread = np.var(score) * 150
    quantile = np.quantile(score, frac_cleansing)
    threshold = quantile if thresh_cleansing == 0 else spread / thresh_cleansing
    kept = score <= threshold
    dropped = np.sum(~kept) / kept.size
    # Close cases depend on the rounding of `1 - dropped`, which is that of dcnum.
    if thresh_cleansing != 0 and 1 - dropped < frac_cleansing:
        enough = np.quantile(score, frac_cleansing, method="higher")
        named = 0.99 * spread / enough if enough > 0 else 0
        warn(
            f"thresh_cleansing={thresh_cleansing} would keep only {100 * (1 - dropped):.1f} % of "
            f"the background images, so frac_cleansing={frac_cleansing} decides instead; "
            f"thresh_cleansing={named:.3g} would have kept enough"
        )
        threshold = quantile
        kept = score <= threshold
    logger.info("Cleansing keeps %d of %d background images", np.sum(kept), kept.size)
    return Cleansing(kept, score, float(threshold))


def _score(series: Any) -> NDArray[np.float64]:
    """Return the deviation of the range of grey values in the middle of the channel, per image."""
    height = series.shape[1]
    distinct, index = apart(series)
    ranges = _ranges(distinct)
    excess = ranges - np.median(ranges[index], axis=0)
    reach = max(20, height // 4)
    # In images of less than 40 rows, the start is negative and counts from the end, as in dcnum.
    middle = slice(height // 2 - reach, height // 2 + reach)
    course = np.mean(excess[:, middle], axis=1)[index]
    course = course - _baseline(course)
    score: NDArray[np.float64] = np.abs(course - np.median(course))
    return score


def _ranges(images: NDArray[Any]) -> NDArray[Any]:
    """Return the range of grey values in each row of each image."""
    # Piece by piece: signals wait for each call of NumPy, and a series may have gigabytes.
    pieces = range(0, len(images), 100)
    return np.concatenate([np.ptp(images[start : start + 100], axis=2) for start in pieces])


def _baseline(course: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the upper median of each value's neighbourhood; the course is mirrored at its ends."""
    half = BASELINE_LENGTH // 2
    mirrored = np.pad(course, (half, BASELINE_LENGTH - half - 1), mode="symmetric")
    around = sliding_window_view(mirrored, BASELINE_LENGTH)
    baseline: NDArray[np.float64] = np.partition(around, half, axis=1)[:, half]
    return baseline
