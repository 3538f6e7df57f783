"""Chooses the files of a command line, and where results go.

Results go into a measurement only if the user asks for it explicitly.
"""

import logging
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple

from sparsemed.frames.stacks import what_to_do
from sparsemed.frames.stacks.foreign import RECORDINGS
from sparsemed.hdf5.entries import Attributes
from sparsemed.hdf5.opening import open_restored
from sparsemed.jobs.runs import FILE_SUFFIXES, SUFFIX, Run
from sparsemed.rtdc.measurement import Measurement, has_own_images
from sparsemed.rtdc.names import MARK
from sparsemed.rtdc.unfinished import is_unfinished
from sparsemed.storage import disk
from sparsemed.storage.places import AnyPath, RemotePath

logger = logging.getLogger(__name__)

MARK_OF_CHIPSTREAM = "_dcn"
"""Suffix of the name of a measurement in the name of its ChipStream result."""

MOST_NAMES = 5
"""Number of skipped files that a message names."""

MOST_FOLDERS = 1000
"""Number of subfolders that are searched to tell what `recursive` would find."""

Wanted = Literal["measurements", "backgrounds", "all"]
"""Kind of files to take from a folder; see `choose_files`."""


class Chosen(NamedTuple):
    """A chosen file: its path, and its path within the given folder."""

    path: AnyPath
    within: Path


def choose_files(
    paths: Sequence[AnyPath], wanted: Wanted, *, recursive: bool = False
) -> list[Chosen]:
    """Return the given files, and the files in the given folders, each once.

    From a folder, files ``*.rtdc`` are taken. Skipped files are counted and named in messages.
    Links to folders are followed; a folder with several names is searched once. A folder that
    cannot be listed is returned as a file: reading it reports the error.

    Parameters
    ----------
    paths : sequence of Path
        Files and folders.
    wanted : str
        ``"measurements"``: files that hold images or have basins. Results of earlier runs
        (``*_bg.rtdc`` without images of their own) are skipped, also if they are given
        themselves; so are results of ChipStream in folders (``*_dcn.rtdc``, or any file with
        segmented events). ``"backgrounds"``: the same, but if a measurement has its result beside
        it, the result is taken. ``"all"``: all files.
    recursive : bool
        Whether to search folders within folders.

    Raises
    ------
    ValueError
        If there is no such file.
    """
    found: dict[object, Chosen] = {}
    without_images: list[Path] = []
    hidden: list[Path] = []
    again: list[Path] = []
    deeper: list[str] = []
    for path in paths:
        if isinstance(path, RemotePath):  # without a request
            found.setdefault(path, Chosen(path, Path(path.name)))
            continue
        if not recursive and path.is_dir() and (text := _below(path)):
            deeper.append(f"{path}: {text} within its folders; add --recursive for these")
        for file in _files_of(path, wanted, recursive, without_images, hidden):
            within = file.relative_to(path) if path.is_dir() else Path(file.name)
            first = found.setdefault(_identity(file), Chosen(file, within))
            if first.path.absolute() != file.absolute():
                again.append(file)
    for text in deeper if found else ():
        logger.warning("%s", text)
    _tell("without images", without_images)
    _tell("hidden", hidden)
    _tell("other names of chosen files", again)
    if not found:
        for path in paths:
            if foreign := _foreign(path):
                raise ValueError(foreign)
        if deeper:
            raise ValueError("; ".join(deeper))
        where = ", ".join(str(path) for path in paths)
        what = "file" if wanted == "all" else "measurement"
        images = "" if wanted == "all" else " with images"
        raise ValueError(f"{where}: no {what} there (*{SUFFIX}{images})")
    return list(found.values())


def _foreign(path: AnyPath) -> str | None:
    """Return what a folder is, or which recordings it holds, if they are known but not read."""
    if not isinstance(path, Path):
        return None
    if (what := what_to_do(path)) is not None:
        return f"{path}: {what}"
    with suppress(OSError):
        files = [file for file in path.iterdir() if file.suffix.lower() in RECORDINGS]
        for file in sorted(files)[:1]:
            if (what := what_to_do(file)) is not None:
                return f"{path}: no measurement there (*{SUFFIX}); {file.name} {what}"
    return None


def _tell(what: str, files: list[Path]) -> None:
    if files:
        names = ", ".join(map(str, files[:MOST_NAMES]))
        more = f" and {len(files) - MOST_NAMES} more" if len(files) > MOST_NAMES else ""
        logger.warning("skipped %d (%s): %s%s", len(files), what, names, more)


