"""The events of one file, and where its basins lead: features, own or of another file."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from sparsemed.frames.source import MOST_FRAMES
from sparsemed.hdf5.entries import Attributes, entry, subgroup
from sparsemed.hdf5.file_access import MISSING, FileAccess
from sparsemed.printable import printable, quoted
from sparsemed.rtdc.basins import Basin, measurement_identifier, read_basins, search_order
from sparsemed.rtdc.search import as_spelled, places_of

DEEPEST = 16
"""Basins of basins that are followed, from one file to the next."""


@dataclass(frozen=True)
class Feature:
    """A feature of a measurement: data with one entry per frame.

    Attributes
    ----------
    dataset : h5py.Dataset
        Where the data are, maybe in another file.
    mapping : ndarray of int64, shape (N,), or None
        For each frame, its index in the dataset; None means frame by frame.
    label : str
        File and dataset, for messages.
    """

    dataset: h5py.Dataset
    mapping: NDArray[np.int64] | None
    label: str

    def __len__(self) -> int:
        return int(self.dataset.shape[0] if self.mapping is None else len(self.mapping))

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of frames, and shape of the data of one."""
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
        # h5py takes lists of indices only if they ascend
        distinct, place = np.unique(wanted, return_inverse=True)
        picked: NDArray[Any] = self.dataset[distinct][place.reshape(np.shape(wanted))]
        return picked

    def read(self) -> NDArray[Any]:
        """Return the data of all frames (for features that are small)."""
        values: NDArray[Any] = self.dataset[:]
        return values if self.mapping is None else values[self.mapping]


KINDS = ("gone", "not followed", "wrong", "unreadable")
"""What can be wrong with a basin, the worst last; see `Failure`."""


class Failure(NamedTuple):
    """Why a basin that may have a feature does not provide it.

    Attributes
    ----------
    basin : Basin
    reason : str
        As it goes on after the name of the basin.
    kind : str
        ``"gone"``: its file is not there. ``"not followed"``: it is elsewhere, and not to be
        followed. ``"wrong"``: it is of another measurement, or does not fit. ``"unreadable"``:
        reading has failed.
    """

    basin: Basin
    reason: str
    kind: Literal["gone", "not followed", "wrong", "unreadable"]

    def __str__(self) -> str:
        return f"basin {quoted(self.basin.name)}{self.reason}"


