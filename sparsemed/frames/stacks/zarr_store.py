"""Zarr arrays: in folders and zip files, alone, in groups, and in OME-Zarr."""

import os
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

from sparsemed.frames.choice import Choice, names_of_axes, pick_frames
from sparsemed.frames.shapes import what_fits
from sparsemed.frames.stacks.library import naming, require

FILES = ("zarr.json", ".zarray", ".zgroup")
"""A folder or zip file that is a Zarr array or group has one of these."""

MOST_FILES = 100_000
"""Number of files of an array whose states are taken."""

LISTED = 5
"""Number of arrays that an error lists."""


def is_zarr(path: Path) -> bool:
    """Whether a folder or a zip file holds a Zarr array or group."""
    if path.is_dir():
        return path.suffix == ".zarr" or any((path / name).is_file() for name in FILES)
    if path.suffix.lower() != ".zip" or not path.is_file():
        return False
    return _root_in_zip(path) is not None or path.name.lower().endswith(".zarr.zip")


def _root_in_zip(path: Path) -> str | None:
    """Return the folder in a zip file that is a Zarr: "" for the file as a whole, as Zarr writes.

    Who packs a folder gets it as the only folder in the file.
    """
    with suppress(zipfile.BadZipFile), zipfile.ZipFile(path) as file:
        names = [PurePosixPath(name) for name in file.namelist()]
        roots = {name.parent for name in names if name.name in FILES and len(name.parts) < 3}
        for root in (PurePosixPath(), *(roots if len(roots) == 1 else ())):
            if root in roots:
                return "" if root == PurePosixPath() else str(root)
    return None


def files_of_zarr(path: Path, choice: Choice) -> list[Path]:
    """Return the files that hold the chosen array: its metadata and chunks, or the zip file.

    Other arrays of a group do not count: they may be added meanwhile.
    """
    if path.is_file():
        return [path]
    folder = path
    with suppress(Exception):  # opening it reports why
        found = require("zarr", path, "Zarr").open(path, mode="r")
        folder = path / _array_of(path, found, choice)[0].path
    return list(islice(_files_below(folder), MOST_FILES))


def _files_below(folder: Path) -> Iterator[Path]:
    """Yield files in an order that is the same on all machines that see them."""
    for place, folders, names in os.walk(folder):
        folders.sort()
        yield from (Path(place, name) for name in sorted(names))


@contextmanager
def open_zarr(path: Path, choice: Choice) -> Iterator[Any]:
    """Provide the frames of a Zarr array, of which little is held."""
    library = require("zarr", path, "Zarr")
    with ExitStack() as files:
        with naming(path):
            place: Any = path.absolute()  # chunks are found later, wherever one works by then
            inside = None
            if path.is_file():
                inside = _root_in_zip(path)
                place = files.enter_context(library.storage.ZipStore(place, mode="r"))
            found = library.open(place, mode="r", path=inside)
            array, axes, choice, inner = _array_of(path, found, choice)
        yield _frames(path, array, axes, choice, inner)


def _array_of(path: Path, found: Any, choice: Choice) -> tuple[Any, Any, Choice, str]:
    """Return the chosen array, the names of its axes, the choice that is left, and its name."""
    if not hasattr(found, "array_keys"):
        choice.only(str(path), "channel", "position")
        return found, names_of_axes(found) or _axes_in_folder(path), choice, ""
    if choice.dataset is not None:
        name = choice.dataset.strip("/")
        try:
            array = found[name]
        except KeyError:
            array = None
        if array is None or hasattr(array, "array_keys"):
            raise ValueError(
                f"{path}: has no array {choice.dataset!r}; it has {_listed(_arrays(found))}"
            )
        inside, _, last = name.rpartition("/")
        axes = names_of_axes(array) or _axes_of_scales(found[inside] if inside else found, last)
        return array, axes, choice._replace(dataset=None), name
    group, inside, choice = _image_group(path, found, choice)
    images = _images(group)
    if not images:
        arrays = _arrays(found)
        name = arrays[0] if arrays else "NAME"
        chosen = f"choose one with dataset={name!r} or --dataset {name}"
        by_path = "" if path.is_file() else f", or give its path, such as {path / name}"
        raise ValueError(f"{path}: is a group of arrays ({_listed(arrays)}); {chosen}{by_path}")
    number = 0 if choice.series is None and len(images) == 1 else choice.series
    if number is None or not 0 <= number < len(images):
        names = [str(each.get("name", at)) for at, each in enumerate(images)]
        raise ValueError(_several(path, names))
    scales = [each["path"] for each in images[number]["datasets"]]
    full = max(scales, key=lambda scale: int(group[scale].size))  # the others are smaller copies
    return group[full], _axes_of_scales(group, full), choice._replace(series=None), inside + full


