import json
import os
from pathlib import Path

import h5py
import numpy as np
import pytest
from dcnum.read import HDF5Data
from dcnum.write import HDF5Writer
from hdf5.files import files_open

from sparsemed.method.result import Background
from sparsemed.rtdc.basins import read_basins, store_record
from sparsemed.rtdc.identity import identify
from sparsemed.rtdc.measurement import Measurement
from sparsemed.rtdc.output import check_output, write_background

IMAGES = np.arange(2 * 6 * 5, dtype=np.uint8).reshape(2, 6, 5)
INDEX = np.array([0, 0, 1])
OFFSETS = np.array([0.5, 0.25, -1])


def write(path, images=IMAGES, index=INDEX, offsets=OFFSETS, source=None, rows=20, **options):
    identity = None
    if source is not None:
        with Measurement(source) as measurement:
            identity = identify(measurement, len(index))
    times = np.arange(len(index))
    background = Background.of_images(
        images, index, offsets, times, identity=identity, offset_rows=rows
    )
    write_background(path, background, **options)


@pytest.fixture
def raw(tmp_path):
    path = tmp_path / "raw.rtdc"
    with h5py.File(path, "w", libver="latest") as h5:
        h5["events/image"] = np.zeros((3, 6, 5), np.uint8)
        h5["events/time"] = np.arange(3.0)
    return path


def test_dcnum_reads_what_was_written(tmp_path, raw):
    write(tmp_path / "out.rtdc", source=raw)
    with HDF5Data(tmp_path / "out.rtdc") as data:
        np.testing.assert_array_equal(data["image_bg"][:], IMAGES[INDEX])
        np.testing.assert_array_equal(data["bg_off"], OFFSETS)
        np.testing.assert_array_equal(data["time"], np.arange(3.0))


def test_no_offsets_remain_from_an_earlier_run(raw):
    write(raw)
    write(raw, offsets=None)
    with h5py.File(raw) as h5:
        assert "bg_off" not in h5["events"]


def test_offsets_of_other_rows_are_not_passed_for_those_of_a_ppid(tmp_path):
    for rows in (20, 7):
        write(tmp_path / f"{rows}.rtdc", rows=rows)
    with h5py.File(tmp_path / "20.rtdc") as usual, h5py.File(tmp_path / "7.rtdc") as other:
        assert set(usual["events/bg_off"].attrs) == {
            "dcnum ppid background",
            "dcnum ppid generation",
        }
        assert dict(other["events/bg_off"].attrs) == {
            "dcnum ppid generation": "13",
            "sparsemed offset rows": 7,
        }
        images = "basin_events/image_bg"
        assert dict(other[images].attrs) == dict(usual[images].attrs)
    write(tmp_path / "none.rtdc", offsets=None, rows=7)


@pytest.mark.parametrize("compress", [True, False])
def test_compression_is_optional_but_checksums_are_not(tmp_path, compress):
    write(tmp_path / "out.rtdc", compress=compress)
    with h5py.File(tmp_path / "out.rtdc") as h5:
        for name in ("basin_events/image_bg", "events/bg_off", "events/basinmap0"):
            plist = h5[name].id.get_create_plist()
            filters = [plist.get_filter(i)[0] for i in range(plist.get_nfilters())]
            assert filters == ([32015, 3] if compress else [3])


def test_other_features_of_an_internal_basin_survive(raw):
    """A record that offers image_bg and more is narrowed, not removed."""
    with HDF5Writer(raw) as writer:
        writer.store_basin(
            "both", internal_data={"image_bg": IMAGES, "mask": IMAGES > 3}, mapping=INDEX
        )
    write(raw, index=np.array([1, 1, 0]))
    with HDF5Data(raw) as data:
        np.testing.assert_array_equal(data["mask"][:], (IMAGES > 3)[INDEX])
        np.testing.assert_array_equal(data["image_bg"][:], IMAGES[[1, 1, 0]])
    with h5py.File(raw) as h5:
        assert sorted(n for n in h5["events"] if "map" in n) == ["basinmap0", "basinmap1"]