def _identity(path: Path) -> object:
    """Return a key that is equal for all names of one file: symbolic and hard links."""
    try:
        found = path.stat()
    except OSError:  # reading it reports the error
        return os.path.realpath(path)
    return (found.st_dev, found.st_ino) if found.st_nlink > 1 else os.path.realpath(path)


def _below(path: Path) -> str:
    """Return how many measurements are in the subfolders of a folder, by their names, as text."""
    count = 0
    for number, (_, names) in enumerate(_folders(path, True, [])):
        if number > MOST_FOLDERS:
            return f"{count} or more measurements lie" if count else ""
        if number:
            stems = [Path(name).stem for name in names if _is_measurement_name(name)]
            count += sum(not stem.endswith((MARK, MARK_OF_CHIPSTREAM)) for stem in stems)
    return f"{count} measurement{'s lie' if count > 1 else ' lies'}" if count else ""


def _folders(path: Path, recursive: bool, unlisted: list[Path]) -> Iterator[tuple[Path, list[str]]]:
    """Yield a folder and its subfolders, with the names in each; collect those not listable.

    Links are followed, but no folder comes twice, so that circles end.
    """
    seen = set()

    def note(error: OSError) -> None:
        unlisted.append(Path(error.filename))

    for folder, subfolders, names in os.walk(path, onerror=note, followlinks=True):
        subfolders[:] = sorted(subfolders) if recursive else []
        real = os.path.realpath(folder)
        if real in seen:
            subfolders.clear()
        else:
            seen.add(real)
            yield Path(folder), sorted(names)


def _is_measurement_name(name: str) -> bool:
    return name.lower().endswith(SUFFIX) and not name.startswith(".")


def _is_hidden(name: str) -> bool:
    return name.lower().endswith(SUFFIX) and name.startswith(".")


def _files_of(
    path: Path, wanted: Wanted, recursive: bool, without_images: list[Path], hidden: list[Path]
) -> Iterator[Path]:
    if not path.is_dir():
        if wanted == "measurements" and (_is_result(path) or _is_broken_result(path)):
            logger.warning("%s: skipped, it is the result of an earlier run", path)
        elif wanted == "backgrounds" and _is_result(result := _result_name(path)):
            logger.info("%s: its result is taken, %s", path, result.name)
            yield result
        else:
            yield path
        return
    unlisted: list[Path] = []
    for folder, names in _folders(path, recursive, unlisted):
        files = [folder / name for name in names if _is_measurement_name(name)]
        hidden += [folder / name for name in names if _is_hidden(name)]
        yield from files if wanted == "all" else _with_images(files, wanted, without_images)
    yield from unlisted


def _with_images(files: list[Path], wanted: Wanted, without_images: list[Path]) -> Iterator[Path]:
    """Yield the files of one folder that are measurements, or results if these are wanted."""
    results = {file for file in files if _is_result(file)}
    for file in files:
        is_result = file in results or file.stem.endswith(MARK_OF_CHIPSTREAM)
        if file not in results and _is_broken_result(file):
            logger.info("%s: skipped, it is an unfinished result", file)
            continue
        if wanted == "backgrounds" and _result_name(file) in results:
            logger.info("%s: skipped, its result is taken", file)
        elif wanted == "backgrounds" and file in results:
            yield file
        elif is_result or (content := _content(file)) == "cells":
            logger.info("%s: skipped, it is the result of an earlier run", file)
        elif content == "no images":
            without_images.append(file)
        else:
            yield file


def _is_result(path: Path) -> bool:
    return path.stem.endswith(MARK) and _can_be_opened(path) and not has_own_images(path)


def _is_broken_result(path: Path) -> bool:
    """Whether a file that cannot be opened has the name of a result, so that it is none to read."""
    if not path.stem.endswith(MARK) or _can_be_opened(path):
        return False
    measurement = path.with_name(f"{path.stem.removesuffix(MARK)}{path.suffix}")
    return measurement.is_file() or is_unfinished(path)


def _result_name(path: AnyPath) -> Path:
    """Return the name of a result: next to a file, or in the working folder."""
    if isinstance(path, RemotePath):
        suffix = path.suffix if path.suffix.lower() in FILE_SUFFIXES else SUFFIX
        return Path(f"{path.stem}{MARK}{suffix}")
    return path.with_name(f"{path.stem}{MARK}{path.suffix}")


