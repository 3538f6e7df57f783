"""What a verdict costs, beside the background that it is about."""

import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import h5py
import hdf5plugin  # noqa: F401  (lets HDF5 read Zstandard)
import numpy as np

import sparsemed
from benchmarks.measurements import generated_measurement
from benchmarks.stacks import mosaics
from sparsemed.quality import assess


class Spent:
    """Seconds that were spent, by the clock and by all cores together."""

    def __init__(self) -> None:
        self.seconds, self.core_seconds = 0.0, 0.0

    @contextmanager
    def noted(self):
        """Note what is spent meanwhile."""
        began, cores_began = time.perf_counter(), time.process_time()
        yield
        self.seconds += time.perf_counter() - began
        self.core_seconds += time.process_time() - cores_began


def measure(frames: int, side: int, rounds: int) -> list[dict[str, Any]]:
    """Compute and judge in turn, in one process, after a round that warms up.

    Parameters
    ----------
    frames : int
        Frames of the generated measurements.
    side : int
        Rows and columns of 100 images in memory.
    rounds : int
    """
    rates = (1000, 50)
    with h5py.File(generated_measurement(frames, rates[0])) as h5:
        images = mosaics(h5["events/image"], 100, side)
    cases: dict[str, Callable[[Spent, Spent], None]] = {
        f"{frames:,} frames at {rate}/s in a file": of_file(generated_measurement(frames, rate))
        for rate in rates
    }
    cases[f"100 images of {side} × {side} in memory"] = of_images(images)
    found: dict[str, list[tuple[Spent, Spent]]] = {title: [] for title in cases}
    for number in range(rounds + 1):
        click.echo(f"verdict, round {number} of {rounds}", err=True)
        for title, run in cases.items():
            spent = Spent(), Spent()
            run(*spent)
            found[title] += [spent] if number else []
    return [
        {
            "title": title,
            **{
                name: {
                    "seconds": [each[place].seconds for each in spent],
                    "core_seconds": [each[place].core_seconds for each in spent],
                }
                for place, name in enumerate(("background", "verdict"))
            },
        }
        for title, spent in found.items()
    ]


def of_file(path: Path) -> Callable[[Spent, Spent], None]:
    """Return a function that computes, judges and writes, as `sparsemed compute` does."""

    def run(background: Spent, verdict: Spent) -> None:
        with tempfile.TemporaryDirectory() as folder:
            output = Path(folder) / "out.rtdc"
            with background.noted(), sparsemed.BackgroundSparseMed(path, output) as job:
                found = job.process_approach()
            with verdict.noted():
                findings = assess(found, job.sample)
            with background.noted():
                found.save(output, findings=findings)

    return run


def of_images(images: np.ndarray) -> Callable[[Spent, Spent], None]:
    """Return a function that computes and judges a background of images in memory."""

    def run(background: Spent, verdict: Spent) -> None:
        with background.noted():
            found = sparsemed.compute_background(images, frame_rate=10, kernel_size=30)
        with verdict.noted():
            found.quality(images, try_cures=False)

    return run
