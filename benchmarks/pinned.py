"""What more cores gain: whole processes, pinned to 1, 2, 4 and so on of the cores there are."""

import tempfile
from pathlib import Path
from typing import Any

import click

from benchmarks.end_to_end import CONTENDERS, run_contender
from benchmarks.kernel import core_counts
from benchmarks.measurements import generated_measurement

RATE = 1000
"""Frames per second."""


def measure(frames: int, rounds: int) -> dict[str, Any]:
    """Run all contenders on so many cores in turn; return the seconds of each, after imports.

    Parameters
    ----------
    frames : int
        Frames of the measurement.
    rounds : int
        Rounds, after one that warms up.
    """
    measurement = generated_measurement(frames, RATE)
    counts = core_counts()
    seconds: dict[str, list[list[float]]] = {name: [[] for _ in counts] for name in CONTENDERS}
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(rounds + 1):
            click.echo(f"pinned to cores, round {number} of {rounds}", err=True)
            for place, cores in enumerate(counts):
                for name in CONTENDERS:
                    run, _ = run_contender(name, measurement, Path(scratch), cores=cores)
                    if number:  # the first round warms up
                        seconds[name][place].append(run.inside)
    return {"frames": frames, "rate": RATE, "counts": counts, "seconds": seconds}
