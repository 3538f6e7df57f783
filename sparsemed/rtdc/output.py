"""Write a background into a measurement file, the way dcnum and dclab expect it.

Background images are stored once each, as an internal basin of the file, with
a mapping from frames to images. A new file also gets the metadata of the
measurement and refers to it for all other features.
"""

from collections.abc import Sequence
from contextlib import suppress
from os import PathLike
from pathlib import Path
from typing import Any

import h5py

from sparsemed.hdf5.commit import changed_file, new_file, rewritten_file
from sparsemed.hdf5.datasets import storage_options, store
from sparsemed.hdf5.entries import Attributes, entry, has_entry, subgroup
from sparsemed.hdf5.file_access import Policy
from sparsemed.hdf5.opening import opened
from sparsemed.method.offsets import BAND_ROWS
from sparsemed.method.result import Background
from sparsemed.rtdc.basins import (
    MAPPINGS,
    Basin,
    free_mapping,
    internal_record,
    known_identifiers,
    read_basins,
    store_record,
)
from sparsemed.rtdc.identity import (
    DIGEST_ATTRIBUTE,
    VERSION_ATTRIBUTE,
    digest_of,
    require_same,
    stored_digest,
)
from sparsemed.rtdc.measurement import Measurement, has_own_images, naming_damage
from sparsemed.rtdc.metadata import refer_to
from sparsemed.rtdc.names import require_hdf5_name
from sparsemed.rtdc.pipeline_id import GENERATION, to_ppid
from sparsemed.rtdc.references import (
    check_references,
    is_made_with_file,
    is_same_file,
    reference_record,
    references,
    relation,
)
from sparsemed.rtdc.rewriting import can_be_rewritten
from sparsemed.rtdc.unfinished import is_unfinished, open_output
from sparsemed.rtdc.verdicts import Row, earlier_verdict, store_verdict
from sparsemed.storage import disk
from sparsemed.storage.identity import Identity
from sparsemed.storage.places import AnyPath, RemotePath

ROWS_ATTRIBUTE = "sparsemed offset rows"
"""Attribute of offsets with their number of rows, if that is not the usual one."""


def check_output(
    path: str | PathLike[str], count: int, source: AnyPath | None = None, basins: Policy = "any"
) -> None:
    """Check that a background of `count` frames can be written to a file.

    Parameters
    ----------
    path : str or path
        The file; it need not exist.
    count : int
        Number of frames.
    source : Path or RemotePath, optional
        The measurement.
    basins : str
        Which other files it may lead to; ``"off"``: not even their existence is checked.

    Raises
    ------
    OSError
        If the folder is missing or read-only, or if the file exists and is
        read-only or not HDF5.
    ValueError
        If the name has the ending of another kind of file, or if the file exists and has
        another number of frames or belongs to another measurement. A result of the first frames
        of a recording that went on is no error.
    """
    path = Path(path)
    require_hdf5_name(path)
    disk.check_folder(path)
    if path.is_symlink() and not path.exists():
        raise FileNotFoundError(f"{path}: is a link to a file that does not exist")
    if not path.exists():
        return
    if path.is_file() and not disk.can_write(path):
        raise PermissionError(f"{path}: the file is read-only")
    if is_unfinished(path):
        return
    with open_output(path) as h5, naming_damage(path):
        if h5.swmr_mode:
            raise OSError(
                f"{path}: another program records into it, or died while recording; write to "
                "another file"
            )
        lengths = {}
        for name in subgroup(h5, "events") or ():
            feature = None
            with suppress(ValueError):  # a link to another file, which does not matter here
                feature = entry(h5, f"events/{name}")
            if isinstance(feature, h5py.Dataset) and feature.ndim:
                lengths[name] = len(feature)
        subgroup(h5, "basin_events")
        found = read_basins(h5)
        ours = known_identifiers(Attributes(h5))
    other = next((name for name, length in lengths.items() if length != count), None)
    if other is not None and not _is_of_beginning(path, count, source, basins):
        raise ValueError(
            f"{path}: events/{other} has {lengths[other]} entries, but the background has "
            f"{count} frames; write to another file"
        )
    if source is None or is_same_file(path, source):
        return
    with opened(source) as h5, naming_damage(source):
        theirs = known_identifiers(Attributes(h5))
        found = references(found, read_basins(h5))
    if ours and theirs and set(ours).isdisjoint(theirs):
        raise ValueError(
            f"{path}: belongs to another measurement ('{ours[0]}') than {source} "
            f"('{theirs[0]}'); write to another file"
        )
    check_references(path, found, source, theirs, basins)


