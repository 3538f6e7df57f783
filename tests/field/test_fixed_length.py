"""Metadata of fixed length, which h5py has as bytes: dclab and dcnum read them differently."""

import warnings

import dclab
import h5py
import numpy as np
import pytest
from dcnum.feat.feat_background.bg_sparse_median import BackgroundSparseMed as Theirs
from dcnum.read.hdf5_data import get_measurement_identifier
from field.test_basins_of_dclab import write_raw

from sparsemed import BackgroundSparseMed, compute_background
from sparsemed.jobs.done import find_done
from sparsemed.jobs.options import RunOptions
from sparsemed.jobs.runs import Run
from sparsemed.parameters import Parameters
from sparsemed.rtdc.basins import known_identifiers, read_basins


@pytest.fixture(params=["identifier", "run identifier"])
def raw(request, tmp_path):
    path = write_raw(tmp_path / "raw.rtdc")
    with h5py.File(path, "a") as h5:
        if request.param == "run identifier":
            h5.attrs["experiment:run identifier"] = "R-1"
        for name, value in h5.attrs.items():
            if isinstance(value, str):
                h5.attrs[name] = np.bytes_(value)
    return path


def records(path):
    with h5py.File(path) as h5:
        return [basin.identifier for basin in read_basins(h5) if basin.is_file]


def test_a_measurement_is_known_as_dclab_and_as_dcnum_know_it(raw):
    with h5py.File(raw) as h5:
        known, theirs = known_identifiers(h5.attrs), get_measurement_identifier(h5)
        assert theirs in known or theirs == known[0].encode()
    with dclab.new_dataset(raw) as data:
        assert known[0] == data.get_measurement_identifier()


def test_exports_of_dclab_lead_to_it(raw, tmp_path):
    expected = compute_background(raw)
    for name, filtered in (("whole.rtdc", False), ("part.rtdc", True)):
        with dclab.new_dataset(raw) as data:
            data.filter.manual[100:] = False
            data.apply_filter()
            data.export.hdf5(tmp_path / name, ["deform"], filtered=filtered, basins=True)
    found = compute_background(tmp_path / "whole.rtdc")
    np.testing.assert_array_equal(found.series, expected.series)
    assert len(compute_background(tmp_path / "part.rtdc")) == 100


def test_the_class_records_what_dcnum_records(raw, tmp_path):
    with BackgroundSparseMed(raw, tmp_path / "out.rtdc") as job:
        job.process()
    with h5py.File(raw) as h5:
        assert records(tmp_path / "out.rtdc") == known_identifiers(h5.attrs)[-1:]


def test_dclab_opens_what_is_written_without_a_warning(raw, tmp_path):
    output = tmp_path / "out.rtdc"
    compute_background(raw).save(output)
    recorded = records(output)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with dclab.new_dataset(output) as data:
            assert data["image"][0].shape == data["image_bg"][0].shape
            assert len(data["deform"]) == len(data)
            assert recorded == [data.get_measurement_identifier()]


def test_results_of_dcnum_lead_to_it(raw, tmp_path):
    with h5py.File(raw) as h5:
        if h5.attrs.get("experiment:run identifier"):
            pytest.skip("dcnum cannot write a record with such an identifier")
    output = tmp_path / "out.rtdc"
    with Theirs(raw, output, num_cpus=1) as theirs:
        theirs.process()
    run, options = Run(raw, output), RunOptions(Parameters())
    with h5py.File(raw) as h5:
        assert records(output) == known_identifiers(h5.attrs)[1:]
    np.testing.assert_array_equal(compute_background(output).series, compute_background(raw).series)
    assert find_done(run, options) is not None
    compute_background(raw).save(output)
    assert find_done(run, options) is not None
    with h5py.File(raw) as h5:
        assert records(output) == known_identifiers(h5.attrs)[:1]
