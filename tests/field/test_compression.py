"""Compression as other programs write it, and libraries that lack something."""

import logging

import h5py
import hdf5plugin
import numpy as np
import pytest
import zstandard
from parity.oracle import dcnum_background

from sparsemed import compute_background
from sparsemed.frames import codecs

COUNT = 100
IMAGES = np.random.default_rng(0).integers(90, 110, (COUNT, 40, 64), np.uint8)
SETTINGS = {"kernel_size": 20, "split_time": 0.2}

SKIPPED = b"\x50\x2a\x4d\x18\x05\x00\x00\x00hello"


def packed(data, **options):
    return zstandard.ZstdCompressor(**options).compress(data)


def streamed(data):
    stream = zstandard.ZstdCompressor().compressobj()
    return stream.compress(data) + stream.flush()


WAYS = {
    "without a size": lambda data: packed(data, write_content_size=False),
    "as a stream": streamed,
    "two frames": lambda data: packed(data[:999]) + packed(data[999:]),
    "something to skip": lambda data: SKIPPED + packed(data),
}


def write(path, way, **options):
    with h5py.File(path, "w") as h5:
        dataset = h5.create_dataset(
            "events/image", IMAGES.shape, "u1", chunks=(25, 40, 64), **hdf5plugin.Zstd(), **options
        )
        for start in range(0, COUNT, 25):
            chunk = WAYS[way](IMAGES[start : start + 25].tobytes())
            dataset.id.write_direct_chunk((start, 0, 0), chunk)
        h5["events/time"] = np.arange(COUNT) / 100
    return path


@pytest.mark.parametrize("way", WAYS)
def test_zstandard_as_others_write_it(tmp_path, way):
    found = compute_background(write(tmp_path / "in.rtdc", way), **SETTINGS)
    expected = compute_background(IMAGES, time=np.arange(COUNT) / 100, **SETTINGS)
    np.testing.assert_array_equal(found.series, expected.series)
    np.testing.assert_array_equal(found.offsets, expected.offsets)


def test_dcnum_gets_other_pixels_of_two_frames_in_a_chunk(tmp_path):
    path = write(tmp_path / "in.rtdc", "two frames")
    with h5py.File(path) as h5:  # as HDF5's filter has them
        try:
            wrong = not np.array_equal(h5["events/image"][:], IMAGES)
        except OSError:
            wrong = True
    assert wrong
    with dcnum_background(path, tmp_path / "dcnum.rtdc", **SETTINGS) as job:
        try:
            job.process()
        except OSError:
            return
        ours = compute_background(path, **SETTINGS)
        assert not np.array_equal(job.bg_images, ours.series)


@pytest.mark.parametrize("lacks", ["a codec", "the list of chunks"])
def test_what_a_library_lacks_hdf5_has(tmp_path, caplog, monkeypatch, lacks):
    path = tmp_path / "in.rtdc"
    with h5py.File(path, "w") as h5:
        h5.create_dataset("events/image", data=IMAGES, chunks=(25, 40, 64), **hdf5plugin.Zstd())
        h5["events/time"] = np.arange(COUNT) / 100
    caplog.set_level(logging.INFO, "sparsemed")
    expected = compute_background(path, **SETTINGS)
    assert "is read by HDF5" not in caplog.text
    if lacks == "a codec":
        monkeypatch.setattr("sparsemed.frames.layout.missing_codec", lambda _: "it is not there")
        reason = "its filter 32015 cannot be undone here (it is not there)"
    else:
        monkeypatch.setattr("sparsemed.frames.hdf5_layout.lists_chunks", lambda _: False)
        reason = "this build of HDF5 does not list chunks"
    found = compute_background(path, **SETTINGS)
    assert f"in.rtdc: events/image is read by HDF5: {reason}" in caplog.text
    np.testing.assert_array_equal(found.series, expected.series)


def test_every_filter_that_is_known_has_a_codec_here():
    assert [number for number in codecs.CODECS if codecs.missing_codec(number)] == []
