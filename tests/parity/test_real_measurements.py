"""Real measurements: computed by dcnum and by us, and read back by dcnum and dclab."""

import dclab
import h5py
import numpy as np
import pytest
from dcnum.feat.feat_background.bg_sparse_median import BackgroundSparseMed
from dcnum.read import HDF5Data
from parity.compare import differences
from parity.oracle import dcnum_background

import sparsemed

NAMES = ("2023", "2024", "legacy", "variable-length-logs")
SETTINGS = ({}, {"kernel_size": 7, "split_time": 0.11}, {"split_time": 0.03, "kernel_size": 5})


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_new_file_is_the_same(real, tmp_path, name, settings):
    path = real(name)
    before = path.read_bytes()
    with dcnum_background(path, tmp_path / "dcnum.rtdc", **settings) as expected:
        expected.process()
    with sparsemed.BackgroundSparseMed(path, tmp_path / "ours.rtdc", **settings) as ours:
        ours.process()
    assert differences(tmp_path / "dcnum.rtdc", tmp_path / "ours.rtdc") == []
    assert path.read_bytes() == before


@pytest.mark.parametrize("name", NAMES)
def test_work_in_place_is_the_same(real, tmp_path, name):
    path = real(name)
    theirs = tmp_path / "dcnum.rtdc"
    theirs.write_bytes(path.read_bytes())
    with dcnum_background(theirs, theirs, kernel_size=5, split_time=0.1) as expected:
        expected.process()
    with sparsemed.BackgroundSparseMed(path, path, kernel_size=5, split_time=0.1) as ours:
        ours.process()
    assert differences(theirs, path) == []


def test_same_as_dcnum_with_its_processes(real, tmp_path):
    path = real("2023")
    with BackgroundSparseMed(path, tmp_path / "dcnum.rtdc", split_time=0.2, num_cpus=2) as expected:
        expected.process()
    with sparsemed.BackgroundSparseMed(path, tmp_path / "ours.rtdc", split_time=0.2) as ours:
        ours.process()
    assert differences(tmp_path / "dcnum.rtdc", tmp_path / "ours.rtdc") == []


@pytest.mark.parametrize("where", ["new file", "in place"])
@pytest.mark.parametrize("name", NAMES)
def test_dcnum_and_dclab_read_it(real, tmp_path, name, where):
    path = real(name)
    output = path if where == "in place" else tmp_path / "out.rtdc"
    with h5py.File(path) as h5:
        images = h5["events/image"][:]
    with sparsemed.BackgroundSparseMed(path, output, kernel_size=5, split_time=0.05) as job:
        job.process()
        result = job.background
    with HDF5Data(output) as data:
        np.testing.assert_array_equal(data["image_bg"][:], result[:])
        np.testing.assert_array_equal(data["bg_off"], result.offsets)
        np.testing.assert_array_equal(data["basinmap0"], result.frame_index)
        np.testing.assert_array_equal(data["image"][:], images)
    with dclab.new_dataset(output) as data:
        np.testing.assert_array_equal(np.asarray(data["image_bg"][:]), result[:])
        np.testing.assert_array_equal(data["bg_off"][:], result.offsets)
        np.testing.assert_array_equal(np.asarray(data["image"][:]), images)


def test_a_measurement_without_events_is_refused(real, tmp_path):
    path = real("empty")
    with pytest.raises(ValueError, match=r"empty\.rtdc: events/image: there are no frames"):
        sparsemed.BackgroundSparseMed(path, tmp_path / "out.rtdc")
    assert list(tmp_path.iterdir()) == [path]


def test_logs_of_variable_length_are_copied_in_lines(real, tmp_path):
    path = real("variable-length-logs")
    with sparsemed.BackgroundSparseMed(path, tmp_path / "out.rtdc") as job:
        job.process()
    with h5py.File(path) as source, h5py.File(tmp_path / "out.rtdc") as output:
        for name, log in source["logs"].items():
            assert output["logs"][name].dtype.kind == "S"
            assert list(output["logs"][name]) == list(log)
