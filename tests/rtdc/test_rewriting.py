"""A result is written anew if nothing is lost by that."""

import os
from functools import partial

import dclab
import h5py
import numpy as np
import pytest
from dcnum.read import HDF5Data
from dcnum.write import HDF5Writer, create_with_basins
from parity.compare import differences

from sparsemed import BackgroundSparseMed, compute_background, load
from sparsemed.rtdc.basins import file_record, read_basins, store_record
from sparsemed.rtdc.rewriting import can_be_rewritten

IMAGES = np.random.default_rng(0).integers(50, 90, (60, 40, 30), dtype=np.uint8)


@pytest.fixture
def raw(tmp_path):
    """A measurement with all that a result takes over."""
    path = tmp_path / "raw.rtdc"
    with HDF5Writer(path, mode="w") as writer:
        writer.h5.attrs["experiment:sample"] = "water"
        writer.h5.attrs["experiment:run index"] = 3
        writer.h5["events/image"] = IMAGES
        writer.h5["events/time"] = np.arange(60.0)
        writer.store_log("text", ["one", "two"])
        writer.h5["logs/with a writer"] = np.array([b"three"])
        writer.h5["logs/with a writer"].attrs["software"] = "ShapeIn 2"
        table = np.array([(1, np.nan), (2, 0.5)], dtype=[("a", "i4"), ("b", "f8")])
        writer.h5["tables/numbers"] = table
        writer.store_basin("far", paths=["gone.rtdc"], features=["mask"])
        writer.store_basin("part", paths=["gone.rtdc"], features=["trace"], mapping=np.arange(60))
        writer.store_basin("in", internal_data={"mask": IMAGES > 60}, mapping=np.arange(60))
    return path


def save(source, output, kernel_size=9, **options):
    background = compute_background(source, kernel_size=kernel_size, **options)
    background.save(output)
    return background


def run_job(source, output, kernel_size=9):
    with BackgroundSparseMed(source, output, kernel_size=kernel_size) as job:
        job.process()
    return job.background


def from_array(source, output, kernel_size=9):
    return save(IMAGES, output, kernel_size, time=np.arange(60.0))


@pytest.mark.parametrize("write", [save, run_job, from_array])
def test_six_runs_are_as_large_as_one(raw, tmp_path, write):
    output, only = tmp_path / "out.rtdc", tmp_path / "only.rtdc"
    for kernel_size in (5, 7, 9, 11, 13, 15):
        background = write(raw, output, kernel_size)
    write(raw, only, 15)
    assert output.stat().st_size == only.stat().st_size
    assert differences(output, only) == []
    with dclab.new_dataset(output) as data:
        np.testing.assert_array_equal(data["image_bg"][:], background[:])


def test_what_the_measurement_says_now_is_taken_over(raw, tmp_path):
    """A log of it that is new; nothing of the result is lost."""
    save(raw, tmp_path / "out.rtdc")
    with h5py.File(raw, "a") as h5:
        h5["logs/later"] = np.array([b"four"])
    save(raw, tmp_path / "out.rtdc")
    with h5py.File(tmp_path / "out.rtdc") as h5:
        assert h5["logs/later"][0] == b"four"


def test_odd_metadata_are_no_additions(raw, tmp_path):
    with h5py.File(raw, "a") as h5:
        text = h5py.string_dtype()
        h5.attrs.create("experiment:sample", "25 °C".encode("latin-1"), dtype=text)
        h5.attrs["experiment:empty"] = h5py.Empty("f4")
        h5.attrs["experiment:nothing"] = np.nan
        h5["tables/one"] = 5
        h5["logs/of variable length"] = ["six", "seventeen"]
    save(raw, tmp_path / "out.rtdc")
    assert can_be_rewritten(tmp_path / "out.rtdc", raw)


def put(name, value):
    def add(h5):
        if name in h5:
            del h5[name]
        h5[name] = value

    return add


def drop_copies(h5):
    h5.attrs["experiment:sample"] = "blood"


def of_other_features(h5):
    (key, record) = next((b.key, b.record) for b in read_basins(h5) if b.name == "far")
    del h5[f"basins/{key}"]
    store_record(h5, record | {"features": ["mask", "trace"]}, {})


ADDITIONS = {
    "a feature": put("events/deform", np.zeros(60)),
    "a feature in the basin": put("basin_events/mask", np.zeros((60, 4, 4))),
    "a mapping of nobody": put("events/basinmap9", np.arange(60)),
    "an attribute": lambda h5: h5.attrs.update(more=1),
    "another value": drop_copies,
    "another type": lambda h5: h5.attrs.update({"experiment:run index": "3"}),
    "an attribute of a group": lambda h5: h5["events"].attrs.update(more=1),
    "an attribute of a log": lambda h5: h5["logs/text"].attrs.update(more=1),
    "a writer of a log": lambda h5: h5["logs/text"].attrs.update(software="me 1"),
    "a log": put("logs/more", np.array([b"five"])),
    "another log": put("logs/text", np.array([b"six"])),
    "a folder of logs": lambda h5: h5.create_group("logs/folder"),
    "another table": put("tables/numbers", np.zeros(2)),
    "a group": lambda h5: h5.create_group("mine"),
    "a link": put("mine", h5py.SoftLink("/events")),
    "a link to nowhere": put("tables", h5py.SoftLink("/nowhere")),
    "a link to another file": put("tables", h5py.ExternalLink("raw.rtdc", "/tables")),
    "a basin": lambda h5: store_record(h5, file_record("b", None, ["b.rtdc"], ["x"], None), {}),
    "no reference": lambda h5: [
        h5.__delitem__(f"basins/{b.key}") for b in read_basins(h5) if b.name == "raw.rtdc"
    ],
    "features of a basin that was taken over": of_other_features,
    "a background of unknown origin": lambda h5: h5["basin_events/image_bg"].attrs.clear(),
    "no background": lambda h5: h5.__delitem__("basin_events/image_bg"),
}


