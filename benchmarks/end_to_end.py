"""dcnum, sparsemed and the decode floor as whole processes, imports and all.

They run in turn, round after round, as times vary from minute to minute on a
busy machine: the ratio of two times of one round is worth more than the times.
"""

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import click
import h5py
import hdf5plugin  # noqa: F401  (lets HDF5 read Zstandard)
import numpy as np
import psutil

from benchmarks.measurements import generated_measurement

HERE = Path(__file__).resolve().parent

CONTENDERS = ("dcnum", "sparsemed", "decode floor")

CLASS_PROGRAM = """
import json, sys, time
from {module} import BackgroundSparseMed
if __name__ == "__main__":
    began = time.perf_counter()
    parameters = json.loads(sys.argv[3]) if sys.argv[3:] else {{}}
    with BackgroundSparseMed(sys.argv[1], sys.argv[2], **parameters) as job:
        job.process()
    print(time.perf_counter() - began)
"""

MODULES = {
    "dcnum": "dcnum.feat.feat_background.bg_sparse_median",
    "sparsemed": "sparsemed",
}

IMPORT = """
import time
began = time.perf_counter()
import sparsemed
print(time.perf_counter() - began)
"""

FIRST_RESULT = """
import time
import h5py, numba, numpy as np
began = time.perf_counter()
import sparsemed
images = np.zeros((17, 80, 400), np.uint8)
time_axis = np.arange(17) / 1000
background = sparsemed.compute_background(images, time_axis, kernel_size=8, split_time=0.008)
assert len(background.series) == 2
print(time.perf_counter() - began)
"""

SEVERAL = 8
"""Processes that need the same kernels at once."""

SAMPLE_SECONDS = 0.01
"""How often the memory of a process is looked at."""


class Run(NamedTuple):
    """What is known of a program that has run.

    Attributes
    ----------
    seconds : float
        From its start to its end, with imports.
    inside : float
        What it says it took after its imports.
    peak : int
        Most bytes of memory that its main process held at once.
    peak_with_workers : int
        The same for all its processes; what they share is counted in each. 0
        if that was not asked for.
    """

    seconds: float
    inside: float
    peak: int
    peak_with_workers: int


def run_program(
    *arguments: str | Path,
    variables: dict[str, str] | None = None,
    count_workers: bool = False,
    cores: int | None = None,
) -> Run:
    """Run Python with the given arguments; the program prints the seconds it took.

    Parameters
    ----------
    *arguments : str or path
    variables : dict, optional
        Environment variables to set.
    count_workers : bool
        Whether to watch the memory of the program's workers, too. It takes
        time, so do not do it where time is measured.
    cores : int, optional
        How many of the cores there are the program and its workers may use.
    """
    environment = os.environ | {"PYTHONPATH": str(HERE.parent)} | (variables or {})
    # What has been installed has its bytecode with it, so let ours be kept, too.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    with tempfile.TemporaryFile("w+") as said:
        began = time.perf_counter()
        with pinned(cores):
            process = subprocess.Popen([sys.executable, *arguments], stdout=said, env=environment)
        with Watch(process.pid, count_workers) as watch:
            code = process.wait()
            seconds = time.perf_counter() - began
        if code:
            raise click.ClickException(f"a program of the benchmark failed: {arguments}")
        said.seek(0)
        inside = float(said.read().split()[-1])
    return Run(seconds, inside, watch.peak, watch.peak_with_workers)


@contextlib.contextmanager
def pinned(cores: int | None) -> Iterator[None]:
    """Let processes that are started meanwhile have so many cores; None: all there are."""
    if cores is None:
        yield
        return
    if not hasattr(os, "sched_setaffinity"):
        raise click.ClickException("programs cannot be pinned to cores on this system")
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:cores])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Watch:
    """Watches the memory of a process from a thread."""

    def __init__(self, pid: int, count_workers: bool) -> None:
        self._process = psutil.Process(pid)
        self._count_workers = count_workers
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.peak = 0
        self.peak_with_workers = 0

    def __enter__(self) -> "Watch":
        self._look()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(SAMPLE_SECONDS):
            self._look()

    def _look(self) -> None:
        with contextlib.suppress(psutil.Error):  # it, or a worker, has just ended
            held = self._process.memory_info().rss
            self.peak = max(self.peak, held)
            if self._count_workers:
                for worker in self._process.children(recursive=True):
                    with contextlib.suppress(psutil.Error):
                        held += worker.memory_info().rss
                self.peak_with_workers = max(self.peak_with_workers, held)