def _can_be_opened(path: Path) -> bool:
    try:
        with open_restored(path):
            return True
    except OSError:
        return False


def _content(path: Path) -> Literal["images", "cells", "no images"]:
    """Return the content of a file in a folder. A broken file counts as images, to be reported."""
    try:
        with Measurement(path, basins="off") as measurement:  # it opens no other file
            if Attributes(measurement.events.h5).get("pipeline:dcnum segmenter"):
                return "cells"  # segmented events, not frames
            has_images = bool(measurement.basins) or measurement.own("image") is not None
            return "images" if has_images else "no images"
    except (OSError, ValueError):
        return "images"


def choose_runs(
    paths: Sequence[AnyPath],
    *,
    recursive: bool = False,
    output: Path | None = None,
    in_place: bool = False,
) -> list[Run]:
    """Return the given measurements, and those in the given folders, each with its output.

    Parameters
    ----------
    paths, recursive
        See `choose_files`.
    output : Path, optional
        A file (by its ending) or a folder for results. Default: next to each measurement (of one
        in a network: in the working folder), with ``_bg`` added to its name.
    in_place : bool
        Whether results go into the measurements.

    Raises
    ------
    FileNotFoundError
        If one of the paths does not exist.
    ValueError
        If there is no measurement, or if outputs contradict each other.
    """
    if in_place and output is not None:
        raise ValueError("--output and --in-place exclude each other")
    to_file = output is not None and goes_to_file(output, FILE_SUFFIXES)
    check_paths(paths)
    given: set[AnyPath] = set()
    for path in paths:
        if in_place and isinstance(path, RemotePath):
            raise ValueError(f"{path}: is in a network and cannot be changed; drop --in-place")
        real = path if isinstance(path, RemotePath) else path.resolve()
        if real in given:
            raise ValueError(
                f"{path}: is given twice; to add the background to the measurement itself, "
                "give it once, with --in-place"
            )
        given.add(real)
        if isinstance(path, RemotePath):
            continue
        if recursive and output is not None and not to_file:
            _check_outside(output, path)
    chosen = choose_files(paths, "measurements", recursive=recursive)
    if in_place:
        return [Run(path, path, in_place=True) for path, _ in chosen if isinstance(path, Path)]
    runs = []
    for source, within in chosen:
        if output is None:
            runs.append(Run(source, _result_name(source)))
        elif to_file:
            runs.append(Run(source, output))
        else:
            name = _result_name(source if isinstance(source, RemotePath) else within)
            runs.append(Run(source, output / name, folder_is_made=True))
    check_distinct((run.source, run.output) for run in runs)
    return runs


def _check_outside(output: Path, folder: Path) -> None:
    """Check that results do not go to a folder that is searched for measurements."""
    if folder.resolve() in output.resolve().parents:
        raise ValueError(
            f"{output}: lies in the folder {folder}, which is searched for measurements; choose "
            "an output outside of it, or none to write results next to their measurements"
        )


def check_paths(paths: Sequence[AnyPath]) -> None:
    """Check that files and folders exist.

    Raises
    ------
    FileNotFoundError
        If one of them does not.
    """
    for path in paths:
        if isinstance(path, Path) and not os.path.lexists(path):
            raise FileNotFoundError(
                f"{path}: there is no such file or folder{disk.did_you_mean(path)} "
                "(--output says where results go)"
            )


def goes_to_file(output: Path, suffixes: Sequence[str]) -> bool:
    """Return whether an output is a file, by its ending; otherwise it is a folder.

    Raises
    ------
    ValueError
        If it has the ending of another kind of file, and is no existing folder.
    """
    if output.is_dir():
        return False
    if output.suffix.lower() in suffixes:
        return True
    if re.fullmatch(r"\.[a-z]\w*", output.suffix, re.IGNORECASE):
        raise ValueError(
            f"{output}: the name must end in {', '.join(suffixes)}, not in {output.suffix}; "
            "if it is to be a folder, make it first"
        )
    return False


def check_distinct(ways: Iterable[tuple[AnyPath, Path]]) -> None:
    """Check that no two files have the same output.

    Raises
    ------
    ValueError
        If two have.
    """
    first: dict[Path, AnyPath] = {}
    for source, output in ways:
        other = first.setdefault(output.resolve(), source)
        if other is not source:
            what = "run them one by one, each with an --output of its own"
            if other.stem != source.stem:
                what = f"give a folder as --output, or no --output, or {what}"
            raise ValueError(f"{output}: is the output of {other} and of {source}; {what}")
