"""What is left of frames after subtraction: when, and where."""

from matplotlib.figure import FigureBase
from matplotlib.ticker import MaxNLocator

from sparsemed.plotting.courses import dress
from sparsemed.plotting.images import is_wide
from sparsemed.plotting.style import BLUE, GREY_VALUES, SMALL, TEXT, VERMILION
from sparsemed.quality.left import MOST_LEFT
from sparsemed.quality.light import LEFT_REACH
from sparsemed.quality.question import worst, worst_map
from sparsemed.quality.view import View


def draw_left(figure: FigureBase, view: View, *, is_narrow: bool = False) -> None:
    """Draw what is left of each frame of the sample, and a map of the worst."""
    assert view.sample is not None
    height, width = view.background.images.shape[1:]
    wide = is_wide(height, width) and not is_narrow
    if wide or is_narrow:
        share = max(0.3, (1.6 if is_narrow else 4) * height / width)
        over_time, axes = figure.subplots(2, 1, gridspec_kw={"height_ratios": [1, share]})
    else:
        over_time, axes = figure.subplots(1, 2)
    course, time = view.left.course, view.background.time[view.sample.numbers]
    off = course > MOST_LEFT
    over_time.plot(time, course, "-", color="0.7", lw=1, zorder=1)
    over_time.plot(time[~off], course[~off], "o", color=BLUE, ms=4, mew=0, label="as it should be")
    if off.any():
        label = f"too much ({off.sum()} of {len(off)} frames)"
        over_time.plot(time[off], course[off], "X", color=VERMILION, ms=6, mew=0, label=label)
    over_time.axhline(MOST_LEFT, color="black", lw=1, ls="--", label=f"limit ({MOST_LEFT:g})")
    above = 1.15 if wide else 1.9  # room for the legend
    over_time.set_ylim(0, above * max(float(course.max()), 2 * MOST_LEFT))
    title = "What is left of frames: when"
    dress(over_time, title, GREY_VALUES, view.background.time, legend=wide)
    if not wide:
        over_time.legend(loc="upper left", **SMALL)

    number = int(view.sample.numbers[worst(view)])
    shown = worst_map(view)
    top = view.grid * (view.rows.start or 0)
    drawn = axes.imshow(
        shown,
        cmap="PuOr",
        vmin=-LEFT_REACH,
        vmax=LEFT_REACH,
        interpolation="nearest",
        extent=(0, view.grid * shown.shape[1], top + view.grid * shown.shape[0], top),
    )
    axes.set_facecolor("0.85")  # the wall, which is not judged
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.set_title(
        f"and where: frame {number}, at {time[worst(view)]:.4g} s,"
        + (" " if wide else "\n")
        + "cells set aside",
        loc="left",
        fontsize=10,
    )
    axes.set_xlabel("x (pixel)", **TEXT)
    axes.set_ylabel("y (pixel)", **TEXT)
    axes.tick_params(labelsize=8)
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    beside = axes.inset_axes((1.02, 0, 0.02 if wide else 0.05, 1))
    bar = figure.colorbar(drawn, cax=beside, extend="both")
    bar.set_label(GREY_VALUES, **SMALL)
    bar.ax.tick_params(labelsize=8)
