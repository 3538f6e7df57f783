"""Whatever kind of array the frames are in: the same bits, one pass, bounded memory."""

import os
import tracemalloc
import weakref
from collections import Counter
from contextlib import contextmanager
from threading import Lock

import dask
import dask.array
import dask.array as da
import h5py
import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import given
from hypothesis import strategies as st
from parity.compare import differences
from rings import examples
from zarr.storage import MemoryStore, WrapperStore

from sparsemed import BackgroundSparseMed, compute_background
from sparsemed.frames import arrays
from sparsemed.frames.dask_blocks import DaskBlocks
from sparsemed.frames.opening import open_frames

FIELDS = ("images", "frame_index", "offsets", "series", "step_times", "kept", "score", "time")


def numbered(count, height=24, width=10, dtype=np.uint8, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, np.iinfo(dtype).max, (count, height, width), dtype, endpoint=True)


def check_equal(found, expected):
    for name in FIELDS:
        left, right = getattr(found, name), getattr(expected, name)
        if right is None:
            assert left is None
        else:
            np.testing.assert_array_equal(left, right, strict=True, err_msg=name)


# Every kind -----------------------------------------------------------------------------------

KINDS = {}


def kind(name):
    """Register a way to hold images; it is given them and a folder, and yields the array."""

    def register(make):
        KINDS[name] = contextmanager(make)
        return make

    return register


@kind("Fortran order")
def _(images, folder):
    yield np.asfortranarray(images)


@kind("frames last in memory")
def _(images, folder):
    yield np.moveaxis(np.ascontiguousarray(np.moveaxis(images, 0, 2)), 2, 0)


@kind("strides")
def _(images, folder):
    wide = np.full([2 * n + 1 for n in images.shape], 77, images.dtype)
    wide[1::2, 1::2, -2::-2] = images
    yield wide[1::2, 1::2, -2::-2]


@kind("backwards")
def _(images, folder):
    yield images[::-1].copy()[::-1]


@kind("big-endian")
def _(images, folder):
    yield images.astype(images.dtype.newbyteorder(">"))


@kind("read-only")
def _(images, folder):
    images = images.copy()
    images.flags.writeable = False
    yield images


@kind("subclass")
def _(images, folder):
    yield np.ma.masked_array(images)


@kind("memmap")
def _(images, folder):
    images.tofile(folder / "raw")
    yield np.memmap(folder / "raw", images.dtype, "r", shape=images.shape)


@kind("memmap of a .npy file")
def _(images, folder):
    np.save(folder / "images.npy", np.asfortranarray(images))
    yield np.load(folder / "images.npy", mmap_mode="r")


def hdf5_kind(name, **options):
    def make(images, folder):
        with h5py.File(folder / "images.h5", "w") as h5:
            h5.create_dataset("image", data=images, **options)
        with h5py.File(folder / "images.h5") as h5:
            yield h5["image"]

    kind(f"HDF5, {name}")(make)


hdf5_kind("contiguous")
hdf5_kind("chunks", chunks=(7, 24, 10), compression="gzip", fletcher32=True)
hdf5_kind("tiles", chunks=(7, 11, 4), compression="lzf")


@kind("HDF5, open for writing")
def _(images, folder):
    with h5py.File(folder / "images.h5", "w") as h5:
        yield h5.create_dataset("image", data=images, chunks=(7, 24, 10))


@kind("HDF5, virtual")
def _(images, folder):
    with h5py.File(folder / "images.h5", "w") as h5:
        h5["part"] = images
        layout = h5py.VirtualLayout(images.shape, images.dtype)
        layout[:] = h5py.VirtualSource(h5["part"])
        yield h5.create_virtual_dataset("image", layout)


def dask_kind(name, chunks):
    def make(images, folder):
        yield da.from_array(images, chunks)

    kind(f"Dask, {name}")(make)


dask_kind("one block", (-1, -1, -1))
dask_kind("frame by frame", (1, -1, -1))
dask_kind("equal blocks", (13, -1, -1))
dask_kind("tiles", (13, 7, 4))
dask_kind("unequal blocks", ((1, 60, 3, 0, 40, 16), (24,), (3, 7)))


@kind("Dask, of HDF5")
def _(images, folder):
    with h5py.File(folder / "images.h5", "w") as h5:
        dataset = h5.create_dataset("image", data=images, chunks=(7, 24, 10))
        yield da.from_array(dataset, chunks=(14, -1, -1), lock=True)


