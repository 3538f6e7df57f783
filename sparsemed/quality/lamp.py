"""The lamp: flicker, drift, and light that offsets do not correct."""

from functools import partial
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from sparsemed.method.offsets import band_means
from sparsemed.method.repeated import each
from sparsemed.method.result import Background
from sparsemed.quality.advice import advise
from sparsemed.quality.change import lag
from sparsemed.quality.finding import EXPLAINS, LIMIT, Finding, judge, percent
from sparsemed.quality.light import FLICKER, flicker_events
from sparsemed.quality.maps import FRAMES_OFF, sizes
from sparsemed.quality.quantiles import median, quantile, running_median
from sparsemed.quality.view import View

FLICKER_SHARE = 5 / 1000
"""From this share of flickering frames on, the lamp flickers; 5 frames of 1000, as in dcnum."""

MOST_LIGHT = 1.0
"""Grey values of light that may be left; only the darkest or brightest places have so much."""

BETTER = 0.8
"""Offsets, or their absence, help if they leave less than this share of the light."""

FAST = 0.5
"""Light is fast if its scatter within the shortest window has more than this share."""


def flicker(view: View) -> Finding | None:
    """Share of frames in which the lamp flickers; see `flicker_events` for the rule.

    Flicker that offsets correct is good; what they leave is the brightness left in the channel.
    Without offsets, the frames of the sample are taken, with the difference of the wall band's
    mean. Left out where there is no wall.
    """
    events = _flickering(view)
    if events is None or not view.has_wall:
        return None
    count = int(np.count_nonzero(events))
    share = count / len(events)
    text = f"{count} of {len(events)} frames ({percent(share)})"
    advice = ""
    if share >= FLICKER_SHARE and view.background.offsets is not None:
        text += ", corrected by bg_off"
    elif share >= FLICKER_SHARE and not _harm(view):
        advice = f"The {view.lamp} flickers and nothing corrects it: offset_correction=True."
        if view.cure is not None and "offset_correction=True" not in view.cure.settings:
            advice = f"The {view.lamp} flickers, and offsets alone do not help: steady it."
    return judge(
        "flicker",
        f"Flicker of the {view.lamp}",
        share,
        text,
        "Frames whose first rows are 2.5 grey values or more off from the background (dcnum's "
        "rule).",
        advice,
    )


def _flickering(view: View) -> NDArray[np.bool_] | None:
    """Return which frames show the lamp flicker: of all, or of the sample."""
    background, sample = view.background, view.sample
    if background.offsets is not None or sample is None:
        return flicker_events(background)
    rows = background.offset_rows
    walls = sample.frames[:, :rows].mean(axis=(1, 2), dtype=np.float64)
    of_images = each(background.images, partial(band_means, rows=rows))
    off = walls - of_images[background.frame_index[sample.numbers]]
    events: NDArray[np.bool_] = np.abs(off - np.median(off)) >= FLICKER * view.scale
    return events


def drift(view: View) -> Finding | None:
    """Drift of brightness over the measurement, as a share of the brightness.

    A straight line is fitted to the wall band's mean of the series over time: ``slope *
    duration / mean``. It is never judged, as offsets and a new image each second follow a lamp that
    warms up. What they leave is the brightness left in the channel. Left out if there is no wall,
    or if the times of images are unknown.
    """
    if not (view.has_wall and view.knows_windows):
        return None
    background = view.background
    of_wall = partial(band_means, rows=background.offset_rows)
    walls, times = each(background.series, of_wall), background.step_times
    slope = 0.0
    if len(walls) > 1:
        centred = times - np.mean(times)
        slope = float(centred @ walls / (centred @ centred))
    value = slope * float(times[-1] - times[0]) / max(float(np.mean(walls)), 1.0)
    return judge(
        "drift",
        "Drift of brightness",
        value,
        f"{'+' if value > 5e-5 else ''}{percent(value)} of the brightness of the {view.wall}",
        f"How much the brightness of the {view.wall} changed from begin to end.",
        "",
    )


def light_left(view: View, with_offsets: bool) -> float:
    """Return the light left in the channel, with or without offsets.

    It is the number of `channel`, independent of the offsets of the background.
    """
    assert view.sample is not None
    middle = view.below[:, view.middle]
    gain, added = view.fit.gain, view.fit.added
    offsets = np.zeros(len(middle))
    if with_offsets and view.background.offsets is not None:
        offsets = view.background.offsets[view.sample.numbers] / view.scale
    elif with_offsets:
        walls = view.frames[:, view.band] - view.below[:, view.band]
        offsets = np.mean(walls, axis=(1, 2), dtype=np.float64)
    # The remaining light is linear in the grey value, so it is largest at the ends of the range.
    ends = np.stack([quantile(middle.reshape(len(middle), -1), each) for each in (0.025, 0.975)])
    left = (gain - 1) * ends + added - offsets
    return float(np.quantile(np.abs(left).max(axis=0), 0.95))