def test_mappings_that_other_basins_use_survive(raw, tmp_path):
    with HDF5Writer(raw) as writer:
        writer.store_basin("old", internal_data={"image_bg": IMAGES}, mapping=INDEX)
        writer.store_basin("other", paths=["gone.rtdc"], features=["deform"], mapping=INDEX)
    write(raw, index=np.array([1, 1, 0]))
    with h5py.File(raw) as h5:
        np.testing.assert_array_equal(h5["events/basinmap0"], INDEX)
        np.testing.assert_array_equal(h5["events/basinmap1"], [1, 1, 0])


def test_a_failed_run_in_place_changes_nothing(raw):
    """All ten mappings are taken, which is found out only while writing."""
    with h5py.File(raw, "a") as h5:
        for number in range(10):
            h5[f"events/basinmap{number}"] = np.full(3, 10 + number)
    before = raw.read_bytes()
    with pytest.raises(ValueError, match="all in use"):
        write(raw)
    assert raw.read_bytes() == before
    assert os.listdir(raw.parent) == [raw.name]


def test_a_failed_new_file_leaves_nothing(tmp_path, raw):
    with h5py.File(raw, "a") as h5:
        h5["basins/broken"] = np.array([b"{"])
    with pytest.raises(ValueError, match="basins/broken"):
        write(tmp_path / "out.rtdc", source=raw)
    assert os.listdir(tmp_path) == [raw.name]


def test_basins_with_mapping_and_unknown_type_on_the_way_to_a_new_file(tmp_path, raw, warned):
    with HDF5Writer(raw) as writer:
        writer.store_basin("mapped", paths=["gone.rtdc"], features=["mask"], mapping=INDEX)
        writer.store_basin("lost", paths=["gone.rtdc"], features=["trace"], mapping=INDEX + 5)
        del writer.h5["events/basinmap1"]
        record = {"type": "ftp", "name": "far", "format": "dcor", "paths": ["host"]}
        writer.h5["basins/remote"] = np.array([json.dumps(record).encode()])
    write(tmp_path / "out.rtdc", index=np.array([1, 1, 0]), source=raw)
    with HDF5Data(tmp_path / "out.rtdc") as data:
        basins = {basin["name"]: basin for basin in data.basins}
        assert set(basins) == {"mapped", "raw.rtdc", "background images"}
        np.testing.assert_array_equal(data[basins["mapped"]["mapping"]], INDEX)
        np.testing.assert_array_equal(data["image_bg"][:], IMAGES[[1, 1, 0]])
    assert any("'far' of unknown type 'ftp'" in text for text in warned())
    assert any("'lost' is not copied" in text for text in warned())


def test_scalar_and_odd_metadata_is_copied(tmp_path, raw):
    with h5py.File(raw, "a") as h5:
        h5["tables/scalar"] = 5
        h5.create_group("logs/folder")
        h5.attrs["experiment:empty"] = h5py.Empty("f4")
    write(tmp_path / "out.rtdc", source=raw)
    with h5py.File(tmp_path / "out.rtdc") as h5:
        assert h5["tables/scalar"][()] == 5
        assert isinstance(h5.attrs["experiment:empty"], h5py.Empty)


@pytest.mark.parametrize(
    ("given", "stored"), [("raw.rtdc", "raw.rtdc"), ("sub/../raw.rtdc", "sub/../raw.rtdc")]
)
def test_dcnum_keeps_relative_paths_that_lead_from_the_output(
    tmp_path, raw, monkeypatch, given, stored
):
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path)
    write("out.rtdc", source=Path(given), like_dcnum=True)
    with HDF5Data(tmp_path / "out.rtdc") as data:
        assert [b["paths"] for b in data.basins if b["type"] == "file"] == [[stored]]


def test_a_missing_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"out\.rtdc: the folder does not exist"):
        check_output(tmp_path / "gone" / "out.rtdc", 3)


def test_a_file_that_is_not_hdf5(tmp_path):
    (tmp_path / "out.rtdc").write_text("precious notes")
    with pytest.raises(OSError, match=r"out\.rtdc: cannot be read as an HDF5 file"):
        write(tmp_path / "out.rtdc")
    assert (tmp_path / "out.rtdc").read_text() == "precious notes"


def test_a_folder_as_output(tmp_path):
    with pytest.raises(OSError, match="is a folder"):
        check_output(tmp_path, 3)


