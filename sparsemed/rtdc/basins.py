"""Basin records, which tell where more features of a file are.

A record is a JSON text, stored line by line in a dataset of the group
``basins`` whose name is the MD5 sum of the text. A *file basin* points at
another file, an *internal basin* at a group of the same file. A basin may be
*mapped*: then a feature ``basinmap0`` … ``basinmap9`` holds, for each frame,
its index within the basin.
"""

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from types import NoneType
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from uuid import UUID

import h5py
import numpy as np
from numpy.typing import NDArray

from sparsemed.hdf5.entries import as_text, entry, has_entry, subgroup
from sparsemed.printable import printable, quoted
from sparsemed.storage.place import Record

MOST_BASINS = 300
"""Largest number of records in a file. Each may name many files; ten are many."""

MOST_ITEMS = {"paths": 100, "urls": 100, "features": 1000}
"""Largest lengths of the lists in a record. Three paths are many, as are 300 features."""

RECORD_BYTES = 2**20
"""Largest bytes of a record."""

MAPPINGS = tuple(f"basinmap{i}" for i in range(10))
"""The features that can hold the mapping of a basin."""


class Basin(NamedTuple):
    """One basin record.

    Attributes
    ----------
    key : str
        Name of the dataset that holds the record.
    record : dict
        The record itself.
    """

    key: str
    record: dict[str, Any]

    @property
    def name(self) -> str:
        """Name of the basin."""
        return str(self.record.get("name"))

    @property
    def is_internal(self) -> bool:
        """Whether the basin is a group of the same file."""
        return self.record.get("type") == "internal"

    @property
    def is_file(self) -> bool:
        """Whether the basin is another HDF5 file."""
        return self.record.get("type") == "file"

    @property
    def paths(self) -> list[Any]:
        """Alternative paths of one file, or the group of an internal basin."""
        return list(self.record.get("paths") or [])

    @property
    def features(self) -> list[str] | None:
        """Features that the basin provides; None if the record does not tell."""
        return self.record.get("features")

    @property
    def is_remote(self) -> bool:
        """Whether the basin is in a network."""
        return self.record.get("type") == "remote"

    @property
    def format(self) -> str | None:
        """Format of the basin, which for one in a network also tells the protocol."""
        return self.record.get("format")

    @property
    def is_chopped(self) -> bool:
        """Whether it holds only the part of each image around an event."""
        return self.format == "h5datasetchop"

    @property
    def hosts(self) -> list[str]:
        """Hosts of the basin in a network."""
        return list(dict.fromkeys(map(_host, self.urls)))

    @property
    def urls(self) -> list[str]:
        """Alternative addresses in a network."""
        return [url for url in self.record.get("urls") or [] if isinstance(url, str)]

    @property
    def identifier(self) -> str | None:
        """Identifier that the measurement in the basin must have, if any."""
        return self.record.get("identifier")

    @property
    def mapping(self) -> str | None:
        """Feature that holds the mapping; None if the basin has the same frames."""
        mapping = self.record.get("mapping")
        return None if mapping == "same" else mapping


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or url
    except ValueError:
        return url


def read_basins(h5: h5py.File) -> list[Basin]:
    """Return the basins of a file, in the order of their keys.

    Raises
    ------
    ValueError
        If a record is not a JSON object or not a basin record, or if there are more
        or larger records than any measurement needs.
    """
    group = subgroup(h5, "basins")
    keys = [] if group is None else list(group)
    if len(keys) > MOST_BASINS:
        raise ValueError(f"{h5.filename}: has {len(keys)} basins, more than {MOST_BASINS}")
    return [Basin(key, _read_record(h5, key)) for key in keys]


def _read_record(h5: h5py.File, key: str) -> dict[str, Any]:
    label = f"{h5.filename}: basins/{printable(key)}"
    dataset: Any = entry(h5, f"basins/{key}")
    if isinstance(dataset, h5py.Dataset) and dataset.nbytes > RECORD_BYTES:
        raise ValueError(f"{label} is not a basin record: it has {dataset.nbytes} bytes")
    try:
        lines = dataset[:].tolist()
    except (ValueError, AttributeError, TypeError) as error:
        raise ValueError(f"{label} is not valid JSON: {printable(error)}") from error
    return parse_record(lines, label)


def parse_record(lines: Any, label: str) -> dict[str, Any]:
    """Return the basin record in a text, given as lines of bytes.

    Raises
    ------
    ValueError
        If it is not a JSON object or not a basin record; the message begins with the label.
    """
    try:
        record = json.loads("\n".join(line.decode() for line in lines))
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise ValueError(f"{label} is not valid JSON: {printable(error)}") from error
    if not isinstance(record, dict):
        raise ValueError(f"{label} is not a basin record: {quoted(record)}")
    for name, kinds in _KINDS.items():
        value = record.get(name, kinds[0]())
        if not isinstance(value, kinds) or (
            isinstance(value, list) and len(value) > MOST_ITEMS[name]
        ):
            raise ValueError(f"{label} is not a basin record: its {name} is {quoted(value)}")
    return record


