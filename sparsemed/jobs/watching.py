"""How far many runs have come, all together, and also where they are carried out elsewhere."""

import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from sparsemed.jobs.runs import Run
from sparsemed.progress import Progress

PAUSE = 0.5
"""Seconds between two messages of a worker."""


def size_of(run: Run) -> int:
    """Return the size of a measurement's file, and 1 for what has none."""
    with suppress(OSError):
        return max(1, run.source.stat().st_size)
    return 1


class Shares:
    """Which part of each run is done; tells which part of all that makes.

    Parameters
    ----------
    runs : sequence of Run
        A run counts by the size of its file.
    report : callable
        Gets the fraction of all.
    """

    def __init__(self, runs: Sequence[Run], report: Progress) -> None:
        self.sizes = [size_of(run) for run in runs]
        self._all = sum(self.sizes)
        self._done = [0.0] * len(runs)
        self._sum = 0.0
        self._report = report
        self._one = threading.Lock()

    def note(self, number: int, part: float) -> None:
        """Note which part of a run is done. One that begins anew takes nothing back."""
        with self._one:
            more = max(0.0, part - self._done[number])
            self._done[number] += more
            self._sum += more * self.sizes[number]
            self._report(min(1.0, self._sum / self._all))


@contextmanager
def listening(executor: Any, topic: str, shares: Shares) -> Iterator[None]:
    """Note what workers of Dask's tell of their runs; other executors have no way to tell."""
    if not hasattr(executor, "subscribe_topic"):
        yield
        return
    executor.subscribe_topic(topic, lambda event: shares.note(*event[1]))
    try:
        yield
    finally:
        with suppress(Exception):  # the scheduler may be gone
            executor.unsubscribe_topic(topic)


def telling(topic: str, number: int) -> Progress | None:
    """Return what tells how far a run has come to who listens, if this is a worker of Dask's."""
    if "distributed" not in sys.modules:
        return None
    from distributed import get_worker

    try:
        worker = get_worker()
    except ValueError:  # this is none
        return None
    last = time.monotonic()

    def tell(part: float) -> None:
        nonlocal last
        if time.monotonic() - last >= PAUSE:
            last = time.monotonic()
            worker.log_event(topic, [number, part])

    return tell
