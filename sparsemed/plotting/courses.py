"""Axes over time: score, offsets, noise."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter
from numpy.typing import NDArray

from sparsemed.method.result import Background
from sparsemed.plotting.style import BLUE, ORANGE, SMALL, TEXT, TIME, VERMILION
from sparsemed.quality.light import FLICKER, flicker_events, grey_scale
from sparsemed.quality.noise import wall_noise
from sparsemed.quality.sample import Sample


def draw_score(figure: FigureBase, background: Background) -> None:
    """Draw the score of each background image, the threshold, and the kept images."""
    axes = figure.subplots()
    kept, times, score = background.kept, background.step_times, background.score
    if background.is_loaded:
        _say(axes, "the file has neither scores nor dropped images")
        dress(axes, "Cleansing score of each image", "", background.time, legend=False)
        return
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
    dress(axes, title, "score (grey values)", times)


def draw_offsets(figure: FigureBase, background: Background) -> None:
    """Draw the brightness offset of each frame, and where the lamp flickers."""
    axes = figure.subplots()
    events = flicker_events(background)
    offsets, time = background.offsets, background.time
    title = "Brightness offset of each frame (bg_off)"
    if offsets is None or events is None:
        _say(axes, "no offsets were computed (offset_correction=False)")
        dress(axes, title, "", time, legend=False)
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
    dress(axes, title, "offset (grey values)", time)


def draw_noise(figure: FigureBase, background: Background, sample: Sample) -> None:
    """Draw the noise of the wall before and after subtraction."""
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
    title = "Noise of the first rows, background subtracted"
    dress(axes, title, "noise (grey values)", background.time)


def _say(axes: Axes, text: str) -> None:
    """Write why there is nothing to draw."""
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center")
    axes.set_yticks([])


def dress(axes: Axes, title: str, ylabel: str, time: NDArray[Any], legend: bool = True) -> None:
    """Give axes over time a title, labels, and a legend above them."""
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
