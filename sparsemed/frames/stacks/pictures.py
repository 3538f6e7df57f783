"""Single images, one file a frame: of a folder, or of a pattern such as ``img_*.tif``."""

import glob
import logging
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsemed.frames.choice import Choice
from sparsemed.frames.stacks import tiff
from sparsemed.frames.stacks.library import naming, require
from sparsemed.warned import warn

logger = logging.getLogger(__name__)

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff")
"""Endings of images that are read."""

LEAST_IMAGES = 10
"""Fewer images in a folder or pattern are not taken for a recording."""

LISTED = 4
"""Number of kinds of names that an error lists."""


def is_folder_of_images(path: Path) -> bool:
    """Whether a folder holds images and no measurements, or a pattern matches images."""
    if path.is_dir():
        names = [entry.name for entry in os.scandir(path)]
        return any(map(_is_image, names)) and not any(n.lower().endswith(".rtdc") for n in names)
    return glob.has_magic(str(path)) and not path.exists() and bool(images_in(path))


def images_in(path: Path) -> list[Path]:
    """Return the images of a folder or pattern, in natural order."""
    if path.is_dir():
        found = [Path(entry.path) for entry in os.scandir(path)]
    else:
        folder, pattern = path.parent, path.name
        if not folder.is_dir():  # otherwise, brackets in its name are no pattern
            folder, pattern = Path(), str(path)
        found = [folder / name for name in glob.glob(pattern, root_dir=folder)]
    files = (file.absolute() for file in found if _is_image(file.name) and file.is_file())
    return sorted(files, key=lambda file: natural_order(str(file)))


@contextmanager
def open_images(path: Path, num_cpus: int, choice: Choice) -> Iterator[Any]:
    """Provide the images of a folder or pattern as an array, of which little is held."""
    choice.only(str(path), "channel")
    files = images_in(path)
    logger.info(
        "%s: %d images in natural order, from %s to %s",
        path,
        len(files),
        files[0].name,
        files[-1].name,
    )
    yield ImageFiles(files, path, num_cpus, choice.channel)


def natural_order(name: str) -> list[tuple[int, int | str]]:
    """Return a sort key for natural order: img2 before img10.

    Examples
    --------
    >>> sorted(["img10.tif", "img2.tif"], key=natural_order)
    ['img2.tif', 'img10.tif']
    """
    parts = re.split(r"(\d+)", name.lower())
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in parts]


class ImageFiles:
    """Single images as an array for `ArrayFrames`, read when sliced.

    Parameters
    ----------
    files : list of Path
        The images, in the order of time.
    path : Path
        Folder or pattern, for errors.
    num_cpus : int
        Threads that read.
    channel : int, optional
        Which colour to take from images in colour.

    Attributes
    ----------
    files : list of Path
    """

    def __init__(
        self, files: list[Path], path: Path, num_cpus: int, channel: int | None = None
    ) -> None:
        _require_recording(files, path)
        self.files = files
        self._num_cpus = num_cpus
        self._channel = channel
        first = self._read(files[0])
        self.shape = (len(files), *first.shape)
        self.dtype = first.dtype

    def __getitem__(self, frames: slice) -> NDArray[Any]:
        numbers = range(*frames.indices(len(self.files)))
        out = np.empty((len(numbers), *self.shape[1:]), self.dtype)
        with ThreadPoolExecutor(self._num_cpus, "sparsemed-images") as pool:
            for _ in pool.map(self._fill, numbers, out):
                pass
        return out

    def _fill(self, number: int, out: NDArray[Any]) -> None:
        file = self.files[number]
        image = self._read(file)
        if (image.shape, image.dtype) != (self.shape[1:], self.dtype):
            raise OSError(
                f"{file}: has shape {image.shape} and dtype {image.dtype}, but {self.files[0]} has "
                f"{self.shape[1:]} and {self.dtype}"
            )
        out[:] = image

    def _read(self, file: Path) -> NDArray[Any]:
        with naming(file):
            image = _decode(file)
            return _one_channel(image, self._channel, file)


def _decode(file: Path) -> NDArray[Any]:
    """Return the image in a file, with all its axes."""
    if tiff.is_tiff(file):
        with require("tifffile", file, "TIFF").TiffFile(file) as opened:
            if len(opened.pages) > 1:
                raise ValueError(
                    f"{file}: holds {len(opened.pages)} images, not one; hand over a stack by its "
                    "own path"
                )
            image: NDArray[Any] = opened.asarray()
            return image
    import imagecodecs

    data = file.read_bytes()
    if data.startswith(b"BM"):
        return np.asarray(imagecodecs.bmp_decode(data))
    if data.startswith(b"\x89PNG"):
        return np.asarray(imagecodecs.png_decode(data))
    if data.startswith(b"\xff\xd8"):
        return np.asarray(imagecodecs.jpeg_decode(data))
    raise OSError(f"{file}: cannot be read as an image")


