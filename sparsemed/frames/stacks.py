"""Stacks of images in files: TIFF and Zarr, read bit by bit where the library for it is there."""

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsemed.frames.shapes import COLOURS, what_fits
from sparsemed.install_hint import how_to_install
from sparsemed.storage.stored import file_state

TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""How files begin that are TIFF, or BigTIFF, in either byte order."""

ZARR_FILES = ("zarr.json", ".zarray", ".zgroup")
"""Files of which a folder has one if it is an array or group of Zarr's."""

_VIDEO = "numpy.stack([frame[..., 0] for frame in imageio.v3.imiter({0!r}, plugin='pyav')])"

_IMAGES = "numpy.stack([imageio.v3.imread(path) for path in paths])"

HAND_OVER = (
    {
        ".npy": "numpy.load({0!r}, mmap_mode='r')",
        ".npz": "numpy.load({0!r})['images']",
    }
    | dict.fromkeys(
        (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv"), _VIDEO
    )
    | dict.fromkeys((".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp"), _IMAGES)
)
"""By the endings of files that are not read here, what makes an array of them."""


def stack_kind(path: str | os.PathLike[str]) -> str | None:
    """Return what kind of stack a file or folder is: ``"TIFF"``, ``"Zarr"``, or None."""
    if os.path.isdir(path):
        is_zarr = any(os.path.isfile(os.path.join(path, name)) for name in ZARR_FILES)
        return "Zarr" if is_zarr or Path(path).suffix == ".zarr" else None
    if not os.path.isfile(path):  # a pipe would wait
        return None
    try:
        with open(path, "rb") as file:
            return "TIFF" if file.read(4) in TIFF_STARTS else None
    except OSError:
        return None


def require_readable(path: str | os.PathLike[str]) -> None:
    """Check that a file is of no kind that nobody here can read.

    Raises
    ------
    ValueError
        If it is a video, a picture, or an array of NumPy's; the message says what to hand over.
    """
    hand_over = HAND_OVER.get(Path(path).suffix.lower())
    if hand_over is not None and os.path.isfile(path):
        raise ValueError(
            f"{path}: is not read by sparsemed; hand over an array, such as "
            f"{hand_over.format(str(path))}"
        )


@contextmanager
def open_stack(path: str | os.PathLike[str], num_cpus: int) -> Iterator[Any]:
    """Open a TIFF or Zarr stack and provide its images as an array, of which little is held.

    Parameters
    ----------
    path : str or path
        What `stack_kind` knows.
    num_cpus : int
        Threads that decode pages of a TIFF.

    Raises
    ------
    ImportError
        If the library that reads it is missing.
    ValueError
        If it holds several stacks, or none of three axes.
    OSError
        If it cannot be read, or was changed meanwhile.
    """
    kind, path = stack_kind(path), Path(path)
    package = "tifffile" if kind == "TIFF" else "zarr"
    try:
        library = import_module(package)
    except ImportError as error:
        raise ImportError(
            f"{path}: to read {kind} takes {package} ({error}): {how_to_install(package)}"
        ) from error
    if kind == "Zarr":
        yield _zarr_array(path, library)
        return
    before = file_state(path)
    with ExitStack() as files:
        with _naming(path):
            file = files.enter_context(library.TiffFile(path))
            images = _tiff_images(path, file, library, num_cpus)
            if isinstance(images, TiffPages):
                images.keep_open(files)
        yield images
    if file_state(path) != before:
        raise OSError(f"{path}: was changed by another program while its frames were read")


class TiffPages:
    """The pages of a TIFF, a frame each, as what `ArrayFrames` takes: decoded when asked for.

    Parameters
    ----------
    pages : list of tifffile.TiffPage
    path : Path
        For errors.
    num_cpus : int
        Threads that decode.
    """

    def __init__(self, pages: list[Any], path: Path, num_cpus: int) -> None:
        self.shape = (len(pages), *pages[0].shape)
        self.dtype = np.dtype(pages[0].dtype)
        self._pages = pages
        self._path = path
        self._num_cpus = num_cpus
        self._lock = threading.RLock()  # files are read one page after another

    def __getitem__(self, frames: slice) -> NDArray[Any]:
        numbers = range(*frames.indices(len(self._pages)))
        out = np.empty((len(numbers), *self.shape[1:]), self.dtype)
        with ThreadPoolExecutor(self._num_cpus, "sparsemed-tiff") as pool:
            for _ in pool.map(self._decode, numbers, out):
                pass
        return out

    def keep_open(self, files: ExitStack) -> None:
        """Open the files that pages are in (of OME-TIFF there may be several) until `files` end."""
        for file in {id(page.parent): page.parent for page in self._pages if page}.values():
            if file.filehandle.closed:
                file.filehandle.open()
                files.callback(file.filehandle.close)

    def _decode(self, number: int, out: NDArray[Any]) -> None:
        page = self._pages[number]
        if page is None or not sum(page.databytecounts):
            raise OSError(f"page {number} was never written; is the file complete?")
        if (page.shape, page.dtype) != (self.shape[1:], self.dtype):
            raise OSError(f"page {number} is of shape {page.shape} and dtype {page.dtype}")
        try:
            out[:] = page.asarray(lock=self._lock)
        except Exception as error:  # whatever a codec may raise
            raise OSError(f"page {number}: {error}") from error


def _tiff_images(path: Path, file: Any, library: Any, num_cpus: int) -> Any:
    """Return the images of a TIFF as an array of three axes."""
    _require_whole(path, file)
    series = file.series
    name = f"tifffile.imread({str(path)!r})"
    first = series[0]
    if len(series) == 1 and first.ndim != 3:
        raise ValueError(
            f"{path}: holds images of shape {first.shape} (axes {first.axes}), and not "
            f"(N, H, W){what_fits(first.shape, name)}"
        )
    size = first.keyframe.shape
    # Who writes frame by frame may make a series of each.
    if any(each.keyframe.shape != size or each.dtype != first.dtype for each in series):
        shapes = ", ".join(str(each.shape) for each in series[:4])
        raise ValueError(
            f"{path}: holds {len(series)} series of images ({shapes}); hand over one of them, such "
            f"as tifffile.imread({str(path)!r}, series=0)"
        )
    if len(size) != 2:
        hand_over = "one channel of many images" if size[-1] in COLOURS else f"an array, {name}"
        raise ValueError(f"{path}: holds pages of shape {size}; hand over {hand_over}")
    if len(series) == 1 and first.dataoffset is not None:
        return library.memmap(path, mode="r")
    pages = [page for each in series for page in each.pages]
    if len(pages) != sum(max(1, int(np.prod(each.shape[:-2]))) for each in series):
        raise OSError(f"{path}: holds fewer pages than it says; is the file complete?")
    return TiffPages(pages, path, num_cpus)


def _require_whole(path: Path, file: Any) -> None:
    """Check that the last page is said to be the last one: if pages are missing, nobody tells."""
    handle, size = file.filehandle, file.tiff.offsetsize
    handle.seek(file.pages.next_page_offset)
    after = handle.read(size)
    if len(after) < size or any(after):
        raise OSError(
            f"{path}: is cut off or damaged after page {len(file.pages) - 1}; copy it again"
        )


def _zarr_array(path: Path, zarr: Any) -> Any:
    """Return the array of Zarr's at a path."""
    with _naming(path):
        found = zarr.open(path, mode="r")
        names = sorted(found.array_keys()) if hasattr(found, "array_keys") else None
    if names is not None:
        listed = ", ".join(names[:5]) or "none at its first level"
        raise ValueError(
            f"{path}: is a group of arrays ({listed}); give the path of one of them, such as "
            f"{path / (names[0] if names else 'NAME')}"
        )
    if len(found.shape) != 3:
        name = f"zarr.open({str(path)!r}, mode='r')"
        raise ValueError(
            f"{path}: holds images of shape {found.shape}, and not (N, H, W)"
            f"{what_fits(found.shape, name)}"
        )
    return found


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turn what a library raises on files that it cannot read into an OSError that names them."""
    try:
        yield
    except (MemoryError, KeyboardInterrupt):
        raise
    except Exception as error:
        if str(path) in str(error):
            raise
        raise OSError(f"{path}: cannot be read ({error})") from error
