"""Where the file of a basin may be: the one search for it.

Files are moved, along with those that refer to them or without; written on Windows and read on
Linux; named on a Mac, which spells ü in another way. So a recorded path is followed from the folder
of the referring file; then its bare name counts, in that folder; then it is followed from the
working folder. Which of the files that are there is meant, their identifiers decide.
"""

import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any
from urllib.parse import unquote, urlsplit


def places_of(paths: list[Any], folder: Path, here: str | None = None) -> Iterator[Path]:
    """Yield where a file may be, the likeliest first.

    Parameters
    ----------
    paths : list
        Paths of the file as they were recorded; what is no text is passed over.
    folder : Path
        Folder of the file that refers to it.
    here : str, optional
        The working folder, if that may have changed since.

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
    """Return where a file was, as it was recorded, seen from the folder of what refers to it."""
    # joined to an absolute path, the folder has no effect
    return [folder / text for text in _texts(paths)]


def recorded_names(paths: list[Any]) -> list[str]:
    """Return what a file was called, as it was recorded."""
    return [name for text in _texts(paths) for name in _names(text)]


def _texts(paths: list[Any]) -> list[str]:
    return [text for path in paths if isinstance(path, str) for text in _readings(path)]


def _readings(path: str) -> Iterator[str]:
    """Yield a path as it is, without ``file:``, and with Windows' separators undone."""
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
    """Return a path as the disk spells it, or None if there is none.

    Unicode has two ways to write ü, and file systems keep whichever they got. Names are the same
    if their normal forms (NFC) are.
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
