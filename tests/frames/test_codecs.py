import os
import struct
import subprocess
import sys
import zlib
from contextlib import suppress
from itertools import product
from pathlib import Path

import h5py
import hdf5plugin
import imagecodecs
import numpy as np
import pytest
import zstandard
from hypothesis import example, given
from hypothesis import strategies as st
from rings import examples

import sparsemed
from sparsemed.frames.codecs import CODECS, TEXT, Pipeline, UndecodableError, missing_codec

DEFLATE, SHUFFLE, FLETCHER32 = h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, 3
LZF, BLOSC, LZ4, ZSTD = 32000, 32001, 32004, 32015

FILTERS = {
    "none": {},
    "shuffle": {"shuffle": True},
    "gzip 1": {"compression": "gzip", "compression_opts": 1},
    "gzip 4": {"compression": "gzip", "compression_opts": 4},
    "gzip 9": {"compression": "gzip", "compression_opts": 9},
    "gzip 0": {"compression": "gzip", "compression_opts": 0},
    "shuffle + gzip": {"compression": "gzip", "shuffle": True},
    "lzf": {"compression": "lzf"},
    "shuffle + lzf": {"compression": "lzf", "shuffle": True},
    **{f"zstd {level}": hdf5plugin.Zstd(clevel=level) for level in (1, 3, 5, 22)},
    "shuffle + zstd": {"shuffle": True, **hdf5plugin.Zstd()},
    "lz4": hdf5plugin.LZ4(),
    "lz4 in blocks": hdf5plugin.LZ4(nbytes=64),
    "shuffle + lz4": {"shuffle": True, **hdf5plugin.LZ4()},
    **{
        f"blosc {name} {level}, shuffle {shuffle}": hdf5plugin.Blosc(name, level, shuffle)
        for name, level, shuffle in product(
            ("blosclz", "lz4", "lz4hc", "zlib", "zstd"), (0, 5), (0, 1, 2)
        )
    },
}
DTYPES = ["u1", "<u2", ">u2"]


def smooth(shape, dtype):
    """Frames that can be compressed."""
    rng = np.random.default_rng(1)
    return (rng.integers(0, 4, shape) + 100 * np.arange(shape[-1])).astype(dtype)


def noise(shape, dtype):
    """Frames that cannot be compressed."""
    rng = np.random.default_rng(2)
    return rng.integers(0, 256, (*shape, np.dtype(dtype).itemsize), "u1").view(dtype)[..., 0]


def memory():
    return h5py.File("frames.h5", "w", driver="core", backing_store=False)


def pipeline(numbers, itemsize, size):
    """Return what undoes filters, which were told what HDF5 tells them."""
    return Pipeline([(n, (itemsize,) if n == SHUFFLE else ()) for n in numbers], size)


def numbers_of(dataset):
    plist = dataset.id.get_create_plist()
    return tuple(plist.get_filter(i)[0] for i in range(plist.get_nfilters()))


def pipeline_of(dataset):
    size = int(np.prod(dataset.chunks)) * dataset.dtype.itemsize
    return pipeline(numbers_of(dataset), dataset.dtype.itemsize, size)


def decode(undo, stored, mask=0):
    """Decode, and make sure that nothing is written beyond the chunk."""
    around = np.full(undo.size + 64, 171, np.uint8)
    stored = bytearray(stored)
    before = bytes(stored)
    try:
        undo.decode(memoryview(stored), mask, around[32:-32])
    finally:
        assert (around[:32] == 171).all()
        assert (around[-32:] == 171).all()
        assert stored == before
    return around[32:-32]


