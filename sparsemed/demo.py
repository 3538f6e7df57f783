"""A small made-up measurement, and its background checked against the definition."""

from itertools import cycle
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
from numpy.typing import NDArray

from sparsemed.hdf5.commit import new_file
from sparsemed.hdf5.entries import Attributes
from sparsemed.hdf5.opening import open_restored
from sparsemed.result import SparseBackground

FRAMES_PER_SECOND = 100.0


CASES = ("plain", "cells", "flicker")


def make_measurement(path: Path, count: int = 2000, seed: int = 0, case: str = "plain") -> None:
    """Write a measurement of a channel with walls, passing cells and a flickering lamp.

    Parameters
    ----------
    path : Path
        The file to make; it must not exist.
    count : int
        Number of frames, of 80 × 320 pixels.
    seed : int
        Seed of the random numbers.
    case : str
        ``"plain"``; ``"cells"``: some cells are so slow that the median keeps them;
        ``"flicker"``: the lamp is unsteady.

    Raises
    ------
    ValueError
        If there is no such case.
    """
    if case not in CASES:
        raise ValueError(f"case must be one of {', '.join(CASES)}, got {case!r}")
    rng = np.random.default_rng(seed)
    channel = _draw_channel(rng)
    cell = _draw_cell(radius=9)
    height, width = channel.shape
    grain = rng.normal(0, 1.5, size=(24, height, 2 * width))
    lamp = np.where(rng.random(count) < 0.05, rng.normal(0, 6, size=count), 0)
    dimmed = _unsteady_lamp(count, rng) if case == "flicker" else np.ones(count)
    slow = _slow_cells(count, cell, rng) if case == "cells" else []
    frames = np.empty((count, *channel.shape), dtype=np.uint8)
    for number in range(count):
        shift = rng.integers(width)  # otherwise, frames with the same grain would have a pattern
        noise = grain[rng.integers(24), :, shift : shift + width]
        frame = dimmed[number] * channel + noise + lamp[number]
        for begin, end, row, column in slow:
            if begin <= number < end:
                frame[row : row + len(cell), column : column + len(cell)] += cell
        for _ in range(rng.integers(1, 4)):
            top = rng.integers(24, 56 - len(cell))
            left = rng.integers(0, width - len(cell))
            frame[top : top + len(cell), left : left + len(cell)] += cell
        frames[number] = np.clip(np.rint(frame), 0, 255)
    with new_file(path) as h5:
        h5.attrs.update(_METADATA)
        h5.attrs["experiment:event count"] = count
        h5["events/time"] = np.cumsum(rng.exponential(1 / FRAMES_PER_SECOND, size=count))
        h5["events/frame"] = np.arange(1, count + 1, dtype=np.uint64)
        h5.create_dataset(
            "events/image",
            data=frames,
            chunks=(min(40, count), *channel.shape),
            fletcher32=True,
            **hdf5plugin.Zstd(clevel=5),
        )


def check_replaceable(path: Path) -> None:
    """Check that a file is missing, empty, or from an earlier demo.

    Raises
    ------
    OSError
        If it is any other file.
    """
    if not path.exists() or (path.is_file() and not path.stat().st_size):
        return
    with open_restored(path) as h5:
        sample = Attributes(h5).get("experiment:sample")
    if not isinstance(sample, str) or sample != _METADATA["experiment:sample"]:
        raise FileExistsError(
            f"{path}: is not from an earlier demo, and is not replaced; choose another folder"
        )


_METADATA = {
    "experiment:date": "2026-01-01",
    "experiment:time": "12:00:00",
    "experiment:sample": "sparsemed demo",
    "experiment:run index": 1,
    "imaging:frame rate": 2000.0,
    "imaging:pixel size": 0.34,
    "imaging:roi size x": 320,
    "imaging:roi size y": 80,
    "setup:channel width": 20.0,
    "setup:chip region": "channel",
    "setup:identifier": "sparsemed-demo",
    "setup:medium": "other",
}


