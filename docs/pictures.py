"""Draws the pictures of the documentation, from a made-up measurement.

``python docs/pictures.py`` draws them all into ``docs/drawn``, small and in few colours, for those
who read the pages on a forge; the build of the documentation draws them anew, and compares. It also
draws the picture of the README, whose words a test compares. Every
value shown is computed by sparsemed itself while the picture is drawn, so that pictures and program
cannot come apart.
"""

import io
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import h5py
import matplotlib
import numpy as np
import PIL.Image
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL.PngImagePlugin import PngInfo

from sparsemed import SparseBackground, compute_background, median_image
from sparsemed.demo import make_measurement
from sparsemed.method.windows import window_starts

WIDTH = 5.6
"""Inches: text stays legible where a telephone shows the whole width."""

STYLE = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "savefig.dpi": 190,
}

# of the Okabe-Ito palette, which colour-blind people can tell apart
BLACK, BLUE, ORANGE, GREEN, GREY = "#000000", "#0072B2", "#D55E00", "#009E73", "#999999"

STUCK = (8.0, 10.5)
"""When a cell sticks to the channel in `Recording.with_stuck_cell`, in seconds."""


class Recording(NamedTuple):
    """Frames and their times."""

    frames: np.ndarray
    time: np.ndarray

    def background(self, **parameters) -> SparseBackground:
        """Return the background of these frames."""
        return compute_background(self.frames, self.time, **parameters)

    def frame_at(self, second: float) -> int:
        """Return the number of the first frame from a time on."""
        return int(np.searchsorted(self.time, second))

    def with_stuck_cell(self) -> "Recording":
        """Return a copy in which a cell of one frame stays where it is for a while."""
        first, last = (self.frame_at(second) for second in STUCK)
        cell = self.background(frac_cleansing=1).subtract(self.frames[first:][:1], start=first)[0]
        cell[abs(cell) < 12] = 0  # without the grain
        frames = self.frames.astype(np.int16)
        frames[first:last] += np.rint(cell).astype(np.int16)
        return Recording(np.clip(frames, 0, 255).astype(np.uint8), self.time)

    def with_more_cells(self, times: int) -> "Recording":
        """Return a copy with the cells of some other frames added to each frame."""
        cells = self.background(frac_cleansing=1).subtract(self.frames)
        cells[abs(cells) < 12] = 0  # without the grain
        frames = self.frames.astype(np.int16)
        for turn in range(1, times + 1):
            frames += np.rint(np.roll(cells, 617 * turn, axis=0)).astype(np.int16)
        return Recording(np.clip(frames, 0, 255).astype(np.uint8), self.time)

    def with_creeping_chip(self, pixels: float) -> "Recording":
        """Return a copy in which the chip has crept sideways by some pixels at the end."""
        frames = np.empty_like(self.frames)
        for number, shift in enumerate(pixels * self.time / self.time[-1]):
            whole, part = divmod(shift, 1)
            rows = np.pad(self.frames[number], ((int(whole) + 1, 0), (0, 0)), mode="edge")
            rows = rows[: len(frames[number]) + 1].astype(float)
            frames[number] = np.rint((1 - part) * rows[1:] + part * rows[:-1])
        return Recording(frames, self.time)


