"""Shapes of work that people have: long pauses, stacks in many blocks, arrays of many libraries."""

import tracemalloc

import dask
import dask.array as da
import dclab
import h5py
import numpy as np
import pytest
import xarray
from dask.callbacks import Callback
from field.test_basins_of_dclab import export, write_raw
from parity.compare import differences
from parity.oracle import dcnum_background

from sparsemed import BackgroundSparseMed, compute_background
from sparsemed.method.repeated import RepeatedImages, pick, repeat

COUNT = 300
IMAGES = np.random.default_rng(0).integers(90, 110, (COUNT, 40, 64), np.uint8)
TIME = np.arange(COUNT) / 100


def check_same(found, images=IMAGES, time=TIME):
    expected = compute_background(images, time=time)
    np.testing.assert_array_equal(found.series, expected.series)
    np.testing.assert_array_equal(found.offsets, expected.offsets)
    np.testing.assert_array_equal(found.frame_index, expected.frame_index)


# A pause --------------------------------------------------------------------------------------


def joined(pause, count=300):
    """Two recordings with a pause in between."""
    images = np.random.default_rng(1).integers(90, 110, (2 * count, 40, 300), np.uint8)
    images[count:] += 20
    part = np.linspace(0, 3, count)
    return images, np.concatenate([part, 3 + pause + part])


def test_a_pause_takes_memory_for_distinct_windows_alone():
    images, time = joined(pause=60_000)
    compute_background(images[:10], time=time[:10])
    tracemalloc.start()
    background = compute_background(images, time=time, kernel_size=50)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(background.series) > 60_000
    assert len(background.series.distinct) < 10
    assert peak < 150e6  # 60,000 images would be 720 MB


def test_a_background_after_a_pause_is_what_it_was_before(tmp_path, monkeypatch):
    images, time = joined(pause=400)
    small = compute_background(images, time=time, kernel_size=50)
    assert isinstance(small.series, np.ndarray)
    monkeypatch.setattr("sparsemed.method.repeated.SMALL_BYTES", 0)
    large = compute_background(images, time=time, kernel_size=50)
    assert isinstance(large.series, RepeatedImages)
    for name in ("images", "series", "frame_index", "offsets", "kept", "score", "step_times"):
        np.testing.assert_array_equal(getattr(large, name), getattr(small, name), strict=True)
    assert large.threshold == small.threshold
    assert [str(each) for each in large.quality(images)] == [
        str(each) for each in small.quality(images)
    ]
    assert large._repr_html_() == small._repr_html_()
    for name, background in (("large", large), ("small", small)):
        background.save(tmp_path / f"{name}.rtdc")
    assert differences(tmp_path / "large.rtdc", tmp_path / "small.rtdc") == []


def test_the_file_is_that_of_dcnum(tmp_path, monkeypatch):
    monkeypatch.setattr("sparsemed.method.repeated.SMALL_BYTES", 0)
    images, time = joined(pause=100, count=100)
    with h5py.File(tmp_path / "in.rtdc", "w") as h5:
        h5["events/image"], h5["events/time"] = images, time
    for name, job_class in (("ours", BackgroundSparseMed), ("theirs", dcnum_background)):
        with job_class(tmp_path / "in.rtdc", tmp_path / f"{name}.rtdc", kernel_size=20) as job:
            job.process()
    assert differences(tmp_path / "ours.rtdc", tmp_path / "theirs.rtdc") == []


def test_repeated_images_are_asked_like_an_array():
    distinct = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5)
    index = np.array([0, 0, 2, 2, 2, 1, 0, 0])
    images, array = RepeatedImages(distinct, index), distinct[index]
    assert (images.shape, images.dtype, images.ndim, len(images)) == ((8, 4, 5), np.uint8, 3, 8)
    for key in (
        3,
        -1,
        slice(1, 6),
        slice(None, None, -2),
        np.array([5, 1, 1]),
        index == 0,
        (2, 1),
        (slice(2, 5), slice(1, 3)),
        (slice(None), 1, slice(2)),
        (np.array([1, 5]), 0),
        ...,
        (..., 0),
    ):
        np.testing.assert_array_equal(images[key], array[key], strict=True)
    np.testing.assert_array_equal(np.asarray(images), array, strict=True)
    np.testing.assert_array_equal(images + 1, array + 1, strict=True)
    np.testing.assert_array_equal(1 + images, array + 1, strict=True)
    assert np.max(images) == array.max()
    with pytest.raises(AttributeError, match=r"no 'mean'; numpy.asarray\(\) makes .* 1.6e-07 GB"):
        images.mean()
    np.testing.assert_array_equal(np.median(images, axis=0), np.median(array, axis=0))
    np.testing.assert_array_equal([image.sum() for image in images], array.sum(axis=(1, 2)))
    with pytest.raises(ValueError, match="can only be a copy"):
        np.asarray(images, copy=False)
    with pytest.raises(IndexError):
        images[8]
    assert not hasattr(images, "nonsense")
    assert repr(images) == "RepeatedImages((8, 4, 5), uint8, of which 3 differ)"
    np.testing.assert_array_equal(pick(images, np.array([5, 2])), array[[5, 2]])
    assert isinstance(repeat(distinct, index), np.ndarray)


# Blocks of Dask -------------------------------------------------------------------------------


