"""Finds entries of an HDF5 file; checks links and data types before HDF5 follows them.

HDF5 follows external links, external raw storage and virtual datasets by itself: it opens whatever
file they name, and waits forever if that is a pipe. Here they are checked before HDF5 opens them.
Data types are checked, too, as h5py reads some of them unsafely.
"""

import os
import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py

from sparsemed.hdf5.file_access import MISSING, FileAccess
from sparsemed.hdf5.opening import is_elsewhere
from sparsemed.printable import printable, quoted

MOST_LINKS = 16
"""Links on the way to one entry; more count as a circle. HDF5 has the same limit."""

MOST_SOURCES = 1000
"""Largest number of source datasets of a virtual dataset."""

_DATES = re.compile(rb"NUMPY:[<>]?[mM]8\[\w+\]")  # the tags of h5py for dates


def entry(group: h5py.Group, name: Any, access: FileAccess | None = None) -> Any | None:
    """Return an entry of a group; None if there is none.

    Parameters
    ----------
    group : h5py.Group
        The group; its file, if the name begins with a slash.
    name : str
        Path of the entry. Anything but text names nothing.
    access : FileAccess, optional
        Which other files the entry may lead to. Default: none.

    Raises
    ------
    ValueError
        If it leads to a file that may not be opened, leads in a circle, or has
        a data type that cannot be read safely. The message names file and entry.
    OSError
        If a file that it leads to cannot be read.
    """
    if not isinstance(name, str) or _encoded(name) is None:
        return None
    label = _Label(group, name)
    place = _find(group, name, label, access)
    if isinstance(place, h5py.Dataset):
        _check_type(place.id.get_type(), label)
        _check_storage(place, label, access)
    return place


class _Label:
    """File and entry, for messages. Made into text only if needed, as that takes time."""

    def __init__(self, group: h5py.Group, name: str) -> None:
        self._group, self._name = group, name

    def __str__(self) -> str:
        return f"{printable(self._group.file.filename)}: {_path(self._group, self._name)}"


def _find(group: h5py.Group, name: str, label: object, access: FileAccess | None) -> Any | None:
    """Walk to an entry step by step, and check each link."""
    place: Any = group
    ahead = deque(_parts(_encoded(name) or b""))
    if name.startswith("/"):
        place = group["/"]
    for _ in range(MOST_LINKS + 1):
        while ahead:
            part = ahead.popleft()
            if not isinstance(place, h5py.Group) or not place.id.links.exists(part):
                return None
            kind = place.id.links.get_info(part).type
            if kind != h5py.h5l.TYPE_HARD:
                break
            place = place[part]
        else:
            return place
        if kind == h5py.h5l.TYPE_SOFT:
            target = place.id.links.get_val(part)
            if target.startswith(b"/"):
                place = place["/"]
        elif kind == h5py.h5l.TYPE_EXTERNAL:
            file, target = place.id.links.get_val(part)
            (h5,) = _open_other(place.file, os.fsdecode(file), f"{label} (external link)", access)
            place = h5["/"]
        else:
            raise ValueError(f"{label}: is a link of an unknown kind, and is not followed")
        ahead.extendleft(reversed(_parts(target)))
    raise ValueError(f"{label}: leads through more than {MOST_LINKS} links; is it a circle?")


def subgroup(h5: h5py.File, name: str, access: FileAccess | None = None) -> h5py.Group | None:
    """Return a group of a file; None if there is none.

    Raises
    ------
    ValueError, OSError
        If that is not a group. Also see `entry`.
    """
    group = entry(h5, name, access)
    if group is not None and not isinstance(group, h5py.Group):
        raise ValueError(f"{printable(h5.filename)}: {name} is not a group")
    return group


def has_entry(h5: h5py.File, name: str) -> bool:
    """Whether there is an entry; a link counts wherever it leads."""
    folder, _, last = name.rstrip("/").rpartition("/")
    group, stored = entry(h5, folder), _encoded(last)
    return isinstance(group, h5py.Group) and bool(stored and group.id.links.exists(stored))


class Attributes(Mapping[str, Any]):
    """The attributes of a file, group or dataset, for reading.

    Parameters
    ----------
    place : h5py.File, h5py.Group or h5py.Dataset

    Raises
    ------
    ValueError
        On reading an attribute whose data type cannot be read safely.
    """

    def __init__(self, place: Any) -> None:
        self._place = place

    def __getitem__(self, name: str) -> Any:
        attributes = self._place.attrs  # h5py makes a new object at each access
        if name not in attributes:
            raise KeyError(name)
        kind = attributes.get_id(name).get_type()
        if isinstance(kind, _MADE_UP):  # few are; the label takes time to make
            label = f"{printable(self._place.file.filename)}: attribute {quoted(name)}"
            _check_type(kind, label)
        return attributes[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._place.attrs)

    def __len__(self) -> int:
        return len(self._place.attrs)


def as_text(value: Any) -> str:
    """Return a value of an attribute, or a line of a dataset, as text."""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _encoded(name: str) -> bytes | None:
    """Return a name as stored; None if it cannot be stored."""
    try:
        stored = name.encode(errors="surrogateescape")  # as h5py reads names that are not UTF-8
    except UnicodeEncodeError:
        return None
    return None if b"\0" in stored else stored


def _parts(path: bytes) -> list[bytes]:
    return [part for part in path.split(b"/") if part not in (b"", b".")]


