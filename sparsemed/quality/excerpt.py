"""A part of the frames, to try settings on."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sparsemed.frames.source import Batch
from sparsemed.inputs.given import Input

MOST_FRAMES = 20_000
"""Largest number of frames for trials, around the worst frame."""

MOST_BYTES = 64 * 1024**2
"""Largest bytes of these frames; if there are more, strips along the flow are left out."""

STRIP = 16
"""Width of a strip in pixels."""


class Excerpt(NamedTuple):
    """A part of the frames, to try settings on.

    Attributes
    ----------
    frames : ndarray, shape (n, H, w)
    time : ndarray, shape (n,), seconds
    num_cpus : int
        Largest number of threads of a trial.
    """

    frames: NDArray[Any]
    time: NDArray[Any]
    num_cpus: int = 1


def take_excerpt(given: Input, time: NDArray[Any], worst: int) -> Excerpt:
    """Read the part of the frames around the worst one; `time` is that of all frames."""
    source = given.frames
    count, height, width = source.shape
    first = max(0, min(worst - MOST_FRAMES // 2, count - MOST_FRAMES))
    last = min(count, first + MOST_FRAMES)
    weight = (last - first) * height * width * source.dtype.itemsize
    columns = np.arange(width)
    columns = columns[columns // STRIP % max(1, -(-weight // MOST_BYTES)) == 0]
    kept = np.empty((last - first, height, len(columns)), source.dtype)
    batch = np.empty((min(source.batch, last - first), height, width), source.dtype)
    starts = range(first, last, len(batch))
    batches = [Batch(start, min(start + len(batch), last), height) for start in starts]
    with source.reading(batches) as read:
        for start, stop, _ in batches:
            out = batch[: stop - start]
            read(start, stop, out)
            kept[start - first : stop - first] = out[:, :, columns]
    time = time[first:last]
    return Excerpt(kept, time - time[0], given.num_cpus)
