"""Stacks in TIFF files, page by page: BigTIFF, ImageJ, OME (also of several files) and the like."""

import re
import struct
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsemed.frames.choice import Choice, Frames, pick_frames
from sparsemed.frames.stacks.library import naming, require
from sparsemed.warned import warn

STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""First bytes of TIFF and BigTIFF files, in both byte orders."""

MOST_CHANNELS = 8
"""More channels are taken for frames: ImageJ and OME save images without axes as channels."""

LAYOUT_TAGS = (256, 257, 258, 259, 262, 266, 277, 278, 284, 317, 322, 323, 339)
"""Tags of TIFF on which decoding a page depends: width, height, bits, compression and the like."""

LISTED = 6
"""Number of series that an error lists."""


def is_tiff(path: Path) -> bool:
    """Whether a file begins like a TIFF."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(4) in STARTS


def count_pages(path: Path) -> int:
    """Return the number of images in a TIFF; 0 of another file, or if it cannot be read."""
    with suppress(Exception):  # reading it reports why
        if is_tiff(path):
            with require("tifffile", path, "TIFF").TiffFile(path) as file:
                return len(file.pages)
    return 0


def files_of_tiff(path: Path, choice: Choice) -> list[Path]:  # noqa: ARG001
    """Return the files that hold a TIFF: an OME-TIFF names the others in its metadata."""
    with suppress(Exception), require("tifffile", path, "TIFF").TiffFile(path) as file:
        names = set(re.findall(r'FileName="([^"]+)"', file.ome_metadata or ""))
        return [path, *sorted(path.with_name(name) for name in names - {path.name})]
    return [path]


@contextmanager
def open_tiff(path: Path, choice: Choice) -> Iterator[Any]:
    """Provide the frames of a TIFF as an array, of which little is held."""
    library = require("tifffile", path, "TIFF")
    choice.only(str(path), "series", "channel", "position")
    with ExitStack() as files:
        with naming(path):
            file = files.enter_context(library.TiffFile(path))
            images = _images(path, file, library, choice)
            if isinstance(images, TiffPages):
                images.keep_open()
        yield images


class TiffPages:
    """The pages of a TIFF, one frame each, as an array for `ArrayFrames`; decoded when sliced.

    Parameters
    ----------
    pages : list of tifffile.TiffPage
    path : Path
        For errors.
    within : tuple of int or slice
        The index into each page, such as a channel of a page in colour.

    Attributes
    ----------
    num_cpus : int
        Threads that decode.
    """

    def __init__(self, pages: list[Any], path: Path, within: tuple[int | slice, ...] = ()) -> None:
        self._page_shape = pages[0].shape
        size = np.empty(self._page_shape, bool)[within].shape
        self.shape = (len(pages), *size)
        self.dtype = np.dtype(pages[0].dtype)
        self._pages = pages
        self._path = path
        self.num_cpus = 1
        self._within = within
        self._lock = threading.RLock()  # pages of a file are read one after the other

    def __getitem__(self, frames: slice) -> NDArray[Any]:
        numbers = range(*frames.indices(len(self._pages)))
        out = np.empty((len(numbers), *self.shape[1:]), self.dtype)
        with ThreadPoolExecutor(self.num_cpus, "sparsemed-tiff") as pool:
            for _ in pool.map(self._decode, numbers, out):
                pass
        return out

    def keep_open(self) -> None:
        """Open the files of the pages: an OME-TIFF may have several, and closes all of them."""
        for file in {id(page.parent): page.parent for page in self._pages if page}.values():
            if file.filehandle.closed:
                file.filehandle.open()

    def _decode(self, number: int, out: NDArray[Any]) -> None:
        page = self._pages[number]
        if page is None or not sum(page.databytecounts):
            raise OSError(f"page {number} was never written; is the file complete?")
        page = self._by_itself(page)
        if (page.shape, page.dtype) != (self._page_shape, self.dtype):
            raise OSError(
                f"page {number} has shape {page.shape} and dtype {page.dtype}, but page 0 has "
                f"{self._page_shape} and {self.dtype}"
            )
        try:
            out[:] = page.asarray(lock=self._lock)[self._within]
        except Exception as error:  # a codec may raise anything
            raise OSError(f"page {number}: {error}") from error

    def _by_itself(self, page: Any) -> Any:
        """Return a page as its own tags describe it.

        tifffile reads the tags of the first page only, as pages are alike in most files.
        """
        if page is page.keyframe or not page.offset:
            return page
        with self._lock:
            if _layout(page) == _layout(page.keyframe):
                return page
            return page.aspage()


def _layout(page: Any) -> list[bytes | None]:
    """Return the tags on size, dtype and compression of a page, as stored."""
    file, tiff = page.parent.filehandle, page.parent.tiff
    file.seek(page.offset)
    (count,) = struct.unpack(tiff.tagnoformat, file.read(tiff.tagnosize))
    stored = file.read(count * tiff.tagsize)
    places = range(0, len(stored), tiff.tagsize)
    tags = {stored[at : at + 2]: stored[at : at + tiff.tagsize] for at in places}
    return [tags.get(struct.pack(f"{tiff.byteorder}H", code)) for code in LAYOUT_TAGS]