def _path(group: h5py.Group, name: str) -> str:
    inside = name if name.startswith("/") else f"{group.name}/{name}"
    return printable(inside.strip("/"))


def _open_other(
    h5: h5py.File, name: str, label: object, access: FileAccess | None, prefixes: Sequence[str] = ()
) -> list[h5py.File]:
    """Open the file that a file names, by an absolute path or from its own folder.

    If HDF5 looks into other folders first, all files of that name are opened, as it is unknown
    which one HDF5 takes.
    """
    if access is None:
        raise ValueError(f"{label}: leads to {quoted(name)}, another file, and is not followed")
    if is_elsewhere(h5):
        raise ValueError(
            f"{label}: leads from a network to {quoted(name)} on this machine, and is not followed"
        )
    try:
        here = access.folder_of(h5)
        real = os.path.dirname(os.path.realpath(os.path.join(here, os.path.basename(h5.filename))))
        folders = (here, access.here, real)  # the order of HDF5
        paths = [Path(folder, name) for folder in folders]
        usual = next((p for p in paths if access.refusal(p) != MISSING), None)
        found = [p for prefix in prefixes if access.refusal(p := Path(prefix, name)) != MISSING]
        if usual is not None or not found:
            found.append(usual or paths[0])
        return [access.open(path) for path in found]
    except ValueError as error:
        raise ValueError(f"{label}: {error}") from error
    except OSError as error:
        raise OSError(f"{label}: {error}") from error


def _check_storage(
    dataset: h5py.Dataset, label: object, access: FileAccess | None, depth: int = 0
) -> None:
    """Check the files that hold the data of a dataset, before HDF5 opens them."""
    if depth > MOST_LINKS:
        raise ValueError(f"{label}: leads through more than {MOST_LINKS} virtual datasets")
    plist = dataset.id.get_create_plist()
    if plist.get_layout() == h5py.h5d.VIRTUAL:
        prefixes = _prefixes_of_sources(dataset)
        for file, name in _sources(plist, label):
            about, places = f"{label} (virtual dataset)", [dataset.file]
            if file != ".":
                places = _open_other(dataset.file, file, about, access, prefixes)
            for h5 in places:
                source = _find(h5["/"], name, about, None)
                if not isinstance(source, h5py.Dataset):
                    # HDF5 would read zeros
                    raise ValueError(
                        f"{label}: is a virtual dataset, whose source {quoted(name)} in "
                        f"{quoted(file)} is missing or no dataset"
                    )
                _check_storage(source, label, access, depth + 1)
    # HDF5 opens external files by their names, relative to the working folder
    prefix = dataset.id.get_access_plist().get_efile_prefix() or b""
    for number in range(plist.get_external_count()):
        path = Path(os.fsdecode(prefix), os.fsdecode(plist.get_external(number)[0]))
        reason = "which is another file" if access is None else access.refusal(path)
        if is_elsewhere(dataset):
            reason = "which is on this machine"
        if reason is not None:
            raise ValueError(f"{label}: its data are in {quoted(path)}, {reason}")
        if access is not None:
            access.note(path)


def _prefixes_of_sources(dataset: h5py.Dataset) -> list[str]:
    """Return the folders in which HDF5 looks for virtual sources first, as set by the user."""
    filled_in = os.fsdecode(dataset.id.get_access_plist().get_virtual_prefix() or b"")
    named = os.environ.get("HDF5_VDS_PREFIX", "")
    return [each for each in (filled_in, *named.split(os.pathsep)) if each]


def _sources(plist: Any, label: object) -> set[tuple[str, str]]:
    """Return the files and datasets that are the sources of a virtual dataset."""
    sources: set[tuple[str, str]] = set()
    for number in range(plist.get_virtual_count()):
        stored = plist.get_virtual_filename(number), plist.get_virtual_dsetname(number)
        is_pattern = any("%b" in name.replace("%%", "") for name in stored)
        file, name = (name.replace("%%", "%") for name in stored)
        sources.add((file, name))
        if is_pattern or len(sources) > MOST_SOURCES:
            raise ValueError(
                f"{label}: is a virtual dataset of too many sources ({quoted(file)}), and is not "
                f"read; at most {MOST_SOURCES} without patterns are"
            )
    return sources


_MADE_UP = (
    h5py.h5t.TypeOpaqueID,
    h5py.h5t.TypeCompoundID,
    h5py.h5t.TypeArrayID,
    h5py.h5t.TypeVlenID,
)
"""Kinds of data types that `_check_type` checks."""


def _check_type(kind: Any, label: object) -> None:
    """Check that h5py does not use stored bytes as addresses of objects.

    It does so for opaque types with a NumPy tag: such a file chooses what
    memory the program works on.
    """
    if isinstance(kind, h5py.h5t.TypeOpaqueID):
        tag = kind.get_tag()
        if tag.startswith(b"NUMPY:") and not (_DATES.fullmatch(tag) and kind.get_size() == 8):
            raise ValueError(
                f"{label}: has the data type {quoted(tag.decode(errors='replace'))}, "
                "which cannot be read safely"
            )
    elif isinstance(kind, h5py.h5t.TypeCompoundID):
        for number in range(kind.get_nmembers()):
            _check_type(kind.get_member_type(number), label)
    elif isinstance(kind, (h5py.h5t.TypeArrayID, h5py.h5t.TypeVlenID)):
        _check_type(kind.get_super(), label)