def stacked(images):
    """Return frames as one usually makes a stack of them: one delayed call a frame."""
    load = dask.delayed(lambda number: images[number], pure=True)
    frames = [da.from_delayed(load(i), images.shape[1:], images.dtype) for i in range(len(images))]
    return da.stack(frames)


DASK = {
    "one frame a block": lambda: da.from_array(IMAGES, chunks=(1, -1, -1)),
    "a stack": lambda: stacked(IMAGES),
    "mapped": lambda: da.from_array(IMAGES, chunks=(7, -1, -1)).map_blocks(lambda b: b),
    "tiles": lambda: da.from_array(IMAGES, chunks=(7, 15, 20)),
    "rechunked": lambda: da.from_array(IMAGES, chunks=(1, -1, -1)).rechunk((90, 10, -1)),
    "empty blocks": lambda: da.concatenate(
        [
            da.from_array(part, chunks=(5, -1, -1))
            for part in (IMAGES[:0], IMAGES[:100], IMAGES[100:100], IMAGES[100:])
        ]
    ),
    "sliced": lambda: da.from_array(np.repeat(IMAGES, 2, axis=0), chunks=(9, -1, -1))[::2],
    "turned around": lambda: da.from_array(IMAGES[::-1], chunks=(9, -1, -1))[::-1],
    "persisted": lambda: da.from_array(IMAGES, chunks=(11, -1, -1)).persist(),
}


@pytest.mark.parametrize("kind", DASK)
def test_arrays_of_dask(kind, monkeypatch):
    monkeypatch.setattr("sparsemed.frames.arrays.BATCH_BYTES", 50 * IMAGES[0].nbytes)
    images = DASK[kind]()
    check_same(compute_background(images, time=TIME))
    with dask.config.set(scheduler="synchronous"):
        check_same(compute_background(images, time=TIME))


class Tasks(Callback):
    """Counts the tasks that Dask looks at."""

    def __init__(self):
        self.seen = 0
        super().__init__(start=lambda graph: self.count(graph))

    def count(self, graph):
        self.seen += len(graph)


@pytest.mark.parametrize("kind", ["one frame a block", "a stack"])
def test_each_read_looks_at_its_own_blocks(kind, monkeypatch):
    monkeypatch.setattr("sparsemed.frames.arrays.BATCH_BYTES", 10 * IMAGES[0].nbytes)
    images = DASK[kind]()
    with Tasks() as tasks:
        check_same(compute_background(images, time=TIME))
    assert COUNT <= tasks.seen <= len(images.__dask_graph__()) + 2 * COUNT


# Arrays of other libraries --------------------------------------------------------------------


def of_tensorstore():
    tensorstore = pytest.importorskip("tensorstore")
    store = tensorstore.open(
        {
            "driver": "zarr",
            "kvstore": {"driver": "memory"},
            "create": True,
            "metadata": {"shape": [COUNT, 40, 64], "chunks": [10, 40, 64], "dtype": "|u1"},
        }
    ).result()
    store[...] = IMAGES
    return store


@pytest.mark.parametrize(
    "images",
    [
        of_tensorstore,
        lambda: pytest.importorskip("tensorstore").array(IMAGES),
        lambda: xarray.DataArray(IMAGES, dims=("t", "y", "x")),
        lambda: xarray.DataArray(da.from_array(IMAGES, chunks=(7, -1, -1)), dims=("t", "y", "x")),
    ],
    ids=["tensorstore", "tensorstore, in memory", "xarray", "xarray of Dask"],
)
def test_arrays_of_other_libraries(images):
    check_same(compute_background(images(), time=TIME))


@pytest.mark.filterwarnings("ignore")  # what dclab says of files it makes
def test_images_as_dclab_has_them(tmp_path):
    raw = write_raw(tmp_path / "raw.rtdc")
    export(raw, tmp_path / "export.rtdc", filtered=True)
    for path in (raw, tmp_path / "export.rtdc"):
        with dclab.new_dataset(path) as data:
            data.filter.manual[::3] = False
            data.apply_filter()
            child = dclab.new_dataset(data)
            for each in (data, child):
                images, time = each["image"], each["time"][:]
                found = compute_background(images, time=time)
                check_same(found, np.array(images[:]), time)


# Virtual datasets -----------------------------------------------------------------------------


def test_virtual_datasets_of_virtual_datasets(tmp_path):
    with h5py.File(tmp_path / "0.rtdc", "w") as h5:
        h5["events/image"] = IMAGES
    for number in range(1, 4):
        layout = h5py.VirtualLayout(IMAGES.shape, "u1")
        layout[:] = h5py.VirtualSource(f"{number - 1}.rtdc", "events/image", IMAGES.shape)
        with h5py.File(tmp_path / f"{number}.rtdc", "w") as h5:
            h5.create_virtual_dataset("events/image", layout)
            h5["events/time"] = TIME
        check_same(compute_background(tmp_path / f"{number}.rtdc"))
        check_same(compute_background(tmp_path / f"{number}.rtdc", basins="same-folder"))
        with pytest.raises(ValueError, match="basins='off' does not follow"):
            compute_background(tmp_path / f"{number}.rtdc", basins="off")
    (tmp_path / "0.rtdc").rename(tmp_path / "away.rtdc")
    with pytest.raises(ValueError, match=r"virtual dataset\): leads to .*0\.rtdc, which does not"):
        compute_background(tmp_path / "3.rtdc")
