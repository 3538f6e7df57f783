"""Stacks of images in files: one module for each kind, and the table of kinds.

A stack is read as an array, of which little is held; `foreign` has advice on all other files.
May import `storage`, `frames.choice`, `frames.shapes`, and what imports nothing of ours.
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from sparsemed.frames.choice import ANY, Choice
from sparsemed.frames.stacks.foreign import is_of_unknown_kind
from sparsemed.frames.stacks.foreign import what_to_do as what_to_do
from sparsemed.frames.stacks.pictures import images_in, is_folder_of_images, open_images
from sparsemed.frames.stacks.tiff import files_of_tiff, is_tiff, open_tiff
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
        ``is_in(path)`` tells whether a file, folder or pattern holds this kind. It opens nothing
        else, as a pipe would wait.
    open : callable
        ``open(path, choice)`` provides its frames as an array. If it has an attribute
        `num_cpus`, it decodes in so many threads; 1 until `open_stack` sets it.
    files : callable
        ``files(path, choice)`` returns the files that hold the chosen stack: their states show
        whether it was replaced.
    """

    name: str
    is_in: Callable[[Path], bool]
    open: Callable[[Path, Choice], AbstractContextManager[Any]]
    files: Callable[[Path, Choice], list[Path]]


KINDS = (
    Kind("TIFF", is_tiff, open_tiff, files_of_tiff),
    Kind("Zarr", is_zarr, open_zarr, files_of_zarr),
    Kind("video", is_video, open_video, lambda path, _: [path]),
    Kind("folder of images", is_folder_of_images, open_images, lambda path, _: images_in(path)),
)
"""All kinds, in the order in which they are tried."""

MOST_STATES = 100
"""States of more files are kept as a digest: they are sent to workers."""


def kind_of(path: str | os.PathLike[str]) -> Kind | None:
    """Return which kind of stack a file, folder or pattern is, or None."""
    path = Path(path)
    try:
        return next((kind for kind in KINDS if kind.is_in(path)), None)
    except OSError:  # reading it reports why
        return None


def stack_kind(path: str | os.PathLike[str]) -> str | None:
    """Return the name of the kind of a stack, such as ``"TIFF"``, or None."""
    kind = kind_of(path)
    return None if kind is None else kind.name


def files_of_stack(path: Path, choice: Choice = ANY) -> list[Path]:
    """Return the files that hold a stack."""
    kind = kind_of(path)
    return [path] if kind is None else kind.files(path, choice)


def states_of_stack(path: Path, choice: Choice = ANY) -> States:
    """Return the files that hold a stack, with their states; a digest of them if they are many."""
    files = files_of_stack(path, choice)
    states = tuple((str(file), state) for file in files if (state := file_state(file)))
    if len(states) <= MOST_STATES:
        return states
    return ((str(path), (hashlib.sha256(repr(states).encode()).hexdigest(),)),)


def require_readable(path: str | os.PathLike[str]) -> None:
    """Check that a file is of no kind that is known to be unreadable here.

    Raises
    ------
    ValueError
        If it is; the message says what it is, and what to do.
    """
    if (what := what_to_do(Path(path))) is not None:
        raise ValueError(f"{path}: {what}")
    if kind_of(path) is None and is_of_unknown_kind(Path(path)):
        raise ValueError(
            f"{path}: is neither a measurement (HDF5) nor a stack of images of a known kind; hand "
            "over an array of frames"
        )


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
    place = Path(path).absolute()  # the working folder may change
    before = states_of_stack(place, choice)
    with kind.open(Path(path), choice) as images:
        if hasattr(images, "num_cpus"):
            images.num_cpus = num_cpus
        yield images
    if states_of_stack(place, choice) != before:
        raise OSError(f"{path}: was changed by another program while its frames were read")