@kind("Dask, of Zarr")
def _(images, folder):
    yield da.from_zarr(zarr.array(images, chunks=(7, 24, 10)))


@kind("Dask, of a computation")
def _(images, folder):
    halves = da.from_array(images.astype(np.float64) / 2, chunks=(20, -1, -1))
    yield (halves * 2).astype(images.dtype)[::-1][::-1].rechunk((9, -1, -1))


def zarr_kind(name, **options):
    def make(images, folder):
        store = zarr.create_array(
            folder / "images.zarr", shape=images.shape, dtype=images.dtype, **options
        )
        store[:] = images
        yield zarr.open_array(folder / "images.zarr", mode="r")

    kind(f"Zarr, {name}")(make)


zarr_kind("chunks", chunks=(7, 24, 10))
zarr_kind("tiles", chunks=(7, 11, 4))
zarr_kind("shards", chunks=(5, 24, 10), shards=(20, 24, 10))
zarr_kind("one chunk", chunks=(200, 24, 10))
zarr_kind("version 2", chunks=(7, 24, 10), zarr_format=2)


@kind("TIFF, mapped into memory")
def _(images, folder):
    tifffile.imwrite(folder / "images.tif", images, photometric="minisblack")
    yield tifffile.memmap(folder / "images.tif", mode="r")


@kind("TIFF, mapped into memory, big-endian")
def _(images, folder):
    tifffile.imwrite(folder / "images.tif", images, photometric="minisblack", byteorder=">")
    yield tifffile.memmap(folder / "images.tif", mode="r")


def tiff_zarr_kind(name, **options):
    def make(images, folder):
        tifffile.imwrite(folder / "images.tif", images, photometric="minisblack", **options)
        with tifffile.imread(folder / "images.tif", aszarr=True) as store:
            yield zarr.open_array(store, mode="r")

    kind(f"TIFF, as Zarr, {name}")(make)


tiff_zarr_kind("pages")
tiff_zarr_kind("compressed", compression="zlib")
tiff_zarr_kind("strips", rowsperstrip=5)


@kind("anything")
def _(images, folder):
    class Anything:
        shape, dtype = images.shape, images.dtype

        def __getitem__(self, span):
            return images[span]

    yield Anything()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("kind", KINDS)
def test_all_kinds_of_arrays_give_the_same_bits(tmp_path, monkeypatch, kind, dtype):
    monkeypatch.setattr(arrays, "BATCH_BYTES", 4000)  # so that there are many reads
    images = numbered(120, dtype=dtype)
    settings = {"time": np.arange(120) / 20, "kernel_size": 15}
    for offset_correction in (True, False):
        settings["offset_correction"] = offset_correction
        expected = compute_background(images, **settings)
        folder = tmp_path / str(offset_correction)
        folder.mkdir()
        with KINDS[kind](images, folder) as array:
            check_equal(compute_background(array, **settings), expected)


@pytest.mark.parametrize("rows", [1, 11, 12, 23, 24])
@pytest.mark.parametrize("kind", KINDS)
def test_as_many_rows_are_read_as_there_is_room_for(tmp_path, kind, rows):
    images = numbered(120)
    with KINDS[kind](images, tmp_path) as array:
        frames = open_frames(array, 2)
        assert 1 <= frames.row_block <= 24
        with frames.reading() as read:
            for start, stop in ((0, 21), (21, 120)):
                out = np.full((stop - start, rows, images.shape[2]), 171, frames.dtype)
                read(start, stop, out)
                np.testing.assert_array_equal(out, images[start:stop, :rows])
            whole = np.empty((99, *images.shape[1:]), frames.dtype)  # of what is held
            read(21, 120, whole)
            np.testing.assert_array_equal(whole, images[21:])


@pytest.mark.parametrize("kind", KINDS)
def test_the_class_takes_all_kinds_of_arrays(tmp_path, kind):
    images = numbered(120, dtype=np.uint16)
    settings = {"split_time": 0.01, "kernel_size": 15}
    with BackgroundSparseMed(images, tmp_path / "expected.h5", **settings) as job:
        job.process()
    with KINDS[kind](images, tmp_path) as array:
        with BackgroundSparseMed(array, tmp_path / "found.h5", **settings) as job:
            job.process()
        assert job.image_count == 120
        assert job.image_shape == (24, 10)
    assert differences(tmp_path / "expected.h5", tmp_path / "found.h5") == []


# One pass, bounded memory ---------------------------------------------------------------------


