"""A measurement file: its images, features and metadata, own or through basins."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import h5py
import hdf5plugin  # noqa: F401  (lets HDF5 read what Zstandard and others compressed)
import numpy as np
from numpy.typing import NDArray

from sparsemed.frames.source import MOST_FRAMES
from sparsemed.hdf5.entries import Attributes, entry, subgroup
from sparsemed.hdf5.reach import MISSING, Policy, Reach
from sparsemed.printable import printable, quoted
from sparsemed.rtdc.basins import (
    Basin,
    locate_file,
    measurement_identifier,
    read_basins,
    search_order,
)

Fact = TypeVar("Fact")


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


class Measurement:
    """An RT-DC measurement, open for reading.

    Parameters
    ----------
    path : str or path
        The file.
    basins : str
        Which other files it may lead to, by basins, by links and as storage of its
        data. ``"off"``: none. ``"same-folder"``: those directly in its folder, once
        symbolic links are resolved. ``"any"``: all. In any case, only regular files,
        and they stay as they are. Basins within the file always count; the basins of
        a basin's file never do, as in dcnum 0.31: whoever refers to it, copies them.

    Attributes
    ----------
    path : Path
        The file.
    basins : list of Basin
        Its basins, in the order in which they are searched.
    reach : Reach
        Which other files it may lead to.

    Raises
    ------
    OSError
        If the file is missing or cannot be read as HDF5.
    ValueError
        If it has no events, or a broken basin record; or if `basins` is none of
        these.
    """

    def __init__(self, path: str | PathLike[str], basins: Policy = "any") -> None:
        self.path = Path(path)
        self.reach = Reach(self.path, basins)
        self._h5 = self.reach.open_own()
        try:
            with naming_damage(self.path):
                events = subgroup(self._h5, "events", self.reach)
                if events is None:
                    raise ValueError(f"{self.path}: has no group 'events'; is it a measurement?")
                self._events = events
                self.basins = search_order(read_basins(self._h5))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "Measurement":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file and those of its basins."""
        self.reach.close()

    @property
    def metadata(self) -> dict[str, Any]:
        """The metadata of the file: who measured what, how and when."""
        with naming_damage(self.path):
            return dict(Attributes(self._h5))

    @property
    def frame_rate(self) -> Any:
        """Rate of the camera in Hz, or None."""
        return Attributes(self._h5).get("imaging:frame rate")

    @property
    def image(self) -> Feature:
        """The images.

        Raises
        ------
        ValueError
            If neither the file nor one of its basins has images.
        """
        if (image := self.feature("image")) is not None:
            return image
        hint = "; ".join(["", *self._not_followed()][:5])
        raise ValueError(f"{self.path}: has no dataset 'events/image'{hint}")

    def _not_followed(self) -> Iterator[str]:
        """Say of basins that lead nowhere, why."""
        missing = []
        for basin in self.basins:
            if basin.is_file and locate_file(basin.paths, self.reach) is None:
                reason = why_not(basin, self.reach)
                if reason is None:
                    missing += [quoted(path) for path in basin.paths[:1]]
                else:
                    yield f"basin {quoted(basin.name)} {reason}"
        if missing:
            yield f"these basins were not found: {', '.join(missing[:5])}"

    def feature(self, name: str) -> Feature | None:
        """Return a feature of the file or of the first basin that has it.

        Raises
        ------
        OSError
            If that basin cannot be read.
        ValueError
            If that basin belongs to another measurement, or its mapping does
            not fit.
        """
        with naming_damage(self.path):
            if (own := self.own(name)) is not None:
                return own
            for basin in self.basins:
                if (feature := self.from_basin(basin, name)) is not None:
                    return feature
        return None

    def source_of(self, feature: Feature) -> str:
        """Say where a feature is: ``"this file"``, ``"internal basin"`` or ``"file basin"``."""
        if Path(feature.dataset.file.filename) != self.path:
            return "file basin"
        return "this file" if feature.dataset.name.startswith("/events/") else "internal basin"

    def own(self, name: str) -> Feature | None:
        """Return a feature that the file itself has, basins aside."""
        dataset = _dataset(self._events, name, self.reach)
        if dataset is None:
            return None
        return Feature(dataset, None, f"{self.path}: events/{name}")

    def from_basin(self, basin: Basin, name: str) -> Feature | None:
        """Return a feature that a basin of the file has; see `feature`."""
        if basin.features is not None and name not in basin.features:
            return None
        mapping = None
        if basin.mapping is not None:
            mapping = _dataset(self._events, basin.mapping, self.reach)
            if mapping is None:
                return None
        if basin.is_internal:
            group = entry(self._h5, basin.paths[0], self.reach) if basin.paths else None
        elif basin.is_file:
            group = self._open_basin(basin)
        else:
            group = None
        dataset = _dataset(group, name, self.reach) if isinstance(group, h5py.Group) else None
        if dataset is None:
            return None
        label = f"{dataset.file.filename}: {dataset.name.lstrip('/')}"
        if mapping is None:
            return Feature(dataset, None, label)
        return Feature(dataset, self._read_mapping(mapping, len(dataset), label), label)

    def _open_basin(self, basin: Basin) -> h5py.Group | None:
        """Return the events of a basin's file, or None if the file is not there."""
        path = locate_file(basin.paths, self.reach)
        if path is None:
            return None
        about = f"{self.path}: basin {quoted(basin.name)}"
        try:
            h5 = self.reach.open(path)
        except OSError as error:
            raise OSError(f"{about}: {error}") from error
        except ValueError as error:
            raise ValueError(f"{about} {error}") from error
        expected = basin.record.get("identifier")
        found = measurement_identifier(Attributes(h5))
        if expected is not None and found != expected:
            raise ValueError(
                f"{about} leads to {printable(path)}, which is another measurement: "
                f"expected identifier {quoted(expected)}, found {quoted(found)}"
            )
        return entry(h5, "events", self.reach)

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


@contextmanager
def naming_damage(path: Path) -> Iterator[None]:
    """Turn what h5py raises on damaged files into an OSError that names the file."""
    try:
        yield
    except (KeyError, RuntimeError, MemoryError, OverflowError) as error:
        raise OSError(f"{path}: is damaged, or no RT-DC file ({error})") from error
    except (OSError, ValueError, TypeError) as error:
        if str(path) in str(error):
            raise
        (kind,) = (k for k in (OSError, ValueError, TypeError) if isinstance(error, k))
        raise kind(f"{path}: {error}") from error


def unless_wrong(find: Callable[[], Fact], problems: list[str]) -> Fact | None:
    """Return what `find` finds, or None and why not among the problems."""
    try:
        return find()
    except (OSError, ValueError, TypeError) as error:
        problems.append(" ".join(str(error).split()))
        return None


def why_not(basin: Basin, reach: Reach) -> str | None:
    """Say why a basin's file is not opened though it may be there; None if there is none."""
    for path in basin.paths:
        if isinstance(path, str):
            reason = reach.refusal(reach.folder / path)
            if reason not in (None, MISSING):
                return f"leads to {quoted(path)}, {reason}"
    return None


def _dataset(group: h5py.Group, name: str, reach: Reach) -> h5py.Dataset | None:
    found = entry(group, name, reach)
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
