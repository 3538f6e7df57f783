import ctypes
import logging
import os
import re
import shutil
import struct
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import h5py
import hdf5plugin
import imagecodecs
import numpy as np
import pytest
from h5py.h5d import StoreInfo
from hypothesis import example, given
from hypothesis import strategies as st
from imagecodecs import h5checksum_fletcher32
from rings import examples

import sparsemed
from sparsemed.frames import chunks
from sparsemed.frames.arrays import ArrayFrames
from sparsemed.frames.chunks import ChunkFrames
from sparsemed.frames.hdf5_layout import read_index, read_layout, why_hdf5_reads
from sparsemed.frames.opening import open_frames
from sparsemed.frames.source import Batch
from sparsemed.hdf5.opening import bytes_behind

FILTERS = {
    "none": {},
    "shuffle": {"shuffle": True, "fletcher32": True},
    "checksum": {"fletcher32": True},
    "gzip": {"compression": "gzip", "shuffle": True},
    "gzip, checksum": {"compression": "gzip", "fletcher32": True},
    "lzf": {"compression": "lzf", "shuffle": True, "fletcher32": True},
    "zstd": {**hdf5plugin.Zstd(clevel=5), "fletcher32": True},
    "lz4": hdf5plugin.LZ4(),
    "blosc": hdf5plugin.Blosc(),
}


def grainy(shape, dtype="u1", seed=1):
    rng = np.random.default_rng(seed)
    return rng.integers(0, np.iinfo(dtype).max, shape, endpoint=True).astype(dtype)


@contextmanager
def stored(path, images, **options):
    """Write images, and open the file again for reading."""
    with h5py.File(path, "w") as h5:
        h5.create_dataset("events/image", data=images, **options)
    with h5py.File(path) as h5:
        yield h5["events/image"]


def read(frames, *spans, rows=None):
    """Read spans of frames, or the first rows of them, by as many threads as may."""
    spans = spans or [
        (start, min(start + frames.batch, frames.shape[0]))
        for start in range(0, frames.shape[0], frames.batch)
    ]
    shape = (rows or frames.shape[1], frames.shape[2])
    found = [np.full((stop - start, *shape), 171, frames.dtype) for start, stop in spans]
    with frames.reading() as reading, ThreadPoolExecutor(frames.threads) as pool:
        list(pool.map(lambda span, out: reading(*span, out), spans, found))
    return np.concatenate(found)


def chunk_frames(dataset, num_cpus, label):
    """Return the frames of a dataset, to be read past HDF5."""
    return ChunkFrames(read_layout(dataset), bytes_behind(dataset), num_cpus, label)


def flip(path, byte, bit=0):
    """Flip a bit of a file."""
    with open(path, "r+b") as file:
        file.seek(byte)
        value = file.read(1)[0]
        file.seek(byte)
        file.write(bytes([value ^ 1 << bit]))


@pytest.mark.parametrize("level", [0, 1, 9])
def test_every_level_of_gzip_is_read_past_hdf5(tmp_path, level):
    images = grainy((9, 8, 7))
    options = {"chunks": (4, 8, 7), "compression": "gzip", "compression_opts": level}
    with stored(tmp_path / "a.h5", images, **options) as dataset:
        assert why_hdf5_reads(dataset) is None
        np.testing.assert_array_equal(read(chunk_frames(dataset, 2, "images")), images)


# What has to be read by HDF5


@pytest.mark.parametrize("dtype", ["u1", "<u2", ">u2"])
@pytest.mark.parametrize("filters", FILTERS.values(), ids=FILTERS)
@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_nothing_is_in_the_way(tmp_path, libver, filters, dtype):
    images = grainy((10, 6, 7), dtype)
    with h5py.File(tmp_path / "a.h5", "w", libver=libver) as h5:
        h5.create_dataset("image", data=images, chunks=(4, 6, 7), **filters)
        h5.create_dataset("growing", data=images, chunks=(20, 4, 9), maxshape=(None,) * 3)
        shrunk = h5.create_dataset("less", data=images, chunks=(2, 4, 4), maxshape=(None,) * 3)
        shrunk.resize((5, 4, 6))
    with h5py.File(tmp_path / "a.h5") as h5:
        for name in ("image", "growing", "less"):
            assert why_hdf5_reads(h5[name]) is None
            np.testing.assert_array_equal(read(chunk_frames(h5[name], 2, name)), h5[name][:])


@pytest.mark.parametrize("dtype", ["i1", "i2", "u4", "u8", "f2", "f4", "f8", "?"])
def test_other_dtypes(tmp_path, dtype):
    with stored(tmp_path / "a.h5", np.ones((4, 5, 6), dtype), chunks=(2, 5, 6)) as dataset:
        assert why_hdf5_reads(dataset) == f"its dtype is {np.dtype(dtype)}"


@pytest.mark.parametrize("axis", [1, 2])
def test_datasets_that_grow_along_another_axis(tmp_path, axis):
    images = grainy((4, 6, 8))
    most = tuple(None if n == axis else length for n, length in enumerate(images.shape))
    with h5py.File(tmp_path / "a.h5", "w", libver="latest") as h5:
        h5.create_dataset("image", data=images, chunks=(2, 3, 4), maxshape=most)
    with h5py.File(tmp_path / "a.h5") as h5:
        assert why_hdf5_reads(h5["image"]) == "it can grow, but not by frames"
        found = sparsemed.compute_background(h5["image"], np.arange(4), kernel_size=1)
        np.testing.assert_array_equal(found.series, images[:3])


def low_level(h5, kind, plist, shape=(4, 5, 6)):
    """Make a dataset as h5py's `create_dataset` cannot, and write it."""
    space = h5py.h5s.create_simple(shape)
    dataset = h5py.Dataset(h5py.h5d.create(h5.id, b"image", kind, space, plist))
    dataset[:] = grainy(shape, "u1")
    return dataset


