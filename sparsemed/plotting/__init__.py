"""Pictures of a background. Needs matplotlib (``pip install sparsemed[plot]``).

All pictures are 8 inches wide, for a notebook or a printed page. Colours are those of
Okabe and Ito, which colour-blind people can tell apart; where they mean something, so
does a shape or a word. No picture touches the state of pyplot.
"""

import textwrap
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase
from matplotlib.ticker import FormatStrFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from sparsemed.printable import printable
from sparsemed.quality import (
    FLICKER,
    Finding,
    Sample,
    assess,
    flicker_events,
    grey_scale,
    wall_noise,
)

if TYPE_CHECKING:
    from sparsemed import SparseBackground

BLUE = "#0072B2"
ORANGE = "#E69F00"
VERMILION = "#D55E00"

WIDTH = 8.0
"""Width of all pictures in inches."""

COURSE_HEIGHT = 2.1
"""Height of a picture of something over time in inches."""

GREY_VALUES = "grey values"
TIME = "time (s)"
TILES = 24
TEXT: dict[str, Any] = {"fontsize": 9}
SMALL: dict[str, Any] = {"fontsize": 8}


class Picture(Figure):
    """A figure that a notebook shows, though pyplot does not know it."""

    def _repr_png_(self) -> bytes:
        file = BytesIO()
        self.savefig(file, format="png")
        return file.getvalue()


