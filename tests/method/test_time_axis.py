import logging

import numpy as np
import pandas
import pytest
import xarray
from hypothesis import example, given
from hypothesis import strategies as st
from rings import examples

from sparsemed import compute_background
from sparsemed.method import assignment, windows
from sparsemed.method.assignment import assign_frames
from sparsemed.method.time_axis import time_axis
from sparsemed.method.windows import step_times, window_starts


def starts_by_definition(time, steps, length):
    starts = []
    for s in steps:
        start = np.argmin(np.abs(s - time))
        if start + length >= len(time):
            start = len(time) - length
        starts.append(start)
    return np.array(starts)


def index_by_definition(time, kept, split_time):
    index = np.zeros(len(time), dtype=np.int64)
    start = 0
    for image, s in enumerate(kept):
        stop = np.argmin(np.abs(time - s - split_time / 2))
        index[start:stop] = image
        start = stop
    index[start:] = len(kept) - 1
    return index


def check(time, steps, kept, split_time, length):
    starts = window_starts(time, steps, length)
    np.testing.assert_array_equal(starts, starts_by_definition(time, steps, length))
    index = assign_frames(time, kept, split_time)
    np.testing.assert_array_equal(index, index_by_definition(time, kept, split_time), strict=True)


def gaps(rng, count, pattern):
    """Return the seconds between frames; most patterns have frames at the same time."""
    return {
        "even": lambda: np.full(count, 1 / 30),
        "poisson": lambda: rng.exponential(0.05, count),
        "ticks": lambda: rng.integers(0, 3, count) / 8,
        "bursts": lambda: (rng.random(count) < 0.05) * rng.integers(1, 5, count) / 2,
        "pauses": lambda: np.where(rng.random(count) < 0.1, 3.7, 0.001),
    }[pattern]()


PATTERNS = ["even", "poisson", "ticks", "bursts", "pauses"]
SECONDS = st.sampled_from([0.1, 0.125, 0.25, 0.3, 0.5, 1 / 3, 1, 2.7]) | st.floats(0.05, 5)