def check(dataset):
    """Compare every chunk with what HDF5 makes of it."""
    undo = pipeline_of(dataset)
    assert set(numbers_of(dataset)) <= set(CODECS)
    assert dataset.id.get_num_chunks() > 1
    for selection in dataset.iter_chunks():
        offset = tuple(s.start for s in selection)
        mask, stored = dataset.id.read_direct_chunk(offset)
        expected = dataset[selection]
        found = decode(undo, stored, mask).view(dataset.dtype).reshape(dataset.chunks)
        np.testing.assert_array_equal(found[tuple(map(slice, expected.shape))], expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("checked", [False, True], ids=["", "fletcher32"])
@pytest.mark.parametrize("filters", FILTERS.values(), ids=FILTERS)
def test_what_hdf5_writes(filters, checked, dtype):
    with memory() as h5:
        for name, make in (("smooth", smooth), ("noise", noise)):
            images = make((11, 5, 7), dtype)
            dataset = h5.create_dataset(
                name, data=images, chunks=(4, 5, 7), fletcher32=checked, **filters
            )
            np.testing.assert_array_equal(dataset[:], images)
            check(dataset)


@pytest.mark.parametrize("dtype", ["u1", ">u2"])
@pytest.mark.parametrize("filters", FILTERS.values(), ids=FILTERS)
def test_large_chunks(filters, dtype):
    images = smooth((20, 80, 160), dtype)
    with memory() as h5:
        check(h5.create_dataset("image", data=images, chunks=(12, 80, 160), **filters))


@pytest.mark.parametrize("filters", ["none", "shuffle", "gzip 4", "zstd 5", "lz4", "lzf"])
def test_chunks_of_one_byte(filters):
    with memory() as h5:
        data = np.array([[[7]], [[0]], [[255]]], np.uint8)
        check(h5.create_dataset("a", data=data, chunks=(1, 1, 1), **FILTERS[filters]))
        check(h5.create_dataset("b", data=data, chunks=(1, 1, 1), fletcher32=True))


def dataset_with(h5, filters, dtype, images, name="image", full=None):
    """Make a dataset with filters in any order, and write its last frames."""
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk((4, *images.shape[1:]))
    for number in filters:
        if number == FLETCHER32:
            plist.set_fletcher32()
        elif number == SHUFFLE:
            plist.set_shuffle()
        else:
            options = {DEFLATE: (4,), BLOSC: (0, 0, 0, 0, 5, 1, 0)}.get(number, ())
            plist.set_filter(number, h5py.h5z.FLAG_OPTIONAL, options)
    kind = h5py.h5t.py_create(np.dtype(dtype))
    space = h5py.h5s.create_simple((full or len(images), *images.shape[1:]))
    dataset = h5py.Dataset(h5py.h5d.create(h5.id, name.encode(), kind, space, plist))
    dataset[-len(images) :] = images
    return dataset


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "filters",
    [
        (FLETCHER32, SHUFFLE),
        (FLETCHER32, LZF, SHUFFLE),
        (FLETCHER32, ZSTD, FLETCHER32),
        (FLETCHER32, SHUFFLE, FLETCHER32, ZSTD),
        *[(FLETCHER32, number) for number in (DEFLATE, LZF, BLOSC, LZ4, ZSTD)],
        *[(SHUFFLE, FLETCHER32, number) for number in (DEFLATE, LZF, ZSTD)],
        *[(FLETCHER32, SHUFFLE, number) for number in (DEFLATE, LZ4, ZSTD)],
        *[(number, SHUFFLE) for number in (DEFLATE, ZSTD)],
        *[(number, SHUFFLE, FLETCHER32) for number in (DEFLATE, ZSTD)],
    ],
    ids=str,
)
def test_filters_in_any_order(filters, dtype):
    with memory() as h5:
        for name, make in (("smooth", smooth), ("noise", noise)):
            images = make((11, 5, 7), dtype)
            dataset = dataset_with(h5, filters, dtype, images, name)
            assert numbers_of(dataset) == filters
            np.testing.assert_array_equal(dataset[:], images)
            check(dataset)


def test_two_compressions_are_not_decoded_here():
    with memory() as h5:
        dataset = dataset_with(h5, (LZF, DEFLATE), "u1", smooth((8, 50, 70), "u1"))
        mask, stored = dataset.id.read_direct_chunk((0, 0, 0))
        assert mask == 0
        with pytest.raises(UndecodableError):
            decode(pipeline_of(dataset), stored)


# Filters left out for a chunk


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mask", range(8))
def test_filter_masks(mask, dtype, tmp_path):
    images = smooth((8, 5, 7), dtype)
    with h5py.File(tmp_path / "frames.h5", "w") as h5:
        dataset = dataset_with(h5, (SHUFFLE, DEFLATE, FLETCHER32), dtype, images[4:], full=8)
        data = images[:4].tobytes()
        if not mask & 1:
            itemsize = np.dtype(dtype).itemsize
            data = np.frombuffer(data, "u1").reshape(-1, itemsize).T.tobytes()
        if not mask & 2:
            data = zlib.compress(data)
        if not mask & 4:
            data += imagecodecs.h5checksum_fletcher32(data).to_bytes(4, "little")
        dataset.id.write_direct_chunk((0, 0, 0), data, filter_mask=mask)
    with h5py.File(tmp_path / "frames.h5") as h5:  # HDF5 2.0 forgets masks until it opens the file
        np.testing.assert_array_equal(h5["image"][:], images)
        assert h5["image"].id.get_chunk_info(0).filter_mask == mask
        check(h5["image"])


