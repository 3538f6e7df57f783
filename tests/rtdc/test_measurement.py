import h5py
import numpy as np
import pytest
from dcnum.read import HDF5Data
from dcnum.write import HDF5Writer
from hdf5.files import files_open

from sparsemed.rtdc.basins import file_record, store_record
from sparsemed.rtdc.measurement import Measurement

IMAGES = np.arange(5 * 4 * 3, dtype=np.uint8).reshape(5, 4, 3)


@pytest.fixture
def raw(tmp_path):
    """Return a measurement that others can refer to."""
    path = tmp_path / "raw.rtdc"
    with h5py.File(path, "w") as h5:
        h5["events/image"] = IMAGES
        h5["events/time"] = np.arange(5.0)
        h5.attrs["experiment:run identifier"] = "me"
        h5.attrs["imaging:frame rate"] = 2000.0
    return path


def refer(path, *paths, mapping=None, features=("image",), **record):
    """Write a measurement with nothing but a basin."""
    with HDF5Writer(path, mode="w") as writer:
        writer.store_basin(
            "the basin", paths=list(paths), features=list(features), mapping=mapping, **record
        )
    return path


def read(path, name="image"):
    with Measurement(path) as measurement:
        return measurement.feature(name).read()


def test_own_features(raw):
    with Measurement(raw) as measurement:
        assert measurement.frame_rate == 2000
        assert len(measurement.image) == 5
        np.testing.assert_array_equal(measurement.image.dataset[:], IMAGES)
        assert measurement.image.mapping is None
        assert measurement.image.label == f"{raw}: events/image"
        np.testing.assert_array_equal(measurement.feature("time").read(), np.arange(5.0))
        assert measurement.feature("frame") is None


def test_no_frame_rate(tmp_path, raw):
    with Measurement(refer(tmp_path / "in.rtdc", raw)) as measurement:
        assert measurement.frame_rate is None


def test_absolute_relative_and_second_paths_of_a_basin(tmp_path, raw):
    for number, paths in enumerate(([raw], ["raw.rtdc"], ["gone.rtdc", raw])):
        path = refer(tmp_path / f"{number}.rtdc", *paths, identifier="me")
        np.testing.assert_array_equal(read(path), IMAGES)


def test_basins_that_leave_their_features_open(tmp_path, raw):
    path = refer(tmp_path / "in.rtdc", raw, features=())
    np.testing.assert_array_equal(read(path, "time"), np.arange(5.0))


def test_only_listed_features_count(tmp_path, raw):
    path = refer(tmp_path / "in.rtdc", raw, features=["image", "frame"])
    with Measurement(path) as measurement:
        assert measurement.feature("time") is None
        assert measurement.feature("frame") is None


def test_mapped_basins(tmp_path, raw):
    mapping = np.array([4, 0, 0, 2, 3, 3, 1])
    path = refer(tmp_path / "in.rtdc", raw, mapping=mapping, features=["image", "time"])
    np.testing.assert_array_equal(read(path), IMAGES[mapping])
    np.testing.assert_array_equal(read(path, "time"), mapping.astype(float))
    with Measurement(path) as measurement:
        assert len(measurement.image) == 7


def test_internal_basins_come_first(tmp_path, raw):
    path = refer(tmp_path / "in.rtdc", raw)
    with HDF5Writer(path) as writer:
        writer.store_basin("inside", internal_data={"image": IMAGES + 1}, mapping=np.arange(5))
    np.testing.assert_array_equal(read(path), IMAGES + 1)


def test_own_features_come_before_basins(tmp_path, raw):
    path = refer(tmp_path / "in.rtdc", raw)
    with h5py.File(path, "a") as h5:
        h5["events/image"] = IMAGES + 1
    np.testing.assert_array_equal(read(path), IMAGES + 1)


def test_basins_without_their_mapping_are_passed_over(tmp_path, raw):
    path = refer(tmp_path / "in.rtdc", raw, mapping=np.arange(5))
    with h5py.File(path, "a") as h5:
        del h5["events/basinmap0"]
    with Measurement(path) as measurement, pytest.raises(ValueError, match="has no dataset"):
        _ = measurement.image


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        (np.array([0, 5]), "maps to entries 0 to 5, but .*raw.rtdc: events/image has 5"),
        (np.array([-1, 3]), "maps to entries -1 to 3"),
        (np.array([0.0, 1.0]), "is no mapping: dtype float64"),
        (np.array([[0, 1]]), r"is no mapping: dtype int64, shape \(1, 2\)"),
    ],
)
def test_impossible_mappings(tmp_path, raw, mapping, message):
    path = refer(tmp_path / "in.rtdc", raw, mapping=mapping)
    with (
        Measurement(path) as measurement,
        pytest.raises(ValueError, match=rf"in\.rtdc: events/basinmap0 {message}"),
    ):
        measurement.feature("image")


