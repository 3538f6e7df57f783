"""Write a background into a measurement file, the way dcnum and dclab expect it.

Background images are stored once each, as an internal basin of the file, with
a mapping from frames to images. A new file also gets the metadata of the
measurement and refers to it for all other features.
"""

import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from os import PathLike
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
from numpy.typing import NDArray

from sparsemed import __version__
from sparsemed.hdf5.commit import changed_file, let_signals_in, new_file
from sparsemed.hdf5.entries import Attributes, entry, holds, subgroup
from sparsemed.parameters import Parameters
from sparsemed.printable import printable, quoted
from sparsemed.rtdc.basins import (
    MAPPINGS,
    Basin,
    file_record,
    free_mapping,
    internal_record,
    measurement_identifier,
    read_basins,
    store_record,
)
from sparsemed.rtdc.measurement import naming_damage, open_hdf5
from sparsemed.rtdc.pipeline_id import GENERATION, to_ppid

logger = logging.getLogger(__name__)

CHUNK_BYTES = 1024**2
"""Weight of a chunk in new datasets."""

PIECE_BYTES = 8 * 1024**2
"""Weight of the chunks that HDF5 compresses in one go. No signal is heeded meanwhile."""

WRITER = f"sparsemed {__version__}"


def check_output(path: str | PathLike[str], count: int, source: Path | None = None) -> None:
    """Check that a background of `count` frames can be written to a file.

    Parameters
    ----------
    path : str or path
        The file; it need not exist.
    count : int
        Number of frames.
    source : Path, optional
        The measurement.

    Raises
    ------
    OSError
        If the folder is missing or read-only, or if the file exists and is
        read-only or not HDF5.
    ValueError
        If the file exists and holds another number of frames, or belongs to
        another measurement.
    """
    path = Path(path)
    folder = path.parent
    if not folder.is_dir():
        raise FileNotFoundError(f"{path}: the folder does not exist; create it first")
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"{path}: the folder is read-only")
    if path.is_symlink() and not path.exists():
        raise FileNotFoundError(f"{path}: is a link to a file that does not exist")
    if not path.exists():
        return
    if not os.access(path, os.W_OK):
        raise PermissionError(f"{path}: the file is read-only")
    with open_hdf5(path) as h5, naming_damage(path):
        for name in subgroup(h5, "events") or ():
            feature = None
            with suppress(ValueError):  # it leads to another file, which is of no concern here
                feature = entry(h5, f"events/{name}")
            if isinstance(feature, h5py.Dataset) and feature.ndim and len(feature) != count:
                raise ValueError(
                    f"{path}: events/{name} has {len(feature)} entries, but the background is of "
                    f"{count} frames; write to another file"
                )
        subgroup(h5, "basin_events")
        read_basins(h5)
        ours = measurement_identifier(Attributes(h5))
    if source is not None and ours is not None:
        with open_hdf5(source) as h5:
            theirs = measurement_identifier(Attributes(h5))
        if theirs not in (None, ours):
            raise ValueError(
                f"{path}: belongs to another measurement ('{ours}') than {source} ('{theirs}'); "
                "write to another file"
            )


def write_background(
    path: str | PathLike[str],
    *,
    images: NDArray[Any],
    frame_index: NDArray[np.int64],
    offsets: NDArray[np.float64] | None,
    parameters: Parameters,
    source: Path | None = None,
    compress: bool = True,
) -> None:
    """Write a background to a new file, into an existing one, or into the measurement.

    Parameters
    ----------
    path : str or path
        The file. It changes wholly or not at all.
    images : ndarray, shape (M, H, W)
        Background images.
    frame_index : ndarray of int64, shape (N,)
        For each frame, its background image.
    offsets : ndarray of float64, shape (N,), or None
        Brightness offset of each frame.
    parameters : Parameters
        What the background was computed with.
    source : Path, optional
        The measurement; a new file refers to it.
    compress : bool
        Whether to compress the data (Zstandard, level 5).

    Raises
    ------
    OSError, ValueError
        See `check_output`.
    """
    path = Path(path)
    check_output(path, len(frame_index), source)
    is_new = not path.exists()
    with new_file(path) if is_new else changed_file(path) as h5:
        h5.require_group("events")
        if is_new and source is not None:
            _refer_to(h5, source, path)
        replaced = _set_aside_background(h5)
        ppid = to_ppid(asdict(parameters))
        _store_background(h5, images, frame_index, offsets, ppid, _filters(compress))
        if replaced is not None:
            del h5[replaced]


