"""Filters that are not installed are named, with what to do."""

import h5py
import numpy as np
import pytest

from sparsemed import compute_background

FRAMES = np.random.default_rng(0).integers(0, 200, (50, 24, 33), np.uint8)


def write(path, number, mask=0):
    """Write frames as if they had gone through a filter that nobody here has."""
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk((25, 24, 33))
    plist.set_filter(number, h5py.h5z.FLAG_OPTIONAL, (1,))
    space = h5py.h5s.create_simple(FRAMES.shape)
    with h5py.File(path, "w") as h5:
        made = h5py.h5d.create(h5.id, b"images", h5py.h5t.STD_U8LE, space, plist)
        for start in (0, 25):
            data = FRAMES[start : start + 25].tobytes()
            made.write_direct_chunk((start, 0, 0), data, mask)
    return path


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (32023, r"filter 32023 \(Granular BitRound\), whose plugin is missing: install the plugin"),
        (32020, r"filter 32020 \(VBZ\), whose plugin is missing: pip install .*vbz-h5py-plugin"),
        (50000, r"filter 50000 \(of no known name\)"),
    ],
)
def test_a_missing_filter_is_named(tmp_path, number, told):
    with (
        h5py.File(write(tmp_path / "a.h5", number)) as h5,
        pytest.raises(OSError, match=f"frames: cannot be decoded without the HDF5 {told}"),
    ):
        compute_background(h5["images"], frame_rate=10)


def test_chunks_that_skipped_it_are_read(tmp_path):
    with h5py.File(write(tmp_path / "a.h5", 32023, mask=1)) as h5:
        found = compute_background(h5["images"], frame_rate=10, kernel_size=9)
    expected = compute_background(FRAMES, frame_rate=10, kernel_size=9)
    np.testing.assert_array_equal(found.series, expected.series)