def test_another_number_of_frames(raw):
    with pytest.raises(ValueError, match=r"raw\.rtdc: events/image has 3 entries.* 4 frames"):
        check_output(raw, 4)


def test_another_measurement(tmp_path, raw):
    other = tmp_path / "other.rtdc"
    for path, identifier in ((raw, "me"), (other, "you")):
        with h5py.File(path, "a") as h5:
            h5.attrs["experiment:run identifier"] = identifier
    message = r"other\.rtdc: belongs to another measurement \('you'\) than .*raw\.rtdc \('me'\)"
    with pytest.raises(ValueError, match=message):
        write(other, source=raw)
    write(raw, source=raw)


def test_a_link_that_leads_nowhere(tmp_path):
    (tmp_path / "out.rtdc").symlink_to(tmp_path / "gone.rtdc")
    with pytest.raises(FileNotFoundError, match=r"out\.rtdc: is a link to a file that does not"):
        check_output(tmp_path / "out.rtdc", 3)


def test_a_dataset_in_place_of_a_group(raw):
    with h5py.File(raw, "a") as h5:
        h5["basin_events"] = 3
    with pytest.raises(ValueError, match=r"raw\.rtdc: basin_events is not a group"):
        check_output(raw, 3)


def test_text_that_is_not_utf8_keeps_its_bytes(tmp_path, raw, warned):
    with h5py.File(raw, "a") as h5:
        text = h5py.string_dtype()
        h5.attrs.create("experiment:sample", "25 °C".encode("latin-1"), dtype=text)
        h5.attrs["odd"] = np.array([h5["events"].ref], dtype=h5py.ref_dtype)
        h5.create_dataset("logs/references", data=[h5["events"].ref], dtype=h5py.ref_dtype)
        h5["logs/text"] = np.array([b"one"])
        h5["logs/text"].attrs["software"] = np.bytes_("ShapeIn 2")
    write(tmp_path / "out.rtdc", source=raw)
    with h5py.File(tmp_path / "out.rtdc") as h5:
        assert bytes(h5.attrs["experiment:sample"]) == "25 °C".encode("latin-1")
        assert h5["logs/text"].attrs["software"].startswith("ShapeIn 2 | sparsemed ")
        assert "references" not in h5["logs"]
    assert any("logs/references is not copied" in text for text in warned())


