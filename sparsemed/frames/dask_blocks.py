"""Blocks of a Dask array, each computed by itself.

Each slice of a Dask array makes a new graph in a time that grows with the number of all blocks, so
slicing a long stack takes forever. Here the graph is made once, and each read computes only the
blocks that it needs.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsemed.executors.dask_cluster import this_worker


def is_dask(array: Any) -> bool:
    """Whether an array is a Dask array: the protocol of its collections, and blocks."""
    return hasattr(array, "__dask_graph__") and hasattr(array, "numblocks")


def arrays_in(graph: Any) -> Iterator[Any]:
    """Yield what the tasks of a Dask graph hold, such as arrays of which they take slices."""
    for node in dict(graph).values():
        for held in (node, *getattr(node, "args", ())):
            if isinstance(held, dict):  # tasks that were fused
                yield from arrays_in(held)
            else:
                yield getattr(held, "value", held)


class DaskBlocks:
    """The blocks of an array, by the frames in them.

    Parameters
    ----------
    array : dask.array.Array, shape (N, H, W)
    """

    def __init__(self, array: Any) -> None:
        from dask.base import get_scheduler

        self._graph = dict(array.__dask_graph__())
        self._keys = array.__dask_keys__()
        self._stops, self._ends = (np.cumsum(lengths) for lengths in array.chunks[:2])
        # Use the scheduler of a cluster, if any; but there, a task would wait for itself.
        get = None if this_worker() else get_scheduler(collections=[array])
        self._get = get or array.__dask_scheduler__

    def read(self, start: int, stop: int, rows: int) -> NDArray[Any]:
        """Return so many rows of frames, in whole blocks; masked if a block is masked."""
        from dask.optimization import cull

        first, last = np.searchsorted(self._stops, [start + 1, stop])
        down = int(np.searchsorted(self._ends, rows)) + 1
        keys = [each[:down] for each in self._keys[first : last + 1]]
        graph, _ = cull(self._graph, list(_flat(keys)))
        return _joined(self._get(graph, keys), 0)


def _flat(keys: Any) -> Any:
    for key in keys:
        if isinstance(key, list):
            yield from _flat(key)
        else:
            yield key


def _joined(blocks: Any, axis: int) -> NDArray[Any]:
    """Return nested sequences of blocks as one array."""
    if not isinstance(blocks, Sequence):
        array: NDArray[Any] = np.asanyarray(blocks)
        return array
    parts = [_joined(block, axis + 1) for block in blocks]
    if len(parts) == 1:  # without a copy
        return parts[0]
    is_masked = any(isinstance(part, np.ma.MaskedArray) for part in parts)
    joined: NDArray[Any] = (np.ma if is_masked else np).concatenate(parts, axis=axis)
    return joined