def _draw_channel(rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw an empty channel: walls with dark edges, uneven light, and specks of dirt."""
    rows, columns = np.mgrid[:80, :320]
    from_wall = np.minimum(rows - 20, 59 - rows)
    channel = np.where(from_wall < 0, 120.0, 150.0)
    channel -= 60 * np.exp(-((from_wall / 2.0) ** 2))
    channel += 12 * np.exp(-((columns - 150) ** 2 + (rows - 40) ** 2) / 2e4)
    for _ in range(25):
        row, column = rng.integers(80), rng.integers(320)
        channel -= rng.uniform(5, 25) * np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 3)
    return channel


def _draw_cell(radius: int) -> NDArray[np.float64]:
    """Draw the change that a cell makes to the channel: a dark rim around a brighter middle."""
    reach = np.arange(-radius - 4, radius + 5)
    distance = np.hypot(*np.meshgrid(reach, reach))
    rim = -45 * np.exp(-(((distance - radius) / 2) ** 2))
    middle: NDArray[np.float64] = 15 * np.exp(-((distance / (0.6 * radius)) ** 2))
    return rim + middle


def _slow_cells(
    count: int, cell: NDArray[np.float64], rng: np.random.Generator
) -> list[tuple[int, int, int, int]]:
    """Return first frame, end, top and left of cells that stay in one place for a while."""
    # Places are used in turn, so that a longer window sees each of them empty most of the time.
    places = cycle(rng.permutation(np.arange(0, 320 - len(cell), len(cell) + 2)).tolist())
    free_from = [-100, -40]
    slow = []
    while min(free_from) < count:
        begin = min(free_from)
        end = begin + int(rng.integers(105, 145))
        slow.append((begin, end, int(rng.integers(24, 56 - len(cell))), next(places)))
        free_from[free_from.index(begin)] = end
    return slow


def _unsteady_lamp(count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return the light of a lamp with a bad contact: two levels, and many flashes in between."""
    light = np.ones(count)
    number = 0
    while number < count:
        number += int(rng.integers(200, 500))
        dim = int(rng.integers(200, 500))
        light[number : number + dim] = 0.8
        number += dim
    flash = rng.random(count) < 0.3
    light[flash] *= rng.normal(1, 0.06, size=np.count_nonzero(flash))
    return light


def differences_from_definition(background: SparseBackground, measurement: Path) -> int:
    """Count the pixels and offsets in which a background differs from its definition.

    Everything is computed again as simply as possible: the frames of each window
    are sorted, and each time is compared with all others.

    Parameters
    ----------
    background : SparseBackground
    measurement : Path
        The measurement it was computed from, with all images in the file.

    Returns
    -------
    int
        0 if all is equal, to the last bit.
    """
    with h5py.File(measurement, "r") as h5:
        frames = h5["events/image"][:]
        time = h5["events/time"][:] - h5["events/time"][0]
    asked = background.parameters
    size = min(asked.kernel_size, len(frames))
    steps = np.arange(0, time[-1], asked.split_time)
    wrong = int(len(steps) != len(background.series))
    for step, image in zip(steps, background.series, strict=False):
        start = min(int(np.argmin(abs(step - time))), len(frames) - size)
        window = np.sort(frames[start : start + size], axis=0)
        wrong += int(np.count_nonzero(image != window[size // 2]))

    index = np.zeros(len(frames), dtype=int)
    kept = steps[background.kept]
    begin = 0
    for number, step in enumerate(kept):
        end = int(np.argmin(abs(time - step - asked.split_time / 2)))
        index[begin:end] = number
        begin = end
    index[begin:] = len(kept) - 1
    wrong += int(np.count_nonzero(index != background.frame_index))

    if background.offsets is not None:
        walls = frames[:, :20].mean(axis=(1, 2))
        offsets = walls - background.images[:, :20].mean(axis=(1, 2))[index]
        wrong += int(np.count_nonzero(offsets != background.offsets))
    return wrong