LAYOUTS = {
    # working folder, links (name: target), measurement and output as given
    "a file of the same name beside the output": ("a", {}, "in.rtdc", "../b/out.rtdc"),
    "two of them": ("a", {}, "./in.rtdc", "../b/deep/out.rtdc"),
    "up from here": ("a", {}, "../b/in.rtdc", "out.rtdc"),
    "up from here to another of that name": ("a/deep", {}, "../in.rtdc", "../../b/deep/out.rtdc"),
    "an output in a linked folder": ("a", {"a/link": "../b"}, "in.rtdc", "link/out.rtdc"),
    "up from a linked folder": ("a", {"a/link": "../b/deep"}, "../a/in.rtdc", "link/out.rtdc"),
    "a measurement in a linked folder": ("a", {"a/link": "../b"}, "link/in.rtdc", "out.rtdc"),
    "a linked measurement": ("a", {"a/x.rtdc": "../b/in.rtdc"}, "x.rtdc", "../b/out.rtdc"),
    "a link of the same name": (
        "a",
        {"b/deep/x.rtdc": "../../a/in.rtdc", "a/x.rtdc": "in.rtdc"},
        "x.rtdc",
        "../b/deep/out.rtdc",
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("has_identity", [False, True])
@pytest.mark.parametrize("like_dcnum", [False, True])
def test_the_output_leads_to_the_measurement_and_to_no_other(
    tmp_path, monkeypatch, layout, has_identity, like_dcnum
):
    for number, folder in enumerate(("a", "a/deep", "b", "b/deep", ".")):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        with h5py.File(tmp_path / folder / "in.rtdc", "w") as h5:
            h5["events/image"] = np.full((3, 6, 5), number, np.uint8)
            if has_identity:
                h5.attrs["experiment:run identifier"] = folder
    here, links, given, output = LAYOUTS[layout]
    for name, target in links.items():
        (tmp_path / name).symlink_to(target)
    monkeypatch.chdir(tmp_path / here)
    with Measurement(given) as measurement:
        expected = measurement.image.read()
    write(output, source=Path(given), like_dcnum=like_dcnum)
    found = Path(output).resolve()
    monkeypatch.chdir("/")
    with Measurement(found) as measurement:
        np.testing.assert_array_equal(measurement.image.read(), expected)
    with HDF5Data(found) as data:
        np.testing.assert_array_equal(data["image"][:], expected)


@pytest.mark.parametrize("theirs", [None, "me", "you"])
@pytest.mark.parametrize("ours", [None, "me"])
def test_only_two_identities_that_differ_are_two_measurements(tmp_path, raw, ours, theirs):
    output = tmp_path / "out.rtdc"
    for path, identifier in ((output, ours), (raw, theirs)):
        with h5py.File(path, "a") as h5:
            h5.require_group("events")
            if identifier is not None:
                h5.attrs["experiment:run identifier"] = identifier
    before = output.read_bytes()
    if (ours, theirs) == ("me", "you"):
        with pytest.raises(ValueError, match="belongs to another measurement"):
            write(output, source=raw)
        assert output.read_bytes() == before
        return
    write(output, source=raw)
    with h5py.File(output) as h5:
        np.testing.assert_array_equal(h5["basin_events/image_bg"], IMAGES)


def spoil(raw, output, way):
    """Make one thing wrong with a measurement or with what is to become its output."""
    with h5py.File(output, "w") as h5:
        h5["events/deform"] = np.zeros(4 if way == "number of frames" else 3)
        h5.attrs["experiment:run identifier"] = "you"
        if way == "a dataset in place of a group":
            h5["basin_events"] = 3
        if way == "a broken record":
            h5["basins/broken"] = np.array([b"{"])
        if way == "no mapping left":
            for number in range(10):
                h5[f"events/basinmap{number}"] = np.full(3, 10 + number)
        if way == "events elsewhere":
            del h5["events"]
            h5["events"] = h5py.ExternalLink("raw.rtdc", "/events")
    with h5py.File(raw, "a") as h5:
        h5.attrs["experiment:run identifier"] = "me" if way == "identity" else "you"


@pytest.mark.parametrize(
    "way",
    [
        "number of frames",
        "identity",
        "a dataset in place of a group",
        "a broken record",
        "no mapping left",
        "events elsewhere",
    ],
)
def test_a_refused_output_stays_as_it_is_and_nothing_is_left_open(tmp_path, raw, way):
    output = tmp_path / "out.rtdc"
    spoil(raw, output, way)
    before = {each.name: each.read_bytes() for each in tmp_path.iterdir()}
    try:
        write(output, source=raw)
    except ValueError:
        left_open = files_open()
    assert left_open.isdisjoint({str(output), str(raw)})
    assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == before


def test_the_mapping_of_a_background_goes_with_it(raw):
    write(raw)
    for index in ([1, 1, 0], [1, 0, 0]):
        write(raw, index=np.array(index))
    with h5py.File(raw) as h5:
        (name,) = [name for name in h5["events"] if "map" in name]
        np.testing.assert_array_equal(h5[f"events/{name}"], [1, 0, 0])
        assert len(h5["basins"]) == 1


def test_a_remote_basin_keeps_its_mapping_under_whichever_name_is_free(tmp_path, raw):
    record = {"name": "far", "type": "remote", "urls": ["https://a.example"]}
    with h5py.File(raw, "a") as h5:
        h5["events/basinmap3"] = [2, 1, 0]
        store_record(h5, record | {"mapping": "basinmap3"}, {})
        store_record(h5, record | {"name": "plain"}, {})
    write(tmp_path / "out.rtdc", source=raw)
    with h5py.File(tmp_path / "out.rtdc") as h5:
        records = {basin.name: basin.record for basin in read_basins(h5)}
        assert records["plain"] == record | {"name": "plain"}
        mapping = records["far"].pop("mapping")
        assert records["far"] == record
        assert h5[f"events/{mapping}"][:].tolist() == [2, 1, 0]
