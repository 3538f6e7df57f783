"""Carries out one run, from its checks to its result; errors become results."""

import logging
from collections.abc import Callable
from typing import Any

from sparsemed.jobs.done import find_done
from sparsemed.jobs.file_result import FileResult
from sparsemed.jobs.options import RunOptions
from sparsemed.jobs.stack_runs import AnyRun
from sparsemed.progress import Progress
from sparsemed.warned import BackgroundWarning, keeping_warnings

logger = logging.getLogger(__name__)

_EXPECTED = (OSError, ValueError, TypeError, MemoryError, ImportError, BackgroundWarning)


def carry_out(
    run: AnyRun,
    options: RunOptions,
    progress: Progress | None = None,
    tell: Callable[[str], None] | None = None,
    executor: Any = None,
) -> FileResult:
    """Compute the background of a measurement, unless it is up to date, and return the result.

    A measurement that fails does not stop others: its error becomes a result. Warnings are told as
    they come (see `sparsemed.warned.keeping_warnings`), and kept. An executor gets the frames in
    ranges; all other work is done in this process.
    """
    facts: dict[str, Any]
    with keeping_warnings(tell=tell) as warned:
        try:
            facts = _facts(run, options, progress, executor)
        except BrokenPipeError:  # nobody reads the output any more
            raise
        except _EXPECTED as error:
            facts = _failure(run, " ".join(str(error).split()) or repr(error))
        except Exception as error:
            logger.info("%s: unexpected error", run.source, exc_info=True)
            text = " ".join(f"{type(error).__name__}: {error}".split())
            facts = _failure(run, f"{text}; this is a bug, please report it")
    return FileResult(
        input=run.source, output=run.output, ppid=options.ppid, warnings=tuple(warned), **facts
    )


def _facts(
    run: AnyRun, options: RunOptions, progress: Progress | None, executor: Any
) -> dict[str, Any]:
    if not options.redo and (done := find_done(run, options)) is not None:
        return {"status": "skipped", **done._asdict()}
    run.check()
    if options.dry_run:
        return run.plan(options)
    return run.compute(options, executor, progress)


def _failure(run: AnyRun, message: str) -> dict[str, Any]:
    if str(run.source) not in message:
        message = f"{run.source}: {message}"
    return {"status": "failed", "error": message}
