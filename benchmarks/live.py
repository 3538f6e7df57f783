"""Frames that are pushed while they are recorded: how many a second, how long one has to wait."""

import time
from collections.abc import Sequence
from itertools import count as counting
from typing import Any

import click
import h5py
import hdf5plugin  # noqa: F401  (lets HDF5 read Zstandard)
import numpy as np
import psutil

from benchmarks.measurements import generated_measurement
from sparsemed import LiveBackground

RATE = 3_000
"""Frames a second of the recording."""

HOUR = 3_600 * RATE
"""Frames of an hour."""


def measure(
    frames: int, portions: Sequence[int], split_times: Sequence[float], hour: int, rounds: int
) -> dict[str, Any]:
    """Run the whole part, in one process: all cases in turn, in rounds, and an hour at the end.

    Parameters
    ----------
    frames : int
        Frames that are pushed in each case; there are fewer different ones.
    portions : sequence of int
        Frames of a portion.
    split_times : sequence of float, seconds
    hour : int
        Frames over which memory is watched: `HOUR`, or fewer to be quick.
    rounds : int
    """
    with h5py.File(generated_measurement(4_000, 1000), "r") as h5:
        some = h5["events/image"][:]
    push_all(some, 4_000, 100, 0.1)  # compiles, and warms up
    cases = [(portion, split) for split in split_times for portion in portions]
    pushes: dict[tuple[int, float], list[np.ndarray]] = {case: [] for case in cases}
    for number in range(rounds):
        click.echo(f"live, round {number + 1} of {rounds}, {len(cases)} runs", err=True)
        for case in cases:
            pushes[case].append(push_all(some, frames, *case))
    click.echo(f"live, memory over {hour:,} frames", err=True)
    return {
        "rate": RATE,
        "shape": list(some.shape[1:]),
        "cases": [
            {
                "portion": portion,
                "split_time": split_time,
                "frames_per_second": [frames / float(np.sum(each)) for each in seconds],
                "slow_push": [float(np.quantile(each, 0.999)) for each in seconds],
            }
            for (portion, split_time), seconds in pushes.items()
        ],
        "hour": memory_of(some, hour),
    }


def push_all(some: np.ndarray, frames: int, portion: int, split_time: float) -> np.ndarray:
    """Push frames as fast as they are taken; return the seconds that each portion took."""
    seconds = np.empty(frames // portion)
    with LiveBackground(some.shape[1:], split_time=split_time) as live:
        for number in range(len(seconds)):
            first = number * portion
            place = first % (len(some) - portion + 1)
            times = np.arange(first, first + portion) / RATE
            part = some[place : place + portion]
            began = time.perf_counter()
            live.push(part, times)
            seconds[number] = time.perf_counter() - began
    return seconds


def memory_of(some: np.ndarray, frames: int) -> dict[str, Any]:
    """Push many frames in portions of 100, and watch what the process holds.

    What is held for windows is there after the first ten seconds; the rest is what grows.
    """
    process = psutil.Process()
    held: list[tuple[int, int]] = []
    with LiveBackground(some.shape[1:]) as live:
        for number in counting():
            first = number * 100
            if first >= frames:
                break
            place = first % (len(some) - 99)
            live.push(some[place : place + 100], np.arange(first, first + 100) / RATE)
            if first == 10 * RATE:
                held.append((first, process.memory_info().rss))
        held.append((frames, process.memory_info().rss))
        images = live.image.nbytes * int(frames / RATE)
    return {
        "frames": frames,
        "grown_bytes": held[1][1] - held[0][1],
        "image_bytes": images,
        "entry_bytes": 16 * frames,
    }