def _is_of_beginning(path: Path, count: int, source: AnyPath | None, basins: Policy) -> bool:
    """Whether a file holds only the background of a recording's first frames, and it went on."""
    if source is None or not can_be_rewritten(path, source):
        return False
    with Measurement(path, "off") as result, Measurement(source, basins) as measurement:
        images = result.feature("image_bg")
        if images is None or not 0 < len(images) < count:
            return False
        return stored_digest(images) == digest_of(measurement, len(images))


def require_result(path: Path, *, in_place: bool) -> None:
    """Check that a file can be a result: by its name, and because it holds no images.

    Parameters
    ----------
    path : Path
    in_place : bool
        Whether it may be a measurement.

    Raises
    ------
    ValueError
        If the file does not exist and its name has no ending, or if it holds images of its own
        and `in_place` is false.
    """
    if not path.exists() and not path.suffix:
        raise ValueError(f"{path}: the name has no ending; results end in .rtdc, .h5 or .hdf5")
    holds_images = False
    with suppress(OSError):  # `check_output` reports files that cannot be read
        holds_images = path.is_file() and has_own_images(path)
    if holds_images and not in_place:
        raise ValueError(
            f"{path}: holds images of its own, and is not changed; choose another name, or add "
            "the background to the measurement with in_place=True"
        )


def write_background(
    path: str | PathLike[str],
    background: Background,
    *,
    compress: bool = True,
    like_dcnum: bool = False,
    verdict: tuple[Sequence[str], Sequence[Row]] | None = None,
) -> None:
    """Write a background to a new file, into an existing one, or into the measurement.

    A file that holds only an earlier result of the same measurement is written anew.

    Parameters
    ----------
    path : str or path
        The file. It changes wholly or not at all.
    background : Background
        A new file refers to its measurement; in an existing one, the reference is renewed.
        Offsets of an unusual number of rows get no PPID, as it would not tell that number; an
        attribute does.
    compress : bool
        Whether to compress the data (Zstandard, level 5).
    like_dcnum : bool
        Whether to write the same as dcnum's class: a new file refers to the measurement by one
        path, references in an existing file stay, and no digest is stored.
    verdict : (sequence of str, sequence of Row), optional
        Lines and rows for `sparsemed.rtdc.verdicts.store_verdict`. The verdict on an earlier
        background is always removed.

    Raises
    ------
    OSError, ValueError
        See `check_output`. Also if the measurement was replaced since its frames were read.
    """
    path = Path(path).absolute()  # the working folder may change meanwhile
    source, basins = background.source, background.basins
    if background.identity is not None and source is not None:
        with Measurement(source, basins) as measurement:
            require_same(measurement, background.identity)
    check_output(path, len(background), source, basins)
    into_measurement = source is not None and is_same_file(path, source)
    if background.identity is not None and source is not None and not into_measurement:
        _require_frames(path, background.identity)
    is_new = not path.exists()
    if is_new or (not into_measurement and can_be_rewritten(path, source)):
        with new_file(path) if is_new else rewritten_file(path) as h5:
            h5.create_group("events")
            if background.identity is not None and source is not None:
                given = background.identity.given if like_dcnum else None
                refer_to(h5, source, path, one_path=given)
            _store_background(h5, background, compress, like_dcnum)
            _store_verdict(h5, background, verdict)
        return
    with changed_file(path) as h5:
        h5.require_group("events")
        stale: list[str] = []
        if source is not None and not into_measurement and not like_dcnum:
            stale = _renew_reference(h5, source, path, basins)
        replaced = _set_aside(h5, [*_earlier_background(h5), *earlier_verdict(h5), *stale])
        _store_background(h5, background, compress, like_dcnum)
        _store_verdict(h5, background, verdict)
        if replaced is not None:
            del h5[replaced]


