"""Single images, one file a frame: of a folder, or of a pattern such as ``img_*.tif``."""

import fnmatch
import glob
import logging
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsemed.frames.choice import Choice
from sparsemed.frames.stacks import tiff
from sparsemed.frames.stacks.foreign import by_its_begin, to_missing_file
from sparsemed.frames.stacks.library import naming, require
from sparsemed.warned import warn

logger = logging.getLogger(__name__)

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff")
"""Endings of images that are read."""

LEAST_IMAGES = 10
"""Fewer images in a folder or pattern are not taken for a recording."""

CMYK = 5
"""How TIFF marks images of four inks."""

OF_INKS = "is in colours of four inks (CMYK), not of light; convert it to grey"
"""What is said about such an image."""

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
    images = (file for file in found if _is_image(file.name))
    # Reading a link to a missing file reports the error.
    files = (file.absolute() for file in images if file.is_file() or file.is_symlink())
    return sorted(files, key=lambda file: natural_order(str(file)))


@contextmanager
def open_images(path: Path, choice: Choice) -> Iterator[Any]:
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
    yield ImageFiles(files, path, choice.channel)


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
    channel : int, optional
        Which colour to take from images in colour.

    Attributes
    ----------
    files : list of Path
    num_cpus : int
        Threads that read.
    """

    def __init__(self, files: list[Path], path: Path, channel: int | None = None) -> None:
        _require_recording(files, path)
        self.files = files
        self.num_cpus = 1
        self._channel = channel
        first = self._read(files[0])
        self.shape = (len(files), *first.shape)
        self.dtype = first.dtype

    def __getitem__(self, frames: slice) -> NDArray[Any]:
        numbers = range(*frames.indices(len(self.files)))
        out = np.empty((len(numbers), *self.shape[1:]), self.dtype)
        with ThreadPoolExecutor(self.num_cpus, "sparsemed-images") as pool:
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
    if (missing := to_missing_file(file)) is not None:
        raise OSError(f"{file}: {missing}")
    if tiff.is_tiff(file):
        with require("tifffile", file, "TIFF").TiffFile(file) as opened:
            if len(opened.pages) > 1:
                raise ValueError(
                    f"{file}: holds {len(opened.pages)} images, not one; hand over a stack by its "
                    "own path"
                )
            page = opened.pages.first
            if page.photometric == CMYK:
                raise ValueError(f"{file}: {OF_INKS}")
            image: NDArray[Any] = page.asarray()  # that of the file may be of many files (OME)
            return image
    import imagecodecs

    data = file.read_bytes()
    if data.startswith(b"BM"):
        return np.asarray(imagecodecs.bmp_decode(data))
    if data.startswith(b"\x89PNG"):
        return np.asarray(imagecodecs.png_decode(data))
    if data.startswith(b"\xff\xd8"):
        if data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda"):  # decoders fill up what is missing
            raise OSError(f"{file}: is cut off; copy it again from its origin")
        image = np.asarray(imagecodecs.jpeg_decode(data))
        if image.shape[2:] == (4,):
            raise ValueError(f"{file}: {OF_INKS}")
        return image
    raise OSError(f"{file}: {by_its_begin(file) or 'cannot be read as an image'}")


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
    _require_single(files, path)
    _require_one_kind(files, path)
    if len(files) < LEAST_IMAGES:
        how = "tifffile.imread" if tiff.is_tiff(files[0]) else "imageio.v3.imread"
        raise ValueError(
            f"{path}: holds only {len(files)} images ({files[0].name}, …); if they are a "
            "recording, hand over an array, such as "
            f"numpy.stack([{how}(path) for path in {[str(file) for file in files]!r}])"
        )


def _require_single(files: Sequence[Path], path: Path) -> None:
    """Check that files are no stacks, by the first of the most common kind."""
    (most, _), *_ = Counter(map(_kind_of_name, files)).most_common(1)
    file = next(file for file in files if _kind_of_name(file) == most)
    if (count := tiff.count_pages(file)) > 1:
        raise ValueError(
            f"{path}: {file.name} holds {count} images, so these are stacks, not single images; "
            "hand over each by its own path (on the command line, a pattern without quotes, such "
            f"as {file.parent / f'*{file.suffix}'})"
        )


def _require_one_kind(files: Sequence[Path], path: Path) -> None:
    """Check that images are of one recording: one folder, and names that differ only by numbers."""
    folders = list(dict.fromkeys(file.parent for file in files))
    if len(folders) > 1:
        listed = ", ".join(map(str, folders[:LISTED])) + (", …" if len(folders) > LISTED else "")
        raise ValueError(
            f"{path}: matches images in {len(folders)} folders ({listed}); give a pattern of one "
            f"of them, such as {folders[0] / path.name}"
        )
    kinds = Counter(_kind_of_name(file) for file in files)
    if len(kinds) > 1:
        listed = ", ".join(f"{count} of {kind}" for kind, count in kinds.most_common(LISTED))
        most, _ = kinds.most_common(1)[0]
        of_frames = [file for file in files if _kind_of_name(file) == most]
        raise ValueError(
            f"{path}: holds images with {len(kinds)} kinds of names ({listed}); give a pattern "
            f"that matches only the frames, such as {_pattern(of_frames, files, path)}"
        )
    for one, other in pairwise(files):
        if natural_order(one.name) == natural_order(other.name):
            raise ValueError(
                f"{path}: {one.name} and {other.name} have the same number, so that their order "
                "is unclear; rename them, with as many digits in each"
            )
    numbers = _numbers(files)
    varying = np.flatnonzero((numbers != numbers[0]).any(axis=0))
    for what, names in _NUMBERED.items() if len(varying) > 1 else ():
        of_value: dict[str, list[Path]] = {}
        for file in files:
            if found := re.search(names, file.name, re.IGNORECASE):
                of_value.setdefault(found.group(1), []).append(file)
        if len(of_value) > 1:
            listed = ", ".join(sorted(of_value)[:5])
            wanted = next(iter(of_value.values()))
            raise ValueError(
                f"{path}: holds images of {len(of_value)} {what}s ({listed}); give a pattern of "
                f"one of them, such as {_pattern(wanted, files, path)}"
            )
    if len(varying) and not _tell_new_start(numbers[:, varying], files, path):
        _tell_gaps(numbers[:, varying[-1]], files, path)


def _kind_of_name(file: Path) -> str:
    """Return a name with # for each number."""
    return re.sub(r"\d+", "#", file.name.lower())


