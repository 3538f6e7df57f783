"""A measurement that is not on this disk: read by ranges, copied first, or read as dclab does.

The server is a process of its own on this machine, which adds a while to each request and caps what
all answers together take. Times are of a process that has imported and compiled everything.
"""

import contextlib
import itertools
import json
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import h5py
import numpy as np

from benchmarks.measurements import generated_measurement
from sparsemed import SparseBackground, compute_background
from sparsemed.storage import connections

RATES = (50e6, 0.0)
"""Bytes a second that the line takes; 0: as many as the machine."""

DELAYS = (0.0, 0.02, 0.06)
"""Seconds that are added to each request."""


class Far:
    """A measurement behind a slow line."""

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self._process = process
        self.url = url

    def requests(self) -> list[tuple[float, float, int, int]]:
        """Return when requests came and went, and their bytes, since this was asked last."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print("", file=self._process.stdin, flush=True)
        return [tuple(each) for each in json.loads(self._process.stdout.readline())]


@contextlib.contextmanager
def far_away(path: Path, delay: float, rate: float) -> Iterator[Far]:
    """Put a measurement behind a slow line."""
    command = [sys.executable, "-m", "benchmarks.serving", str(path), str(delay), str(rate)]
    with subprocess.Popen(
        command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        try:
            yield Far(process, process.stdout.readline().strip())
        finally:
            assert process.stdin is not None
            process.stdin.close()
            connections.hang_up()


def read_directly(far: Far, **parameters: Any) -> SparseBackground:
    """Compute a background from what a server hands out."""
    return compute_background(far.url, **parameters)


def copy_first(far: Far, **parameters: Any) -> SparseBackground:
    """Copy the file from the server, and compute the background of the copy."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy.rtdc"
        with urllib.request.urlopen(far.url) as answer, copy.open("wb") as file:
            shutil.copyfileobj(answer, file, 2**20)
        return compute_background(copy, **parameters)


def read_with_dclab(far: Far, count: int, number: int) -> None:
    """Read the first frames as dclab does, which remembers what it has read of an address."""
    import dclab

    with dclab.new_dataset(far.url.replace(".rtdc", f"-{number}.rtdc")) as dataset:
        for number in range(count):
            dataset["image"][number]


def rounds_before(requests: list[tuple[float, float, int, int]], first: int) -> int:
    """Return how many requests waited for each other before bytes from `first` on were asked for.

    Those that were made at the same time count once.
    """
    asked = next(came for came, _, _, stop in requests if stop > first)
    rounds, until = 1, 0.0  # the one that asks for these
    for came, went, _, _ in sorted(requests, key=lambda each: each[1]):
        if went <= asked and came >= until:
            rounds, until = rounds + 1, went
    return rounds


def data_begins(path: Path) -> int:
    """Return where the bytes of the second chunk begin: the first comes along with the header."""
    with h5py.File(path) as h5:
        return int(h5["events/image"].id.get_chunk_info(1).byte_offset)


def measure(frames: int, dclab_frames: int, rounds: int) -> dict[str, Any]:
    """Measure how long it takes from afar."""
    path = generated_measurement(frames, 1000.0)
    local = compute_background(path)
    cases = []
    for rate, delay in itertools.product(RATES, DELAYS):
        with far_away(path, delay, rate) as far:
            case: dict[str, Any] = {"delay": delay, "rate": rate, "seconds": {}}
            far.requests()
            for number in range(1, rounds + 1):
                for name, contender in (("directly", read_directly), ("copied", copy_first)):
                    began = time.perf_counter()
                    found = contender(far)
                    case["seconds"].setdefault(name, []).append(time.perf_counter() - began)
                    if not (
                        np.array_equal(found.images, local.images)
                        and np.array_equal(found.offsets, local.offsets)
                    ):
                        raise click.ClickException(f"{name}: other backgrounds than of the file")
                    done = far.requests()
                    case[name] = {
                        "requests": len(done),
                        "bytes": sum(stop - begin for _, _, begin, stop in done),
                        "rounds": rounds_before(done, data_begins(path)),
                    }
                began = time.perf_counter()
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # it asks for all, and gives up half way
                    read_with_dclab(far, dclab_frames, number)
                case["seconds"].setdefault("dclab", []).append(time.perf_counter() - began)
                done = far.requests()
                case["dclab"] = {
                    "requests": len(done),
                    "bytes": sum(stop - begin for _, _, begin, stop in done),
                    "rounds": rounds_before(done, data_begins(path)),
                }
            began = time.perf_counter()
            read_directly(far, offset_correction=False)
            case["without offsets"] = {
                "seconds": time.perf_counter() - began,
                "bytes": sum(stop - begin for _, _, begin, stop in far.requests()),
            }
        cases.append(case)
    return {
        "frames": frames,
        "dclab_frames": dclab_frames,
        "size": path.stat().st_size,
        "cases": cases,
    }
