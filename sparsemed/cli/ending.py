"""How a command ends that has gone through several files: what failed, the verdicts, the time."""

import time
from collections import Counter

import click

from sparsemed.printable import printable


class Ending:
    """Counts what becomes of files, and says it when all are done, if there were several."""

    def __init__(self, what: str = "measurements") -> None:
        self.what = what
        self.verdicts: Counter[str] = Counter()
        self.failed: list[str] = []
        self._began = time.perf_counter()

    @property
    def count(self) -> int:
        """How many files there were so far."""
        return sum(self.verdicts.values()) + len(self.failed)

    def show(self, *, with_verdicts: bool) -> None:
        """Say which files failed, and unless only errors are wanted how good the others are."""
        count = self.count
        if count <= 1:
            return
        if self.failed:
            click.echo(f"{len(self.failed)} of {count} {self.what} failed:", err=True)
        for message in self.failed:
            click.echo(printable(f"  {message}"), err=True)
        if with_verdicts:
            seconds = time.perf_counter() - self._began
            counts = [f"{number} {verdict}" for verdict, number in sorted(self.verdicts.items())]
            counts += [f"{len(self.failed)} failed"] if self.failed else []
            click.echo(f"{count} {self.what} in {_span(seconds)}: {', '.join(counts)}", err=True)


def _span(seconds: float) -> str:
    """Return a time in the largest units that suit it."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"
