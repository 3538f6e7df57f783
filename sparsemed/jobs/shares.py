"""How far many runs have come, all together."""

import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from sparsemed.jobs.runs import Run
from sparsemed.lazy import lazy_property
from sparsemed.progress import Progress, ignore
from sparsemed.storage.places import RemotePath
from sparsemed.storage.remote import sizes

_far: dict[RemotePath, int | OSError] = {}
"""What objects in a network weigh, or why that is not known: they are asked once."""


def sizes_of(runs: Sequence[Run], *, must_be_known: bool = False) -> list[int]:
    """Return the size of each measurement's file, and 1 for what has none, or is not asked for it.

    Parameters
    ----------
    runs : sequence of Run
    must_be_known : bool
        Whether it is an error if a server does not answer, as it may another time.

    Raises
    ------
    OSError
        If it does not.
    """
    asked = [run.source for run in runs if isinstance(run.source, RemotePath)]
    asked = [path for path in dict.fromkeys(asked) if path not in _far]
    _far.update(zip(asked, sizes([path.place for path in asked]), strict=True))
    return [_size_of(run.source, must_be_known=must_be_known) for run in runs]


def _size_of(source: object, *, must_be_known: bool) -> int:
    if isinstance(source, RemotePath):
        size = _far[source]
        if isinstance(size, int):
            return max(1, size)
        if must_be_known and not isinstance(size, (PermissionError, FileNotFoundError)):
            raise size
    with suppress(OSError):
        return max(1, source.stat().st_size) if isinstance(source, Path) else 1
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
        self._runs = runs
        self._done = [0.0] * len(runs)
        self._sum = 0.0
        self._progress = progress
        self._one = threading.Lock()

    @lazy_property
    def sizes(self) -> list[int]:
        """What each run counts; of one alone, that does not matter."""
        return sizes_of(self._runs) if len(self._runs) > 1 else [1]

    def note(self, number: int, part: float) -> None:
        """Note which part of a run is done. One that begins anew takes nothing back."""
        if self._progress is ignore:  # then nobody is asked for a size
            return
        with self._one:
            more = max(0.0, part - self._done[number])
            self._done[number] += more
            self._sum += more * self.sizes[number]
            self._progress(min(1.0, self._sum / sum(self.sizes)))
