"""The events of one file: features of its own, and features of its basins."""

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from sparsemed.frames.source import MOST_FRAMES
from sparsemed.hdf5.entries import Attributes, entry, subgroup
from sparsemed.hdf5.file_access import FileAccess
from sparsemed.hdf5.opening import bytes_behind, is_elsewhere
from sparsemed.hdf5.stacks import frames_in_words
from sparsemed.printable import printable, quoted
from sparsemed.rtdc.basins import Basin, known_identifiers, read_basins, search_order


@dataclass(frozen=True)
class Feature:
    """A feature of a measurement: data with one entry per frame.

    Attributes
    ----------
    dataset : h5py.Dataset
        The data, maybe in another file.
    mapping : ndarray of int64, shape (N,), or None
        For each frame, its index in the dataset; None: the entry of the same number.
    label : str
        File and dataset, for messages.
    """

    dataset: h5py.Dataset
    mapping: NDArray[np.int64] | None
    label: str

    @property
    def key(self) -> str:
        """Key of its file: features of one file have the same key."""
        return key_of(self.dataset)

    def __len__(self) -> int:
        return int(self.dataset.shape[0] if self.mapping is None else len(self.mapping))

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of frames, and shape of the data of one frame."""
        return (len(self), *self.dataset.shape[1:])

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of the data."""
        return self.dataset.dtype  # type: ignore[no-any-return]

    def __getitem__(self, frames: int | slice | NDArray[Any]) -> NDArray[Any]:
        if self.mapping is None:
            data: NDArray[Any] = self.dataset[frames]
            return data
        wanted = self.mapping[frames]
        # h5py accepts lists of indices only if they ascend
        distinct, place = np.unique(wanted, return_inverse=True)
        picked: NDArray[Any] = self.dataset[distinct][place.reshape(np.shape(wanted))]
        return picked

    def fetch_together(self, frames: NDArray[Any]) -> None:
        """Fetch the chunks of some frames at once, if the file is in a network."""
        stored, chunk = bytes_behind(self.dataset), self.dataset.chunks
        if stored is None or chunk is None or not is_elsewhere(self.dataset):
            return
        rows = frames if self.mapping is None else self.mapping[frames]
        with suppress(RuntimeError, ValueError, OSError):  # reading reports the error
            begins = [(row // chunk[0] * chunk[0], 0, 0) for row in rows.tolist()]
            found = [self.dataset.id.get_chunk_info_by_coord(begin) for begin in begins]
            stored.gather((each.byte_offset, each.byte_offset + each.size) for each in found)

    def read(self) -> NDArray[Any]:
        """Return the data of all frames (for small features)."""
        values: NDArray[Any] = self.dataset[:]
        return values if self.mapping is None else values[self.mapping]


KINDS = ("gone", "not followed", "wrong", "unreadable")
"""Kinds of failures of a basin, the worst last; see `Failure`."""


class Failure(NamedTuple):
    """Why a basin that may have a feature does not provide it.

    Attributes
    ----------
    basin : Basin
    reason : str
        Text to follow the name of the basin.
    kind : str
        ``"gone"``: its file is missing. ``"not followed"``: the policy forbids to open it.
        ``"wrong"``: it belongs to another measurement, or does not fit. ``"unreadable"``:
        reading failed.
    """

    basin: Basin
    reason: str
    kind: Literal["gone", "not followed", "wrong", "unreadable"]

    def __str__(self) -> str:
        return f"basin {quoted(self.basin.name)}{self.reason}"


class Events:
    """The features of one file, its own and those of its basins.

    Parameters
    ----------
    h5 : h5py.File
        The file, open for reading.
    access : FileAccess
        Which other files may be opened.
    follow : callable
        ``follow(events, basin)`` returns the events of the file that a basin leads to, or a
        `Failure`; see `sparsemed.rtdc.following`.
    above : tuple of str, optional
        Keys of the files that lead here, which are not followed again.

    Attributes
    ----------
    name : str
        Name of the file in messages.
    way : tuple of str
        Keys of the files that lead here, and of the file itself.
    basins : list of Basin
        Its basins, in the order in which they are searched.

    Raises
    ------
    ValueError
        If it has no events, or a broken basin record.
    """

    def __init__(
        self,
        h5: h5py.File,
        access: FileAccess,
        follow: "Follow",
        above: tuple[str, ...] = (),
    ) -> None:
        self.h5 = h5
        self.name = h5.filename
        self.access = access
        self._follow = follow
        self.way = (*above, key_of(h5))
        events = subgroup(h5, "events", access)
        if events is None:
            raise ValueError(
                f"{self.name}: has no group 'events', so it is no measurement; "
                f"{frames_in_words(h5)}"
            )
        self._events = events
        self.basins = search_order(read_basins(h5))
        self._led_to: dict[str, Events | Failure] = {}

    @property
    def folder(self) -> Path:
        """Folder from which paths in the file begin; for stored bytes, the working folder."""
        is_elsewhere = self.h5.driver == "fileobj"
        return Path(self.access.here if is_elsewhere else self.access.folder_of(self.h5))

    @property
    def identifier(self) -> str | None:
        """Identifier of the measurement, if it has one."""
        return next(iter(self.identifiers), None)

    @property
    def identifiers(self) -> list[str]:
        """All identifiers that the measurement may have; see `known_identifiers`."""
        return known_identifiers(Attributes(self.h5))

    def feature(
        self, name: str, failures: list[Failure], without: set[str] | None = None
    ) -> Feature | None:
        """Return a feature of the file, or of the first basin that provides it.

        The failures of basins before that one are added to `failures`. Files without such a
        feature, in themselves and in their basins, are added to `without`, and are not searched
        again.
        """
        if (own := self.own(name)) is not None:
            return own
        without = set() if without is None else without
        for basin in self.basins:
            if (feature := self.from_basin(basin, name, failures, without)) is not None:
                return feature
        without.add(self.way[-1])
        return None

    def own(self, name: str) -> Feature | None:
        """Return a feature of the file itself, without its basins."""
        dataset = _dataset(self._events, name, self.access)
        if dataset is None:
            return None
        return Feature(dataset, None, f"{self.name}: events/{name}")

    def from_basin(
        self,
        basin: Basin,
        name: str,
        failures: list[Failure],
        without: set[str] | None = None,
    ) -> Feature | None:
        """Return a feature from a basin of the file, or add the reason to `failures`."""
        if basin.features is not None and name not in basin.features:
            return None
        try:
            feature = self._within(basin, name, failures, set() if without is None else without)
            return feature if feature is None else self._mapped(basin, feature)
        except (OSError, ValueError, TypeError) as error:
            reason = f": {' '.join(str(error).split())}"
            is_unreadable = isinstance(error, OSError)
            failures.append(Failure(basin, reason, "unreadable" if is_unreadable else "wrong"))
            return None

    def lead(self, basin: Basin) -> "Events | Failure":
        """Return the events of the file that a basin leads to, or why there are none."""
        if basin.key not in self._led_to:
            self._led_to[basin.key] = self._follow(self, basin)
        return self._led_to[basin.key]

    def _within(
        self, basin: Basin, name: str, failures: list[Failure], without: set[str]
    ) -> Feature | None:
        """Return a feature as stored in a basin, before any mapping."""
        if basin.is_chopped and name == "image":
            reason = " holds only the part of each image around an event, so it has no whole frames"
            failures.append(Failure(basin, reason, "wrong"))
        elif basin.is_internal:
            group = entry(self.h5, basin.paths[0], self.access) if basin.paths else None
            dataset = _dataset(group, name, self.access) if isinstance(group, h5py.Group) else None
            if dataset is not None:
                return Feature(dataset, None, _label(dataset))
        elif basin.is_file or basin.is_remote:
            led_to = self.lead(basin)
            if isinstance(led_to, Failure):
                failures.append(led_to)
            elif led_to.way[-1] not in without:
                inner = led_to.feature(name, failures, without)
                if inner is not None:
                    return Feature(inner.dataset, inner.mapping, _label(inner.dataset))
        return None

    def _mapped(self, basin: Basin, feature: Feature) -> Feature | None:
        """Return a feature of a basin for the frames of this file; None without its mapping."""
        if basin.mapping is None:
            return feature
        mapping = _dataset(self._events, basin.mapping, self.access)
        if mapping is None:
            return None
        index = self._read_mapping(mapping, len(feature), feature.label)
        if feature.mapping is not None:
            index = feature.mapping[index]
        return Feature(feature.dataset, index, feature.label)

    def _read_mapping(self, dataset: h5py.Dataset, size: int, label: str) -> NDArray[np.int64]:
        name = printable(dataset.name.rpartition("/")[2])
        if dataset.dtype.kind not in "iu" or dataset.ndim != 1:
            raise ValueError(
                f"{self.name}: events/{name} is no mapping: dtype {dataset.dtype}, "
                f"shape {dataset.shape}"
            )
        mapping = dataset[:]
        if mapping.size and (mapping.min() < 0 or mapping.max() >= size):
            raise ValueError(
                f"{self.name}: events/{name} maps to entries {mapping.min()} to {mapping.max()}, "
                f"but {label} has {size}"
            )
        index: NDArray[np.int64] = mapping.astype(np.int64)
        return index


Follow = Callable[[Events, Basin], Events | Failure]


def key_of(place: h5py.File | h5py.Dataset) -> str:
    """Return the key of a file, or of the file of a dataset."""
    stored = bytes_behind(place)
    return os.path.realpath(place.file.filename) if stored is None else stored.key


def _label(dataset: h5py.Dataset) -> str:
    return f"{dataset.file.filename}: {dataset.name.lstrip('/')}"


def _dataset(group: h5py.Group, name: str, access: FileAccess) -> h5py.Dataset | None:
    found = entry(group, name, access)
    if found is None:
        return None
    if not isinstance(found, h5py.Dataset) or found.ndim == 0:
        raise ValueError(
            f"{group.file.filename}: {printable(found.name).lstrip('/')} is not an array"
        )
    if found.shape[0] > MOST_FRAMES:  # before memory is allocated for it
        raise ValueError(
            f"{group.file.filename}: {printable(found.name).lstrip('/')} has {found.shape[0]} "
            f"entries; there can be no more than {MOST_FRAMES} frames"
        )
    return found
