"""Files that claim the absurd: each is refused, or computed, in seconds and in little memory."""

import json
import os
import sys
import zlib

import h5py
import hdf5plugin
import numpy as np
import pytest
from click.testing import CliRunner
from faults.judge import Judge

import sparsemed
from sparsemed.cli import main

IMAGES = np.arange(10 * 4 * 3, dtype="u1").reshape(10, 4, 3)
READ = "SparseBackground"
"""What a reply holds where the file is fine."""


@pytest.fixture(scope="module")
def judge():
    if sys.platform != "linux":
        pytest.skip("needs forks, and limits of memory that the system keeps")
    with Judge() as judge:
        assert judge.ask(reader="compiled", path="").keys() == {"peak"}  # takes seconds, but once
        yield judge


def outcome(judge, tmp_path, write, **parameters):
    """Write a file, compute its background in a child, and return what that said."""
    path = tmp_path / "absurd.rtdc"
    with h5py.File(path, "w") as h5:
        h5.create_group("events")
        write(h5)
    told = judge.ask(reader="computed", path=str(path), parameters=parameters)
    assert "died" not in told, told
    assert told.get("fine", True), told
    assert told["peak"] < 2**19, "more than 512 MiB"
    return told["text"].removeprefix(f"{path}: ")


def images_of(shape, dtype="u1", **options):
    return lambda h5: h5.create_dataset("events/image", shape, dtype, **options)


def values(data, **options):
    return lambda h5: h5.create_dataset("events/image", data=data, **options)


def one_heavy_chunk(h5):
    """Three small frames in a chunk of 3 GiB."""
    shape = {"shape": (3, 10, 10), "maxshape": (None, 10, 10), "chunks": (2**25, 10, 10)}
    dataset = h5.create_dataset("events/image", dtype="u1", compression="gzip", **shape)
    dataset.id.write_direct_chunk((0, 0, 0), zlib.compress(bytes(2**20)))


def a_bomb(h5):
    """A chunk of 1 MB that yields 1 GiB of zeros."""
    shape = (10, 400, 400)
    dataset = h5.create_dataset("events/image", shape, "u1", chunks=shape, compression="gzip")
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    begin = packer.compress(b"\0") + packer.flush(zlib.Z_FULL_FLUSH)
    megabyte = packer.compress(bytes(2**20)) + packer.flush(zlib.Z_FULL_FLUSH)
    stored = b"\x78\x9c" + begin + 1024 * megabyte + packer.flush()
    checksum = (2**30 + 1) % 65521 << 16 | 1
    dataset.id.write_direct_chunk((0, 0, 0), stored + checksum.to_bytes(4, "big"))


def low_level(kind):
    def write(h5):
        space = h5py.h5s.create_simple((10, 4, 3))
        h5py.h5d.create(h5["events"].id, b"image", kind, space)

    return write


IMAGE_FILES = {
    "2**40 frames": (images_of((2**40, 4, 4), chunks=(10, 4, 4)), "no more than 100000000 frames"),
    "2**40 frames, contiguous": (images_of((2**40, 4, 4)), "no more than 100000000 frames"),
    "10**5 × 10**5 pixels": (images_of((3, 10**5, 10**5), chunks=(1, 100, 100)), "into memory"),
    "10**5 × 10**5 pixels, contiguous": (images_of((30, 10**5, 10**5)), "into memory"),
    "one pixel": (values(np.arange(9, dtype="u1").reshape(9, 1, 1)), READ),
    "frames of one column": (values(IMAGES.reshape(10, 12, 1)), READ),
    "frames of one row": (values(IMAGES.reshape(10, 1, 12)), READ),
    "no rows": (images_of((5, 0, 7)), "there are no frames"),
    "no frames": (images_of((0, 5, 7)), "there are no frames"),
    "nothing stored": (images_of((30, 4, 4), chunks=(10, 4, 4)), READ),
    "millions of chunks": (images_of((3, 1000, 1000), chunks=(1, 1, 1)), "chunks of one or a few"),
    "a chunk of 3 GiB": (one_heavy_chunk, "chunks of one or a few frames"),
    "a bomb": (a_bomb, "frames 0 to 9 cannot be read, the file is damaged"),
    "four axes": (images_of((2, 2, 2, 2)), "shape must be (N, H, W)"),
    "a scalar": (values(3), "is not an array"),
    "nothing": (values(h5py.Empty("u1")), "is not an array"),
    "a group": (lambda h5: h5.create_group("events/image"), "is not an array"),
    "a link to itself": (
        lambda h5: h5["events"].__setitem__("image", h5py.SoftLink("/events/image")),
        "leads through more than 16 links",
    ),
    **{
        f"dtype {dtype}": (values(IMAGES.astype(dtype)), "are not supported")
        for dtype in ("?", "i1", "i4", "u4", "u8", "c8", "c16", "S3", "V7")
    },
    **{
        f"dtype {dtype}": (values((IMAGES / 2).astype(dtype) * 2), READ)
        for dtype in ("f2", ">f4", "f8", "g", ">u2")
    },
    "negative": (values(-1.0 * IMAGES), "must be whole numbers from 0 to 255"),
    "not whole": (values(IMAGES / 2), "frame 0 holds 0.5"),
    "not a number": (values(IMAGES * np.nan), "frame 0 holds nan"),
    "infinite": (values(np.full((10, 4, 3), np.inf)), "frame 0 holds inf"),
    "texts": (images_of((10, 4, 3), h5py.string_dtype()), "are not supported"),
    "lists": (images_of((10, 4, 3), h5py.vlen_dtype("u1")), "are not supported"),
    "references": (images_of((10, 4, 3), h5py.ref_dtype), "are not supported"),
    "compounds": (images_of((10, 4, 3), [("a", "u1"), ("b", "f8")]), "are not supported"),
    "arrays": (images_of((10, 4, 3), np.dtype(("u1", (2,)))), "are not supported"),
    "arrays of frames": (images_of((10,), np.dtype(("u1", (4, 3)))), "shape must be (N, H, W)"),
    "times": (low_level(h5py.h5t.UNIX_D32LE), "No NumPy equivalent"),
    "bits": (low_level(h5py.h5t.STD_B8LE), READ),
    "names": (values(IMAGES, dtype=h5py.enum_dtype({"dark": 0}, "u1"), chunks=(1, 4, 3)), READ),
}