class Loads:
    """Blocks that are loaded when Dask asks for them: how often, and how many bytes at once."""

    def __init__(self, images):
        self.images = images
        self.times = Counter()
        self.largest = 0
        self._held = 0
        self._lock = Lock()

    def in_blocks(self, chunks):
        chunks = da.core.normalize_chunks(chunks, self.images.shape)
        empty = np.empty((0, 0, 0), self.images.dtype)
        name = f"load-{id(self)}"
        return da.map_blocks(self.load, chunks=chunks, meta=empty, name=name)

    def load(self, block_info):
        spans = block_info[None]["array-location"]
        block = self.images[tuple(slice(*span) for span in spans)].copy()
        with self._lock:
            self.times[tuple(spans)] += 1
            self._held += block.nbytes
            self.largest = max(self.largest, self._held)
        weakref.finalize(block, self._release, block.nbytes)
        return block

    def _release(self, size):
        with self._lock:
            self._held -= size


@st.composite
def dask_chunks(draw, shape):
    lengths = draw(st.lists(st.integers(1, 40), min_size=1, max_size=60))
    lengths = [n for n, end in zip(lengths, np.cumsum(lengths), strict=True) if end < shape[0]]
    rows, columns = draw(st.integers(1, shape[1])), draw(st.integers(1, shape[2]))
    return ((*lengths, shape[0] - sum(lengths)), rows, columns)


@examples(25)
@given(data=st.data(), kernel_size=st.integers(1, 50), at_once=st.integers(1, 60))
def test_each_dask_block_is_loaded_once(data, kernel_size, at_once):
    images = numbered(90, 8, 6, np.uint16)
    loads = Loads(images)
    blocks = loads.in_blocks(data.draw(dask_chunks(images.shape)))
    settings = {"time": np.arange(90) / 9, "kernel_size": kernel_size}
    settings["offset_correction"] = data.draw(st.booleans())
    with pytest.MonkeyPatch.context() as patch, dask.config.set(scheduler="synchronous"):
        patch.setattr(arrays, "BATCH_BYTES", at_once * 96)
        found = compute_background(blocks, **settings)
    check_equal(found, compute_background(images, **settings))
    assert set(loads.times.values()) == {1}
    if settings["offset_correction"]:
        assert len(loads.times) == blocks.npartitions
    assert loads.largest <= 96 * max(at_once, *blocks.chunks[0])


@pytest.mark.parametrize(
    "lengths", [(50,) * 40, (70,) * 28 + (40,), (1, 1200, 1) + (7,) * 114], ids=lambda n: str(n[:3])
)
def test_dask_blocks_are_not_held(lengths):
    """With Dask's threads, and blocks that weigh something."""
    images = numbered(2000, 40, 100)
    loads = Loads(images)
    assert sum(lengths) == len(images)
    heaviest = max(lengths) * 4000
    assert heaviest < images.nbytes
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arrays, "BATCH_BYTES", 300_000)
        compute_background(loads.in_blocks((lengths, 40, 100)), np.arange(2000) / 400)
    assert set(loads.times.values()) == {1}
    assert len(loads.times) == len(lengths)
    assert loads.largest <= max(heaviest, 300_000)


def test_dask_blocks_between_the_windows_are_not_loaded():
    images = numbered(1000, 8, 6)
    loads = Loads(images)
    settings = {"time": np.arange(1000) / 100, "kernel_size": 5, "offset_correction": False}
    found = compute_background(loads.in_blocks((10, -1, -1)), **settings)
    check_equal(found, compute_background(images, **settings))
    windows = {((n, n + 10), (0, 8), (0, 6)) for n in range(0, 1000, 100)}
    assert loads.times == Counter(windows)


class CountingStore(WrapperStore):
    """A Zarr store that counts how often each object of it is read."""

    def __init__(self, store, times=None):
        super().__init__(store)
        self.times = Counter() if times is None else times

    def _with_store(self, store):
        return type(self)(store, self.times)

    async def get(self, key, prototype, byte_range=None):
        self.times[key] += 1
        return await super().get(key, prototype, byte_range)


