"""Outputs that nobody has completed: empty, cut off, or left behind by who was killed.

What helps with an input (to copy it again) is wrong for an output. Results of sparsemed appear
whole, so these are of others: workflows that make the file first, copies that were interrupted,
other programs.
"""

import mmap
from pathlib import Path

import h5py

from sparsemed.hdf5.opening import COPY, UnreadableError, open_restored
from sparsemed.rtdc.names import MARK
from sparsemed.rtdc.pipeline_id import CODE

_MARKS = (f"{CODE}:k=".encode(), b"image_bg")
"""What is in every result: the PPID, and the name of the dataset."""

_IMAGES = (b"\x05image", b"image\0")
"""How HDF5 keeps the name of a dataset with frames, which no result has."""


def is_unfinished(path: Path) -> bool:
    """Whether a file is empty, or part of a result and nothing else, so that none will miss it."""
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
    """Open the file that a result is to go to; see `sparsemed.hdf5.opening.open_restored`.

    Raises
    ------
    OSError
        If it cannot be read; the message says what to do about an output.
    """
    try:
        return open_restored(path)
    except UnreadableError as error:
        raise OSError(
            f"{path}: {error.reason}; remove it and run again, or write to another file"
        ) from error


def as_result(path: Path, error: UnreadableError) -> str | None:
    """Say of a file that cannot be read what to do about it as a result; None if it may be none."""
    if is_part_of_result(path):
        return f"{path}: is a result, but {error.reason}; remove it, and compute it again"
    if path.stem.endswith(MARK) and error.advice == COPY:
        return (
            f"{path}: {error.reason}; if it is a result, as its name says, remove it, and compute "
            "it again; if it is a measurement, copy it again from its origin"
        )
    return None


def is_part_of_result(path: Path) -> bool:
    """Whether a file that cannot be read holds what results hold, and no frames."""
    if not path.is_file() or not path.stat().st_size:
        return False
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        has_marks = all(data.find(mark) >= 0 for mark in _MARKS)
        return has_marks and all(data.find(name) < 0 for name in _IMAGES)
