"""Many measurements, by any executor; the same call again continues where it stopped."""

import secrets
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

from sparsemed.executors.dask_cluster import notify, subscribe
from sparsemed.executors.rounds import as_completed, check_executor
from sparsemed.executors.tasks import ExecutorError, Finished
from sparsemed.frames.choice import Choice
from sparsemed.hdf5.file_access import Policy
from sparsemed.jobs.carrying_out import carry_out
from sparsemed.jobs.choosing import choose_any_runs
from sparsemed.jobs.file_result import FileResult
from sparsemed.jobs.options import RunOptions
from sparsemed.jobs.shares import Shares, sizes_of
from sparsemed.jobs.stack_runs import AnyRun, StackOptions
from sparsemed.parameters import Parameters
from sparsemed.progress import Progress, following, ignore
from sparsemed.storage.places import locate
from sparsemed.warned import keeping_warnings, tell_python

Begin = Callable[[AnyRun], None]
"""Called with each run that begins, if runs are carried out one after the other."""


def compute_files(
    paths: str | PathLike[str] | Sequence[str | PathLike[str]],
    output: str | PathLike[str] | None = None,
    *,
    in_place: bool = False,
    recursive: bool = False,
    redo: bool = False,
    executor: Any = None,
    progress: Progress | bool | None = None,
    num_cpus: int | None = None,
    basins: Policy = "any",
    frame_rate: float | None = None,
    series: int | None = None,
    channel: int | None = None,
    position: int | None = None,
    dataset: str | None = None,
    **parameters: Any,
) -> Generator[FileResult]:
    """Compute the backgrounds of many measurements or stacks, and yield the result of each.

    What is up to date is skipped, so the same call again continues where the last one stopped. A
    measurement that fails does not stop the others.

    Parameters
    ----------
    paths : path, or sequence of paths
        Measurements, as paths or addresses, folders of measurements, and stacks of images.
    output : path, optional
        A file, if it ends in ``.rtdc``, ``.h5`` or ``.hdf5``, otherwise a folder, which is made.
        Default: next to each measurement (of one in a network: in the working folder), with
        ``_bg`` added to its name. Stacks need an output; that of one may also end in ``.tif``
        or ``.zarr``, and in a folder, their results are TIFFs.
    in_place : bool
        Whether to write into the measurements.
    recursive : bool
        Whether to search folders within folders, too.
    redo : bool
        Whether to compute measurements that are up to date, too.
    executor : concurrent.futures.Executor or dask.distributed.Client, optional
        Workers. Each measurement is a task; of a single measurement, each of several ranges of
        frames is one, as in `compute_background`. Default: this process, one after the other.
    progress : True or callable, optional
        See `compute_background`; the progress is that of all measurements, by size of their files.
    num_cpus : int, optional
        Largest number of threads for a measurement. Default: all cores of this process or of the
        worker.
    basins : str
        Which other files a measurement may lead to; see `compute_background`.
    frame_rate : float, Hz, optional
        Rate of the camera of stacks.
    series, channel, position, dataset : optional
        Which of several stacks in a file to take; see `compute_background`.
    **parameters
        ``kernel_size`` and so on; see `compute_background`.

    Yields
    ------
    FileResult
        Each as it finishes.

    Raises
    ------
    ValueError, TypeError, FileNotFoundError
        If the arguments make no sense; then nothing is done.
    OSError
        If the workers of the executor are lost. Finished results are kept; call it again.

    Examples
    --------
    >>> import sparsemed
    >>> for result in sparsemed.compute_files("data", "results"):  # doctest: +SKIP
    ...     print(result.input, result.status, result.verdict)
    """
    wanted = [paths] if isinstance(paths, (str, PathLike)) else list(paths)
    options = RunOptions(Parameters(**parameters), num_cpus, basins, redo)
    runs = choose_any_runs(
        [locate(path) for path in wanted],
        StackOptions(frame_rate, Choice(series, channel, position, dataset)),
        recursive=recursive,
        output=None if output is None else Path(output),
        in_place=in_place,
    )
    check_executor(executor)
    # The working folder may change from one result to the next.
    given = {run.output.absolute(): run for run in runs}
    return _followed([run.absolute() for run in runs], options, executor, progress, given)