def _one_channel(image: NDArray[Any], channel: int | None, file: Path) -> NDArray[Any]:
    """Return an image in grey; one in colour must have equal colours, or a chosen channel."""
    if image.ndim == 3 and image.shape[-1] == 1:
        image = image[..., 0]
    if image.ndim == 2 and channel is None:
        return image
    if image.ndim != 3 or image.shape[-1] > 4:
        raise ValueError(f"{file}: holds images of shape {image.shape}; there is no channel in it")
    if channel is None:
        colours = image[..., :3] if image.shape[-1] > 2 else image[..., :1]
        if (colours != colours[..., :1]).any():
            raise ValueError(
                f"{file}: is in colour, of shape {image.shape}; choose channel=0 to "
                f"channel={image.shape[-1] - 1}"
            )
        channel = 0
    if not 0 <= channel < image.shape[-1]:
        raise ValueError(
            f"{file}: there is no channel={channel}; choose from 0 to {image.shape[-1] - 1}"
        )
    return np.ascontiguousarray(image[..., channel])


def _is_image(name: str) -> bool:
    return not name.startswith(".") and name.lower().endswith(SUFFIXES)


def _require_recording(files: Sequence[Path], path: Path) -> None:
    """Check that images can be one recording: enough of them, of one kind."""
    _require_one_kind(files, path)
    if len(files) < LEAST_IMAGES:
        how = "tifffile.imread" if tiff.is_tiff(files[0]) else "imageio.v3.imread"
        raise ValueError(
            f"{path}: holds only {len(files)} images ({files[0].name}, …); if they are a "
            "recording, hand over an array, such as "
            f"numpy.stack([{how}(path) for path in {[str(file) for file in files]!r}])"
        )


def _require_one_kind(files: Sequence[Path], path: Path) -> None:
    """Check that names differ only by numbers, and by no number of a channel or the like."""
    kinds = Counter(re.sub(r"\d+", "#", file.name.lower()) for file in files)
    if len(kinds) > 1:
        listed = ", ".join(f"{count} of {kind}" for kind, count in kinds.most_common(LISTED))
        raise ValueError(
            f"{path}: holds images with {len(kinds)} kinds of names ({listed}); give a pattern "
            f"that matches only the frames, such as {_pattern(files[0], path)}"
        )
    numbers = zip(*(re.findall(r"\d+", file.name) for file in files), strict=True)
    varying = sum(len(set(each)) > 1 for each in numbers)
    for what, names in _NUMBERED.items() if varying > 1 else ():
        values = {found.group(1) for f in files if (found := re.search(names, f.name, re.I))}
        if len(values) > 1:
            found = re.search(names, files[0].name, re.I)
            assert found is not None
            begin, end = found.span()
            place = (path if path.is_dir() else path.parent) / (
                f"*{files[0].name[begin:end]}*{files[0].suffix}"
            )
            raise ValueError(
                f"{path}: holds images of {len(values)} {what}s ({', '.join(sorted(values)[:5])}); "
                f"give a pattern of one of them, such as {place}"
            )
    _tell_gaps(files, path)


_NUMBERED = {
    "channel": r"(?<![a-z])(?:channel|chan|ch|c|w)[-_]?(\d+)(?!\d)",
    "position": r"(?<![a-z])(?:position|pos|p|xy|fov)[-_]?(\d+)(?!\d)",
    "plane": r"(?<![a-z])(?:z|slice)[-_]?(\d+)(?!\d)",
}
"""Patterns of the number of a channel and the like in names of images."""


def _tell_gaps(files: Sequence[Path], path: Path) -> None:
    """Warn if images are missing, by the last number in their names."""
    last = [int(numbers[-1]) for f in files if (numbers := re.findall(r"\d+", f.stem))]
    if len(last) < len(files) or len(last) < 3:
        return
    steps = np.diff(last)
    usual = int(np.median(steps))
    where = np.flatnonzero(steps > usual)
    if usual >= 1 and (steps % usual == 0).all() and 0 < len(where) <= len(steps) // 10 + 1:
        first = int(where[0])
        warn(
            f"{path}: images are missing {len(where)} times, first between {files[first].name} and "
            f"{files[first + 1].name}; with a frame rate, later images get times that are too early"
        )


def _pattern(file: Path, path: Path) -> Path:
    """Return a pattern for images with names like this one."""
    folder = path if path.is_dir() else path.parent
    return folder / re.sub(r"\d+(?=\D*$)", "*", file.name)
