"""Assigns a background image to each frame."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsemed.method.windows import is_bisectable, nearest_frames, step_times


def assign_frames(
    time: NDArray[Any], kept_times: NDArray[Any], split_time: float
) -> NDArray[np.int64]:
    """Return, for each frame, the index of its background image.

    An image serves up to the frame nearest to half a `split_time` after its
    step; from there on, the next image serves. The last image serves to the end.

    Parameters
    ----------
    time : ndarray, shape (N,), seconds
    kept_times : ndarray, shape (M,), seconds
        Step times of the images to choose from; at least one.
    split_time : float
        Seconds between steps.

    Returns
    -------
    ndarray of int64, shape (N,)

    Examples
    --------
    >>> time = np.array([0.0, 0.4, 0.9, 1.1, 2.5])
    >>> assign_frames(time, np.array([0.0, 1.0]), split_time=1.0)
    array([0, 1, 1, 1, 1])
    """
    delay = split_time / 2
    if is_bisectable(time, kept_times):
        stops = nearest_frames(time, kept_times, delay)
    else:
        stops = np.array([np.argmin(np.abs(time - s - delay)) for s in kept_times], dtype=np.intp)

    index = np.zeros(len(time), dtype=np.int64)
    start = 0
    for image, stop in enumerate(stops):
        # On an unsorted axis, `stop` may lie before `start`; then the next slice
        # overwrites frames that were assigned to an earlier image.
        index[start:stop] = image
        start = stop
    index[start:] = len(kept_times) - 1
    return index


def find_steps(
    time: NDArray[Any], frame_index: NDArray[np.int64], count: int, split_time: float
) -> NDArray[Any] | None:
    """Return the steps of background images, from the frames to which each was assigned.

    An image begins where the one before it ends, and the first steps that end there are taken.
    The end of the last image is unknown; its step is taken as the one after the last but one.

    Parameters
    ----------
    time : ndarray, shape (N,), seconds
    frame_index : ndarray of int64, shape (N,)
        The result of `assign_frames`.
    count : int
        Number of images.
    split_time : float
        Seconds between steps.

    Returns
    -------
    ndarray, shape (count,), seconds, or None
        None if no steps lead to this assignment, or if the axis is not sorted.

    Examples
    --------
    >>> time = np.arange(0, 4, 0.25)
    >>> index = assign_frames(time, np.array([0.0, 2.0, 3.0]), split_time=1.0)
    >>> find_steps(time, index, 3, split_time=1.0)
    array([0., 2., 3.])
    """
    steps = step_times(time, split_time)
    if not is_bisectable(time, steps) or np.any(np.diff(frame_index) < 0):
        return None
    stops = nearest_frames(time, steps, split_time / 2)
    chosen: list[int] = []
    following = 0
    for end in np.searchsorted(frame_index, np.arange(count - 1), side="right").tolist():
        following = max(following, int(np.searchsorted(stops, end)))
        chosen.append(following)
        following += 1
    chosen.append(following)
    if following >= len(steps):
        return None
    found = steps[chosen]
    explained = assign_frames(time, found, split_time)
    return found if np.array_equal(explained, frame_index) else None
