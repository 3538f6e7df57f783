"""Arrays of xarray's: axes and times by their names."""

import numpy as np
import pandas
import pytest
import xarray

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
        pandas.DatetimeIndex(DATES),
    ],
    ids=["dates", "differences", "seconds", "milliseconds", "with a unit", "of pandas"],
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
    assert "time=frames['time']" in text


def test_a_dataset_is_told_to_hand_over_one_of_its_arrays():
    both = xarray.Dataset({"film": labelled(("time", "y", "x")), "other": ("a", [1, 2])})
    with pytest.raises(
        TypeError, match=r"a Dataset of several arrays \('film', 'other'\)"
    ) as error:
        compute_background(both)
    line = str(error.value).rpartition("such as ")[2]
    np.testing.assert_array_equal(eval(line, {"frames": both}), FRAMES)
