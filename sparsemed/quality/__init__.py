"""Numbers that say whether a background is good, and what to change where it is not.

Each finding has its formula in the docstring of the function that makes it.
Grey values are those of 8-bit images; see `grey_scale` for others.
"""

import logging
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sparsemed.method.offsets import BAND_ROWS, band_means
from sparsemed.rtdc.measurement import Measurement

if TYPE_CHECKING:
    from sparsemed import SparseBackground

logger = logging.getLogger(__name__)

GOOD = "good"
LOOK_HERE = "look here"

FLICKER = 2.5
"""Grey values by which a frame's wall is off when the lamp flickers; dcnum's value."""

FLICKER_SHARE = 5 / 1000
"""Share of such frames from which on a lamp flickers; dcnum's 5 frames of 1000."""

UNSTEADY_SHARE = 0.25
"""Share of such frames from which on offsets alone are not to be trusted."""

NEIGHBOURS = 21
"""Images of the series that an image is compared with to find streaks in it."""

AT_MOST = 500
"""Images that are looked at, evenly spaced, where there are more."""


class Finding(NamedTuple):
    """One number about a background, and what it means.

    Attributes
    ----------
    key : str
        Short name, for programs.
    title : str
        What was looked at.
    value : float
        The number.
    text : str
        The number in words, with its unit.
    verdict : str
        ``"good"`` or ``"look here"``.
    explanation : str
        What the number is, in a sentence.
    advice : str
        What to change, with a value to try; empty where all is good.
    """

    key: str
    title: str
    value: float
    text: str
    verdict: str
    explanation: str
    advice: str

    @property
    def is_good(self) -> bool:
        """Whether there is nothing to look at."""
        return self.verdict == GOOD

    def __str__(self) -> str:
        line = f"{self.verdict}: {self.title}: {self.text}"
        return line if self.is_good else f"{line}\n  → {self.advice}"


class Sample(NamedTuple):
    """Some frames of a measurement, evenly spaced.

    Attributes
    ----------
    numbers : ndarray of int, shape (n,)
        Numbers of the frames, ascending.
    images : ndarray, shape (n, H, W)
        The frames.
    """

    numbers: NDArray[np.intp]
    images: NDArray[Any]


def take_sample(
    background: "SparseBackground", images: Any = None, count: int = 48
) -> Sample | None:
    """Read a few frames, evenly spaced from the first to the last.

    Parameters
    ----------
    background : SparseBackground
    images : array-like, shape (N, H, W), optional
        The frames that the background was computed from. Default: those of the
        measurement `background.source`, its basins included.
    count : int
        Number of frames, or all if there are fewer.

    Returns
    -------
    Sample or None
        None without `images` if the background is not of a measurement, or if
        that cannot be read any more (which is logged).

    Raises
    ------
    ValueError
        If the images do not fit the background.
    """
    if images is not None:
        return _pick(background, images, count)
    if background.source is None:
        return None
    try:
        with Measurement(background.source, background.basins) as measurement:
            return _pick(background, measurement.image, count)
    except OSError as error:
        logger.warning("What needs frames is left out: %s", error)
        return None


def _pick(background: "SparseBackground", images: Any, count: int) -> Sample:
    expected = (len(background), *background.images.shape[1:])
    shape = tuple(images.shape) if hasattr(images, "shape") else np.shape(images)
    if shape != expected:
        raise ValueError(f"images: the background is of {expected} frames, got {shape}")
    numbers = _spread(len(background), count)
    # One at a time: not all arrays take lists of indices.
    frames = [np.asarray(images[number : number + 1]) for number in numbers.tolist()]
    return Sample(numbers, np.concatenate(frames))


def assess(background: "SparseBackground", sample: Sample | None = None) -> tuple[Finding, ...]:
    """Say what is good about a background, and where to look.

    Parameters
    ----------
    background : SparseBackground
    sample : Sample, optional
        Frames to compare with. Without them, what needs them is left out.

    Returns
    -------
    tuple of Finding
        Left out is what cannot be told: movement and streaks from less than three
        background images, flicker with neither offsets nor frames.

    Examples
    --------
    >>> import numpy as np
    >>> import sparsemed
    >>> images = np.full((100, 40, 60), 90, dtype=np.uint8)
    >>> background = sparsemed.compute_background(images, time=np.arange(100) / 10)
    >>> [finding.key for finding in assess(background)]
    ['flicker', 'drift', 'streaks', 'movement', 'dropped', 'saturation']
    >>> all(finding.is_good for finding in assess(background, take_sample(background, images)))
    True
    """
    # The lamp comes first, as it may be the cause of what follows.
    findings = [
        _flicker(background, sample),
        _drift(background),
        _streaks(background, sample),
        _movement(background),
        _dropped(background, sample),
        _noise(background, sample),
        _channel(background, sample),
        _saturation(background),
    ]
    return tuple(finding for finding in findings if finding is not None)


