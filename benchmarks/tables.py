"""The tables of benchmark results, as Markdown."""

import statistics
from collections.abc import Iterable
from typing import Any

from benchmarks.end_to_end import CONTENDERS, SEVERAL
from benchmarks.kernel import COPY

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
    parts = [
        f"dcnum {results['versions']['dcnum']} and sparsemed on {_cores(results)}, "
        "whole processes with imports; "
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
        "pieces of 2 MiB where there is nothing to decode. It decodes all frames; without offsets, "
        "sparsemed leaves out those that no window needs.",
        _rows(
            "frames and how they are stored | dcnum | sparsemed | decode floor "
            "| dcnum ÷ sparsemed | sparsemed ÷ floor",
            (_layout_row(each) for each in results["layouts"]),
        ),
        "The median image of one window of 200 frames of 80 × 400 pixels, in one process; 16 bits "
        f"as of a camera that has 12. {_kernel_sentence(results['kernel'])}",
        _rows(
            "program | 8 bits | np.partition ÷ program | program ÷ copy "
            "| 16 bits | np.partition ÷ program | program ÷ copy",
            _kernel_rows(results["kernel"]),
        ),
        "sparsemed's time for each of many windows, by how far a window overlaps with the last:",
        _rows("overlap | threads | time for each window", _overlap_rows(results)),
        _start_up_sentence(results["end-to-end"]["start-up"]),
    ]
    return "\n\n".join(parts)


def summary(results: dict[str, Any]) -> str:
    """Return the four rows that say most, as Markdown."""
    first, *_ = measurements = results["end-to-end"]["measurements"]
    rare = min(measurements, key=lambda each: each["rate"])
    plain = next(each for each in results["layouts"] if each["title"] == "in one piece")
    whole = {name: each["seconds"] for name, each in first["contenders"].items()}
    rows = [
        (f"{title(first)}, a whole process", whole),
        ("the same, in a process that handles many", first["warm"]),
        (f"{title(rare)}, in such a process", rare["warm"]),
        (f"{plain['frames']:,} frames at 1000/s, {plain['title']}, likewise", plain["warm"]),
    ]
    return _rows(
        f"on {_cores(results)} | dcnum {results['versions']['dcnum']} | sparsemed | ratio",
        (
            [
                name,
                readable(median(seconds["dcnum"])),
                readable(median(seconds["sparsemed"])),
                f"**{times(ratio(seconds['dcnum'], seconds['sparsemed']))}**",
            ]
            for name, seconds in rows
        ),
    )


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


def _kernel_sentence(kernel: dict[str, Any]) -> str:
    """Return what sparsemed takes beside a copy, as what NumPy takes differs by processor."""
    best = [name for name in kernel["window"] if name.startswith("sparsemed")][-1]
    bytes_, short = (
        times(ratio(kernel[window][best], kernel[window][COPY]))
        for window in ("window", "window of 16 bits")
    )
    numpy = (
        "np.partition is faster with AVX-512, as here, than without"
        if kernel["avx512"]
        else "np.partition is slower without AVX-512, as here, than with it"
    )
    return (
        f"{best}, takes {bytes_} the time of a copy of the window with 8 bits, and {short} with "
        f"16. What other programs take differs more by processor: {numpy}."
    )


def _kernel_rows(kernel: dict[str, Any]) -> Iterable[list[str]]:
    bytes_, short = kernel["window"], kernel["window of 16 bits"]
    for name in sorted(bytes_, key=lambda name: -median(bytes_[name])):
        yield [
            f"**{name}**" if name.startswith("sparsemed") else name,
            *_kernel_columns(bytes_, name),
            *_kernel_columns(short, name),
        ]


def _kernel_columns(window: dict[str, list[float]], name: str) -> list[str]:
    if name not in window:
        return ["", "", ""]
    return [
        readable(median(window[name])),
        times(ratio(window["np.partition"], window[name])),
        times(ratio(window[name], window[COPY])),
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
        f"{of['first result, compiling']} where kernels have to be compiled, once a machine"
    ) + (
        f"; {of['of several, compiling']} where {SEVERAL} processes begin at once."
        if "of several, compiling" in of
        else "."
    )


