"""Copies metadata of a measurement into a new result, and writes the reference to it."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from sparsemed.hdf5.datasets import storage_options, store
from sparsemed.hdf5.entries import Attributes, entry, subgroup
from sparsemed.hdf5.opening import opened
from sparsemed.printable import printable, quoted
from sparsemed.rtdc.basins import (
    Basin,
    file_record,
    free_mapping,
    read_basins,
    store_record,
)
from sparsemed.rtdc.measurement import naming_damage
from sparsemed.rtdc.references import WRITER, reference_record
from sparsemed.rtdc.verdicts import VERDICT
from sparsemed.storage.places import AnyPath
from sparsemed.warned import warn


def refer_to(
    h5: h5py.File, source: AnyPath, path: Path, *, one_path: AnyPath | None = None
) -> None:
    """Copy metadata and basins of a measurement into a new file, and add it as a basin.

    For `one_path`, see `sparsemed.rtdc.references.reference_record`.
    """
    filters = storage_options(True)
    with opened(source) as measurement, naming_damage(source):
        for name in measurement.attrs:
            _copy_attribute(h5, measurement, name)
        for topic in ("logs", "tables"):
            try:
                names = list(subgroup(measurement, topic) or ())
            except ValueError as error:  # it leads to another file
                warn(f"{topic} is not copied: {error}")
                continue
            for name in names:
                if f"{topic}/{name}" not in VERDICT:  # it is about a background of the measurement
                    _copy_metadata(h5, f"{topic}/{name}", measurement, filters)
        for basin in read_basins(measurement):
            if not basin.is_internal:
                _copy_basin(h5, basin, measurement, filters)
        store_record(h5, reference_record(measurement, source, path, one_path=one_path), filters)


def _copy_attribute(h5: h5py.File, measurement: h5py.File, name: str) -> None:
    try:
        h5.attrs[name] = attribute_as_copied(measurement, name)
    except (OSError, ValueError, TypeError) as error:
        warn(f"{measurement.filename}: attribute {quoted(name)} is not copied: {error}")


def attribute_as_copied(measurement: h5py.File, name: str) -> Any:
    """Return an attribute of a measurement as a copy would hold it."""
    value = Attributes(measurement)[name]
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:  # text that is not UTF-8: keep its bytes
            return np.bytes_(value.encode(errors="surrogateescape"))
    return value


def _copy_metadata(
    h5: h5py.File, name: str, measurement: h5py.File, filters: Mapping[str, Any]
) -> None:
    """Copy a log or table, with text in lines of fixed length, and record the writer.

    Links to other files are not followed: they may lead to private files,
    which must not end up in the copy.
    """
    try:
        found = entry(measurement, name)
        if not isinstance(found, h5py.Dataset) or not found.size:
            return
        if not found.ndim:
            found.file.copy(found, h5, name=name)
            return
        copy = h5.create_dataset(name, data=data_as_copied(found), **filters)
        attributes = dict(Attributes(found))
    except (ValueError, TypeError) as error:  # such as references
        warn(f"{measurement.filename}: {printable(name)} is not copied: {error}")
        return
    copy.attrs.update(attributes)
    earlier = copy.attrs.get("software")
    if isinstance(earlier, bytes):
        earlier = earlier.decode(errors="replace")
    copy.attrs["software"] = WRITER if earlier is None else f"{earlier} | {WRITER}"


def data_as_copied(dataset: h5py.Dataset) -> Any:
    """Return a log or table as a copy would hold it: text in lines of fixed length."""
    data = dataset[()]
    if dataset.ndim and data.dtype == np.dtype("O"):
        return np.asarray(data, dtype=f"S{max(len(line) for line in data)}")
    return data


def _copy_basin(
    h5: h5py.File, basin: Basin, measurement: h5py.File, filters: Mapping[str, Any]
) -> None:
    """Copy the record of a file basin or a remote basin, and its mapping."""
    if not (basin.is_file or basin.is_remote):
        name, kind = quoted(basin.name), quoted(basin.record.get("type"))
        warn(f"Basin {name} of unknown type {kind} is not copied")
        return
    mapping = None
    if basin.mapping is not None:
        dataset = None
        with suppress(ValueError):  # it leads to another file
            dataset = entry(measurement, f"events/{basin.mapping}")
        if not isinstance(dataset, h5py.Dataset):
            name, mapping = quoted(basin.name), quoted(basin.mapping)
            warn(f"Basin {name} is not copied: its mapping {mapping} is missing")
            return
        index = dataset[:]
        mapping = free_mapping(h5, index)
        if mapping not in h5["events"]:
            store(h5, f"events/{mapping}", index, filters)
    if basin.is_remote:  # unchanged, except for the name of its mapping
        record = basin.record if mapping is None else {**basin.record, "mapping": mapping}
    else:
        record = file_record(
            basin.name,
            basin.record.get("description"),
            basin.paths,
            basin.features,
            basin.identifier,
            mapping,
        )
    store_record(h5, record, filters)
