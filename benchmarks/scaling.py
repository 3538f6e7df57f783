"""``python -m benchmarks.scaling``: how long many workers take, from a few measured constants.

`predict` is the model. The benchmark measures its constants on one core, predicts how long a
measurement takes by one and by two workers on this machine, and sets beside it how long it took.
"""

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np

from benchmarks.__main__ import RESULTS, machine_name
from benchmarks.measurements import generated_measurement
from benchmarks.pages import write_block
from sparsemed import SparseBackground, compute_background
from sparsemed.executors.rounds import as_completed
from sparsemed.frames.parts import PartFrames
from sparsemed.frames.sampled import SampledFrames
from sparsemed.kernels.cores import available_cores
from sparsemed.kernels.median import median_images
from sparsemed.method.compute import conclude, plan
from sparsemed.method.ranges import LEAST_WINDOWS, PER_WORKER, RANGE_BYTES
from sparsemed.method.scan import scan
from sparsemed.parameters import Parameters
from sparsemed.progress import ignore
from sparsemed.result import presented
from sparsemed.rtdc.frames import measurement_frames, measurement_time
from sparsemed.rtdc.measurement import Measurement
from sparsemed.rtdc.output import write_background

RATE = 1000
"""Frames per second of the measurement that is timed."""

SHORT, LONG = 4_000, 16_000
"""Frames of two ranges: what the longer takes more is in proportion to its frames."""


class Constants(NamedTuple):
    """What the model has to know of a machine and of this package.

    Attributes
    ----------
    decode : float, bytes/s
        Frames that a core reads from memory, verifies and decodes, and whose brightness it takes.
    count : float, bytes/s
        Frames of windows that a core finds medians of.
    together : float
        What is left of either where all cores are busy.
    conclude : float, bytes/s
        Background images that are cleansed, and whose brightness is taken, on one core.
    write : float, bytes/s
        Background images that are compressed and written, on one core.
    frame : float, s
        What the time axis, the choice of images and offsets take for each frame.
    range : float, s
        What a range takes besides its frames: open, find the chunks, have room for frames.
    task : float, s
        What the scheduler takes for a task, be it a range or a measurement.
    file : float, s
        What a measurement takes besides: to open it, and to write a file of one image.
    start : float, s
        What a fresh worker takes, until it has imported all and loaded the kernel.
    """

    decode: float
    count: float
    together: float
    conclude: float
    write: float
    frame: float
    range: float
    task: float
    file: float
    start: float


class Work(NamedTuple):
    """Measurements, all alike."""

    files: int
    frames: int
    raw: float
    """Bytes of a frame in memory."""
    stored: float
    """Bytes of a frame in the file."""
    rate: float = RATE
    """Frames per second."""
    kernel_size: int = 200
    split_time: float = 1.0

    @property
    def images(self) -> float:
        """Background images of each."""
        return self.frames / (self.rate * self.split_time)


class Site(NamedTuple):
    """Workers, one a node or several, and what they read from."""

    workers: int
    cores: int
    """Of each worker."""
    disk: float
    """Bytes a second that the storage yields to all of them."""
    network: float
    """Bytes a second to and from each."""
    fresh: bool = False
    """Whether workers have to start first."""
    all_busy: bool = True
    """Whether no core of a machine is idle."""