def test_what_cannot_be_compressed_is_stored_as_it_is():
    images = noise((8, 5, 7), "u1")
    with memory() as h5:
        dataset = h5.create_dataset("image", data=images, chunks=(4, 5, 7), compression="lzf")
        assert dataset.id.get_chunk_info(0).filter_mask == 1
        check(dataset)


# What is not right

ENCODE = {
    DEFLATE: lambda data: zlib.compress(data, 5),
    LZF: lambda data: imagecodecs.lzf_encode(data) if data else b"",
    BLOSC: imagecodecs.blosc_encode,
    LZ4: imagecodecs.lz4h5_encode,
    ZSTD: imagecodecs.zstd_encode,
}
PIPELINES = [
    (),
    (SHUFFLE,),
    (FLETCHER32,),
    (SHUFFLE, FLETCHER32),
    (FLETCHER32, SHUFFLE),
    *[(number,) for number in ENCODE],
    *[(SHUFFLE, number, FLETCHER32) for number in ENCODE],
    *[(FLETCHER32, number) for number in ENCODE],
]
SIZE = 4200


def encode(filters, data, itemsize=2):
    for number in filters:
        if number == SHUFFLE:
            whole = len(data) // itemsize * itemsize
            parts = np.frombuffer(data[:whole], "u1").reshape(-1, itemsize).T
            data = parts.tobytes() + data[whole:]
        elif number == FLETCHER32:
            data += imagecodecs.h5checksum_fletcher32(data).to_bytes(4, "little")
        else:
            data = bytes(ENCODE[number](data))
    return data


def plain_bytes(size=SIZE):
    return np.random.default_rng(3).integers(100, 110, size, "u1").tobytes()


def test_no_codec_is_left_out_of_these_tests():
    assert set(CODECS) == {SHUFFLE, FLETCHER32, *ENCODE}
    for number, codec in CODECS.items():
        assert codec.number == number
        assert any(number in filters for filters in PIPELINES)
        assert encode([number], TEXT, itemsize=2) == codec.sample or codec.added is None


@pytest.mark.parametrize("filters", PIPELINES, ids=str)
def test_the_right_size(filters):
    assert decode(pipeline(filters, 2, SIZE), encode(filters, plain_bytes())).tobytes() == (
        plain_bytes()
    )


@pytest.mark.parametrize("size", [0, 1, 2, 4, SIZE - 4, SIZE - 1, SIZE + 1, SIZE + 4, 3 * SIZE])
@pytest.mark.parametrize("filters", PIPELINES, ids=str)
def test_chunks_of_another_size_are_refused(filters, size):
    stored = encode(filters, plain_bytes(size))
    with pytest.raises(UndecodableError):
        decode(pipeline(filters, 2, SIZE), stored)


@pytest.mark.parametrize("filters", PIPELINES, ids=str)
def test_chunks_cut_short_are_refused(filters):
    stored = encode(filters, plain_bytes())
    for size in {*range(20), *range(0, len(stored), 97), *range(len(stored) - 9, len(stored))}:
        with pytest.raises(UndecodableError):
            decode(pipeline(filters, 2, SIZE), stored[:size])


