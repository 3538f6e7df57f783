"""Arrays in blocks that are long in time are read tile by tile: each block once, the same bits."""

import dataclasses
import subprocess
import sys
import tracemalloc
from collections import Counter

import dask
import dask.array as da
import h5py
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsemed import compute_background
from sparsemed.frames import tiles
from sparsemed.frames.arrays import ArrayFrames
from sparsemed.frames.hdf5_layout import why_hdf5_reads
from sparsemed.frames.tiles import tiles_of

FRAMES = np.random.default_rng(0).integers(0, 4096, (300, 45, 66), np.uint16)
SETTINGS = {"time": np.arange(300) / 50, "kernel_size": 30}
NAMES = ("images", "frame_index", "offsets", "series", "score")


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    monkeypatch.setattr(tiles, "TILE_BYTES", 200_000)


def check_equal(found, expected):
    for name in NAMES:
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), strict=True)


class Blocks:
    """Frames in blocks, which counts how often each is read."""

    def __init__(self, images):
        self.images = images
        self.read = Counter()

    def block(self, block_info=None):
        place = block_info[None]["array-location"]
        self.read[str(place)] += 1
        return self.images[tuple(slice(*each) for each in place)]

    def array(self, chunks):
        chunks = da.core.normalize_chunks(chunks, self.images.shape)
        return da.map_blocks(self.block, chunks=chunks, dtype=self.images.dtype, meta=np.empty(0))


@pytest.mark.parametrize("offset_correction", [True, False])
@pytest.mark.parametrize("chunks", [(-1, 1, -1), (-1, 16, 16), (-1, 45, 7), (150, 16, 16)], ids=str)
def test_each_block_of_dask_is_computed_once(chunks, offset_correction):
    blocks = Blocks(FRAMES)
    array = blocks.array(chunks)
    settings = SETTINGS | {"offset_correction": offset_correction}
    assert len(tiles_of(ArrayFrames(array))) > 1
    with dask.config.set(scheduler="synchronous"):
        found = compute_background(array, **settings)
    assert set(blocks.read.values()) == {1}
    assert len(blocks.read) == array.npartitions
    expected = compute_background(FRAMES, **settings)
    for name in NAMES:
        if name != "offsets" or offset_correction:
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


@pytest.mark.parametrize("chunks", [(-1, 1, -1), (150, 16, 16)], ids=str)
def test_each_block_is_computed_once_for_a_verdict(chunks):
    blocks = Blocks(FRAMES)
    background = compute_background(FRAMES, **SETTINGS)
    background = dataclasses.replace(background, seen=None)
    with dask.config.set(scheduler="synchronous"):
        found = background.quality(blocks.array(chunks), try_cures=False)
    assert set(blocks.read.values()) == {1}
    assert found == background.quality(FRAMES, try_cures=False)


@pytest.mark.parametrize("chunks", [(300, 1, 66), (300, 16, 16), (128, 45, 8)], ids=str)
def test_zarr_has_the_same_bits(tmp_path, chunks):
    array = zarr.create_array(tmp_path / "a.zarr", data=FRAMES, chunks=chunks)
    assert len(tiles_of(ArrayFrames(array))) > 1
    check_equal(compute_background(array, **SETTINGS), compute_background(FRAMES, **SETTINGS))
    of_path = compute_background(tmp_path / "a.zarr", **SETTINGS)
    check_equal(of_path, compute_background(FRAMES, **SETTINGS))


@pytest.mark.parametrize("chunks", [(300, 1, 66), (300, 16, 16)], ids=str)
@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_hdf5_has_the_same_bits(tmp_path, chunks, dtype, warned):
    with h5py.File(tmp_path / "a.h5", "w") as h5:
        made = h5.create_dataset(
            "images", shape=FRAMES.shape, dtype=dtype, chunks=chunks, compression="gzip"
        )
        made[:, :32] = FRAMES[:, :32] + 1
    with h5py.File(tmp_path / "a.h5") as h5:
        found = compute_background(h5["images"], **SETTINGS)
        by_ranges = compute_background(h5["images"], ranges=3, **SETTINGS)
        expected = compute_background(h5["images"][:], **SETTINGS)
        reason = why_hdf5_reads(h5["images"])
        assert ("long in time" in reason) == (dtype == np.uint16)  # floats are read by it anyway
    check_equal(found, expected)
    check_equal(by_ranges, expected)
    assert found.unwritten == ((0, 300),)
    assert sum("were never written" in text for text in warned()) == 2


def test_chunks_that_zarr_lacks_are_told(tmp_path, warned):
    array = zarr.create_array(
        tmp_path / "a.zarr", shape=FRAMES.shape, dtype=FRAMES.dtype, chunks=(100, 16, 16)
    )
    array[:200] = FRAMES[:200] + 1
    found = compute_background(array, **SETTINGS)
    assert found.unwritten == ((200, 300),)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(1, 70), st.integers(1, 25))
