"""What is left when the background is subtracted: noise of the wall, brightness of the channel."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sparsemed.method.offsets import BAND_ROWS
from sparsemed.method.result import Background
from sparsemed.quality.finding import Finding, follow_faster, judge
from sparsemed.quality.light import FLICKER, grey_scale
from sparsemed.quality.sample import Sample, corrected


class WallNoise(NamedTuple):
    """Noise in the wall band of some frames, in grey values.

    Attributes
    ----------
    before : ndarray, shape (n,)
        Standard deviation of the band of each raw frame, over its pixels.
    after : ndarray, shape (n,)
        Root of the mean square of the band, background subtracted.
    floor : float
        Noise of the camera: the least that can be left.
    """

    before: NDArray[np.float64]
    after: NDArray[np.float64]
    floor: float


def wall_noise(background: Background, sample: Sample) -> WallNoise:
    """Return the noise of the wall before and after, and the least that can be left.

    No cells pass in the wall band (the first 20 rows), so that all that is left
    there when the background is subtracted is noise, or a fault. With ``B`` the
    band of a frame and ``R`` that of the frame less its background::

        before = std(B)
        after  = sqrt(mean(R²))
        floor  = median over frames of std(B - B_next) / sqrt(2)

    where ``B_next`` is the band of the next frame of the sample. Frames that repeat
    the one before (several events of one image) do not count for the floor.
    """
    band = sample.images[:, :BAND_ROWS].astype(np.float64)
    left = corrected(background, sample)[:, :BAND_ROWS]
    after = np.sqrt(np.mean(left**2, axis=(1, 2)))
    steps = np.std(np.diff(band, axis=0), axis=(1, 2))
    steps = steps[steps > 0]
    floor = float(np.median(steps)) / math.sqrt(2) if len(steps) else 0.0
    return WallNoise(np.std(band, axis=(1, 2)), after, floor)


def noise(background: Background, sample: Sample | None) -> Finding | None:
    """Residual noise of the wall: ``median(after)`` of `wall_noise`.

    Look here from ``1.5 floor + 0.5`` grey values up.
    """
    if sample is None:
        return None
    noise = wall_noise(background, sample)
    before, after = float(np.median(noise.before)), float(np.median(noise.after))
    advice = ""
    if after > 1.5 * noise.floor + 0.5 * grey_scale(background):
        if background.offsets is None:
            advice = "Frames are brighter or darker than their background: offset_correction=True."
        else:
            advice = (
                "The background does not fit the wall, as if something moves: follow it "
                f"with {follow_faster(background)}."
            )
    return judge(
        "noise",
        "Noise of the wall",
        after,
        f"{after:.2g} grey values, {before:.2g} before; the camera alone has {noise.floor:.2g}",
        "What is left of the channel wall, where no cells pass, when the background is subtracted.",
        advice,
    )


def channel(background: Background, sample: Sample | None) -> Finding | None:
    """Brightness left in the channel: what is not corrected by an offset from the wall.

    With ``c`` the median of all rows below the wall band of a frame less its
    background: the 90 % quantile of ``abs(c)`` over frames. Look here from 2.5
    grey values up.
    """
    if sample is None or sample.images.shape[1] <= BAND_ROWS:
        return None
    left = np.median(corrected(background, sample)[:, BAND_ROWS:], axis=(1, 2))
    value = float(np.quantile(np.abs(left), 0.9))
    advice = ""
    if value >= FLICKER * grey_scale(background):
        if background.offsets is None:
            advice = "Brightness differs from frame to frame: offset_correction=True."
        else:
            advice = (
                "The lamp changes the channel by more than the wall, so that an offset is not "
                f"enough: follow it with {follow_faster(background)}, and steady the lamp."
            )
    return judge(
        "channel",
        "Brightness left in the channel",
        value,
        f"up to {value:.2g} grey values in nine frames of ten",
        "How bright or dark the channel still is when the background is subtracted; "
        "it should be 0.",
        advice,
    )
