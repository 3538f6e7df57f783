"""The tables of benchmark results, and how they come into pages."""

import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.end_to_end import CONTENDERS
from benchmarks.kernel import COPY

BEGIN = "<!-- benchmark table -->"
END = "<!-- end of benchmark table -->"

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