def test_zstandard_without_a_size_is_bounded_by_that_of_the_chunk():
    packer = zstd_bomb(says_size=False)
    with pytest.raises(UndecodableError, match=f"more than {GIGABYTE // 2**14} bytes"):
        decode(pipeline((ZSTD,), 1, GIGABYTE // 2**14), packer)


SKIPPABLE = b"\x50\x2a\x4d\x18" + struct.pack("<I", 5) + b"hello"


def zstd_frames(data):
    """Return ways to write data as Zstandard that are as good as one frame with its size."""
    whole = zstandard.ZstdCompressor()
    sizeless = zstandard.ZstdCompressor(write_content_size=False)
    begin, end = data[:100], data[100:]
    return {
        "without size": sizeless.compress(data),
        "with a checksum": zstandard.ZstdCompressor(write_checksum=True).compress(data),
        "two frames": whole.compress(begin) + whole.compress(end),
        "two frames without size": sizeless.compress(begin) + sizeless.compress(end),
        "skippable first": SKIPPABLE + whole.compress(data),
        "skippable in between": whole.compress(begin) + SKIPPABLE + whole.compress(end),
        "skippable last": whole.compress(data) + SKIPPABLE,
        "an empty frame": whole.compress(b"") + whole.compress(data),
    }


@pytest.mark.parametrize("kind", zstd_frames(b""))
def test_zstandard_frames_of_every_kind(kind):
    data = plain_bytes(3000)
    undo = pipeline((ZSTD,), 1, len(data))
    assert decode(undo, zstd_frames(data)[kind]).tobytes() == data
    for other in (data[:-1], data + b"x", data * 2):
        with pytest.raises(UndecodableError, match="bytes"):
            decode(undo, zstd_frames(other)[kind])
    for cut in (1, 5, 50):
        with pytest.raises(UndecodableError):
            decode(undo, zstd_frames(data)[kind][:-cut])


@pytest.mark.parametrize("number", sorted(set(CODECS) - {SHUFFLE, FLETCHER32}))
def test_a_codec_that_is_missing_is_noticed_before_it_is_needed(number, monkeypatch):
    def gone(*_, **__):
        raise imagecodecs.DelayedImportError("some_decode")

    name = {
        DEFLATE: "deflate_decode",
        LZF: "lzf_decode",
        BLOSC: "blosc_decode",
        LZ4: "lz4h5_decode",
        ZSTD: "zstd_decode",
    }[number]
    missing_codec.cache_clear()
    assert missing_codec(number) is None
    missing_codec.cache_clear()
    monkeypatch.setattr(imagecodecs, name, gone)
    assert "some_decode" in missing_codec(number)
    missing_codec.cache_clear()
    nothing = np.zeros(30, np.uint8)
    monkeypatch.setattr(imagecodecs, name, lambda *_, **__: nothing)
    assert missing_codec(number) == "its codec does not work"
    missing_codec.cache_clear()


def test_without_imagecodecs_hdf5_reads(tmp_path):
    code = """
import logging, sys
sys.modules["imagecodecs"] = None
logging.basicConfig(level=logging.INFO, stream=sys.stdout)
import numpy as np, sparsemed
from sparsemed.demo import make_measurement
from pathlib import Path
path = Path(sys.argv[1])
make_measurement(path, count=300)
print(sparsemed.compute_background(path))
"""
    run = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "in.rtdc"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "is read by HDF5: its filter 32015 cannot be undone here (imagecodecs" in run.stdout
    assert "SparseBackground(300 frames" in run.stdout


@pytest.mark.parametrize("size", [10, 255, 256, 65791, 65792, 2**17])
def test_sizes_in_headers_of_zstandard(size):
    data = plain_bytes(size)
    stored = bytes(imagecodecs.zstd_encode(data))
    assert decode(pipeline((ZSTD,), 1, size), stored).tobytes() == data
    with pytest.raises(UndecodableError, match=f"{size} bytes instead of {size + 1}"):
        decode(pipeline((ZSTD,), 1, size + 1), stored)
    with pytest.raises(UndecodableError, match=f"more than {size - 1} bytes"):
        decode(pipeline((ZSTD,), 1, size - 1), stored)


def test_what_follows_blosc_data_does_not_matter():
    stored = bytes(imagecodecs.blosc_encode(plain_bytes()))
    assert decode(pipeline((BLOSC,), 1, SIZE), stored + b"more").tobytes() == plain_bytes()


@examples(300)
@given(st.sampled_from(PIPELINES), st.binary(max_size=300), st.sampled_from([1, 2, 100]))
@example((SHUFFLE,), b"", 1)
@example((FLETCHER32, SHUFFLE), b"", 1)
def test_any_bytes_are_decoded_or_refused(filters, stored, size):
    for start in (b"", encode(filters, plain_bytes(100))[:17]):
        with suppress(UndecodableError):
            decode(pipeline(filters, 2, size), start + stored)


# Single flipped bits

CHECKED = [filters for filters in PIPELINES if FLETCHER32 in filters]


def flipped(stored, bit):
    data = bytearray(stored)
    data[bit // 8] ^= 1 << bit % 8
    return data


@examples(500)
@given(st.sampled_from(CHECKED), st.integers(0, 2**20), st.integers(0, 400))
def test_a_flipped_bit_is_noticed_by_the_checksum(filters, bit, more):
    data = plain_bytes(SIZE + more)
    stored = encode(filters, data)
    try:
        found = decode(pipeline(filters, 2, len(data)), flipped(stored, bit % (8 * len(stored))))
    except UndecodableError:
        return
    # A checksum of what was compressed cannot see bits that mean nothing to the decompressor.
    assert filters[-1] != FLETCHER32
    assert filters[-1] != SHUFFLE
    assert found.tobytes() == data


@pytest.mark.parametrize("filters", CHECKED, ids=str)
def test_each_bit_of_a_small_checked_chunk(filters):
    data = plain_bytes(64)
    stored = encode(filters, data)
    for bit in range(8 * len(stored)):
        try:
            found = decode(pipeline(filters, 2, 64), flipped(stored, bit))
        except UndecodableError:
            continue
        assert filters[-1] not in (FLETCHER32, SHUFFLE)
        assert found.tobytes() == data


def test_each_bit_of_a_small_deflated_chunk():
    # zlib adds a checksum of its own.
    data = plain_bytes(64)
    stored = zlib.compress(data)
    harmless = 0
    for bit in range(8 * len(stored)):
        try:
            found = decode(pipeline((DEFLATE,), 1, 64), flipped(stored, bit))
        except UndecodableError:
            continue
        assert found.tobytes() == data  # bits that fill up the last byte mean nothing
        harmless += 1
    assert harmless <= 7 + 3  # three more of the header are a hint


# Bombs

GIGABYTE = 2**30


def deflate_bomb():
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packer.compress(bytes(2**20))
    packer.flush(zlib.Z_FULL_FLUSH)
    megabyte = packer.compress(bytes(2**20)) + packer.flush(zlib.Z_FULL_FLUSH)
    adler = (GIGABYTE % 65521) << 16 | 1
    return b"\x78\x9c" + megabyte * 1024 + packer.flush() + struct.pack(">I", adler)


def zstd_bomb(says_size):
    """A gigabyte in runs of 128 KiB of the same byte."""
    header = struct.pack("<BQ", 0b11000000, GIGABYTE) if says_size else b"\x00"
    runs = GIGABYTE // 2**17
    window = b"\x38"  # 128 KiB
    run = struct.pack("<I", 2**17 << 3 | 1 << 1)[:3] + b"\0"
    last = struct.pack("<I", 2**17 << 3 | 1 << 1 | 1)[:3] + b"\0"
    return b"\x28\xb5\x2f\xfd" + header[:1] + window + header[1:] + run * (runs - 1) + last


def bombs():
    blosc = bytearray(imagecodecs.blosc_encode(bytes(SIZE)))
    blosc[4:8] = struct.pack("<I", GIGABYTE)
    yield "deflate", (DEFLATE,), deflate_bomb()
    yield "zstd", (ZSTD,), zstd_bomb(True)
    yield "zstd of unknown size", (ZSTD,), zstd_bomb(False)
    yield "blosc", (BLOSC,), bytes(blosc)
    lz4 = bytes(imagecodecs.lz4h5_encode(bytes(SIZE)))
    yield "lz4 of many blocks", (LZ4,), struct.pack(">Q", GIGABYTE) + lz4[8:]
    yield "lz4 of one block", (LZ4,), struct.pack(">QI", GIGABYTE, GIGABYTE) + lz4[12:]
    run = b"\xe0\xff\0"  # repeats a byte 264 times
    yield "lzf", (LZF,), b"\0\0" + run * (GIGABYTE // 264)
    yield "checksum", (FLETCHER32, DEFLATE), deflate_bomb()


def memory_peak():
    """Largest memory that this process had so far, in bytes."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def blow_up():
    """Decode each bomb, and say what memory that took."""
    for name, filters, stored in bombs():
        out = np.empty(SIZE, np.uint8)
        before = memory_peak()
        try:
            pipeline(filters, 1, SIZE).decode(memoryview(stored), 0, out)
        except UndecodableError:
            print(name, memory_peak() - before, sep=": ")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells the peak of memory")
def test_bombs_do_not_blow_up():
    # A new process, as no other test must have needed the memory before.
    roots = [str(Path(sparsemed.__file__).parents[1]), str(Path(__file__).parents[1])]
    told = subprocess.run(
        [sys.executable, __file__],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(roots)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    growth = dict(line.split(": ") for line in told.splitlines())
    assert list(growth) == [name for name, _, _ in bombs()]
    assert max(map(int, growth.values())) < 50_000_000


def test_a_bomb_is_one():
    unpacker, stored, size = zlib.decompressobj(), deflate_bomb(), 0
    while stored:
        size += len(unpacker.decompress(stored, 2**24))
        stored = unpacker.unconsumed_tail
    assert unpacker.eof  # and its checksum is right
    assert size == GIGABYTE


if __name__ == "__main__":
    blow_up()
