"""Noise of the wall after the background was subtracted."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sparsemed.method.result import Background
from sparsemed.quality.advice import advise
from sparsemed.quality.finding import Finding, judge
from sparsemed.quality.sample import Sample, corrected
from sparsemed.quality.view import View

TIMES_FLOOR, ABOVE_FLOOR = 1.5, 0.5
"""The noise of the wall may be this many times that of the camera, plus these grey values."""


class WallNoise(NamedTuple):
    """Noise in the wall band of some frames, in grey values.

    Attributes
    ----------
    before : ndarray, shape (n,)
        Standard deviation of the band of each raw frame, over its pixels.
    after : ndarray, shape (n,)
        Root mean square of the band minus the background.
    floor : float
        Noise of the camera, the least possible value.
    """

    before: NDArray[np.float64]
    after: NDArray[np.float64]
    floor: float


def wall_noise(background: Background, sample: Sample) -> WallNoise:
    """Return the noise of the wall before and after subtraction, and the least possible value.

    No cells pass in the wall band (the first 20 rows, or `offset_rows`), so that only noise or a
    fault is left there after the background was subtracted. With ``B`` the band of a frame and
    ``R`` that of the frame minus its background::

        before = std(B)
        after  = sqrt(mean(R²))
        floor  = median over frames of std(B - B_next) / sqrt(2)

    where ``B_next`` is the band of the next frame of the sample. Frames that repeat
    the one before (several events of one image) do not count for the floor.
    """
    band = sample.frames[:, : background.offset_rows].astype(np.float32)
    left = corrected(background, sample, background.offset_rows)
    after = np.sqrt(np.mean(np.square(left), axis=(1, 2), dtype=np.float64))
    steps = np.std(np.diff(band, axis=0), axis=(1, 2))
    steps = steps[steps > 0]
    floor = float(np.median(steps)) / math.sqrt(2) if len(steps) else 0.0
    return WallNoise(np.std(band, axis=(1, 2)).astype(np.float64), after, floor)


def noise(view: View, cause: str) -> Finding | None:
    """Residual noise of the wall: ``median(after)`` of `wall_noise`.

    Look here from ``1.5 floor + 0.5`` grey values up; the other numbers say why. Left out
    where there is no wall.
    """
    if view.sample is None or not view.has_wall:
        return None
    noise = wall_noise(view.background, view.sample)
    before, after = float(np.median(noise.before)), float(np.median(noise.after))
    advice = ""
    if after > TIMES_FLOOR * noise.floor + ABOVE_FLOOR * view.scale:
        why = f"The background does not fit the {view.wall}"
        advice = cause or advise(view, why, "look where and when something is left of the frames")
    return judge(
        "noise",
        f"Noise of the {view.wall}",
        after,
        f"{after:.2g} grey values, {before:.2g} before; the camera alone has {noise.floor:.2g}",
        "What is left of the first rows, where nothing passes, when the background is subtracted.",
        advice,
    )