def grey_scale(background: "SparseBackground") -> float:
    """Return what a grey value of an 8-bit image amounts to in these images.

    That is 1 for uint8. Cameras fill uint16 to different degrees, so there it
    is the median of the background over 128, the middle of 8 bits; at least 1.
    """
    if background.images.dtype == np.uint8:
        return 1.0
    images = background.images[_spread(len(background.images), NEIGHBOURS)]
    return max(1.0, float(np.median(images)) / 128)


def flicker_events(background: "SparseBackground") -> NDArray[np.bool_] | None:
    """Return which frames show the lamp flicker; None without offsets.

    dcnum takes the median brightness of a strip at the top of each of the first
    thousand frames. A frame flickers if its own is 2.5 grey values or more off
    from what is usual, and a lamp flickers if five frames do. Here the strip is the
    wall band, the brightness is the offset ``bg_off``, what is usual is its
    median, and all frames count: ``abs(bg_off - median(bg_off)) >= 2.5``, for
    5 of 1000 frames. As offsets are relative to the background image, slow
    drift of the lamp is not taken for flicker.
    """
    if background.offsets is None:
        return None
    off = np.abs(background.offsets - np.median(background.offsets))
    events: NDArray[np.bool_] = off >= FLICKER * grey_scale(background)
    return events


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


def wall_noise(background: "SparseBackground", sample: Sample) -> WallNoise:
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
    left = _corrected(background, sample)[:, :BAND_ROWS]
    after = np.sqrt(np.mean(left**2, axis=(1, 2)))
    steps = np.std(np.diff(band, axis=0), axis=(1, 2))
    steps = steps[steps > 0]
    floor = float(np.median(steps)) / math.sqrt(2) if len(steps) else 0.0
    return WallNoise(np.std(band, axis=(1, 2)), after, floor)


def _noise(background: "SparseBackground", sample: Sample | None) -> Finding | None:
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
                f"with {_follow_faster(background)}."
            )
    return _finding(
        "noise",
        "Noise of the wall",
        after,
        f"{after:.2g} grey values, {before:.2g} before; the camera alone has {noise.floor:.2g}",
        "What is left of the channel wall, where no cells pass, when the background is subtracted.",
        advice,
    )


def _channel(background: "SparseBackground", sample: Sample | None) -> Finding | None:
    """Brightness left in the channel: what is not corrected by an offset from the wall.

    With ``c`` the median of all rows below the wall band of a frame less its
    background: the 90 % quantile of ``abs(c)`` over frames. Look here from 2.5
    grey values up.
    """
    if sample is None or sample.images.shape[1] <= BAND_ROWS:
        return None
    left = np.median(_corrected(background, sample)[:, BAND_ROWS:], axis=(1, 2))
    value = float(np.quantile(np.abs(left), 0.9))
    advice = ""
    if value >= FLICKER * grey_scale(background):
        if background.offsets is None:
            advice = "Brightness differs from frame to frame: offset_correction=True."
        else:
            advice = (
                "The lamp changes the channel by more than the wall, so that an offset is not "
                f"enough: follow it with {_follow_faster(background)}, and steady the lamp."
            )
    return _finding(
        "channel",
        "Brightness left in the channel",
        value,
        f"up to {value:.2g} grey values in nine frames of ten",
        "How bright or dark the channel still is when the background is subtracted; "
        "it should be 0.",
        advice,
    )


def _movement(background: "SparseBackground") -> Finding | None:
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
    pairs = _spread(len(images) - 1, AT_MOST)
    limit = _limit(images)
    value = float(np.mean([np.mean(_moved(images[i], images[i + 1]) > limit) for i in pairs]))
    advice = ""
    if value > 0.02:
        advice = (
            f"If cells come and go: {_more_frames(background)}. If the channel itself moves: "
            f"split_time={background.parameters.split_time / 2:g}."
        )
    return _finding(
        "movement",
        "Background that still moves",
        value,
        f"{_percent(value)} of the pixels from one kept image to the next",
        "Share of pixels that change more between kept background images than noise explains; "
        "an empty channel stands still.",
        advice,
    )