@pytest.mark.parametrize(("size", "bits", "shift"), [(1, 4, 2), (1, 7, 0), (2, 12, 4), (2, 12, 0)])
def test_integers_of_some_bits_only(tmp_path, size, bits, shift):
    kind = (h5py.h5t.STD_U8LE if size == 1 else h5py.h5t.STD_U16LE).copy()
    kind.set_precision(bits)
    kind.set_offset(shift)
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk((2, 5, 6))
    with h5py.File(tmp_path / "a.h5", "w") as h5:
        low_level(h5, kind, plist)
    with h5py.File(tmp_path / "a.h5") as h5:
        assert why_hdf5_reads(h5["image"]) == "its values are not stored as plain integers"


def test_named_values(tmp_path):
    kind = h5py.enum_dtype({"dark": 0, "bright": 1}, "u1")
    with stored(tmp_path / "a.h5", np.ones((4, 5, 6), kind), chunks=(2, 5, 6)) as dataset:
        assert why_hdf5_reads(dataset) == "its values are not stored as plain integers"


def test_not_stored_in_chunks(tmp_path):
    images = grainy((4, 5, 6))
    with h5py.File(tmp_path / "a.h5", "w") as h5:
        h5["contiguous"] = images
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_layout(h5py.h5d.COMPACT)
        low_level(h5, h5py.h5t.STD_U8LE, plist)
        outside = [(str(tmp_path / "raw"), 0, h5py.h5f.UNLIMITED)]
        h5.create_dataset("external", data=images, external=outside)
        layout = h5py.VirtualLayout((4, 5, 6), "u1")
        layout[:] = h5py.VirtualSource(h5["contiguous"])
        h5.create_virtual_dataset("virtual", layout)
    with h5py.File(tmp_path / "a.h5") as h5:
        for name in ("image", "external", "virtual"):
            assert why_hdf5_reads(h5[name]) == "it is stored neither in chunks nor in one piece"
            np.testing.assert_array_equal(h5[name][:], images)


@pytest.fixture
def path(tmp_path):
    """Return the path of a file with chunks."""
    with stored(tmp_path / "a.h5", grainy((10, 6, 7)), chunks=(4, 6, 7)):
        pass
    return tmp_path / "a.h5"


@pytest.mark.parametrize("driver", ["core", "stdio", "split"])
def test_other_drivers(tmp_path, driver):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w", driver=driver if driver == "split" else None) as h5:
        h5.create_dataset("image", data=grainy((4, 5, 6)), chunks=(2, 5, 6))
    with h5py.File(path, driver=driver) as h5:
        found = why_hdf5_reads(h5["image"])
    assert found is not None
    assert found.startswith("its file is opened through the driver '")


def test_file_objects(path):
    with open(path, "rb") as file, h5py.File(file) as h5:
        reason = "its file is opened through the driver 'fileobj'"
        assert why_hdf5_reads(h5["events/image"]) == reason


@pytest.mark.parametrize("mode", ["r+", "a"])
def test_open_for_writing(path, mode):
    with h5py.File(path, mode) as h5:
        assert why_hdf5_reads(h5["events/image"]) == "its file is open for writing"
        with h5py.File(path, "r") as again:
            assert why_hdf5_reads(again["events/image"]) == "its file is open for writing"


def test_being_written_by_others(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w", libver="latest") as h5:
        h5.create_dataset("image", data=grainy((4, 5, 6)), chunks=(2, 5, 6))
    with h5py.File(tmp_path / "a.h5", libver="latest", swmr=True) as h5:
        assert why_hdf5_reads(h5["image"]) == "its file is open for writing"


def test_user_blocks(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w", userblock_size=512) as h5:
        h5.create_dataset("image", data=grainy((4, 5, 6)), chunks=(2, 5, 6))
    with h5py.File(tmp_path / "a.h5") as h5:
        assert why_hdf5_reads(h5["image"]) == "its file begins with a user block"


@pytest.mark.parametrize(
    ("options", "number"),
    [
        ({"scaleoffset": 0}, 6),
        (dict(hdf5plugin.Bitshuffle()), 32008),
        (dict(hdf5plugin.Blosc2()), 32026),
        (dict(hdf5plugin.BZip2()), 307),
        ({"compression": "szip"}, 4),
        ("nbit", 5),
    ],
    ids=lambda value: str(value) if isinstance(value, int) else "",
)
def test_unknown_filters(tmp_path, options, number):
    with h5py.File(tmp_path / "a.h5", "w") as h5:
        if options == "nbit":
            plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            plist.set_chunk((2, 5, 6))
            plist.set_filter(h5py.h5z.FILTER_NBIT, h5py.h5z.FLAG_OPTIONAL, ())
            low_level(h5, h5py.h5t.STD_U8LE, plist)
        elif number == 4 and not h5py.h5z.filter_avail(4):
            pytest.skip("this HDF5 cannot write szip")
        else:
            h5.create_dataset("image", data=grainy((4, 5, 6)), chunks=(2, 5, 6), **options)
    with h5py.File(tmp_path / "a.h5") as h5:
        reason = f"of its filters, those of number [{number}] are not known here"
        assert why_hdf5_reads(h5["image"]) == reason


@pytest.mark.parametrize("written", [[], [0], [1], [0, 2]])
def test_missing_chunks(tmp_path, written):
    with h5py.File(tmp_path / "a.h5", "w") as h5:
        dataset = h5.create_dataset("image", (12, 5, 6), "u1", chunks=(4, 5, 6), fillvalue=9)
        for number in written:
            dataset[4 * number] = 1
    with h5py.File(tmp_path / "a.h5") as h5:
        assert why_hdf5_reads(h5["image"]) == "some of its chunks were never written"


def test_no_frames_are_refused_before_chunks_are_looked_for(tmp_path):
    empty = np.empty((0, 5, 6), np.uint8)
    with stored(tmp_path / "a.rtdc", empty, chunks=(4, 5, 6), maxshape=(None, 5, 6)):
        pass
    with pytest.raises(ValueError, match="events"):
        sparsemed.compute_background(tmp_path / "a.rtdc")


# The same frames as HDF5 reads


EDGES = "chunks at its edges may be stored without its filters"


@st.composite
def cases(draw):
    shape = draw(st.tuples(st.integers(1, 30), st.integers(1, 9), st.integers(1, 9)))
    chunk = tuple(draw(st.integers(1, length)) for length in shape)
    if draw(st.booleans()):
        chunk = (chunk[0], *shape[1:])
    spans = []
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, shape[0] - 1))
        spans.append((start, draw(st.integers(start + 1, shape[0]))))
    return shape, chunk, spans


