"""Figures of a background. Needs matplotlib.

All figures are 8 inches wide, for a notebook or a printed page. Colours are those of
Okabe and Ito, which colour-blind people can tell apart; each meaning of a colour is
also shown by a shape or a word. No figure changes the state of pyplot.

May import: quality, method.
"""

import textwrap
from typing import Any

import numpy as np
from matplotlib.figure import Figure, FigureBase
from numpy.typing import NDArray

from sparsemed.method.result import Background
from sparsemed.plotting.courses import draw_noise, draw_offsets, draw_score
from sparsemed.plotting.images import draw_frame, draw_series, frame_height, is_wide, series_height
from sparsemed.plotting.left import draw_left
from sparsemed.plotting.style import COURSE_HEIGHT, NARROW, SMALL, VERMILION, WIDTH, Picture
from sparsemed.printable import printable
from sparsemed.quality import Finding, Sample, assess
from sparsemed.quality.light import grey_scale, scale_of
from sparsemed.quality.view import View


def plot(background: Background, sample: Sample | None = None) -> Figure:
    """Draw one page: verdicts, series, cleansing, offsets, a frame, and noise.

    Parameters
    ----------
    background : Background
    sample : Sample, optional
        Frames, see `sparsemed.quality.take_sample`. Without them, the page shows no frame
        and no noise.

    Returns
    -------
    matplotlib.figure.Figure
        A notebook shows it; ``savefig`` writes it to a file.
    """
    lines = _verdict_lines(assess(background, sample))
    heights = [0.175 * len(lines) + 0.6, series_height(background), COURSE_HEIGHT, COURSE_HEIGHT]
    if sample is not None:
        heights += [frame_height(*sample.frames.shape[1:]) + 0.3, COURSE_HEIGHT]
    figure = Picture(figsize=(WIDTH, sum(heights)), layout="constrained")
    parts = figure.subfigures(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    _draw_verdicts(parts[0], background, lines)
    draw_series(parts[1], background)
    draw_score(parts[2], background)
    draw_offsets(parts[3], background)
    if sample is not None:
        middle = len(sample.numbers) // 2
        number = int(sample.numbers[middle])
        frame = sample.frames[middle]
        corrected = background.subtract(frame[np.newaxis], start=number)[0]
        draw_frame(parts[4], frame, background[number], corrected, grey_scale(background))
        parts[4].suptitle(
            f"Frame {number}, at {background.time[number]:.4g} s", x=0.01, ha="left", fontsize=10
        )
        draw_noise(parts[5], background, sample)
    return figure


def plot_series(background: Background) -> Figure:
    """Draw the background images in the order of time, and mark those that were dropped.

    If there are more than 24 images, 24 of them are shown, evenly spaced.

    Parameters
    ----------
    background : Background

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = Picture(figsize=(WIDTH, series_height(background)), layout="constrained")
    draw_series(figure, background)
    return figure


def plot_score(background: Background) -> Figure:
    """Draw the cleansing score of each background image, the threshold, and the kept images.

    Parameters
    ----------
    background : Background

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = Picture(figsize=(WIDTH, COURSE_HEIGHT), layout="constrained")
    draw_score(figure, background)
    return figure


def plot_offsets(background: Background) -> Figure:
    """Draw the brightness offset of each frame over time, and where the lamp flickers.

    Parameters
    ----------
    background : Background

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = Picture(figsize=(WIDTH, COURSE_HEIGHT), layout="constrained")
    draw_offsets(figure, background)
    return figure


def plot_left(view: View, *, is_narrow: bool = False) -> Figure:
    """Draw what is left of frames over time, and a map of the frame with most of it.

    Parameters
    ----------
    view : View
        A view with frames; see `sparsemed.quality.view`.
    is_narrow : bool
        Whether it is for a phone.

    Returns
    -------
    matplotlib.figure.Figure
    """
    height, width = view.background.images.shape[1:]
    across = NARROW if is_narrow else WIDTH
    if is_narrow or is_wide(height, width):
        drawn = COURSE_HEIGHT + 0.8 * across * height / width + 0.6
    else:
        drawn = min(0.4 * WIDTH * height / width, WIDTH) + 0.8
    figure = Picture(figsize=(across, min(drawn, 2 * across)), layout="constrained")
    draw_left(figure, view, is_narrow=is_narrow)
    return figure


def plot_noise(background: Background, sample: Sample) -> Figure:
    """Draw the noise of the channel wall before and after the background is subtracted.

    Parameters
    ----------
    background : Background
    sample : Sample
        Frames, see `sparsemed.quality.take_sample`.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = Picture(figsize=(WIDTH, COURSE_HEIGHT), layout="constrained")
    draw_noise(figure, background, sample)
    return figure


def plot_frame(frame: NDArray[Any], background: NDArray[Any], corrected: NDArray[Any]) -> Figure:
    """Draw a raw frame, its background, and the frame minus its background.

    Parameters
    ----------
    frame, background : ndarray, shape (H, W)
        Drawn with the same grey scale.
    corrected : ndarray, shape (H, W)
        Signed difference; drawn from −5 to 5 grey values of 8 bits, as in reports.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = Picture(figsize=(WIDTH, frame_height(*frame.shape)), layout="constrained")
    draw_frame(figure, frame, background, corrected, scale_of(background[np.newaxis]))
    return figure


def _draw_verdicts(
    figure: FigureBase, background: Background, lines: list[tuple[str, str]]
) -> None:
    name = background.origin.name if background.origin else "Background"
    title = figure.suptitle(printable(name), x=0.01, ha="left", fontsize=12, fontweight="bold")
    title.set(parse_math=False, usetex=False)  # a file name may look like a formula
    axes = figure.subplots()
    axes.set_axis_off()
    _, height, width = background.images.shape
    heading = (
        f"{len(background)} frames of {height} × {width}, {np.ptp(background.time):.4g} s; "
        f"{background.parameters}"
    )
    rows = [("plain", heading), *lines]
    axes.set(xlim=(0, 1), ylim=(len(rows), 0))
    styles: dict[str, dict[str, Any]] = {
        "plain": {},
        "good": {"color": "black"},
        "look here": {"color": VERMILION, "fontweight": "bold"},
        "cannot tell": {"color": VERMILION, "fontweight": "bold"},
        "advice": {"color": VERMILION},
    }
    for row, (kind, text) in enumerate(rows):
        axes.text(0, row + 0.5, text, va="center", clip_on=False, **SMALL, **styles[kind])


def _verdict_lines(findings: tuple[Finding, ...]) -> list[tuple[str, str]]:
    """Return lines of text, each with its kind."""
    lines = []
    for finding in findings:
        sign = {"good": "✓", "look here": "▲"}.get(finding.verdict, "?")
        said = f"{sign} {finding.verdict}:  {finding.title}: {finding.text}"
        lines.append((finding.verdict, said))
        lines += [("advice", f"      → {line}") for line in textwrap.wrap(finding.advice, 110)[:1]]
        lines += [("advice", f"         {line}") for line in textwrap.wrap(finding.advice, 110)[1:]]
    return lines