def test_a_basin_of_another_measurement(tmp_path, raw):
    path = refer(tmp_path / "in.rtdc", raw, identifier="you")
    message = r"in\.rtdc: .*; basin 'the basin' leads to .*raw\.rtdc.*identifier 'you'.*'me'"
    with Measurement(path) as measurement, pytest.raises(ValueError, match=message):
        _ = measurement.image


def test_a_basin_that_cannot_be_read(tmp_path):
    (tmp_path / "raw.rtdc").write_text("not HDF5")
    path = refer(tmp_path / "in.rtdc", "raw.rtdc")
    message = r"in\.rtdc: .*; basin 'the basin': .*raw\.rtdc: cannot be read as an HDF5 file"
    with Measurement(path) as measurement, pytest.raises(OSError, match=message):
        _ = measurement.image


def test_a_basin_that_is_gone(tmp_path):
    path = refer(tmp_path / "in.rtdc", "gone.rtdc")
    message = r"in\.rtdc: has no dataset 'events/image'; these basins were not found: 'gone\.rtdc'"
    with Measurement(path) as measurement, pytest.raises(ValueError, match=message):
        _ = measurement.image


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.rtdc: there is no such file"):
        Measurement(tmp_path / "gone.rtdc")


def test_a_folder(tmp_path):
    with pytest.raises(OSError, match="is a folder"):
        Measurement(tmp_path)


def test_a_file_that_is_not_hdf5(tmp_path):
    (tmp_path / "text.rtdc").write_text("hello")
    with pytest.raises(OSError, match=r"text\.rtdc: cannot be read as an HDF5 file"):
        Measurement(tmp_path / "text.rtdc")


def test_no_events(tmp_path):
    with h5py.File(tmp_path / "in.rtdc", "w") as h5:
        h5["image"] = IMAGES
    with pytest.raises(ValueError, match=r"in\.rtdc: has no group 'events'"):
        Measurement(tmp_path / "in.rtdc")


def test_an_image_that_is_a_group(tmp_path):
    with h5py.File(tmp_path / "in.rtdc", "w") as h5:
        h5.create_group("events/image")
    with (
        Measurement(tmp_path / "in.rtdc") as measurement,
        pytest.raises(ValueError, match=r"in\.rtdc: events/image is not an array"),
    ):
        _ = measurement.image


def test_the_events_of_a_basin_may_be_a_link_to_another_file(tmp_path, raw):
    with h5py.File(tmp_path / "between.rtdc", "w") as h5:
        h5["events"] = h5py.ExternalLink("raw.rtdc", "/events")
    np.testing.assert_array_equal(read(refer(tmp_path / "in.rtdc", "between.rtdc")), IMAGES)


def test_files_are_closed(tmp_path, raw):
    with Measurement(refer(tmp_path / "in.rtdc", raw)) as measurement:
        dataset = measurement.image.dataset
    assert not dataset.id.valid
    for path in (raw, tmp_path / "in.rtdc"):
        with h5py.File(path, "a"):
            pass


def test_a_mapped_feature_is_indexed_like_an_array(tmp_path, raw):
    mapping = np.array([4, 0, 0, 2, 3, 3, 1])
    path = refer(tmp_path / "in.rtdc", raw, mapping=mapping)
    with Measurement(path) as measurement:
        image = measurement.image
        assert image.shape == (7, 4, 3)
        assert image.dtype == np.uint8
        for frames in (0, 2, -1, slice(1, 6), slice(None, None, -2), np.array([6, 0, 0])):
            np.testing.assert_array_equal(image[frames], IMAGES[mapping][frames])


def test_an_interrupted_change_is_undone_in_the_file_that_is_named(tmp_path, raw, monkeypatch):
    asked = []
    monkeypatch.setattr("sparsemed.hdf5.opening.recover", asked.append)
    path = refer(tmp_path / "in.rtdc", raw)
    assert read(path).shape == IMAGES.shape
    assert asked == [path]


@pytest.mark.parametrize("name", ["basins", "events"])
def test_a_dataset_in_place_of_a_group(tmp_path, name):
    with h5py.File(tmp_path / "in.rtdc", "w") as h5:
        h5["events/image" if name == "basins" else "image"] = IMAGES
        h5[name] = 3
    with pytest.raises(ValueError, match=rf"in\.rtdc: .*{name}"):
        Measurement(tmp_path / "in.rtdc")


@pytest.mark.parametrize("error", [KeyError("x"), RuntimeError("x"), OSError("x")])
def test_errors_of_hdf5_name_the_file(tmp_path, raw, monkeypatch, error):
    def fail(*arguments):
        raise error

    monkeypatch.setattr("sparsemed.rtdc.events.read_basins", fail)
    with pytest.raises(OSError, match=r"raw\.rtdc: .*x"):
        Measurement(raw)
    with h5py.File(raw, "a"):  # it was closed again
        pass


def test_a_basin_of_another_measurement_never_becomes_ours(tmp_path, raw):
    path = refer(tmp_path / "in.rtdc", raw.name, identifier="you")
    with Measurement(path) as measurement:
        for _ in range(2):
            with pytest.raises(ValueError, match="which is another measurement"):
                measurement.feature("image")