def make_recording(seed: int = 39) -> Recording:
    """Make the measurement of ``sparsemed demo``, with another seed, and read it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "demo.rtdc"
        make_measurement(path, seed=seed)
        with h5py.File(path, "r") as h5:
            time = h5["events/time"][:]
            return Recording(h5["events/image"][:], time - time[0])


def new_figure(height: float) -> Figure:
    """Return an empty figure of the width of all pictures."""
    return Figure(figsize=(WIDTH, height), layout="constrained")


def show_image(axes: Axes, image: np.ndarray, title: str) -> None:
    """Draw a frame or a background image in grey."""
    axes.imshow(image, cmap="gray", vmin=70, vmax=175, interpolation="nearest")
    axes.set_title(title)
    axes.set_axis_off()


def show_difference(figure: Figure, panels: list[Axes], images: dict[str, np.ndarray]) -> None:
    """Draw signed images with one scale, which is symmetric about 0."""
    for axes, (title, image) in zip(panels, images.items(), strict=True):
        drawn = axes.imshow(image, cmap="RdBu_r", vmin=-30, vmax=30, interpolation="nearest")
        axes.set_title(title)
        axes.set_axis_off()
    figure.colorbar(drawn, ax=panels, label="grey values", pad=0.02, shrink=0.9, extend="both")


def draw_windows(recording: Recording) -> Figure:
    """Draw the time axis: frames, steps, and the window of each step."""
    size = 200
    steps = recording.background().step_times
    starts = window_starts(recording.time, steps, size)
    figure = new_figure(3.2)
    rug, bars = figure.subplots(2, 1, sharex=True, height_ratios=[1, 5])
    rug.vlines(recording.time, 0, 1, color=BLACK, linewidth=0.15)
    rug.set(yticks=[], title=f"frames: {len(recording.time)}, at irregular times")
    rug.spines["left"].set_visible(False)
    for number, (step, start) in enumerate(zip(steps, starts, strict=True)):
        first, last = recording.time[start], recording.time[start + size - 1]
        moved = first < step - 0.1
        bars.barh(number, last - first, left=first, height=0.6, color=ORANGE if moved else BLUE)
        bars.plot(step, number, "|", color=BLACK, markersize=9)
    bars.invert_yaxis()
    bars.set(
        xlabel="time (s)",
        ylabel="window",
        title=f"windows of {size} frames; | is the step they belong to",
    )
    bars.text(0.2, 17.6, "orange: moved back,\nto end with the measurement", va="center")
    return figure


def draw_counting(recording: Recording) -> Figure:
    """Draw the grey values of one pixel, and how their median is found by counting."""
    row, column, size = 41, 150, 200
    values = recording.frames[:size, row, column]
    median = int(median_image(recording.frames[:size])[row, column])
    figure = new_figure(5)
    dots, search = figure.subplots(2, 1, height_ratios=[1, 1.4])
    dots.plot(values, ".", color=BLACK, markersize=3)
    dots.axhline(median, color=ORANGE, label=f"median: {median}")
    dots.set(
        xlabel="frame of the window",
        ylabel="grey value",
        title="one pixel: cells pass now and then, the channel stays",
    )
    dots.legend(loc="lower right")

    found = 0
    for turn, bit in enumerate(1 << np.arange(8)[::-1], start=1):
        tried = found | int(bit)
        below = int(np.count_nonzero(values < tried))
        is_kept = below <= size // 2
        search.bar(turn, 2 * bit, bottom=found, width=0.7, color=GREY, alpha=0.3)
        found = tried if is_kept else found
        mark = {"marker": "o", "color": GREEN} if is_kept else {"marker": "x", "color": ORANGE}
        label = {1: "kept", 2: "too high"}.get(turn)
        search.plot(turn, tried, linestyle="", label=label, **mark)
        search.text(turn, 262, f"{tried}\n{below}", ha="center", va="bottom")
    assert found == median
    search.text(0.45, 262, "tried\nbelow", ha="right", va="bottom")
    search.axhline(median, color=BLACK, linewidth=1)
    search.set(
        xlabel="count",
        ylabel="grey value",
        xlim=(0.5, 8.5),
        ylim=(0, 256),
        xticks=range(1, 9),
        title=f"8 counts lead to the median, {found}: at most {size // 2} are below\n\n",
    )
    search.legend(loc="lower right")
    return figure


def draw_background(recording: Recording) -> Figure:
    """Draw frames of a window, and their median image."""
    figure = new_figure(3.1)
    panels = figure.subplots(2, 2).flat
    for axes, number in zip(panels, (0, 90, 180), strict=False):
        show_image(axes, recording.frames[number], f"frame {number}")
    show_image(panels[3], median_image(recording.frames[:200]), "median of frames 0 to 199")
    return figure


def mark_scores(axes: Axes, background: SparseBackground) -> None:
    """Draw the score of each background image, what was kept, and the threshold."""
    kept, times, score = background.kept, background.step_times, background.score
    axes.plot(times[kept], score[kept], "o", color=GREEN, label="kept")
    axes.plot(times[~kept], score[~kept], "x", color=ORANGE, label="dropped")
    if np.isfinite(background.threshold):
        axes.axhline(background.threshold, color=BLUE, linestyle="--", label="threshold")


def scale_scores(axes: Axes) -> None:
    """Let small scores and large ones be seen together: the scale is logarithmic above 0.1."""
    axes.set_yscale("symlog", linthresh=0.1)
    axes.set_ylim(-0.03, 100)
    axes.set_yticks([0, 0.1, 1, 10, 100], ["0", "0.1", "1", "10", "100"])
    axes.set_yticks([], minor=True)
    axes.set(xlabel="time of the background image (s)", ylabel="score (grey values)")


def draw_cleansing(recording: Recording) -> Figure:
    """Draw the scores of a series in which a cell is stuck for a while."""
    background = recording.with_stuck_cell().background()
    worst = int(np.argmax(background.score))
    best = int(np.argmin(background.score))
    figure = new_figure(3.9)
    top, bottom = figure.subfigures(2, 1, height_ratios=[1.7, 1])
    axes = top.subplots()
    mark_scores(axes, background)
    scale_scores(axes)
    axes.legend()
    for panel, number in zip(bottom.subplots(1, 2), (worst, best), strict=True):
        state = "kept" if background.kept[number] else "dropped"
        title = f"{background.step_times[number]:.0f} s, {state}"
        show_image(panel, background.series[number], title)
    return figure


def draw_assignment(recording: Recording) -> Figure:
    """Draw which background image serves which frames."""
    background = recording.with_stuck_cell().background()
    kept_times = background.step_times[background.kept]
    dropped = background.step_times[~background.kept]
    figure = new_figure(2.8)
    axes = figure.subplots()
    axes.step(
        background.time,
        kept_times[background.frame_index],
        where="post",
        color=BLUE,
        label="image that serves the frame",
    )
    axes.plot(kept_times, kept_times, "o", color=GREEN, label="kept image")
    axes.plot(dropped, dropped, "x", color=ORANGE, label="dropped image")
    axes.set(xlabel="time of the frame (s)", ylabel="time of the image (s)")
    axes.legend(loc="upper left")
    return figure


def draw_offsets(recording: Recording) -> Figure:
    """Draw the brightness offsets, and a frame under a flickering lamp."""
    background = recording.background()
    worst = int(np.argmax(background.offsets[:1500]))
    frame = recording.frames[worst]
    plain = frame - background[worst].astype(float)
    figure = new_figure(4.6)
    top, bottom = figure.subfigures(2, 1, height_ratios=[1, 1.6])
    axes = top.subplots()
    axes.vlines(background.time, 0, background.offsets, color=BLUE, linewidth=0.6)
    axes.plot(background.time[worst], background.offsets[worst], "o", color=ORANGE)
    axes.annotate(
        f"frame {worst}",
        (background.time[worst], background.offsets[worst]),
        xytext=(6, 0),
        textcoords="offset points",
        va="center",
    )
    axes.set(xlabel="time of the frame (s)", ylabel="bg_off (grey values)")
    show_difference(
        bottom,
        list(bottom.subplots(2, 1)),
        {
            f"frame {worst} − background": plain,
            f"frame {worst} − background − bg_off": plain - background.offsets[worst],
        },
    )
    return figure


def draw_kernel_size(recording: Recording) -> Figure:
    """Draw what too small windows leave, against the median of all frames."""
    truth = median_image(recording.frames).astype(float)
    crowded = recording.with_more_cells(2)
    figure = new_figure(3.1)
    images = {
        f"kernel_size={size}": crowded.background(kernel_size=size, frac_cleansing=1).series[3]
        for size in (5, 20, 200)
    }
    left, right = figure.subfigures(1, 2, width_ratios=[1, 1.25])
    for axes, (title, image) in zip(left.subplots(3, 1), images.items(), strict=True):
        show_image(axes, image, title)
    differences = {
        f"off by {abs(image - truth).mean():.2f} on average": image - truth
        for image in images.values()
    }
    show_difference(right, list(right.subplots(3, 1)), differences)
    return figure


def draw_split_time(recording: Recording) -> Figure:
    """Draw what is left of the walls where the chip creeps and images are too far apart."""
    creeping = recording.with_creeping_chip(3)
    settings = [(200, 1, GREEN), (200, 6, ORANGE), (1000, 1, BLUE)]
    moment = 9.3
    number = creeping.frame_at(moment)
    figure = new_figure(5.2)
    top, bottom = figure.subfigures(2, 1, height_ratios=[1, 1.9])
    axes = top.subplots()
    images = {}
    for kernel_size, split_time, colour in settings:
        background = creeping.background(
            kernel_size=kernel_size, split_time=split_time, frac_cleansing=1
        )
        rest = abs(background.subtract(creeping.frames)[:, 17:24]).mean(axis=(1, 2))
        smooth = np.convolve(rest, np.full(25, 1 / 25), mode="valid")
        label = f"kernel_size={kernel_size}, split_time={split_time}"
        axes.plot(creeping.time[12:-12], smooth, color=colour, label=label)
        corrected = background.subtract(creeping.frames[number][np.newaxis], start=number)[0]
        images[f"{label}, frame at {moment} s"] = corrected
    axes.set(xlabel="time of the frame (s)", ylabel="left of the wall\n(grey values)")
    axes.set_ylim(0, None)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1))
    show_difference(bottom, list(bottom.subplots(3, 1)), images)
    return figure


def draw_frac_cleansing(recording: Recording) -> Figure:
    """Draw cleansing that is off, right and too strong: a stuck cell and a creeping chip."""
    recording = recording.with_creeping_chip(2).with_stuck_cell()
    moments = [recording.frame_at(second) for second in (4, 7.9)]
    figure = new_figure(5)
    top, bottom = figure.subfigures(2, 1, height_ratios=[1, 2.2])
    axes = top.subplots()
    images = {}
    fractions = (1.0, 0.8, 0.15)
    for row, fraction in enumerate(fractions):
        background = recording.background(frac_cleansing=fraction)
        kept, times = background.kept, background.step_times
        axes.plot(times[kept], np.full(kept.sum(), row), "o", color=GREEN)
        axes.plot(times[~kept], np.full((~kept).sum(), row), "x", color=ORANGE)
        for number in moments:
            title = f"frac_cleansing={fraction:g}, {recording.time[number]:.1f} s"
            frame = recording.frames[number][np.newaxis]
            images[title] = background.subtract(frame, start=number)[0]
    axes.axvspan(*STUCK, color=GREY, alpha=0.3, linewidth=0)
    axes.text(STUCK[0] + 0.1, -0.7, "a cell is stuck")
    axes.set(
        yticks=range(len(fractions)),
        yticklabels=[f"{each:g}" for each in fractions],
        ylabel="frac_cleansing",
        ylim=(2.5, -1.3),
        xlabel="time of the background image (s)",
        title="background images kept (dots) and dropped (crosses)",
    )
    show_difference(bottom, list(bottom.subplots(3, 2).flat), images)
    return figure


def draw_thresh_cleansing(recording: Recording) -> Figure:
    """Draw the thresholds that some values of thresh_cleansing set."""
    recording = recording.with_stuck_cell()
    figure = new_figure(2.8)
    axes = figure.subplots()
    background = recording.background(frac_cleansing=0.1, thresh_cleansing=100)
    axes.vlines(background.step_times, 0, background.score, color=BLACK, linewidth=2)
    for thresh, colour in ((100, BLUE), (1000, GREEN), (10000, ORANGE)):
        result = recording.background(frac_cleansing=0.1, thresh_cleansing=thresh)
        axes.axhline(
            result.threshold,
            color=colour,
            linestyle="--",
            label=f"thresh_cleansing={thresh}: {result.kept.sum()} kept",
        )
    scale_scores(axes)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1))
    return figure


PICTURES = {
    draw.__name__.removeprefix("draw_"): draw
    for draw in (
        draw_windows,
        draw_counting,
        draw_background,
        draw_cleansing,
        draw_assignment,
        draw_offsets,
        draw_kernel_size,
        draw_split_time,
        draw_frac_cleansing,
        draw_thresh_cleansing,
    )
}


def pictures() -> Iterator[tuple[str, Figure]]:
    """Draw all pictures, one after the other, with their names."""
    recording = make_recording()
    for name, draw in PICTURES.items():
        yield name, draw(recording)


def save_pictures(folder: Path) -> None:
    """Draw all pictures into a folder, as PNG files."""
    folder.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context(STYLE):
        for name, figure in pictures():
            figure.savefig(folder / f"{name}.png")


DRAWN = Path(__file__).parent / "drawn"
"""The pictures as a forge shows them."""


def save_drawn() -> None:
    """Draw all pictures into `DRAWN`."""
    DRAWN.mkdir(exist_ok=True)
    with matplotlib.rc_context({**STYLE, "savefig.dpi": DRAWN_DPI}):
        for name, figure in pictures():
            buffer = io.BytesIO()
            figure.savefig(buffer)
            picture = PIL.Image.open(buffer).convert("RGB").quantize(64)
            picture.save(DRAWN / f"{name}.png", optimize=True)


DRAWN_DPI = 130


DEMO = Path(__file__).parent / "demo-cells.png"
"""The picture that the README shows; its description has the words on it, for a test."""


def save_demo() -> None:
    """Draw the demo measurement with slow cells into `DEMO`, as ``sparsemed demo`` does."""
    buffer = io.BytesIO()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "demo-cells.rtdc"
        make_measurement(path, case="cells")
        background = compute_background(path)
        background.plot().savefig(buffer, dpi=150)
        words = PngInfo()
        words.add_itxt("Description", "\n".join(map(str, background.quality(try_cures=False))))
    picture = PIL.Image.open(buffer).convert("RGB").quantize(128)
    picture.save(DEMO, optimize=True, pnginfo=words)


def check_drawn(folder: Path) -> None:
    """Check that the pictures in `DRAWN` look like those in a folder, which have just been drawn.

    Raises
    ------
    ValueError
        If one is missing, too many, or another.
    """
    names = {path.stem for path in DRAWN.glob("*.png")}
    for name in PICTURES:
        if name not in names:
            raise ValueError(f"{name} is missing in {DRAWN}: python docs/pictures.py")
        small = [
            np.asarray(PIL.Image.open(each / f"{name}.png").convert("L").resize((60, 40)), float)
            for each in (DRAWN, folder)
        ]
        # letters, and the last digits of colours, may differ from machine to machine
        if (off := float(np.abs(small[0] - small[1]).mean())) > 6:
            raise ValueError(f"{name} has changed ({off:.1f} grey values): python docs/pictures.py")
    if more := names - set(PICTURES):
        raise ValueError(f"{DRAWN}: nobody draws {sorted(more)}")


if __name__ == "__main__":
    save_drawn()
    save_demo()
