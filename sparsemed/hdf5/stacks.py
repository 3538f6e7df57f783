"""Stacks of images in HDF5 files that are no measurements."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py

from sparsemed.hdf5.entries import entry
from sparsemed.hdf5.file_access import FileAccess, Policy
from sparsemed.printable import printable
from sparsemed.storage.identity import States

LISTED = 5
"""Number of datasets that an error lists."""

MOST_VISITED = 10_000
"""Number of entries of a file that are searched."""


@contextmanager
def open_dataset(path: Path, name: str, policy: Policy) -> Iterator[tuple[h5py.Dataset, States]]:
    """Open a dataset of an HDF5 file, and check at the end that no file has changed.

    Yields
    ------
    dataset : h5py.Dataset
    states : States
        The file, and those to which links in it lead.

    Raises
    ------
    ValueError
        If there is no such dataset; the message lists those that look like frames.
    OSError
        If it cannot be read as HDF5, or was changed meanwhile.
    """
    access = FileAccess(path, policy)
    try:
        h5 = access.open_own()
        found = entry(h5, name, access)
        if not isinstance(found, h5py.Dataset):
            raise ValueError(f"{path}: has no dataset {name!r}; {frames_in_words(h5)}")
        yield found, access.states
        access.check_unchanged()
    finally:
        access.close()


def frames_in_words(h5: h5py.File) -> str:
    """Return which datasets of a file look like frames, and how to choose one."""
    found = [(printable(name), dataset) for name, dataset in _like_frames(h5)]
    if not found:
        return "no dataset in it has the three axes of frames"
    listed = ", ".join(
        f"{name!r} ({' × '.join(map(str, dataset.shape))} {dataset.dtype})"
        for name, dataset in found[:LISTED]
    )
    more = f" and {len(found) - LISTED} more" if len(found) > LISTED else ""
    first = found[0][0]
    return (
        f"datasets that look like frames: {listed}{more}; choose one with dataset={first!r} or "
        f"--dataset {first}"
    )


def _like_frames(h5: h5py.File) -> list[tuple[str, h5py.Dataset]]:
    """Return the datasets of a file that may be frames, largest first. Links are not followed."""
    found: list[tuple[str, h5py.Dataset]] = []
    left = iter(range(MOST_VISITED))

    def look(name: str, each: Any) -> bool | None:
        if isinstance(each, h5py.Dataset) and _is_like_frames(each):
            found.append((name, each))
        return True if next(left, None) is None else None

    h5.visititems(look)
    return sorted(found, key=lambda pair: -pair[1].size)


def _is_like_frames(dataset: h5py.Dataset) -> bool:
    shape = dataset.shape or ()
    is_number = dataset.dtype.kind in "uif"
    return is_number and len(shape) >= 3 and sum(length > 1 for length in shape) >= 3