@pytest.mark.parametrize("expected", [None, "me", "you"])
@pytest.mark.parametrize("found", [None, "me"])
def test_a_file_without_identity_is_not_the_one_that_is_expected(tmp_path, raw, expected, found):
    with h5py.File(raw, "a") as h5:
        if found is None:
            del h5.attrs["experiment:run identifier"]
    record = {} if expected is None else {"identifier": expected}
    path = refer(tmp_path / "in.rtdc", raw, **record)
    with Measurement(path) as measurement:
        if expected in (None, found):
            np.testing.assert_array_equal(measurement.image.read(), IMAGES)
        else:
            with pytest.raises(ValueError, match=f"identifier '{expected}', found '?{found}'?"):
                _ = measurement.image


def test_a_basin_that_lists_no_feature_has_none_as_in_dcnum(tmp_path, raw):
    path = refer(tmp_path / "in.rtdc", raw)
    with h5py.File(path, "a") as h5:
        del h5["basins"]
        store_record(h5, {**file_record("b", None, [str(raw)], None, None), "features": []}, {})
    with Measurement(path) as measurement:
        (basin,) = measurement.basins
        for name in ("image", "time", "frame"):
            assert measurement.from_basin(basin, name) is None
            assert measurement.feature(name) is None
    with HDF5Data(path) as theirs:
        assert "image" not in theirs
        assert "time" not in theirs


def spoil(path, way):
    with h5py.File(path, "a") as h5:
        if way == "no events":
            del h5["events"]
        elif way == "events that are no group":
            del h5["events"]
            h5["events"] = 3
        elif way == "events elsewhere":
            del h5["events"]
            h5["events"] = h5py.ExternalLink("raw.rtdc", "/events")
        elif way == "a broken record":
            h5["basins/broken"] = np.array([b"{"])
        else:
            for number in range(300):
                h5[f"basins/{number}"] = 1


@pytest.mark.parametrize(
    "way",
    ["no events", "events that are no group", "events elsewhere", "a broken record", "many basins"],
)
def test_a_refused_measurement_is_closed_at_once(tmp_path, raw, way):
    path = refer(tmp_path / "in.rtdc", raw)
    spoil(path, way)
    try:
        Measurement(path, "off")
    except ValueError:
        left_open = files_open()  # while the error still holds on to everything
    assert left_open.isdisjoint({str(path), str(raw)})


@pytest.mark.parametrize("order", [1, -1])
def test_of_what_is_wrong_with_the_files_of_a_basin_the_worst_counts(tmp_path, raw, order):
    """A file that cannot be read may be the right one, so it is no matter of another one."""
    (tmp_path / "broken.rtdc").write_text("no HDF5")
    paths = [str(raw), "broken.rtdc"][::order]
    path = refer(tmp_path / "in.rtdc", *paths, features=["image", "time"], identifier="you")
    with Measurement(path) as measurement:
        for find in (lambda: measurement.image, lambda: measurement.feature("time")):
            with pytest.raises(OSError, match=r"another measurement.*broken|broken.*another"):
                find()
    path = refer(
        tmp_path / "b.rtdc", *[str(raw), "b.rtdc"][::order], features=["time"], identifier="you"
    )
    with Measurement(path) as measurement, pytest.raises(ValueError, match="another measurement"):
        measurement.feature("time")


@pytest.mark.parametrize("count", [5, 6, 7])
def test_five_reasons_are_named_and_the_others_are_counted(tmp_path, raw, count):
    path = tmp_path / "in.rtdc"
    with h5py.File(path, "w") as h5:
        h5.create_group("events")
        for number in range(count):
            store_record(h5, file_record(f"b{number}", None, [str(raw)], None, f"{number}"), {})
    with Measurement(path) as measurement, pytest.raises(ValueError, match="no dataset") as error:
        _ = measurement.image
    reasons = str(error.value).split("; ")[1:]
    assert [f"basin 'b{n}' leads to" in reasons[n] for n in range(5)] == [True] * 5
    assert reasons[5:] == ([] if count == 5 else [f"and {count - 5} more"])


@pytest.mark.parametrize(("whole", "part"), [("me", "me-1"), ("me-1", "me"), ("me", "you")])
def test_what_is_mapped_is_part_of_the_measurement_it_leads_to(tmp_path, raw, whole, part):
    """Where the record does not say which measurement that is."""
    with h5py.File(raw, "a") as h5:
        h5.attrs["experiment:run identifier"] = whole
    path = refer(tmp_path / "in.rtdc", raw, mapping=np.array([3, 1]))
    with h5py.File(path, "a") as h5:
        h5.attrs["experiment:run identifier"] = part
    if part == "me-1":
        np.testing.assert_array_equal(read(path), IMAGES[[3, 1]])
    else:
        with Measurement(path) as measurement, pytest.raises(ValueError, match="another measure"):
            _ = measurement.image
