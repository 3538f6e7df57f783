"""Pictures with a slider, and those of the whole background."""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sparsemed.method.result import Background
from sparsemed.quality.light import grey_range
from sparsemed.quality.sample import Sample, corrected, spread
from sparsemed.report.markup import escaped, remark, seconds, section
from sparsemed.report.pictures import figure_picture, grey_picture, shrinkage, shrunk_note

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Bounds of what the page shows, so that it stays below some 4 MB for any measurement.
_SERIES = 60  # images of the series
_FRAMES = 10  # frames before and after
_SERIES_PIXELS = 1_800_000  # of all images of the series together
_FRAMES_PIXELS = 900_000  # of all frames together


def series_section(background: Background) -> str:
    """Return the background series with a slider."""
    series = background.series
    shrink = shrinkage(series)
    numbers = spread(len(series), min(_SERIES, _SERIES_PIXELS * shrink**2 // series[0].size))
    low, high = grey_range(series[numbers])
    slides = []
    for number in numbers.tolist():
        fate = "kept" if background.kept[number] else "✕ dropped"
        caption = _caption(background, number, fate)
        label = f"Background image {number + 1}, {fate}"
        picture = grey_picture(series[number], low, high, shrink, label)
        slides.append(_slide(picture, caption, dropped=not background.kept[number]))
    shown = "" if len(numbers) == len(series) else f" {len(numbers)} of {len(series)} are shown."
    how = (
        f"before cleansing.{shown} Dropped images have a dashed frame; "
        "each mark below the slider is an image, and long marks are dropped ones."
    )
    if background.is_loaded:
        how = f"as the file keeps it: without the images that cleansing dropped.{shown}"
    note = (
        f"The background over time, {how} "
        f"Black is {low:.4g}, white is {high:.4g}.{shrunk_note(shrink)}"
    )
    viewer = _viewer("series", "Background image", slides, _ticks(background.kept))
    return section("series-section", "Background series", f"{remark(note)}{viewer}")


def _caption(background: Background, number: int, fate: str) -> str:
    at = background.step_times[number]
    caption = f"Image {number + 1} of {len(background.series)}"
    caption += f", at {seconds(at)}" if math.isfinite(at) else ""
    if background.is_loaded:
        return caption
    limit = background.threshold
    rule = f", threshold {limit:.3g}" if math.isfinite(limit) else "; all are kept"
    return f"{caption}: {fate} (score {background.score[number]:.3g}{rule})"


def frames_section(background: Background, sample: Sample | None) -> str:
    """Return some frames before and after, with a slider."""
    if sample is None:
        note = "There are no frames to show: neither images nor a measurement were given."
        return section("frames-section", "Frames before and after", remark(note))
    shrink = shrinkage(sample.frames)
    count = min(_FRAMES, _FRAMES_PIXELS * shrink**2 // (3 * sample.frames[0].size))
    chosen = spread(len(sample.numbers), count)
    numbers, raw = sample.numbers[chosen], sample.frames[chosen]
    below = background[numbers]
    left = corrected(background, Sample(numbers, raw))
    low, high = grey_range(np.concatenate([raw, below]))
    reach = max(1.0, float(np.quantile(np.abs(left), 0.999)))
    slides = []
    for place, number in enumerate(numbers.tolist()):
        caption = f"Frame {number}, at {seconds(background.time[number])}"
        if background.offsets is not None:
            offset = f"{background.offsets[number]:+.2f}".replace("-", "−")
            caption += f": brightness offset {offset}"
        shots = [
            ("raw", raw[place], low, high, f"Frame {number}, raw"),
            ("background", below[place], low, high, f"Background of frame {number}"),
            ("corrected", left[place], -reach, reach, f"Frame {number} less background"),
        ]
        content = "".join(
            f'<span class="shot"><span>{word}</span>'
            f"{grey_picture(image, black, white, shrink, label)}</span>"
            for word, image, black, white, label in shots
        )
        slides.append(_slide(content, caption))
    note = (
        "A good background is even where there is no cell once it is subtracted: grey all over "
        f"in the corrected frame. Raw and background: black is {low:.4g}, white is {high:.4g}. "
        f"Corrected: black is −{reach:.3g}, grey is 0, white is +{reach:.3g}.{shrunk_note(shrink)}"
    )
    viewer = _viewer("frames", "Frame", slides, "")
    return section("frames-section", "Frames before and after", f"{remark(note)}{viewer}")


def pictures_section(background: Background, sample: Sample | None) -> str:
    """Return the pictures of the whole background."""
    # their titles are within the pictures
    figures = "".join(
        f'<div class="wide" tabindex="0" role="region" aria-label="{escaped(label)}">'
        f"{figure_picture(figure, label)}</div>"
        for label, figure in _panels(background, sample)
    )
    return section("pictures", "Pictures", f'<div class="pictures">{figures}</div>')


def _panels(background: Background, sample: Sample | None) -> Iterator[tuple[str, "Figure"]]:
    from sparsemed import plotting  # needs matplotlib

    count, dropped = len(background.kept), int(np.count_nonzero(~background.kept))
    of_which = "" if background.is_loaded else f", of which {dropped} are dropped"
    yield (
        f"Background images in the order of time: {count}{of_which}",
        plotting.plot_series(background),
    )
    if not background.is_loaded:
        limit = background.threshold
        is_on = math.isfinite(limit)
        threshold = f", and the threshold, {limit:.3g}" if is_on else "; cleansing was off"
        yield (
            f"Cleansing score of each background image{threshold}",
            plotting.plot_score(background),
        )
    if background.offsets is not None:
        low, high = background.offsets.min(), background.offsets.max()
        yield (
            f"Brightness offset of each frame over time, from {low:.3g} to {high:.3g} grey values",
            plotting.plot_offsets(background),
        )
    if sample is not None:
        yield (
            "Noise of the channel wall over time, before and after the background is subtracted",
            plotting.plot_noise(background, sample),
        )


def _viewer(name: str, what: str, slides: list[str], below: str) -> str:
    """Return slides with a slider; what JavaScript needs is hidden until it runs."""
    return (
        f'<div class="viewer" id="{name}">'
        f'<ol class="strip" tabindex="0" aria-label="{what}s">{"".join(slides)}</ol>'
        '<div class="controls" hidden>'
        f'<button type="button" value="-1" aria-label="{what} before">◀</button>'
        f'<span class="track"><input type="range" min="0" max="{len(slides) - 1}" value="0" '
        f'autocomplete="off" aria-label="{what}">{below}</span>'
        f'<button type="button" value="1" aria-label="{what} after">▶</button></div></div>'
    )


def _slide(content: str, caption: str, *, dropped: bool = False) -> str:
    kind = "slide dropped" if dropped else "slide"
    return (
        f'<li class="{kind}"><figure>{content}<figcaption>{escaped(caption)}</figcaption>'
        "</figure></li>"
    )


def _ticks(kept: NDArray[np.bool_]) -> str:
    """Draw a mark for each image of the series; those of dropped ones are long."""
    last = max(1, len(kept) - 1)
    lines = {True: "", False: ""}
    for number, is_kept in enumerate(kept.tolist()):
        lines[is_kept] += f"M{1000 * number / last:.4g} 0v{5 if is_kept else 16}"
    width = max(1.0, min(5.0, 400 / len(kept)))
    paths = "".join(
        f'<path class="{name}" d="{lines[is_kept]}" stroke-width="{width:.2g}"/>'
        for name, is_kept in (("kept", True), ("dropped", False))
        if lines[is_kept]
    )
    return (
        '<svg class="ticks" viewBox="-3 0 1006 16" preserveAspectRatio="none" '
        f'aria-hidden="true">{paths}</svg>'
    )
