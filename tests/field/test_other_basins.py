"""Basins that no program on this machine makes: other measurements of that name, networks."""

import json

import dclab.cli
import h5py
import numpy as np
import pytest
from dclab import RTDCWriter
from field.test_basins_of_dclab import write_raw

from sparsemed import BackgroundSparseMed, compute_background
from sparsemed.rtdc.info import info
from sparsemed.rtdc.measurement import Measurement

SETTINGS = {"kernel_size": 20, "split_time": 0.2}


def refer(path, like, **record):
    """Write a file with the metadata of a measurement that refers to it."""
    record = {"name": "raw", "type": "file", "format": "hdf5", **record}
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(like) as raw:
        attributes = dict(raw.attrs)
    with h5py.File(path, "a") as h5:
        h5.attrs.update(attributes)
        h5.require_group("events")
        lines = json.dumps(record, indent=2).split("\n")
        h5.require_group("basins")[f"{len(h5['basins'])}"] = np.array(lines, dtype="S300")
    return path


def identifier_of(path):
    with dclab.new_dataset(path) as data:
        return data.get_measurement_identifier()


def images_of(path):
    with h5py.File(path) as h5:
        return h5["events/image"][:]


@pytest.fixture
def raw(tmp_path):
    return write_raw(tmp_path / "right" / "M001_data.rtdc")


@pytest.fixture
def wrong(tmp_path):
    """Another measurement of the same name."""
    return write_raw(tmp_path / "wrong" / "M001_data.rtdc", seed=1, time="13:00:00")


@pytest.mark.parametrize("with_identifier", [True, False])
def test_another_measurement_of_that_name_is_passed_over(tmp_path, raw, wrong, with_identifier):
    identifier = identifier_of(raw) if with_identifier else None
    paths = [str(wrong), str(raw)]
    path = refer(tmp_path / "in.rtdc", raw, paths=paths, identifier=identifier)
    with Measurement(path) as measurement:
        np.testing.assert_array_equal(measurement.image[:], images_of(raw))


@pytest.mark.parametrize("with_identifier", [True, False])
def test_the_next_basin_may_do(tmp_path, raw, wrong, with_identifier):
    identifier = identifier_of(raw) if with_identifier else None
    path = tmp_path / "in.rtdc"
    refer(path, raw, name="a", paths=["gone.rtdc"], identifier=identifier)
    refer(path, raw, name="b", paths=[str(wrong)], identifier=identifier)
    refer(path, raw, name="c", paths=[str(raw)], identifier=identifier)
    with Measurement(path) as measurement:
        np.testing.assert_array_equal(measurement.image[:], images_of(raw))


def test_when_all_fail_one_error_says_what_was_tried(tmp_path, raw, wrong):
    path = tmp_path / "in.rtdc"
    (tmp_path / "text.rtdc").write_text("no HDF5")
    refer(path, raw, name="a", paths=["gone.rtdc"])
    refer(path, raw, name="b", paths=["gone.rtdc", str(wrong)], identifier=identifier_of(raw))
    refer(path, raw, name="c", paths=["text.rtdc"])
    with pytest.raises(OSError, match="has no dataset 'events/image'") as error:
        compute_background(path)
    said = str(error.value)
    assert f"basin 'b' leads to {wrong}, which is another measurement" in said
    assert f"expected identifier '{identifier_of(raw)}', found '{identifier_of(wrong)}'" in said
    assert f"basin 'c': {tmp_path / 'text.rtdc'}: cannot be read as an HDF5 file" in said
    assert "these basins were not found: 'gone.rtdc'" in said
    assert "\n" not in said


@pytest.mark.parametrize("basins", ["same-folder", "off"])
def test_the_policy_holds_for_every_file_that_is_tried(tmp_path, raw, basins, monkeypatch):
    beside = tmp_path / "in.rtdc"
    refer(beside, raw, paths=[str(raw), "right/M001_data.rtdc"])
    opened = []
    real = h5py.File

    def spy(name, *arguments, **options):
        opened.append(str(name))
        return real(name, *arguments, **options)

    monkeypatch.setattr("sparsemed.hdf5.opening.h5py.File", spy)
    with pytest.raises(ValueError, match=f"which basins='{basins}' does not follow"):
        compute_background(beside, basins=basins)
    assert opened == [str(beside)]


def test_a_time_axis_of_another_measurement_is_not_taken_for_none(tmp_path, raw, wrong):
    path = refer(
        tmp_path / "in.rtdc",
        raw,
        paths=[str(wrong)],
        features=["time"],
        identifier=identifier_of(raw),
    )
    with h5py.File(path, "a") as h5:
        h5["events/image"] = images_of(raw)
    with pytest.raises(ValueError, match=r"'time' cannot be read from its basins; .*another meas"):
        compute_background(path)
    compute_background(path, basins="off", **SETTINGS)


# Networks -------------------------------------------------------------------------------------


def test_images_in_a_network(tmp_path, raw):
    record = {"type": "remote", "format": "dcor", "urls": ["https://dcor.example/api/3/x?id=1"]}
    path = refer(tmp_path / "in.rtdc", raw, **record)
    with pytest.raises(ValueError, match=r"basin 'raw' is at 'dcor\.example', and is not"):
        compute_background(path)
    (basin,) = info(path).basins
    assert basin.target == "https://dcor.example/api/3/x"  # a query may hold a secret


@pytest.mark.parametrize("mapping", [None, np.arange(120)[::-1]])
def test_records_of_networks_are_kept_as_they_are(tmp_path, raw, mapping):
    record = {
        "name": "far",
        "type": "remote",
        "format": "s3",
        "features": ["image"],
        "urls": ["https://s3.example/x"],
        "perishable": False,
        "description": "somewhere",
        "identifier": "me",
        "mapping": "same" if mapping is None else "basinmap0",
    }
    refer(raw, raw, **record)
    if mapping is not None:
        with h5py.File(raw, "a") as h5:
            h5["events/basinmap0"] = mapping
    with BackgroundSparseMed(raw, tmp_path / "out.rtdc", **SETTINGS) as job:
        job.process()
    with h5py.File(tmp_path / "out.rtdc") as h5:
        texts = ["\n".join(line.decode() for line in each) for each in h5["basins"].values()]
        (kept,) = [each for each in map(json.loads, texts) if each["type"] == "remote"]
        if mapping is not None:
            np.testing.assert_array_equal(h5[f"events/{kept['mapping']}"], mapping)
    assert kept == record


# Images cut around events ---------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")  # what dclab says of files it makes
def test_images_that_are_cut_around_events_are_refused(tmp_path, raw):
    with h5py.File(raw, "a") as h5:
        h5["events/size_x"] = np.full(120, 4.0)
        h5["events/size_y"] = np.full(120, 3.0)
        h5["events/pos_x"] = np.full(120, 5.0)
        h5["events/pos_y"] = np.full(120, 4.0)
    with RTDCWriter(raw) as writer:
        writer.store_feature("image_bg", np.full((120, 24, 30), 90, np.uint8))
    cut = tmp_path / "cut.rtdc"
    dclab.cli.compress(path_in=raw, path_out=cut, crop_event_images=True)
    with dclab.new_dataset(cut) as data:
        assert data["image"].shape == (120, 24, 30)  # of which most is image_bg
    with pytest.raises(ValueError, match="holds only the part of each image around an event"):
        compute_background(cut)
