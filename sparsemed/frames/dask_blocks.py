"""Blocks of a Dask array, each computed by itself.

Each slice of a Dask array makes a new graph in a time that grows with the number of all blocks, so
slicing a long stack takes forever. Here the graph is made once, and each read computes only the
blocks that it needs.
"""

from collections.abc import Iterator, Sequence
from functools import partial
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

        self._array = array
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
        wanted = list(_flat(keys))
        graph, _ = cull(self._graph, wanted)
        if len(wanted) > 1 and self._is_local:
            placed = self._placed(graph, wanted, int(first))
            if placed is not None:
                return placed
        return _joined(self._get(graph, keys), 0)

    @property
    def _is_local(self) -> bool:
        """Whether tasks are done by threads of this process, which can write into its memory."""
        return getattr(self._get, "__module__", "") in ("dask.threaded", "dask.local")

    def _placed(self, graph: dict[Any, Any], wanted: list[Any], first: int) -> NDArray[Any] | None:
        """Compute blocks, each into its place, so that they are not held all at once.

        None if a block is masked, or of another shape or dtype than the array says.
        """
        edges = [np.cumsum((0, *lengths)) for lengths in self._array.chunks]
        last = wanted[-1][1:]
        begin = int(edges[0][first])
        shape = [int(edges[axis][place + 1]) for axis, place in enumerate(last)]
        out: NDArray[Any] = np.empty((shape[0] - begin, *shape[1:]), self._array.dtype)
        places = {}
        for key in wanted:
            number, *across = (
                slice(int(edges[axis][place]), int(edges[axis][place + 1]))
                for axis, place in enumerate(key[1:])
            )
            frames = slice(number.start - begin, number.stop - begin)
            places["placed", *key] = partial(_place, out[frames, *across]), key
        done = self._get({**graph, **places}, list(places))
        return out if all(done) else None


def _place(out: NDArray[Any], block: Any) -> bool:
    """Copy a block to its place, and return whether it fits there."""
    found = np.asanyarray(block)
    fits = found.shape == out.shape and found.dtype == out.dtype and not np.ma.is_masked(found)
    if fits:
        out[...] = found
    return fits


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
