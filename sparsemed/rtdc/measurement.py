"""A measurement file: its images, features and metadata, also through basins."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

import hdf5plugin  # noqa: F401  (registers Zstandard and other filters with HDF5)

from sparsemed.frames.stacks import stack_kind, what_to_do
from sparsemed.hdf5.entries import Attributes, has_entry
from sparsemed.hdf5.file_access import FileAccess, Policy
from sparsemed.hdf5.opening import UnreadableError, bytes_behind, open_restored
from sparsemed.printable import quoted
from sparsemed.rtdc.basins import Basin
from sparsemed.rtdc.events import Events, Failure, Feature
from sparsemed.rtdc.following import follow
from sparsemed.rtdc.unfinished import as_result
from sparsemed.storage.places import AnyPath, FileName, RemotePath, locate
from sparsemed.storage.ranged import RangedBytes
from sparsemed.storage.stored import StoredBytes

Fact = TypeVar("Fact")


class Measurement:
    """An RT-DC measurement, open for reading.

    Parameters
    ----------
    path : str, path or StoredBytes
        Path or network address of the file, or its bytes.
    basins : str
        Which other files it may lead to, by basins, by links and as storage of its
        data. ``"off"``: none. ``"same-folder"``: those directly in its folder, after
        symbolic links are resolved. ``"any"``: all. ``"network"``: also those in a
        network. In each case, only regular files, which are never changed. Basins
        within a file and basins of basins are always used.

    Attributes
    ----------
    path : Path
        The file as given.
    place : Path
        Its absolute path, as the working folder may change.
    access : FileAccess
        Which other files it may lead to.
    events : Events
        Its features.

    Raises
    ------
    OSError
        If the file is missing or cannot be read as HDF5.
    ValueError
        If it has no events, or a broken basin record, or if `basins` is unknown.
    """

    def __init__(self, path: FileName | StoredBytes, basins: Policy = "any") -> None:
        given = locate(path) if isinstance(path, (str, PathLike, RemotePath)) else path
        file = RangedBytes(given.place) if isinstance(given, RemotePath) else given
        self.access = FileAccess(file, basins)
        self.path: AnyPath = Path(self.access.name)
        self.place: AnyPath = Path(self.access.here, self.path)
        if isinstance(given, RemotePath):
            self.path = self.place = given
        try:
            h5 = self.access.open_own()
        except OSError as error:
            if isinstance(self.path, RemotePath):
                raise
            said = as_result(self.path, error) if isinstance(error, UnreadableError) else None
            if said is not None:
                raise OSError(said) from error
            if (what := what_to_do(self.path)) is not None:
                raise ValueError(f"{self.path}: {what}") from error
            if (kind := stack_kind(self.path)) is None:
                raise
            raise ValueError(
                f"{self.path}: is a {kind} stack, not a measurement; in Python, use "
                f"sparsemed.compute_background({str(self.path)!r}, frame_rate=…)"
            ) from error
        try:
            with self.reading():
                self.events = Events(h5, self.access, follow)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "Measurement":
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()

    def opener(self) -> "Callable[[], Measurement]":
        """Return a function that opens it again, also in another process."""
        return partial(Measurement, self.place, self.access.policy)

    def close(self) -> None:
        """Close the file and the files of its basins."""
        self.access.close()

    @property
    def size(self) -> int:
        """Bytes of the file."""
        stored = bytes_behind(self.events.h5)
        return os.stat(self.events.h5.filename).st_size if stored is None else stored.size

    @property
    def is_watched(self) -> bool:
        """Whether a change of the file during reading would be noticed."""
        stored = bytes_behind(self.events.h5)
        return not isinstance(stored, RangedBytes) or stored.version.is_known

    @property
    def basins(self) -> list[Basin]:
        """The basins of the file, in the order of search."""
        return self.events.basins

    @property
    def is_live(self) -> bool:
        """Whether it is still being recorded."""
        return bool(self.events.h5.swmr_mode)

    @property
    def metadata(self) -> dict[str, Any]:
        """The metadata of the file: who measured what, how and when."""
        with self.reading():
            return dict(Attributes(self.events.h5))

    @property
    def frame_rate(self) -> Any:
        """Rate of the camera in Hz, or None."""
        with self.reading():
            return Attributes(self.events.h5).get("imaging:frame rate")

    @property
    def image(self) -> Feature:
        """The images.

        Raises
        ------
        ValueError, OSError
            If neither the file nor one of its basins has images, or if these cannot be read;
            the message lists what was tried.
        """
        failures: list[Failure] = []
        with self.reading():
            image = self.events.feature("image", failures)
        if image is None:
            raise self._error(f"{self.path}: has no dataset 'events/image'", failures)
        return image

    def feature(self, name: str) -> Feature | None:
        """Return a feature of the file or of the first basin that has it.

        Raises
        ------
        ValueError, OSError
            If it is not found, and a basin that may have it belongs to another measurement, has
            a mapping that does not fit, or cannot be read. A basin whose file is missing is no
            error.
        """
        failures: list[Failure] = []
        with self.reading():
            feature = self.events.feature(name, failures)
        failures = [each for each in failures if each.kind in ("wrong", "unreadable")]
        if feature is None and failures:
            raise self._error(f"{self.path}: '{name}' cannot be read from its basins", failures)
        return feature

    def from_basin(self, basin: Basin, name: str) -> Feature | None:
        """Return a feature from one basin of the file; see `feature`."""
        failures: list[Failure] = []
        with self.reading():
            feature = self.events.from_basin(basin, name, failures)
        if feature is None and failures:
            raise self._error(f"{self.path}: '{name}' cannot be read", failures)
        return feature

    def _error(self, what: str, failures: list[Failure]) -> ValueError | OSError:
        reasons = list(dict.fromkeys(str(each) for each in failures if each.kind != "gone"))
        more = [] if len(reasons) <= 5 else [f"and {len(reasons) - 5} more"]
        gone = [
            quoted(path)
            for each in failures
            if each.kind == "gone"
            for path in each.basin.paths[:1]
        ]
        if gone:
            more.append(f"these basins were not found: {', '.join(gone[:5])}")
        kind = OSError if any(each.kind == "unreadable" for each in failures) else ValueError
        return kind("; ".join([what, *reasons[:5], *more]))

    def source_of(self, feature: Feature) -> str:
        """Return where a feature is: ``"this file"``, ``"internal basin"`` or ``"file basin"``."""
        if feature.key != self.events.way[-1]:
            return "file basin"
        return "this file" if feature.dataset.name.startswith("/events/") else "internal basin"

    def own(self, name: str) -> Feature | None:
        """Return a feature of the file itself, without its basins."""
        return self.events.own(name)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Let errors of HDF5 name the file, and raise failures that HDF5 hides."""
        try:
            with naming_damage(self.path):
                yield
        except Exception:
            self.access.raise_failures()
            raise
        self.access.raise_failures()


@contextmanager
def naming_damage(path: AnyPath) -> Iterator[None]:
    """Turn errors of h5py on damaged files into an OSError that names the file."""
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
    """Return what `find` returns; if it fails, add the error to `problems` and return None."""
    try:
        return find()
    except (OSError, ValueError, TypeError) as error:
        problems.append(" ".join(str(error).split()))
        return None


def has_own_images(path: Path) -> bool:
    """Whether a file itself holds images, in ``events`` or in an internal basin."""
    with open_restored(path) as h5:
        try:
            return any(has_entry(h5, f"{group}/image") for group in ("events", "basin_events"))
        except ValueError:  # a group that is a link to another file, which may hold images
            return True
