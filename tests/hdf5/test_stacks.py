"""HDF5 files that are no measurements: what in them looks like frames."""

import h5py
import numpy as np
import pytest

from sparsemed import compute_background
from sparsemed.hdf5.stacks import open_dataset

FRAMES = np.random.default_rng(0).integers(0, 200, (40, 24, 33), np.uint8)


@pytest.fixture
def path(tmp_path):
    with h5py.File(tmp_path / "stack.h5", "w") as h5:
        h5["t0/channel0"] = FRAMES
        h5["exported_data"] = FRAMES[:5, ..., None]
        h5["names"] = ["a", "b"]
        h5["profile"] = np.zeros((40, 24))
        h5["elsewhere"] = h5py.ExternalLink("missing.h5", "/data")
    return tmp_path / "stack.h5"


def test_datasets_that_look_like_frames_are_named(path):
    with pytest.raises(ValueError, match="has no group 'events', so it is no measurement") as error:
        compute_background(path, frame_rate=10)
    assert str(error.value).endswith(
        "datasets that look like frames: 't0/channel0' (40 × 24 × 33 uint8), 'exported_data' "
        "(5 × 24 × 33 × 1 uint8); choose one with dataset='t0/channel0' or --dataset t0/channel0"
    )


def test_a_file_without_frames_says_so(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as h5:
        h5["profile"] = np.zeros((40, 24))
    with pytest.raises(ValueError, match="no dataset in it has the three axes of frames"):
        compute_background(tmp_path / "a.h5")


def test_a_dataset_is_opened_by_its_name(path):
    with open_dataset(path, "t0/channel0", "any") as (dataset, _):
        np.testing.assert_array_equal(dataset[:], FRAMES)
    for name in ("nonsense", "t0", "elsewhere"):
        with (
            pytest.raises((ValueError, OSError), match=r"stack\.h5"),
            open_dataset(path, name, "off"),
        ):
            pass
