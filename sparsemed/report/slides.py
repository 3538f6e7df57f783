"""Pictures with a slider, and figures of the whole background."""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sparsemed.method.result import Background
from sparsemed.quality.light import LEFT_REACH, grey_range, grey_scale
from sparsemed.quality.question import where, worst
from sparsemed.quality.sample import Sample, corrected, spread
from sparsemed.quality.view import View
from sparsemed.report.markup import escaped, remark, seconds, section
from sparsemed.report.pictures import figure_picture, grey_picture, shrinkage, shrunk_note

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Limits that keep the page below some 4 MB for any measurement.
_SERIES = 60  # images of the series
_FRAMES = 12  # frames before and after
_SERIES_PIXELS = 1_800_000  # of all images of the series together
_FRAMES_PIXELS = 900_000  # of all frames together


def opens_at(view: View) -> int:
    """Return the number of the background image of the worst frame."""
    if not view.is_sampled or view.sample is None:
        return 0
    frame = int(view.sample.numbers[worst(view)])
    kept = np.flatnonzero(view.background.kept)
    return int(kept[view.background.frame_index[frame]])


def series_section(background: Background, first: int = 0) -> str:
    """Return the section with the background series and a slider, which begins at one image."""
    series = background.series
    shrink = shrinkage(series)
    numbers = spread(len(series), min(_SERIES, _SERIES_PIXELS * shrink**2 // series[0].size))
    numbers[np.argmin(np.abs(numbers - first))] = first
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
    at = int(np.searchsorted(numbers, first))
    viewer = _viewer("series", "Background image", slides, _ticks(background.kept), at)
    return section("series-section", "Background series", f"{remark(note)}{viewer}")


def _caption(background: Background, number: int, fate: str) -> str:
    at = background.step_times[number]
    caption = f"Image {number + 1} of {len(background.series)}"
    caption += f", at {_moment(background, at)}" if math.isfinite(at) else ""
    if background.is_loaded:
        return caption
    score, limit = background.score[number], background.threshold
    if not math.isfinite(limit):
        return f"{caption}: {fate} (score {score:.3g}; all are kept)"
    digits = max(0, 2 - math.floor(math.log10(limit))) if limit > 0 else 2  # the same in all
    return f"{caption}: {fate} (score {score:.{digits}f}, threshold {limit:.{digits}f})"


def _moment(background: Background, at: float) -> str:
    """Return a time as text; in a long measurement, all have the same decimals."""
    return f"{at:.1f} s" if np.ptp(background.time) >= 10 else seconds(at)


def worst_section(view: View) -> str:
    """Return what is left, where and when, and frames with a slider that begins at the worst."""
    background, sample = view.background, view.sample
    if sample is None:
        note = "There are no frames to show: neither images nor a measurement were given."
        return section("frames-section", "Frames before and after", remark(note))
    if not view.is_sampled:
        return _frames_section(background, sample, 0)
    from sparsemed import plotting  # needs matplotlib

    label = f"What is left of the frames over time, and where in the worst: {where(view)}"
    figures = plotting.plot_left(view), plotting.plot_left(view, is_narrow=True)
    picture = figure_picture(figures[0], label, narrow=figures[1])
    first = section("left", "What is left of the frames", f'<div class="pictures">{picture}</div>')
    return first + _frames_section(background, sample, worst(view))


def _around(length: int, count: int, worst: int) -> NDArray[np.intp]:
    """Return at most `count` frames of a sample, half of them around the worst."""
    near = np.arange(worst - count // 4, worst + count // 4 + 1)
    near = near[(near >= 0) & (near < length)]
    return np.union1d(near, spread(length, max(1, count - len(near))))


def _frames_section(background: Background, sample: Sample, first: int) -> str:
    """Return some frames before and after, with a slider."""
    from sparsemed.plotting.images import is_wide  # needs matplotlib

    shrink = shrinkage(sample.frames)
    count = min(_FRAMES, _FRAMES_PIXELS * shrink**2 // (3 * sample.frames[0].size))
    chosen = _around(len(sample.numbers), count, first)
    numbers, raw = sample.numbers[chosen], sample.frames[chosen]
    below = background[numbers]
    left = corrected(background, Sample(numbers, raw))
    low, high = grey_range(np.concatenate([raw, below]))
    reach = LEFT_REACH * grey_scale(background)
    slides = []
    for place, number in enumerate(numbers.tolist()):
        caption = f"Frame {number}, at {_moment(background, background.time[number])}"
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
        "A corrected frame is grey all over, except for cells, if its background is good: grey is "
        f"0, black is −{reach:.3g} or less, white is +{reach:.3g} or more. Raw frame and "
        f"background: black is {low:.4g}, white is {high:.4g}.{shrunk_note(shrink)}"
    )
    at = int(np.searchsorted(chosen, first))
    is_beside = not is_wide(*sample.frames.shape[1:])
    viewer = _viewer("frames", "Frame", slides, "", at, is_beside=is_beside)
    return section("frames-section", "Frames before and after", f"{remark(note)}{viewer}")


def pictures_section(background: Background, sample: Sample | None) -> str:
    """Return the pictures of the whole background."""
    # the figures have titles
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
            "Noise of the first rows over time, before and after the background is subtracted",
            plotting.plot_noise(background, sample),
        )


def _viewer(
    name: str, what: str, slides: list[str], below: str, first: int = 0, *, is_beside: bool = False
) -> str:
    """Return slides with a slider, which is hidden unless JavaScript runs."""
    kind = "viewer beside" if is_beside else "viewer"
    return (
        f'<div class="{kind}" id="{name}">'
        f'<ol class="strip" tabindex="0" aria-label="{what}s">{"".join(slides)}</ol>'
        '<div class="controls" hidden>'
        f'<button type="button" value="-1" aria-label="{what} before">◀</button>'
        f'<span class="track"><input type="range" min="0" max="{len(slides) - 1}" value="{first}" '
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
    """Draw a mark for each image of the series; marks of dropped images are long."""
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
