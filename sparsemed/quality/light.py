"""The lamp and the grey values: flicker, drift, saturation; and frames that are missing."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsemed.frames.source import spans_in_words
from sparsemed.method.offsets import BAND_ROWS, band_means
from sparsemed.method.repeated import each
from sparsemed.method.result import Background
from sparsemed.quality.finding import Finding, follow_faster, judge, percent
from sparsemed.quality.sample import AT_MOST, NEIGHBOURS, Sample, spread

FLICKER = 2.5
"""Grey values by which a frame's wall is off when the lamp flickers; dcnum's value."""

FLICKER_SHARE = 5 / 1000
"""Share of such frames from which on a lamp flickers; dcnum's 5 frames of 1000."""

UNSTEADY_SHARE = 0.25
"""Share of such frames from which on offsets alone are not to be trusted."""


def grey_scale(background: Background) -> float:
    """Return what a grey value of an 8-bit image amounts to in these images.

    That is 1 for uint8. Cameras fill uint16 to different degrees, so there it
    is the median of the background over 128, the middle of 8 bits; at least 1.
    """
    if background.images.dtype == np.uint8:
        return 1.0
    images = background.images[spread(len(background.images), NEIGHBOURS)]
    return max(1.0, float(np.median(images)) / 128)


def flicker_events(background: Background) -> NDArray[np.bool_] | None:
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


def unwritten(background: Background) -> Finding | None:
    """Share of the frames that nobody ever wrote; left out if there are none.

    Look here if there is one: what is missing in a file is read as black.
    """
    if not background.unwritten:
        return None
    count = sum(stop - start for start, stop in background.unwritten)
    share = count / len(background)
    return judge(
        "unwritten",
        "Frames that were never written",
        share,
        f"{count:,} of {len(background):,} ({percent(share)}): "
        f"{spans_in_words(list(background.unwritten))}",
        "Frames that the file has no data of, as when an acquisition or a copy stopped. They are "
        "read as black.",
        "Copy the file again, or leave these frames out of what you conclude from it.",
    )


def flicker(background: Background, sample: Sample | None) -> Finding | None:
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
    text = f"{count} of {len(events)} frames ({percent(share)})"
    advice = ""
    if flickers and background.offsets is None:
        advice = "The lamp flickers and nothing corrects it: offset_correction=True."
    elif flickers and share >= UNSTEADY_SHARE:
        advice = (
            "The lamp is unsteady: check its supply and trigger. To follow it, keep "
            f"offset_correction=True and try {follow_faster(background)}."
        )
    elif flickers:
        text += ", corrected by bg_off"
    return judge(
        "flicker",
        "Flicker of the lamp",
        share,
        text,
        "Frames whose wall is 2.5 grey values or more off from the background (dcnum's rule).",
        advice,
    )


def _flickering(background: Background, sample: Sample | None) -> NDArray[np.bool_] | None:
    """Return which frames show the lamp flicker: of all, or of the sample."""
    if background.offsets is not None or sample is None:
        return flicker_events(background)
    walls = sample.images[:, :BAND_ROWS].mean(axis=(1, 2), dtype=np.float64)
    off = walls - each(background.images, band_means)[background.frame_index[sample.numbers]]
    events: NDArray[np.bool_] = np.abs(off - np.median(off)) >= FLICKER * grey_scale(background)
    return events


def is_unsteady(background: Background, sample: Sample | None) -> bool:
    """Whether the lamp flickers so often that offsets alone are not to be trusted."""
    events = _flickering(background, sample)
    return events is not None and bool(np.mean(events) >= UNSTEADY_SHARE)


def drift(background: Background) -> Finding:
    """Drift of brightness over the measurement, as a share of the brightness.

    A straight line is fitted to the wall band's mean of the series over time: ``slope *
    duration / mean``. Look here above 10 %, if that is also four times as much as the
    images scatter about the line (otherwise it is not drift, but an unsteady lamp).
    """
    walls, times = each(background.series, band_means), background.step_times
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
    return judge(
        "drift",
        "Drift of brightness",
        value,
        f"{'+' if value > 5e-5 else ''}{percent(value)} of the brightness of the wall",
        "How much the light of the wall changed over the measurement, slowly.",
        advice,
    )


def saturation(background: Background) -> Finding:
    """Share of the background's pixels that are black or white, so that cells cannot be seen.

    That is 0 or the largest value of 8, 10, 12, 14 or 16 bits, whichever first holds all
    kept images. Look here above 1 %.
    """
    images = background.images[spread(len(background.images), AT_MOST)]
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
    return judge(
        "saturation",
        "Black or white pixels",
        value,
        f"{percent(value)} of the background",
        "Pixels at the end of the camera's range, where a cell may not show.",
        advice,
    )


def grey_range(images: NDArray[Any]) -> tuple[float, float]:
    """Return the grey values for black and white: all but outliers, and never the same."""
    low, high = (float(value) for value in np.quantile(images, [0.001, 0.999]))
    return (low, high) if high > low else (low - 1, high + 1)