_TEXT = (str, NoneType)
_KINDS: dict[str, tuple[type, ...]] = {
    "name": _TEXT,
    "description": _TEXT,
    "type": _TEXT,
    "identifier": _TEXT,
    "mapping": _TEXT,
    "format": _TEXT,
    "paths": (list,),
    "urls": (list,),
    "features": (list, NoneType),
}
"""Types of the values in a record; other names are ignored."""


def search_order(basins: list[Basin]) -> list[Basin]:
    """Return basins in the order of search: internal ones, then others; each sorted by name."""
    return sorted(basins, key=lambda basin: (not basin.is_internal, basin.name))


def known_identifiers(attributes: Mapping[str, Any]) -> list[str]:
    """Return the identifiers that a measurement may have; first the one of dclab and sparsemed.

    It is the attribute ``experiment:run identifier``, or else a UUID made from the MD5 sum of
    time, date and device. h5py returns text of fixed length as bytes: dclab decodes them, but
    dcnum uses their Python representation, such as ``b'12:00:00'``.
    """
    if identifier := attributes.get("experiment:run identifier"):
        return [as_text(identifier)]
    names = ("experiment:time", "experiment:date", "setup:identifier")
    parts = [attributes.get(name) for name in names]
    if not all(parts):
        return []
    spellings = (map(as_text, parts), map(_as_dcnum_has_it, parts))
    return list(dict.fromkeys(_uuid("_".join(each)) for each in spellings))


def _as_dcnum_has_it(value: Any) -> str:
    return repr(bytes(value)) if isinstance(value, bytes) else str(value)


def _uuid(text: str) -> str:
    return str(UUID(hex=hashlib.md5(text.encode()).hexdigest()))


def internal_record(
    name: str, description: str, features: list[str], mapping: str
) -> dict[str, Any]:
    """Return the record of a mapped internal basin; the group is ``basin_events``."""
    return {
        "description": description,
        "name": name,
        "format": "h5dataset",
        "paths": ["basin_events"],
        "type": "internal",
        "features": features,
        "mapping": mapping,
    }


def file_record(
    name: str,
    description: str | None,
    paths: list[str],
    features: list[str] | None,
    identifier: str | None,
    mapping: str | None = None,
) -> dict[str, Any]:
    """Return the record of a file basin."""
    record: dict[str, Any] = {
        "description": description,
        "name": name,
        "format": "hdf5",
        "paths": paths,
        "type": "file",
        "identifier": identifier,
    }
    if features:
        record["features"] = features
    if mapping is not None:
        record["mapping"] = mapping
    return record


def remote_record(
    name: str,
    description: str,
    where: Record,
    features: list[str],
    identifier: str | None,
) -> dict[str, Any]:
    """Return the record of a basin in a network, as dclab expects it."""
    return {
        "description": description,
        "name": name,
        "format": where.format,
        "urls": [where.url],
        "type": "remote",
        "features": features,
        "identifier": identifier,
        "mapping": "same",
        "perishable": False,
    }


def store_record(h5: h5py.File, record: dict[str, Any], filters: Mapping[str, Any]) -> None:
    """Write a basin record, unless an equal one is there."""
    text = json.dumps(record, indent=2)
    key = hashlib.md5(text.encode()).hexdigest()
    group = h5.require_group("basins")
    if key not in group:
        lines = text.split("\n")
        group.create_dataset(
            key,
            data=lines,
            shape=(len(lines),),
            dtype=f"S{max(map(len, lines))}",
            chunks=True,
            **filters,
        )


def free_mapping(h5: h5py.File, mapping: NDArray[np.int64]) -> str:
    """Return the first mapping feature that is unused, or equal to `mapping`.

    Raises
    ------
    ValueError
        If all are in use.
    """
    for name in MAPPINGS:
        if not has_entry(h5, f"events/{name}"):
            return name
        with suppress(ValueError):  # it leads to another file
            present = entry(h5, f"events/{name}")
            if (
                isinstance(present, h5py.Dataset)
                and present.shape == mapping.shape
                and np.array_equal(present[:], mapping)
            ):
                return name
    raise ValueError(
        f"{h5.filename}: events/{MAPPINGS[0]} to {MAPPINGS[-1]} are all in use; "
        "there can be no more than ten mapped basins, remove one first"
    )
