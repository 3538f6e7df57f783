"""Incomplete outputs: empty, cut off, or left behind by a killed program.

Advice for an input (copy it again) is wrong for an output. Results of sparsemed appear whole, so
these have other causes: workflows that create the file first, interrupted copies, other programs.
"""

import mmap
from pathlib import Path

import h5py

from sparsemed.hdf5.opening import COPY, UnreadableError, open_restored
from sparsemed.rtdc.names import MARK
from sparsemed.rtdc.pipeline_id import CODE

_MARKS = (f"{CODE}:k=".encode(), b"image_bg")
"""Bytes in every result: the PPID, and the name of the dataset."""

_IMAGES = (b"\x05image", b"image\0")
"""The name of a dataset with frames as HDF5 stores it; no result has one."""


def is_unfinished(path: Path) -> bool:
    """Whether a file is empty or only a part of a result, so that it can be replaced."""
    try:
        if not path.is_file():
            return False
        if not path.stat().st_size:
            return True
        open_restored(path).close()
    except UnreadableError:
        return is_part_of_result(path)
    except OSError:
        return False
    return False


def open_output(path: Path) -> h5py.File:
    """Open an existing output file; see `sparsemed.hdf5.opening.open_restored`.

    Raises
    ------
    OSError
        If it cannot be read; the message has advice for an output.
    """
    try:
        return open_restored(path)
    except UnreadableError as error:
        raise OSError(
            f"{path}: {error.reason}; remove it and run again, or write to another file"
        ) from error


def as_result(path: Path, error: UnreadableError) -> str | None:
    """Return the error of an unreadable file if it may be a result, otherwise None."""
    if is_part_of_result(path):
        return f"{path}: is a result, but {error.reason}; remove it and compute it again"
    if path.stem.endswith(MARK) and error.advice == COPY:
        return (
            f"{path}: {error.reason}; if it is a result, as its name says, remove it and compute "
            "it again; if it is a measurement, copy it again from its origin"
        )
    return None


def is_part_of_result(path: Path) -> bool:
    """Whether an unreadable file has the marks of a result, and no frames."""
    if not path.is_file() or not path.stat().st_size:
        return False
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        has_marks = all(data.find(mark) >= 0 for mark in _MARKS)
        return has_marks and all(data.find(name) < 0 for name in _IMAGES)