def _numbers(files: Sequence[Path]) -> NDArray[np.object_]:
    """Return the numbers in names of one kind, a row for each; they may have any length."""
    rows = [[int(number) for number in re.findall(r"\d+", file.name)] for file in files]
    return np.array(rows, object)


_NUMBERED = {
    "channel": r"(?<![a-z])(?:channel|chan|ch|c|w)[-_]?(\d+)(?!\d)",
    "position": r"(?<![a-z])(?:position|pos|p|xy|fov)[-_]?(\d+)(?!\d)",
    "plane": r"(?<![a-z])(?:z|slice)[-_]?(\d+)(?!\d)",
}
"""Patterns of the number of a channel and the like in names of images."""


_CLOCK = r"(?<!\d)([01]\d|2[0-3])[-_.h]?[0-5]\d[-_.m]?[0-5]\d(?!\d)"
"""Pattern of a time of day in names of images."""


def _tell_new_start(numbers: NDArray[np.object_], files: Sequence[Path], path: Path) -> bool:
    """Warn if the last number starts anew, as in names of several recordings, and return whether.

    After a time of day, fractions of a second start anew.
    """
    starts = np.flatnonzero(numbers[1:, -1] < numbers[:-1, -1]) + 1
    if not len(starts) or all(re.search(_CLOCK, file.name) for file in files):
        return bool(len(starts))
    first = int(starts[0])
    wanted = files[:first]
    if len(starts) + 1 > len(set(numbers[:, -1].tolist())):  # as of two cameras in turn
        wanted = [
            file for file, row in zip(files, numbers, strict=True) if row[-1] == numbers[0, -1]
        ]
    warn(
        f"{path}: the numbers of images start anew {len(starts)} times, first after "
        f"{files[first - 1].name} with {files[first].name}; if these are several recordings, give "
        f"a pattern of one, such as {_pattern(wanted, files, path)}"
    )
    return True


def _tell_gaps(numbers: NDArray[np.object_], files: Sequence[Path], path: Path) -> None:
    """Warn if images are missing, by the last number that differs in their names."""
    if len(files) < 3:
        return
    steps = np.diff(numbers)
    usual = int(np.median(steps))
    where = np.flatnonzero(steps > usual)
    if usual >= 1 and (steps % usual == 0).all() and 0 < len(where) <= len(steps) // 10 + 1:
        first = int(where[0])
        warn(
            f"{path}: images are missing {len(where)} times, first between {files[first].name} and "
            f"{files[first + 1].name}; with a frame rate, later images get times that are too early"
        )


def _pattern(wanted: Sequence[Path], files: Sequence[Path], path: Path) -> Path:
    """Return a pattern of some images, as short as possible, that matches no other of `files`."""
    numbers = _numbers(wanted)
    differ = (numbers != numbers[0]).any(axis=0)
    pieces = re.split(r"(\d+)", wanted[0].name)
    names = {file.name for file in files}
    for any_number in ("*", "[0-9]*", None):
        pattern = "".join(
            (any_number or "[0-9]" * len(piece))
            if at % 2 and differ[at // 2]
            else glob.escape(piece)
            for at, piece in enumerate(pieces)
        )
        if len(fnmatch.filter(names, pattern)) == len(wanted):
            break
    return (path if path.is_dir() else path.parent) / pattern
