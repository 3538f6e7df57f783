"""Which of several stacks is meant is said to the door, and kept by results."""

import os

import h5py
import numpy as np
import pytest
import tifffile
import xarray
from hdf5.files import files_open

from sparsemed import compute_background
from sparsemed.frames.choice import Choice
from sparsemed.inputs import open_input

FRAMES = np.random.default_rng(0).integers(0, 200, (60, 24, 33), np.uint8)
OTHERS = FRAMES[::-1].copy()
HOW = {"frame_rate": 20, "kernel_size": 9}


@pytest.mark.parametrize("ranges", [None, 3])
def test_a_channel_of_a_tiff(tmp_path, monkeypatch, ranges):
    path = tmp_path / "stack.ome.tif"
    tifffile.imwrite(
        path, np.stack([FRAMES, OTHERS]), ome=True, metadata={"axes": "CTYX"}, compression="zlib"
    )
    monkeypatch.chdir(tmp_path)
    found = compute_background("stack.ome.tif", channel=1, ranges=ranges, **HOW)
    expected = compute_background(OTHERS, **HOW)
    np.testing.assert_array_equal(found.series, expected.series)
    monkeypatch.chdir("/")
    assert found.quality() == found.quality(OTHERS)


@pytest.mark.parametrize("ranges", [None, 3])
def test_a_dataset_of_an_hdf5_file(tmp_path, monkeypatch, ranges):
    with h5py.File(tmp_path / "stack.h5", "w") as h5:
        h5.create_dataset("t0/raw", data=OTHERS, chunks=(7, 24, 33), compression="gzip")
    monkeypatch.chdir(tmp_path)
    found = compute_background("stack.h5", dataset="t0/raw", ranges=ranges, **HOW)
    np.testing.assert_array_equal(found.series, compute_background(OTHERS, **HOW).series)
    monkeypatch.chdir("/")
    assert found.quality() == found.quality(OTHERS)
    assert found.stack == tmp_path / "stack.h5"
    with h5py.File(tmp_path / "stack.h5", "a") as h5:
        h5["t0/more"] = OTHERS
    with pytest.raises(ValueError, match="was replaced or changed since its frames were read"):
        found.quality()
    with pytest.raises(ValueError, match=r"has no dataset 'nonsense'; datasets that look like"):
        compute_background(tmp_path / "stack.h5", dataset="nonsense")
    with pytest.raises(ValueError, match="has no channel to choose"):
        compute_background(tmp_path / "stack.h5", dataset="t0/raw", channel=1)


def test_what_has_nothing_to_choose_says_so(tmp_path, measurement):
    for choice in ({"series": 0}, {"channel": 0}, {"position": 0}):
        with pytest.raises(ValueError, match=f"has no {next(iter(choice))} to choose"):
            compute_background(FRAMES, **choice, **HOW)
        with pytest.raises(ValueError, match=f"has no {next(iter(choice))} to choose"):
            compute_background(measurement, **choice)
    with pytest.raises(ValueError, match=r"^https://host/M.rtdc: has no dataset to choose"):
        compute_background("https://host/M.rtdc", dataset="film")


@pytest.mark.parametrize("name", ["", "in\0.rtdc"])
def test_what_is_no_name_is_not_looked_for(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    for number in range(12):
        tifffile.imwrite(f"{number}.tif", FRAMES[number])
    with pytest.raises(ValueError, match="is no name of a file"):
        open_input(name)


def test_a_channel_of_an_array_with_names():
    both = xarray.DataArray(np.stack([FRAMES, OTHERS]), dims=("channel", "time", "y", "x"))
    found = compute_background(both, channel=1, **HOW)
    np.testing.assert_array_equal(found.series, compute_background(OTHERS, **HOW).series)


@pytest.mark.parametrize("kind", ["tiff", "hdf5"])
def test_what_is_opened_again_is_what_was_chosen(tmp_path, monkeypatch, kind):
    name, choice = "stack.h5", Choice(dataset="t0/raw")
    if kind == "hdf5":
        with h5py.File(tmp_path / name, "w") as h5:
            h5["t0/raw"] = OTHERS
    else:
        name, choice = "stack.ome.tif", Choice(channel=1)
        images = np.stack([FRAMES, OTHERS])
        tifffile.imwrite(tmp_path / name, images, ome=True, metadata={"axes": "CTYX"})
    monkeypatch.chdir(tmp_path)
    with open_input(name, choice=choice, frame_rate=20) as first:
        label, given = first.label, first.identity.given
        monkeypatch.chdir("/")
    with first.reopened() as again:
        np.testing.assert_array_equal(np.asarray(again.data), OTHERS)
        assert again.time[-1] == 59 / 20
        assert (again.label, again.identity.given) == (label, given)


@pytest.mark.parametrize("basins", ["off", "same-folder"])
def test_a_dataset_in_another_file_is_read_only_if_that_is_allowed(tmp_path, basins):
    (tmp_path / "away").mkdir()
    with h5py.File(tmp_path / "away" / "raw.h5", "w") as h5:
        h5["film"] = FRAMES
    with h5py.File(tmp_path / "stack.h5", "w") as h5:
        h5["film"] = h5py.ExternalLink("away/raw.h5", "/film")
    with open_input(tmp_path / "stack.h5", choice=Choice(dataset="film")) as given:
        np.testing.assert_array_equal(given.data, FRAMES)
    with pytest.raises(ValueError, match=f"which basins='{basins}' does not follow"):
        open_input(tmp_path / "stack.h5", choice=Choice(dataset="film"), basins=basins)


def test_a_file_whose_dataset_is_refused_is_not_left_open(tmp_path):
    path = tmp_path / "stack.h5"
    with h5py.File(path, "w") as h5:
        h5["both"] = np.stack([FRAMES, OTHERS])
        for axis, name in zip(h5["both"].dims, "ctyx", strict=True):
            axis.label = name
    with pytest.raises(ValueError, match="choose channel=0 to channel=1") as error:
        open_input(path, choice=Choice(dataset="both"))
    assert str(path) not in files_open()  # while what was raised still holds on to all
    advised = str(error.value).partition("such as ")[2]
    del error
    np.testing.assert_array_equal(eval(advised), FRAMES)


def test_the_home_folder_is_found(tmp_path, monkeypatch):
    tifffile.imwrite(tmp_path / "stack.tif", FRAMES)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    found = compute_background("~/stack.tif", **HOW)
    assert found.stack == tmp_path / "stack.tif"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "~").mkdir()
    os.replace(tmp_path / "stack.tif", tmp_path / "~" / "stack.tif")
    assert compute_background("~/stack.tif", **HOW).stack == tmp_path / "~" / "stack.tif"
