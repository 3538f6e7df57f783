"""What is saved opens in dclab, which exports and joins it, also after the files have moved."""

import shutil

import dclab
import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from dclab.cli import join
from dcnum.read import HDF5Data

from sparsemed import compute_background
from sparsemed.cli import main
from sparsemed.demo import make_measurement
from sparsemed.rtdc.measurement import Measurement

COUNT = 90


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "first"
    folder.mkdir()
    make_measurement(folder / "raw.rtdc", count=COUNT)
    return folder


def saved(raw, output, **options):
    background = compute_background(raw, kernel_size=9, split_time=0.1, **options)
    assert 1 < len(background.images) < COUNT
    background.save(output, in_place=raw == output)
    return background


def frames_of(path):
    with h5py.File(path) as h5:
        return h5["events/image"][:], h5["events/time"][:]


def check(path, background, frames, time):
    """Check all that a file offers in dclab."""
    with dclab.new_dataset(path) as data:
        assert len(data) == len(frames)
        assert data["image_bg"].shape == frames.shape
        np.testing.assert_array_equal(data["image_bg"][:], background[:], strict=True)
        np.testing.assert_array_equal(data["image_bg"][7], background[7], strict=True)
        np.testing.assert_array_equal(data["bg_off"][:], background.offsets)
        np.testing.assert_array_equal(data["image"][:], frames, strict=True)
        np.testing.assert_array_equal(data["time"][:], time)


# Opening ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["out.rtdc", "raw.rtdc"])
def test_opening(folder, name):
    frames, time = frames_of(folder / "raw.rtdc")
    background = saved(folder / "raw.rtdc", folder / name)
    check(folder / name, background, frames, time)


def test_without_offsets(folder):
    background = saved(folder / "raw.rtdc", folder / "out.rtdc", offset_correction=False)
    with dclab.new_dataset(folder / "out.rtdc") as data:
        assert "bg_off" not in data
        np.testing.assert_array_equal(data["image_bg"][:], background[:])


def test_the_better_of_two_runs_is_what_counts(folder):
    saved(folder / "raw.rtdc", folder / "out.rtdc")
    frames, time = frames_of(folder / "raw.rtdc")
    again = compute_background(folder / "raw.rtdc", kernel_size=31, split_time=0.2)
    again.save(folder / "out.rtdc")
    check(folder / "out.rtdc", again, frames, time)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_background_of_an_array(tmp_path, dtype):
    images = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (COUNT, 24, 30), dtype)
    background = saved(images, tmp_path / "out.rtdc", time=np.arange(COUNT) / 90)
    with dclab.new_dataset(tmp_path / "out.rtdc") as data:
        assert len(data) == COUNT
        np.testing.assert_array_equal(data["image_bg"][:], background[:], strict=True)
        np.testing.assert_array_equal(data["bg_off"][:], background.offsets)


def test_events_that_a_filter_leaves(folder):
    background = saved(folder / "raw.rtdc", folder / "out.rtdc")
    with dclab.new_dataset(folder / "out.rtdc") as data:
        data.filter.manual[::3] = False
        data.apply_filter()
        chosen = data.filter.all
        with dclab.new_dataset(data) as child:
            assert len(child) == 60
            for number, frame in enumerate(np.flatnonzero(chosen)):
                np.testing.assert_array_equal(child["image_bg"][number], background[frame])
            np.testing.assert_array_equal(child["bg_off"], background.offsets[chosen])


# Moving ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["absolute", "relative"])
def test_both_files_moved_together(folder, monkeypatch, given):
    monkeypatch.chdir(folder)
    frames, time = frames_of("raw.rtdc")
    raw = folder / "raw.rtdc" if given == "absolute" else "raw.rtdc"
    background = saved(raw, "out.rtdc")
    monkeypatch.chdir("/")
    moved = folder.rename(folder.with_name("second"))
    check(moved / "out.rtdc", background, frames, time)
    with HDF5Data(moved / "out.rtdc") as data:
        np.testing.assert_array_equal(data["image"][:], frames)
        np.testing.assert_array_equal(data["image_bg"][:], background[:])


@pytest.mark.parametrize("given", ["absolute", "relative"])
def test_the_measurement_moved_next_to_the_output(folder, tmp_path, monkeypatch, given):
    monkeypatch.chdir(folder)
    frames, time = frames_of("raw.rtdc")
    (tmp_path / "results").mkdir()
    output = tmp_path / "results" / "out.rtdc"
    background = saved(folder / "raw.rtdc" if given == "absolute" else "raw.rtdc", output)
    check(output, background, frames, time)
    shutil.move("raw.rtdc", output.parent)
    check(output, background, frames, time)


