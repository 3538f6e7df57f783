"""Zarr in folders, zip files and groups, and OME-Zarr of several axes."""

import os
import shutil

import numpy as np
import pytest
import xarray
import zarr

from sparsemed import compute_background
from sparsemed.frames.choice import Choice
from sparsemed.frames.stacks import open_stack, states_of_stack, zarr_store

FRAMES = np.random.default_rng(0).integers(0, 4096, (60, 24, 33), np.uint16)
OTHERS = FRAMES[::-1].copy()
AXES = [{"name": name} for name in "tczyx"]


def frames_of(path, **choice):
    with open_stack(path, 2, Choice(**choice)) as images:
        return np.asarray(images[0 : images.shape[0]])


@pytest.mark.parametrize("name", ["stack.zarr.zip", "stack.zip"])
def test_a_zip_file_is_read(tmp_path, name):
    path = tmp_path / name
    with zarr.storage.ZipStore(path, mode="w") as store:
        zarr.create_array(store, data=FRAMES, chunks=(7, 24, 33))
    found = compute_background(path, frame_rate=20, kernel_size=9)
    expected = compute_background(FRAMES, frame_rate=20, kernel_size=9)
    np.testing.assert_array_equal(found.series, expected.series, strict=True)
    assert found.quality() == found.quality(FRAMES)
    with open_stack(path, 2) as images:
        assert images.store._is_open
    assert not images.store._is_open


def test_a_folder_that_was_packed_is_read(tmp_path):
    zarr.create_array(tmp_path / "in" / "stack.zarr", data=FRAMES, chunks=(7, 24, 33))
    for name in ("stack.zarr", "any name"):
        packed = shutil.make_archive(tmp_path / name, "zip", tmp_path / "in", "stack.zarr")
        np.testing.assert_array_equal(frames_of(packed), FRAMES)
        found = compute_background(packed, frame_rate=20, kernel_size=9)
        assert found.quality() == found.quality(FRAMES)


def test_an_array_of_a_group_in_a_zip_file_is_chosen(tmp_path):
    group = zarr.open_group(tmp_path / "a.zarr", mode="w")
    group.create_array("video", data=FRAMES)
    group.create_array("time", data=np.arange(60.0))
    packed = shutil.make_archive(tmp_path / "a.zarr", "zip", tmp_path / "a.zarr")
    with pytest.raises(ValueError, match=r"a group of arrays \(video\); choose .*--dataset video$"):
        compute_background(packed)
    np.testing.assert_array_equal(frames_of(packed, dataset="video"), FRAMES)


def ome_image(group, version, images, scales=2):
    datasets = []
    for scale in range(scales):
        part = images[..., :: 2**scale, :: 2**scale]
        group.create_array(str(scale), data=part, chunks=(7, 1, 1, *part.shape[3:]))
        datasets.append({"path": str(scale)})
    scales = [{"axes": AXES, "datasets": datasets, "version": version}]
    group.attrs.update(
        {"ome": {"multiscales": scales}} if version == "0.5" else {"multiscales": scales}
    )


@pytest.mark.parametrize(("version", "of_zarr"), [("0.4", 2), ("0.5", 3)])
def test_ome_zarr_is_read_by_the_names_of_its_axes(tmp_path, version, of_zarr):
    images = np.stack([FRAMES, OTHERS], axis=1)[:, :, None]
    ome_image(
        zarr.open_group(tmp_path / "a", mode="w", zarr_format=of_zarr), version, images[:, :1]
    )
    np.testing.assert_array_equal(frames_of(tmp_path / "a"), FRAMES)
    found = compute_background(tmp_path / "a", frame_rate=20, kernel_size=9)
    np.testing.assert_array_equal(
        found.series, compute_background(FRAMES, frame_rate=20, kernel_size=9).series
    )
    ome_image(zarr.open_group(tmp_path / "b", mode="w", zarr_format=of_zarr), version, images)
    with pytest.raises(ValueError, match=r"2 channel.*channel=0 to channel=1") as error:
        compute_background(tmp_path / "b")
    line = str(error.value).rpartition("such as ")[2]
    np.testing.assert_array_equal(eval(line, {"zarr": zarr}), FRAMES)
    np.testing.assert_array_equal(frames_of(tmp_path / "b", channel=1), OTHERS)
    np.testing.assert_array_equal(frames_of(tmp_path / "b", dataset="0", channel=1), OTHERS)


def test_series_of_an_ome_zarr_have_to_be_chosen(tmp_path):
    group = zarr.open_group(tmp_path / "a", mode="w", zarr_format=2)
    group.attrs["bioformats2raw.layout"] = 3
    for number, images in enumerate((FRAMES, OTHERS)):
        ome_image(group.create_group(str(number)), "0.4", images[:, None, None])
    with pytest.raises(
        ValueError, match=r"holds 2 series of images \(0, 1\); .*series=0 to series=1"
    ):
        compute_background(tmp_path / "a")
    np.testing.assert_array_equal(frames_of(tmp_path / "a", series=1), OTHERS)
    np.testing.assert_array_equal(frames_of(tmp_path / "a", position=0), FRAMES)
    np.testing.assert_array_equal(frames_of(tmp_path / "a" / "1"), OTHERS)