def blurred(view: View) -> float:
    """Return the error of medians from light that changes within a window."""
    light = view.fit.gain * median(view.below.reshape(-1)) + view.fit.added
    fast = np.abs(light - running_median(light, 5))
    scatter = 1.4826 * float(np.median(fast))
    return scatter * NormalDist().inv_cdf(0.5 / (1 - min(view.covered, 0.45)))


def _harm(view: View) -> bool:
    """Whether offsets make it worse, for example if objects pass the rows for offsets."""
    return view.is_sampled and light_left(view, False) < BETTER * light_left(view, True)


def channel(view: View, cause: str) -> Finding | None:
    """Brightness left in the channel, which offsets from the wall do not correct.

    Each frame of the sample is fitted by its background image ``B``, ``gain · B + added``, by
    least squares without places that are off by more (cells). What is left is
    ``(gain - 1) B + added - bg_off``, at the darkest or brightest of 95 % of the middle rows; and
    of that the 95 % quantile over frames. Light that changes within a window also upsets the
    median where cells pass: with ``s`` what it scatters and ``p`` the share of frames in which
    cells cover a place, by ``s z(0.5 / (1 - p))``, ``z`` the quantile of the normal
    distribution. That is added. Look here above 1 grey value, if offsets, or their absence, are
    the cause, or if at least half of it changes everywhere at once (`Left.pattern`): a crowd of
    cells looks like light, too, but is here or there.
    """
    if not view.is_sampled or view.background.series.shape[1] <= view.background.offset_rows:
        return None
    corrects = view.background.offsets is not None
    value = light_left(view, corrects) + blurred(view)
    advice = ""
    if value > MOST_LIGHT and _explains(view, value):
        advice = _steadier(view, value, light_left(view, not corrects) + blurred(view))
    return judge(
        "channel",
        "Brightness left in the channel" if view.is_channel else "Brightness left",
        value,
        f"up to {value:.2g} grey values in 95 of 100 frames",
        "Light that is left when background and offset are subtracted. It counts if it is most of "
        "what is left of the frames.",
        cause if advice and cause else advice,
    )


def _explains(view: View, value: float) -> bool:
    """Whether light is most of what is left."""
    return value > EXPLAINS * view.left.size


def _steadier(view: View, value: float, otherwise: float) -> str:
    """Return advice on light that is left, given the light left with offsets turned on or off.

    It is empty if nothing shows that it is light.
    """
    corrects, rows = view.background.offsets is not None, view.background.offset_rows
    if otherwise < BETTER * value and corrects and lag(view) > LIMIT:
        return advise(view, f"The first {rows} rows change with the rest", "find out what changes")
    if otherwise < BETTER * value and corrects:
        why = f"The first {rows} rows, from which offsets are taken, show more than the light"
        remedy = "take offsets from rows where nothing passes (offset_rows)"
        if view.background.source is not None:  # of which the rows are given
            remedy = f"keep {view.cells} out of these rows"
        return advise(view, why, remedy, "offset_correction=False")
    if otherwise < BETTER * value:
        remedy = "expose all frames alike"
        return advise(
            view, "Brightness differs from frame to frame", remedy, "offset_correction=True"
        )
    if np.quantile(sizes(view.left.pattern), 1 - FRAMES_OFF) < EXPLAINS * value:
        return ""
    if not view.is_channel:
        why = f"Brightness differs from frame to frame, and the first {rows} rows do not tell how"
        return advise(view, why, "expose all frames alike")
    if is_fast(view):
        why = "The light changes from frame to frame, and not everywhere alike"
        remedy = "give the lamp a steady supply; if it is on the mains, expose for whole periods"
        return f"{why}, and no parameter helps: {remedy}."  # no window follows
    return advise(view, "The light changes, and offsets are not enough", "steady the lamp")


def is_fast(view: View) -> bool:
    """Whether most of the changes of the light are faster than the shortest window.

    That is, if the light less its running mean over 25 frames has more than half of its
    standard deviation.
    """
    background: Background = view.background
    if background.offsets is None:
        return True
    from scipy import ndimage  # takes a while to import

    light = background.offsets + each(background.images, band_means)[background.frame_index]
    fast = light - ndimage.uniform_filter1d(light, 25)
    return float(np.std(fast)) > FAST * float(np.std(light))