@st.composite
def cases(draw, kind):
    """Draw a time axis of some kind, steps on it and a window length."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    count = draw(st.integers(1, 300))
    split_time = draw(st.sampled_from([float, np.float64, np.float32]))(draw(SECONDS))
    if kind == "integer":
        dtype = draw(st.sampled_from([np.uint8, np.uint16, np.uint64, np.int32, np.int64]))
        stored = np.cumsum(rng.integers(0, 3, count) * rng.integers(0, 2, count)).clip(0, 250)
        stored = stored.astype(dtype)
        if draw(st.booleans()):
            # An unsigned axis must not fall below its first value.
            rng.shuffle(stored[1:])
        if draw(st.booleans()):
            split_time = draw(st.sampled_from([int, np.int64]))(draw(st.integers(1, 7)))
    else:
        stored = np.cumsum(gaps(rng, count, draw(st.sampled_from(PATTERNS))))
        stored = stored + draw(st.sampled_from([0, 0.1, 1000.3, 123456.7]))
        if kind == "unsorted":
            rng.shuffle(stored)
        if kind == "nearly sorted":
            i = draw(st.integers(0, count - 1))
            stored[i] -= 0.5
        dtype = draw(st.sampled_from([np.float64, np.float32, np.float16]))
        stored = stored.clip(-60000, 60000).astype(dtype)
    time = time_axis(count, time=stored)
    assert time.dtype == dtype
    steps = step_times(time, split_time)
    if draw(st.booleans()):
        steps = steps.astype(dtype)
    kept = steps[rng.random(len(steps)) < draw(st.sampled_from([0.1, 0.5, 1]))]
    if not len(kept):
        kept = steps[-1:]
    return time, steps, kept, split_time, draw(st.integers(1, count))


@examples(300)
@given(cases("sorted"))
def test_sorted_axis(case):
    check(*case)


@examples(100)
@given(cases("unsorted") | cases("nearly sorted"))
def test_unsorted_axis(case):
    check(*case)


@examples(150)
@given(cases("integer"))
def test_integer_axis(case):
    check(*case)


@examples(100)
@given(
    st.lists(st.sampled_from([-0.5, 0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0]), min_size=1, max_size=12),
    st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0, 1.25, 5.0, -1.0]), min_size=1, max_size=6),
)
@example([0.0, 0.0, 1.0, 1.0], [0.5, 0.25])
@example([0.0, 0.0, 0.0], [0.0, 5.0, -1.0])
def test_first_of_several_nearest_frames(seconds, steps):
    for dtype in (np.float64, np.float16):
        for time in (np.array(seconds, dtype), np.sort(np.array(seconds, dtype))):
            check(time, np.array(steps), np.array(steps), 0.5, length=len(seconds))


def test_frames_that_rounding_makes_equally_near():
    time = np.arange(40, dtype=np.float32)
    steps = np.array([2**26, 2**26 + 8], np.float32)
    assert len(np.unique(time - steps[0])) < len(time)
    check(time, steps, steps, 1.0, length=1)


@pytest.mark.parametrize("last", [2.0, 0.0], ids=["sorted", "unsorted"])
def test_step_is_subtracted_before_the_delay(last):
    # 2 and 3 tenths are equally near to 0.2 + 0.05, but for rounding.
    time = np.append(np.arange(20) / 10, last)
    step = np.arange(0, 1, 0.1)[2:3]
    nearest = {
        np.argmin(np.abs(distance)).item()
        for distance in (time - step - 0.05, time - (step + 0.05), time - 0.05 - step)
    }
    assert nearest == {2, 3}
    check(time, step, np.append(step, 1.5), 0.1, length=3)


def test_steps_beyond_either_end():
    time = np.array([0.0, 1.0, 1.0, 2.0])
    steps = np.array([-7.0, 2.0, 99.0])
    np.testing.assert_array_equal(window_starts(time, steps, 1), [0, 3, 3])
    check(time, steps, steps, 1.0, length=2)


def test_windows_end_with_the_measurement():
    time = np.arange(10.0)
    steps = np.array([0.0, 5.0, 6.0, 7.0, 9.0])
    np.testing.assert_array_equal(window_starts(time, steps, 4), [0, 5, 6, 6, 6])
    np.testing.assert_array_equal(window_starts(time, steps, 10), [0, 0, 0, 0, 0])


def test_one_image_serves_all_frames():
    np.testing.assert_array_equal(assign_frames(np.arange(5.0), np.array([3.0]), 1.0), [0] * 5)


# Which way was taken


@pytest.fixture
def no_bisection(monkeypatch):
    def refuse(*args):
        raise AssertionError("bisected")

    for room in (windows, assignment):
        monkeypatch.setattr(room, "nearest_frames", refuse)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.uint64, np.int32])
def test_sorted_axes_are_bisected(no_bisection, dtype):
    time = np.array([0, 0, 1, 3], dtype)
    steps = step_times(time, 0.5)
    with pytest.raises(AssertionError, match="bisected"):
        window_starts(time, steps, 2)
    with pytest.raises(AssertionError, match="bisected"):
        assign_frames(time, steps, 0.5)


@pytest.mark.parametrize(
    ("time", "steps"),
    [
        (np.array([0.0, 2.0, 1.0, 3.0]), np.array([0.0, 1.0])),
        (np.array([0, 1, 2, 3]), np.array([0, 1])),
        (np.array([0, 1, 2, 3], np.uint8), np.array([0, 1], np.uint8)),
    ],
    ids=["unsorted", "integers", "unsigned"],
)
def test_other_axes_are_not_bisected(no_bisection, time, steps):
    check(time, steps, steps, 1.0, length=2)


@pytest.mark.parametrize("answer", [0, 1, 123_456, 999_999, 1_000_000])
def test_bisection_asks_few_questions(answer):
    asked = 0

    def test(index):
        nonlocal asked
        asked += 1
        return index >= answer

    found = windows._first_true(test, 1_000_000, 2)
    np.testing.assert_array_equal(found, [answer, answer])
    assert asked <= 20


# Steps


@examples(100)
@given(st.floats(0, 30), SECONDS, st.sampled_from([np.float64, np.float32, np.float16]))
def test_a_step_every_split_time(duration, split_time, dtype):
    time = np.array([0, duration], dtype)
    expected = np.arange(0, time[-1] - time[0], split_time) if time[-1] > 0 else np.zeros(1)
    np.testing.assert_array_equal(step_times(time, split_time), expected, strict=True)


@pytest.mark.parametrize("seconds", [[0.0], [0.0, 0.0], [0.0, 5.0, -1.0], [0, 0]])
def test_one_step_where_no_time_passes(seconds):
    steps = step_times(np.array(seconds), 0.5)
    np.testing.assert_array_equal(steps, [0.0], strict=True)


# The time axis


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, np.int32, np.uint64])
@pytest.mark.parametrize("later", [[], [999.1]], ids=["sorted", "unsorted"])
def test_time_is_shifted_in_its_own_dtype(dtype, later):
    stored = np.array([1000.1, 1000.7, 1003.9, *later]).astype(dtype)
    before = stored.copy()
    axis = time_axis(len(stored), time=stored)
    shifted = stored - stored[0]
    if later and dtype == np.uint64:  # which would have wrapped around
        shifted = np.array([0, 0, 3, -1])
    np.testing.assert_array_equal(axis, shifted, strict=True)
    np.testing.assert_array_equal(stored, before)


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8"])
@pytest.mark.parametrize("values", [[100, 101, 3, 4], [3, 4, 100, 101], [-100, -99, 100, 101]])
def test_whole_numbers_do_not_wrap_around(dtype, values):
    if min(values) < 0 and dtype.startswith("u"):
        values = [value + 128 for value in values]
    axis = time_axis(4, time=np.array(values, dtype))
    assert axis.tolist() == [value - values[0] for value in values]


def test_a_counter_that_begins_anew_is_told(warned):
    counter = np.r_[np.arange(1000, 1300), np.arange(300)].astype(np.uint32)
    compute_background(np.full((600, 5, 6), 9, np.uint8), counter, kernel_size=2)
    assert any("time falls at frame 300" in text for text in warned())


MOMENTS = np.datetime64("2024-01-01T00:00:00", "ns") + (
    np.array([0, 500, 2250]) * 1_000_000
).astype("m8[ns]")


@pytest.mark.parametrize(
    "time",
    [
        MOMENTS,
        MOMENTS.astype("M8[ms]"),
        MOMENTS - MOMENTS[0],
        pandas.DatetimeIndex(MOMENTS),
        pandas.DatetimeIndex(MOMENTS, tz="Europe/Berlin"),
        pandas.Series(MOMENTS),
        pandas.TimedeltaIndex(MOMENTS - MOMENTS[0]),
        xarray.DataArray(MOMENTS, dims="time"),
        [moment.item() for moment in MOMENTS.astype("M8[us]")],
        [moment.item() for moment in (MOMENTS - MOMENTS[1]).astype("m8[us]")],
    ],
    ids=lambda time: type(time).__name__,
)
def test_dates_become_seconds(time):
    np.testing.assert_array_equal(time_axis(3, time=time), [0.0, 0.5, 2.25], strict=True)


def test_a_frame_without_a_date_is_named():
    time = MOMENTS.copy()
    time[1] = "NaT"
    with pytest.raises(ValueError, match=r"^axis: is nan at frame 1; it must be finite$"):
        time_axis(3, time=time, label="axis")


def test_times_that_are_too_coarse_are_told_with_the_numbers(warned):
    frames = np.full((1800, 5, 6), 9, np.uint8)
    seconds = 1.7e9 + np.arange(1800)
    compute_background(frames, seconds.astype(np.float32))
    (text,) = warned()
    assert text.startswith("1800 frames have only 15 different times, 128 s apart: too coarse for")
    assert "float32" in text
    compute_background(frames, seconds)
    compute_background(frames, np.arange(1800, dtype=np.float32) / 3000)
    compute_background(frames, np.repeat(np.arange(600) / 1000, 3))  # milliseconds at 3 kHz
    compute_background(frames, np.repeat([0, 0.1, 70, 70.1], 450), split_time=100)
    assert len(warned()) == 1


def test_time_comes_first():
    axis = time_axis(3, time=[5.0, 6.0, 8.0], frame=[1, 2, 3], frame_rate=10)
    np.testing.assert_array_equal(axis, [0.0, 1.0, 3.0])


@pytest.mark.parametrize("dtype", [np.uint64, np.int64, np.float64])
@pytest.mark.parametrize("rate", [3000.3, np.float64(3000.3), np.array([3000.3]), np.array(3000.3)])
def test_frame_numbers_and_rate_make_time(rate, dtype):
    frame = np.array([1001, 1002, 1010, 5000], dtype)
    expected = frame / 3000.3
    expected = expected - expected[0]
    np.testing.assert_array_equal(time_axis(4, frame=frame, frame_rate=rate), expected, strict=True)


@pytest.mark.parametrize("rate", [200, 200.0, np.float64(200), np.array([200.0])])
def test_frame_rate_alone_suggests_a_duration(rate, caplog):
    caplog.set_level(logging.INFO)
    axis = time_axis(24000, frame_rate=rate)
    np.testing.assert_array_equal(axis, np.linspace(0, 24000 / 200 * 1.5, 24000), strict=True)
    assert caplog.messages == ["The frame rate suggests a duration of about 180.0 s"]


def test_frame_rate_keeps_its_rounding():
    rate = np.float32(1000.1)
    expected = np.linspace(0, 70 / rate * 1.5, 70)
    np.testing.assert_array_equal(time_axis(70, frame_rate=rate), expected, strict=True)


@pytest.mark.parametrize("frame", [None, [1, 2]])
def test_otherwise_the_duration_is_guessed(frame, warned):
    count = 432000
    axis = time_axis(count, frame=frame)
    np.testing.assert_array_equal(axis, np.linspace(0, count / 3600 * 1.5, count), strict=True)
    (message,) = warned()
    assert message.startswith("The times are unknown: 2400 frames per second are assumed")
    assert message.endswith("a duration of 180.0 s")


def test_a_known_time_is_not_spoken_of(caplog, warned):
    caplog.set_level(logging.DEBUG)
    time_axis(2, time=[1, 2], frame_rate=10)
    time_axis(2, frame=[1, 2], frame_rate=10)
    assert not caplog.messages
    assert not warned()


@pytest.mark.parametrize("name", ["time", "frame"])
@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1.0, 2.0], r"^axis: has shape \(2,\), but there are 3 frames$"),
        ([[1.0, 2.0, 3.0]], r"^axis: has shape \(1, 3\), but there are 3 frames$"),
        (1.0, r"^axis: has shape \(\), but there are 3 frames$"),
        ([1.0, np.nan, np.nan], r"^axis: is nan at frame 1; it must be finite$"),
        ([1.0, 2.0, -np.inf], r"^axis: is -inf at frame 2; it must be finite$"),
        ([np.inf, 2.0, np.nan], r"^axis: is inf at frame 0; it must be finite$"),
        (["a", "b", "c"], r"^axis: must hold numbers, but its dtype is <U1$"),
        ([True, False, True], r"^axis: must hold numbers, but its dtype is bool$"),
        ([1j, 2j, 3j], r"^axis: must hold numbers, but its dtype is complex128$"),
        ([None, 1, 2], r"^axis: must hold numbers, but its dtype is object$"),
    ],
)
def test_refuses_a_bad_axis(name, values, message):
    with pytest.raises(ValueError, match=message):
        time_axis(3, **{name: values}, frame_rate=10, label="axis")


@pytest.mark.parametrize(
    "rate",
    [0, -1.0, np.nan, np.inf, True, "100", [100, 200], np.array([]), 1j, [None]],
)
@pytest.mark.parametrize("frame", [None, [1, 2, 3]])
def test_refuses_a_bad_frame_rate(rate, frame):
    with pytest.raises(ValueError, match=r"^frame rate must be a number above 0 \(Hz\), got "):
        time_axis(3, frame=frame, frame_rate=rate)


def test_a_bad_frame_rate_does_not_matter_where_time_is_known():
    np.testing.assert_array_equal(time_axis(2, time=[1.0, 3.0], frame_rate=-5), [0, 2])


def test_a_bad_frame_rate_of_a_file_is_shown_as_a_number():
    with pytest.raises(ValueError, match=r"got -1\.0$"):
        time_axis(3, frame_rate=np.float64(-1))


def test_as_many_steps_as_there_can_be(monkeypatch):
    monkeypatch.setattr("sparsemed.method.windows.MOST_STEPS", 10)
    assert step_times(np.array([0.0, 5.0]), 0.5).tolist() == (np.arange(10) / 2).tolist()
    with pytest.raises(ValueError, match=r"raw: split_time 0\.5 s is too small .* of 5\.1 s"):
        step_times(np.array([0.0, 5.1]), 0.5, "raw")