class Events:
    """What one file has, by itself and through its basins.

    Parameters
    ----------
    h5 : h5py.File
        The file, open for reading.
    path : Path
        Its name, which paths in it begin at.
    access : FileAccess
        Which other files may be opened.
    above : tuple of str, optional
        Real names of the files that lead here, which are not followed again.

    Raises
    ------
    ValueError
        If it has no events, or a broken basin record.
    """

    def __init__(
        self, h5: h5py.File, path: Path, access: FileAccess, above: tuple[str, ...] = ()
    ) -> None:
        self.h5 = h5
        self.path = path
        self.access = access
        self._way = (*above, str(path.resolve()))
        events = subgroup(h5, "events", access)
        if events is None:
            raise ValueError(f"{path}: has no group 'events'; is it a measurement?")
        self._events = events
        self.basins = search_order(read_basins(h5))
        self._led_to: dict[str, Events | Failure] = {}

    @property
    def identifier(self) -> str | None:
        """What tells this measurement from others."""
        return measurement_identifier(Attributes(self.h5))

    def feature(
        self, name: str, failures: list[Failure], without: set[str] | None = None
    ) -> Feature | None:
        """Return a feature of the file, or of the first basin that provides it.

        Why basins before that one did not, is added to `failures`. Files that were found to have
        no such feature, themselves or by their basins, are added to `without`, and not asked again.
        """
        if (own := self.own(name)) is not None:
            return own
        without = set() if without is None else without
        for basin in self.basins:
            if (feature := self.from_basin(basin, name, failures, without)) is not None:
                return feature
        without.add(self._way[-1])
        return None

    def own(self, name: str) -> Feature | None:
        """Return a feature that the file itself has, basins aside."""
        dataset = _dataset(self._events, name, self.access)
        if dataset is None:
            return None
        return Feature(dataset, None, f"{self.path}: events/{name}")

    def from_basin(
        self,
        basin: Basin,
        name: str,
        failures: list[Failure],
        without: set[str] | None = None,
    ) -> Feature | None:
        """Return a feature that a basin of the file provides, or note why it does not."""
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
            self._led_to[basin.key] = self._follow(basin)
        return self._led_to[basin.key]

    def _within(
        self, basin: Basin, name: str, failures: list[Failure], without: set[str]
    ) -> Feature | None:
        """Return a feature as the basin has it, before any mapping."""
        if basin.is_chopped and name == "image":
            reason = " holds of each image only what is around an event; the rest would be made up"
            failures.append(Failure(basin, reason, "wrong"))
        elif basin.is_internal:
            group = entry(self.h5, basin.paths[0], self.access) if basin.paths else None
            dataset = _dataset(group, name, self.access) if isinstance(group, h5py.Group) else None
            if dataset is not None:
                return Feature(dataset, None, _label(dataset))
        elif basin.is_file:
            led_to = self.lead(basin)
            if isinstance(led_to, Failure):
                failures.append(led_to)
            elif led_to._way[-1] not in without:
                inner = led_to.feature(name, failures, without)
                if inner is not None:
                    return Feature(inner.dataset, inner.mapping, _label(inner.dataset))
        elif basin.is_remote:
            hosts = ", ".join(map(quoted, basin.hosts)) or "a network"
            reason = f" is at {hosts}, and is not downloaded; download it, and put it beside"
            failures.append(Failure(basin, f"{reason} {self.path.name}", "not followed"))
        return None

    def _mapped(self, basin: Basin, feature: Feature) -> Feature | None:
        """Return a feature of a basin as frames of this file; None if the mapping is missing."""
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
                f"{self.path}: events/{name} is no mapping: dtype {dataset.dtype}, "
                f"shape {dataset.shape}"
            )
        mapping = dataset[:]
        if mapping.size and (mapping.min() < 0 or mapping.max() >= size):
            raise ValueError(
                f"{self.path}: events/{name} maps to entries {mapping.min()} to {mapping.max()}, "
                f"but {label} has {size}"
            )
        index: NDArray[np.int64] = mapping.astype(np.int64)
        return index

    def _follow(self, basin: Basin) -> "Events | Failure":
        """Open the first file that a basin may mean and that is the right measurement."""
        shown = ", ".join(quoted(path) for path in basin.paths[:1])
        if self.access.policy == "off":  # without as much as a look
            reason = f" leads to {shown}, which basins='off' does not follow"
            return Failure(basin, reason, "not followed")
        failures: list[Failure] = []
        for path in self._found(basin):
            refusal = self.access.refusal(path)
            if refusal == MISSING:
                continue
            if refusal is not None:
                reason = f" leads to {quoted(path)}, {refusal}"
                failures.append(Failure(basin, reason, "not followed"))
            elif str(path.resolve()) in self._way:
                failures.append(Failure(basin, f" leads back to {quoted(path)}", "not followed"))
            elif len(self._way) > DEEPEST:
                reason = f" leads through more than {DEEPEST} files"
                failures.append(Failure(basin, reason, "wrong"))
            else:
                found = self._open(basin, path)
                if isinstance(found, Events):
                    return found
                failures.append(found)
        if not failures:
            return Failure(basin, f" leads to {shown or 'no file'}, {MISSING}", "gone")
        reasons = dict.fromkeys(failure.reason for failure in failures)
        worst = max(failures, key=lambda failure: KINDS.index(failure.kind))
        return Failure(basin, ", and".join(list(reasons)[:5]), worst.kind)

    def _found(self, basin: Basin) -> Iterator[Path]:
        """Yield the files that a basin may mean; those that are not there as they are recorded."""
        for place in places_of(basin.paths, self.path.parent):
            spelled = None
            if self.access.refusal(place) == MISSING and self.access.policy == "any":
                spelled = as_spelled(place)
            yield spelled or place

    def _open(self, basin: Basin, path: Path) -> "Events | Failure":
        try:
            h5 = self.access.open(path)
            found = measurement_identifier(Attributes(h5))
            if not self._is_meant(basin, found):
                expected = basin.identifier if basin.identifier is not None else self.identifier
                return Failure(
                    basin,
                    f" leads to {printable(path)}, which is another measurement: "
                    f"expected identifier {quoted(expected)}, found {quoted(found)}",
                    "wrong",
                )
            return Events(h5, path, self.access, self._way)
        except OSError as error:
            return Failure(basin, f": {error}", "unreadable")
        except ValueError as error:
            separator = " " if str(error).startswith("leads to") else ": "  # `FileAccess` goes on
            return Failure(basin, f"{separator}{error}", "wrong")
        except (KeyError, RuntimeError) as error:
            reason = f": {quoted(path)}: is damaged, or no RT-DC file ({error})"
            return Failure(basin, reason, "unreadable")

    def _is_meant(self, basin: Basin, found: str | None) -> bool:
        """Whether a file of that identifier is the one that a basin means.

        Where the record does not say which, it is the measurement of this file; what is mapped is
        part of one, whose identifier then begins with that one's. Who has none may be anyone.
        """
        if basin.identifier is not None:
            return found == basin.identifier
        if found is None or self.identifier is None:
            return True
        if basin.mapping is None:
            return found == self.identifier
        return self.identifier.startswith(found)


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
    if found.shape[0] > MOST_FRAMES:  # lest anybody make room for it
        raise ValueError(
            f"{group.file.filename}: {printable(found.name).lstrip('/')} has {found.shape[0]} "
            f"entries; there can be no more than {MOST_FRAMES} frames"
        )
    return found
