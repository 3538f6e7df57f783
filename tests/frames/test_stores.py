"""Workers in another folder read the same store, or an error says that they do not."""

import os
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np
import pytest
import zarr

import sparsemed

dask_array = pytest.importorskip("dask.array")
tensorstore = pytest.importorskip("tensorstore")

FRAMES = np.random.default_rng(0).integers(100, 110, (120, 12, 20), np.uint8)


class Elsewhere(ThreadPoolExecutor):
    """Sends tasks as to other processes, and does them in another folder."""

    def submit(self, function, /, *arguments):
        sent = pickle.dumps((function, arguments))
        here = os.getcwd()
        os.chdir("elsewhere")
        try:
            function, arguments = pickle.loads(sent)
            future = super().submit(function, *arguments)
            future.exception()
            return future
        finally:
            os.chdir(here)


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)


def with_other_frames(make):
    """Return frames of a store in this folder; one in another folder holds other frames."""
    make("elsewhere/a", FRAMES // 2)
    return make("a", FRAMES)


def of_tensorstore(kvstore):
    def make(path, frames):
        metadata = {"chunks": (10, 12, 20), "dtype": "|u1", "shape": frames.shape}
        spec = {"driver": "zarr", "kvstore": kvstore | {"path": f"{path}/"}, "metadata": metadata}
        store = tensorstore.open(spec, create=True).result()
        store[...] = frames
        return store

    return make


def of_zarr(path, frames):
    array = zarr.create_array(path, shape=frames.shape, chunks=(10, 12, 20), dtype="u1")
    array[:] = frames
    return array


def of_hdf5(path, frames):
    with h5py.File(path, "w") as h5:
        h5["image"] = frames
    return h5py.File(path)["image"]


def in_dask(make):
    return lambda path, frames: dask_array.from_array(make(path, frames), chunks=(10, 12, 20))


KINDS = {
    "TensorStore": of_tensorstore({"driver": "file"}),
    "TensorStore, a part": lambda *given: of_tensorstore({"driver": "file"})(*given)[20:],
    "TensorStore, cast": lambda *given: tensorstore.cast(
        of_tensorstore({"driver": "file"})(*given), tensorstore.uint16
    ),
    "TensorStore, in memory": of_tensorstore({"driver": "memory"}),
    "TensorStore, of NumPy": lambda _, frames: tensorstore.array(frames),
    "Zarr": of_zarr,
    "Dask of Zarr": in_dask(of_zarr),
    "Dask of HDF5": in_dask(of_hdf5),
}


@pytest.mark.parametrize("kind", KINDS)
def test_workers_in_another_folder_read_the_same_frames(kind):
    frames = with_other_frames(KINDS[kind])
    time = np.arange(frames.shape[0]) / 10
    expected = sparsemed.compute_background(FRAMES[-len(time) :], time, kernel_size=20)
    with Elsewhere(1) as pool:
        found = sparsemed.compute_background(frames, time, kernel_size=20, executor=pool, ranges=3)
    np.testing.assert_array_equal(found.images, expected.images)


@pytest.mark.parametrize("kind", ["TensorStore", "Zarr", "Dask of Zarr"])
def test_a_store_that_workers_do_not_see_is_an_error(kind):
    frames = KINDS[kind]("a", FRAMES)

    class Away(Elsewhere):
        def submit(self, *task):
            shutil.rmtree("a", ignore_errors=True)
            return super().submit(*task)

    with Away(1) as pool, pytest.raises(OSError, match="is not there for this worker"):
        sparsemed.compute_background(
            frames, np.arange(120.0), kernel_size=20, executor=pool, ranges=3
        )
