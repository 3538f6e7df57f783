"""The figure of benchmark results."""

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from benchmarks.end_to_end import CONTENDERS
from benchmarks.kernel import COPY, threads
from benchmarks.tables import median, percent, ratio, readable, times, title

# Colours that are told apart whatever one's eyes (Okabe and Ito).
COLOURS = {"dcnum": "#E69F00", "sparsemed": "#0072B2", "decode floor": "#999999"}
OTHERS = "#CC79A7"


def draw(results: dict[str, Any], path: Path) -> None:
    """Write the figure of the results as PNG."""
    figure = Figure(figsize=(9, 10.6), layout="constrained", dpi=180)
    figure.get_layout_engine().set(h_pad=0.08, w_pad=0.08)
    ends, kernel, growth = figure.subfigures(3, 1, height_ratios=[3.6, 3.6, 3.2])
    dcnum = f"dcnum {results['versions']['dcnum']}"
    _heading(ends, f"From file to file: {dcnum} and sparsemed on {results['cores']} cores")
    _heading(kernel, "Median image of 200 frames of 80 × 400 pixels of 8 bits, in memory")
    _heading(growth, "How sparsemed's time (after imports) and memory grow")
    _draw_ends(ends, results["end-to-end"]["measurements"])
    _draw_kernel(kernel, results["kernel"])
    _draw_growth(growth, results["growth"])
    figure.savefig(path)


def _heading(part: SubFigure, text: str) -> None:
    part.suptitle(text, x=0.01, ha="left", weight="bold", size=12)


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9)


def _draw_ends(part: SubFigure, measurements: list[dict[str, Any]]) -> None:
    panels = part.subplots(-(-len(measurements) // 2), 2, sharey=True).ravel()
    for axes, measurement in zip(panels, measurements, strict=True):
        of = measurement["contenders"]
        longest = max(median(each["seconds"]) for each in of.values())
        for place, name in enumerate(CONTENDERS):
            seconds = of[name]["seconds"]
            whole, work = median(seconds), median(of[name]["seconds_inside"])
            colour = COLOURS[name]
            axes.barh(place, work, color=colour, height=0.76)
            axes.barh(place, whole - work, left=work, color=colour, alpha=0.35, height=0.76)
            said = readable(whole)
            if name != "sparsemed":
                said += f"   {times(ratio(seconds, of['sparsemed']['seconds']))}"
            _write(axes, said, (whole, place), (5, 0), va="center")
        axes.set_xlim(0, longest * 1.3)
        axes.set_yticks(range(len(CONTENDERS)), CONTENDERS)
        axes.set_title(title(measurement), size=10, loc="left")
        _plain(axes)
    panels[0].invert_yaxis()
    part.supxlabel(
        "Seconds of whole processes; the pale part is start-up and imports. ×: multiple of "
        "sparsemed's time. The decode floor only\nreads and decompresses the frames, on all "
        "cores, which no program can do without. dcnum and sparsemed wrote the same bits.",
        size=9,
    )


def _write(
    axes: Axes, text: str, where: tuple[float, float], shift: tuple[float, float], **how: Any
) -> None:
    axes.annotate(text, where, shift, textcoords="offset points", size=9, **how)


def _draw_kernel(part: SubFigure, kernel: dict[str, Any]) -> None:
    axes = part.subplots()
    partition = kernel["window"]["np.partition"]
    bars = [
        (name, median(seconds), ratio(partition, seconds))
        for name, seconds in kernel["window"].items()
    ]
    most = max(each["threads"] for each in kernel["overlaps"])
    for each in kernel["overlaps"]:
        if each["overlap"] and each["threads"] == most:
            name = f"sparsemed, {threads(most)}, {percent(each['overlap'])} overlap"
            seconds = median(each["seconds"])
            bars.append((name, seconds, median(partition) / seconds))  # not of the same rounds
    bars.sort(key=lambda bar: bar[1])
    for place, (name, seconds, quicker) in enumerate(bars):
        colour = COLOURS["sparsemed"] if name.startswith("sparsemed") else OTHERS
        colour = COLOURS["decode floor"] if name == COPY else colour
        axes.hlines(place, 0, seconds, color=colour, lw=2.5)
        axes.plot([seconds], [place], "o", color=colour, ms=8)
        said = readable(seconds)
        if name not in ("np.partition", COPY):
            said += f"   {times(quicker)}"
        _write(axes, said, (seconds, place), (9, 0), va="center")
    axes.set_xscale("log")
    fastest, slowest = bars[0][1], bars[-1][1]
    axes.set_xlim(fastest / 2, slowest * 6)
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda seconds, _: readable(seconds).replace(".00", "").replace(".0", ""))
    )
    axes.set_yticks(range(len(bars)), [name for name, *_ in bars])
    axes.set_xlabel(
        "time for one window (logarithmic scale).   ×: times as fast as np.partition.\n"
        "Overlap: one of many windows that share so many frames with the one before.",
        size=9,
    )
    axes.margins(y=0.06)
    _plain(axes)


def _draw_growth(part: SubFigure, growth: dict[str, Any]) -> None:
    by_frames, by_windows, by_cores, memory = part.subplots(1, 4)
    fixed = median(growth["seconds_of_few_frames"])
    counts = [point["count"] for point in growth["frames"]]
    seconds = [median(point["seconds"]) for point in growth["frames"]]
    _line(by_frames, counts, [max(each - fixed, 0) for each in seconds])
    by_frames.set_yscale("log", nonpositive="mask")
    by_frames.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    by_frames.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    by_frames.yaxis.set_minor_formatter(NullFormatter())
    by_frames.set_title(f"time ∝ frames$^{{{growth['slope']:.2f}}}$", size=9)
    by_frames.set_ylabel(f"time beyond the first {readable(fixed)} (s)", size=9)
    _frames_along(by_frames, counts)

    same = f"{growth['frames_of_windows_and_cores']:,} frames"
    for axes, kind in ((by_windows, "windows"), (by_cores, "cores")):
        points = growth[kind]
        seconds = [median(point["seconds"]) for point in points]
        _line(axes, [point["count"] for point in points], seconds)
        axes.set_ylim(0, max(seconds) * 1.15)
        axes.set_title(f"{same}, by {kind}", size=9)
        axes.set_xlabel(f"number of {kind}", size=9)
        axes.set_ylabel("time (s)", size=9)
    by_windows.set_xlim(0)
    by_cores.set_xticks([point["count"] for point in growth["cores"]])

    peaks = [point["peak_bytes"] / 1024**2 for point in growth["frames"]]
    _line(memory, counts, peaks)
    memory.set_ylim(0, max(peaks) * 1.15)
    memory.set_title("peak memory", size=9)
    memory.set_ylabel("MiB", size=9)
    _frames_along(memory, counts)


def _line(axes: Axes, x: list[float], y: list[float]) -> None:
    axes.plot(x, y, "o-", color=COLOURS["sparsemed"])
    _plain(axes)


def _frames_along(axes: Axes, counts: list[int]) -> None:
    """Let numbers of frames run along the axis, on a logarithmic scale."""
    axes.set_xscale("log")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(counts, [f"{count / 1000:g}k" for count in counts])
    axes.set_xlabel("number of frames", size=9)