def cores_table(results: dict[str, Any]) -> str:
    """Return what more cores gain as Markdown."""
    pinned = results["pinned"]
    seconds = [pinned["seconds"][name] for name in CONTENDERS]
    return "\n\n".join(
        [
            f"{pinned['frames']:,} frames at {pinned['rate']}/s, zstd, after imports. Processes "
            f"are pinned to so many of the {_cores(results)}; more were not measured. In brackets, "
            "how many times as fast as on one core.",
            _rows(
                "cores | " + " | ".join(CONTENDERS),
                (
                    [f"{count}", *(_gain(of[place], of[0]) for of in seconds)]
                    for place, count in enumerate(pinned["counts"])
                ),
            ),
        ]
    )


def verdict_table(results: dict[str, Any]) -> str:
    """Return what verdicts cost as Markdown."""
    parts = ("background", "verdict")
    return "\n\n".join(
        [
            f"On {_cores(results)}, in one process, after imports. Seconds are those of all cores "
            "together; medians, and medians of the ratios of each round.",
            _rows(
                "frames | background | verdict | verdict ÷ background",
                (
                    [
                        each["title"],
                        *(readable(median(each[part]["core_seconds"])) for part in parts),
                        percent(
                            round(ratio(*(each[part]["core_seconds"] for part in parts[::-1])), 2)
                        ),
                    ]
                    for each in results["verdict"]
                ),
            ),
        ]
    )


def _gain(seconds: list[float], of_one: list[float]) -> str:
    return f"{readable(median(seconds))} ({times(ratio(of_one, seconds))})"


def _cores(results: dict[str, Any]) -> str:
    """Return what was measured on: cores, processor and instructions, if they were noted."""
    cores = f"{results['cores']} cores"
    if "processor" not in results:
        return cores
    return f"{cores} of {results['processor']['name']} ({results['processor']['instructions']})"


def stacks_table(results: dict[str, Any]) -> str:
    """Return what is known of stacks as Markdown."""
    times_, memory = results["stacks"]["times"], results["stacks"]["memory"]
    best = list(times_[0]["seconds"])[-1]  # sparsemed with all threads
    parts = [
        f"The median image of a stack in memory, on {_cores(results)}, in one process; "
        f"medians, and in brackets how many times as long as {best}. All programs found the same "
        "values. 16 bits as of a camera that has 12. What is fastest is bold.",
        _rows(
            "program | " + " | ".join(_stack_title(each) for each in times_),
            (_stack_row(name, times_, best) for name in times_[0]["seconds"]),
        ),
        *_slower_sentences(times_),
        "The most memory that this takes, besides the stack and what is imported:",
        _rows(
            "program | "
            + " | ".join(f"{_stack_title(each)} ({mebibytes(each['bytes'])})" for each in memory),
            (
                [name, *(mebibytes(each["beyond"][name]) for each in memory)]
                for name in memory[0]["beyond"]
            ),
        ),
    ]
    return "\n\n".join(parts)


def _stack_title(stack: dict[str, Any]) -> str:
    return f"{stack['count']} of {stack['side']} × {stack['side']}, {stack['bits']} bits"


def _stack_row(name: str, stacks: list[dict[str, Any]], best: str) -> list[str]:
    row = [name]
    for each in stacks:
        seconds = each["seconds"][name]
        shown = readable(median(seconds))
        if name == _fastest(each):
            shown = f"**{shown}**"
        row.append(f"{shown} ({times(ratio(seconds, each['seconds'][best]))})")
    return row


def _fastest(stack: dict[str, Any]) -> str:
    seconds = stack["seconds"]
    return min(seconds, key=lambda name: median(seconds[name]))


def _slower_sentences(stacks: list[dict[str, Any]]) -> list[str]:
    """Return what has to be said of stacks for which something else is quicker than sparsemed."""
    said = []
    for each in stacks:
        seconds = {name: median(of) for name, of in each["seconds"].items()}
        best = min(of for name, of in seconds.items() if name.startswith("sparsemed"))
        if quicker := [name for name, of in seconds.items() if of < best]:
            said.append(f"Of {_stack_title(each)}, sparsemed is slower than {', '.join(quicker)}.")
    return [" ".join(said)] if said else []


