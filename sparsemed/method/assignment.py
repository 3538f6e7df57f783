"""For each frame, its background image."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsemed.method.windows import is_bisectable, nearest_frames


def assign_frames(time: NDArray[Any], kept: NDArray[Any], split_time: float) -> NDArray[np.int64]:
    """Return, for each frame, the index of its background image.

    An image serves up to the frame nearest to half a `split_time` after its
    step, where the next one takes over; the last serves to the end.

    Parameters
    ----------
    time : ndarray, shape (N,), seconds
    kept : ndarray, shape (M,), seconds
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
    if is_bisectable(time, kept):
        stops = nearest_frames(time, kept, delay)
    else:
        stops = np.array([np.argmin(np.abs(time - s - delay)) for s in kept], dtype=np.intp)

    index = np.zeros(len(time), dtype=np.int64)
    start = 0
    for image, stop in enumerate(stops):
        # On an unsorted axis `stop` may lie before `start`; what an earlier
        # image was given there is then given away again by the next slice.
        index[start:stop] = image
        start = stop
    index[start:] = len(kept) - 1
    return index
