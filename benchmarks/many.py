"""``python -m benchmarks.many``: a folder of measurements, here and on two workers, and once more.

The same command once more finds all of them up to date. That is timed for many small measurements,
as it is files that count then, and with a summary, which is written meanwhile.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import h5py
import numpy as np

from benchmarks.__main__ import RESULTS, machine_name
from benchmarks.measurements import generated_measurement
from benchmarks.pages import write_block
from benchmarks.scaling import cluster, peak_bytes
from sparsemed import compute_files
from sparsemed.executors.rounds import as_completed

RATE = 1000
"""Frames per second of the measurements."""

SMALL = (24, 24, 16)
"""Frames of a small measurement, and their shape."""

WINDOW = 7
"""Their `kernel_size`."""


def copies(path: Path, folder: Path, count: int) -> Path:
    """Put measurements into a folder that differ in their identifiers alone."""
    folder.mkdir()
    for number in range(count):
        copy = shutil.copy(path, folder / f"M{number:05d}.rtdc")
        with h5py.File(copy, "a") as h5:
            h5.attrs["experiment:run identifier"] = f"run {number}"
    return folder


def timed(folder: Path, output: Path, executor: Any = None) -> float:
    """Return the seconds in which a folder is done, and check that it is."""
    began = time.perf_counter()
    statuses = {each.status for each in compute_files(folder, output, executor=executor)}
    taken = time.perf_counter() - began
    assert statuses == {"done"}, statuses
    return taken


def check_same(one: Path, other: Path) -> None:
    """Check that two folders hold the same backgrounds."""
    names = sorted(path.name for path in one.iterdir())
    assert names == sorted(path.name for path in other.iterdir())
    for name in names:
        with h5py.File(one / name) as a, h5py.File(other / name) as b:
            for path in ("basin_events/image_bg", "events/bg_off", "events/basinmap0"):
                assert np.array_equal(a[path], b[path]), f"{name}: {path}"


def small_measurement(path: Path) -> Path:
    """Make a measurement that takes next to nothing."""
    with h5py.File(path, "w") as h5:
        h5["events/image"] = np.random.default_rng(0).integers(50, 90, SMALL, np.uint8)
        h5["events/time"] = np.arange(float(len(h5["events/image"])))
    return path


def time_again(folder: Path, output: Path, *options: str) -> float:
    """Return the seconds of a command that finds a folder up to date."""
    command = [sys.executable, "-m", "sparsemed", "compute", folder, "-o", output]
    command += ["-k", f"kernel_size={WINDOW}", *options]
    began = time.perf_counter()
    done = subprocess.run(
        [str(word) for word in command], check=True, capture_output=True, text=True
    )
    taken = time.perf_counter() - began
    assert all(": up to date, " in line for line in done.stdout.splitlines())
    return taken


def measure(count: int, frames: int, repeats: int, small: int) -> dict[str, Any]:
    """Time a folder here and on two workers, in turn, and many small ones that are done."""
    path = generated_measurement(frames, RATE)
    taken: dict[str, list[float]] = {"here": [], "two workers": []}
    with tempfile.TemporaryDirectory() as scratch, cluster(2) as (client, _):
        data = copies(path, Path(scratch, "data"), count)
        for number in range(repeats + 1):  # the first one warms up
            here, there = (Path(scratch, f"{name}{number}") for name in ("here", "there"))
            taken["here"].append(timed(data, here))
            taken["two workers"].append(timed(data, there, client))
        check_same(here, there)
        peaks = [each.value for each in as_completed(client, peak_bytes, range(2))]
        with h5py.File(path) as h5:
            size = h5["events/image"].size
        tiny = copies(small_measurement(Path(scratch, "tiny.rtdc")), Path(scratch, "tiny"), small)
        for each in compute_files(tiny, Path(scratch, "results"), kernel_size=WINDOW):
            assert each.status == "done", each
        again = time_again(tiny, Path(scratch, "results"))
        overview = ("--summary", str(Path(scratch, "overview")))
        time_again(tiny, Path(scratch, "results"), *overview)
        with_summary = time_again(tiny, Path(scratch, "results"), *overview)
        page = Path(scratch, "overview", "index.html").stat().st_size
    return {
        "machine": machine_name(),
        "count": count,
        "frames": frames,
        "bytes": size * count,
        "seconds": {name: min(each[1:]) for name, each in taken.items()},
        "peak_bytes": max(peaks),
        "small": small,
        "again": again,
        "again_with_summary": with_summary,
        "page_bytes": page,
    }


def tables(results: dict[str, Any]) -> str:
    """Return the results as Markdown."""
    here, there = (results["seconds"][name] for name in ("here", "two workers"))
    speed = results["bytes"] / 1e6
    small = f"{results['small']:,} measurements"
    rows = [
        (f"{results['count']} of {results['frames']:,} frames, in one process", here, speed / here),
        ("the same, `--dask` with two workers of a thread each", there, speed / there),
        (f"{small} that are up to date", results["again"], None),
        ("the same, with `--summary`", results["again_with_summary"], None),
    ]
    lines = ["| | seconds | MB/s |", "| --- | ---: | ---: |"]
    lines += [
        f"| {text} | {taken:.1f} | {'' if rate is None else f'{rate:,.0f}'} |"
        for text, taken, rate in rows
    ]
    peak = results["peak_bytes"] / 2**20
    page = results["page_bytes"] / 1e6
    lines += ["", f"A worker held at most {peak:.0f} MiB. That overview has {page:.1f} MB."]
    return "\n".join(lines)


@click.command()
@click.option("--count", default=20, help="Measurements in the folder.")
@click.option("--frames", default=4000, help="Frames of each.")
@click.option("--repeats", default=3, help="Runs, after one that warms up.")
@click.option("--small", default=2000, help="Small measurements that are up to date.")
@click.option("--name", default=None, help="Name of the results. [default: kind of the machine]")
@click.option("--docs", type=Path, help="Write the table into this file, between its markers.")
@click.option("--again", is_flag=True, help="Take the results of an earlier run.")
def main(
    count: int,
    frames: int,
    repeats: int,
    small: int,
    name: str | None,
    docs: Path | None,
    again: bool,
) -> None:
    """Measure, and write results and table."""
    path = RESULTS / f"many-{name or machine_name()}.json"
    if not again:
        RESULTS.mkdir(exist_ok=True)
        path.write_text(json.dumps(measure(count, frames, repeats, small), indent=1) + "\n")
    text = tables(json.loads(path.read_text()))
    click.echo(text)
    if docs:
        write_block(docs, "many", text)


if __name__ == "__main__":
    main()
