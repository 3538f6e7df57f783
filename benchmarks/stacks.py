"""The median image of a stack that is in memory, by whatever finds one; in one process.

What one does for the background of images from a microscope. All stacks have an odd number of
images, so that there is one value in the middle, and all programs have to find it.
"""

import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import click
import h5py
import hdf5plugin  # noqa: F401  (lets HDF5 read Zstandard)
import numpy as np

from benchmarks.end_to_end import run_program
from benchmarks.kernel import as_16_bits, imported, threads, time_in_turn
from benchmarks.measurements import generated_measurement
from sparsemed import median_image
from sparsemed.kernels.cores import available_cores


class Stack(NamedTuple):
    """How many images of how many rows and columns, and the bits of a pixel."""

    count: int
    side: int
    bits: int


def stacks(side: int) -> list[Stack]:
    """Return what is measured: a large stack, which is the first, a short and a tiny one."""
    return [Stack(201, side, 8), Stack(201, side, 16), Stack(3, side, 16), Stack(9, 16, 16)]


def mosaics(frames: np.ndarray | h5py.Dataset, count: int, side: int) -> np.ndarray:
    """Return square images put together of frames; each place is of frames that are its own."""
    down, across = (math.ceil(side / length) for length in frames.shape[1:])
    height, width = frames.shape[1:]
    images = frames[: count * down * across].reshape(down, across, count, height, width)
    whole = images.transpose(2, 0, 3, 1, 4).reshape(count, down * height, across * width)
    return np.ascontiguousarray(whole[:, :side, :side])


def contenders(images: np.ndarray) -> dict[str, Callable[[], Any]]:
    """Return functions that find the median image of a stack, by name."""
    count, height, width = images.shape
    half = count // 2
    found: dict[str, Callable[[], Any]] = {
        "np.median": lambda: np.median(images, axis=0),
        "np.partition": lambda: np.partition(images, half, axis=0)[half],
    }
    if bottleneck := imported("bottleneck"):
        # It is slow with short integers, so that one converts them.
        found["bottleneck.median (of float32)"] = lambda: bottleneck.median(
            images.astype(np.float32), axis=0
        )
    if cv2 := imported("cv2"):
        found["cv2.sort"] = lambda: cv2.sort(
            np.ascontiguousarray(images.reshape(count, -1).T), cv2.SORT_EVERY_ROW
        )[:, half].reshape(height, width)
    if dask_array := imported("dask.array"):
        # It shares its work out by blocks, and is spared taking the fingerprint of the stack.
        blocks = (count, math.ceil(height / (4 * available_cores())), width)
        lazy = dask_array.from_array(images, chunks=blocks, name=False)
        found[f"dask.array.median, {threads(available_cores())}"] = lambda: dask_array.median(
            lazy, axis=0
        ).compute(scheduler="threads", num_workers=available_cores())
    for cores in sorted({1, available_cores()}):
        found[f"sparsemed, {threads(cores)}"] = lambda cores=cores: median_image(images, cores)
    return found


def require_same_images(found: dict[str, Callable[[], Any]]) -> None:
    """Fail if contenders do not find the same values."""
    (first, expected), *others = ((name, contender()) for name, contender in found.items())
    for name, image in others:
        if not np.array_equal(image, expected):
            raise click.ClickException(f"{name} finds another image than {first}")


def peak_beyond(stack: Path, name: str) -> int:
    """Return the most bytes that finding an image takes, besides the stack that is there."""
    return round(run_program("-m", "benchmarks.stack_memory", stack, name).inside)


def measure(frames: int, side: int, rounds: int) -> dict[str, Any]:
    """Run the whole part.

    Parameters
    ----------
    frames : int
        Frames of the generated measurement that images are made of.
    side : int
        Rows and columns of images.
    rounds : int
        Rounds, after one that warms up.
    """
    wanted = stacks(side)
    with h5py.File(generated_measurement(frames, 1000)) as h5:
        large = mosaics(h5["events/image"], wanted[0].count, side)
    times, memory = [], []
    for stack in wanted:
        click.echo(f"stacks, {stack.count} of {stack.side}, {stack.bits} bits", err=True)
        images = large[: stack.count, : stack.side, : stack.side].copy()
        if stack.bits == 16:
            images = as_16_bits(images)
        found = contenders(images)
        require_same_images(found)
        times.append(stack._asdict() | {"seconds": time_in_turn(found, rounds)})
        if stack.count == wanted[0].count:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "stack.npy"
                np.save(path, images)
                peaks = {name: peak_beyond(path, name) for name in found}
            memory.append(stack._asdict() | {"bytes": images.nbytes, "beyond": peaks})
    return {"times": times, "memory": memory}
