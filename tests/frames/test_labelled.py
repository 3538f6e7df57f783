"""Axes and times by their names: of xarray, Zarr and HDF5."""

import contextlib

import h5py
import numpy as np
import pandas
import pytest
import xarray
import zarr

from sparsemed import compute_background
from sparsemed.frames.choice import Choice
from sparsemed.frames.labelled import as_frames, own_times

FRAMES = np.random.default_rng(0).integers(0, 200, (60, 24, 33), np.uint8)
SECONDS = np.cumsum(np.random.default_rng(1).uniform(0.01, 0.09, 60))


def labelled(dims, **coords):
    places = {"time": 0, "t": 0, "frame": 0, "y": 1, "x": 2}
    images = FRAMES.transpose([places[dim] for dim in dims])
    return xarray.DataArray(images, dims=dims, coords=coords)


@pytest.mark.parametrize("dims", [("y", "x", "time"), ("x", "t", "y"), ("frame", "y", "x")])
def test_time_is_found_by_its_name(dims):
    found = compute_background(labelled(dims), frame_rate=20, kernel_size=9)
    expected = compute_background(FRAMES, frame_rate=20, kernel_size=9)
    np.testing.assert_array_equal(found.series, expected.series, strict=True)
    assert found.quality(labelled(dims)) == found.quality(FRAMES)


def test_names_that_say_nothing_leave_the_order_as_it_is():
    plain = xarray.DataArray(FRAMES)
    assert as_frames(plain) is plain
    event = xarray.DataArray(FRAMES, dims=("shot", "y", "x"))
    np.testing.assert_array_equal(as_frames(event), FRAMES)
    assert as_frames(FRAMES) is FRAMES


def test_axes_of_space_may_have_other_names():
    images = xarray.DataArray(np.moveaxis(FRAMES, 0, -1), dims=("lat", "lon", "time"))
    np.testing.assert_array_equal(as_frames(images), FRAMES)
    images = xarray.DataArray(FRAMES[:, None], dims=("time", "channel", "lat", "lon"))
    np.testing.assert_array_equal(as_frames(images), FRAMES)


def test_what_has_no_time_is_refused():
    with pytest.raises(ValueError, match=r"frames: holds images of shape .*no axis is named time"):
        compute_background(xarray.DataArray(FRAMES, dims=("channel", "y", "x")))
    with pytest.raises(ValueError, match=r"no axis is named time"):
        compute_background(xarray.DataArray(FRAMES, dims=("y", "x", "position")))


def test_a_channel_has_to_be_chosen():
    two = xarray.DataArray(
        np.stack([FRAMES, FRAMES[::-1]], axis=1), dims=("time", "channel", "y", "x")
    )
    with pytest.raises(ValueError, match=r"channel=0 to channel=1, or take one") as error:
        compute_background(two)
    line = str(error.value).rpartition("such as ")[2]
    np.testing.assert_array_equal(eval(line, {"frames": two}), FRAMES)
    np.testing.assert_array_equal(as_frames(two, Choice(channel=1)), FRAMES[::-1])
    np.testing.assert_array_equal(as_frames(two[:, :1]), FRAMES)


DATES = np.datetime64("2024-05-01", "ns") + (SECONDS * 1e9).astype("m8[ns]")


@pytest.mark.parametrize(
    "coordinate",
    [
        DATES,
        DATES - DATES[0],
        SECONDS,
        ("time", SECONDS * 1000, {"units": "ms"}),
        ("time", SECONDS, {"units": "s"}),
        ("time", SECONDS / 60, {"units": "minutes"}),
        ("time", (SECONDS * 1e9).astype(int), {"units": "ns"}),
        ("time", SECONDS, {"units": "seconds since 2024-05-01"}),
        pandas.DatetimeIndex(DATES),
    ],
    ids=[
        "dates",
        "differences",
        "seconds",
        "milliseconds",
        "with a unit",
        "minutes",
        "nanoseconds",
        "of CF",
        "of pandas",
    ],
)
def test_the_coordinate_of_time_is_used(coordinate, warned):
    images = labelled(("time", "y", "x"), time=coordinate)
    found = compute_background(images, kernel_size=9)
    np.testing.assert_allclose(found.time, SECONDS - SECONDS[0], atol=1e-8)
    assert not warned()
    given = compute_background(images, frame_rate=10, kernel_size=9)
    np.testing.assert_array_equal(given.time, np.arange(60) / 10)


