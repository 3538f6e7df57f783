"""Stacks of images in files: one module for each kind, and the table of kinds.

A stack is read as an array, of which little is held; `foreign` has advice on all other files.
May import `storage`, `frames.choice`, `frames.shapes`, and what imports nothing of ours.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from sparsemed.frames.choice import ANY, Choice
from sparsemed.frames.stacks.foreign import what_to_do as what_to_do
from sparsemed.frames.stacks.pictures import (
    files_of_images,
    is_folder_of_images,
    open_images,
)
from sparsemed.frames.stacks.tiff import is_tiff, open_tiff
from sparsemed.frames.stacks.video import is_video, open_video
from sparsemed.frames.stacks.zarr_store import files_of_zarr, is_zarr, open_zarr
from sparsemed.storage.identity import States
from sparsemed.storage.stored import file_state


class Kind(NamedTuple):
    """A kind of stack.

    Attributes
    ----------
    name : str
        Its common name.
    is_in : callable
        ``is_in(path)`` tells whether a file, folder or pattern holds this kind.
    open : callable
        ``open(path, num_cpus, choice)`` provides its frames as an array.
    files : callable
        ``files(path)`` returns the files whose states show whether it was replaced.
    """

    name: str
    is_in: Callable[[Path], bool]
    open: Callable[[Path, int, Choice], AbstractContextManager[Any]]
    files: Callable[[Path], list[Path]]


KINDS = (
    Kind("TIFF", is_tiff, open_tiff, lambda path: [path]),
    Kind("Zarr", is_zarr, open_zarr, files_of_zarr),
    Kind("video", is_video, open_video, lambda path: [path]),
    Kind("folder of images", is_folder_of_images, open_images, files_of_images),
)
"""All kinds, in the order in which they are tried."""


def kind_of(path: str | os.PathLike[str]) -> Kind | None:
    """Return which kind of stack a file, folder or pattern is, or None."""
    path = Path(path)
    try:
        if path.exists() and not path.is_file() and not path.is_dir():  # a pipe would wait
            return None
        return next((kind for kind in KINDS if kind.is_in(path)), None)
    except OSError:  # reading it reports why
        return None


def stack_kind(path: str | os.PathLike[str]) -> str | None:
    """Return the name of the kind of a stack, such as ``"TIFF"``, or None."""
    kind = kind_of(path)
    return None if kind is None else kind.name


def states_of_stack(path: Path) -> States:
    """Return the files that show whether a stack was replaced, with their states."""
    kind = kind_of(path)
    files = [path] if kind is None else kind.files(path)
    return tuple((str(file), state) for file in files if (state := file_state(file)))


def require_readable(path: str | os.PathLike[str]) -> None:
    """Check that a file is of no kind that is known to be unreadable here.

    Raises
    ------
    ValueError
        If it is; the message says what it is, and what to do.
    """
    if (what := what_to_do(Path(path))) is not None:
        raise ValueError(f"{path}: {what}")


@contextmanager
def open_stack(path: str | os.PathLike[str], num_cpus: int, choice: Choice = ANY) -> Iterator[Any]:
    """Open a stack and provide its images as an array, of which little is held.

    Parameters
    ----------
    path : str or path
        A file, folder or pattern of a kind that `kind_of` knows.
    num_cpus : int
        Threads that decode.
    choice : Choice
        Which of several stacks to take.

    Raises
    ------
    ImportError
        If the library that reads it is missing.
    ValueError
        If it holds several stacks and none is chosen, or no stack of three axes.
    OSError
        If it cannot be read, or was changed meanwhile.
    """
    kind = kind_of(path)
    if kind is None:
        raise ValueError(
            f"{path}: is no stack of images that sparsemed reads; expected TIFF, Zarr, a video, "
            "or a folder or pattern of images"
        )
    with kind.open(Path(path), num_cpus, choice) as images:
        yield images
