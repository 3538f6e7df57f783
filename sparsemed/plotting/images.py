"""Images side by side: the series, and a frame with its background."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from sparsemed.method.result import Background
from sparsemed.plotting.style import GREY_VALUES, SMALL, TEXT, VERMILION, WIDTH
from sparsemed.quality.finding import moment
from sparsemed.quality.light import LEFT_REACH, grey_range
from sparsemed.quality.sample import spread

TILES = 24


def draw_series(figure: FigureBase, background: Background) -> None:
    """Draw the background images in the order of time."""
    count = len(background.series)
    shown = spread(count, TILES)
    images = shrunk(background.series[shown], 500)
    columns = _series_columns(background)
    rows = -(-len(shown) // columns)
    darkest, brightest = grey_range(images)
    panels = figure.subplots(rows, columns, squeeze=False, gridspec_kw={"wspace": 0.02})
    for axes in panels.flat:
        axes.set_axis_off()
    for axes, number, image in zip(panels.flat, shown.tolist(), images, strict=False):
        drawn = axes.imshow(
            image, cmap="gray", vmin=darkest, vmax=brightest, interpolation="antialiased"
        )
        title = moment(background.step_times[number])
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
    if not background.is_loaded:
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


def draw_frame(
    figure: FigureBase,
    frame: NDArray[Any],
    background: NDArray[Any],
    corrected: NDArray[Any],
    scale: float,
) -> None:
    """Draw a raw frame, its background, and the frame minus its background.

    The last is scaled as in reports, from −5 to 5 grey values of 8 bits, so that little that is
    left can be seen beside cells; `scale` is that of `sparsemed.quality.grey_scale`.
    """
    wide = is_wide(*frame.shape)
    panels = figure.subplots(*((3, 1) if wide else (1, 3)), squeeze=False).ravel()
    height, width = frame.shape
    reach = LEFT_REACH * scale
    frame, background, corrected = (
        shrunk(image[np.newaxis], 1000)[0] for image in (frame, background, corrected)
    )
    darkest, brightest = grey_range(np.stack([frame, background]))
    contents = [
        ("raw frame", frame, darkest, brightest),
        ("background", background, darkest, brightest),
        ("frame − background", corrected, -reach, reach),
    ]
    for axes, (title, image, low, high) in zip(panels, contents, strict=True):
        drawn = axes.imshow(
            image,
            cmap="gray",
            vmin=low,
            vmax=high,
            interpolation="antialiased",
            extent=(-0.5, width - 0.5, height - 0.5, -0.5),
        )
        axes.set_title(title, loc="left", pad=3, **TEXT)
        axes.tick_params(labelsize=8)
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        side: dict[str, Any] = {"location": "right", "pad": 0.01}
        if not wide:
            side = {"location": "bottom", "pad": 0.02}
        if image is corrected and abs(image).max() > reach:
            side["extend"] = "both"
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


def shrunk(images: NDArray[Any], most: int) -> NDArray[Any]:
    """Return images with about `most` pixels a side at most, by means over squares.

    Incomplete squares at the lower and right edges are left out.
    """
    step = max(images.shape[1:]) // most
    if step < 2 or min(images.shape[1:]) < step:
        return images
    count, height, width = images.shape[0], images.shape[1] // step, images.shape[2] // step
    kept = images[:, : height * step, : width * step]
    small: NDArray[Any] = kept.reshape(count, height, step, width, step).mean(
        axis=(2, 4), dtype=np.float32
    )
    return small


def is_wide(height: int, width: int) -> bool:
    """Return whether images are so wide that they stand below each other, not side by side."""
    return height <= 0.45 * width


def _series_columns(background: Background) -> int:
    _, height, width = background.series.shape
    return 4 if is_wide(height, width) else 8


def series_height(background: Background) -> float:
    """Return the height of the figure of the series in inches."""
    count, height, width = background.series.shape
    columns = _series_columns(background)
    tile = (WIDTH - 0.9) / columns * height / width
    rows = -(-min(count, TILES) // columns)
    return max(1.3, float(0.4 + rows * (tile + 0.22)))


def frame_height(height: int, width: int) -> float:
    """Return the height of the figure of a frame in inches."""
    if is_wide(height, width):
        return 3 * ((WIDTH - 1.6) * height / width + 0.25) + 0.5
    return (WIDTH - 0.6) / 3 * height / width + 1.4
