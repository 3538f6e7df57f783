"""Runs carried out, with a bar and lines of log that say which of them they are about."""

from collections.abc import Iterator
from contextlib import closing, nullcontext
from typing import TYPE_CHECKING, Any

from sparsemed.cli.messages import LogLines
from sparsemed.printable import printable
from sparsemed.progress import bar

if TYPE_CHECKING:
    from sparsemed.jobs.carrying_out import RunOptions
    from sparsemed.jobs.file_result import FileResult
    from sparsemed.jobs.runs import Run


class Followed:
    """Results of runs as they come.

    Parameters
    ----------
    runs, options, client
        See `sparsemed.jobs.many.run_all`.
    log : LogLines
        What shows lines of log.
    has_bar : bool
        Whether a bar is shown. It counts the frames of a single run, and bytes of several.
    """

    def __init__(
        self, runs: "list[Run]", options: "RunOptions", client: Any, log: LogLines, has_bar: bool
    ) -> None:
        self._runs, self._options, self._client = runs, options, client
        self._log = log
        self._has_bar = has_bar
        self._through = 0
        self._name = ""

    def __iter__(self) -> "Iterator[FileResult]":
        from sparsemed.jobs.many import run_all

        with self._bar() as report:
            follow = {} if report is None else {"report": report}
            results = run_all(self._runs, self._options, self._client, begin=self._begin, **follow)
            with closing(results):
                for result in results:
                    self._through += 1
                    self._log.about = None
                    yield result

    def _bar(self) -> Any:
        from sparsemed.jobs.many import frames_of
        from sparsemed.jobs.shares import size_of

        if not self._has_bar:
            return nullcontext()
        if len(self._runs) == 1:
            count = frames_of(self._runs[0], self._options.basins)
            return bar(count, self._text, keep=False)
        return bar(sum(map(size_of, self._runs)), self._text, keep=False, unit="B")

    def _begin(self, run: "Run") -> None:
        self._log.about = run.source
        self._name = run.source.name

    def _text(self) -> str:
        if len(self._runs) == 1:
            return printable(self._runs[0].source.name)
        if self._client is not None:
            return f"{self._through}/{len(self._runs)}"
        return printable(f"{self._through + 1}/{len(self._runs)} {self._name}")
