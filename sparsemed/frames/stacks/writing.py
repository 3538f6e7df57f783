"""Stacks that are written: as TIFF that ImageJ reads, or as Zarr; wholly or not at all."""

import json
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsemed.frames.stacks.library import require
from sparsemed.storage import disk

TIFF_SUFFIXES = (".tif", ".tiff")
ZARR_SUFFIX = ".zarr"

SUFFIXES = (*TIFF_SUFFIXES, ZARR_SUFFIX)
"""Endings of names that stacks are written under."""

NOTES = "sparsemed"
"""Under which name notes are kept; by them, a file of ours is known."""

MOST_OF_IMAGEJ = 2**32 - 2**25
"""Bytes up to which ImageJ reads a TIFF by itself; a BigTIFF, which can be more, takes a plugin."""


def write_stack(
    path: Path,
    batches: Iterable[NDArray[Any]],
    shape: tuple[int, int, int],
    dtype: np.dtype[Any],
    notes: dict[str, Any],
    labels: list[str] | None = None,
) -> None:
    """Write images to a TIFF or Zarr, in place of an earlier one of ours.

    Parameters
    ----------
    path : Path
        It ends in one of `SUFFIXES`.
    batches : iterable of ndarray, shape (n, H, W)
        The images, a few at a time.
    shape : (int, int, int)
        ``(N, H, W)``.
    dtype : dtype
        uint8, uint16 or float32.
    notes : dict
        What JSON can hold; kept beside the images.
    labels : list of str, optional
        A line on each image, which ImageJ shows above it.

    Raises
    ------
    FileExistsError
        If there is a file or folder that is no stack of ours.
    OSError
        If it cannot be written.
    ImportError
        If the library that writes it is missing.
    """
    check_writable(path)
    notes = {NOTES: notes}
    with disk.replacing(path) as temporary:
        if path.suffix.lower() == ZARR_SUFFIX:
            _write_zarr(path, temporary, batches, shape, dtype, notes)
        else:
            _write_tiff(path, temporary, batches, shape, dtype, notes, labels)


def check_writable(path: Path) -> None:
    """Check that a stack can be written under a name, as far as that shows beforehand.

    Raises
    ------
    ValueError
        If the name ends in another way.
    FileExistsError
        If there is a file or folder that is no stack of ours.
    OSError
        If its folder is missing or read-only.
    ImportError
        If the library that writes it is missing.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"{path}: stacks are written as {', '.join(SUFFIXES)}")
    disk.check_folder(path)
    is_zarr = path.suffix.lower() == ZARR_SUFFIX
    require("zarr" if is_zarr else "tifffile", path, "Zarr" if is_zarr else "TIFF")
    if path.exists() and read_notes(path) is None:
        raise FileExistsError(
            f"{path}: exists already and is no result of sparsemed; choose another name, or remove "
            "it"
        )


def read_notes(path: Path) -> dict[str, Any] | None:
    """Return what was noted when a stack of ours was written, or None if it is none."""
    try:
        if path.is_dir():
            found = dict(require("zarr", path, "Zarr").open(path, mode="r").attrs)
        else:
            with require("tifffile", path, "TIFF").TiffFile(path) as file:
                page = (file.imagej_metadata or {}).get("Info") or file.pages[0].description
                found = json.loads(page)
        notes = found.get(NOTES)
    except Exception:  # whatever a library may raise on what is no such file
        return None
    return notes if isinstance(notes, dict) else None


def _write_tiff(
    path: Path,
    temporary: Path,
    batches: Iterable[NDArray[Any]],
    shape: tuple[int, int, int],
    dtype: np.dtype[Any],
    notes: dict[str, Any],
    labels: list[str] | None,
) -> None:
    library = require("tifffile", path, "TIFF")
    text = json.dumps(notes)
    how: dict[str, Any] = {"bigtiff": True, "description": text, "metadata": None}
    if int(np.prod(shape)) * dtype.itemsize < MOST_OF_IMAGEJ:
        metadata = {"axes": "TYX", "Info": text} | ({"Labels": labels} if labels else {})
        how = {"imagej": True, "metadata": metadata}
    library.imwrite(
        temporary,
        _single(batches),
        shape=shape,
        dtype=dtype,
        photometric="minisblack",
        **how,
    )


def _write_zarr(
    path: Path,
    temporary: Path,
    batches: Iterable[NDArray[Any]],
    shape: tuple[int, int, int],
    dtype: np.dtype[Any],
    notes: dict[str, Any],
) -> None:
    library = require("zarr", path, "Zarr")
    batches = iter(batches)
    first = next(batches)
    array = library.create_array(
        temporary,
        shape=shape,
        dtype=dtype,
        chunks=(min(len(first), shape[0]), *shape[1:]),
        dimension_names=("time", "y", "x"),
        attributes=notes,
    )
    start = 0
    for batch in chain([first], batches):
        array[start : start + len(batch)] = batch
        start += len(batch)


def _single(batches: Iterable[NDArray[Any]]) -> Iterator[NDArray[Any]]:
    for batch in batches:
        yield from batch