def range_count(work: Work, workers: int) -> int:
    """Return the ranges of each measurement; as `sparsemed.method.ranges.range_count`."""
    size = work.frames * work.raw
    most = min(
        PER_WORKER * workers,
        int(size // RANGE_BYTES),
        int(work.frames // (LEAST_WINDOWS * work.kernel_size)),
    )
    return max(1, most if most < workers else most // workers * workers)


def predict(known: Constants, work: Work, site: Site, by_ranges: bool) -> dict[str, float]:
    """Return the seconds of each part of the work; their sum is the whole, but for ``at once``.

    Cores, storage and network are busy at the same time: the slowest of the three counts, as
    ``at once``. What comes before and after has to wait.

    Parameters
    ----------
    known : Constants
    work : Work
    site : Site
    by_ranges : bool
        Whether each measurement is cut into ranges for all workers, one measurement after the
        other; or else each worker takes measurements whole.
    """
    speed = known.together if site.all_busy else 1.0
    ranges = range_count(work, site.workers) if by_ranges else 1
    frames = work.frames + (ranges - 1) * work.kernel_size  # some are read twice
    images = work.images * work.raw
    core = (
        frames * work.raw / known.decode + work.images * work.kernel_size * work.raw / known.count
    )
    alone = images * (1 / known.conclude + 1 / known.write) + work.frames * known.frame + known.file
    used = min(site.workers, ranges if by_ranges else work.files)
    rounds = -(-ranges // site.workers) * site.workers / ranges if by_ranges else 1.0
    cores = work.files * core * rounds / (used * site.cores * speed)
    fixed = work.files * ranges * (known.range + known.task) / used
    if by_ranges:
        travel = work.files * (images + 8 * work.frames) / site.network
        last = work.files * alone
    else:
        travel = 0.0
        fixed += work.files * alone / used
        last = 0.0
    storage = work.files * frames * work.stored / min(site.disk, used * site.network)
    return {
        "start": known.start if site.fresh else 0.0,
        "cores": cores + fixed,
        "storage": storage,
        "scheduler": work.files * ranges * known.task,
        "one process": travel + last,
    }


def seconds(parts: dict[str, float]) -> float:
    """Return how long all of it takes: cores, storage and scheduler are busy at the same time."""
    at_once = max(parts[name] for name in ("cores", "storage", "scheduler"))
    return parts["start"] + at_once + parts["one process"]


def bottleneck(parts: dict[str, float]) -> str:
    """Return which part takes longest."""
    return max(parts, key=lambda name: parts[name])


def best_of(repeats: int, run: Callable[[], Any]) -> float:
    """Return the median of some times; one more run warms up."""
    times = []
    for number in range(repeats + 1):
        began = time.perf_counter()
        run()
        if number:
            times.append(time.perf_counter() - began)
    return statistics.median(times)


def nothing(task: int, _: int | None) -> int:
    """Do the smallest of tasks."""
    return task


def time_range(task: tuple[Path, int], _: int | None) -> float:
    """Scan the first frames of a measurement in one thread, as a range: seconds."""
    path, count = task
    began = time.perf_counter()
    with Measurement(path) as measurement:
        frames = PartFrames(measurement_frames(measurement, 1), 0, count)
        starts = np.arange(0, count - 200, RATE)
        scan(frames, starts, 200, with_bands=True, num_cpus=1, progress=ignore)
    return time.perf_counter() - began


def measure_constants(path: Path, client: Any, start: float) -> Constants:
    """Measure what one core does, with workers of `client`, one a core, that are ready."""

    def times(count: int, at_once: int) -> float:
        rounds = [as_completed(client, time_range, [(path, count)] * at_once) for _ in range(4)]
        return statistics.median(each.value for outcomes in rounds[1:] for each in outcomes)

    task = best_of(3, lambda: list(as_completed(client, nothing, range(50)))) / 50
    with Measurement(path) as measurement:
        frames = measurement_frames(measurement, 1)
        count, height, width = frames.shape
        size = height * width * frames.dtype.itemsize
        few = SampledFrames(frames, np.arange(200))
        few.read_all()
        rows, starts = np.arange(200), np.zeros(1, np.intp)
        image = np.empty((1, height, width), frames.dtype)
        counted = best_of(9, lambda: median_images(few.kept, rows, starts, 200, image, 1))
        axis = measurement_time(measurement)
        planning = best_of(3, lambda: plan(axis, Parameters()))
    short, long = times(SHORT, 1), times(LONG, 1)
    # Both without the windows that they hold.
    per_frame = (long - short) / (LONG - SHORT) - counted / RATE
    return Constants(
        decode=size / per_frame,
        count=200 * size / counted,
        together=long / times(LONG, available_cores()),
        frame=planning / count,
        range=max(0.0, short - SHORT * (per_frame + counted / RATE)),
        task=task,
        start=start,
        **measure_results(path),
    )


def measure_results(path: Path) -> dict[str, float]:
    """Measure what one core makes of many background images."""
    with Measurement(path) as measurement, tempfile.TemporaryDirectory() as folder:
        frames = PartFrames(measurement_frames(measurement, 1), 0, SHORT)
        planned = plan(np.arange(SHORT) / RATE, Parameters(kernel_size=20, split_time=0.02))
        found = scan(
            frames, planned.starts, planned.length, with_bands=True, num_cpus=1, progress=ignore
        )
        many = presented(conclude(planned, found), [])
        one = replace(many, images=many.images[:1], frame_index=0 * many.frame_index)

        def write(background: SparseBackground) -> None:
            output = Path(folder) / "out.rtdc"
            output.unlink(missing_ok=True)
            with Measurement(path) as again:
                measurement_frames(again, 1)
            write_background(output, background)

        file = best_of(5, lambda: write(one))
        return {
            "conclude": many.series.nbytes / best_of(3, lambda: conclude(planned, found)),
            "write": (many.images.nbytes - one.images.nbytes)
            / (best_of(5, lambda: write(many)) - file),
            "file": file,
        }


@contextmanager
def cluster(workers: int) -> Iterator[tuple[Any, float]]:
    """Provide a client of local workers with one thread each, and how long they took to start."""
    from distributed import Client, LocalCluster

    with ExitStack() as stack:
        began = time.perf_counter()
        local = LocalCluster(
            n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=":0"
        )
        client = stack.enter_context(Client(stack.enter_context(local)))
        list(as_completed(client, warm_up, range(workers)))
        yield client, time.perf_counter() - began


def warm_up(_: int, num_cpus: int | None) -> None:
    """Import all, and load the kernel."""
    compute_background(
        np.zeros((9, 40, 60), np.uint8), np.arange(9.0), kernel_size=9, num_cpus=num_cpus
    )


def peak_bytes(*_: Any) -> int:
    """Return the most memory that this worker has held."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(count: int, repeats: int) -> dict[str, Any]:
    """Measure constants, predict, and time one and two workers."""
    path = generated_measurement(count, RATE)
    with Measurement(path) as measurement:
        _, height, width = measurement_frames(measurement, 1).shape
    work = Work(1, count, height * width, path.stat().st_size / count)
    with cluster(available_cores()) as (client, start):
        known = measure_constants(path, client, start)
    alone = compute_background(path)
    taken: dict[str, list[float]] = {}
    with (
        tempfile.TemporaryDirectory() as folder,
        cluster(1) as (one, _),
        cluster(2) as (two, _),
    ):
        options = {
            "1 worker": {"executor": one},
            "2 workers": {"executor": two},
            "1 thread": {"num_cpus": 1},
            "2 threads": {"num_cpus": 2},
        }
        for number in range(repeats + 1):  # the first round warms up
            for name, how in options.items():
                output = Path(folder) / "out.rtdc"
                output.unlink(missing_ok=True)
                began = time.perf_counter()
                found = compute_background(path, **how)
                found.save(output)
                if number:
                    taken.setdefault(name, []).append(time.perf_counter() - began)
                assert np.array_equal(found.images, alone.images), "the bits differ"
                assert np.array_equal(found.offsets, alone.offsets), "the bits differ"
        peaks = [
            each.value for client in (one, two) for each in as_completed(client, peak_bytes, "ab")
        ]
    predicted = [
        seconds(predict(known, work, Site(workers, 1, 1e12, 1e12, all_busy=busy), by_ranges=True))
        for workers, busy in ((1, available_cores() == 1), (2, available_cores() <= 2))
    ]
    return {
        "machine": machine_name(),
        "work": work._asdict(),
        "constants": known._asdict(),
        "ranges": [range_count(work, workers) for workers in (1, 2)],
        "predicted": predicted,
        "measured": taken,
        "peak_bytes": max(peaks),
    }


GB = 1e9

SITES = (
    ("laptop: 4 cores, one measurement of 10 GB, USB disk", (1, 10), (1, 4, 0.1, 0.1), False),
    ("laptop: the same, from its SSD", (1, 10), (1, 4, 2, 2), False),
    ("workstation: 16 cores, 100 measurements, SSD", (100, 10), (1, 16, 3, 3), False),
    ("the same, by 4 workers of 4 cores", (100, 10), (4, 4, 3, 3), False),
    ("4 nodes of 32 cores, one of 50 GB, file server of 1 GB/s", (1, 50), (4, 32, 1, 1.2), True),
    ("16 nodes of 32 cores, one of 50 GB, parallel, 20 GB/s", (1, 50), (16, 32, 20, 3), True),
    ("100 nodes, 1,000 measurements, 20 GB/s", (1000, 10), (100, 32, 20, 3), False),
    ("1,000 nodes, 10,000 measurements, 100 GB/s", (10_000, 10), (1000, 32, 100, 3), False),
    ("1,000 nodes, one of 50 GB, 100 GB/s", (1, 50), (1000, 32, 100, 3), True),
)
"""Where it may run: how many files of how many GB; workers, cores of each, GB/s of storage and
network; and whether by ranges."""


def tables(results: dict[str, Any]) -> str:
    """Return the results as Markdown."""
    known, work = Constants(**results["constants"]), Work(**results["work"])
    lines = ["| constant | measured |", "| --- | ---: |"]
    texts = {
        "decode": "a core decodes, of frames",
        "count": "a core counts, of frames of windows",
        "together": "left of either where all cores are busy",
        "conclude": "one core concludes, of background images",
        "write": "one core compresses and writes, of background images",
        "frame": "time axis, for a frame",
        "range": "a range, besides its frames",
        "task": "a task, for the scheduler",
        "file": "a measurement, to open it and begin its result",
        "start": "a fresh worker, until it is ready",
    }
    for name, text in texts.items():
        value = getattr(known, name)
        if name in ("decode", "count", "conclude", "write"):
            shown = f"{value / 1e6:,.0f} MB/s"
        elif name == "together":
            shown = f"{100 * value:.0f} %"
        else:
            shown = _time(value)
        lines.append(f"| {text} (`{name}`) | {shown} |")
    lines += [
        "",
        f"A measurement of {work.frames:,} frames of {work.raw:,.0f} bytes, {work.stored:,.0f} "
        f"in the file, at {work.rate:g} frames a second, with writing; Dask workers with one "
        "thread each, on a machine with 2 cores:",
        "",
        "| | ranges | predicted | measured |",
        "| --- | ---: | ---: | ---: |",
    ]
    measured = {name: statistics.median(of) for name, of in results["measured"].items()}
    for name, ranges, predicted in zip(
        ("1 worker", "2 workers"), results["ranges"], results["predicted"], strict=True
    ):
        lines.append(f"| {name} | {ranges} | {predicted:.2f} s | {measured[name]:.2f} s |")
    lines += [
        f"| no worker, {name} | | | {measured[name]:.2f} s |" for name in ("1 thread", "2 threads")
    ]
    lines += [
        "",
        f"A worker held at most {results['peak_bytes'] / 2**20:.0f} MiB.",
        "",
        "| where | time | MB/s of frames | what limits it |",
        "| --- | ---: | ---: | --- |",
    ]
    for text, (files, size), (workers, cores, disk, network), by_ranges in SITES:
        case = Work(files, round(size * GB / work.stored), work.raw, work.stored)
        site = Site(workers, cores, disk * GB, network * GB)
        parts = predict(known, case, site, by_ranges)
        total = seconds(parts)
        rate = case.files * case.frames * case.raw / total / 1e6
        lines.append(f"| {text} | {_time(total)} | {rate:,.0f} | {bottleneck(parts)} |")
    return "\n".join(lines)


def _time(value: float) -> str:
    for unit, size in (("h", 3600.0), ("min", 60.0), ("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if value >= 2 * size or (unit == "s" and value >= 1):
            return f"{value / size:.3g} {unit}"
    return f"{value * 1e9:.3g} ns"


@click.command()
@click.option("--frames", default=40_000, help="Frames of the measurement that is timed.")
@click.option("--repeats", default=3, help="Runs, after one that warms up.")
@click.option("--name", default=None, help="Name of the results. [default: kind of the machine]")
@click.option("--docs", type=Path, help="Write the tables into this file, between its markers.")
@click.option("--again", is_flag=True, help="Take the results of an earlier run.")
def main(frames: int, repeats: int, name: str | None, docs: Path | None, again: bool) -> None:
    """Measure, and write results and tables."""
    path = RESULTS / f"scaling-{name or machine_name()}.json"
    if not again:
        RESULTS.mkdir(exist_ok=True)
        path.write_text(json.dumps(measure(frames, repeats), indent=1) + "\n")
    text = tables(json.loads(path.read_text()))
    click.echo(text)
    if docs:
        write_block(docs, "scaling", text)


if __name__ == "__main__":
    main()