def run_warm(measurement: Path, rounds: int, **parameters: Any) -> dict[str, list[float]]:
    """Run all contenders in one process, in turn; return the seconds of each, after imports."""
    click.echo(f"{measurement.stem}, {rounds} rounds in one process", err=True)
    environment = os.environ | {"PYTHONPATH": str(HERE.parent)}
    said = subprocess.run(
        [sys.executable, HERE / "warm.py", measurement, str(rounds), json.dumps(parameters)],
        env=environment,
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
    seconds: dict[str, list[float]] = json.loads(said.splitlines()[-1])
    return seconds


def run_contender(
    name: str,
    measurement: Path,
    scratch: Path,
    count_workers: bool = False,
    cores: int | None = None,
    **parameters: Any,
) -> tuple[Run, Path]:
    """Run a contender on a measurement; return what is known, and where its output is."""
    output = scratch / f"{name}-output.rtdc"
    if name == "decode floor":
        run = run_program(
            HERE / "decode_floor.py", measurement, count_workers=count_workers, cores=cores
        )
        return run, output
    program = scratch / f"run_{name}.py"  # "dcnum.py" would hide dcnum
    program.write_text(CLASS_PROGRAM.format(module=MODULES[name]))
    output.unlink(missing_ok=True)
    run = run_program(
        program,
        measurement,
        output,
        json.dumps(parameters),
        count_workers=count_workers,
        cores=cores,
    )
    return run, output


def require_same_background(one: Path, other: Path) -> None:
    """Fail if two files do not hold the same background, bit for bit."""
    with h5py.File(one) as a, h5py.File(other) as b:
        for name in ("basin_events/image_bg", "events/basinmap0", "events/bg_off"):
            same = a[name].dtype == b[name].dtype and np.array_equal(a[name][:], b[name][:])
            if not same:
                raise click.ClickException(f"the backgrounds differ in {name}")


def start_up(rounds: int) -> dict[str, list[float]]:
    """Time importing sparsemed, and getting a first result, in fresh processes.

    The first result is of two windows that do not overlap. It does not contain the imports of
    NumPy, Numba and h5py. ``first result, compiling`` is the same with an empty cache of compiled
    code, and ``of several, compiling`` is when the last of SEVERAL processes has it that begin
    at once with an empty cache.
    """
    seconds: dict[str, list[float]] = {}
    for number in range(rounds + 1):
        click.echo(f"start-up, round {number} of {rounds}", err=True)
        runs = {
            "import": run_program("-c", IMPORT),
            "first result": run_program("-c", FIRST_RESULT),
        }
        if not number:  # the first round warms up; for what compiles, this was enough
            continue
        with tempfile.TemporaryDirectory() as empty:
            runs["first result, compiling"] = run_program(
                "-c", FIRST_RESULT, variables={"NUMBA_CACHE_DIR": empty}
            )
        with tempfile.TemporaryDirectory() as empty, ThreadPoolExecutor(SEVERAL) as pool:
            run_one = partial(run_program, "-c", FIRST_RESULT, variables={"NUMBA_CACHE_DIR": empty})
            at_once = [pool.submit(run_one) for _ in range(SEVERAL)]
            several = [each.result() for each in at_once]
            runs["of several, compiling"] = max(several, key=lambda run: run.inside)
        for name, run in runs.items():
            seconds.setdefault(name, []).append(run.inside)
    return seconds


def compare(measurement: Path, rounds: int) -> dict[str, Any]:
    """Run all contenders on a measurement, in turn; return seconds and memory of each."""
    runs: dict[str, list[Run]] = {name: [] for name in CONTENDERS}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds + 1):
            outputs = {}
            for name, done in runs.items():
                click.echo(f"{measurement.stem}, round {number} of {rounds}, {name}", err=True)
                run, outputs[name] = run_contender(
                    name, measurement, Path(folder), count_workers=not number
                )
                done.append(run)
            require_same_background(outputs["dcnum"], outputs["sparsemed"])
    # The first round warms up caches, and shows the memory that workers take.
    return {
        name: {
            "seconds": [run.seconds for run in done[1:]],
            "seconds_inside": [run.inside for run in done[1:]],
            "peak_bytes": statistics.median(run.peak for run in done[1:]),
            "peak_bytes_with_workers": done[0].peak_with_workers,
        }
        for name, done in runs.items()
    }


def measure(frames: int, many: int, rounds: int, rounds_many: int) -> dict[str, Any]:
    """Run the whole part.

    Parameters
    ----------
    frames, many : int
        Frames of the usual measurements, and of the large one.
    rounds, rounds_many : int
        Rounds for these, after one that warms up.
    """
    results: dict[str, Any] = {"start-up": start_up(rounds), "measurements": []}
    for count, rate, compression, repeats in (
        (frames, 1000, "zstd", rounds),
        (frames, 1000, "gzip", rounds),
        (frames, 50, "zstd", rounds),
        (many, 1000, "zstd", rounds_many),
    ):
        measurement = generated_measurement(count, rate, compression)
        results["measurements"].append(
            {
                "frames": count,
                "rate": rate,
                "compression": compression,
                "contenders": compare(measurement, repeats),
                "warm": run_warm(measurement, repeats),
            }
        )
    return results
