"""The progress of many runs together."""

import threading
from collections.abc import Sequence
from contextlib import suppress

from sparsemed.frames.stacks import files_of_stack
from sparsemed.jobs.stack_runs import AnyRun, StackRun
from sparsemed.lazy import lazy_property
from sparsemed.progress import Progress, ignore
from sparsemed.storage.places import RemotePath
from sparsemed.storage.remote import sizes

_far: dict[RemotePath, int | OSError] = {}
"""Bytes of objects in a network, or the error of their server: each is asked once."""


def sizes_of(runs: Sequence[AnyRun], *, must_be_known: bool = False) -> list[int]:
    """Return the bytes of the file of each measurement or files of each stack; 1 if unknown.

    Parameters
    ----------
    runs : sequence of Run or StackRun
    must_be_known : bool
        Whether it is an error if a server does not answer; sizes would change when it does.

    Raises
    ------
    OSError
        If it does not answer, and sizes must be known.
    """
    asked = [run.source for run in runs if isinstance(run.source, RemotePath)]
    asked = [path for path in dict.fromkeys(asked) if path not in _far]
    _far.update(zip(asked, sizes([path.place for path in asked]), strict=True))
    return [_size_of(run, must_be_known=must_be_known) for run in runs]


def _size_of(run: AnyRun, *, must_be_known: bool) -> int:
    if isinstance(source := run.source, RemotePath):
        size = _far[source]
        if isinstance(size, int):
            return max(1, size)
        if must_be_known and not isinstance(size, (PermissionError, FileNotFoundError)):
            raise size
        return 1
    with suppress(OSError):
        files = [source]
        if isinstance(run, StackRun):
            files = files_of_stack(source, run.options.choice)
        return max(1, sum(file.stat().st_size for file in files))
    return 1


class Shares:
    """Adds up the progress of runs, weighted by the size of their files.

    Parameters
    ----------
    runs : sequence of Run or StackRun
    progress : callable
        Gets the fraction done of all runs.
    """

    def __init__(self, runs: Sequence[AnyRun], progress: Progress) -> None:
        self._runs = runs
        self._done = [0.0] * len(runs)
        self._sum = 0.0
        self._progress = progress
        self._one = threading.Lock()

    @lazy_property
    def sizes(self) -> list[int]:
        """Weight of each run; for a single run, it does not matter."""
        return sizes_of(self._runs) if len(self._runs) > 1 else [1]

    def note(self, number: int, part: float) -> None:
        """Note which part of a run is done. If a run begins anew, the progress does not go back."""
        if self._progress is ignore:  # no server is asked for a size
            return
        with self._one:
            more = max(0.0, part - self._done[number])
            self._done[number] += more
            self._sum += more * self.sizes[number]
            self._progress(min(1.0, self._sum / sum(self.sizes)))