def _followed(
    runs: list[AnyRun],
    options: RunOptions,
    executor: Any,
    progress: Progress | bool | None,
    given: dict[Path, AnyRun],
) -> Generator[FileResult]:
    total = sum(sizes_of(runs)) if progress is True else 0
    with following(progress, total, "B") as tell:
        for result in run_all(runs, options, executor, tell):
            yield _under_given_names(result, given[result.output])


def _under_given_names(result: FileResult, run: AnyRun) -> FileResult:
    names = {str(result.output): str(run.output), str(result.input): str(run.source)}

    def named(text: str) -> str:
        for there in sorted(names, key=len, reverse=True):  # one may be a prefix of the other
            text = text.replace(there, names[there])
        return text

    return replace(
        result,
        input=run.source,
        output=run.output,
        error=None if result.error is None else named(result.error),
        warnings=tuple(map(named, result.warnings)),
    )


def run_all(
    runs: Sequence[AnyRun],
    options: RunOptions,
    executor: Any = None,
    progress: Progress = ignore,
    begin: Begin | None = None,
) -> Generator[FileResult]:
    """Carry out runs, in this process or by a checked executor, and yield results as they come.

    Parameters
    ----------
    runs : sequence of Run or StackRun
        No two of them write the same file.
    options : RunOptions
    executor : object, optional
        See `compute_files`.
    progress : callable
        Gets the fraction done of all runs, by the size of files.
    begin : callable
        Gets each run when it begins, if runs are carried out one after the other.
    """
    shares = Shares(runs, progress)
    if executor is None or len(runs) == 1:
        for number, run in enumerate(runs):
            if begin is not None:
                begin(run)
            result = carry_out(run, options, partial(shares.note, number), executor=executor)
            shares.note(number, 1.0)
            yield result
        return
    # The largest first, so that no large one begins when all others have ended.
    numbers = sorted(range(len(runs)), key=lambda number: -shares.sizes[number])
    topic = f"sparsemed-{secrets.token_hex(8)}"
    tasks = ((runs[number].absolute(), options, topic, number) for number in numbers)
    with subscribe(executor, topic, shares.note):
        for ended in as_completed(executor, carry_out_there, tasks, options.num_cpus):
            number = numbers[ended.number]
            run = runs[number]
            shares.note(number, 1.0)
            yield _result(run, options, ended)


def _result(run: AnyRun, options: RunOptions, ended: Finished) -> FileResult:
    """Return the result of a run by a worker, with the names as given."""
    if ended.error is None:
        result: FileResult = ended.value
        there, here = str(run.source.absolute()), str(run.source)
        warnings = tuple(text.replace(there, here) for text in result.warnings)
        for text in warnings:
            tell_python(text if here in text else f"{here}: {text}")
        return replace(
            result,
            input=run.source,
            output=run.output,
            error=None if result.error is None else result.error.replace(there, here),
            warnings=warnings,
        )
    if isinstance(ended.error, ExecutorError) and not _is_fatal(ended.error):
        raise ended.error
    message = f"{run.source}: {' '.join(str(ended.error).split())}"
    return FileResult(run.source, run.output, "failed", options.ppid, message)


def _is_fatal(error: ExecutorError) -> bool:
    """Whether several workers were lost over a run: then this run fails, and others go on."""
    return type(error.__cause__).__name__ == "KilledWorker"


def carry_out_there(task: tuple[AnyRun, RunOptions, str, int], num_cpus: int | None) -> FileResult:
    """Carry out a run in a worker."""
    run, options, topic, number = task
    return carry_out(
        run, replace(options, num_cpus=num_cpus), notify(topic, number), tell=_wait_with_it
    )


def _wait_with_it(text: str) -> None:
    """Print nothing: the warning comes with the result."""


def frames_of(run: AnyRun, options: RunOptions) -> int:
    """Return the number of frames of a measurement or stack; 0 if it is unknown."""
    with (
        suppress(OSError, ValueError, TypeError, ImportError),
        keeping_warnings(tell=_wait_with_it),
        run.open(options) as given,
    ):
        return int(given.data.shape[0])
    return 0