def _several(path: Path, names: list[str]) -> str:
    return (
        f"{path}: holds {len(names)} series of images ({_listed(names)}); choose series=0 to "
        f"series={len(names) - 1}"
    )


def _images(group: Any) -> list[Any]:
    """Return the images in an OME-Zarr group by its metadata; each may have smaller copies."""
    attributes = dict(group.attrs)
    return list((attributes.get("ome") or attributes).get("multiscales") or ())


def _axes_of_scales(group: Any, name: str) -> list[str] | None:
    """Return the names of the axes of an OME-Zarr array, if the group has them."""
    for image in _images(group):
        if name in [each["path"] for each in image.get("datasets", [])]:
            axes = image.get("axes", [])
            return [each["name"] if isinstance(each, dict) else each for each in axes] or None
    return None


def _axes_in_folder(path: Path) -> list[str] | None:
    """Return the names of the axes of an array that is given by its own path."""
    with suppress(Exception):  # it is in no group
        return _axes_of_scales(
            require("zarr", path, "Zarr").open_group(path.parent, mode="r"), path.name
        )
    return None


def _image_group(path: Path, found: Any, choice: Choice) -> tuple[Any, str, Choice]:
    """Return the group of one image of an OME-Zarr, which may hold several."""
    attributes = dict(found.attrs)
    attributes = attributes.get("ome") or attributes
    images = sorted((name for name in found.group_keys() if name.isdigit()), key=int)
    if "bioformats2raw.layout" not in attributes or not images:
        return found, "", choice
    number = choice.position if choice.series is None else choice.series
    if number is None and len(images) == 1:
        number = 0
    if number is None or not 0 <= number < len(images):
        raise ValueError(_several(path, images))
    by_series = choice.series is not None
    left = choice._replace(series=None) if by_series else choice._replace(position=None)
    return found[images[number]], f"{images[number]}/", left


def _frames(path: Path, array: Any, axes: Any, choice: Choice, inner: str) -> Any:
    """Return an array with axes in the order (N, H, W)."""
    choice.only(str(path), "channel", "position")
    name = f"zarr.open({str(path)!r}, mode='r')" + (f"[{inner!r}]" if inner else "")
    if axes and len(axes) == len(array.shape):
        frames = pick_frames(axes, array.shape, choice, str(path), name)
        return frames.read_from(array)
    if len(array.shape) != 3:
        raise ValueError(
            f"{path}: holds images of shape {array.shape}, not (N, H, W)"
            f"{what_fits(array.shape, name)}"
        )
    choice.only(str(path))
    return array


def _arrays(group: Any, inside: str = "") -> list[str]:
    """Return the paths of the arrays of a group, without those of coordinates."""
    found = [f"{inside}{name}" for name, array in sorted(group.arrays()) if array.ndim > 2]
    for name in sorted(group.group_keys()):
        if len(found) > LISTED:
            break
        found += _arrays(group[name], f"{inside}{name}/")
    return found


def _listed(names: list[str]) -> str:
    more = ", …" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more if names else "none"