def test_numbers_without_a_unit_are_named_and_not_used(warned):
    images = labelled(("time", "y", "x"), time=np.arange(60))
    assert own_times(images) == (None, None)
    (text,) = warned()
    assert "coordinate 'time' of the array is not used" in text
    assert "as it has no unit of time; if it is in seconds, hand over time=frames['time']" in text
    own_times(labelled(("time", "y", "x"), time=("time", np.arange(60.0), {"units": "fortnight"})))
    assert "as 'fortnight' is no unit of time" in warned()[-1]


def test_a_dataset_is_told_to_hand_over_one_of_its_arrays():
    both = xarray.Dataset({"film": labelled(("time", "y", "x")), "other": ("a", [1, 2])})
    with pytest.raises(
        TypeError, match=r"a Dataset of several arrays \('film', 'other'\)"
    ) as error:
        compute_background(both)
    line = str(error.value).rpartition("such as ")[2]
    np.testing.assert_array_equal(eval(line, {"frames": both}), FRAMES)


def zarr_array(folder, images, names):
    array = zarr.create_array(folder / "a.zarr", data=images, dimension_names=names)
    return contextlib.nullcontext(array)


def zarr_array_of_xarray(folder, images, names):
    dataset = xarray.Dataset({"film": (names, images)})
    dataset.to_zarr(folder / "a.zarr", zarr_format=2, consolidated=False)
    return contextlib.nullcontext(zarr.open(folder / "a.zarr" / "film", mode="r"))


@contextlib.contextmanager
def hdf5_with_labels(folder, images, names):
    with h5py.File(folder / "a.h5", "w") as h5:
        h5["film"] = images
        for dim, name in zip(h5["film"].dims, names, strict=True):
            dim.label = name
    with h5py.File(folder / "a.h5") as h5:
        yield h5["film"]


@contextlib.contextmanager
def hdf5_with_scales(folder, images, names):
    with h5py.File(folder / "a.h5", "w") as h5:
        h5["film"] = images
        for dim, name, length in zip(h5["film"].dims, names, images.shape, strict=True):
            h5[name] = np.arange(length)
            h5[name].make_scale()
            dim.attach_scale(h5[name])
    with h5py.File(folder / "a.h5") as h5:
        yield h5["film"]


MAKERS = [zarr_array, zarr_array_of_xarray, hdf5_with_labels, hdf5_with_scales]


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("ranges", [None, 2])
def test_names_that_are_stored_with_an_array_are_believed(tmp_path, make, ranges):
    expected = compute_background(FRAMES, frame_rate=20, kernel_size=9)
    with make(tmp_path, np.moveaxis(FRAMES, 0, -1), ("y", "x", "time")) as array:
        found = compute_background(array, frame_rate=20, kernel_size=9, ranges=ranges)
    np.testing.assert_array_equal(found.series, expected.series)


@pytest.mark.parametrize("make", MAKERS)
def test_stored_names_without_time_are_no_frames(tmp_path, make):
    with (
        make(tmp_path, FRAMES, ("channel", "y", "x")) as array,
        pytest.raises(ValueError, match="no axis is named time"),
    ):
        compute_background(array, frame_rate=20)


def test_a_channel_of_a_labelled_dataset_is_chosen(tmp_path):
    two = np.stack([FRAMES, FRAMES[::-1]], axis=1)
    with hdf5_with_labels(tmp_path, two, ("t", "c", "y", "x")):
        pass
    path = tmp_path / "a.h5"
    with pytest.raises(ValueError, match="channel=0 to channel=1"):
        compute_background(path, dataset="film", frame_rate=20)
    found = compute_background(path, dataset="film", channel=1, frame_rate=20, kernel_size=9)
    expected = compute_background(FRAMES[::-1], frame_rate=20, kernel_size=9)
    np.testing.assert_array_equal(found.series, expected.series)
    assert found.quality() == found.quality(FRAMES[::-1])