@pytest.mark.parametrize(
    "chunks",
    [(1, 40, 100), (7, 40, 100), (50, 16, 30), (75, 40, 100), (333, 40, 100), (2000, 40, 100)],
    ids=str,
)
@pytest.mark.parametrize("offset_correction", [True, False])
def test_each_zarr_chunk_is_read_once(chunks, offset_correction, monkeypatch):
    monkeypatch.setattr(arrays, "BATCH_BYTES", 300_000)
    images = numbered(1000, 40, 100)
    plain = MemoryStore()
    zarr.create_array(plain, shape=images.shape, dtype=images.dtype, chunks=chunks)[:] = images
    store = CountingStore(plain)
    array = zarr.open_array(store, mode="r")
    store.times.clear()
    settings = {"time": np.arange(1000) / 100, "kernel_size": 30}
    settings["offset_correction"] = offset_correction
    check_equal(compute_background(array, **settings), compute_background(images, **settings))
    # frames that are looked at are read once more, where only their bands were needed
    is_in_rows = offset_correction and chunks == (50, 16, 30)
    assert set(store.times.values()) <= ({1, 2} if is_in_rows else {1})
    assert set(store.times) <= set(plain._store_dict)
    if offset_correction:
        below_bands = 10 * 4 if chunks == (50, 16, 30) else 0  # of blocks between the windows
        # of those frames, some are looked at whole
        assert array.nchunks - below_bands <= len(store.times)
        assert is_in_rows == (len(store.times) < array.nchunks)


@contextmanager
def dask_in_memory(images, folder):
    with dask.config.set(scheduler="synchronous"):
        yield Loads(images).in_blocks((100, -1, -1))


@contextmanager
def zarr_on_disk(images, folder):
    chunks = (100, *images.shape[1:])
    array = zarr.create_array(
        folder / "images.zarr", shape=images.shape, dtype=images.dtype, chunks=chunks
    )
    array[:] = images
    yield array


@pytest.mark.parametrize(
    "hold",
    [dask_in_memory, zarr_on_disk, KINDS["HDF5, contiguous"], KINDS["memmap"], KINDS["anything"]],
    ids=["Dask", "Zarr", "HDF5", "memmap", "anything"],
)
def test_memory_does_not_hold_the_images(tmp_path, monkeypatch, hold):
    images = numbered(4000, 40, 400)
    settings = {"kernel_size": 50, "num_cpus": 1}
    compute_background(images[:100], np.arange(100.0), **settings)  # the kernel is compiled
    batch = 2 * 1024**2
    monkeypatch.setattr(arrays, "BATCH_BYTES", batch)
    monkeypatch.setattr("sparsemed.method.series.HELD_BYTES", 2 * batch)
    with hold(images, tmp_path) as array:
        tracemalloc.start()
        try:
            compute_background(array, np.arange(4000) / 400, **settings)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    # what is held and being read, and a few times what is taken from the array at once
    assert peak < 8 * batch < images.nbytes / 3


# What is not an array of images, and arrays that change ----------------------------------------


@pytest.mark.parametrize("images", [list(numbered(3)), tuple(numbered(3)), iter(numbered(3))])
def test_several_images_have_to_be_stacked(tmp_path, images):
    with pytest.raises(TypeError, match=r"make one array of it with numpy\.stack\("):
        compute_background(images)
    with pytest.raises(TypeError, match=r"make one array of it with numpy\.stack\("):
        BackgroundSparseMed(images, tmp_path / "out.h5")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("length", [80, 200])
def test_nothing_is_written_when_an_array_changes_its_length(tmp_path, length):
    array = zarr.array(numbered(120), chunks=(10, 24, 10))

    class Changing:
        dtype = array.dtype
        chunks = array.chunks

        @property
        def shape(self):
            return array.shape

        def __getitem__(self, span):
            array.resize((length, 24, 10))
            return array[span]

    with pytest.raises(ValueError, match="must not change while they are read"):
        compute_background(Changing())
    array.resize((120, 24, 10))
    with BackgroundSparseMed(Changing(), tmp_path / "out.h5") as job:
        with pytest.raises(ValueError, match="must not change while they are read"):
            job.process()
        assert job.background is None
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("is_worker", [False, True])
def test_the_scheduler_of_a_cluster_is_asked_unless_this_is_a_task_of_it(monkeypatch, is_worker):
    """A task that waits for another one of the same worker may wait forever."""
    asked = []

    def cluster(graph, keys, **_):
        asked.append(keys)
        return dask.get(graph, keys)

    monkeypatch.setattr(
        "sparsemed.frames.dask_blocks.this_worker", lambda: object() if is_worker else None
    )
    images = np.arange(6 * 4 * 5, dtype=np.uint8).reshape(6, 4, 5)
    with dask.config.set(scheduler=cluster):
        found = DaskBlocks(dask.array.from_array(images, chunks=(2, 4, 5))).read(0, 6, 4)
    np.testing.assert_array_equal(found, images)
    assert bool(asked) is not is_worker
