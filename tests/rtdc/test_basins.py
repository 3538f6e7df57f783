import json

import h5py
import numpy as np
import pytest
from dcnum.read import get_measurement_identifier
from dcnum.write import HDF5Writer

from sparsemed.rtdc.basins import (
    file_record,
    free_mapping,
    internal_record,
    known_identifiers,
    read_basins,
    search_order,
    store_record,
)


@pytest.fixture
def h5(tmp_path):
    with h5py.File(tmp_path / "file.rtdc", "w") as h5:
        h5.create_group("events")
        yield h5


def test_records_are_those_of_dcnum(h5, tmp_path):
    mapping = np.arange(3)
    with HDF5Writer(tmp_path / "dcnum.rtdc", mode="w") as writer:
        writer.store_basin("one", paths=["a.rtdc"], features=["image"], identifier="x")
        writer.store_basin("two", paths=["b.rtdc"], description="why", mapping=mapping)
        writer.store_basin(
            "three",
            internal_data={"image_bg": np.zeros((1, 2, 2), np.uint8)},
            description="how",
            mapping=mapping,
        )
    store_record(h5, file_record("one", None, ["a.rtdc"], ["image"], "x"), {})
    store_record(h5, file_record("two", "why", ["b.rtdc"], None, None, "basinmap0"), {})
    store_record(h5, internal_record("three", "how", ["image_bg"], "basinmap0"), {})
    with h5py.File(tmp_path / "dcnum.rtdc") as theirs:
        assert set(h5["basins"]) == set(theirs["basins"])
        for key, lines in theirs["basins"].items():
            assert list(h5["basins"][key]) == list(lines)


def test_a_record_is_stored_once(h5):
    for _ in range(2):
        store_record(h5, file_record("one", None, ["a.rtdc"], None, None), {})
    assert len(h5["basins"]) == 1


def test_internal_basins_are_searched_first_then_by_name(h5):
    for name in ("zoo", "ant"):
        store_record(h5, file_record(name, None, ["a.rtdc"], None, None), {})
        store_record(h5, internal_record(name, "", ["image_bg"], "basinmap0"), {})
    found = [(basin.is_internal, basin.name) for basin in search_order(read_basins(h5))]
    assert found == [(True, "ant"), (True, "zoo"), (False, "ant"), (False, "zoo")]


@pytest.mark.parametrize(
    "text", ["{", "[1, 2]", "3", "\udcff", '{"paths": "a.rtdc"}', '{"features": "image"}']
)
def test_broken_records_are_named(h5, text):
    line = text.encode("utf-8", "surrogateescape")
    h5.create_dataset("basins/broken", data=np.array([line]))
    with pytest.raises(ValueError, match=r"file\.rtdc: basins/broken is not"):
        read_basins(h5)


def test_what_a_record_leaves_open(h5):
    store_record(h5, {"name": "a", "features": None, "mapping": "same"}, {})
    (basin,) = read_basins(h5)
    assert basin.features is None  # whatever its file has
    assert basin.mapping is None  # frame by frame
    assert basin.paths == basin.hosts == []


def test_hosts_of_remote_basins(h5):
    urls = ["https://a.example:123/x?y", "s3://b.example/x", "c/d", "http://[", 3, None]
    store_record(h5, {"type": "remote", "urls": urls}, {})
    (basin,) = read_basins(h5)
    assert basin.is_remote
    assert basin.hosts == ["a.example", "b.example", "c/d", "http://["]


def test_records_of_numbers_are_named(h5):
    h5.create_dataset("basins/broken", data=np.arange(3))
    with pytest.raises(ValueError, match=r"file\.rtdc: basins/broken is not valid JSON"):
        read_basins(h5)


@pytest.mark.parametrize(
    "attributes",
    [
        {"experiment:run identifier": "me"},
        {"experiment:time": "12:00", "experiment:date": "2020-01-01", "setup:identifier": "ZMD"},
        {"experiment:time": "12:00", "experiment:date": "2020-01-01", "setup:identifier": ""},
        {"experiment:time": "12:00"},
        {},
    ],
)
def test_identifiers_are_those_of_dcnum(h5, attributes):
    h5.attrs.update(attributes)
    assert next(iter(known_identifiers(h5.attrs)), None) == get_measurement_identifier(h5)


def test_identifiers_made_of_bytes_are_known_as_dcnum_makes_them(h5):
    """What is recorded is what dclab makes of them; see ``tests/field/test_fixed_length.py``."""
    attributes = {"experiment:time": "1", "experiment:date": "2", "setup:identifier": "3"}
    ours = known_identifiers(attributes)
    h5.attrs.update(attributes | {"experiment:time": np.bytes_("1")})
    assert known_identifiers(h5.attrs) == [*ours, get_measurement_identifier(h5)]


def test_identifiers_of_bytes_are_text(h5):
    h5.attrs["experiment:run identifier"] = np.bytes_("me")
    assert known_identifiers(h5.attrs) == ["me"]
    assert json.dumps(known_identifiers(h5.attrs))


def test_the_first_mapping_that_is_free_or_equal(h5):
    h5["events/basinmap0"] = np.arange(4)
    h5["events/basinmap1"] = np.arange(3)
    assert free_mapping(h5, np.arange(3)) == "basinmap1"
    assert free_mapping(h5, np.zeros(3, int)) == "basinmap2"


def test_no_mapping_is_left(h5):
    for number in range(10):
        h5[f"events/basinmap{number}"] = np.full(3, number)
    assert free_mapping(h5, np.full(3, 9)) == "basinmap9"
    with pytest.raises(
        ValueError, match=r"file\.rtdc: events/basinmap0 to basinmap9 are all in use"
    ):
        free_mapping(h5, np.arange(3))


def test_as_many_basins_as_there_can_be(h5):
    for number in range(301):
        if number == 300:
            assert len(read_basins(h5)) == 300
        store_record(h5, {"name": f"{number}"}, {})
    with pytest.raises(ValueError, match=r"file\.rtdc: has 301 basins, more than 300"):
        read_basins(h5)