def plot(background: "SparseBackground", sample: Sample | None = None) -> Figure:
    """Draw one page: verdicts, series, cleansing, offsets, a frame, and noise.

    Parameters
    ----------
    background : SparseBackground
    sample : Sample, optional
        Frames, see `sparsemed.quality.take_sample`. Without them the page has no frame
        and no noise.

    Returns
    -------
    matplotlib.figure.Figure
        A notebook shows it as the last line of a cell; ``savefig`` writes it to a file.
    """
    lines = _verdict_lines(assess(background, sample))
    heights = [0.175 * len(lines) + 0.6, _series_height(background), COURSE_HEIGHT, COURSE_HEIGHT]
    if sample is not None:
        heights += [_frame_height(*sample.images.shape[1:]) + 0.3, COURSE_HEIGHT]
    figure = Picture(figsize=(WIDTH, sum(heights)), layout="constrained")
    parts = figure.subfigures(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    _draw_verdicts(parts[0], background, lines)
    _draw_series(parts[1], background)
    _draw_score(parts[2], background)
    _draw_offsets(parts[3], background)
    if sample is not None:
        middle = len(sample.numbers) // 2
        number = int(sample.numbers[middle])
        frame = sample.images[middle]
        corrected = background.subtract(frame[np.newaxis], start=number)[0]
        _draw_frame(parts[4], frame, background[number], corrected)
        parts[4].suptitle(
            f"Frame {number}, at {background.time[number]:.4g} s", x=0.01, ha="left", fontsize=10
        )
        _draw_noise(parts[5], background, sample)
    return figure


def plot_series(background: "SparseBackground") -> Figure:
    """Draw the background images in the order of time, and which of them were dropped.

    Of more than 24 images as many are shown, evenly spaced.

    Parameters
    ----------
    background : SparseBackground

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = Picture(figsize=(WIDTH, _series_height(background)), layout="constrained")
    _draw_series(figure, background)
    return figure


def plot_score(background: "SparseBackground") -> Figure:
    """Draw the cleansing score of each background image, the threshold, and what was kept.

    Parameters
    ----------
    background : SparseBackground

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = Picture(figsize=(WIDTH, COURSE_HEIGHT), layout="constrained")
    _draw_score(figure, background)
    return figure


def plot_offsets(background: "SparseBackground") -> Figure:
    """Draw the brightness offset of each frame over time, and where the lamp flickers.

    Parameters
    ----------
    background : SparseBackground

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = Picture(figsize=(WIDTH, COURSE_HEIGHT), layout="constrained")
    _draw_offsets(figure, background)
    return figure


def plot_noise(background: "SparseBackground", sample: Sample) -> Figure:
    """Draw the noise of the channel wall before and after the background is subtracted.

    Parameters
    ----------
    background : SparseBackground
    sample : Sample
        Frames, see `sparsemed.quality.take_sample`.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = Picture(figsize=(WIDTH, COURSE_HEIGHT), layout="constrained")
    _draw_noise(figure, background, sample)
    return figure


def plot_frame(frame: NDArray[Any], background: NDArray[Any], corrected: NDArray[Any]) -> Figure:
    """Draw a raw frame, its background, and the frame less its background.

    Parameters
    ----------
    frame, background : ndarray, shape (H, W)
        Drawn with one grey scale.
    corrected : ndarray, shape (H, W)
        Signed difference; drawn with a scale that is symmetric about 0.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = Picture(figsize=(WIDTH, _frame_height(*frame.shape)), layout="constrained")
    _draw_frame(figure, frame, background, corrected)
    return figure


def _draw_verdicts(
    figure: FigureBase, background: "SparseBackground", lines: list[tuple[str, str]]
) -> None:
    asked = background.parameters
    name = background.source.name if background.source else "Background"
    title = figure.suptitle(printable(name), x=0.01, ha="left", fontsize=12, fontweight="bold")
    title.set(parse_math=False, usetex=False)  # a file name is no formula, and no program
    axes = figure.subplots()
    axes.set_axis_off()
    _, height, width = background.images.shape
    heading = (
        f"{len(background)} frames of {height} × {width}, {background.time[-1]:.4g} s; "
        f"kernel_size={asked.kernel_size}, split_time={asked.split_time:g}, "
        f"thresh_cleansing={asked.thresh_cleansing:g}, frac_cleansing={asked.frac_cleansing:g}"
    )
    rows = [("plain", heading), *lines]
    axes.set(xlim=(0, 1), ylim=(len(rows), 0))
    styles: dict[str, dict[str, Any]] = {
        "plain": {},
        "good": {"color": "black"},
        "look here": {"color": VERMILION, "fontweight": "bold"},
        "advice": {"color": VERMILION},
    }
    for row, (kind, text) in enumerate(rows):
        axes.text(0, row + 0.5, text, va="center", clip_on=False, **SMALL, **styles[kind])


def _verdict_lines(findings: tuple[Finding, ...]) -> list[tuple[str, str]]:
    """Return lines of text, each with its kind."""
    lines = []
    for finding in findings:
        sign = "✓ good" if finding.is_good else "▲ look here"
        lines.append((finding.verdict, f"{sign}:  {finding.title}: {finding.text}"))
        lines += [("advice", f"      → {line}") for line in textwrap.wrap(finding.advice, 110)[:1]]
        lines += [("advice", f"         {line}") for line in textwrap.wrap(finding.advice, 110)[1:]]
    return lines


def _draw_series(figure: FigureBase, background: "SparseBackground") -> None:
    count = len(background.series)
    shown = np.unique(np.linspace(0, count - 1, min(count, TILES)).round().astype(int))
    images = background.series[shown]
    columns = _series_columns(background)
    rows = -(-len(shown) // columns)
    darkest, brightest = _grey_range(images)
    panels = figure.subplots(rows, columns, squeeze=False, gridspec_kw={"wspace": 0.02})
    for axes in panels.flat:
        axes.set_axis_off()
    for axes, number, image in zip(panels.flat, shown.tolist(), images, strict=False):
        drawn = axes.imshow(
            image, cmap="gray", vmin=darkest, vmax=brightest, interpolation="antialiased"
        )
        title = f"{background.step_times[number]:.4g} s"
        if background.kept[number]:
            axes.set_title(title, pad=2, **SMALL)
        else:
            _mark_as_dropped(axes, f"✕ {title}, dropped" if columns == 4 else f"✕ {title}")
    bar = figure.colorbar(drawn, ax=panels, pad=0.01, aspect=30, shrink=0.95, fraction=0.03)
    bar.set_label(GREY_VALUES, **SMALL)
    bar.ax.tick_params(labelsize=8)
    bar.ax.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    dropped = count - int(np.count_nonzero(background.kept))
    title = f"Background images along time: {count}"
    title += f", {dropped} of them dropped (✕, framed)" if dropped else ", none dropped"
    if len(shown) < count:
        title += f"; {len(shown)} are shown"
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)


def _mark_as_dropped(axes: Axes, title: str) -> None:
    axes.set_title(title, pad=2, color=VERMILION, fontweight="bold", **SMALL)
    axes.set_axis_on()
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set(color=VERMILION, linewidth=2.5)


def _draw_score(figure: FigureBase, background: "SparseBackground") -> None:
    axes = figure.subplots()
    kept, times, score = background.kept, background.step_times, background.score
    size = 5 if len(score) < 200 else 3
    axes.plot(
        times[kept], score[kept], "o", color=BLUE, ms=size, mew=0, label=f"kept ({kept.sum()})"
    )
    if not kept.all():
        axes.plot(
            times[~kept],
            score[~kept],
            "X",
            color=VERMILION,
            ms=size + 2,
            mew=0,
            label=f"dropped ({(~kept).sum()})",
        )
    if np.isfinite(background.threshold):
        label = f"threshold ({background.threshold:.3g})"
        axes.axhline(background.threshold, color="black", lw=1, ls="--", label=label)
        title = "Cleansing drops images above the threshold"
    else:
        title = "Cleansing was off (frac_cleansing=1)"
    highest = max(float(score.max()), 1e-3)
    axes.set_ylim(-0.05 * highest, 1.08 * highest)
    _dress(axes, title, "score (grey values)", times)


def _draw_offsets(figure: FigureBase, background: "SparseBackground") -> None:
    axes = figure.subplots()
    events = flicker_events(background)
    offsets, time = background.offsets, background.time
    title = "Brightness offset of each frame (bg_off)"
    if offsets is None or events is None:
        axes.text(
            0.5,
            0.5,
            "no offsets were computed (offset_correction=False)",
            transform=axes.transAxes,
            ha="center",
            va="center",
        )
        axes.set_yticks([])
        _dress(axes, title, "", time, legend=False)
        return
    usual, reach = float(np.median(offsets)), FLICKER * grey_scale(background)
    size = 3 if len(offsets) < 5000 else 1.5
    quiet = ~events
    axes.plot(time[quiet], offsets[quiet], ".", color=BLUE, ms=size, label="frame", rasterized=True)
    if events.any():
        axes.plot(
            time[events],
            offsets[events],
            "^",
            color=VERMILION,
            ms=size + 1.5,
            mew=0,
            label=f"flicker ({events.sum()})",
            rasterized=True,
        )
    label = f"no flicker (± {reach:.3g})"
    axes.axhspan(usual - reach, usual + reach, color="black", alpha=0.08, lw=0, label=label)
    lowest = min(float(offsets.min()), usual - 1.6 * reach)
    highest = max(float(offsets.max()), usual + 1.6 * reach)
    margin = 0.06 * (highest - lowest)
    axes.set_ylim(lowest - margin, highest + margin)
    _dress(axes, title, "offset (grey values)", time)


def _draw_noise(figure: FigureBase, background: "SparseBackground", sample: Sample) -> None:
    axes = figure.subplots()
    noise = wall_noise(background, sample)
    time = background.time[sample.numbers]
    axes.plot(time, noise.before, "s-", color=ORANGE, ms=4, lw=1, label="before")
    axes.plot(time, noise.after, "o-", color=BLUE, ms=4, lw=1, label="after")
    if noise.floor > 0:
        axes.axhline(noise.floor, color="black", lw=1, ls="--", label=f"camera ({noise.floor:.2g})")
    levels = np.concatenate([noise.before, noise.after])
    if levels.min() > 0:
        axes.set_yscale("log")
        axes.set_ylim(0.6 * min(levels.min(), noise.floor or np.inf), 1.7 * levels.max())
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FormatStrFormatter("%g"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    title = "Noise of the channel wall, background subtracted"
    _dress(axes, title, "noise (grey values)", background.time)


def _draw_frame(
    figure: FigureBase,
    frame: NDArray[Any],
    background: NDArray[Any],
    corrected: NDArray[Any],
) -> None:
    wide = _is_wide(*frame.shape)
    panels = figure.subplots(*((3, 1) if wide else (1, 3)), squeeze=False).ravel()
    darkest, brightest = _grey_range(np.stack([frame, background]))
    reach = max(1.0, float(abs(corrected).max()))
    contents = [
        ("raw frame", frame, darkest, brightest),
        ("background", background, darkest, brightest),
        ("frame − background", corrected, -reach, reach),
    ]
    for axes, (title, image, low, high) in zip(panels, contents, strict=True):
        drawn = axes.imshow(image, cmap="gray", vmin=low, vmax=high, interpolation="antialiased")
        axes.set_title(title, loc="left", pad=3, **TEXT)
        axes.tick_params(labelsize=8)
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        side: dict[str, Any] = {"location": "right", "pad": 0.01}
        if not wide:
            side = {"location": "bottom", "pad": 0.02}
        bar = figure.colorbar(drawn, ax=axes, **side)
        bar.set_label(GREY_VALUES, **SMALL)
        bar.ax.tick_params(labelsize=8)
        if wide:
            axes.set_ylabel("y (pixel)", **SMALL)
            axes.tick_params(labelbottom=axes is panels[-1])
        else:
            axes.set_xlabel("x, along the flow (pixel)", **SMALL)
    if wide:
        panels[-1].set_xlabel("x, along the flow (pixel)", **SMALL)
    else:
        panels[0].set_ylabel("y (pixel)", **SMALL)


def _dress(axes: Axes, title: str, ylabel: str, time: NDArray[Any], legend: bool = True) -> None:
    axes.set_title(title, loc="left", fontsize=10)
    axes.set_xlabel(TIME, **TEXT)
    axes.set_ylabel(ylabel, **TEXT)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="0.9", lw=0.6)
    axes.set_axisbelow(True)
    begin, end = float(time.min()), float(time.max())
    if end > begin:
        margin = 0.02 * (end - begin)
        axes.set_xlim(begin - margin, end + margin)
    if legend:
        axes.legend(
            loc="lower right",
            bbox_to_anchor=(1.0, 1.0),
            ncols=4,
            frameon=False,
            borderaxespad=0.2,
            handletextpad=0.3,
            columnspacing=1.2,
            **SMALL,
        )


def _grey_range(images: NDArray[Any]) -> tuple[float, float]:
    """Return the grey values for black and white: all but outliers, and never the same."""
    low, high = (float(value) for value in np.quantile(images, [0.001, 0.999]))
    return (low, high) if high > low else (low - 1, high + 1)


def _is_wide(height: int, width: int) -> bool:
    return height <= 0.45 * width


def _series_columns(background: "SparseBackground") -> int:
    _, height, width = background.series.shape
    return 4 if _is_wide(height, width) else 8


def _series_height(background: "SparseBackground") -> float:
    count, height, width = background.series.shape
    columns = _series_columns(background)
    tile = (WIDTH - 0.9) / columns * height / width
    rows = -(-min(count, TILES) // columns)
    return max(1.3, float(0.4 + rows * (tile + 0.22)))


def _frame_height(height: int, width: int) -> float:
    if _is_wide(height, width):
        return 3 * ((WIDTH - 1.6) * height / width + 0.25) + 0.5
    return (WIDTH - 0.6) / 3 * height / width + 1.4