def _images(path: Path, file: Any, library: Any, choice: Choice) -> Any:
    """Return the frames of a TIFF as an array of three axes."""
    _require_whole(path, file)
    _tell_of_pages_left_out(path, file)
    if _are_single_pages(file.series) and choice.series is choice.position is None:
        if file.is_ome:
            warn(
                f"{path}: its {len(file.series)} series of one image each are taken as frames, in "
                "this order; if they are positions, this is wrong"
            )
        choice.only(str(path))
        return TiffPages([each.keyframe for each in file.series], path)
    number, choice = _series_number(path, file, choice)
    series = file.series[number]
    which = f", series={number}" if len(file.series) > 1 else ""
    name = f"tifffile.imread({str(path)!r}{which})"
    if series.ndim == 2:
        raise ValueError(
            f"{path}: is a single image; give the folder of all images, or a pattern such as "
            f"{path.with_name('*' + path.suffix)}; or make one array of many images, such as "
            "numpy.stack(list_of_images)"
        )
    axes = _axes_of_a_film(path, series)
    frames = pick_frames(axes, series.shape, choice, str(path), name)
    if series.dataoffset is not None:
        return frames.of(library.memmap(path, series=number, mode="r"))
    return _pages(path, series, frames, name)


def _axes_of_a_film(path: Path, series: Any) -> str:
    """Return the axes of a series; many channels are frames, written without names of axes."""
    axes: str = series.axes
    if axes == "CYX" and series.shape[0] > MOST_CHANNELS:
        warn(f"{path}: its {series.shape[0]} channels are taken as frames; no axis is named time")
        return "TYX"
    return axes


def _are_single_pages(series: Any) -> bool:
    """Whether each series is one image, as some programs write frame by frame."""
    first = series[0]
    return len(series) > 1 and all(
        each.ndim == 2 and (each.shape, each.dtype) == (first.shape, first.dtype) for each in series
    )


def _series_number(path: Path, file: Any, choice: Choice) -> tuple[int, Choice]:
    """Return the number of the chosen series, and the choice that is left within it."""
    count = len(file.series)
    number, what = choice.series, "series"
    if number is None and choice.position is not None and count > 1:
        number, what = choice.position, "position"  # OME keeps each as a series
        choice = choice._replace(position=None)
    if number is None and count == 1:
        number = 0
    if number is None:
        listed = "; ".join(
            f"{place}: {' × '.join(map(str, each.shape))} {each.axes} {each.dtype}"
            for place, each in enumerate(file.series[:LISTED])
        )
        more = f"; and {count - LISTED} more" if count > LISTED else ""
        raise ValueError(
            f"{path}: holds {count} series of images ({listed}{more}); choose series=0 to "
            f"series={count - 1}, or hand over an array, such as "
            f"tifffile.imread({str(path)!r}, series=0)"
        )
    if not 0 <= number < count:
        raise ValueError(f"{path}: there is no {what}={number}; choose from 0 to {count - 1}")
    return number, choice._replace(series=None)


def _pages(path: Path, series: Any, frames: Frames, name: str) -> TiffPages:
    """Return the chosen pages, in the order of time."""
    across = series.keyframe.ndim
    outer = series.shape[: series.ndim - across]
    count = max(1, int(np.prod(outer)))
    within = frames.entries[series.ndim - across :]
    if series.shape[series.ndim - across :] != series.keyframe.shape or frames.order != (0, 1, 2):
        raise ValueError(
            f"{path}: its pages, of shape {series.keyframe.shape}, are not frames; hand over an "
            f"array of frames that you make from {name}"
        )
    pages = list(series.pages)
    if len(pages) != count:
        raise OSError(f"{path}: holds {len(pages)} pages instead of {count}; is the file complete?")
    numbers = np.arange(count).reshape(outer)[frames.entries[: len(outer)]]
    return TiffPages([pages[number] for number in numbers.tolist()], path, within)


def _require_whole(path: Path, file: Any) -> None:
    """Check that the last page is marked as the last: tifffile does not tell of missing pages."""
    if not len(file.pages):
        raise OSError(f"{path}: holds no images; copy it again")
    handle, size = file.filehandle, file.tiff.offsetsize
    handle.seek(file.pages.next_page_offset)
    after = handle.read(size)
    if len(after) < size or any(after):
        raise OSError(
            f"{path}: is cut off or damaged after page {len(file.pages) - 1}; copy it again"
        )


def _tell_of_pages_left_out(path: Path, file: Any) -> None:
    """Warn if the metadata, such as those of OME or ImageJ, tell of fewer images than there are."""
    levels = [level for series in file.series for level in series.levels]
    told = sum(int(np.prod(each.shape[: each.ndim - each.keyframe.ndim])) for each in levels)
    if told < len(file.pages):
        warn(
            f"{path}: its metadata tell of {told} images, but it holds {len(file.pages)}; the "
            f"others are left out. If they are frames, hand over an array, such as "
            f"tifffile.imread({str(path)!r}, key=range({len(file.pages)}))"
        )
