"""A sample of frames from all over a measurement, and these frames after subtraction."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sparsemed.inputs import Input, open_again, open_input
from sparsemed.method.result import Background
from sparsemed.quality.same import require_frames_of
from sparsemed.warned import warn


class Sample(NamedTuple):
    """Some frames from all over a measurement.

    Attributes
    ----------
    numbers : ndarray of int, shape (n,)
        Numbers of the frames, ascending.
    frames : ndarray, shape (n, H, W)
        The frames.
    """

    numbers: NDArray[np.intp]
    frames: NDArray[Any]


SAMPLE = 96
"""Largest number of frames in a sample: four of them show what lasts for 4 % of the time."""

SAMPLE_BYTES = 256 * 1024**2
"""Largest bytes of a sample of more than `LEAST_FRAMES`."""

LEAST_FRAMES = 16
"""Least number of frames to judge single places."""


def sample_numbers(count: int, height: int, width: int) -> NDArray[np.intp]:
    """Return the numbers of the frames of a sample."""
    most = max(LEAST_FRAMES, SAMPLE_BYTES // max(1, 2 * height * width))
    return scattered(count, min(SAMPLE, most))


def take_sample(background: Background, frames: Any = None, count: int = SAMPLE) -> Sample | None:
    """Read a few frames from all over a measurement; see `scattered`.

    Parameters
    ----------
    background : Background
    frames : array-like, shape (N, H, W), or str or path, optional
        The frames of the background, or their measurement or stack. Default: the measurement
        `background.source`, its basins included, or the stack `background.stack`.
    count : int
        Number of frames, or all if there are fewer.

    Returns
    -------
    Sample or None
        None without `frames` if the background is of an array, or if its measurement
        or stack cannot be read any more (with a warning).

    Raises
    ------
    ValueError
        If the frames do not fit the background, or are others, or their file was replaced.
    """
    if frames is not None:
        with open_input(frames, basins=background.basins, num_cpus=1) as given:
            _require_shape(background, given)
            require_frames_of(background, given)
            return _pick(background, given, count)
    if background.identity is None:
        return None
    try:
        with open_again(background, num_cpus=1) as given:
            _require_shape(background, given)
            return _pick(background, given, count)
    except (OSError, ImportError) as error:
        warn(f"Results that need frames are left out: {error}")
        return None


def _require_shape(background: Background, given: Input) -> None:
    frames = given.data
    expected = (len(background), *background.images.shape[1:])
    shape = tuple(frames.shape) if hasattr(frames, "shape") else np.shape(frames)
    if shape != expected:
        raise ValueError(f"frames: shape must be {expected}, that of the background, got {shape}")


def _pick(background: Background, given: Input, count: int) -> Sample:
    numbers = scattered(len(background), count)
    return Sample(numbers, given.pick(numbers))


def corrected(
    background: Background, sample: Sample, rows: int | None = None
) -> NDArray[np.float32]:
    """Return the frames of the sample, or their first rows, minus background and offset."""
    used, which = np.unique(background.frame_index[sample.numbers], return_inverse=True)
    left = sample.frames[:, :rows].astype(np.float32)
    left -= background.images[used][:, :rows][which]
    if background.offsets is not None:
        left -= background.offsets[sample.numbers, np.newaxis, np.newaxis].astype(np.float32)
    return left


def spread(length: int, count: int) -> NDArray[np.intp]:
    """Return at most `count` indices from 0 to ``length - 1``, evenly spaced; at least one."""
    return np.unique(np.linspace(0, length - 1, max(1, min(length, count))).round().astype(np.intp))


def scattered(length: int, count: int) -> NDArray[np.intp]:
    """Return at most `count` indices below `length`, one from each of equal parts.

    They are random, but always the same: evenly spaced frames would show only one state of a lamp
    that differs in every other frame.
    """
    count = max(1, min(length, count))
    edges = np.arange(count + 1) * length // count
    return np.random.default_rng(0).integers(edges[:-1], edges[1:]).astype(np.intp)