@pytest.mark.parametrize("addition", ADDITIONS)
def test_what_somebody_has_added_is_not_lost(raw, tmp_path, addition):
    output = tmp_path / "out.rtdc"
    save(raw, output)
    assert can_be_rewritten(output, raw)
    with h5py.File(output, "a") as h5:
        ADDITIONS[addition](h5)
    assert not can_be_rewritten(output, raw)
    number = output.stat().st_ino
    background = save(raw, output, kernel_size=5)
    assert output.stat().st_ino == number  # it was changed, and not replaced
    with HDF5Data(output) as data:
        np.testing.assert_array_equal(data["image_bg"][:], background[:])


def test_what_is_not_a_result_is_kept(raw, tmp_path):
    theirs = tmp_path / "theirs.rtdc"
    create_with_basins(theirs, [raw])
    assert not can_be_rewritten(theirs, raw)
    assert not can_be_rewritten(raw, tmp_path / "gone.rtdc")
    save(raw, tmp_path / "out.rtdc")
    assert not can_be_rewritten(tmp_path / "out.rtdc", None)
    from_array(None, tmp_path / "array.rtdc")
    assert can_be_rewritten(tmp_path / "array.rtdc", None)
    assert not can_be_rewritten(tmp_path / "array.rtdc", raw)


@pytest.mark.skipif(os.name == "nt", reason="names of files")
def test_a_result_with_two_names_keeps_both(raw, tmp_path):
    save(raw, tmp_path / "out.rtdc")
    os.link(tmp_path / "out.rtdc", tmp_path / "also.rtdc")
    background = save(raw, tmp_path / "out.rtdc", kernel_size=5)
    with HDF5Data(tmp_path / "also.rtdc") as data:
        np.testing.assert_array_equal(data["image_bg"][:], background[:])


@pytest.mark.parametrize("write", [partial(save, offset_correction=False), save])
def test_no_offsets_remain(raw, tmp_path, write):
    save(raw, tmp_path / "out.rtdc")
    background = write(raw, tmp_path / "out.rtdc")
    with h5py.File(tmp_path / "out.rtdc") as h5:
        assert ("bg_off" in h5["events"]) == (background.offsets is not None)


def test_what_somebody_has_put_before_hdf5_is_not_lost(raw, tmp_path):
    """A user block, such as a header of another program."""
    save(raw, tmp_path / "plain.rtdc")
    for size in (0, 512):
        path = tmp_path / f"{size}.rtdc"
        with (
            h5py.File(tmp_path / "plain.rtdc") as plain,
            h5py.File(path, "w", userblock_size=size) as h5,
        ):
            for name in plain:
                plain.copy(name, h5)
            h5.attrs.update(plain.attrs)
        assert can_be_rewritten(path, raw) is (size == 0)


def go_on(raw, count=80):
    """Record some more frames."""
    images = np.concatenate([IMAGES, IMAGES])[:count]
    with h5py.File(raw, "a") as h5:
        h5.attrs["experiment:event count"] = count
        for name, data in (("image", images), ("time", np.arange(1.0 * count))):
            del h5[f"events/{name}"]
            h5[f"events/{name}"] = data


def test_a_recording_that_went_on(raw, tmp_path):
    with h5py.File(raw, "a") as h5:
        h5.attrs["experiment:event count"] = 60
    save(raw, tmp_path / "out.rtdc")
    go_on(raw)
    with pytest.raises(ValueError, match=r"out\.rtdc: has 80 images, .* of 60; compute it again"):
        load(tmp_path / "out.rtdc")
    save(raw, tmp_path / "out.rtdc")
    save(raw, tmp_path / "new.rtdc")
    assert differences(tmp_path / "out.rtdc", tmp_path / "new.rtdc") == []
    with h5py.File(tmp_path / "out.rtdc") as h5:
        assert h5.attrs["experiment:event count"] == 80


@pytest.mark.parametrize("how", ["other frames", "other times", "fewer", "with an addition"])
def test_what_is_no_recording_that_went_on(raw, tmp_path, how):
    save(raw, tmp_path / "out.rtdc")
    go_on(raw, 50 if how == "fewer" else 80)
    with h5py.File(raw, "r+") as h5:
        if how == "other frames":
            h5["events/image"][59] = 0
        elif how == "other times":
            h5["events/time"][30] += 0.5
    if how == "with an addition":
        with h5py.File(tmp_path / "out.rtdc", "r+") as h5:
            h5.attrs["experiment:sample"] = "mine"
    with pytest.raises(ValueError, match=r"out\.rtdc: events/\w+ has 60 entries, .* another file"):
        save(raw, tmp_path / "out.rtdc")
    assert len(load(tmp_path / "out.rtdc", np.arange(60.0), basins="off")) == 60


def test_an_array_with_more_frames_is_another_one(tmp_path):
    from_array(None, tmp_path / "out.rtdc")
    with pytest.raises(ValueError, match=r"has 60 entries, .* has 50 frames"):
        compute_background(IMAGES[:50], time=np.arange(50.0)).save(tmp_path / "out.rtdc")