@examples(300)
@given(
    cases(),
    st.sampled_from(["u1", "<u2", ">u2"]),
    st.sampled_from(list(FILTERS)),
    st.integers(1, 4),
    st.sampled_from(["earliest", "latest"]),
    st.integers(1, 9),
    st.booleans(),
)
@example(((7, 5, 5), (3, 2, 2), [(0, 7), (1, 6), (4, 5)]), ">u2", "zstd", 3, "latest", 2, False)
@example(((7, 5, 5), (3, 5, 5), [(2, 4), (0, 7)]), "u1", "none", 4, "earliest", 3, True)
def test_equals_hdf5(tmp_path_factory, case, dtype, filters, num_cpus, libver, rows, by_rows):
    shape, chunk, spans = case
    path = tmp_path_factory.getbasetemp() / "chunks.h5"
    images = grainy(shape, dtype, seed=sum(shape))
    with h5py.File(path, "w", libver=libver) as h5:
        h5.create_dataset("image", data=images, chunks=chunk, **FILTERS[filters])
    with h5py.File(path) as h5:
        dataset = h5["image"]
        # the size of a small chunk may be the same by chance
        assert why_hdf5_reads(dataset) in (None, EDGES)
        frames = chunk_frames(dataset, num_cpus, "here")
        assert frames.shape == shape
        assert frames.dtype == np.dtype(dtype).newbyteorder("=")
        assert frames.dtype.isnative
        assert frames.block == chunk[0]
        assert frames.batch % frames.block == 0
        assert 1 <= frames.row_block <= shape[1]
        found = read(frames, *spans)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(chunks, "ROWS_BYTES", 0 if by_rows else 2**20)
            top = read(chunk_frames(dataset, num_cpus, "here"), *spans, rows=min(rows, shape[1]))
        expected = np.concatenate([dataset[start:stop] for start, stop in spans])
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(top, expected[:, :rows])
    np.testing.assert_array_equal(
        expected, np.concatenate([images[start:stop] for start, stop in spans])
    )


def test_chunks_in_any_order_in_the_file(tmp_path):
    images = grainy((20, 5, 6))
    with h5py.File(tmp_path / "a.h5", "w") as h5:
        dataset = h5.create_dataset("image", images.shape, "u1", chunks=(4, 5, 6))
        for start in (8, 0, 16, 12, 4):
            dataset.id.write_direct_chunk((start, 0, 0), images[start : start + 4].tobytes())
    with h5py.File(tmp_path / "a.h5") as h5:
        np.testing.assert_array_equal(read(chunk_frames(h5["image"], 2, "here")), images)


@pytest.mark.parametrize("dtype", ["u1", "<u2", ">u2"])
def test_frames_in_one_piece(tmp_path, dtype):
    images = grainy((200, 5, 6), dtype)
    with stored(tmp_path / "a.h5", images) as dataset:
        frames = open_frames(dataset, 2)
        assert isinstance(frames, ChunkFrames)
        np.testing.assert_array_equal(
            read(frames, (0, 64), (64, 200), (7, 8)), np.concatenate([images, images[7:8]])
        )


def test_frames_in_one_piece_of_a_file_that_is_cut_short(tmp_path):
    path = tmp_path / "a.h5"
    with stored(path, grainy((200, 5, 6))) as dataset:
        frames = open_frames(dataset, 2)
        os.truncate(path, dataset.id.get_offset() + 150 * 30)
        assert why_hdf5_reads(dataset) == "its file is shorter than its frames"
        with pytest.raises(OSError, match="frames 150 to 150 cannot be read, the file has become"):
            read(frames, (0, 200))


