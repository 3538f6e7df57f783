"""References of results to their measurements.

A result finds all features but the background in its measurement, through a basin record. A record
that led to another measurement would combine the images of one with the background of another.
"""

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import h5py

from sparsemed.hdf5.entries import Attributes, subgroup
from sparsemed.hdf5.file_access import Policy
from sparsemed.printable import quoted
from sparsemed.rtdc.basins import Basin, file_record, known_identifiers, remote_record
from sparsemed.rtdc.search import recorded_names, recorded_places
from sparsemed.storage.places import AnyPath, RemotePath
from sparsemed.version import __version__
from sparsemed.warned import warn

WRITER = f"sparsemed {__version__}"

_CREATED = re.compile(r"Created by (sparsemed|dcnum) ")
"""Begin of the description of a record that was written when its file was made."""


def reference_record(
    measurement: h5py.File,
    source: AnyPath,
    output: Path,
    *,
    one_path: AnyPath | None = None,
) -> dict[str, Any]:
    """Return the basin record by which a result refers to its measurement.

    Parameters
    ----------
    measurement : h5py.File
        The measurement, open for reading.
    source : Path or RemotePath
        The measurement.
    output : Path
        The result.
    one_path : Path, optional
        The path as given, to record as dcnum's class does: this path alone, if it leads from the
        folder of the output to the measurement, and the identifier of dcnum. Default: the
        identifier of dclab, an absolute path, and a path relative to the folder of the output,
        so that the measurement is found if both files are moved together.
    """
    features: list[str] = []
    for topic in ("events", "basin_events"):
        with suppress(ValueError):  # a link to another file
            features += subgroup(measurement, topic) or ()
    features = sorted(name for name in features if not name.startswith("basinmap"))
    known = known_identifiers(Attributes(measurement))
    identifier = next(iter(known if one_path is None else known[::-1]), None)
    about = source.name, f"Created by {WRITER}"
    if isinstance(source, RemotePath):
        if (place := source.place.record) is not None:
            return remote_record(*about, place, features, identifier)
        warn(
            f"{source}: its address may hold a secret, and is not recorded; to let {output.name} "
            f"find its images, put a copy of the measurement beside it, as {source.name}"
        )
        paths = [source.name]
    else:
        paths = _two_paths(source, output)
        if isinstance(one_path, Path):
            paths = [_one_path(one_path, source, output)]
    return file_record(*about, paths, features, identifier)


def _two_paths(source: Path, output: Path) -> list[str]:
    there = Path(os.path.realpath(source.parent), source.name)
    paths = [str(there)]
    with suppress(ValueError):  # on another drive
        here = os.path.dirname(os.path.realpath(output))
        paths.append(Path(os.path.relpath(there, here)).as_posix())
    return paths


def _one_path(given: Path, source: Path, output: Path) -> str:
    seen_from_output = output.parent / given  # an absolute path is the same from everywhere
    return str(given) if is_same_file(seen_from_output, source) else str(source.resolve())


def references(of_result: Sequence[Basin], of_measurement: Sequence[Basin]) -> list[Basin]:
    """Return the basins by which a result refers to its measurement.

    Parameters
    ----------
    of_result : sequence of Basin
        All basins of the result.
    of_measurement : sequence of Basin
        Basins of the measurement, which a result copies.
    """
    taken_over = [_essence(basin) for basin in of_measurement]
    return [
        basin
        for basin in of_result
        if (basin.is_file or basin.is_remote)
        and basin.mapping is None
        and _essence(basin) not in taken_over
    ]


def _essence(basin: Basin) -> tuple[str, list[Any], str | None]:
    return basin.name, basin.paths + basin.urls, basin.identifier


def is_made_with_file(basin: Basin) -> bool:
    """Whether a reference was written when its file was made, by sparsemed or by dcnum's class."""
    return bool(_CREATED.match(str(basin.record.get("description"))))


Relation = Literal["same", "moved", "another", "unknown"]
"""Relation of a record to a measurement; see `relation`."""


def relation(
    basin: Basin, path: Path, source: AnyPath, identifiers: Sequence[str], policy: Policy = "any"
) -> Relation:
    """Return how a record is related to a measurement.

    Parameters
    ----------
    basin : Basin
        The record.
    path : Path
        The file that holds it.
    source : Path or RemotePath
        The measurement.
    identifiers : sequence of str
        Identifiers that the measurement may have.
    policy : str
        ``"off"``: not even the existence of files is checked.

    Returns
    -------
    str
        ``"same"``: a recorded path leads to it. ``"another"``: a recorded path leads to another
        file. ``"moved"``: no recorded path leads to a file, but the identifiers or the names are
        equal. ``"unknown"``: none of these.
    """
    is_identified = basin.identifier in identifiers
    if isinstance(source, RemotePath):
        place = source.place.record
        if place is not None and place.url in basin.urls:
            return "same"
        if place is None and source.name in recorded_names(basin.paths):
            return "same"
        return "moved" if is_identified else "unknown"
    places = recorded_places(basin.paths, path.parent)
    if policy == "off":
        if any(_spelled_out(place) == _spelled_out(source) for place in places):
            return "same"
    elif any(is_same_file(place, source) for place in places):
        return "same"
    elif any(map(_is_file, places)):
        return "another"
    return "moved" if is_identified or source.name in recorded_names(basin.paths) else "unknown"


def check_references(
    path: Path,
    found: Sequence[Basin],
    source: AnyPath,
    identifiers: Sequence[str],
    policy: Policy = "any",
) -> None:
    """Check that a file which refers to a measurement refers to this one.

    Parameters
    ----------
    path : Path
        The file.
    found : sequence of Basin
        Its `references`.
    source, identifiers, policy
        See `relation`.

    Raises
    ------
    ValueError
        If it refers to another measurement, or to an unknown one.
    """
    known = {each.key: relation(each, path, source, identifiers, policy) for each in found}
    if "same" in known.values():
        return
    # images may be in a file to which the measurement refers
    found = [each for each in found if _may_have_images(each)] or [
        each for each in found if is_made_with_file(each)
    ]
    for each in found:
        places = recorded_places(each.paths, path.parent)
        if known[each.key] == "unknown" and each.urls and isinstance(source, RemotePath):
            reason = f"belongs to {quoted(each.urls[0])}, which is not {source}"
        elif known[each.key] == "another":
            place = next(place for place in places if _is_file(place))
            reason = f"belongs to {quoted(place)}, which is another file than {source}"
        elif known[each.key] == "unknown" and places:
            reason = (
                f"belongs to {quoted(places[0])}, which is missing, and nothing shows that "
                f"{source} is the same measurement"
            )
        else:
            continue
        raise ValueError(
            f"{path}: {reason}; write to another file, or remove this one and run again"
        )


def is_same_file(one: Path, other: AnyPath) -> bool:
    """Whether two paths lead to the same file, which exists."""
    if isinstance(other, RemotePath):
        return False
    try:
        # some file systems change inode numbers at each look; then the names tell
        return _is_file(one) and (
            os.path.realpath(one) == os.path.realpath(other) or os.path.samefile(one, other)
        )
    except (OSError, ValueError):
        return False


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # no such name
        return False


def _spelled_out(path: Path) -> str:
    return os.path.normcase(os.path.abspath(path))


def _may_have_images(basin: Basin) -> bool:
    return basin.features is None or "image" in basin.features
