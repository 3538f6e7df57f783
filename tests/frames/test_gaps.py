"""Frames never written are told whatever lies between a store that lacks chunks and its frames."""

import h5py
import numpy as np
import pytest
import zarr

import sparsemed
from sparsemed.frames.gaps import Gaps

dask_array = pytest.importorskip("dask.array")
xarray = pytest.importorskip("xarray")
tensorstore = pytest.importorskip("tensorstore")

FRAMES = np.random.default_rng(0).integers(100, 110, (120, 12, 20), np.uint8)
CHUNKS = (10, 12, 10)
MISSING = ((50, 70),)


def fill_some(array):
    """Write all frames but 50 to 69, of which 60 to 69 are half written."""
    array[:50] = FRAMES[:50]
    array[60:70, :, :10] = FRAMES[60:70, :, :10]
    array[70:] = FRAMES[70:]
    return array


@pytest.fixture
def store(tmp_path):
    return fill_some(
        zarr.create_array(tmp_path / "a.zarr", shape=FRAMES.shape, chunks=CHUNKS, dtype="u1")
    )


@pytest.fixture
def dataset(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as h5:
        fill_some(h5.create_dataset("a", FRAMES.shape, "u1", chunks=CHUNKS, fillvalue=3))
    with h5py.File(tmp_path / "a.h5", "r") as h5:
        yield h5["a"]


def of_xarray(folder, **how):
    """Return a DataArray of a Zarr as xarray opens it."""
    array = zarr.create_array(
        folder / "x.zarr/a",
        shape=FRAMES.shape,
        chunks=CHUNKS,
        dtype="u1",
        fill_value=0,
        dimension_names=("time", "y", "x"),
    )
    fill_some(array)
    zarr.open_group(folder / "x.zarr", mode="a")
    return xarray.open_zarr(folder / "x.zarr", consolidated=False, **how)["a"]


def of_tensorstore(folder):
    store = tensorstore.open(
        {
            "driver": "zarr",
            "kvstore": {"driver": "file", "path": str(folder / "t.zarr")},
            "metadata": {"chunks": CHUNKS, "dtype": "|u1", "shape": FRAMES.shape, "fill_value": 3},
        },
        create=True,
    ).result()
    return fill_some(store)


def of_picked_axes(folder):
    """Return a Zarr whose named axes are in another order, with a channel."""
    array = zarr.create_array(
        folder / "p.zarr",
        shape=(12, 120, 20, 2),
        chunks=(12, 10, 10, 1),
        dtype="u1",
        dimension_names=("y", "t", "x", "c"),
    )
    turned = np.stack([255 - FRAMES, FRAMES], axis=-1).swapaxes(0, 1)
    array[:, :50] = turned[:, :50]
    array[:, 60:70, :10] = turned[:, 60:70, :10]
    array[:, 70:] = turned[:, 70:]
    return array


def background(frames, **more):
    with pytest.warns(sparsemed.BackgroundWarning) as warned:
        found = sparsemed.compute_background(frames, np.arange(120.0), kernel_size=20, **more)
    assert any("were never written" in str(each.message) for each in warned)
    return found


@pytest.mark.parametrize("ranges", [None, 3])
@pytest.mark.parametrize("chunks", [CHUNKS, (20, 12, 20), (7, 5, 20)])
def test_dask_of_zarr(store, chunks, ranges):
    frames = dask_array.from_zarr(store, chunks=chunks)
    assert background(frames, ranges=ranges).unwritten == MISSING


def test_dask_of_zarr_within_its_tasks(store):
    frames = dask_array.from_array(store, chunks=CHUNKS, inline_array=True)
    assert background(frames).unwritten == MISSING


@pytest.mark.parametrize("ranges", [None, 3])
def test_dask_of_hdf5(dataset, ranges):
    frames = dask_array.from_array(dataset, chunks=CHUNKS, lock=True)
    assert background(frames, ranges=ranges).unwritten == MISSING


@pytest.mark.parametrize("how", [{}, {"chunks": None}])
def test_xarray_of_zarr(tmp_path, how):
    frames = of_xarray(tmp_path, **how)
    assert background(frames).unwritten == MISSING
    assert not frames.variable._in_memory  # frames are read in batches


@pytest.mark.parametrize("ranges", [None, 3])
def test_tensorstore(tmp_path, ranges):
    assert background(of_tensorstore(tmp_path), ranges=ranges).unwritten == MISSING


@pytest.mark.parametrize("ranges", [None, 3])
def test_picked_axes(tmp_path, ranges):
    frames = of_picked_axes(tmp_path)
    assert background(frames, channel=1, ranges=ranges).unwritten == MISSING


def test_tiles(tmp_path, monkeypatch):
    monkeypatch.setattr("sparsemed.frames.tiles.TILE_BYTES", 1000)
    store = zarr.create_array(
        tmp_path / "t.zarr", shape=FRAMES.shape, chunks=(60, 4, 5), dtype="u1"
    )
    store[:60] = FRAMES[:60]
    store[60:, 4:] = FRAMES[60:, 4:]
    for frames in (store, dask_array.from_zarr(store)):
        assert background(frames).unwritten == ((60, 120),)


@pytest.mark.parametrize("ranges", [None, 3])
@pytest.mark.parametrize(
    "change",
    [
        lambda frames: frames[:, 2:, 1:],
        lambda frames: frames.rechunk((7, 12, 20)),
        lambda frames: 255 - frames,
        lambda frames: dask_array.concatenate([frames[:60], frames[60:]]),
    ],
)
def test_dask_computed_from_a_store(store, change, ranges):
    """Whole frames are told; of a part that is missing in a frame, nothing is known."""
    frames = change(dask_array.from_zarr(store))
    assert background(frames, ranges=ranges).unwritten == ((50, 60),)


def test_frames_that_are_all_there_are_no_gap(store):
    frames = dask_array.from_zarr(store)[:50]
    found = sparsemed.compute_background(frames, np.arange(50.0), kernel_size=20)
    assert found.unwritten == ()
    assert found.warnings == ()


def test_gaps_are_those_found_chunk_by_chunk():
    rng = np.random.default_rng(1)
    frames = rng.integers(0, 2, (40, 9, 11), np.uint8)
    chunks = (7, 4, 6)
    missing = set()
    for t in range(0, 40, 7):
        for y in range(0, 9, 4):
            for x in range(0, 11, 6):
                if rng.random() < 0.1:
                    frames[t : t + 7, y : y + 4, x : x + 6] = 0
                if not frames[t : t + 7, y : y + 4, x : x + 6].any():
                    missing |= set(range(t, min(t + 7, 40)))
    found = Gaps(chunks).find(frames, 0)
    assert {i for start, stop in found for i in range(start, stop)} == missing
    later = Gaps(chunks).part(10, 4, 6).find(frames[20:, 4:, 6:], 10)
    assert later == [
        (a - 10, b - 10) for a, b in Gaps(chunks, 0, (0, 4, 6)).find(frames[20:, 4:, 6:], 20)
    ]
