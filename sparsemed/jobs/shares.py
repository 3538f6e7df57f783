"""How far many runs have come, all together."""

import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from sparsemed.jobs.runs import Run
from sparsemed.progress import Progress


def size_of(run: Run) -> int:
    """Return the size of a measurement's file, and 1 for what has none, or is not asked for it."""
    with suppress(OSError):
        return max(1, run.source.stat().st_size) if isinstance(run.source, Path) else 1
    return 1


class Shares:
    """Which part of each run is done; tells which part of all that makes.

    Parameters
    ----------
    runs : sequence of Run
        A run counts by the size of its file.
    progress : callable
        Gets the fraction of all.
    """

    def __init__(self, runs: Sequence[Run], progress: Progress) -> None:
        self.sizes = [size_of(run) for run in runs]
        self._all = sum(self.sizes)
        self._done = [0.0] * len(runs)
        self._sum = 0.0
        self._progress = progress
        self._one = threading.Lock()

    def note(self, number: int, part: float) -> None:
        """Note which part of a run is done. One that begins anew takes nothing back."""
        with self._one:
            more = max(0.0, part - self._done[number])
            self._done[number] += more
            self._sum += more * self.sizes[number]
            self._progress(min(1.0, self._sum / self._all))
