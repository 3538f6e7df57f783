"""Both sides of each limit: what is just below, at and just above it, as the limit is named.

Findings are taken from a made-up view that has what they ask for, so that nothing is computed.
"""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from sparsemed import compute_background
from sparsemed.parameters import Parameters
from sparsemed.quality import (
    Sample,
    advice,
    cells,
    change,
    cure,
    lamp,
    left,
    light,
    noise,
    question,
    trying,
    verdict,
)
from sparsemed.quality import view as views
from sparsemed.quality.excerpt import Excerpt
from sparsemed.quality.finding import (
    CANNOT_TELL,
    EXPLAINS,
    GOOD,
    LIMIT,
    LOOK_HERE,
    Cure,
    Finding,
    judge,
    overall,
)
from sparsemed.quality.sample import LEAST_FRAMES
from sparsemed.quality.trials import HELPS, Trial, _windows, left_by_settings, try_settings
from sparsemed.quality.view import LEAST_WINDOWS, PLACES, View

BELOW, AT, ABOVE = 1 - 1e-6, 1, 1 + 1e-6


def around(limit):
    """Return values just below, at and just above a limit."""
    return limit * BELOW, limit, limit * ABOVE


class Frames:
    """A background of which no more is known than is said."""

    def __init__(self, count=1000, **known):
        self.count = count
        self.parameters, self.source, self.stack = Parameters(), None, None
        self.offsets, self.offset_rows, self.is_loaded = None, 20, False
        self.images = np.zeros((1, 44, 50), np.uint8)
        self.__dict__.update(known)

    def __len__(self):
        return self.count


def seen(**known):
    """Return a view of a channel of which nothing is left, unless other things are known."""
    usual = {
        "is_sampled": True,
        "sample": SimpleNamespace(numbers=np.arange(96)),
        "background": Frames(),
        "cure": None,
        "shorter": None,
        "is_channel": True,
        "has_wall": True,
        "wall": "wall",
        "lamp": "lamp",
        "cells": "cells" if known.get("is_channel", True) else "objects",
        "knows_windows": True,
        "length": 100,
        "noise": 0.0,
        "scale": 1.0,
        "grid": 1,
        "middle": slice(None),
        "rows": slice(None),
        "apart": np.arange(8),
        "covered": 0.0,
        "covered_then": 0.0,
        "left": SimpleNamespace(size=0.0, noise=0.1),
    }
    return SimpleNamespace(**usual | known)


def left_of(size):
    return SimpleNamespace(size=size, noise=0.1)


def goods(function, cases, *args):
    return [function(case, *args).is_good for case in cases]


# cells ---------------------------------------------------------------------------------------


def test_cells_are_crowded_above_a_share():
    assert goods(cells.crowd, [seen(covered=share) for share in around(cells.CROWDED)]) == [
        True,
        True,
        False,
    ]
    assert cells.crowd(seen(is_sampled=False)) is None
    words = [cells.crowd(seen(covered=0.9, is_channel=each)).advice for each in (True, False)]
    assert ["Cells" in words[0], "Objects" in words[1]] == [True, True]
    assert "cell" not in str(cells.crowd(seen(covered=0.9, is_channel=False))).lower()


def test_cells_are_crowded_where_they_explain_what_is_left():
    harm = float(cells.crowd(seen(covered=0.3, noise=1.0)).text.split("by ")[1].split()[0])
    assert harm == pytest.approx(3 * 0.566, rel=0.01)  # the normal quantile of 0.5 / 0.7
    size = 10.0
    assert size > advice.MOST_LEFT
    cases = [
        seen(covered=0.3, noise=EXPLAINS * size / (3 * 0.5659488) * by, left=left_of(size))
        for by in (0.99, 1.01)
    ]
    assert goods(cells.crowd, cases) == [True, False]
    assert cells.crowd(seen(covered=0.3, noise=5, left=left_of(advice.MOST_LEFT))).is_good


def test_cells_are_crowded_while_something_is_left():
    cases = [seen(left=left_of(9), covered_then=share) for share in around(cells.CROWDED_THEN)]
    assert goods(cells.crowd, cases) == [True, True, False]
    assert "50 % of the frames of which something is left;" in (
        cells.crowd(seen(left=left_of(9), covered_then=0.5)).text
    )
    assert cells.crowd(seen(covered=0.4, covered_then=0.9)).is_good


def test_cells_are_counted_in_frames_of_which_something_is_left():
    off = np.random.default_rng(0).random((100, 10, 400)) < 0.02
    off[20:30] = np.random.default_rng(1).random((10, 10, 400)) < 0.6

    def then(wrong):
        course = np.zeros(100)
        course[wrong] = 1.01 * advice.MOST_LEFT
        view = View(Frames(), None)
        view.__dict__.update(left=SimpleNamespace(off=off, course=course), grid=9)
        return view.covered_then

    assert then(slice(20, 30)) > 5 * then(slice(50, 60)) > 0
    assert [then(slice(20, 20 + count)) > 0 for count in (views.LEAST_PAIRS, 4)] == [False, True]
    at = round(100 * views.MOST_OF_TIME)
    assert [then(slice(count)) > 0 for count in (at - 1, at)] == [True, False]


def streaked(monkeypatch, count, some, places=None, cause="", passes=9.0, left=0.0):
    """Judge so many images, of which some have streaks at a number of 1000 places."""
    shown = np.zeros((count, 10, 100), bool)
    places = round(2000 * cells.STREAKED_PLACES) if places is None else places
    shown.reshape(count, 1000)[:some, :places] = True
    monkeypatch.setattr(cells, "passing", lambda *_: shown)
    monkeypatch.setattr(cells, "what_passes", lambda *_: passes)
    return cells.streaks(seen(apart=np.arange(count), left=left_of(left)), cause)