@pytest.mark.parametrize("name", IMAGE_FILES)
def test_absurd_images(judge, tmp_path, name):
    write, expected = IMAGE_FILES[name]
    assert expected in outcome(judge, tmp_path, write)


AXES = {
    "2**40 entries": (lambda h5, at: h5.create_dataset(at, (2**40,), "f8"), "has 1099511627776"),
    "2**26 entries": (lambda h5, at: h5.create_dataset(at, (2**26,), "f8"), "has shape (67108864,"),
    "two axes": (np.zeros((10, 2)), "has shape (10, 2), but there are 10 frames"),
    "too short": (np.zeros(9), "has shape (9,), but there are 10 frames"),
    "not a number": (np.full(10, np.nan), "is nan at frame 0; it must be finite"),
    "infinite": (np.arange(10) + np.array([*[0] * 9, np.inf]), "is inf at frame 9"),
    "text": (np.array([b"1"] * 10), "must hold numbers, but its dtype is |S1"),
    "bool": (np.zeros(10, bool), "must hold numbers, but its dtype is bool"),
    "complex": (np.zeros(10, complex), "must hold numbers, but its dtype is complex128"),
    "compound": (np.zeros(10, [("a", "f8")]), "must hold numbers"),
    "float16 that overflows": (np.array([-60000] + [60000] * 9, "f2"), "its span exceeds"),
    "float64 that overflows": (np.array([-1.7e308] + [1.7e308] * 9), "its span exceeds"),
    "thirty years": (np.linspace(0, 1e9, 10), "at most 1000000 background"),
    "ages": (np.linspace(0, 1e300, 10), "at most 1000000 background images are possible"),
    "counts down": (np.arange(10, dtype="u8")[::-1], READ),
    "float16": (np.arange(10, dtype="f2"), READ),
    "big-endian": (np.arange(10, dtype=">i4"), READ),
}


@pytest.mark.parametrize("feature", ["time", "frame"])
@pytest.mark.parametrize("name", AXES)
def test_absurd_time_axes(judge, tmp_path, name, feature):
    axis, expected = AXES[name]

    def write(h5):
        h5["events/image"] = IMAGES
        h5.attrs["imaging:frame rate"] = np.float16(1)
        if callable(axis):
            axis(h5, f"events/{feature}")
        else:
            h5[f"events/{feature}"] = axis

    assert expected in outcome(judge, tmp_path, write)


RATES = ["100", b"100", np.nan, 0, -1, np.inf, [1, 2], h5py.Empty("f8"), True, 1 + 2j, 5e-324]


@pytest.mark.parametrize("rate", [*RATES, 1e-300], ids=str)
@pytest.mark.parametrize("with_frame", [False, True])
def test_absurd_frame_rates(judge, tmp_path, rate, with_frame):
    def write(h5):
        h5["events/image"] = IMAGES
        h5.attrs["imaging:frame rate"] = rate
        if with_frame:
            h5["events/frame"] = np.arange(10)

    told = outcome(judge, tmp_path, write)
    assert any(word in told for word in ("frame rate", "its span exceeds", "split_time 1.0 s"))


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("kernel_size", 10**9, READ),
        ("kernel_size", 2**70, READ),
        ("split_time", 1e-9, "at most 1000000 background images are possible"),
        ("split_time", 5e-324, "at most 1000000 background images are possible"),
        ("split_time", 1e308, READ),
        ("split_time", float("nan"), "split_time must be a number above 0"),
        ("split_time", float("inf"), "split_time must be a number above 0"),
    ],
)
def test_absurd_parameters(tmp_path, name, value, expected):
    time = np.linspace(0, 100, 10)
    if expected == READ:
        found = sparsemed.compute_background(IMAGES, time, **{name: value})
        assert READ in repr(found)
    else:
        with pytest.raises(ValueError, match=expected):
            sparsemed.compute_background(IMAGES, time, **{name: value})