@pytest.mark.parametrize("writer", ["save", "compute"])
def test_two_folders_moved_together(folder, tmp_path, writer):
    """All three programs find the measurement, and a further run renews what leads to it."""
    home, away = tmp_path / "home", tmp_path / "away"
    home.mkdir()
    raw = folder.rename(home / "data") / "raw.rtdc"
    results = home / "results"
    background = compute_background(raw, kernel_size=9, split_time=0.1)
    if writer == "save":
        results.mkdir()
        background.save(results / "raw_bg.rtdc")
    else:
        settings = ["-k", "kernel_size=9", "-k", "split_time=0.1"]
        options = ["compute", "-r", str(home / "data"), "-o", str(results), *settings]
        assert CliRunner().invoke(main, options).exit_code == 0
    frames, time = frames_of(raw)
    home.rename(away)
    output, moved = away / "results" / "raw_bg.rtdc", away / "data" / "raw.rtdc"
    check(output, background, frames, time)
    with HDF5Data(output) as data:
        np.testing.assert_array_equal(data["image"][:], frames)
        np.testing.assert_array_equal(data["image_bg"][:], background[:])
    with Measurement(output) as measurement:
        np.testing.assert_array_equal(measurement.image.read(), frames)
    compute_background(moved, kernel_size=9, split_time=0.1).save(output)
    with HDF5Data(output) as data:
        paths = [basin["paths"] for basin in data.basins if basin["type"] == "file"]
    assert paths == [[str(moved.resolve()), "../data/raw.rtdc"]]


def test_without_the_measurement_the_background_is_still_there(folder):
    background = saved(folder / "raw.rtdc", folder / "out.rtdc")
    (folder / "raw.rtdc").unlink()
    with dclab.new_dataset(folder / "out.rtdc") as data:
        assert "image" not in data
        np.testing.assert_array_equal(data["image_bg"][:], background[:])
        np.testing.assert_array_equal(data["bg_off"][:], background.offsets)


# Exporting and joining -------------------------------------------------------------------------


@pytest.mark.parametrize("moved", [False, True])
def test_exporting(folder, moved):
    frames, time = frames_of(folder / "raw.rtdc")
    background = saved(folder / "raw.rtdc", folder / "out.rtdc")
    if moved:
        folder = folder.rename(folder.with_name("second"))
    with dclab.new_dataset(folder / "out.rtdc") as data:
        data.filter.manual[::3] = False
        data.apply_filter()
        chosen = data.filter.all.copy()
        features = ["image", "image_bg", "bg_off", "time"]
        data.export.hdf5(folder / "export.rtdc", features=features)
    for name in ("raw.rtdc", "out.rtdc"):
        (folder / name).unlink()
    with h5py.File(folder / "export.rtdc") as h5:
        events = h5["events"]
        assert set(events) == set(features)
        np.testing.assert_array_equal(events["image_bg"][:], background[:][chosen], strict=True)
        np.testing.assert_array_equal(events["bg_off"][:], background.offsets[chosen])
        np.testing.assert_array_equal(events["image"][:], frames[chosen], strict=True)
        np.testing.assert_array_equal(events["time"][:], time[chosen])


@pytest.mark.parametrize("filtered", [False, True])
def test_exporting_with_basins(folder, filtered):
    """The export holds one feature, and finds the others in the files it is from."""
    frames, _ = frames_of(folder / "raw.rtdc")
    background = saved(folder / "raw.rtdc", folder / "out.rtdc")
    with dclab.new_dataset(folder / "out.rtdc") as data:
        data.filter.manual[::3] = False
        data.apply_filter()
        chosen = data.filter.all.copy() if filtered else np.full(COUNT, True)
        data.export.hdf5(
            folder / "export.rtdc", features=["bg_off"], filtered=filtered, basins=True
        )
    with dclab.new_dataset(folder / "export.rtdc") as data:
        assert len(data) == chosen.sum()
        np.testing.assert_array_equal(data["bg_off"][:], background.offsets[chosen])
        np.testing.assert_array_equal(data["image_bg"][:], background[:][chosen])
        np.testing.assert_array_equal(data["image"][:], frames[chosen])


def test_joining(folder):
    make_measurement(folder / "later.rtdc", count=70, seed=1)
    with h5py.File(folder / "later.rtdc", "a") as h5:
        h5.attrs["experiment:time"] = "12:10:00"
    backgrounds = [
        saved(folder / "later.rtdc", folder / "later_bg.rtdc"),
        saved(folder / "raw.rtdc", folder / "raw_bg.rtdc"),
    ]
    folder = folder.rename(folder.with_name("second"))
    join([folder / "later_bg.rtdc", folder / "raw_bg.rtdc"], folder / "joined.rtdc")
    later, first = backgrounds
    with dclab.new_dataset(folder / "joined.rtdc") as data:
        assert len(data) == 160
        expected = np.concatenate([first[:], later[:]])
        np.testing.assert_array_equal(data["image_bg"][:], expected, strict=True)
        expected = np.concatenate([first.offsets, later.offsets])
        np.testing.assert_array_equal(data["bg_off"][:], expected)