def test_arrays_of_a_group_are_listed_however_deep(tmp_path):
    group = zarr.open_group(tmp_path / "a", mode="w")
    group.create_group("deep").create_array("raw", data=FRAMES)
    with pytest.raises(ValueError, match=r"a group of arrays \(deep/raw\); .*a/deep/raw$"):
        compute_background(tmp_path / "a")
    np.testing.assert_array_equal(frames_of(tmp_path / "a", dataset="deep/raw"), FRAMES)
    with pytest.raises(ValueError, match=r"has no array 'nonsense'; it has deep/raw"):
        frames_of(tmp_path / "a", dataset="nonsense")


@pytest.mark.parametrize("most", [12, 100])
def test_its_files_are_the_same_in_whatever_order_they_are_listed(tmp_path, monkeypatch, most):
    zarr.create_array(tmp_path / "a", data=FRAMES, chunks=(7, 12, 33))
    monkeypatch.setattr(zarr_store, "MOST_FILES", most)
    before = states_of_stack(tmp_path / "a")

    def reversed_walk(folder):
        for place, folders, names in walk(folder):
            folders.sort(reverse=True)
            yield place, folders, sorted(names, reverse=True)

    walk = os.walk
    monkeypatch.setattr(os, "walk", reversed_walk)
    assert states_of_stack(tmp_path / "a") == before


def test_names_of_dimensions_are_believed(tmp_path):
    array = xarray.DataArray(np.moveaxis(FRAMES, 0, -1), dims=("y", "x", "time"), name="raw")
    array.to_dataset().to_zarr(tmp_path / "a", zarr_format=3, consolidated=False)
    np.testing.assert_array_equal(frames_of(tmp_path / "a" / "raw"), FRAMES)
    array.rename(time="channel").to_dataset().to_zarr(
        tmp_path / "b", zarr_format=3, consolidated=False
    )
    with pytest.raises(
        ValueError, match="no axis is named time; if channel is time, take it, such"
    ):
        compute_background(tmp_path / "b" / "raw")


@pytest.mark.parametrize(("version", "of_zarr"), [("0.4", 2), ("0.5", 3)])
def test_an_array_in_an_ome_zarr_has_the_axes_of_its_image(tmp_path, version, of_zarr):
    images = np.stack([FRAMES, OTHERS], axis=1)[:, :, None]
    group = zarr.open_group(tmp_path / "a", mode="w", zarr_format=of_zarr)
    ome_image(group.create_group("A/1"), version, images)
    path = tmp_path / "a" / "A" / "1" / "0"
    with pytest.raises(ValueError, match=r"2 channel.*channel=0 to channel=1") as error:
        compute_background(path)
    line = str(error.value).rpartition("such as ")[2]
    np.testing.assert_array_equal(eval(line, {"zarr": zarr}), FRAMES)
    np.testing.assert_array_equal(frames_of(path, channel=1), OTHERS)
    np.testing.assert_array_equal(frames_of(tmp_path / "a", dataset="A/1/0", channel=1), OTHERS)


def test_one_of_several_images_in_a_group_has_to_be_chosen(tmp_path):
    group = zarr.open_group(tmp_path / "a", mode="w", zarr_format=2)
    scales = []
    last = np.moveaxis(OTHERS, 0, -1)
    for name, images, names in (("raw", FRAMES, "tyx"), ("filtered", last, "yxt")):
        group.create_array(name, data=images)
        axes = [{"name": axis} for axis in names]
        scales.append({"name": name, "axes": axes, "datasets": [{"path": name}]})
    group.attrs["multiscales"] = scales
    with pytest.raises(ValueError, match=r"2 series of images \(raw, filtered\); .*series=1"):
        compute_background(tmp_path / "a")
    np.testing.assert_array_equal(frames_of(tmp_path / "a", series=0), FRAMES)
    np.testing.assert_array_equal(frames_of(tmp_path / "a", series=1), OTHERS)
    np.testing.assert_array_equal(frames_of(tmp_path / "a", dataset="filtered"), OTHERS)
    for wrong in (-1, 2):
        with pytest.raises(ValueError, match="choose series=0 to series=1"):
            frames_of(tmp_path / "a", series=wrong)


@pytest.mark.parametrize("compressors", ["auto", None])
def test_a_damaged_chunk_is_an_error_that_names_the_store(tmp_path, compressors):
    path = tmp_path / "a.zarr"
    zarr.create_array(path, data=FRAMES, chunks=(7, 24, 33), compressors=compressors)
    chunk = path / "c" / "3" / "0" / "0"
    chunk.write_bytes(chunk.read_bytes()[: chunk.stat().st_size // 2])
    with pytest.raises(OSError, match=r"a.zarr: frames .* cannot be read .*is a chunk damaged"):
        compute_background(path, frame_rate=20)


def test_smaller_copies_are_not_taken_whatever_their_order(tmp_path):
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2)
    group.create_array("small", data=FRAMES[:, ::2, ::2])
    group.create_array("full", data=FRAMES)
    axes = [{"name": axis} for axis in "tyx"]
    datasets = [{"path": "small"}, {"path": "full"}]
    group.attrs["multiscales"] = [{"axes": axes, "datasets": datasets}]
    np.testing.assert_array_equal(frames_of(tmp_path / "a.zarr"), FRAMES)