def test_frames_in_one_piece_that_were_never_written(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as h5:
        h5.create_dataset("image", (9, 5, 6), "u1")
    with h5py.File(tmp_path / "a.h5") as h5:
        frames = open_frames(h5["image"], 2)
        assert not isinstance(frames, ChunkFrames)
        assert frames.unwritten == [(0, 9)]
        np.testing.assert_array_equal(read(frames, (0, 9)), np.zeros((9, 5, 6), np.uint8))


def test_an_index_that_leads_back_into_itself_has_an_end():
    given = []

    def for_ever(take):
        while take(StoreInfo((0, 0, 0), 0, 800, 30)) is None:
            given.append(1)

    dataset = SimpleNamespace(
        shape=(4, 5, 6),
        chunks=(1, 5, 6),
        dtype=np.dtype("u1"),
        id=SimpleNamespace(chunk_iter=for_ever),
    )
    assert read_index(dataset).is_damaged
    assert len(given) < 1000


def test_nothing_is_written_beyond_the_frames_asked_for(tmp_path):
    images = grainy((20, 5, 6))
    for chunk in [(4, 5, 6), (7, 2, 4)]:
        with stored(tmp_path / "a.h5", images, chunks=chunk) as dataset:
            around = np.full((20, 5, 6), 171, np.uint8)
            with chunk_frames(dataset, 2, "here").reading() as reading:
                reading(5, 13, around[5:13])
            np.testing.assert_array_equal(around[5:13], images[5:13])
            assert (around[:5] == 171).all()
            assert (around[13:] == 171).all()


def test_tiles_below_the_rows_asked_for_are_not_read(tmp_path):
    path, images = tmp_path / "a.h5", grainy((9, 50, 30))
    with stored(path, images, chunks=(4, 10, 20), fletcher32=True) as dataset:
        info = dataset.id.get_chunk_info_by_coord((4, 20, 0))
    flip(path, info.byte_offset)
    with h5py.File(path) as h5:
        frames = chunk_frames(h5["events/image"], 2, "here")
        assert frames.row_block == 10
        np.testing.assert_array_equal(read(frames, rows=20), images[:, :20])
        with pytest.raises(OSError, match="wrong checksum"):
            read(frames, rows=21)


@pytest.mark.parametrize("options", [{}, {"chunks": (4, 50, 30)}], ids=["in one piece", "chunks"])
def test_of_large_frames_that_need_no_decoding_few_rows_are_read(tmp_path, options, monkeypatch):
    images = grainy((9, 50, 30))
    for most, ranges in ((1500, None), (1499, 9)):
        monkeypatch.setattr(chunks, "ROWS_BYTES", most)
        with stored(tmp_path / "a.h5", images, **options) as dataset:
            frames = chunk_frames(dataset, 2, "here")
            assert frames.row_block == (50 if ranges is None else 1)
            expected = []
            monkeypatch.setattr(frames.stored, "expect", expected.extend)
            with frames.reading([Batch(0, 9, 20)]) as reading:
                out = np.empty((9, 20, 30), np.uint8)
                reading(0, 9, out)
            np.testing.assert_array_equal(out, images[:, :20])
        if ranges is not None:
            assert [end - begin for begin, end in expected] == [20 * 30] * 9


@pytest.mark.parametrize("num_cpus", [1, 8, 100])
def test_more_threads_than_chunks(tmp_path, num_cpus):
    images = grainy((3, 5, 6))
    with stored(tmp_path / "a.h5", images, chunks=(2, 5, 6)) as dataset:
        np.testing.assert_array_equal(read(chunk_frames(dataset, num_cpus, "here")), images)


def test_several_readers_at_once(tmp_path):
    images = grainy((60, 5, 6))
    with stored(tmp_path / "a.h5", images, chunks=(4, 5, 6), compression="gzip") as dataset:
        frames = chunk_frames(dataset, 2, "here")
        with ThreadPoolExecutor(4) as pool:
            for found in pool.map(lambda _: read(frames), range(8)):
                np.testing.assert_array_equal(found, images)


@pytest.mark.parametrize("chunk", [1, 10, 1000])
@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_batches_are_whole_chunks_of_limited_weight(tmp_path, dtype, chunk, monkeypatch):
    # A file that claims many frames must not be written here: the limit is 100 times smaller.
    monkeypatch.setattr(chunks, "BATCH_BYTES", 2 * 1024**2 // 100)
    with stored(tmp_path / "a.h5", grainy((1000, 8, 32), dtype), chunks=(chunk, 8, 32)) as dataset:
        frames = chunk_frames(dataset, 7, "here")
    chunk_weight = chunk * 8 * 32 * np.dtype(dtype).itemsize
    weight = frames.batch // chunk * chunk_weight
    assert frames.threads == 7
    assert frames.block == chunk
    assert frames.batch % chunk == 0
    if chunk_weight <= chunks.BATCH_BYTES:
        assert chunks.BATCH_BYTES - chunk_weight < weight <= chunks.BATCH_BYTES
    else:
        assert frames.batch == chunk


# Filter masks, and what HDF5 is asked for


@pytest.mark.parametrize("mask", range(4))
def test_chunks_that_some_filters_were_left_out_for(tmp_path, mask):
    images = grainy((8, 5, 6), "u2")
    options = {"chunks": (4, 5, 6), "shuffle": True, "fletcher32": True}
    with h5py.File(tmp_path / "a.h5", "w") as h5:
        plain = images[:4]
        usual = h5.create_dataset("usual", data=plain, **options)
        _, as_stored = usual.id.read_direct_chunk((0, 0, 0))
        shuffled, checksum = as_stored[:-4], as_stored[-4:]
        if mask == 1:  # the checksum of what is not shuffled is another
            checksum = h5checksum_fletcher32(plain.tobytes()).to_bytes(4, "little")
        data = (plain.tobytes() if mask & 1 else shuffled) + (b"" if mask & 2 else checksum)
        dataset = h5.create_dataset("image", (8, 5, 6), "u2", **options)
        dataset.id.write_direct_chunk((0, 0, 0), data, filter_mask=mask)
        dataset[4:] = images[4:]
    with h5py.File(tmp_path / "a.h5") as h5:
        np.testing.assert_array_equal(h5["image"][:], images)
        assert h5["image"].id.get_chunk_info(0).filter_mask == mask
        np.testing.assert_array_equal(read(chunk_frames(h5["image"], 2, "here")), images)


def test_chunks_that_are_compressed_twice_are_left_to_hdf5(tmp_path):
    images = np.zeros((11, 50, 60), "u1")
    images[5, 3, 4] = 7
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk((4, 30, 60))
    plist.set_deflate(1)
    plist.set_filter(32000, h5py.h5z.FLAG_OPTIONAL, ())
    with h5py.File(tmp_path / "a.rtdc", "w") as h5:
        h5.create_group("events")
        low_level(h5["events"], h5py.h5t.STD_U8LE, plist, images.shape)[:] = images
    with h5py.File(tmp_path / "a.rtdc") as h5:
        assert why_hdf5_reads(h5["events/image"]) == "its chunks are compressed twice"
    assert (sparsemed.compute_background(tmp_path / "a.rtdc").images == 0).all()


# Damaged and missing files


@pytest.mark.parametrize("filters", ["checksum", "gzip, checksum", "zstd", "lzf"])
@pytest.mark.parametrize("bit", [0, 3, 7])
def test_damage_is_told(tmp_path, filters, bit):
    path = tmp_path / "a.rtdc"
    options = {"chunks": (4, 5, 6), **FILTERS[filters]}
    with stored(path, grainy((12, 5, 6)), **options) as dataset:
        info = dataset.id.get_chunk_info(1)
        assert info.chunk_offset == (4, 0, 0)
    flip(path, info.byte_offset + info.size // 2, bit)
    with h5py.File(path) as h5:
        frames = chunk_frames(h5["events/image"], 2, f"{path}: events/image")
        for span, told in [((0, 12), "4 to 7"), ((5, 7), "5 to 6"), ((7, 8), "7 to 7")]:
            with pytest.raises(OSError, match=r"is damaged \(wrong checksum\)$") as caught:
                read(frames, span)
            start = f"{path}: events/image: frames {told} cannot be read"
            assert str(caught.value).startswith(start)
            with pytest.raises(OSError, match="read"):
                h5["events/image"][slice(*span)]
        np.testing.assert_array_equal(read(frames, (0, 4)), h5["events/image"][:4])
        np.testing.assert_array_equal(read(frames, (8, 12)), h5["events/image"][8:])
    with pytest.raises(OSError, match=r"events/image: frames 4 to 7 cannot be read"):
        sparsemed.compute_background(path)


@examples(200)
@given(st.sampled_from(list(FILTERS)), st.integers(0, 2**24), st.integers(0, 7))
@example("lz4", 24, 7)
def test_what_hdf5_refuses_is_refused_and_what_it_reads_is_read(
    tmp_path_factory, filters, where, bit
):
    path = tmp_path_factory.getbasetemp() / "flipped.h5"
    images = grainy((12, 5, 6), "u2") // 64
    with stored(path, images, chunks=(4, 5, 6), **FILTERS[filters]) as dataset:
        count = dataset.id.get_num_chunks()
        info = dataset.id.get_chunk_info(where % count)
    flip(path, info.byte_offset + where // count % info.size, bit)
    with h5py.File(path) as h5:
        frames = chunk_frames(h5["events/image"], 2, "here")
        try:
            expected = h5["events/image"][:]
        except OSError:
            with pytest.raises(OSError, match=r"^here: frames \d+ to \d+ cannot be read"):
                read(frames)
        else:
            assert not FILTERS[filters].get("fletcher32")
            try:
                found = read(frames)
            except OSError as error:  # lengths of blocks that HDF5's filter makes shorter
                if "invalid values in LZ4H5 header" not in str(error):
                    raise
            else:
                np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("filters", FILTERS.values(), ids=FILTERS)
def test_files_cut_short(tmp_path, filters):
    path, cut = tmp_path / "a.rtdc", tmp_path / "cut.rtdc"
    with stored(path, grainy((12, 5, 6)), chunks=(4, 5, 6), **filters) as dataset:
        info = dataset.id.get_chunk_info(1)
    shutil.copy(path, cut)
    os.truncate(cut, info.byte_offset + info.size // 2)
    with pytest.raises(OSError, match=str(cut)):
        sparsemed.compute_background(cut)


needs_posix = pytest.mark.skipif(
    not hasattr(os, "preadv"), reason="Windows does not let go of open files"
)


@needs_posix
@pytest.mark.parametrize("filters", FILTERS.values(), ids=FILTERS)
def test_files_that_get_shorter_while_they_are_read(tmp_path, filters):
    path = tmp_path / "a.h5"
    with stored(path, grainy((12, 5, 6)), chunks=(4, 5, 6), **filters) as dataset:
        frames = chunk_frames(dataset, 2, f"{path}: events/image")
        info = max(map(dataset.id.get_chunk_info, range(3)), key=lambda info: info.byte_offset)
        first = info.chunk_offset[0]
        os.truncate(path, info.byte_offset + info.size // 2)
        with pytest.raises(OSError, match=rf"frames {first} to {first + 3} cannot be read"):
            read(frames)


SIZES = {
    "none": lambda data: data,
    "checksum": lambda data: data + h5checksum_fletcher32(data).to_bytes(4, "little"),
    "gzip": zlib.compress,
    "lzf": lambda data: bytes(imagecodecs.lzf_encode(data)),
    "zstd": lambda data: bytes(imagecodecs.zstd_encode(data)),
    "lz4": lambda data: bytes(imagecodecs.lz4h5_encode(data)),
    "blosc": lambda data: bytes(imagecodecs.blosc_encode(data)),
}


@pytest.mark.parametrize("size", [1, 119, 121, 3000])
@pytest.mark.parametrize("filters", SIZES)
def test_chunks_that_yield_more_or_less_than_they_should(tmp_path, filters, size):
    # HDF5 reads all of these, and fills a chunk that is too short with what lies in memory.
    path = tmp_path / "a.rtdc"
    options = {"gzip": {"compression": "gzip"}, "lzf": {"compression": "lzf"}}.get(filters)
    options = options or (dict(hdf5plugin.Zstd()) if filters == "zstd" else FILTERS[filters])
    with h5py.File(path, "w") as h5:
        dataset = h5.create_dataset(
            "events/image", data=grainy((12, 5, 6)), chunks=(4, 5, 6), **options
        )
        data = grainy((size,)) // 64
        dataset.id.write_direct_chunk((4, 0, 0), SIZES[filters](data.tobytes()))
    with h5py.File(path) as h5:
        assert h5["events/image"][4:8].shape == (4, 5, 6)
    with pytest.raises(OSError, match=r"a\.rtdc: events/image: frames 4 to 7 cannot be read"):
        sparsemed.compute_background(path)


def test_zstandard_that_hdf5_fails_to_decode_without_a_word(tmp_path):
    path = tmp_path / "a.rtdc"
    images = grainy((12, 5, 6)) // 64
    with stored(path, images, chunks=(4, 5, 6), **hdf5plugin.Zstd()) as dataset:
        info = dataset.id.get_chunk_info(1)
    with open(path, "r+b") as file:
        file.seek(info.byte_offset + 12)
        file.write(bytes(info.size - 14))
    with h5py.File(path) as h5:
        assert not np.array_equal(h5["events/image"][4:8], images[4:8])
    with pytest.raises(OSError, match=r"frames 4 to 7 cannot be read, decompression failed.*ZSTD"):
        sparsemed.compute_background(path)


@pytest.mark.parametrize("name", ["shuffle", "deflate"])
def test_filters_with_other_values_are_left_to_hdf5(tmp_path, name):
    path = tmp_path / "a.h5"
    with stored(path, grainy((12, 5, 6), "u2"), chunks=(4, 5, 6), **FILTERS["gzip"]):
        pass
    content = path.read_bytes()
    at = content.index(b"\0" + name.encode() + b"\0") + 9  # a number follows the name
    path.write_bytes(content[:at] + struct.pack("<I", 12) + content[at + 4 :])
    with h5py.File(path) as h5:
        number = {"shuffle": 2, "deflate": 1}[name]
        assert why_hdf5_reads(h5["events/image"]) == f"its filter {number} has the values (12,)"


def test_chunks_beyond_the_end_that_hdf5_knows_are_left_to_it(tmp_path):
    path = tmp_path / "a.h5"
    with stored(path, grainy((12, 5, 6)), chunks=(4, 5, 6)) as dataset:
        end = dataset.id.get_chunk_info(2).byte_offset
    content = path.read_bytes()  # byte 40 of an old file tells where it ends
    path.write_bytes(content[:40] + struct.pack("<Q", end) + content[48:])
    with h5py.File(path) as h5:
        assert "cannot be read" in why_hdf5_reads(h5["events/image"])
        with pytest.raises(OSError, match="read"):
            h5["events/image"][8:]


@pytest.mark.parametrize("farthest", [0, 4, 8])
def test_the_chunk_that_lies_farthest_is_looked_for_wherever_it_is(tmp_path, farthest):
    """Chunks lie in any order: the last one of the file need not be that of the last frames."""
    path, images = tmp_path / "a.h5", grainy((12, 5, 6))
    starts = sorted((0, 4, 8), key=lambda start: (start == farthest, -start))
    with h5py.File(path, "w") as h5:
        dataset = h5.create_dataset("image", images.shape, "u1", chunks=(4, 5, 6))
        for start in starts:
            dataset.id.write_direct_chunk((start, 0, 0), images[start : start + 4].tobytes())
        places = [dataset.id.get_chunk_info(number).byte_offset for number in range(3)]
    assert max(places) == places[farthest // 4]
    content = path.read_bytes()  # byte 40 of an old file tells where it ends
    path.write_bytes(content[:40] + struct.pack("<Q", max(places)) + content[48:])
    with h5py.File(path) as h5:
        assert "its index of chunks cannot be read" in why_hdf5_reads(h5["image"])
        with pytest.raises(OSError, match="read"):
            h5["image"][farthest : farthest + 4]


@pytest.mark.parametrize(("weight", "threads"), [(1, 64), (8, 64), (40, 12), (64, 8), (600, 1)])
def test_heavy_chunks_are_read_by_few_threads(tmp_path, weight, threads):
    """Each thread holds a chunk or two; together no more than half a gigabyte."""
    with h5py.File(tmp_path / "a.h5", "w") as h5:
        shape = (3, 1024, 1024 * weight)
        dataset = h5.create_dataset("image", shape, "u1", chunks=(1, *shape[1:]))
        assert chunk_frames(dataset, 64, "here").threads == threads
        assert chunk_frames(dataset, 1, "here").threads == 1


@pytest.mark.parametrize(
    ("shape", "chunks"), [((3, 10, 10), (2**22, 10, 10)), ((3, 1000, 1000), (1, 1, 1))]
)
def test_chunks_that_would_take_gigabytes_are_refused(tmp_path, shape, chunks):
    with h5py.File(tmp_path / "a.h5", "w") as h5:
        h5.create_dataset("image", shape, "u1", chunks=chunks, maxshape=(None,) * 3)
    with (
        h5py.File(tmp_path / "a.h5") as h5,
        pytest.raises(ValueError, match=r"a\.h5: image, .* store it with chunks of one or a few"),
    ):
        why_hdf5_reads(h5["image"])


@pytest.mark.parametrize(
    ("shape", "chunks", "reason"),
    [
        ((90, 1000, 1000), (70, 1000, 1000), "its chunks weigh 67 MiB each"),
        ((2**21, 8, 8), (1, 8, 8), "some of its chunks were never written"),
        ((2, 2200, 3300), (10, 2200, 3300), "its chunks weigh 69 MiB each"),
        ((0, 1000, 1000), (70, 1000, 1000), "there are no frames"),
    ],
)
def test_heavy_and_countless_chunks_are_left_to_hdf5(tmp_path, shape, chunks, reason):
    with h5py.File(tmp_path / "a.h5", "w") as h5:
        h5.create_dataset("image", shape, "u1", chunks=chunks, maxshape=(None, *shape[1:]))
    with h5py.File(tmp_path / "a.h5") as h5:
        assert why_hdf5_reads(h5["image"]) == reason


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="looks for HDF5's library there")
@pytest.mark.parametrize("numbers", [(2,), (1,), (2, 1), (3,)], ids=str)
def test_chunks_at_the_edges_may_be_stored_without_filters(tmp_path, numbers):
    images = grainy((10, 5, 6), "u2")
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk((4, 5, 6))
    for number in numbers:
        {1: lambda: plist.set_deflate(1), 2: plist.set_shuffle, 3: plist.set_fletcher32}[number]()
    # h5py does not offer this option, which is for files of the newer format.
    maps = Path("/proc/self/maps").read_text().splitlines()
    library = ctypes.CDLL(next(m.split()[-1] for m in maps if re.search(r"libhdf5[-.]", m)))
    assert library.H5Pset_chunk_opts(ctypes.c_int64(plist.id), 2) == 0
    with h5py.File(tmp_path / "a.rtdc", "w", libver="latest") as h5:
        h5.create_group("events")
        low_level(h5["events"], h5py.h5t.STD_U16LE, plist, images.shape)[:] = images
    with h5py.File(tmp_path / "a.rtdc") as h5:
        assert why_hdf5_reads(h5["events/image"]) == EDGES
    found = sparsemed.compute_background(tmp_path / "a.rtdc", kernel_size=1, split_time=1e-4)
    np.testing.assert_array_equal(found.series[-1], images[9])


@needs_posix
def test_chunks_that_are_too_large_are_left_to_hdf5(tmp_path):
    with stored(tmp_path / "a.h5", grainy((12, 5, 6)), chunks=(4, 5, 6), compression="gzip"):
        pass
    with h5py.File(tmp_path / "a.h5", "a") as h5:
        try:
            h5["events/image"].id.write_direct_chunk((4, 0, 0), bytes(100_000))
        except OSError as error:  # HDF5 1.14 keeps no such sizes
            pytest.skip(f"{error}")
    with h5py.File(tmp_path / "a.h5") as h5:
        reason = "some of its chunks are larger than they can be"
        assert why_hdf5_reads(h5["events/image"]) == reason


def test_files_that_are_gone(path):
    with h5py.File(path) as h5:
        frames = chunk_frames(h5["events/image"], 2, "here")
        path.unlink()
        np.testing.assert_array_equal(read(frames), grainy((10, 6, 7)))


@needs_posix
@pytest.mark.parametrize("filters", ["none", "gzip", "zstd"])
def test_files_that_are_replaced(tmp_path, filters):
    # HDF5 still has the old file, and knows where its chunks are: not those of the new one.
    images = grainy((12, 5, 6))
    options = {"chunks": (4, 5, 6), **FILTERS[filters]}
    with stored(tmp_path / "new.h5", images[::-1], **options):
        pass
    with stored(tmp_path / "a.h5", images, **options) as dataset:
        frames = chunk_frames(dataset, 2, "here")
        os.replace(tmp_path / "new.h5", tmp_path / "a.h5")
        np.testing.assert_array_equal(read(frames), images)


def test_the_working_directory_may_change(path, monkeypatch):
    monkeypatch.chdir(path.parent)
    with h5py.File(path.name) as h5:
        frames = chunk_frames(h5["events/image"], 2, "here")
        monkeypatch.chdir("/")
        np.testing.assert_array_equal(read(frames), h5["events/image"][:])


@pytest.mark.parametrize("byte", [0, 2, 7, 8, 9, 12, 15, 16, 18, 24, 27, 40, 41])
@pytest.mark.parametrize("bit", [0, 3, 7])
def test_a_damaged_index_of_chunks(tmp_path, byte, bit):
    # The older kind of index has no checksum.
    path = tmp_path / "a.h5"
    with stored(path, grainy((12, 5, 6)), chunks=(4, 5, 6)):
        pass
    entry = struct.pack("<II4Q", 120, 0, 4, 0, 0, 0)  # size, mask, and where the chunk begins
    flip(path, path.read_bytes().index(entry) + byte, bit)
    with h5py.File(path) as h5:
        dataset = h5["events/image"]
        try:
            expected = dataset[:]
        except OSError:
            expected = None
        try:
            if why_hdf5_reads(dataset) is not None:
                return
            found = read(chunk_frames(dataset, 2, "here"))
        except OSError:
            return
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("begin", [(8, 0, 0), (2**20 + 4, 0, 0)])
def test_chunks_that_the_index_lists_elsewhere(tmp_path, begin):
    # HDF5 takes the chunk that it does not find for one that was never written.
    path = tmp_path / "a.rtdc"
    with stored(path, grainy((12, 5, 6)) | 1, chunks=(4, 5, 6)):
        pass
    entry = struct.pack("<II3Q", 120, 0, 4, 0, 0)
    content = path.read_bytes()
    path.write_bytes(content.replace(entry, struct.pack("<II3Q", 120, 0, *begin)))
    with h5py.File(path) as h5:
        assert not h5["events/image"][4:8].all()
    message = r"a\.rtdc: events/image cannot be read, its index of chunks is damaged"
    with pytest.raises(OSError, match=message):
        sparsemed.compute_background(path)


# Threads and open files


def open_files(path):
    """Count the handles that this process has on a file."""
    handles = Path("/proc/self/fd")
    if not handles.exists():
        pytest.skip("this system does not tell what files are open")
    found = 0
    for handle in handles.iterdir():
        try:
            found += os.readlink(handle) == str(path)
        except OSError:  # that of the listing itself
            continue
    return found


@pytest.fixture(params=["preadv", "seek"])
def way_to_read(request, monkeypatch):
    """Let files be read as on this system, and as on one without `os.preadv`."""
    if request.param == "seek":
        monkeypatch.delattr(os, "preadv", raising=False)


def test_frames_are_the_same_either_way(tmp_path, way_to_read):
    images = grainy((40, 5, 6))
    with stored(tmp_path / "a.h5", images, chunks=(2, 3, 6), compression="gzip") as dataset:
        np.testing.assert_array_equal(read(chunk_frames(dataset, 4, "here")), images)


def test_a_file_that_got_shorter_is_refused_either_way(tmp_path, way_to_read):
    path = tmp_path / "a.h5"
    with stored(path, grainy((4, 5, 6)), chunks=(2, 5, 6)) as dataset:
        frames = chunk_frames(dataset, 2, "here")
        os.truncate(path, dataset.id.get_chunk_info(1).byte_offset + 7)
        with pytest.raises(OSError, match=r"^here: frames 2 to 3 cannot be read"):
            read(frames)


@pytest.mark.parametrize("fails", [False, True])
def test_files_are_closed_after_reading(tmp_path, fails, way_to_read):
    path = (tmp_path / "a.h5").resolve()
    images = grainy((40, 5, 6))
    with stored(path, images, chunks=(2, 5, 6), fletcher32=True) as dataset:
        info = dataset.id.get_chunk_info(7)
    if fails:
        flip(path, info.byte_offset)
    with h5py.File(path) as h5:
        threads, handles = set(threading.enumerate()), open_files(path)
        frames = chunk_frames(h5["events/image"], 3, "here")
        for _ in range(50):
            out = np.empty_like(images)
            try:
                with frames.reading() as reading, ThreadPoolExecutor(3) as pool:
                    begins = range(0, 40, 2)
                    list(
                        pool.map(reading, begins, range(2, 41, 2), (out[n : n + 2] for n in begins))
                    )
                assert not fails
            except OSError:
                assert fails
            assert set(threading.enumerate()) <= threads
            assert open_files(path) == handles


# Which way is taken


def refuse(*_):
    raise RuntimeError("this way must not be taken")


@pytest.fixture
def measurement(tmp_path):
    """Return a function that writes a measurement, and its frames."""
    images = grainy((30, 24, 8)) // 8

    def write(userblock_size=0, **options):
        with h5py.File(tmp_path / "a.rtdc", "w", userblock_size=userblock_size) as h5:
            h5.create_dataset("events/image", data=images, **options)
        return tmp_path / "a.rtdc", images

    return write


SETTINGS = {"time": np.arange(30) / 10, "kernel_size": 8}


def same(found, images):
    expected = sparsemed.compute_background(images, **SETTINGS)
    np.testing.assert_array_equal(found.series, expected.series)
    np.testing.assert_array_equal(found.offsets, expected.offsets)


def test_frames_that_no_window_needs_count_as_far_as_their_bands_go(tmp_path, monkeypatch):
    monkeypatch.setattr(chunks, "BATCH_BYTES", 1)  # chunk by chunk
    path, images = tmp_path / "a.rtdc", grainy((200, 50, 8)) // 8
    for row, is_told in ((0, True), (20, False)):
        with stored(path, images, chunks=(5, 20, 8), fletcher32=True) as dataset:
            info = dataset.id.get_chunk_info_by_coord((100, row, 0))
        flip(path, info.byte_offset)
        settings = {"time": np.arange(200) / 100, "kernel_size": 8}  # from frames 0 and 100 on
        if is_told:
            with pytest.raises(OSError, match="frames 100 to 104 cannot be read"):
                sparsemed.compute_background(path, **settings | {"split_time": 1.5})
        else:
            found = sparsemed.compute_background(path, **settings | {"split_time": 1.5})
            expected = sparsemed.compute_background(images, **settings | {"split_time": 1.5})
            np.testing.assert_array_equal(found.series, expected.series)
            np.testing.assert_array_equal(found.offsets, expected.offsets)
            with pytest.raises(OSError, match="frames 100 to 104 cannot be read"):
                sparsemed.compute_background(path, **settings)


LAYOUTS = {name: {"chunks": (7, 24, 8), **filters} for name, filters in FILTERS.items()}
LAYOUTS |= {"in one piece": {}, "tiles": {"chunks": (7, 9, 5), "compression": "gzip"}}


@pytest.mark.parametrize("options", LAYOUTS.values(), ids=LAYOUTS)
def test_frames_are_read_past_hdf5(measurement, options, monkeypatch, caplog):
    path, images = measurement(**options)
    with monkeypatch.context() as patch, caplog.at_level(logging.INFO, "sparsemed"):
        patch.setattr(ArrayFrames, "reading", refuse)
        found = sparsemed.compute_background(path, **SETTINGS, num_cpus=2)
    assert "read by HDF5" not in caplog.text
    same(found, images)
    monkeypatch.setattr(ChunkFrames, "reading", refuse)
    with pytest.raises(RuntimeError, match="must not be taken"):
        sparsemed.compute_background(path, **SETTINGS)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"userblock_size": 512}, "its file begins with a user block"),
        ({"chunks": (7, 24, 8), "userblock_size": 512}, "its file begins with a user block"),
        (
            {"chunks": (7, 24, 8), "scaleoffset": 0},
            "of its filters, those of number [6] are not known here",
        ),
    ],
    ids=["in one piece, user block", "user block", "unknown filter"],
)
def test_hdf5_reads_the_rest_and_the_log_says_why(
    measurement, options, reason, monkeypatch, caplog
):
    path, images = measurement(**options)
    monkeypatch.setattr(ChunkFrames, "reading", refuse)
    with caplog.at_level(logging.INFO, "sparsemed"):
        found = sparsemed.compute_background(path, **SETTINGS)
    told = [record for record in caplog.records if "read by HDF5" in record.message]
    assert [record.message for record in told] == [
        f"{path}: events/image is read by HDF5: {reason}"
    ]
    assert told[0].levelno == logging.INFO
    same(found, images)


def test_datasets_of_files_in_memory(monkeypatch):
    images = grainy((30, 24, 8)) // 8
    monkeypatch.setattr(ChunkFrames, "reading", refuse)
    with h5py.File("memory.h5", "w", driver="core", backing_store=False) as h5:
        dataset = h5.create_dataset("image", data=images, chunks=(7, 24, 8))
        same(sparsemed.compute_background(dataset, **SETTINGS), images)