def chipstream_table(results: dict[str, Any]) -> str:
    """Return what is known of whole runs of ChipStream as Markdown."""
    versions = results["versions"]
    return "\n\n".join(
        [
            f"ChipStream {versions['chipstream']} with dcnum {versions['dcnum']}, whole processes "
            f"on {results['cores']} cores, from the quickest to the slowest run; of the background "
            "step, medians, and in brackets its share. Both found the same cells and features. "
            "Whole runs of the same kind vary by more than the step takes, so what is saved is the "
            "difference of the steps.",
            _rows(
                "measurement | whole run | background step, dcnum | whole run with sparsemed "
                "| background step, sparsemed | saved",
                (_chipstream_row(each) for each in results["chipstream"]),
            ),
        ]
    )


def _chipstream_row(measurement: dict[str, Any]) -> list[str]:
    theirs, ours = measurement["seconds"]["dcnum"], measurement["seconds"]["sparsemed"]
    saved = [a - b for a, b in zip(theirs["background"], ours["background"], strict=True)]
    return [
        title(measurement),
        _span(theirs["whole"]),
        _with_share(theirs["background"], theirs["whole"]),
        _span(ours["whole"]),
        _with_share(ours["background"], ours["whole"]),
        _with_share(saved, theirs["whole"]),
    ]


def _span(seconds: list[float]) -> str:
    return " – ".join(dict.fromkeys(readable(each) for each in (min(seconds), max(seconds))))


def _with_share(part: list[float], whole: list[float]) -> str:
    return f"{median(part):.2f} s ({100 * ratio(part, whole):.1f} %)"


def live_table(results: dict[str, Any]) -> str:
    """Return what is known of frames that are pushed as Markdown."""
    live, hour = results["live"], results["live"]["hour"]
    height, width = live["shape"]
    return "\n\n".join(
        [
            f"Frames of {height} × {width} pixels, recorded at {live['rate']:,} a second, pushed "
            f"as fast as they are taken, on {_cores(results)}; medians of "
            f"{len(live['cases'][0]['slow_push'])} rounds.",
            _rows(
                "frames of a portion | seconds between images | frames a second "
                "| 99.9 % of portions take at most",
                (_live_row(each) for each in live["cases"]),
            ),
            f"Over {hour['frames']:,} frames with an image each second, memory grew by "
            f"{mebibytes(hour['grown_bytes'])}: {mebibytes(hour['image_bytes'])} of images, and "
            f"{mebibytes(hour['entry_bytes'])} of times and brightness.",
        ]
    )


def _live_row(case: dict[str, Any]) -> list[str]:
    return [
        f"{case['portion']}",
        f"{case['split_time']:g}",
        f"{median(case['frames_per_second']):,.0f}",
        readable(median(case["slow_push"])),
    ]


def remote_table(results: dict[str, Any]) -> str:
    """Return what is known of measurements in a network as Markdown."""
    remote = results["remote"]
    return "\n\n".join(
        [
            f"{remote['frames']:,} frames of 80 × 400 pixels in {remote['size'] / 1e6:.0f} MB, on "
            "a server that adds a while to each request and sends so much a second in all; on "
            f"{_cores(results)}, server included, after imports and with warm kernels; medians of "
            f"{len(remote['cases'][0]['seconds']['directly'])} rounds. dclab read the first "
            f"{remote['dclab_frames']:,} frames, and did nothing else. *Rounds* are requests that "
            "waited for each other.",
            _rows(
                "line | added to each request | sparsemed | ÷ bytes alone | copying, then computing"
                " | frames a second, sparsemed | frames a second, dclab | sparsemed ÷ dclab"
                " | requests | rounds before the first chunk | read without offsets",
                (_remote_row(each, remote) for each in remote["cases"]),
            ),
        ]
    )


def _remote_row(case: dict[str, Any], remote: dict[str, Any]) -> list[str]:
    seconds = {name: median(each) for name, each in case["seconds"].items()}
    ours = remote["frames"] / seconds["directly"]
    theirs = remote["dclab_frames"] / seconds["dclab"]
    rate = case["rate"]
    return [
        f"{rate / 1e6:.0f} MB/s" if rate else "no limit",
        f"{1000 * case['delay']:.0f} ms",
        readable(seconds["directly"]),
        times(seconds["directly"] * rate / remote["size"]) if rate else "",
        readable(seconds["copied"]),
        f"{ours:,.0f}",
        f"{theirs:,.0f}",
        f"**{times(ours / theirs)}**",
        f"{case['directly']['requests']}",
        f"{case['directly']['rounds']}",
        percent(round(case["without offsets"]["bytes"] / remote["size"], 2)),
    ]