def test_any_tiles_and_rows_for_offsets_give_the_same_bits(seed, tall, wide, rows):
    images = np.random.default_rng(seed).integers(0, 256, (60, 30, 35), np.uint8)
    settings = {"frame_rate": 10, "kernel_size": 9, "offset_rows": rows}
    array = da.from_array(images, chunks=(-1, min(30, tall), min(35, wide)))
    tiles.TILE_BYTES, before = 5000, tiles.TILE_BYTES
    try:
        with dask.config.set(scheduler="synchronous"):
            found = compute_background(array, **settings)
    finally:
        tiles.TILE_BYTES = before
    check_equal(found, compute_background(images, **settings))


def test_floats_and_ranges_of_tiles(tmp_path):
    array = zarr.create_array(tmp_path / "a.zarr", data=FRAMES.astype("f4"), chunks=(300, 16, 16))
    for ranges in (None, 3):
        found = compute_background(array, ranges=ranges, **SETTINGS)
        check_equal(found, compute_background(FRAMES, **SETTINGS))


def test_light_blocks_are_read_as_whole_frames(tmp_path):
    for chunks in ((5, 45, 66), (5, 16, 16)):
        array = zarr.create_array(tmp_path / str(chunks[1]), data=FRAMES, chunks=chunks)
        assert not tiles_of(ArrayFrames(array))
    assert not tiles_of(ArrayFrames(FRAMES))
    assert not tiles_of(ArrayFrames(da.from_array(FRAMES, chunks=-1)))  # there is but one


@pytest.mark.parametrize("chunks", [(4000, 1, 400), (4000, 8, 64)], ids=str)
@pytest.mark.parametrize("as_dask", [False, True])
def test_memory_is_bounded(tmp_path, monkeypatch, chunks, as_dask):
    images = np.random.default_rng(0).integers(0, 9, (4000, 40, 400), np.uint8)
    array = zarr.create_array(tmp_path / "a.zarr", data=images, chunks=chunks, compressors=None)
    if as_dask:
        array = da.from_zarr(array)
    settings = {"kernel_size": 50, "num_cpus": 1, "time": np.arange(4000) / 400}
    batch = 2 * 1024**2
    monkeypatch.setattr("sparsemed.frames.arrays.BATCH_BYTES", batch)
    monkeypatch.setattr("sparsemed.method.series.HELD_BYTES", 2 * batch)
    monkeypatch.setattr(tiles, "TILE_BYTES", 2 * batch)
    compute_background(array, **settings)  # the kernel is compiled, and Zarr imported
    tracemalloc.start()
    try:
        compute_background(array, **settings)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 12 * batch < images.nbytes / 2


OF_MANY_THREADS = """
import sys, threading, time
import dask, dask.array, numpy, psutil, zarr
from sparsemed import compute_background

def frames(count):
    array = zarr.create_array(
        f"{sys.argv[1]}/{count}", shape=(count, 80, 400), chunks=(count, 1, 400), dtype="u1"
    )
    rng = numpy.random.default_rng(0)
    for number in range(80):
        array[:, number : number + 1] = rng.integers(100, 120, (count, 1, 400), numpy.uint8)
    return dask.array.from_zarr(array)

def compute(frames):
    with dask.config.set(num_workers=2):
        compute_background(frames, numpy.arange(len(frames)) / 100, num_cpus=2)

compute(frames(400))
process, peak, given = psutil.Process(), 0, frames(20000)
before = process.memory_info().rss
work = threading.Thread(target=compute, args=(given,))
work.start()
while work.is_alive():
    peak = max(peak, process.memory_info().rss)
    time.sleep(0.001)
print((peak - before) / 2**20)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="of its C library")
def test_threads_that_compute_blocks_keep_no_memory_for_each(tmp_path):
    """It is some 104 MiB; it was 140 to 280 when each thread kept what it had decoded."""
    taken = []
    for name in ("once", "again"):  # the C library keeps more if other programs are busy
        run = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", OF_MANY_THREADS, tmp_path / name],
            capture_output=True,
            text=True,
            check=True,
        )
        taken.append(float(run.stdout))
    assert min(taken) < 130, taken


def test_blocks_that_are_not_what_the_array_says(monkeypatch):
    """They are read all the same, if their values fit; masked values are an error."""
    monkeypatch.setattr(tiles, "TILE_BYTES", 1)
    frames = da.from_array(FRAMES, chunks=(300, 16, 16))
    expected = compute_background(FRAMES, **SETTINGS)
    as_floats = frames.map_blocks(lambda block: block.astype("f4"), dtype="u2")
    check_equal(compute_background(as_floats, **SETTINGS), expected)
    unmasked = frames.map_blocks(np.ma.array, dtype="u2")
    check_equal(compute_background(unmasked, **SETTINGS), expected)
    with pytest.raises(ValueError, match="are masked"):
        compute_background(da.ma.masked_equal(frames, FRAMES[7, 3, 2]), **SETTINGS)
