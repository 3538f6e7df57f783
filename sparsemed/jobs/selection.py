"""Which measurements a command line means, and where their results go.

Results never change a measurement, unless that is asked for in so many words.
"""

import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from sparsemed.hdf5.opening import open_restored
from sparsemed.jobs.runs import FILE_SUFFIXES, SUFFIX, Run, has_own_images
from sparsemed.rtdc.measurement import Measurement

logger = logging.getLogger(__name__)

MARK = "_bg"
"""What is added to the name of a measurement for its result."""

MARK_OF_CHIPSTREAM = "_dcn"
"""What ChipStream adds to the name of a measurement for its result."""


def choose_runs(
    paths: Sequence[Path],
    *,
    recursive: bool = False,
    output: Path | None = None,
    in_place: bool = False,
) -> list[Run]:
    """Return the measurements that files and folders stand for, each with its output.

    Of a folder, these are the files ``*.rtdc`` that hold images or have basins.
    Results of earlier runs (``*_bg.rtdc`` without images of their own) are left out, and so
    are those of ChipStream (``*_dcn.rtdc``, or whatever dcnum has found cells in).

    Parameters
    ----------
    paths : sequence of Path
        Files and folders.
    recursive : bool
        Whether folders within folders count.
    output : Path, optional
        The file (by its ending) or folder for results. Default: next to each
        measurement, with ``_bg`` added to its name.
    in_place : bool
        Whether results go into the measurements themselves.

    Raises
    ------
    FileNotFoundError
        If one of the paths does not exist.
    ValueError
        If there is no measurement, or if outputs contradict each other.
    """
    if in_place and output is not None:
        raise ValueError("there can be only one of --output and --in-place")
    found: dict[Path, tuple[Path, Path]] = {}  # by what it really is: path, and path in folder
    given: set[Path] = set()
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(
                f"{path}: there is no such file or folder (where results go is said by --output)"
            )
        if path.resolve() in given:
            raise ValueError(
                f"{path}: is given twice; to add the background to the measurement itself, "
                "give it once, with --in-place"
            )
        given.add(path.resolve())
        for source in _measurements_of(path, recursive):
            within = source.relative_to(path) if path.is_dir() else Path(source.name)
            found.setdefault(source.resolve(), (source, within))
    if not found:
        where = ", ".join(str(path) for path in paths)
        deeper = not recursive and any(path.is_dir() for path in paths)
        hint = "; folders within folders count with --recursive" if deeper else ""
        raise ValueError(f"{where}: no measurement there (*{SUFFIX} with images){hint}")
    if in_place:
        return [Run(source, source, in_place=True) for source, _ in found.values()]
    runs = [_run(source, within, output) for source, within in found.values()]
    _check_distinct(runs)
    return runs


def _measurements_of(path: Path, recursive: bool) -> Iterator[Path]:
    if not path.is_dir():
        if _is_result(path):
            logger.warning("%s: skipped, it is the result of an earlier run", path)
        else:
            yield path
        return
    for folder, subfolders, names in os.walk(path):
        subfolders[:] = sorted(subfolders) if recursive else []
        for name in sorted(names):
            file = Path(folder, name)
            if name.startswith(".") or file.suffix.lower() != SUFFIX:
                continue
            if _is_result(file) or file.stem.endswith(MARK_OF_CHIPSTREAM):
                logger.info("%s: skipped, it is the result of an earlier run", file)
            elif not _may_have_images(file):
                logger.info("%s: skipped, it holds no images", file)
            else:
                yield file


def _is_result(path: Path) -> bool:
    return path.stem.endswith(MARK) and _can_be_opened(path) and not has_own_images(path)


def _can_be_opened(path: Path) -> bool:
    try:
        with open_restored(path):
            return True
    except OSError:
        return False


def _may_have_images(path: Path) -> bool:
    """Whether to take a file of a folder. What is broken is taken, lest nobody notice it."""
    try:
        with Measurement(path, basins="off") as measurement:  # it opens no other file
            if measurement.metadata.get("pipeline:dcnum segmenter"):
                return False  # cells that were found in frames, and no frames
            return bool(measurement.basins) or measurement.own("image") is not None
    except (OSError, ValueError):
        return True


def _run(source: Path, within: Path, output: Path | None) -> Run:
    name = f"{source.stem}{MARK}{source.suffix}"
    if output is None:
        return Run(source, source.with_name(name))
    if output.suffix.lower() in FILE_SUFFIXES:
        return Run(source, output)
    return Run(source, output / within.with_name(name), folder_is_made=True)


def _check_distinct(runs: list[Run]) -> None:
    """Check that no two results go to the same file."""
    first: dict[Path, Run] = {}
    for run in runs:
        other = first.setdefault(run.output.resolve(), run)
        if other is not run:
            raise ValueError(
                f"{run.output}: is the output of {other.source} and of {run.source}; "
                "give a folder as --output, or none, or run them one by one"
            )
