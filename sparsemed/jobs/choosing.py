"""Chooses measurements and stacks, and where their results go."""

import logging
from collections.abc import Sequence
from pathlib import Path

from sparsemed.frames.stacks import stack_kind, writing
from sparsemed.jobs.selection import check_distinct, choose_runs, goes_to_file
from sparsemed.jobs.stack_runs import (
    ABOUT_NONE,
    SUFFIXES,
    TO_STACKS,
    AnyRun,
    StackOptions,
    StackRun,
    explain_no_stack,
    part_stacks,
)
from sparsemed.rtdc.names import MARK
from sparsemed.storage.places import AnyPath

logger = logging.getLogger(__name__)


def choose_any_runs(
    paths: Sequence[AnyPath],
    of_stacks: StackOptions = ABOUT_NONE,
    *,
    recursive: bool = False,
    output: Path | None = None,
    in_place: bool = False,
) -> list[AnyRun]:
    """Return the given stacks, measurements and measurements in folders, each with its output.

    Parameters
    ----------
    paths, recursive, output, in_place
        See `sparsemed.jobs.selection.choose_runs`. Stacks must be given by themselves, with an
        output: a file for one stack, or a folder.
    of_stacks : StackOptions

    Raises
    ------
    FileNotFoundError, ValueError
        See `sparsemed.jobs.selection.choose_runs`. Also if the output of a stack is missing or
        cannot be used, or if there are options of stacks, but no stack.
    """
    stacks, rest = part_stacks(paths, of_stacks, recursive=recursive)
    runs: list[AnyRun] = []
    if stacks:
        runs += _choose_stack_runs(stacks, output, of_stacks, in_place=in_place)
    elif output is not None and output.suffix.lower() in TO_STACKS:
        explain_no_stack(paths)
    if rest:
        runs += choose_runs(rest, recursive=recursive, output=output, in_place=in_place)
    check_distinct((run.source, run.output) for run in runs)
    return runs


def _choose_stack_runs(
    paths: Sequence[AnyPath], output: Path | None, options: StackOptions, *, in_place: bool
) -> list[StackRun]:
    sources = [path for path in paths if isinstance(path, Path)]
    source, *others = sources
    what = f"{source}: is a stack ({stack_kind(source) or 'HDF5'}), not a measurement"
    if in_place:
        raise ValueError(f"{what}; only measurements can be changed --in-place")
    if output is None:
        wanted = (
            "a folder for the backgrounds of stacks, such as -o backgrounds"
            if others
            else f"a file for its background, such as -o {_result_name(source)}"
        )
        raise ValueError(f"{what}; name {wanted}")
    if others and options.subtracted is not None:
        raise ValueError(f"--subtracted names one file, for {len(sources)} stacks; give one stack")
    if output.suffix.lower() in SUFFIXES or goes_to_file(output, SUFFIXES):
        runs = [StackRun(path, output, options) for path in sources]
    else:
        runs = [
            StackRun(path, output / _result_name(path), options, folder_is_made=True)
            for path in sources
            if not (others and _is_result(path))
        ]
    if not runs:
        raise ValueError(f"{source} and all others are results of earlier runs; give the stacks")
    for run in runs:
        for path in (run.output, options.subtracted):
            if path is not None and path.resolve() == run.source.resolve():
                raise ValueError(
                    f"{path}: is the stack itself, which is not changed; choose another"
                )
        if options.subtracted is not None and options.subtracted.resolve() == run.output.resolve():
            raise ValueError(f"{run.output}: --output and --subtracted name the same file")
    return runs


def _result_name(source: Path) -> str:
    """Return the name of the background of a stack: that of the stack, with ``_bg.tif``.

    Names of folders, such as dates, may have dots that begin no ending.
    """
    name = source.name
    of_file = "" if source.is_dir() else source.suffix
    for ending in (of_file, ".zarr", ".ome"):
        name = name.removesuffix(ending)
    return f"{name.strip('*?[]_- .') or 'stack'}{MARK}.tif"


def _is_result(path: Path) -> bool:
    """Whether a stack is the result of an earlier run, as a pattern of the shell may match it."""
    is_one = path.stem.endswith(MARK) and writing.read_notes(path) is not None
    if is_one:
        logger.info("%s: skipped, it is the result of an earlier run", path)
    return is_one