def _streaks(background: "SparseBackground", sample: Sample | None) -> Finding | None:
    """Share of the kept background images with streaks: they still show cells.

    Each image is compared with its neighbours: with ``A`` the median of the about 21 images
    around it, streaks are where ``abs(d)`` is above the limit, both as in
    `_movement`, in the rows that cleansing looks at. An image has streaks if they cover more
    than 0.5 % of these rows. Look here if more than 5 % of the kept images do.
    """
    if len(background.series) < 3:
        return None
    streaked = _has_streaks(background)
    value = float(np.mean(streaked))
    advice = ""
    if value > 0.05 and _is_unsteady(background, sample):
        advice = (
            "An unsteady lamp upsets the median while its brightness changes: see to its flicker "
            f"first, or try {_follow_faster(background)}."
        )
    elif value > 0.05:
        advice = f"Cells stay in the median, as they are many or slow: {_more_frames(background)}"
        kept = float(np.mean(background.kept))
        cleaner = math.floor(10 * kept * (1 - value)) / 10
        if value <= 0.3 and cleaner > 0:
            advice += f", or drop more images with frac_cleansing={cleaner:g}"
        advice += ". If it stays, dilute the sample."
    return _finding(
        "streaks",
        "Streaks in the background",
        value,
        f"in {_percent(value)} of the kept images",
        "Share of the kept background images with streaks or patches that their neighbours do "
        "not have: mostly cells that the median did not remove.",
        advice,
    )


