"""Writes stacks, wholly or not at all: as TIFF that ImageJ reads, or as Zarr."""

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
"""Endings of names under which stacks are written."""

NOTES = "sparsemed"
"""Name of the notes in a file, which mark it as written by sparsemed."""

MOST_OF_IMAGEJ = 2**32 - 2**25
"""Bytes up to which ImageJ reads a TIFF without a plugin; larger stacks become BigTIFF."""


def write_stack(
    path: Path,
    batches: Iterable[NDArray[Any]],
    shape: tuple[int, int, int],
    dtype: np.dtype[Any],
    notes: dict[str, Any],
    labels: list[str] | None = None,
) -> None:
    """Write images to a TIFF or Zarr; an earlier result of sparsemed is replaced.

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
        Stored with the images as JSON.
    labels : list of str, optional
        A line on each image, which ImageJ shows above it.

    Raises
    ------
    FileExistsError
        If there is a file or folder that is no result of sparsemed.
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


def check_writable(path: Path, *, folder_is_made: bool = False) -> None:
    """Check that a stack can be written under a name, as far as can be known before.

    Parameters
    ----------
    path : Path
    folder_is_made : bool
        Whether its folder is made later if it is missing.

    Raises
    ------
    ValueError
        If the name has another ending.
    FileExistsError
        If there is a file or folder that is neither a result of sparsemed nor empty.
    OSError
        If its folder is missing or read-only.
    ImportError
        If the library that writes it is missing.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"{path}: a stack is written to a name in {', '.join(SUFFIXES)}")
    if not folder_is_made or path.parent.is_dir():
        disk.check_folder(path)
    is_zarr = path.suffix.lower() == ZARR_SUFFIX
    require("zarr" if is_zarr else "tifffile", path, "Zarr" if is_zarr else "TIFF")
    if path.exists() and not _was_made_beforehand(path, is_zarr) and read_notes(path) is None:
        raise FileExistsError(
            f"{path}: exists and is no result of sparsemed; choose another name, or remove it"
        )


def _was_made_beforehand(path: Path, is_zarr: bool) -> bool:
    """Whether this is an empty file or, for Zarr, an empty folder, as workflows make."""
    if is_zarr:
        return path.is_dir() and not any(path.iterdir())
    return path.is_file() and not path.stat().st_size


def read_notes(path: Path) -> dict[str, Any] | None:
    """Return the notes of a stack that sparsemed has written, or None for any other."""
    try:
        if path.is_dir():
            found = dict(require("zarr", path, "Zarr").open(path, mode="r").attrs)
        else:
            with require("tifffile", path, "TIFF").TiffFile(path) as file:
                page = (file.imagej_metadata or {}).get("Info") or file.pages[0].description
                found = json.loads(page)
        notes = found.get(NOTES)
    except Exception:  # a library may raise anything on another file
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