def _require_frames(path: Path, identity: Identity) -> None:
    """Check that a file with images of its own holds the frames of the background.

    Without an identifier, nothing else tells one measurement from another.
    """
    if not path.exists() or is_unfinished(path) or not has_own_images(path):
        return
    with Measurement(path, "off") as measurement:
        if digest_of(measurement, identity.count) != identity.digest:
            raise ValueError(
                f"{path}: holds other frames or times than {identity.given}, of which the "
                "background is; write to another file"
            )


def _store_background(
    h5: h5py.File, background: Background, compress: bool, like_dcnum: bool
) -> None:
    ppid, filters = to_ppid(background.parameters), storage_options(compress)
    frame_index, offsets, rows = background.frame_index, background.offsets, background.offset_rows
    notes: dict[str, Any] = {
        "dcnum ppid background": ppid,
        "dcnum ppid generation": GENERATION,
    }
    images = store(h5, "basin_events/image_bg", background.images, filters)
    images.attrs.update(notes)
    if background.identity is not None and background.identity.digest and not like_dcnum:
        images.attrs[DIGEST_ATTRIBUTE] = background.identity.digest
    if background.identity is not None and isinstance(background.identity.path, RemotePath):
        images.attrs[VERSION_ATTRIBUTE] = " ".join(map(str, background.identity.states[0][1]))
    mapping = free_mapping(h5, frame_index)
    if mapping not in h5["events"]:
        store(h5, f"events/{mapping}", frame_index, filters)
    description = f"Pipeline identifier: {ppid}"
    record = internal_record("background images", description, ["image_bg"], mapping)
    store_record(h5, record, filters)
    if offsets is not None:
        if rows != BAND_ROWS:
            del notes["dcnum ppid background"]
            notes[ROWS_ATTRIBUTE] = rows
        store(h5, "events/bg_off", offsets, filters).attrs.update(notes)


def _store_verdict(
    h5: h5py.File, background: Background, verdict: tuple[Sequence[str], Sequence[Row]] | None
) -> None:
    if verdict is not None:
        lines, rows = verdict
        store_verdict(h5, lines, rows, to_ppid(background.parameters))


def _renew_reference(h5: h5py.File, source: AnyPath, path: Path, policy: Policy) -> list[str]:
    """If there are references to the measurement, write a new one and return the stale ones."""
    with opened(source) as measurement, naming_damage(source):
        identifiers = known_identifiers(Attributes(measurement))
        record = reference_record(measurement, source, path)
        earlier = [
            basin
            for basin in references(read_basins(h5), read_basins(measurement))
            if is_made_with_file(basin)
            and relation(basin, path, source, identifiers, policy) in ("same", "moved")
        ]
    if not earlier:
        return []
    store_record(h5, record, storage_options(True))
    return [f"basins/{basin.key}" for basin in earlier if basin.record != record]


def _set_aside(h5: h5py.File, doomed: Sequence[str]) -> str | None:
    """Move entries that are to be removed into one group, and return its name.

    The group is removed after the new background was written. Otherwise HDF5
    would put new data into the freed space, and the file would change in many
    places.
    """
    if not doomed:
        return None
    aside = h5.create_group("replaced by sparsemed")
    for number, name in enumerate(doomed):
        h5.move(name, f"{aside.name}/{number}")
    return str(aside.name)


def _earlier_background(h5: h5py.File) -> list[str]:
    """Return the entries of an earlier background; narrow records with other features."""
    doomed = [f"{group}/{name}" for group in ("events", "basin_events") for name in _BACKGROUND]
    basins = read_basins(h5)
    stale = [b for b in basins if b.is_internal and "image_bg" in (b.features or [])]
    for basin in stale:
        doomed += [f"basins/{basin.key}", *(f"{group}/image_bg" for group in basin.paths)]
        if others := [name for name in basin.features or [] if name != "image_bg"]:
            store_record(h5, {**basin.record, "features": others}, storage_options(True))
    doomed += [f"events/{name}" for name in _unused_mappings(stale, read_basins(h5))]
    return [name for name in dict.fromkeys(doomed) if has_entry(h5, name)]


_BACKGROUND = ("image_bg", "bg_off")


def _unused_mappings(stale: list[Basin], basins: list[Basin]) -> set[str]:
    """Return the mappings of stale basins that no other basin uses."""
    dead = {basin.key for basin in stale}
    used = {basin.mapping for basin in basins if basin.key not in dead}
    return {basin.mapping for basin in stale if basin.mapping in MAPPINGS} - used
