"""A measurement file: its images, features and metadata, own or through basins."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import hdf5plugin  # noqa: F401  (lets HDF5 read what Zstandard and others compressed)
import numpy as np
from numpy.typing import NDArray

from sparsemed.rtdc.basins import (
    Basin,
    locate_file,
    measurement_identifier,
    read_basins,
    search_order,
)
from sparsemed.rtdc.commit import recover


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
        return int(len(self.dataset) if self.mapping is None else len(self.mapping))

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

    Attributes
    ----------
    path : Path
        The file.
    basins : list of Basin
        Its basins, in the order in which they are searched.

    Raises
    ------
    OSError
        If the file is missing or cannot be read as HDF5.
    ValueError
        If it has no events, or a broken basin record.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self.path = Path(path)
        self._h5 = open_hdf5(self.path)
        self._basin_files: dict[str, h5py.File] = {}
        try:
            with naming_damage(self.path):
                if not isinstance(self._h5.get("events"), h5py.Group):
                    raise ValueError(f"{self.path}: has no group 'events'; is it a measurement?")
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
        for h5 in self._basin_files.values():
            h5.close()
        self._h5.close()

    @property
    def metadata(self) -> dict[str, Any]:
        """The metadata of the file: who measured what, how and when."""
        with naming_damage(self.path):
            return dict(self._h5.attrs)

    @property
    def frame_rate(self) -> Any:
        """Rate of the camera in Hz, or None."""
        return self._h5.attrs.get("imaging:frame rate")

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
        missing = [
            f"'{path}'"
            for basin in self.basins
            if basin.is_file and locate_file(basin.paths, self.path.parent) is None
            for path in basin.paths[:1]
        ]
        hint = f"; these basins were not found: {', '.join(missing)}" if missing else ""
        raise ValueError(f"{self.path}: has no dataset 'events/image'{hint}")

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

    def own(self, name: str) -> Feature | None:
        """Return a feature that the file itself has, basins aside."""
        if name not in self._h5["events"]:
            return None
        return Feature(_dataset(self._h5["events"], name), None, f"{self.path}: events/{name}")

    def from_basin(self, basin: Basin, name: str) -> Feature | None:
        """Return a feature that a basin of the file has; see `feature`."""
        mapped = basin.mapping is not None
        if mapped and basin.mapping not in self._h5["events"]:
            return None
        if basin.features is not None and name not in basin.features:
            return None
        if basin.is_internal:
            group = self._h5.get(basin.paths[0]) if basin.paths else None
        elif basin.is_file:
            group = self._open_basin(basin)
        else:
            group = None
        if group is None or name not in group:
            return None
        dataset = _dataset(group, name)
        label = f"{group.file.filename}: {dataset.name.lstrip('/')}"
        mapping = self._read_mapping(str(basin.mapping), len(dataset), label) if mapped else None
        return Feature(dataset, mapping, label)

    def _open_basin(self, basin: Basin) -> h5py.Group | None:
        """Return the events of a basin's file, or None if the file is not there."""
        if basin.key not in self._basin_files:
            path = locate_file(basin.paths, self.path.parent)
            if path is None:
                return None
            try:
                h5 = open_hdf5(path)
            except OSError as error:
                raise OSError(f"{self.path}: basin '{basin.name}': {error}") from error
            expected = basin.record.get("identifier")
            found = measurement_identifier(h5.attrs)
            if expected is not None and found != expected:
                h5.close()
                raise ValueError(
                    f"{self.path}: basin '{basin.name}' leads to {path}, which is another "
                    f"measurement: expected identifier '{expected}', found '{found}'"
                )
            self._basin_files[basin.key] = h5
        return self._basin_files[basin.key].get("events")

    def _read_mapping(self, name: str, size: int, label: str) -> NDArray[np.int64]:
        mapping = _dataset(self._h5["events"], name)[:]
        if mapping.dtype.kind not in "iu" or mapping.ndim != 1:
            raise ValueError(
                f"{self.path}: events/{name} is no mapping: dtype {mapping.dtype}, "
                f"shape {mapping.shape}"
            )
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
    except (KeyError, RuntimeError) as error:
        raise OSError(f"{path}: is damaged, or no RT-DC file ({error})") from error
    except (OSError, ValueError, TypeError) as error:
        if str(path) in str(error):
            raise
        (kind,) = (k for k in (OSError, ValueError, TypeError) if isinstance(error, k))
        raise kind(f"{path}: {error}") from error


def open_hdf5(path: Path) -> h5py.File:
    """Open an HDF5 file for reading, after undoing a change that was interrupted.

    Raises
    ------
    OSError
        If it is missing or not HDF5; the message names the file.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no such file")
    if not path.is_file():
        raise OSError(f"{path}: is not a file")
    recover(path)
    try:
        return h5py.File(path, "r")
    except PermissionError as error:
        raise PermissionError(f"{path}: may not be read") from error
    except OSError as error:
        raise OSError(f"{path}: cannot be read as an HDF5 file ({error})") from error


def _dataset(group: h5py.Group, name: str) -> h5py.Dataset:
    entry = group[name]
    if not isinstance(entry, h5py.Dataset) or entry.ndim == 0:
        raise ValueError(f"{group.file.filename}: {entry.name.lstrip('/')} is not an array")
    return entry
