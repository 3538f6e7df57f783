"""Carries out one run, from its checks to its result; errors become results."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sparsemed.hdf5.file_access import Policy
from sparsemed.jobs.done import find_done
from sparsemed.jobs.file_result import FileResult
from sparsemed.jobs.runs import Run
from sparsemed.parameters import Parameters
from sparsemed.progress import Progress
from sparsemed.rtdc.pipeline_id import to_ppid
from sparsemed.warned import BackgroundWarning, keeping_warnings

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunOptions:
    """Options for each of many measurements.

    Attributes
    ----------
    parameters : Parameters
    num_cpus : int or None
        Largest number of threads; None: the worker or this process decides.
    basins : str
        Which other files a measurement may lead to.
    redo : bool
        Whether to compute measurements that are up to date, too.
    dry_run : bool
        Whether only to return what would be done.
    thumbnails : bool
        Whether computed results come with a thumbnail.
    """

    parameters: Parameters
    num_cpus: int | None = None
    basins: Policy = "any"
    redo: bool = False
    dry_run: bool = False
    thumbnails: bool = False

    @property
    def ppid(self) -> str:
        """Pipeline identifier of the backgrounds."""
        return to_ppid(self.parameters)


_EXPECTED = (OSError, ValueError, TypeError, MemoryError, ImportError, BackgroundWarning)


def carry_out(
    run: Run,
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
    run: Run, options: RunOptions, progress: Progress | None, executor: Any
) -> dict[str, Any]:
    if (
        not options.redo
        and (done := find_done(run, options.parameters, options.basins)) is not None
    ):
        return {"status": "skipped", **done._asdict()}
    run.check()
    if options.dry_run:
        return run.plan(options.parameters, options.basins)
    return run.compute(
        options.parameters,
        options.basins,
        num_cpus=options.num_cpus,
        executor=executor,
        progress=progress,
        is_pictured=options.thumbnails,
    )


def _failure(run: Run, message: str) -> dict[str, Any]:
    if str(run.source) not in message:
        message = f"{run.source}: {message}"
    return {"status": "failed", "error": message}
