"""What is held of frames that come bit by bit, and for how long."""

import numpy as np
import pytest

from sparsemed.method import growing
from sparsemed.method.compute import plan
from sparsemed.method.growing import GrowingSeries
from sparsemed.parameters import Parameters

RNG = np.random.default_rng(0)


def series_of(kernel_size=10, split_time=1.0, shape=(4, 5), band_rows=20):
    return GrowingSeries(shape, np.dtype(np.uint8), kernel_size, split_time, band_rows, 1)


def random_frames(count, shape=(4, 5)):
    return RNG.integers(0, 256, (count, *shape), np.uint8)


def medians_of(series):
    planned = plan(series.time, Parameters(series._length, series._split_time))
    return np.asarray(series.found(planned.starts, planned.length).series)


def test_no_more_is_held_than_the_last_window(monkeypatch):
    monkeypatch.setattr(growing, "PIECE_BYTES", 20 * 7)
    series = series_of(kernel_size=10)
    ring = series._ring
    for start in range(0, 5000, 50):
        series.push(random_frames(50), np.arange(start, start + 50) / 20)
        assert len(series) - series._begin == 10
    assert series._ring is ring
    assert len(ring) == 17
    assert series.final == 250


def test_of_a_frame_that_was_dealt_with_only_time_and_brightness_are_kept():
    series = series_of()
    series.push(random_frames(1000), np.arange(1000) / 100)
    assert series._entry.itemsize == 16
    assert len(series._log) == 16_000
    without = series_of(band_rows=None)
    without.push(random_frames(1000), np.arange(1000) / 100)
    assert len(without._log) == 8000


def test_a_window_is_final_with_its_last_frame():
    series = series_of(kernel_size=10)
    times = np.arange(60) / 20
    frames = random_frames(60)
    final = [series.push(frames[i : i + 1], times[i : i + 1]) for i in range(60)]
    # steps at 0, 1 and 2 s: frames 0, 20 and 40, and nine more
    assert [number for number, count in enumerate(final) if count] == [9, 29, 49]
    assert sum(final) == series.final == 3
    np.testing.assert_array_equal(series.median(1), np.sort(frames[20:30], axis=0)[5])
    assert series.latest is series.median(2)


def test_frames_at_the_same_time_are_held_as_the_first_of_them_may_be_the_nearest():
    series = series_of(kernel_size=10)
    frames = random_frames(450)
    times = np.concatenate([np.arange(20) / 20, np.full(400, 1.4), 1.7 + np.arange(30) / 20])
    series.push(frames[:420], times[:420])
    assert series._begin == 20
    # The step at 1 s is nearer to frame 19; the one at 2 s comes later.
    series.push(frames[420:], times[420:])
    assert len(series) - series._begin == 10
    whole = plan(times, Parameters(10, 1.0)).starts
    assert series._starts[: series.final] == whole[: series.final].tolist()


def test_times_that_rounding_takes_for_equal_are_held(monkeypatch):
    # To a step at 3e5 s, all of these frames are equally near, and the first counts.
    times = np.concatenate([np.arange(50) * 1e-13, [1.0, 6e5], 6e5 + 1.0 + np.arange(20)])
    frames = random_frames(len(times))
    series = series_of(kernel_size=3, split_time=3e5)
    for number in range(len(times)):
        series.push(frames[number : number + 1], times[number : number + 1])
        if number < 50:
            assert series._begin == 0
    expected = plan(times, Parameters(3, 3e5)).starts
    assert series._starts[: series.final] == expected[: series.final].tolist()
    assert series.final == 3


@pytest.mark.parametrize("split_time", [0.3, np.float32(0.3), 0.1, 1 / 3])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_a_step_that_rounding_hides_for_a_while_finds_its_frame(split_time, dtype):
    # There are as many steps as times hold multiples of split_time, rounded to their precision. So
    # a step may be counted only some frames after its time, though frames before it are nearer.
    for number in range(1, 60):
        at = dtype(number * float(split_time))
        beside = [np.nextafter(at, dtype(0)), at, np.nextafter(at, dtype(99))]
        times = np.repeat(np.array([0, *beside, at + dtype(9)], dtype), [1, 2, 5, 9, 5])
        series = series_of(kernel_size=2, split_time=split_time)
        frames = random_frames(len(times))
        for place in range(len(times)):
            series.push(frames[place : place + 1], times[place : place + 1])
        expected = plan(times, Parameters(2, split_time)).starts
        assert series._starts[: series.final] == expected[: series.final].tolist()
        assert series.final > 0


