"""Measurements put together from hundreds of files."""

import os

import h5py
import numpy as np
import pytest
from dcnum.read.hdf5_concat import concatenated_hdf5_data

from sparsemed import compute_background

FILES, EACH = 300, 3


@pytest.fixture(scope="module")
def joined(tmp_path_factory):
    folder = tmp_path_factory.mktemp("joined")
    frames = np.random.default_rng(0).integers(90, 110, (FILES * EACH, 24, 16), dtype=np.uint8)
    paths = [folder / f"{number:03d}.rtdc" for number in range(FILES)]
    for number, path in enumerate(paths):
        with h5py.File(path, "w") as h5:
            h5["events/image"] = frames[number * EACH : (number + 1) * EACH]
            h5["events/frame"] = np.arange(1, EACH + 1)
            h5.attrs["imaging:frame rate"] = 100.0
    concatenated_hdf5_data(paths, path_out=folder / "joined.rtdc")
    return folder / "joined.rtdc", frames


def test_dcnum_s_concatenation_of_hundreds(joined):
    path, frames = joined
    found = compute_background(path, kernel_size=50)
    expected = compute_background(frames, found.time, kernel_size=50)
    np.testing.assert_array_equal(found.series, expected.series)
    np.testing.assert_array_equal(found.offsets, expected.offsets)


@pytest.mark.skipif(os.name == "nt", reason="there is no such limit")
def test_where_fewer_may_be_open_no_frame_is_black(joined):
    import resource

    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, limits[1]))
    try:
        with pytest.raises(OSError, match=r"too many files are open.*ulimit"):
            compute_background(joined[0])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
