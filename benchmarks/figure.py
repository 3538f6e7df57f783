"""The figure and the table of benchmark results."""

import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from benchmarks.end_to_end import CONTENDERS
from benchmarks.kernel import COPY, threads

BEGIN = "<!-- benchmark table -->"
END = "<!-- end of benchmark table -->"

# Colours that are told apart whatever one's eyes (Okabe and Ito).
COLOURS = {"dcnum": "#E69F00", "sparsemed": "#0072B2", "decode floor": "#999999"}
OTHERS = "#CC79A7"

median = statistics.median


def ratio(above: Iterable[float], below: Iterable[float]) -> float:
    """Return the median of the ratios of times that were taken in the same round."""
    return median(a / b for a, b in zip(above, below, strict=True))


def title(measurement: dict[str, Any]) -> str:
    """Return how a measurement is called in figure and table."""
    return (
        f"{measurement['frames']:,} frames at {measurement['rate']}/s, "
        + (measurement["compression"])
    )


def readable(seconds: float) -> str:
    """Return a time with its unit, in about three digits."""
    factor, unit = (1, "s") if seconds >= 1 else (1e3, "ms") if seconds >= 1e-3 else (1e6, "µs")
    return f"{seconds * factor:#.3g}".rstrip(".") + f" {unit}"


def times(factor: float) -> str:
    """Return a ratio of two times in about two digits."""
    digits = 0 if factor >= 9.95 else 1 if factor >= 0.95 else 2
    return f"{factor:.{digits}f}×"


def mebibytes(count: float) -> str:
    """Return a number of bytes in MiB."""
    return f"{count / 1024**2:.0f} MiB"


def percent(fraction: float) -> str:
    """Return a fraction in percent, with no more digits than it has."""
    return f"{100 * fraction:g} %"


def table(results: dict[str, Any]) -> str:
    """Return the results as Markdown."""
    cores, versions = results["cores"], results["versions"]
    parts = [
        f"dcnum {versions['dcnum']} and sparsemed on {cores} cores, whole processes with imports; "
        "medians, and medians of the ratios of each round. The decode floor reads and "
        "decompresses the frames on all cores, and does nothing else. Memory is the most that "
        "the main process held at once; in brackets, all processes together, with what they "
        "share counted in each.",
        _rows(
            "measurement | dcnum | sparsemed | after imports | decode floor | dcnum ÷ sparsemed "
            "| sparsemed ÷ floor | memory, dcnum | memory, sparsemed",
            (_measurement_row(each) for each in results["end-to-end"]["measurements"]),
        ),
        "The same in one process, in turn, after all imports and a first round: what a further "
        "measurement costs in a process that handles many.",
        _rows(
            "measurement | dcnum | sparsemed | decode floor | dcnum ÷ sparsemed "
            "| sparsemed ÷ floor",
            (_warm_row(each) for each in results["end-to-end"]["measurements"]),
        ),
        "Files that store frames in other ways, at 1000/s, in one process as well. The floor reads "
        "pieces of 2 MiB where there is nothing to decode.",
        _rows(
            "frames and how they are stored | dcnum | sparsemed | decode floor "
            "| dcnum ÷ sparsemed | sparsemed ÷ floor",
            (_layout_row(each) for each in results["layouts"]),
        ),
        "The median image of one window of 200 frames of 80 × 400 pixels, in one process:",
        _rows(
            "program | time | np.partition ÷ program | program ÷ copy",
            _kernel_rows(results["kernel"]["window"]),
        ),
        "sparsemed's time for each of many windows, by how far a window overlaps with the last:",
        _rows("overlap | threads | time for each window", _overlap_rows(results)),
        _start_up_sentence(results["end-to-end"]["start-up"]),
    ]
    return "\n\n".join(parts)


