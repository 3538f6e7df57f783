"""Where the file of a basin may be.

Files are moved, with or without the files that refer to them; written on Windows and read on
Linux; named on a Mac, which spells ü in another way. So a recorded path is tried from the folder
of the referring file, then its bare name in that folder, then the path from the working folder.
If several files exist, their identifiers decide.
"""

import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any
from urllib.parse import unquote, urlsplit


def places_of(paths: list[Any], folder: Path, here: str | None = None) -> Iterator[Path]:
    """Yield the possible paths of a file, the likeliest first.

    Parameters
    ----------
    paths : list
        Recorded paths of the file; anything but text is ignored.
    folder : Path
        Folder of the referring file.
    here : str, optional
        The working folder, if it may have changed.

    Examples
    --------
    >>> for place in places_of(["/raw/M001.rtdc"], Path("/home")):
    ...     print(place.as_posix())
    /raw/M001.rtdc
    /home/M001.rtdc
    """
    texts = _texts(paths)
    bare = [folder / name for name in recorded_names(paths)]
    from_here = [Path(here or os.getcwd(), text) for text in texts]
    yield from dict.fromkeys([*recorded_places(paths, folder), *bare, *from_here])


def recorded_places(paths: list[Any], folder: Path) -> list[Path]:
    """Return the recorded paths of a file, relative ones from the folder of the referring file."""
    # joined to an absolute path, the folder has no effect
    return [folder / text for text in _texts(paths)]


def recorded_names(paths: list[Any]) -> list[str]:
    """Return the names of a file in its recorded paths."""
    return [name for text in _texts(paths) for name in _names(text)]


def _texts(paths: list[Any]) -> list[str]:
    return [text for path in paths if isinstance(path, str) for text in _readings(path)]


def _readings(path: str) -> Iterator[str]:
    """Yield a path without ``file:``, and also with slashes if it has backslashes."""
    if path.lower().startswith("file:"):
        inside = unquote(urlsplit(path).path)
        # file:///C:/data has a slash before the drive
        path = inside[1:] if PureWindowsPath(inside[1:]).drive else inside
    if not path:
        return
    yield path
    windows = PureWindowsPath(path)
    if "\\" in path and not windows.anchor:
        yield windows.as_posix()


def _names(path: str) -> Iterator[str]:
    for name in (PurePosixPath(path).name, PureWindowsPath(path).name):
        if name not in ("", ".."):
            yield name


def as_spelled(path: Path) -> Path | None:
    """Return a path as spelled on the disk, or None if there is no such file.

    Unicode has two ways to write ü, and file systems keep either. Names are equal if their normal
    forms (NFC) are.
    """
    if os.path.lexists(path):
        return path
    if str(path).isascii():
        return None
    parent = path.parent if path.parent.is_dir() else as_spelled(path.parent)
    if parent is None:
        return None
    wanted = unicodedata.normalize("NFC", path.name)
    try:
        names = sorted(os.listdir(parent))
    except OSError:
        return None
    same = (name for name in names if unicodedata.normalize("NFC", name) == wanted)
    return next((parent / name for name in same), None)