def test_an_image_has_streaks_above_a_share_of_its_places(monkeypatch):
    at = round(1000 * cells.STREAKED_PLACES)
    assert [streaked(monkeypatch, 8, 4, places).value for places in (at, at + 1)] == [0, 0.5]


def test_images_may_have_streaks_up_to_a_share_and_one_of_many_may(monkeypatch):
    at = round(40 * cells.STREAKED_IMAGES)
    cases = [(40, at), (40, at + 1), (40 // at - 1, 1), (2 * (40 // at) - 1, 2)]
    found = [streaked(monkeypatch, *case).is_good for case in cases]
    assert found == [True, False, True, False]
    at = round(1 / cells.ONE_IMAGE)
    assert [streaked(monkeypatch, count, 1).is_good for count in (at, at - 1)] == [True, False]
    assert streaked(monkeypatch, 4, 4, cause="See that.").advice == "See that."
    assert streaked(monkeypatch, 4, 0, cause="See that.").is_good


def test_streaks_matter_if_something_passes_or_is_left(monkeypatch):
    at, more = cells.MOST_PASSED, advice.MOST_LEFT + 0.01
    cases = [(at, 0.0), (at + 0.01, 0.0), (at, more)]
    found = [streaked(monkeypatch, 8, 4, passes=passes, left=left) for passes, left in cases]
    assert [each.is_good for each in found] == [True, False, False]


def test_two_windows_tell_nothing_of_streaks(monkeypatch):
    assert streaked(monkeypatch, LEAST_WINDOWS, 0) is not None
    assert streaked(monkeypatch, LEAST_WINDOWS - 1, 0) is None


def rippled(ripple, size, rows=10, columns=3):
    """Return a view of 6 images: all of one is up by a ripple, a part of another by a size."""
    series = np.zeros((6, 20, 10), np.float32)
    series[1] = ripple
    series[3, :rows, :columns] = size
    return seen(series=series)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("ripple", [0.01, 0.5])
def test_what_passes_is_more_than_usual(ripple, sign):
    limit = max(LIMIT, 6 * 1.4826 * ripple)
    for by, count in ((0.99, 0), (1.01, 30)):
        shown = cells.passing(rippled(sign * ripple, sign * by * limit))
        assert np.count_nonzero(shown) == count


def test_what_fills_a_row_does_not_pass():
    at = round(10 * cells.FULL_ROW)
    counts = [np.count_nonzero(cells.passing(rippled(0.01, 9, 20, k))) for k in (at - 1, at)]
    assert counts == [20 * (at - 1), 0]


def test_what_lasts_to_the_next_image_does_not_pass():
    case = rippled(0.01, 9)
    case.series[4:] = case.series[3]  # for good
    assert not cells.passing(case).any()


def test_what_passes_is_told_in_grey_values():
    def passed(places, columns=3, height=3.0):
        series = np.zeros((2 * len(places) + 3, 20, 30), np.float32)
        for number, place in enumerate(places, 1):
            series[2 * number, :, place : place + columns] = height
        return cells.what_passes(seen(series=series))

    assert passed([0, 5, 10, 15, 20]) == 3
    assert passed([5, 6, 5, 7, 5]) == 3
    assert passed([5, 5, 6, 5, 5]) == 0  # in one place
    assert passed([0, 2, 4, 6, 8], columns=22) == 0  # all of the picture
    assert passed([0, 5, 10, 15, 20], height=0.9 * LIMIT) == 0


def test_a_row_that_is_full_does_not_pass_wherever_it_is():
    series = np.zeros((13, 20, 30), np.float32)
    for number in range(1, 6):
        series[2 * number, 3 * number : 3 * number + 3] = 3
    assert cells.what_passes(seen(series=series)) == 0
    series[:, :, 15:] = 0
    assert cells.what_passes(seen(series=series)) == 3


def test_objects_with_gaps_pass_although_their_skirts_fill_a_row():
    series = np.zeros((13, 20, 30), np.float32)
    for number in range(1, 12, 2):
        rows = slice(number, number + 3)
        series[number, rows] = 0.45 * 30
        for begin in range(number // 2, 30, 10):
            series[number, rows, begin : begin + 5] = 30
    assert cells.what_passes(seen(series=series)) == 30
    series[series > 0] = 30
    assert cells.what_passes(seen(series=series)) == 0


def test_where_most_of_a_picture_is_unusual_nothing_passes():
    rng = np.random.default_rng(0)
    for share, is_told in ((0.8, True), (1.4, False)):
        series = np.zeros((9, 20, 50), np.float32)
        series[rng.random(series.shape) < share * cells.MOST_PASSING] = 9
        assert (cells.what_passes(seen(series=series)) > 0) == is_told


def dropped(kept):
    times = np.arange(len(kept)) / 10
    known = Frames(kept=np.array(kept, bool), step_times=times)
    return cells.dropped(seen(background=known))


def test_images_dropped_in_a_row_are_told_from_chance():
    run = cells.BY_CHANCE
    few = dropped([1, *[0] * run, 1, 1, 1, 1])
    assert f"spread over the measurement ({run} in a row at most)" in few.text
    assert few.value == run / (run + 5)
    # of four, chance makes runs of two
    assert f"({run} in a row at most)" in dropped([1, *[0] * run]).text
    row = dropped([1] * 40 + [0] * (run + 1) + [1] * 50)
    assert f"; {run + 1} of them in a row, from 4 to {4 + run / 10:.4g} s" in row.text
    # half of 1000 at random: runs of 2 + log2(500) = 10.97 are no surprise
    half = [[1, 0] * 495 + [1] * 10 + [0] * n for n in (10, 11)]
    assert ["of them in a row" in dropped(each).text for each in half] == [False, True]
    assert cells.dropped(seen(background=Frames(is_loaded=True))) is None


# change --------------------------------------------------------------------------------------


def test_images_that_differ_by_their_grain_show_nothing():
    scatter = np.array([[-1.0, 1.0]])  # its standard deviation is 1
    grain = 2.5 * 2 / np.sqrt(100)
    cases = [seen(noise=2, below=[change.BLANK * grain * by * scatter]) for by in (0.999, 1.001)]
    assert [change.shows_nothing(case) for case in cases] == [True, False]
    assert not change.shows_nothing(seen(noise=0.04, below=[0 * scatter]))
    assert change.shows_nothing(seen(noise=0.06, below=[0 * scatter]))
    assert not change.shows_nothing(seen(is_sampled=False))


def enough(frames, length, **known):
    view = seen(background=Frames(frames), length=length, noise=0.1, below=[np.eye(9)], **known)
    return change.enough(view)


def test_three_windows_are_enough():
    assert enough(LEAST_WINDOWS * 100, 100).verdict == GOOD
    few = enough(LEAST_WINDOWS * 100 - 1, 100)
    assert (few.verdict, few.value) == (CANNOT_TELL, LEAST_WINDOWS - 1)


def test_shorter_windows_are_advised_only_if_they_were_tried():
    least = advice.SHORTEST * (LEAST_WINDOWS + 1)

    def said(cure, frames=least):
        return enough(frames, frames // 2, shorter=cure).advice.split("compared: ")[1]

    assert said(None) == f"measure for longer, or take shorter windows. {advice.TRY}"
    assert said(None, least - 1) == "measure for longer."
    assert said(Cure("kernel_size=25", 0.4, 0.3, 9)) == (
        "kernel_size=25. Tried on a part of the frames, this leaves 0.4 grey values instead of 0.3."
    )
    assert said(Cure("", 8, 1, 9)) == (
        "measure for longer. (Shorter ones were tried, and leave 8 grey values.)"
    )
    assert said(Cure("kernel_size=90", 0.4, 5, 9, is_judged=False)) == "measure for longer."


def test_few_windows_are_those_that_nothing_else_keeps_from_judging():
    few = {"background": Frames(250), "length": 100}
    assert change.has_few_windows(seen(**few))
    assert not change.has_few_windows(seen(**few | {"background": Frames(300)}))
    assert not change.has_few_windows(seen(**few, is_sampled=False))
    assert not change.has_few_windows(seen(**few, knows_windows=False))


def test_why_it_cannot_be_told():
    assert "give them" in enough(500, 50, sample=None, is_sampled=False).advice
    assert "500 frames are too few" in enough(500, 50, is_sampled=False).advice
    assert "does not tell from which frames" in enough(500, 50, knows_windows=False).advice
    blank = seen(background=Frames(500), length=50, noise=1, below=[np.zeros((9, 9))])
    assert "nothing but noise" in change.enough(blank).advice


def test_times_that_fall_are_told():
    found = change.order(Frames(time=np.array([0, 1, 0.5, 2, 1])))
    assert (found.value, found.is_good) == (2, False)
    assert change.order(Frames(time=np.array([0, 1, 1, 2]))) is None


def test_grain_counts_above_the_limit_and_takes_longer_windows():
    at = LIMIT * np.sqrt(100) / 2.5
    assert goods(change.grain, [seen(noise=by * at) for by in (0.999, 1.001)]) == [True, False]
    clean, not_clean = (
        change.grain(seen(noise=1.5 * at, left=left_of(size))).advice for size in (0, 9)
    )
    assert clean == "The noise of the camera remains in the images: kernel_size=225."
    assert "expose for longer" in not_clean
    assert change.grain(seen(is_sampled=False)) is None


def test_a_background_is_late_above_the_limit_and_its_grain(monkeypatch):
    series = np.zeros((5, 9, 9), np.float32)
    for camera in (0.0, 2.0):
        least = change.LATE + 1.5 * 2.5 * camera / np.sqrt(100)
        for by, size, is_good in ((0.999, 9, True), (1.001, 9, False), (1.001, 1, True)):
            monkeypatch.setattr(change, "lag", lambda *_, late=by * least: late)
            view = seen(series=series, noise=camera, left=left_of(size))
            found = change.change(view, "")
            assert (found.is_good, found.value) == (is_good, by * least)
    view = seen(series=series, is_sampled=False)
    monkeypatch.setattr(change, "lag", lambda *_: change.LATE * ABOVE)
    assert not change.change(view, "").is_good
    assert change.change(view, "See that.").advice == "See that."
    monkeypatch.setattr(change, "lag", lambda *_: change.LATE)
    assert change.change(view, "").is_good
    for by in (BELOW, ABOVE):
        monkeypatch.setattr(change, "lag", lambda *_, late=by * change.LAIN_DOWN: late)
        found = change.change(seen(series=series), "")
        assert found.is_good == (by == BELOW)
        assert by == BELOW or "slow cells" in found.advice
    few = np.arange(LEAST_WINDOWS - 1)
    assert change.change(seen(series=series, apart=few), "") is None


def test_backgrounds_are_late_by_what_changes_from_the_nearest_window():
    changed = np.arange(12) <= np.arange(10)[:, None, None] + np.zeros((1, 6, 1))
    series = (100 + 9 * changed).astype(np.float32)  # a column more in each image

    def late(by):
        known = Frames(
            100,
            series=series,
            kept=np.ones(10, bool),
            frame_index=np.clip(np.arange(100) // 10 - by, 0, 9),
        )
        view = seen(
            background=known,
            series=series,
            starts=10 * np.arange(10),
            length=9,
            places=lambda images: images,
        )
        return change.lag(view)

    assert late(0) == 0  # a frame in the last part of a window is nearest to its middle
    assert late(1) > 5
    assert change.lag(seen(knows_windows=False)) == 0


def lain(by=1.5, places=30, columns=10, edges=0, arrives=3):
    """Judge a change in the last images, by a part of the limit, at some of 2000 places."""
    series = np.zeros((6, 20, 100), np.float32)
    series[:] += edges * (np.arange(100) // 2 % 2)
    rows = -(-places // columns)
    series[arrives:, :rows, :columns].reshape(6 - arrives, -1)
    changed = np.zeros((20, 100), np.float32)
    changed[:rows, :columns].flat[:places] = change.LAIN_DOWN * by
    series[arrives:] += changed
    times = np.arange(60.0)
    view = seen(
        series=series,
        apart=np.arange(6) * 10,
        background=Frames(step_times=times),
        knows_windows=False,  # so that nothing is late
    )
    return change.change(view, "")


def test_what_has_come_to_lie_is_told_with_the_image_that_first_shows_it():
    for arrives in (2, 3, 4):
        assert f"at about {10 * arrives} s." in lain(arrives=arrives).advice
    assert [lain(by).is_good for by in (0.99, 1.01)] == [True, False]
    at = round(2000 * change.LAIN_PLACES)
    assert [lain(places=at + more).is_good for more in (0, 1)] == [True, False]
    at = round(100 * change.ALL_COLUMNS)
    assert [lain(places=4 * k, columns=k).is_good for k in (at - 1, at)] == [False, True]
    at = round(2000 * change.MOST_LAIN)
    assert [lain(places=n, columns=80).is_good for n in (at - 1, at)] == [False, True]
    assert lain(edges=20).is_good  # an edge that moves


@pytest.mark.parametrize("by", [0.99, 1.01])
def test_shaking_is_above_the_limit_and_what_is_left_and_late(monkeypatch, by):
    def shaken(value, late=0.0, size=0.0, everywhere=9.0, **known):
        pixels = value / (2 * 1.4826)
        course = np.zeros((96, 2))
        course[:, 0] = np.tile([pixels, -pixels, 0], 32)  # of which five have the median 0
        slopes = np.zeros((1, 2, 4, 4))
        slopes[:, 0] = 1
        usual = {"fit": course, "fixed": course} | known
        fits = {name: SimpleNamespace(shift=shift) for name, shift in usual.items()}
        monkeypatch.setattr(change, "lag", lambda *_: late)
        left = SimpleNamespace(size=size, pattern=np.full((96, 4, 4), everywhere, np.float32))
        return change.shake(seen(slopes=slopes, left=left, **fits))

    assert shaken(LIMIT * by).value == pytest.approx(LIMIT * by)
    assert shaken(LIMIT * by).is_good == (by < 1)
    assert shaken(4 * by, size=10).is_good == (by < 1)
    assert shaken(5 * by, late=5 / change.SHAKEN).is_good == (by < 1)
    assert shaken(9, fixed=np.zeros((96, 2))).value == 0
    assert shaken(9, fit=np.zeros((96, 2))).value == 0
    assert (shaken(8, everywhere=8 * EXPLAINS * by) is None) == (by < 1)


# lamp, light and noise -----------------------------------------------------------------------


def flickering(events, by=1.0, frames=200, scale=1, **known):
    """Judge the lamp by a sample of frames, some of which are off by a part of the limit."""
    walls = np.zeros((frames, 20, 2), np.float64)
    walls[:events] = by * lamp.FLICKER * scale
    below = Frames(images=np.zeros((1, 20, 2), np.uint8), frame_index=np.zeros(frames, np.intp))
    sample = Sample(np.arange(frames), walls)
    view = seen(background=below, sample=sample, scale=scale, is_sampled=False, **known)
    return lamp.flicker(view)


@pytest.mark.parametrize("scale", [1, 16])
def test_a_frame_flickers_from_the_limit_on(scale):
    found = [flickering(10, by, scale=scale).value for by in around(1)]
    assert found == [0, 10 / 200, 10 / 200]


def test_a_lamp_flickers_from_a_share_on():
    at = round(200 * lamp.FLICKER_SHARE)
    assert at / 200 == lamp.FLICKER_SHARE
    assert [flickering(count).is_good for count in (at - 1, at)] == [True, False]
    assert flickering(at, has_wall=False) is None
    offsets = np.zeros(1000)
    texts = []
    for count in (4, 5):
        offsets[:count] = lamp.FLICKER
        texts.append(lamp.flicker(seen(background=Frames(offsets=offsets))).text)
    assert texts == ["4 of 1000 frames (0.4 %)", "5 of 1000 frames (0.5 %), corrected by bg_off"]


def test_offsets_are_advised_for_flicker_unless_they_do_not_help(monkeypatch):
    def advised(without, **known):
        left = {False: without, True: 10.0}
        monkeypatch.setattr(lamp, "light_left", lambda _, with_offsets: left[with_offsets])
        view = seen(
            background=Frames(
                images=np.zeros((1, 20, 2), np.uint8), frame_index=np.zeros(4, np.intp)
            ),
            sample=Sample(np.arange(4), np.repeat([[[9.0]], [[0]], [[0]], [[0]]], 20, axis=1)),
            **known,
        )
        return lamp.flicker(view).advice

    harm = [advised(10 * each) for each in around(lamp.BETTER)]
    assert [each.endswith("offset_correction=True.") for each in harm] == [False, True, True]
    assert harm[0] == ""
    cures = [Cure(settings, 1, 5, 9) for settings in ("offset_correction=True", "kernel_size=50")]
    helps = ["offsets alone do not help" in advised(10, cure=cure) for cure in cures]
    assert helps == [False, True]


def test_drift_is_told_where_there_is_a_wall_and_a_time():
    def drifting(*levels, **known):
        walls = np.repeat(levels, 80).reshape(len(levels), 20, 4).astype(np.uint16)
        times = np.arange(float(len(levels)))
        return lamp.drift(seen(background=Frames(series=walls, step_times=times), **known))

    assert drifting(100, 101, 102).text == "+2 % of the brightness of the wall"
    assert drifting(100, 101, 102).value == pytest.approx(2 / 101)
    assert drifting(12500, 12501).text.startswith("+0.008 %")
    assert drifting(12501, 12500).text.startswith("−0.008 %")
    assert drifting(100).value == 0
    for name in ("has_wall", "knows_windows"):
        assert drifting(100, 101, **{name: False}) is None


def brightness(monkeypatch, value, size=0.0, rows=44, fast=0.0, otherwise=99.0, **known):
    """Judge the light that is left, with and without offsets; some of it is `everywhere`."""
    corrects = known.get("offsets") is not None
    parts = {corrects: value - fast, not corrects: otherwise - fast}
    monkeypatch.setattr(lamp, "light_left", lambda _, with_offsets: parts[with_offsets])
    monkeypatch.setattr(lamp, "blurred", lambda *_: fast)
    known = {"series": np.zeros((1, rows, 9))} | known
    is_channel, cause = known.pop("is_channel", True), known.pop("cause", "")
    pattern = np.full((96, 4, 4), known.pop("everywhere", value), np.float32)
    left = SimpleNamespace(size=size, noise=0.1, pattern=pattern)
    return lamp.channel(seen(background=Frames(**known), left=left, is_channel=is_channel), cause)


def test_light_may_be_left_up_to_the_limit_if_it_is_most_of_what_is_left(monkeypatch):
    at = lamp.MOST_LIGHT
    for fast in (0.0, 0.25):
        found = [brightness(monkeypatch, each, fast=fast) for each in around(at)]
        assert [each.is_good for each in found] == [True, True, False]
        assert [each.value for each in found] == pytest.approx(around(at), rel=1e-9)
    found = [brightness(monkeypatch, 5, size=5 / EXPLAINS * by) for by in (0.999, 1.001)]
    assert [each.is_good for each in found] == [False, True]
    assert brightness(monkeypatch, 5, rows=21) is not None
    assert brightness(monkeypatch, 5, rows=20) is None  # all of it is wall


def test_what_to_do_about_light(monkeypatch):
    offsets, late, fast = np.zeros(9), [0.0], [True]
    monkeypatch.setattr(lamp, "lag", lambda *_: late[0])
    monkeypatch.setattr(lamp, "is_fast", lambda *_: fast[0])

    def advised(by=1.0, **known):
        return brightness(monkeypatch, 10, otherwise=10 * lamp.BETTER * by, **known).advice

    assert "show more than the light" in advised(BELOW, offsets=offsets)
    assert "give the lamp a steady supply" in advised(offsets=offsets)
    assert "offset_correction=True" in advised(BELOW)
    assert "give the lamp a steady supply" in advised()
    assert "rows do not tell how" in advised(is_channel=False)
    late[0] = LIMIT
    assert "show more than the light" in advised(BELOW, offsets=offsets)
    late[0] = LIMIT * ABOVE
    assert "change with the rest" in advised(BELOW, offsets=offsets)
    fast[0] = False
    assert "offsets are not enough" in advised(offsets=offsets)
    late[0] = 0.0
    for everywhere, is_light in ((10 * EXPLAINS * BELOW, False), (10 * EXPLAINS, True)):
        for cause in ("", "See that."):
            assert bool(advised(offsets=offsets, everywhere=everywhere, cause=cause)) == is_light
    assert advised(offsets=offsets, cause="See that.") == "See that."
    assert "show more than the light" in advised(BELOW, offsets=offsets, everywhere=0)


def test_light_is_fast_if_no_window_follows_most_of_it():
    def is_fast(share):
        number = np.arange(6000)
        slow, rapid = np.sin(number * np.pi / 1500), (-1.0) ** number / np.sqrt(2)
        offsets = np.sqrt(1 - share**2) * slow + share * rapid
        known = Frames(6000, offsets=offsets, frame_index=np.zeros(6000, np.intp))
        return lamp.is_fast(seen(background=known))

    assert [is_fast(by * lamp.FAST) for by in (0.9, 1.1)] == [False, True]
    assert lamp.is_fast(seen(background=Frames()))


def test_black_and_white_pixels_count_in_patches_above_a_share():
    def patch(rows, columns, value=0, dtype=np.uint8):
        images = np.full((1, 100, 100), 90, dtype)
        images[0, 5 : 5 + rows, 5 : 5 + columns] = value
        return light.saturation(Frames(images=images))

    at = round(1000 * light.SATURATED)
    assert [patch(10, at).is_good, patch(10, at + 1).is_good] == [True, False]
    assert patch(10, 11).value == 110 / 10000  # a corner has three like it
    assert patch(1, 90).value == 0  # two like it
    assert patch(10, 11, 255).value == 110 / 10000
    assert patch(10, 11, 255, np.uint16).value == 0
    assert patch(10, 11, 1023, np.uint16).value == 110 / 10000


@pytest.mark.parametrize("scale", [1.0, 16.0])
def test_the_wall_is_noisy_above_so_many_times_the_noise_of_the_camera(monkeypatch, scale):
    floor = 2.0
    for by, is_good in zip((BELOW, AT, ABOVE), (True, True, False), strict=True):
        after = by * (noise.TIMES_FLOOR * floor + noise.ABOVE_FLOOR * scale)
        made = noise.WallNoise(np.array([9.0]), np.array([after]), floor)
        monkeypatch.setattr(noise, "wall_noise", lambda *_, made=made: made)
        assert noise.noise(seen(scale=scale), "").is_good == is_good
    assert noise.noise(seen(has_wall=False), "") is None
    assert noise.noise(seen(sample=None), "") is None


# what is left --------------------------------------------------------------------------------


def test_what_is_left_is_clean_up_to_the_limit():
    sizes = around(advice.MOST_LEFT)
    found = [question.is_clean(seen(left=left_of(size))) for size in sizes]
    assert found == [True, True, False]
    assert question.is_clean(seen(is_sampled=False))


def said_when(off):
    course = np.where(off, advice.MOST_LEFT * ABOVE, advice.MOST_LEFT)
    known = seen(
        background=Frames(time=np.arange(100.0)),
        sample=SimpleNamespace(numbers=np.arange(100)),
        left=SimpleNamespace(course=course),
    )
    return question.when(known)


def test_when_something_is_left():
    off = np.zeros(100, bool)
    off[:90] = True
    assert said_when(off) == "from 0 to 89 s"
    off[90] = True
    assert said_when(off) == "all the time"
    off[:60] = False
    assert said_when(off) == "from 60 to 90 s"
    off[[98, 99]] = True
    assert said_when(off) == "from 60 s on"
    off[65:75] = False
    assert said_when(off) == "in 23 of 100 frames, now and then"


def test_where_something_is_left():
    def said(rows, columns, size=9.0):
        shown = np.zeros((10, 20))
        shown[rows, columns] = size
        left = SimpleNamespace(course=np.array([0.0, 1.0]), map_of=lambda frame: shown * frame)
        return question.where(seen(left=left, rows=slice(3, None), grid=2))

    assert said(slice(0, 4), slice(2, 6)) == "in rows 8 to 14, columns 6 to 12"
    assert said(slice(0, 4), slice(0, 14)) == "in rows 8 to 14, columns 2 to 28"
    assert said(slice(0, 4), slice(0, 15)) == "in rows 8 to 14"
    assert said(slice(0, 4), slice(2, 6), advice.MOST_LEFT) == "at single places"


def made_left(**known):
    """Return what is left of frames at 8 × 10 places: nothing, but what is said."""
    frames = len(known.get("light", range(10)))
    names = [field.name for field in dataclasses.fields(left.Left)]
    usual = {name: np.zeros((frames, 8, 10), np.float32) for name in names}
    usual |= {name: np.zeros((8, 10), np.float32) for name in ("steady", "restless")}
    usual |= {"spells": np.zeros((0, 8, 10)), "begins": np.zeros(0, np.intp)}
    usual["ends"] = usual["begins"]
    return left.Left(**usual | {"noise": 0.1, "covered": 0.0} | known)


def test_all_ways_in_which_something_is_left_count():
    ones = np.ones((10, 8, 10), np.float32)
    course = made_left(
        spells=5 * ones[:2],
        begins=np.array([1, 3]),
        ends=np.array([5, 7]),
        steady=2 * ones[0],
        pattern=3 * ones,
    ).course
    assert course.tolist() == [3, 5, 5, 5, 5, 5, 5, 3, 3, 3]
    for name in ("light", "pattern"):
        assert made_left(**{name: ones}).size == 1
    for name in ("steady", "restless"):
        assert made_left(**{name: -ones[0]}).size == 1


def test_a_share_of_places_and_of_frames_counts():
    at = round(4000 * left.PLACES_OFF)
    for places, size in ((at - 1, 0), (at + 1, 1)):
        steady = np.zeros((1, 4000))
        steady[:, :places] = 1
        assert made_left(steady=steady, restless=0 * steady).size == size
    at = round(100 * left.FRAMES_OFF)
    for frames, size in ((at - 1, 0), (at + 1, 1)):
        light = np.zeros((100, 8, 10), np.float32)
        light[:frames] = 1
        assert made_left(light=light).size == size


# advice, and the verdict as a whole ----------------------------------------------------------


def test_what_was_tried_is_said_with_what_it_leaves():
    def said(cure):
        return advice.advise(seen(cure=cure), "It moves", "hold it", "kernel_size=50")

    assert said(None) == "It moves: kernel_size=50."
    assert advice.advise(seen(), "It moves", "hold it") == f"It moves: hold it. {advice.TRY}"
    for rest, still in ((advice.MOST_LEFT, ""), (1.3, ", which is still too much")):
        assert said(Cure("kernel_size=25", rest, 5, 9)) == (
            "It moves: kernel_size=25. Tried on a part of the frames, this leaves "
            f"{rest} grey values instead of 5{still}. If that is not enough, hold it."
        )
    assert (
        "instead of 5. Such windows fit only twice into the measurement, which is too few to be "
        "sure. If"
    ) in said(Cure("kernel_size=500", 1, 5, 9, is_judged=False))
    assert said(Cure("", 4, 5, 9)) == (
        "It moves, and no parameter helps: hold it. (9 settings were tried.)"
    )


def test_longer_windows_are_at_least_a_quarter_longer():
    for frames, said in ((500, "kernel_size=125"), (499, "no parameter helps")):
        assert advice.longer(seen(background=Frames(frames)), 3).startswith(said)
    assert advice.longer(seen(background=Frames(4000)), 3) == "kernel_size=300"


def trials(*lefts):
    changed = [{}, {"kernel_size": 50}, {"kernel_size": 25, "frac_cleansing": 1.0}]
    return [
        Trial(dataclasses.replace(Parameters(), **each), left)
        for each, left in zip(changed, lefts, strict=False)
    ]


def advised(now, trials, share=HELPS):
    """Return what is told of trials."""
    return cure.told(now, trials, cure._choose(now, trials, share))


def test_settings_are_advised_that_help_by_a_share_and_by_enough():
    def chosen(*lefts):
        return advised(Parameters(), trials(*lefts)).settings

    assert [chosen(10, 10 * by) for by in around(HELPS)] == ["kernel_size=50"] * 2 + [""]
    share = trying.HELPS_RESTLESS
    restless = [advised(Parameters(), trials(10, 10 * by), share) for by in around(share)]
    assert [each.settings for each in restless] == ["kernel_size=50"] * 2 + [""]
    assert [chosen(0.5, 0.2 * by) for by in (0.99, 1.01)] == ["kernel_size=50", ""]
    assert [chosen(9, 4.0, 4 / 1.15 * by) for by in (1.001, 0.999)] == [
        "kernel_size=50",
        "kernel_size=25, frac_cleansing=1",
    ]
    assert [chosen(9, 0.5, left) for left in (0.41, 0.39)] == [
        "kernel_size=50",
        "kernel_size=25, frac_cleansing=1",
    ]


def test_settings_that_cannot_be_judged_are_a_last_resort():
    now, judged, long = (Parameters(kernel_size=each) for each in (200, 250, 500))

    def chosen(before, least, last):
        trials = [Trial(now, before), Trial(judged, least)]
        return advised(now, [*trials, Trial(long, last, is_judged=False)])

    limit = advice.MOST_LEFT
    for least, last, size in (
        (limit * AT, 0.1, 250),
        (limit * ABOVE, 0.1, 500),
        (4, 4 * HELPS * AT, 500),
        (4, 4 * HELPS * ABOVE, 250),
    ):
        found = chosen(9, least, last)
        assert (found.settings, found.is_judged) == (f"kernel_size={size}", size == 250)
    assert chosen(4, 4, 3.5) == Cure("", 4, 4, 3)


def test_settings_that_can_be_judged_are_advised_if_they_are_good():
    now, half, short = (Parameters(kernel_size=each) for each in (500, 250, advice.SHORTEST))

    def chosen(before, *lefts, others=(half, short)):
        trials = [Trial(each, left) for each, left in zip(others, lefts, strict=False)]
        return advised(now, [Trial(now, before, is_judged=False), *trials])

    limit = advice.MOST_LEFT
    for before in (0.3, 1.4):
        assert chosen(before, limit * AT, 9).settings == "kernel_size=250"
        assert chosen(before, 9, limit * AT).settings == "kernel_size=25"
        assert chosen(before, limit * ABOVE, 9) == Cure("", limit * ABOVE, before, 3)
    assert chosen(0.3, 0.3, 0.1).settings == "kernel_size=250"  # the longest
    assert chosen(9, 8, 3).settings == "kernel_size=25"  # much less
    assert chosen(0.3, 0.3, others=[Parameters(kernel_size=advice.SHORTEST - 1)]).settings == ""
    moved = [Parameters(kernel_size=400, split_time=2), half]
    assert chosen(0.3, 0.3, 0.3, others=moved).settings == "kernel_size=250"  # fewest changes


def test_settings_are_judged_again_at_all_places_before_they_are_advised():
    now, *others = (Parameters(kernel_size=each) for each in (200, 25, 50, 100, 150, 180))
    coarse = dict(zip([now, *others], (9, 1, 2, 3, 4, 5), strict=True))
    asked, is_judged = [], {}

    def confirmed(lefts):
        """Return the settings chosen, with those that leave so much at all places."""
        asked.clear()

        def left_by(parameters, places):
            assert places == PLACES
            asked.append(parameters.kernel_size)
            return lefts.get(parameters.kernel_size, 9)

        trials = [
            Trial(each, size, is_judged.get(each.kernel_size, True))
            for each, size in coarse.items()
        ]
        chosen, trials = cure.confirm(now, trials, HELPS, left_by)
        return cure.told(now, trials, chosen)

    assert confirmed({25: 1.1, 200: 7}) == Cure("kernel_size=25", 1.1, 7, 6)
    assert asked == [200, 25]
    assert confirmed({25: 7.8}) == Cure("kernel_size=25", 7.8, 9, 6)  # still a little less
    assert confirmed({25: 7.9, 50: 2}) == Cure("kernel_size=50", 2, 9, 6)
    assert confirmed({50: 2.1}) == Cure("kernel_size=50", 2.1, 9, 6)
    assert asked == [200, 25, 50]
    assert confirmed({150: 4}) == Cure("kernel_size=150", 4, 9, 6)
    assert confirmed({180: 5}).settings == ""  # after `MOST_CHECKS` others
    coarse = {now: 9, others[0]: 1.3}
    is_judged = {25: False}
    for by in around(HELPS):
        assert confirmed({25: 9 * by}).settings == ("kernel_size=25" if by <= HELPS else "")


@pytest.mark.parametrize(
    ("keys", "has_few", "is_long", "is_tried"),
    [
        ((), False, True, False),
        (("left",), False, True, True),
        (("streaks",), False, True, True),
        (("change", "noise"), False, True, True),
        (("noise", "saturation"), False, True, False),
        (("left", "windows"), False, True, False),  # nothing to compare with
        (("left", "windows"), True, False, True),
        (("windows",), True, True, True),
        (("windows",), True, False, False),
        (("left", "order"), False, True, False),
        (("windows", "order"), True, True, False),
    ],
)
def test_settings_are_tried_only_for_what_they_may_mend(keys, has_few, is_long, is_tried):
    findings = (
        *(judge(key, "", 1, "", "", "Do.") for key in keys),
        judge("left", "", 1, "", "", ""),
    )
    assert trying._may_be_cured(findings, has_few, is_long) == is_tried


def test_later_findings_refer_to_the_first_cause():
    for key in ("crowd", "shake", "grain", "channel", "streaks", "change"):
        others = [None, judge("noise", "Noise", 1, "", "", "Do.")]
        found = [*others, judge(key, "It", 1, "", "", "Do.")]
        assert verdict._see(found) == "See “It”."
        assert verdict._see([judge(key, "It", 1, "", "", "")]) == ""


def test_one_finding_to_look_at_decides():
    def finding(kind):
        return Finding("", "", 0, "", kind, "", "")

    for others, expected in (
        ([], GOOD),
        ([CANNOT_TELL], CANNOT_TELL),
        ([LOOK_HERE], LOOK_HERE),
        ([CANNOT_TELL, LOOK_HERE], LOOK_HERE),
    ):
        assert overall([finding(each) for each in (GOOD, *others, GOOD)]) == expected


# what is tried -------------------------------------------------------------------------------


def windows(count, seconds, **settings):
    """Return the windows that are tried on so many frames of so many seconds."""
    excerpt = Excerpt(np.zeros((count, 2, 2), np.uint8), np.linspace(0, seconds, count))
    return _windows(dataclasses.replace(Parameters(), **settings), excerpt)


def test_windows_are_tried_that_the_frames_are_enough_for():
    tried = windows(1000, 10)
    assert [length for length, step in tried if step == 1] == [25, 50, 100, 200, 250]
    assert [step for length, step in tried if length == 100] == [0.25, 0.5, 1]
    assert [length for length, step in windows(1000, 10, kernel_size=250) if step == 1][-1] == 250
    assert [length for length, step in windows(1000, 10, kernel_size=251) if step == 1][-1] == 250


def test_steps_are_tried_that_frames_are_enough_for_and_those_in_use():
    assert windows(40, 10, kernel_size=10) == [(10, 1)]  # 40 images of 40 frames are too many
    assert windows(40, 10, kernel_size=10, split_time=2) == [(10, 0.5), (10, 1.2), (10, 2)]
    assert (10, 0.1) in windows(40, 10, kernel_size=10, split_time=0.1)


def tried(left_by, count=2000, **settings):
    """Return the settings that are tried where they leave so much."""
    now = dataclasses.replace(Parameters(), **settings)
    background = Frames(count, parameters=now)
    excerpt = Excerpt(np.zeros((count, 2, 2), np.uint8), np.linspace(0, 20, count))
    return list(try_settings(background, excerpt, lambda each, _: left_by(each)))


@pytest.mark.parametrize("by", [BELOW, AT])
def test_windows_are_tried_with_the_offsets_that_leave_less_by_a_share(monkeypatch, by):
    left_with = {True: 10.0, False: 10 * HELPS * by}
    monkeypatch.setattr(
        "sparsemed.quality.trials._windows",
        lambda *_: [(length, 1.0) for length in (25, 50, 100)],
    )
    trials = tried(lambda each: left_with[each.offset_correction])
    windows = [trial.parameters for trial in trials if trial.parameters.kernel_size == 100]
    assert [each.offset_correction for each in windows] == [by == AT]  # none of the three best


@pytest.mark.parametrize("by", [AT, ABOVE])
def test_windows_that_fit_only_twice_are_tried_if_all_others_leave_too_much(by):
    trials = tried(lambda _: advice.MOST_LEFT * by)
    long = [trial for trial in trials if trial.parameters.kernel_size == 1000]
    assert {trial.parameters.frac_cleansing for trial in long} == (
        {0.8, 1} if by == ABOVE else set()
    )
    assert not any(trial.is_judged for trial in long)
    assert all(trial.is_judged for trial in trials if trial not in long)
    fits_twice = tried(lambda _: 9.0, kernel_size=1000)
    assert max(trial.parameters.kernel_size for trial in fits_twice) == 1000
    assert {trial.is_judged for trial in fits_twice if trial.parameters.kernel_size < 501} == {True}


def test_shorter_windows_keep_all_images_unless_those_in_use_are_too_few():
    for size, fraction in ((200, 1), (1000, 0.8)):
        trials = tried(lambda each: 1 + each.kernel_size / 1e5, kernel_size=size)
        of_50 = [trial.parameters for trial in trials if trial.parameters.kernel_size == 50]
        assert fraction in {each.frac_cleansing for each in of_50}


def test_without_offsets_light_is_left():
    rng = np.random.default_rng(0)
    images = (rng.integers(80, 120, (44, 50)) + rng.normal(0, 1, (200, 44, 50))).round()
    images[::3] += 8
    images = images.astype(np.uint8)
    background = compute_background(images, frame_rate=100, kernel_size=30, split_time=0.2)
    excerpt = Excerpt(images, background.time)
    left_with = [
        left_by_settings(
            background,
            excerpt,
            {},
            dataclasses.replace(background.parameters, offset_correction=corrects),
            PLACES,
        )
        for corrects in (True, False)
    ]
    assert left_with[0] < advice.MOST_LEFT
    assert left_with[1] > 4


# the view ------------------------------------------------------------------------------------


def test_enough_frames_are_a_sample():
    for count in (LEAST_FRAMES - 1, LEAST_FRAMES):
        view = View(Frames(), Sample(np.arange(count), np.zeros((count, 2, 2))))
        assert view.is_sampled == (count == LEAST_FRAMES)
    assert not View(Frames(), None).is_sampled


def test_where_time_stands_still_all_frames_are_one_window():
    times = np.zeros(300)
    assert View(Frames(300, time=times), None).length == 300
    times[-1] = 1
    assert View(Frames(300, time=times), None).length == 200  # kernel_size
    assert View(Frames(150, time=times), None).length == 150


def test_images_whose_rows_differ_more_than_columns_are_of_a_channel():
    course = np.random.default_rng(0).permutation(np.linspace(-1, 1, 40))

    def is_channel(ratio, **known):
        image = 100 + 10 * (np.sqrt(ratio) * course[:, None] + course)
        series = np.full((1, 40, 40), image)
        return View(Frames(images=series, series=series, **known), None).is_channel

    assert [is_channel(ratio) for ratio in (0.5, 1.9, 2.1)] == [False, False, True]
    assert is_channel(0.5, source="M001.rtdc")


def test_the_first_rows_are_a_wall_if_no_cell_arrives_there_unless_light_or_a_shift_explains_it(
    monkeypatch,
):
    arrivals = []
    monkeypatch.setattr(views, "_arrivals", lambda residues, _: arrivals[len(residues) - 1])

    def has_wall(*shares):
        arrivals[:] = shares
        view = View(Frames(), Sample(np.arange(96), np.zeros((96, 44, 50), np.uint8)))
        view.__dict__.update(
            residues=np.zeros((1, 9, 9)),
            lit=SimpleNamespace(left=np.zeros((2, 9, 9))),
            fit=SimpleNamespace(left=np.zeros((3, 9, 9))),
            grid=1,
        )
        return view.has_wall

    for place in range(3):  # as they are, under another light, also shifted
        for share in (0.0099, 0.01):
            shares = [1.0, 1.0, 1.0]
            shares[place] = share
            assert has_wall(*shares) == (share < 0.01)
    assert View(Frames(), None).has_wall