def _rows(header: str, rows: Iterable[Iterable[str]]) -> str:
    """Return a Markdown table; what the first column holds is words, the others numbers."""
    columns = header.count("|") + 1
    lines = [f"| {header} |", "| --- |" + " ---: |" * (columns - 1)]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def _measurement_row(measurement: dict[str, Any]) -> list[str]:
    of = measurement["contenders"]
    seconds = {name: of[name]["seconds"] for name in CONTENDERS}
    return [
        title(measurement),
        readable(median(seconds["dcnum"])),
        readable(median(seconds["sparsemed"])),
        readable(median(of["sparsemed"]["seconds_inside"])),
        readable(median(seconds["decode floor"])),
        f"**{times(ratio(seconds['dcnum'], seconds['sparsemed']))}**",
        times(ratio(seconds["sparsemed"], seconds["decode floor"])),
        f"{mebibytes(of['dcnum']['peak_bytes'])} "
        f"({mebibytes(of['dcnum']['peak_bytes_with_workers'])})",
        mebibytes(of["sparsemed"]["peak_bytes"]),
    ]


def _warm_row(measurement: dict[str, Any]) -> list[str]:
    return [title(measurement), *_warm_columns(measurement["warm"])]


def _layout_row(layout: dict[str, Any]) -> list[str]:
    name = f"{layout['frames']:,}, {layout['title']}, {layout['compression']}"
    return [name, *_warm_columns(layout["warm"])]


def _warm_columns(seconds: dict[str, list[float]]) -> list[str]:
    return [
        *(readable(median(seconds[name])) for name in CONTENDERS),
        f"**{times(ratio(seconds['dcnum'], seconds['sparsemed']))}**",
        times(ratio(seconds["sparsemed"], seconds["decode floor"])),
    ]


def _kernel_rows(window: dict[str, list[float]]) -> Iterable[list[str]]:
    for name, seconds in sorted(window.items(), key=lambda item: -median(item[1])):
        yield [
            f"**{name}**" if name.startswith("sparsemed") else name,
            readable(median(seconds)),
            times(ratio(window["np.partition"], seconds)),
            times(ratio(seconds, window[COPY])),
        ]


def _overlap_rows(results: dict[str, Any]) -> Iterable[list[str]]:
    for each in results["kernel"]["overlaps"]:
        yield [
            percent(each["overlap"]),
            f"{each['threads']}",
            readable(median(each["seconds"])),
        ]


def _start_up_sentence(seconds: dict[str, list[float]]) -> str:
    of = {name: readable(median(values)) for name, values in seconds.items()}
    return (
        f"`import sparsemed` takes {of['import']}. A first result in a fresh process takes "
        f"{of['first result']} on top of the imports of NumPy, Numba and h5py, and "
        f"{of['first result, compiling']} where the kernel has to be compiled, once a machine."
    )


def write_table(readme_path: Path, results: dict[str, Any]) -> None:
    """Write the table into a Markdown file, between its two markers.

    Raises
    ------
    ValueError
        If the file does not hold both markers, once each and in order.
    """
    text = Path(readme_path).read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end) or text.count(BEGIN) > 1 or text.count(END) > 1:
        raise ValueError(
            f"{Path(readme_path).name}: the table goes between a line '{BEGIN}' and a line "
            f"'{END}'; put both into the file, once and in this order"
        )
    new = f"{before}{BEGIN}\n\n{table(results)}\n\n{END}{after}"
    Path(readme_path).write_text(new, encoding="utf-8")


def draw(results: dict[str, Any], path: Path) -> None:
    """Write the figure of the results as PNG."""
    figure = Figure(figsize=(9, 10.6), layout="constrained", dpi=180)
    figure.get_layout_engine().set(h_pad=0.08, w_pad=0.08)
    ends, kernel, growth = figure.subfigures(3, 1, height_ratios=[3.6, 3.6, 3.2])
    dcnum = f"dcnum {results['versions']['dcnum']}"
    _heading(ends, f"From file to file: {dcnum} and sparsemed on {results['cores']} cores")
    _heading(kernel, "Median image of 200 frames of 80 × 400 pixels, in memory")
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
