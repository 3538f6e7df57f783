"""The stores behind arrays: which one, whether it lacks chunks, and how workers find it.

A store yields its fill value for a missing chunk, without an error. Zarr also leaves out chunks
that hold only the fill value; the two cannot be told apart.
"""

import os
from collections.abc import Iterator, Sequence
from math import prod
from pathlib import Path
from typing import Any

import h5py

from sparsemed.frames.choice import PickedAxes, is_of_zarr
from sparsemed.frames.dask_blocks import arrays_in, is_dask
from sparsemed.frames.gaps import Gaps
from sparsemed.frames.hdf5_layout import unwritten_spans

MOST_LISTED = 100_000
"""Chunks of stores that are counted to find out whether some are missing."""


OTHER_FILE = (
    "{}: is another file for a worker than for the program that sent the task; all workers must "
    "see the same files under the same paths"
)


def gaps_of(array: Any) -> Gaps | None:
    """Return what finds frames never written, if a store behind an array lacks chunks.

    Stores of very many chunks are not counted, as that takes long.
    """
    if isinstance(array, h5py.Dataset):  # its index tells them exactly
        return None
    stores = list(stores_behind(array))
    count = sum(
        prod(-(-n // m) for n, m in zip(each.shape, _chunks(each), strict=True)) for each in stores
    )
    if count > MOST_LISTED or not any(map(_lacks_chunks, stores)):
        return None
    if len(stores) > 1 or not _is_stored_so(array, stores[0]):
        return Gaps()
    store = stores[0]
    fill = store.fillvalue if isinstance(store, h5py.Dataset) else store.fill_value
    chunks = _chunks(store)
    if isinstance(array, PickedAxes):
        chunks = tuple(chunks[axis] for axis in array.axes)
    return Gaps(chunks, 0 if fill is None else fill)


def stores_behind(array: Any) -> Iterator[Any]:
    """Yield the arrays of Zarr, TensorStore and HDF5 behind an array, each once."""
    held = arrays_in(array.__dask_graph__()) if is_dask(array) else [array]
    found = {id(store): store for each in held if (store := store_behind(each)) is not None}
    yield from found.values()


def store_behind(array: Any) -> Any:
    """Return the array of Zarr, TensorStore or HDF5 that an array is or wraps, or None."""
    # xarray keeps what is not loaded within wrappers of its own
    inner = getattr(getattr(array, "variable", None), "_data", array)
    while inner is not None:
        if isinstance(inner, PickedAxes):
            inner = inner.array
        elif is_of_zarr(inner) or is_of_tensorstore(inner) or isinstance(inner, h5py.Dataset):
            return inner
        elif type(inner).__module__.partition(".")[0] == "xarray":
            inner = getattr(inner, "array", getattr(inner, "_array", None))
        else:
            return None
    return None


def is_of_tensorstore(array: Any) -> bool:
    """Whether an array is one of TensorStore."""
    return type(array).__module__.partition(".")[0] == "tensorstore" and hasattr(array, "spec")


def from_zero(array: Any) -> Any:
    """Return an array whose indices begin at 0: in TensorStore they may begin anywhere."""
    if not is_of_tensorstore(array) or not any(array.origin):
        return array
    import tensorstore

    return array[tensorstore.d[:].translate_to[0]]


def _is_stored_so(array: Any, store: Any) -> bool:
    """Whether the frames of an array are those of a store, neither cut nor computed from them."""
    if isinstance(array, PickedAxes):
        return True
    own = getattr(array, "name", "")
    layers = getattr(array.__dask_graph__(), "layers", ()) if is_dask(array) else ()
    begins_at_0 = not any(getattr(store, "origin", ()))  # see `from_zero`
    is_same = tuple(array.shape) == tuple(store.shape) and array.dtype == store.dtype
    return is_same and begins_at_0 and set(layers) <= {own, f"original-{own}"}


def _chunks(store: Any) -> tuple[int, ...]:
    if is_of_tensorstore(store):
        lengths = store.chunk_layout.read_chunk.shape
        return tuple(each or length for each, length in zip(lengths, store.shape, strict=True))
    return tuple(store.chunks or store.shape)


def _lacks_chunks(store: Any) -> bool:
    if isinstance(store, h5py.Dataset):
        return bool(store and unwritten_spans(store))
    if is_of_tensorstore(store):
        stored = store.storage_statistics(query_fully_stored=True).result().fully_stored
        return stored is False
    return bool(store.nchunks_initialized < store.nchunks)


def make_absolute(store: Any) -> None:
    """Make the path of a Zarr store absolute: workers may be in other folders.

    In a folder without the store, all values would be the fill value.
    """
    if is_of_zarr(store):
        for name in ("root", "path"):  # of a folder, and of a zip file
            if isinstance(path := getattr(store.store, name, None), Path):
                setattr(store.store, name, path.absolute())


def require_store(store: Any) -> None:
    """Check that this process finds the store of a Zarr array, and the same array in it.

    Raises
    ------
    OSError
        If it does not.
    """
    if not is_of_zarr(store):
        return
    import zarr

    try:
        found = zarr.open_array(store.store, path=store.path, mode="r")
    except Exception as error:  # a store may raise anything
        raise OSError(_NOT_THERE.format(store.store_path, error)) from error
    if (found.shape, found.dtype) != (store.shape, store.dtype):
        raise OSError(OTHER_FILE.format(store.store_path))


_NOT_THERE = "frames: {} is not there for this worker ({}); workers must be able to open the store"


def absolute_spec(array: Any) -> Any:
    """Return how a worker in any folder opens an array of TensorStore, or None if none can.

    None can if it is in the memory of this process: workers would read the fill value.
    """
    spec = array.spec().to_json()
    return spec if _made_absolute(spec) else None


def _made_absolute(spec: Any) -> bool:
    """Make all paths in a specification absolute, and return whether others can open it."""
    if isinstance(spec, list):
        return all(_made_absolute(each) for each in spec)
    if not isinstance(spec, dict):
        return True
    if spec.get("driver") == "file":
        end = "/" if spec["path"].endswith("/") else ""
        spec["path"] = Path(os.path.abspath(spec["path"])).as_posix() + end
    in_memory = spec.get("driver") in ("memory", "array")
    return not in_memory and all(_made_absolute(each) for each in spec.values())


def open_spec(spec: Any, shape: Sequence[int]) -> Any:
    """Open an array of TensorStore, which must have this shape.

    Raises
    ------
    OSError
        If it is not there, or is another one.
    """
    import tensorstore

    place = spec.get("kvstore", spec)
    try:
        found = tensorstore.open(spec, read=True).result()
    except Exception as error:  # a store may raise anything
        raise OSError(_NOT_THERE.format(place, error)) from error
    if tuple(found.shape) != tuple(shape):
        raise OSError(OTHER_FILE.format(place))
    return found
