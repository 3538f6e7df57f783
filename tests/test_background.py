import dataclasses
import logging
import sys
from dataclasses import FrozenInstanceError, fields

import dask.array as da
import h5py
import numpy as np
import pytest
import xarray
from hypothesis import given
from hypothesis import strategies as st
from rings import examples

import sparsemed
from sparsemed import compute_background
from sparsemed.demo import make_measurement
from sparsemed.parameters import Parameters
from sparsemed.quality.advice import longer
from sparsemed.quality.view import View


def running_median(course):
    """The upper median of ten neighbours, the ends being mirrored: 5 before to 4 after."""
    mirrored = np.pad(course, (5, 4), mode="symmetric")
    return np.array([np.sort(mirrored[i : i + 10])[5] for i in range(len(course))])


def whole_method(
    images,
    time,
    kernel_size=200,
    split_time=1.0,
    thresh_cleansing=0,
    frac_cleansing=0.8,
    offset_correction=True,
):
    """Compute a background by brute force."""
    count, height, _ = images.shape
    time = np.linspace(0, count / 3600 * 1.5, count) if time is None else time - time[0]
    duration = time[-1] - time[0]
    steps = np.arange(0, duration, split_time)
    length = min(kernel_size, count)
    if duration <= 0:
        steps = np.zeros(1, steps.dtype)
        length = count

    series = []
    for s in steps:
        start = min(np.argmin(np.abs(s - time)), count - length)
        series.append(np.sort(images[start : start + length], axis=0)[length // 2])
    series = np.array(series)

    profile = np.ptp(series, axis=2)
    excess = profile - np.median(profile, axis=0)
    reach = max(20, height // 4)
    course = np.mean(excess[:, slice(height // 2 - reach, height // 2 + reach)], axis=1)
    course = course - running_median(course)
    score = np.abs(course - np.median(course))
    quantile = np.quantile(score, frac_cleansing)
    threshold = 150 * np.var(score) / thresh_cleansing if thresh_cleansing else quantile
    if frac_cleansing == 1:
        threshold = np.inf
    elif 1 - np.mean(score > threshold) < frac_cleansing:
        threshold = quantile
    kept = score <= threshold

    index = np.zeros(count, dtype=np.int64)
    start = 0
    for j, s in enumerate(steps[kept]):
        index[start:] = j
        start = np.argmin(np.abs(time - s - split_time / 2))
        index[start:] = j

    brightness = [np.mean(frame[:20].astype(float)) for frame in images]
    of_images = [np.mean(image[:20].astype(float)) for image in series[kept]]
    bg_off = np.array([mean - of_images[j] for mean, j in zip(brightness, index, strict=True)])
    return {
        "images": series[kept],
        "frame_index": index,
        "offsets": bg_off if offset_correction else None,
        "time": time,
        "series": series,
        "step_times": steps,
        "kept": kept,
        "score": score,
        "threshold": threshold,
    }


def check(found, expected):
    for name, value in expected.items():
        np.testing.assert_array_equal(getattr(found, name), value, err_msg=name)
        if isinstance(value, np.ndarray):
            assert getattr(found, name).dtype == value.dtype


def measure(count=120, height=44, width=9, dtype=np.uint8, cells=0.2, seed=1):
    """Return frames of a flickering, drifting channel with cells in some of them."""
    rng = np.random.default_rng(seed)
    top = np.iinfo(dtype).max
    level = top * (0.4 + 0.1 * np.sin(np.arange(count) / 40) + 0.01 * rng.random(count))
    wall = top * 0.2 * (np.arange(height) < 4)
    frames = level[:, None, None] + wall[:, None] + rng.random((count, height, width)) * 6
    for frame in frames[rng.random(count) < cells]:
        row, column = rng.integers(height), rng.integers(width)
        frame[row : row + 9, column : column + 4] *= 0.3
    return frames.astype(dtype)


def times(count, rng):
    """Return time axes of several kinds by name."""
    return {
        "none": None,
        "even": np.arange(count) / 30,
        "float32": np.float32(4321 + np.cumsum(rng.exponential(0.04, count))),
        "ties": np.sort(rng.integers(0, count, count)) / 16,
        "unsorted": rng.random(count) * 9,
        "integer": np.cumsum(rng.integers(0, 2, count)),
        "at once": np.full(count, 7.5),
    }


@st.composite
def cases(draw):
    seed = draw(st.integers(0, 2**32 - 1))
    images = measure(
        count=draw(st.integers(1, 250)),
        height=draw(st.sampled_from([1, 7, 19, 20, 33, 40, 80])),
        width=draw(st.integers(1, 9)),
        dtype=draw(st.sampled_from([np.uint8, np.uint16])),
        cells=draw(st.sampled_from([0, 0.2, 0.8])),
        seed=seed,
    )
    axes = times(len(images), np.random.default_rng(seed))
    time = axes[draw(st.sampled_from(list(axes)))]
    split_times = [0.003, 0.01] if time is None else [0.1, 0.3, 0.5, 1, 2.7]
    parameters = {
        "kernel_size": draw(st.integers(1, 30) | st.just(200)),
        "split_time": draw(st.sampled_from(split_times)),
        "thresh_cleansing": draw(st.sampled_from([0, 0.1, 10, 1000])),
        "frac_cleansing": draw(st.sampled_from([0.01, 0.5, 0.8, 1])),
        "offset_correction": draw(st.booleans()),
    }
    return images, time, parameters


@examples(150)
@given(cases(), st.sampled_from([None, 1, 2]))
def test_equals_brute_force(case, num_cpus):
    images, time, parameters = case
    found = compute_background(images, time, **parameters, num_cpus=num_cpus)
    check(found, whole_method(images, time, **parameters))
    assert found.parameters == Parameters(**parameters)
    assert found.source is None


def test_defaults():
    images = measure(count=700)
    time = np.arange(700) / 50
    check(compute_background(images, time), whole_method(images, time))


def test_cleansing_drops_images_with_cells():
    images = measure(count=600, height=60, width=20, cells=0)
    images[300:345, 30:35, 5] = 3
    found = compute_background(images, np.arange(600) / 20, kernel_size=20)
    assert found.kept.sum() < len(found.series)
    assert not found.kept[16]
    assert found.images.min() > 60


@pytest.mark.parametrize("kind", ["uint8", "int8", "int16", "uint16", "uint32", "uint64"])
def test_parameters_of_numpy_types(kind):
    images = np.random.default_rng(0).integers(50, 90, size=(300, 24, 16), dtype=np.uint8)
    time = np.arange(300) / 50
    number = np.dtype(kind).type
    ours = compute_background(
        images, time, kernel_size=number(20), split_time=number(1), num_cpus=number(2)
    )
    plain = compute_background(images, time, kernel_size=20, split_time=1)
    np.testing.assert_array_equal(ours.series, plain.series)
    np.testing.assert_array_equal(ours.frame_index, plain.frame_index)
    assert longer(View(ours, None), 3) == longer(View(plain, None), 3) == "kernel_size=60"


def test_whole_floats_are_bytes():
    images = measure(dtype=np.uint8)
    time = np.arange(len(images)) / 20
    found = compute_background(images.astype(np.float32), time, kernel_size=9)
    check(found, whole_method(images, time, kernel_size=9))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16])
@pytest.mark.parametrize("ranges", [None, 3])
def test_values_of_cameras_of_12_bits_are_exact(dtype, ranges):
    images = measure(dtype=np.uint16) % 4096
    time = np.arange(len(images)) / 20
    found = compute_background(images.astype(dtype), time, kernel_size=9, ranges=ranges)
    check(found, whole_method(images, time, kernel_size=9))
    assert found.images.dtype == np.uint16
    small = compute_background((images % 256).astype(dtype), time, kernel_size=9, ranges=ranges)
    assert small.images.dtype == (np.uint16 if dtype == np.int16 else np.uint8)


def test_hdf5_dataset():
    images = measure(dtype=np.uint16)
    with h5py.File("frames.h5", "w", driver="core", backing_store=False) as file:
        dataset = file.create_dataset("image", data=images, chunks=(7, 44, 9))
        found = compute_background(dataset, kernel_size=9, split_time=0.01)
    check(found, whole_method(images, None, kernel_size=9, split_time=0.01))


@pytest.mark.parametrize("rate", [30, np.float32(12.5), np.array([30.0])])
def test_frames_of_an_array_follow_each_other_without_gaps(rate):
    images = measure()
    expected = np.arange(120) / np.asarray(rate).item()
    found = compute_background(images, frame_rate=rate)
    check(found, whole_method(images, expected))
    given_time = compute_background(images, np.arange(120) / 10, frame_rate=30)
    np.testing.assert_array_equal(given_time.time, np.arange(120) / 10)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "The times are unknown: 2400 frames per second are assumed, a duration of 0.5 s"),
        ({"frame_rate": 400}, None),
        ({"time": np.arange(1200) / 400}, None),
        ({"time": np.arange(1200) / 400, "frame_rate": 10}, None),
    ],
    ids=["nothing", "rate", "time", "time and rate"],
)
def test_only_a_guess_at_the_time_is_warned_of(options, message, caplog, warned):
    caplog.set_level(logging.INFO, "sparsemed.method.time_axis")
    images = measure(count=1200)
    found = compute_background(images, **options)
    assert "sparsemed.method.time_axis" not in {record.name for record in caplog.records}
    assert warned() == list(found.warnings) == ([message] if message else [])
    if message is None:
        np.testing.assert_array_equal(found.time, np.arange(1200) / 400)
        return
    duration = 1200 / 3600 * 1.5
    np.testing.assert_array_equal(found.time, np.linspace(0, duration, 1200))


@pytest.mark.parametrize("rows", [1, np.int8(4), 44, 100])
def test_offsets_of_an_array_are_taken_from_as_many_rows_as_are_chosen(rows):
    images = measure()
    found = compute_background(images, np.arange(120) / 20, kernel_size=20, offset_rows=rows)
    band = images[:, :rows].mean(axis=(1, 2))
    of_images = found.images[:, :rows].mean(axis=(1, 2))
    np.testing.assert_array_equal(found.offsets, band - of_images[found.frame_index])
    assert found.offset_rows == rows
    plain = compute_background(images, np.arange(120) / 20, kernel_size=20)
    assert plain.offset_rows == 20
    assert (found.offsets != plain.offsets).any()
    np.testing.assert_array_equal(found.images, plain.images)


def test_offsets_of_a_measurement_are_those_of_20_rows(tmp_path):
    path = tmp_path / "in.rtdc"
    make_measurement(path, count=300)
    with pytest.raises(ValueError, match=r"offset_rows=7 is for arrays only, as no .* in the file"):
        compute_background(path, offset_rows=7)
    assert compute_background(path, offset_rows=20).offset_rows == 20


def test_frames_are_left_alone():
    images = measure()
    before = images.tobytes()
    images.flags.writeable = False
    compute_background(images)
    assert images.tobytes() == before


# Few frames, odd times


@pytest.mark.parametrize("time", [None, [3.0]])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_single_frame_is_its_own_background(time, dtype):
    images = measure(count=1, dtype=dtype)
    found = compute_background(images, time)
    np.testing.assert_array_equal(found.images, images, strict=True)
    assert found.frame_index.tolist() == [0]
    assert found.offsets.tolist() == [0.0]


@pytest.mark.parametrize(
    ("time", "what"),
    [
        (np.full(50, 2.5), "spans no time"),
        (np.r_[np.linspace(1, 5, 49), 1], "spans no time"),
        (np.r_[np.linspace(1, 5, 49), 0.5], "ends before it begins"),
    ],
)
def test_one_image_from_all_frames_where_no_time_passes(time, what, warned):
    images = measure(count=50)
    found = compute_background(images, time, kernel_size=7)
    np.testing.assert_array_equal(found.images, [np.sort(images, axis=0)[25]])
    assert not found.frame_index.any()
    assert warned()[-1] == f"The time axis {what}; all frames make one background image"
    assert found.warnings == tuple(warned())


def test_a_kernel_larger_than_the_measurement_shrinks_with_a_warning(warned):
    images = measure(count=50)
    found = compute_background(images, np.arange(50) / 10, kernel_size=51)
    for image in found.series:
        np.testing.assert_array_equal(image, np.sort(images, axis=0)[25])
    assert found.parameters.kernel_size == 51
    assert warned() == ["kernel_size 51 is more than the 50 frames: all frames are used"]
    found = compute_background(images, np.arange(50) / 10, kernel_size=50)
    assert len(warned()) == 1
    assert found.warnings == ()


@pytest.mark.parametrize(
    ("images", "options", "error", "message"),
    [
        (measure(count=1)[:0], {}, ValueError, r"^frames: there are no frames"),
        (measure(), {"time": np.arange(119)}, ValueError, r"^time: has shape \(119,\), but there"),
        (
            measure(),
            {"time": np.r_[np.arange(7.0), np.nan, np.arange(112)]},
            ValueError,
            "^time: is nan at frame 7; it must be finite$",
        ),
        (measure(), {"frame_rate": 0}, ValueError, "^frame rate must be a number above 0"),
        (
            measure(),
            {"frame_rate": 1e-320},
            ValueError,
            "^frame rate 1e-320 Hz is too small: the duration is infinite$",
        ),
        (measure(), {"kernel_size": 0}, ValueError, "^kernel_size must be"),
        (measure(), {"split_time": 0}, ValueError, "^split_time must be"),
        (measure(), {"thresh_cleansing": -1}, ValueError, "^thresh_cleansing must be"),
        (measure(), {"frac_cleansing": 0}, ValueError, "^frac_cleansing must be"),
        (measure(), {"offset_correction": 2}, ValueError, "^offset_correction must be"),
        (measure(), {"offset_rows": 0}, ValueError, "^offset_rows must be a whole number from 1"),
        (measure(), {"offset_rows": 2.0}, ValueError, "^offset_rows must be .* got 2.0$"),
        (measure(), {"offset_rows": True}, ValueError, "^offset_rows must be .* got True$"),
        (measure(), {"num_cpus": 0}, ValueError, "^num_cpus must be"),
        (measure() - np.float64(0.5), {}, TypeError, "^frames: frame 0 holds"),
        (measure().astype(int), {}, TypeError, "^frames: frames of dtype int64 are not supported"),
        (list(measure()), {}, TypeError, "^frames: expected an array of shape"),
    ],
)
def test_refuses_what_makes_no_sense(images, options, error, message):
    with pytest.raises(error, match=message):
        compute_background(images, **options)


# Progress


@pytest.mark.parametrize("offset_correction", [True, False])
def test_progress_rises_from_0_to_1(offset_correction, monkeypatch):
    monkeypatch.setattr("sparsemed.progress.PAUSE", 0)
    reports = []
    compute_background(
        np.zeros((2000, 80, 320), np.uint8),
        np.arange(2000) / 100,
        kernel_size=10,
        offset_correction=offset_correction,
        progress=reports.append,
    )
    assert reports == sorted(set(reports))
    assert reports[0] == 0
    assert reports[-1] == 1
    assert len(reports) > 4
    assert {type(report) for report in reports} == {float}


def test_progress_of_a_measurement(tmp_path, capsys):
    make_measurement(tmp_path / "in.rtdc", count=60)
    reports = []
    compute_background(tmp_path / "in.rtdc", progress=reports.append)
    assert (reports[0], reports[-1]) == (0, 1)
    compute_background(tmp_path / "in.rtdc", progress=True)
    assert "100%|" in capsys.readouterr().err
    with pytest.raises(TypeError, match=r"progress must be True, None, or a callable .* got 7"):
        compute_background(tmp_path / "in.rtdc", progress=7)


def test_a_failing_progress_callable_stops_the_computation():
    def cancel(fraction):
        if fraction > 0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compute_background(measure(), progress=cancel)


# The result


@pytest.fixture(scope="module")
def background():
    return compute_background(measure(), np.arange(120) / 20, kernel_size=20, frac_cleansing=0.5)


def test_indexing_gives_the_background_of_frames(background):
    everything = background.images[background.frame_index]
    assert len(background) == 120
    for frames in (
        0,
        -1,
        np.int64(70),
        slice(3, 90, 7),
        slice(None),
        slice(5, 5),
        np.array([119, 3, 3]),
        [119, 3, 3],
        np.arange(120) % 3 == 0,
    ):
        np.testing.assert_array_equal(background[frames], everything[frames], strict=True)
    with pytest.raises(IndexError):
        background[120]


def test_iterating_gives_a_background_per_frame(background):
    images = list(background)
    assert len(images) == 120
    np.testing.assert_array_equal(images, background[:])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(("start", "stop"), [(0, 120), (37, 90), (119, 120), (120, 120), (4, 4)])
def test_subtract_with_offsets(start, stop, dtype):
    images = measure(dtype=dtype)
    found = compute_background(images, np.arange(120) / 20, kernel_size=20)
    expected = images.astype(np.float64) - found[:]
    expected -= found.offsets[:, None, None]
    np.testing.assert_array_equal(
        found.subtract(images[start:stop], start), expected[start:stop], strict=True
    )


@pytest.mark.parametrize(("dtype", "signed"), [(np.uint8, np.int16), (np.uint16, np.int32)])
def test_subtract_without_offsets(dtype, signed):
    images = measure(dtype=dtype)
    images[0], images[1] = 0, np.iinfo(dtype).max
    found = compute_background(images, np.arange(120) / 20, kernel_size=20, offset_correction=False)
    assert found.offsets is None
    expected = (images.astype(np.int64) - found[:]).astype(signed)
    np.testing.assert_array_equal(found.subtract(images), expected, strict=True)
    np.testing.assert_array_equal(found.subtract(images[3:5].tolist(), 3), expected[3:5])


@pytest.mark.parametrize("shape", [(), (9, 44), (2, 44, 8), (2, 9, 44), (0,), (1, 1, 44, 9)])
def test_subtract_refuses_other_shapes(background, shape):
    message = r"^frames: shape must be \(n, 44, 9\) or \(44, 9\), got"
    with pytest.raises(ValueError, match=message) as caught:
        background.subtract(np.zeros(shape, np.uint8))
    assert str(caught.value).endswith(str(shape))


@pytest.mark.parametrize("offset_correction", [True, False])
def test_subtract_takes_one_frame_and_any_choice_of_frames(offset_correction, monkeypatch):
    monkeypatch.setattr("sparsemed.method.result.PIECE_BYTES", 3 * 44 * 9)
    images = measure()
    found = compute_background(
        images, np.arange(120) / 20, kernel_size=20, offset_correction=offset_correction
    )
    everything = found.subtract(images)
    np.testing.assert_array_equal(found.subtract(images[7], 7), everything[7], strict=True)
    for number in (np.int64(7), np.array(7)):
        np.testing.assert_array_equal(found.subtract(images[7], number), everything[7])
    for chosen in (
        [119, 3, 3],
        np.array([5, -1], np.int8),
        np.arange(120) % 3 == 0,
        slice(90, 10, -7),
        [],
    ):
        ours = found.subtract(images[chosen], chosen)
        np.testing.assert_array_equal(ours, everything[chosen], strict=True)


def test_subtract_asks_which_frame_a_single_one_is(background):
    with pytest.raises(
        ValueError, match=r"single frame needs its number, as in background.subtract\(fr"
    ):
        background.subtract(np.zeros((44, 9), np.uint8))
    with pytest.raises(ValueError, match=r"^start: names 2 frames, but frames has 3$"):
        background.subtract(np.zeros((3, 44, 9), np.uint8), [4, 5])
    with pytest.raises(IndexError):
        background.subtract(np.zeros((1, 44, 9), np.uint8), [120])


def test_subtract_fills_what_it_is_given():
    images = measure()
    with_offsets = compute_background(images)
    without = compute_background(images, offset_correction=False)
    for found, kinds in ((with_offsets, "fd"), (without, "hilfd")):
        everything = found.subtract(images[:9])
        for kind in kinds:
            out = np.full((9, 44, 9), 77, kind)
            assert found.subtract(images[:9], out=out) is out
            np.testing.assert_array_equal(out, everything.astype(kind), strict=True)
    frame = np.empty((44, 9))
    with_offsets.subtract(images[3], 3, out=frame)
    np.testing.assert_array_equal(frame, with_offsets.subtract(images[:9])[3])


@pytest.mark.parametrize(
    ("out", "error", "message"),
    [
        (np.zeros((2, 44, 9)), ValueError, r"^out: shape must be \(3, 44, 9\) .* \(2, 44, 9\)$"),
        (np.zeros((3, 44, 9), np.int16), TypeError, "^out: dtype int16 cannot hold .* float64$"),
        ([[[0.0]]], TypeError, "^out: must be a NumPy array, got list$"),
    ],
)
def test_subtract_refuses_what_cannot_hold_the_result(background, out, error, message):
    with pytest.raises(error, match=message):
        background.subtract(np.zeros((3, 44, 9), np.uint8), out=out)


def test_what_xarray_labels_stays_labelled(background):
    images = measure()
    labels = {"t": np.arange(120) * 2}
    cube = xarray.DataArray(images, dims=("t", "y", "x"), coords=labels, name="frames")
    for ours in (background.subtract(cube[5:8], 5), (cube - background)[5:8]):
        assert ours.dims == ("t", "y", "x")
        assert ours.t.values.tolist() == [10, 12, 14]
        np.testing.assert_array_equal(ours.values, background.subtract(images[5:8], 5), strict=True)


@pytest.mark.parametrize("kind", ["NumPy", "list", "Dask"])
def test_all_frames_less_the_background_are_right(background, kind):
    images = measure()
    frames = {"NumPy": images, "list": images.tolist(), "Dask": da.from_array(images, chunks=50)}
    expected = background.subtract(images)
    np.testing.assert_array_equal(frames[kind] - background, expected, strict=kind != "list")


def test_what_would_wrap_around_is_refused(background):
    images = measure()
    with pytest.raises(ValueError, match=r"takes all frames, of shape \(120, 44, 9\), got \(7, 44"):
        images[:7] - background
    with pytest.raises(ValueError, match=r"got \(44, 9\); .* background.subtract\(frames, start\)"):
        images[3] - background
    with pytest.raises(TypeError):
        np.subtract(images, background)
    with pytest.raises(TypeError):
        images -= background
    with pytest.raises(TypeError):
        background - images


@pytest.mark.parametrize(("count", "start"), [(121, 0), (1, 120), (2, 119), (1, -1), (0, 121)])
def test_subtract_refuses_frames_beyond_the_measurement(background, count, start):
    message = f"^frames {start} to {start + count} are not within the 120 frames$"
    with pytest.raises(ValueError, match=message):
        background.subtract(np.zeros((count, 44, 9), np.uint8), start)


def test_subtract_does_not_wrap_around():
    found = compute_background(np.full((3, 40, 5), 90, np.uint8), offset_correction=False)
    difference = found.subtract(np.full((3, 40, 5), 60000, np.uint16))
    np.testing.assert_array_equal(difference, np.full((3, 40, 5), 59910, np.int32), strict=True)


def test_repr_says_how_much_there_is(background):
    assert repr(background) == (
        f"SparseBackground(120 frames of 44 × 9, {len(background.images)} of 6 "
        "background images kept)"
    )


def test_result_is_frozen(background):
    for field in fields(background):
        with pytest.raises(FrozenInstanceError):
            setattr(background, field.name, None)


def test_result_is_a_public_name(background):
    assert type(background) is sparsemed.SparseBackground


def test_quality_and_pictures_take_the_frames_from_the_measurement(real):
    background = compute_background(real("2023"), kernel_size=15, split_time=0.25)
    assert "left" in [finding.key for finding in background.quality()]
    from_array = dataclasses.replace(background, identity=None)
    assert "left" not in [finding.key for finding in from_array.quality()]
    with h5py.File(background.source) as h5:
        assert from_array.quality(h5["events/image"]) == background.quality()
        pages = [background.plot(), from_array.plot(h5["events/image"])]
    assert len({len(page.axes) for page in pages}) == 1
    assert len(from_array.plot().axes) < len(pages[0].axes)


def test_pictures_say_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sparsemed.plotting", None)
    with pytest.raises(ImportError, match=r"pip install matplotlib$"):
        compute_background(np.zeros((3, 40, 60), np.uint8)).plot()
