"""How sparsemed's time and memory grow with frames, windows and cores."""

import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.end_to_end import Run, run_contender
from benchmarks.kernel import core_counts
from benchmarks.measurements import generated_measurement

RATE = 1000
"""Frames per second."""

SPLIT_TIMES = (1, 0.5, 0.2, 0.1, 0.05)
"""Seconds from window to window; at RATE, windows begin to overlap below 0.2."""

FEW = 10
"""Frames of a measurement that takes next to no work."""


def measure(frames: int, counts: Sequence[int], rounds: int) -> dict[str, Any]:
    """Run the whole part: sparsemed as a whole process, all cases in turn, in rounds.

    Times are those after the imports.

    Parameters
    ----------
    frames : int
        Frames of the measurement whose windows and cores vary.
    counts : sequence of int
        Numbers of frames.
    rounds : int
        Rounds, after one that warms up.
    """
    usual = generated_measurement(frames, RATE)
    cases: dict[tuple[str, float], tuple[Path, dict[str, Any]]] = {}
    cases["frames", FEW] = generated_measurement(FEW, RATE), {"kernel_size": FEW}
    for count in counts:
        cases["frames", count] = generated_measurement(count, RATE), {}
    for split_time in SPLIT_TIMES:
        cases["windows", frames / RATE / split_time] = usual, {"split_time": split_time}
    for count in core_counts():
        cases["cores", count] = usual, {"num_cpus": count}

    runs: dict[tuple[str, float], list[Run]] = {case: [] for case in cases}
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(rounds + 1):
            click.echo(f"growth, round {number} of {rounds}, {len(cases)} runs", err=True)
            for case, (measurement, parameters) in cases.items():
                run, _ = run_contender("sparsemed", measurement, Path(scratch), **parameters)
                if number:  # the first round warms up
                    runs[case].append(run)

    results: dict[str, Any] = {"frames_of_windows_and_cores": frames}
    for kind in ("frames", "windows", "cores"):
        results[kind] = [
            {
                "count": round(count),
                "seconds": [run.inside for run in done],
                "peak_bytes": statistics.median(run.peak for run in done),
            }
            for (of, count), done in runs.items()
            if of == kind
        ]
    few = results["frames"].pop(0)
    results["seconds_of_few_frames"] = few["seconds"]
    results["slope"] = slope(results["frames"], statistics.median(few["seconds"]))
    return results


def slope(points: list[dict[str, Any]], fixed: float) -> float:
    """Return the exponent of growth: 1 if twice the frames take twice the time.

    Parameters
    ----------
    points : list of dict
        ``count`` and ``seconds`` of each.
    fixed : float
        Seconds that any measurement takes; they are taken off.
    """
    count = np.array([point["count"] for point in points], float)
    seconds = np.array([statistics.median(point["seconds"]) for point in points]) - fixed
    longer = seconds > 0  # on a busy machine, the smallest may not be
    return float(np.polyfit(np.log(count[longer]), np.log(seconds[longer]), 1)[0])