def record(**entries):
    return json.dumps({"name": "n", **entries})


INSIDE = {"type": "internal", "paths": ["basin_events"]}
RECORDS = {
    "nested lists": ("[" * 10**5, "basins/record is not valid JSON"),
    "nested objects": ('{"a":' * 10**5, "basins/record is not valid JSON"),
    "a number of many digits": ('{"paths": [' + "1" * 5000 + "]}", "is not valid JSON"),
    "a mapping that is a list": (record(**INSIDE, mapping=[1]), "its mapping is '[1]'"),
    "a mapping that is an object": (record(**INSIDE, mapping={}), "its mapping is '{}'"),
    "no paths": (record(type="internal", paths=None), "is not a basin record"),
    "a path that is a number": (record(type="internal", paths=[3]), "has no dataset"),
    "a path to a feature": (record(type="internal", paths=["events/vast"]), "has no dataset"),
    "surrogates": (record(type="file", paths=["\ud800"], mapping="\ud800"), "not found"),
    "zeros": (record(type="file", paths=["a\0b"], mapping="a\0b"), "has no dataset"),
    "a mapping that is vast": (record(**INSIDE, mapping="vast"), "has 1099511627776 entries"),
    "a mapping of images": (record(**INSIDE, mapping="time"), "events/time is no mapping"),
    "features that are numbers": (record(**INSIDE, features=[1, None, {}]), "has no dataset"),
}


@pytest.mark.parametrize("name", RECORDS)
def test_absurd_basins(judge, tmp_path, name):
    text, expected = RECORDS[name]

    def write(h5):
        h5["basin_events/image"] = IMAGES
        h5["events/time"] = np.arange(10.0)
        h5.create_dataset("events/vast", (2**40,), "i8", chunks=(1000,))
        h5["basins/record"] = np.array([text.encode()])

    assert expected in outcome(judge, tmp_path, write)


@pytest.mark.parametrize("shape", [(2**40,), (2**25,)])
def test_basin_records_that_are_vast(judge, tmp_path, shape):
    def write(h5):
        h5["events/image"] = IMAGES
        h5.create_dataset("basins/record", shape, "S1", chunks=(1000,))

    assert f"it has {shape[0]} bytes" in outcome(judge, tmp_path, write)


def test_a_feature_of_a_basin_that_is_vast(judge, tmp_path):
    def write(h5):
        h5["basin_events/image"] = IMAGES
        h5.create_dataset("basin_events/time", (2**40,), "f8", chunks=(1000,))
        h5["events/basinmap0"] = np.arange(3)
        text = record(**INSIDE, mapping="basinmap0")
        h5["basins/record"] = np.array([text.encode()])

    assert "basin_events/time has 1099511627776 entries" in outcome(judge, tmp_path, write)


# What people see


def a_measurement(path, **options):
    with h5py.File(path, "w") as h5:
        dataset = h5.create_dataset("events/image", data=IMAGES, chunks=(5, 4, 3), **options)
        h5["events/time"] = np.arange(10.0)
        return dataset.id.get_chunk_info(1)


@pytest.mark.parametrize("command", ["compute", "report", "info"])
@pytest.mark.parametrize("fault", ["flip", "cut"])
def test_the_command_says_it_in_a_line(tmp_path, command, fault):
    path = tmp_path / "damaged.rtdc"
    chunk = a_measurement(path, **hdf5plugin.Zstd(), fletcher32=True)
    if fault == "cut":
        os.truncate(path, chunk.byte_offset)
    else:
        content = bytearray(path.read_bytes())
        content[chunk.byte_offset + chunk.size // 2] ^= 1
        path.write_bytes(content)
    options = [] if command == "info" else ["-k", "kernel_size=5"]
    told = CliRunner().invoke(main, [command, str(path), *options])
    if command == "info" and fault == "flip":  # it does not read the frames
        assert told.exit_code == 0
        return
    assert told.exit_code in (1, 2)
    assert isinstance(told.exception, SystemExit)
    lines = told.stderr.splitlines()
    assert len(lines) == 1
    assert str(path) in lines[0]
    if fault == "flip":
        assert "events/image: frames 5 to 9 cannot be read" in lines[0]
