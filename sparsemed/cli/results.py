"""Results, one after the other: a line or a JSON object each, and an ending with counts."""

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from typing import TYPE_CHECKING, Any

import click

from sparsemed.cli.messages import Failure, LogLines, log_lines, one_line_errors
from sparsemed.printable import as_json, printable
from sparsemed.progress import bar

if TYPE_CHECKING:
    from sparsemed.jobs.file_result import FileResult
    from sparsemed.jobs.options import RunOptions
    from sparsemed.jobs.stack_runs import AnyRun
    from sparsemed.storage.places import AnyPath

REST_SECONDS, REST_SHARE = 1.0, 0.1
"""The ending names the time of computing if the rest took longer than both of these."""

_STANDING = {"planned": "planned", "skipped": "up to date"}
"""What is counted in place of a verdict, by status."""


class Ending:
    """Counts results by verdict. After several files, prints the counts."""

    def __init__(self, what: str = "measurements") -> None:
        self.what = what
        self.verdicts: Counter[str] = Counter()
        self.failed: list[str] = []
        self.computing = 0.0
        self._began = time.perf_counter()

    @property
    def count(self) -> int:
        """Number of files so far."""
        return sum(self.verdicts.values()) + len(self.failed)

    def add(self, result: "FileResult") -> None:
        """Count the result of a measurement."""
        if result.error is not None:
            self.failed.append(str(result.input))
        else:
            self.verdicts[_STANDING.get(result.status) or str(result.verdict)] += 1
            self.computing += result.seconds or 0.0

    def show(self, *, with_verdicts: bool) -> None:
        """Print the files that failed and, with verdicts, the counts and the time."""
        count = self.count
        if count <= 1:
            return
        if self.failed:
            click.echo(f"{len(self.failed)} of {count} {self.what} failed:", err=True)
        for name in self.failed:
            click.echo(printable(f"  {name}"), err=True)
        if with_verdicts:
            seconds = time.perf_counter() - self._began
            counts = [f"{number} {verdict}" for verdict, number in sorted(self.verdicts.items())]
            counts += [f"{len(self.failed)} failed"] if self.failed else []
            text = span(seconds)
            if self.computing and seconds - self.computing > max(
                REST_SECONDS, REST_SHARE * seconds
            ):
                text += f" (computing {span(self.computing)}, the rest opening and judging)"
            click.echo(f"{count} {self.what} in {text}: {', '.join(counts)}", err=True)

    def exit_if_failed(self) -> None:
        """End the command with exit status 1 if a file failed."""
        if self.failed:
            click.get_current_context().exit(1)


def for_each(
    paths: "Iterable[AnyPath]",
    work: Callable[[Any], tuple[str, str]],
    ending: Ending,
    level: int,
    on_failure: Callable[[Any, str], str] | None = None,
) -> None:
    """Do the work of a command on each file; a file that fails does not stop the others.

    Parameters
    ----------
    paths : iterable of Path
    work : callable
        Gets a path; returns the verdict to count, and the text to print.
    ending : Ending
    level : int
        The lowest level of log records that are shown.
    on_failure : callable, optional
        Gets the path and the message of each failure; returns the text to print.
    """
    for path in paths:
        try:
            with one_line_errors(), log_lines(level, path):
                verdict, text = work(path)
        except Failure as failure:
            failure.show()
            ending.failed.append(str(path))
            if on_failure is not None:
                click.echo(on_failure(path, failure.message))
            if isinstance(failure.__cause__, ImportError):  # all others would fail, too
                break
        else:
            ending.verdicts[verdict] += 1
            click.echo(text)  # outside of try: an error here is not one of the file


PLAN = (
    "{input}: {frames:,} frames of {height} × {width}, {of_windows} "
    "of {frames_per_window:,} frames -> {output} ({change})"
)

DONE = (
    "{input}: {frames:,} frames, {of_windows}, {kept:,} kept, {seconds:.2f} s, "
    "{megabytes_per_second:,.0f} MB/s -> {output}"
)

SKIPPED = "{input}: up to date, {frames:,} frames, {kept:,} kept -> {output}"

_LINES = {"planned": PLAN, "done": DONE, "skipped": SKIPPED}


def show_result(result: "FileResult", *, json: bool, quiet: bool, beside_bar: bool) -> None:
    """Show the result of a measurement, above the bar if there is one."""
    with _above_bar() if beside_bar else nullcontext():
        if result.error is not None:
            Failure(result.error).show()
        if json:
            click.echo(as_json(result.as_row()))
        elif result.error is None and not quiet:
            click.echo(printable(line_of(result)))


def line_of(result: "FileResult") -> str:
    """Return a line on a measurement that did not fail."""
    from sparsemed.rtdc.pipeline_id import CODE

    facts = vars(result)
    if result.windows is not None:
        facts = {
            **facts,
            "of_windows": f"{result.windows:,} window{'' if result.windows == 1 else 's'}",
        }
    line = _LINES[result.status].format_map(facts)
    if result.status == "done" and result.replaces and not result.replaces.startswith(CODE):
        line += f", in place of {result.replaces}"
    if result.verdict is not None:
        line += f"; {_verdict(result)}"
    return line


def _verdict(result: "FileResult") -> str:
    """Return the verdict on a background; unless it is good, with its first cause."""
    poor = [each for each in result.findings if each.verdict == result.verdict]
    if result.verdict == "good" or not poor:
        return str(result.verdict)
    cause = poor[0].title if result.verdict == "look here" else poor[0].advice.rstrip(".")
    return f"{result.verdict}: {cause}"


def _above_bar() -> AbstractContextManager[object]:
    from tqdm import tqdm

    mode: AbstractContextManager[object] = tqdm.external_write_mode(file=sys.stderr)
    return mode


class Followed:
    """Results of runs as they come.

    Parameters
    ----------
    runs, options, executor
        See `sparsemed.jobs.many.run_all`.
    log : LogLines
        Its `about` follows the measurement that is computed.
    has_bar : bool
        Whether a bar is shown. It counts the frames of a single run, or the bytes of several.
    """

    def __init__(
        self,
        runs: "list[AnyRun]",
        options: "RunOptions",
        executor: Any,
        log: LogLines,
        has_bar: bool,
    ) -> None:
        self._runs, self._options, self._executor = runs, options, executor
        self._log = log
        self._has_bar = has_bar
        self._through = 0
        self._name = ""

    def __iter__(self) -> "Iterator[FileResult]":
        from sparsemed.jobs.many import run_all

        with self._bar() as progress:
            follow = {} if progress is None else {"progress": progress}
            results = run_all(
                self._runs, self._options, self._executor, begin=self._begin, **follow
            )
            with closing(results):
                for result in results:
                    self._through += 1
                    self._log.about = None
                    yield result

    def _bar(self) -> Any:
        from sparsemed.jobs.many import frames_of
        from sparsemed.jobs.shares import sizes_of

        if not self._has_bar:
            return nullcontext()
        if len(self._runs) == 1:
            count = frames_of(self._runs[0], self._options)
            return bar(count, self._text, keep=False)
        return bar(sum(sizes_of(self._runs)), self._text, keep=False, unit="B")

    def _begin(self, run: "AnyRun") -> None:
        self._log.about = run.source
        self._name = run.source.name

    def _text(self) -> str:
        if len(self._runs) == 1:
            return printable(self._runs[0].source.name)
        if self._executor is not None:
            return f"{self._through}/{len(self._runs)}"
        return printable(f"{self._through + 1}/{len(self._runs)} {self._name}")


def span(seconds: float) -> str:
    """Return a time in suitable units."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"