def test_four_windows_can_be_held_however_large_frames_are(monkeypatch):
    monkeypatch.setattr(growing, "HELD_BYTES", 1)
    series = series_of(kernel_size=10)
    frames = random_frames(41)
    series.push(frames[:40], np.zeros(40))
    with pytest.raises(ValueError, match="at most 40 can be held"):
        series.push(frames[40:], np.zeros(1))


def test_time_that_stands_still_is_bounded_and_the_portion_is_refused_whole(monkeypatch):
    monkeypatch.setattr(growing, "HELD_BYTES", 20 * 100)
    monkeypatch.setattr(growing, "PIECE_BYTES", 20 * 16)
    series = series_of(kernel_size=10)
    frames = random_frames(400)
    series.push(frames[:90], np.zeros(90))
    what = r"frame 100 have the same time, 0.0 s after .* at most 100 can be held"
    with pytest.raises(ValueError, match=what):
        series.push(frames[90:120], np.zeros(30))
    assert len(series) == 90
    series.push(frames[90:100], np.zeros(10))
    with pytest.raises(ValueError, match="stand still"):
        series.push(frames[100:101], np.zeros(1))
    np.testing.assert_array_equal(medians_of(series)[0], np.sort(frames[:100], axis=0)[50])
    series.push(frames[100:140], 1 + np.arange(40) / 20)  # it goes on
    assert len(series) - series._begin == 10
    # And it may stand still again, within a portion.
    with pytest.raises(ValueError, match="frame 260 have the same time"):
        series.push(frames[140:300], np.concatenate([np.full(20, 3.5), np.full(140, 4.0)]))
    series.push(frames[140:180], np.repeat([3.5, 4.0], 20))
    assert len(series) == 180


def test_all_frames_so_far_count_for_the_largest_number(monkeypatch):
    monkeypatch.setattr(growing, "MOST_FRAMES", 100)
    series = series_of()
    for start in (0, 50):
        series.push(random_frames(50), np.arange(start, start + 50) / 20)
    with pytest.raises(ValueError, match="no more than 100"):
        series.push(random_frames(1), np.array([5.0]))
    assert len(series) == 100


def test_windows_that_turn_out_to_be_others_are_an_error():
    series = series_of()
    series.push(random_frames(100), np.arange(100) / 20)
    with pytest.raises(RuntimeError, match="differ from those of the whole time axis"):
        series.found(np.array([1, 20, 40, 60, 80]), 10)


@pytest.mark.parametrize("where", ["before a median", "between a median and its place"])
def test_what_a_signal_interrupts_goes_on_with_the_next_portion(monkeypatch, where):
    frames, times = random_frames(200), np.arange(200) / 20
    whole = series_of()
    whole.push(frames, times)
    calls = [0]

    def interrupt():
        calls[0] += 1
        if calls[0] in (1, 3):
            raise KeyboardInterrupt

    def interrupted(self, *args):
        interrupt()
        return select(self, *args)

    class Interrupted(dict):
        def __setitem__(self, start, number):
            interrupt()
            super().__setitem__(start, number)

    select = GrowingSeries._select
    series = series_of()
    if where == "before a median":
        monkeypatch.setattr(GrowingSeries, "_select", interrupted)
    else:
        series._place = Interrupted()
    for start in range(0, 200, 25):
        part = slice(start, start + 25)
        try:
            series.push(frames[part], times[part])
        except KeyboardInterrupt:
            assert len(series) == start + 25
    assert calls[0] > 3
    assert series.final == whole.final
    np.testing.assert_array_equal(medians_of(series), medians_of(whole))


def test_a_single_window_begins_where_the_last_one_ended(monkeypatch):
    given = []

    def watched(frames, rows, starts, length, images, num_cpus, done=0):
        given.append((done, None if not done else images[done - 1].copy()))
        return median_images(frames, rows, starts, length, images, num_cpus, done)

    median_images = growing.median_images
    monkeypatch.setattr(growing, "median_images", watched)
    series = series_of()
    frames = random_frames(60)
    for number in range(60):
        series.push(frames[number : number + 1], np.array([number / 20]))
    assert [done for done, _ in given] == [0, 1, 1]
    np.testing.assert_array_equal(given[1][1], series.median(0))
    np.testing.assert_array_equal(given[2][1], series.median(1))
