"""``python -m benchmarks.commit``: what it costs that a file changes wholly or not at all.

A job runs in place, and does so again with plain h5py in the place of the
commit, in turn, each on a copy of the same measurement. Its last step, writing
the background, is also timed alone, as the computation is most of the job.
"""

import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import click
import h5py

from benchmarks.measurements import generated_measurement
from sparsemed import BackgroundSparseMed
from sparsemed.rtdc import output
from sparsemed.storage import disk

FRAMES_PER_SECOND = 180  # 300 windows in 54,000 frames, which are 1 GB


@contextmanager
def plain_h5py(path: Path) -> Iterator[h5py.File]:
    """Change a file as one does without a commit: in the file, and nothing is synced."""
    with h5py.File(path, "r+", libver=("v110", "latest")) as h5:
        yield h5


class Patch(NamedTuple):
    """What a commit did to the part of the file that was there before.

    Attributes
    ----------
    seconds : float
        From the first byte to the last: in between, the file may not open.
    size : int
        Bytes.
    writes : int
        Number of writes.
    """

    seconds: float
    size: int
    writes: int


def run_job(path: Path) -> BackgroundSparseMed:
    with BackgroundSparseMed(path, path) as job:
        job.process()
    return job


def write_again(path: Path, job: BackgroundSparseMed) -> None:
    background = job.background
    assert background is not None
    output.write_background(path, background)


def patch_of(change: Callable[[], Any], path: Path) -> Patch:
    """Run what changes a file and return what its commit did to the old part."""
    name, old_size = os.path.realpath(path), path.stat().st_size
    began, ended, sizes = [], [], []

    def write(handle: Any, offset: int, data: bytes, real: Any = disk.write) -> None:
        before = time.perf_counter()
        real(handle, offset, data)
        after = time.perf_counter()
        if handle.name == name and offset < old_size:  # not the journal, and not what is appended
            began.append(before)
            ended.append(after)
            sizes.append(len(data))

    with mock.patch.object(disk, "write", write):
        change()
    return Patch(ended[-1] - began[0], sum(sizes), len(sizes))


def compare(
    contenders: dict[str, Callable[[], Any]], rounds: int, title: str
) -> dict[str, list[float]]:
    """Run contenders in turn, after a round that warms up, and return their seconds."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        click.echo(f"{title}, round {number} of {rounds}", err=True)
        names = list(contenders)
        for name in names if number % 2 else reversed(names):
            began = time.perf_counter()
            contenders[name]()
            if number:
                seconds[name].append(time.perf_counter() - began)
    return seconds


def table(title: str, seconds: dict[str, list[float]]) -> str:
    """Return medians and spread of two contenders, and of their ratio in each round."""
    (first, ours), (second, theirs) = seconds.items()
    ratios = sorted(a / b for a, b in zip(ours, theirs, strict=True))
    lines = [f"{title}, median of {len(ratios)} rounds (smallest to largest):"]
    for name, of in ((first, ours), (second, theirs)):
        shown = f"{statistics.median(of) * 1e3:.1f} ms ({min(of) * 1e3:.1f} to {max(of) * 1e3:.1f})"
        lines.append(f"  {name:<22} {shown}")
    shown = f"{statistics.median(ratios):.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f})"
    lines.append(f"  {'ratio':<22} {shown}")
    return "\n".join(lines)


def without_images(path: Path, small: Path) -> Path:
    """Write a small file with as many frames as a measurement, so that it takes the background."""
    with h5py.File(path) as h5, h5py.File(small, "w", libver="latest") as copy:
        copy["events/time"] = h5["events/time"][:]
    return small


@click.command()
@click.option("--quick", is_flag=True, help="A small measurement and few rounds.")
@click.option("--folder", type=click.Path(path_type=Path), help="Where the copies are. [temporary]")
def main(quick: bool, folder: Path | None) -> None:
    """Time the commit on a measurement of 1 GB."""
    frames, rounds, patches = (2_000, 3, 10) if quick else (54_000, 15, 200)
    measurement = generated_measurement(frames, FRAMES_PER_SECOND)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        ours, theirs = Path(scratch) / "commit.rtdc", Path(scratch) / "plain.rtdc"
        for copy in (ours, theirs):
            shutil.copyfile(measurement, copy)
            with copy.open("rb+") as file:
                disk.sync(file)  # what a copy leaves to be written would slow down the first
        job = run_job(ours)

        def plainly(change: Callable[..., Any], *arguments: Any) -> None:
            with mock.patch.object(output, "changed_file", plain_h5py):
                change(*arguments)

        def pair(change: Callable[..., Any], *arguments: Any) -> dict[str, Callable[[], Any]]:
            return {
                "all or nothing": lambda: change(ours, *arguments),
                "plain h5py": lambda: plainly(change, theirs, *arguments),
            }

        size = measurement.stat().st_size / 1e6
        click.echo(f"{size:,.0f} MB, {frames:,} frames, {job.background}")
        whole = compare(pair(run_job), rounds, "whole job")
        click.echo(table("Job in place, without imports", whole))
        writing = compare(pair(write_again, job), 2 * rounds, "writing")
        click.echo(table("Writing the background alone", writing))
        differences = [a - b for a, b in zip(*writing.values(), strict=True)]
        overhead = statistics.median(differences) / statistics.median(whole["plain h5py"])
        click.echo(f"  difference             {overhead:.1%} of a plain job")

        small = without_images(measurement, Path(scratch) / "small.rtdc")
        sizes = {
            f"into {copy.stat().st_size / 1e6:,.1f} MB": lambda copy=copy: write_again(copy, job)
            for copy in (ours, small)
        }
        click.echo(table("The same into files of other sizes", compare(sizes, rounds, "sizes")))

        found = []
        for number in range(patches):
            click.echo(f"patch {number + 1} of {patches}", err=True)
            found.append(patch_of(lambda: write_again(ours, job), ours))
        times = [patch.seconds * 1e6 for patch in found]
        click.echo(
            f"Patch of what was there before, {patches} times: "
            f"median {statistics.median(times):.0f} µs, longest {max(times):.0f} µs; "
            f"{statistics.median(patch.size for patch in found):.0f} bytes "
            f"in {statistics.median(patch.writes for patch in found):.0f} writes"
        )


if __name__ == "__main__":
    main()
