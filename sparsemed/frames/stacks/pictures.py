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
"""Images of a folder or pattern below which they are taken for pictures rather than frames."""

LISTED = 4
"""Kinds of names that are listed."""


def is_folder_of_images(path: Path) -> bool:
    """Whether a folder holds images, or a pattern stands for some; and no measurements."""
    if path.is_dir():
        names = [entry.name for entry in os.scandir(path)]
        return any(map(_is_image, names)) and not any(n.lower().endswith(".rtdc") for n in names)
    return glob.has_magic(str(path)) and not path.exists() and bool(files_of_images(path))


def files_of_images(path: Path) -> list[Path]:
    """Return the images of a folder or pattern, in natural order."""
    if path.is_dir():
        found = [Path(entry.path) for entry in os.scandir(path) if _is_image(entry.name)]
    else:
        found = [Path(name) for name in glob.glob(str(path)) if _is_image(Path(name).name)]
    return sorted((file for file in found if file.is_file()), key=lambda f: natural_order(str(f)))


@contextmanager
def open_images(path: Path, num_cpus: int, choice: Choice) -> Iterator[Any]:
    """Provide the images of a folder or pattern as an array, of which little is held."""
    choice.only(str(path), "channel")
    files = files_of_images(path)
    logger.info(
        "%s: %d images in natural order, from %s to %s",
        path,
        len(files),
        files[0].name,
        files[-1].name,
    )
    yield ImageFiles(files, path, num_cpus, choice.channel)


def natural_order(name: str) -> list[tuple[int, int | str]]:
    """Return what sorts names as people do: img2 before img10.

    Examples
    --------
    >>> sorted(["img10.tif", "img2.tif"], key=natural_order)
    ['img2.tif', 'img10.tif']
    """
    parts = re.split(r"(\d+)", name.lower())
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in parts]


class ImageFiles:
    """Single images as what `ArrayFrames` takes: read when asked for.

    Parameters
    ----------
    files : list of Path
        The images, in the order of time.
    path : Path
        Folder or pattern, for errors.
    num_cpus : int
        Threads that read.
    channel : int, optional
        Which colour counts, of images in colour.

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
                f"{file}: is of shape {image.shape} and dtype {image.dtype}, but {self.files[0]} "
                f"of {self.shape[1:]} and {self.dtype}"
            )
        out[:] = image

    def _read(self, file: Path) -> NDArray[Any]:
        with naming(file):
            image = _decode(file)
            return _one_channel(image, self._channel, file)


def _decode(file: Path) -> NDArray[Any]:
    """Return what is in a file, with whatever axes it has."""
    if tiff.is_tiff(file):
        with require("tifffile", file, "TIFF").TiffFile(file) as opened:
            if len(opened.pages) > 1:
                raise ValueError(
                    f"{file}: holds {len(opened.pages)} images, and not one; a stack is handed "
                    "over by its own path"
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
    """Return an image in grey, which may be stored in colours that are all the same."""
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
                f"{file}: is in colour, of shape {image.shape}; say which channel is meant, "
                f"channel=0 to channel={image.shape[-1] - 1}"
            )
        channel = 0
    if not 0 <= channel < image.shape[-1]:
        raise ValueError(f"{file}: channel={channel} is not there; it has {image.shape[-1]}")
    return np.ascontiguousarray(image[..., channel])


def _is_image(name: str) -> bool:
    return not name.startswith(".") and name.lower().endswith(SUFFIXES)


def _require_recording(files: Sequence[Path], path: Path) -> None:
    """Check that images can be one recording: they are enough, and of one kind."""
    _require_one_kind(files, path)
    if len(files) < LEAST_IMAGES:
        how = "tifffile.imread" if tiff.is_tiff(files[0]) else "imageio.v3.imread"
        raise ValueError(
            f"{path}: holds {len(files)} images ({files[0].name}, …), hardly a recording; if they "
            "are one, hand over a stack of them, such as "
            f"numpy.stack([{how}(path) for path in {[str(file) for file in files]!r}])"
        )


def _require_one_kind(files: Sequence[Path], path: Path) -> None:
    """Check that names differ by numbers alone, and by none that tells channels apart."""
    kinds = Counter(re.sub(r"\d+", "#", file.name.lower()) for file in files)
    if len(kinds) > 1:
        listed = ", ".join(f"{count} of {kind}" for kind, count in kinds.most_common(LISTED))
        raise ValueError(
            f"{path}: holds images with {len(kinds)} kinds of names ({listed}); which are frames? "
            f"Give a pattern that fits those alone, such as {_pattern(files[0], path)}"
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
"""How names of images tell the number of a channel and so on."""


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
            f"{files[first + 1].name}; with a frame rate, what follows counts as recorded earlier"
        )


def _pattern(file: Path, path: Path) -> Path:
    """Return a pattern for images that are called like one."""
    folder = path if path.is_dir() else path.parent
    return folder / re.sub(r"\d+(?=\D*$)", "*", file.name)