def _store_background(
    h5: h5py.File,
    images: NDArray[Any],
    frame_index: NDArray[np.int64],
    offsets: NDArray[np.float64] | None,
    ppid: str,
    filters: Mapping[str, Any],
) -> None:
    written = [_store(h5, "basin_events/image_bg", images, filters)]
    mapping = free_mapping(h5, frame_index)
    if mapping not in h5["events"]:
        _store(h5, f"events/{mapping}", frame_index, filters)
    description = f"Pipeline identifier: {ppid}"
    record = internal_record("background images", description, ["image_bg"], mapping)
    store_record(h5, record, filters)
    if offsets is not None:
        written.append(_store(h5, "events/bg_off", offsets, filters))
    for dataset in written:
        dataset.attrs["dcnum ppid background"] = ppid
        dataset.attrs["dcnum ppid generation"] = GENERATION


def _store(
    h5: h5py.File, name: str, data: NDArray[Any], filters: Mapping[str, Any]
) -> h5py.Dataset:
    """Write a feature in chunks of about CHUNK_BYTES, extendable along the frames."""
    item = data.shape[1:]
    per_chunk = CHUNK_BYTES // (int(np.prod(item)) * data.dtype.itemsize)
    dataset = h5.create_dataset(
        name,
        shape=data.shape,
        dtype=data.dtype,
        maxshape=(None, *item),
        chunks=(min(1000, max(10, per_chunk)), *item),
        **filters,
    )
    if len(item) == 2:
        dataset.attrs["CLASS"] = np.bytes_("IMAGE")
        dataset.attrs["IMAGE_VERSION"] = np.bytes_("1.2")
        dataset.attrs["IMAGE_SUBCLASS"] = np.bytes_("IMAGE_GRAYSCALE")
    length = dataset.chunks[0]
    piece = length * max(1, PIECE_BYTES // (length * data[0].nbytes)) if len(data) else 1
    for start in range(0, len(data), piece):
        dataset[start : start + piece] = data[start : start + piece]
        let_signals_in()
    return dataset


def _filters(compress: bool) -> dict[str, Any]:
    """Return how new datasets are stored: with a checksum, and maybe compressed."""
    zstd = dict(hdf5plugin.Zstd(clevel=5)) if compress else {}
    return {**zstd, "fletcher32": True}


def _set_aside_background(h5: h5py.File) -> str | None:
    """Move all of an earlier background into one group and return its name.

    It is removed only when the new background has been written: until then its
    space must not be used for new data, or else the file would have to change
    in many places to hold the new state.
    """
    doomed = [f"{group}/{name}" for group in ("events", "basin_events") for name in _BACKGROUND]
    basins = read_basins(h5)
    stale = [b for b in basins if b.is_internal and "image_bg" in (b.features or [])]
    for basin in stale:
        doomed += [f"basins/{basin.key}", *(f"{group}/image_bg" for group in basin.paths)]
        if others := [name for name in basin.features or [] if name != "image_bg"]:
            store_record(h5, {**basin.record, "features": others}, _filters(True))
    doomed += [f"events/{name}" for name in _unused_mappings(stale, read_basins(h5))]
    doomed = [name for name in dict.fromkeys(doomed) if holds(h5, name)]
    if not doomed:
        return None
    aside = h5.create_group("replaced by sparsemed")
    for number, name in enumerate(doomed):
        h5.move(name, f"{aside.name}/{number}")
    return str(aside.name)


_BACKGROUND = ("image_bg", "bg_off")


def _unused_mappings(stale: list[Basin], basins: list[Basin]) -> set[str]:
    """Return the mappings of stale basins that no other basin uses."""
    dead = {basin.key for basin in stale}
    used = {basin.mapping for basin in basins if basin.key not in dead}
    return {basin.mapping for basin in stale if basin.mapping in MAPPINGS} - used


def _refer_to(h5: h5py.File, source: Path, path: Path) -> None:
    """Give a new file the metadata of its measurement, its basins, and itself as a basin."""
    filters = _filters(True)
    with open_hdf5(source) as measurement, naming_damage(source):
        for name in measurement.attrs:
            _copy_attribute(h5, measurement, name)
        for topic in ("logs", "tables"):
            try:
                names = list(subgroup(measurement, topic) or ())
            except ValueError as error:  # it leads to another file
                logger.warning("%s is not copied: %s", topic, error)
                continue
            for name in names:
                _copy_metadata(h5, f"{topic}/{name}", measurement, filters)
        for basin in read_basins(measurement):
            if not basin.is_internal:
                _copy_basin(h5, basin, measurement, filters)
        features: list[str] = []
        for topic in ("events", "basin_events"):
            with suppress(ValueError):  # it leads to another file: left open
                features += subgroup(measurement, topic) or ()
        record = file_record(
            name=source.name,
            description=f"Created by {WRITER}",
            paths=[_path_for_basin(source, path)],
            features=sorted(name for name in features if not name.startswith("basinmap")),
            identifier=measurement_identifier(Attributes(measurement)),
        )
        store_record(h5, record, filters)


def _copy_attribute(h5: h5py.File, measurement: h5py.File, name: str) -> None:
    try:
        value = Attributes(measurement)[name]
        if isinstance(value, str):
            try:
                value.encode()
            except UnicodeEncodeError:  # text that is not UTF-8: keep its bytes
                value = np.bytes_(value.encode(errors="surrogateescape"))
        h5.attrs[name] = value
    except (OSError, ValueError, TypeError) as error:
        logger.warning(
            "%s: attribute %s is not copied: %s", measurement.filename, quoted(name), error
        )


def _copy_metadata(
    h5: h5py.File, name: str, measurement: h5py.File, filters: Mapping[str, Any]
) -> None:
    """Copy a log or table, with text in lines of fixed length, and note who copied it.

    Only what is in the measurement itself: what its links lead to may be no log
    at all, but a file that is not meant for whoever gets the copy.
    """
    try:
        found = entry(measurement, name)
        if not isinstance(found, h5py.Dataset) or not found.size:
            return
        if not found.ndim:
            found.file.copy(found, h5, name=name)
            return
        data = found[()]
        if data.dtype == np.dtype("O"):
            data = np.asarray(data, dtype=f"S{max(len(line) for line in data)}")
        copy = h5.create_dataset(name, data=data, **filters)
        attributes = dict(Attributes(found))
    except (ValueError, TypeError) as error:  # such as references
        logger.warning("%s: %s is not copied: %s", measurement.filename, printable(name), error)
        return
    copy.attrs.update(attributes)
    earlier = copy.attrs.get("software")
    if isinstance(earlier, bytes):
        earlier = earlier.decode(errors="replace")
    copy.attrs["software"] = WRITER if earlier is None else f"{earlier} | {WRITER}"


def _copy_basin(
    h5: h5py.File, basin: Basin, measurement: h5py.File, filters: Mapping[str, Any]
) -> None:
    """Copy the record of a file basin, and its mapping."""
    if not basin.is_file:
        name, kind = quoted(basin.name), quoted(basin.record.get("type"))
        logger.warning("Basin %s of unknown type %s is not copied", name, kind)
        return
    mapping = None
    if basin.mapping is not None:
        dataset = None
        with suppress(ValueError):  # it leads to another file
            dataset = entry(measurement, f"events/{basin.mapping}")
        if not isinstance(dataset, h5py.Dataset):
            name, mapping = quoted(basin.name), quoted(basin.mapping)
            logger.warning("Basin %s is not copied: its mapping %s is missing", name, mapping)
            return
        index = dataset[:]
        mapping = free_mapping(h5, index)
        if mapping not in h5["events"]:
            _store(h5, f"events/{mapping}", index, filters)
    record = file_record(
        basin.name,
        basin.record.get("description"),
        basin.paths,
        basin.features,
        basin.record.get("identifier"),
        mapping,
    )
    store_record(h5, record, filters)


def _path_for_basin(source: Path, path: Path) -> str:
    """Return the path of the measurement as the basin record should give it.

    That is the path as the user gave it, unless it would not lead from the
    output's folder to the measurement.
    """
    if source.is_absolute():
        return str(source)
    seen_from_output = path.parent / source
    if seen_from_output.exists() and seen_from_output.samefile(source):
        return str(source)
    return str(source.resolve())