def _has_streaks(background: "SparseBackground") -> NDArray[np.bool_]:
    series = background.series
    height = series.shape[1]
    reach = max(20, height // 4)
    rows = slice(max(0, height // 2 - reach), height // 2 + reach)
    limit = _limit(series)
    kept = np.flatnonzero(background.kept)
    kept = kept[_spread(len(kept), AT_MOST)]
    blocks = np.array_split(np.arange(len(series)), max(1, round(len(series) / NEIGHBOURS)))
    shown = []
    for block in blocks:
        inside = kept[(kept >= block[0]) & (kept <= block[-1])]
        if len(inside):
            usual = np.median(series[block[0] : block[-1] + 1, rows], axis=0)
            shown += [np.mean(_moved(usual, series[i, rows]) > limit) > 0.005 for i in inside]
    return np.array(shown)


def _dropped(background: "SparseBackground", sample: Sample | None) -> Finding:
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
        if _is_unsteady(background, sample):
            cause, cure = "the lamp changed", _follow_faster(background)
        else:
            cure = _more_frames(background)
        advice = f"Frames of that time get the background of another, as {cause}: try {cure}."
    elif count:
        where = f", spread over the measurement ({longest} in a row at most)"
    text = f"{count} of {len(dropped)} images ({_percent(share)}){where}"
    return _finding(
        "dropped",
        "Background images dropped",
        share,
        text,
        "What cleansing took for images with cells, and whether that happened all at once.",
        advice,
    )


def _drift(background: "SparseBackground") -> Finding:
    """Drift of brightness over the measurement, as a share of the brightness.

    A straight line is fitted to the wall band's mean of the series over time: ``slope *
    duration / mean``. Look here above 10 %, if that is also four times as much as the
    images scatter about the line (otherwise it is not drift, but an unsteady lamp).
    """
    walls, times = band_means(background.series), background.step_times
    slope, scatter = 0.0, 0.0
    if len(walls) > 1:
        centred = times - np.mean(times)
        slope = float(centred @ walls / (centred @ centred))
        scatter = float(np.std(walls - slope * centred))
    change = slope * float(times[-1] - times[0])
    value = change / max(float(np.mean(walls)), 1.0)
    advice = ""
    if abs(value) > 0.1 and abs(change) > 4 * scatter:
        advice = (
            "Let the lamp warm up before you measure; here, follow it with "
            f"split_time={background.parameters.split_time / 2:g}."
        )
    return _finding(
        "drift",
        "Drift of brightness",
        value,
        f"{'+' if value > 5e-5 else ''}{_percent(value)} of the brightness of the wall",
        "How much the light of the wall changed over the measurement, slowly.",
        advice,
    )


def _flicker(background: "SparseBackground", sample: Sample | None) -> Finding | None:
    """Share of frames in which the lamp flickers; see `flicker_events` for the rule.

    Flicker that is corrected by offsets is good up to 25 % of the frames. Without offsets,
    the frames of the sample are taken, with the difference of the wall band's mean.
    """
    events = _flickering(background, sample)
    if events is None:
        return None
    count = int(np.count_nonzero(events))
    share = count / len(events)
    flickers = share >= FLICKER_SHARE
    text = f"{count} of {len(events)} frames ({_percent(share)})"
    advice = ""
    if flickers and background.offsets is None:
        advice = "The lamp flickers and nothing corrects it: offset_correction=True."
    elif flickers and share >= UNSTEADY_SHARE:
        advice = (
            "The lamp is unsteady: check its supply and trigger. To follow it, keep "
            f"offset_correction=True and try {_follow_faster(background)}."
        )
    elif flickers:
        text += ", corrected by bg_off"
    return _finding(
        "flicker",
        "Flicker of the lamp",
        share,
        text,
        "Frames whose wall is 2.5 grey values or more off from the background (dcnum's rule).",
        advice,
    )


def _flickering(background: "SparseBackground", sample: Sample | None) -> NDArray[np.bool_] | None:
    """Return which frames show the lamp flicker: of all, or of the sample."""
    if background.offsets is not None or sample is None:
        return flicker_events(background)
    walls = sample.images[:, :BAND_ROWS].mean(axis=(1, 2), dtype=np.float64)
    off = walls - band_means(background.images)[background.frame_index[sample.numbers]]
    events: NDArray[np.bool_] = np.abs(off - np.median(off)) >= FLICKER * grey_scale(background)
    return events


def _is_unsteady(background: "SparseBackground", sample: Sample | None) -> bool:
    events = _flickering(background, sample)
    return events is not None and bool(np.mean(events) >= UNSTEADY_SHARE)


def _saturation(background: "SparseBackground") -> Finding:
    """Share of the background's pixels that are black or white, so that cells cannot be seen.

    That is 0 or the largest value of 8, 10, 12, 14 or 16 bits, whichever first holds all
    kept images. Look here above 1 %.
    """
    images = background.images[_spread(len(background.images), AT_MOST)]
    brightest = int(images.max())
    bits = 8 if images.dtype == np.uint8 else 10
    while brightest >= 2**bits:
        bits += 2
    value = float(np.mean((images == 0) | (images == 2**bits - 1)))
    advice = ""
    if value > 0.01:
        advice = (
            "No parameter brings back what the camera did not see: set lamp or exposure so that "
            "the empty channel is between a third and two thirds of the range."
        )
    return _finding(
        "saturation",
        "Black or white pixels",
        value,
        f"{_percent(value)} of the background",
        "Pixels at the end of the camera's range, where a cell may not show.",
        advice,
    )


def _finding(
    key: str, title: str, value: float, text: str, explanation: str, advice: str
) -> Finding:
    return Finding(key, title, value, text, LOOK_HERE if advice else GOOD, explanation, advice)


def _corrected(background: "SparseBackground", sample: Sample) -> NDArray[np.float64]:
    """Return the frames of the sample less their background, and offset."""
    left: NDArray[np.float64] = sample.images.astype(np.float64) - background[sample.numbers]
    if background.offsets is not None:
        left -= background.offsets[sample.numbers, np.newaxis, np.newaxis]
    return left


def _moved(image: NDArray[Any], other: NDArray[Any]) -> NDArray[np.float64]:
    """Return how far pixels are apart when both images are under the light of the first."""
    light = max(float(np.median(image)), 1.0) / max(float(np.median(other)), 1.0)
    moved: NDArray[np.float64] = np.abs(other * light - image)
    return moved


def _limit(images: NDArray[Any]) -> float:
    """Return how far noise and rounding can move a pixel from one background image to the next."""
    pairs = _spread(len(images) - 1, NEIGHBOURS)
    noise = [1.4826 * np.median(_moved(images[i], images[i + 1])) for i in pairs]
    # cameras of 10 to 14 bits may write their values times a power of two
    step = max(1, int(np.gcd.reduce(images[0].ravel() - images[0].min())))
    return max(3.0 * step, 5 * float(np.median(noise)))


def _longest_run(flags: NDArray[np.bool_]) -> tuple[int, int]:
    """Return begin and length of the longest run of true flags."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    begins, lengths = edges[::2], edges[1::2] - edges[::2]
    if not len(begins):
        return 0, 0
    longest = int(np.argmax(lengths))
    return int(begins[longest]), int(lengths[longest])


def _more_frames(background: "SparseBackground") -> str:
    """Return the setting of a window three times as long, as far as there are frames."""
    size = min(int(background.parameters.kernel_size), len(background))
    if size == len(background):
        return "measure for longer (all frames are in the window already)"
    return f"kernel_size={min(3 * size, len(background))}"


def _follow_faster(background: "SparseBackground") -> str:
    """Return settings with which the background follows changes four times as fast."""
    size = max(21, background.parameters.kernel_size // 4)
    return f"kernel_size={size}, split_time={background.parameters.split_time / 4:g}"


def _percent(share: float) -> str:
    percent = 100 * share
    if abs(percent) < 0.005:
        return "0 %"
    return f"{percent:{'.0f' if abs(percent) >= 10 else '.2g'}} %".replace("-", "−")


def _spread(length: int, count: int) -> NDArray[np.intp]:
    """Return at most `count` indices from 0 to ``length - 1``, evenly spaced."""
    return np.unique(np.linspace(0, length - 1, min(length, count)).round().astype(np.intp))
