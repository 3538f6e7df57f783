import logging
import re
from fractions import Fraction
from statistics import median

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rings import examples
from scipy import ndimage

from sparsemed.method import cleansing
from sparsemed.method.cleansing import cleanse


def running_median(course):
    """The upper median of ten neighbours, the ends being mirrored: 5 before to 4 after."""
    mirrored = np.pad(course, (5, 4), mode="symmetric")
    return np.array([np.sort(mirrored[i : i + 10])[5] for i in range(len(course))])


def score_by_hand(series):
    """Return the deviation of each image; every sum in it is one of half-integers, so exact."""
    height = series.shape[1]
    ranges = [[max(row) - min(row) for row in image] for image in series.tolist()]
    usual = [float(median(of_row)) for of_row in zip(*ranges, strict=True)]
    reach = max(20, height // 4)
    middle = range(height)[height // 2 - reach : height // 2 + reach]
    course = [sum(image[i] - usual[i] for i in middle) / len(middle) for image in ranges]
    baseline = running_median(course).tolist()
    free = [value - base for value, base in zip(course, baseline, strict=True)]
    centre = median(free)
    return np.array([abs(value - centre) for value in free])


def choice_by_hand(score, thresh_cleansing, frac_cleansing):
    if frac_cleansing == 1:
        return [True] * len(score), np.inf
    quantile = np.quantile(score, frac_cleansing)
    threshold = 150 * np.var(score) / thresh_cleansing if thresh_cleansing else quantile
    kept = [value <= threshold for value in score]
    if thresh_cleansing and 1 - kept.count(False) / len(kept) < frac_cleansing:
        threshold = quantile
        kept = [value <= threshold for value in score]
    return kept, threshold


@st.composite
def all_series(draw):
    """Draw background images: noise, and in some of them the streak of a cell."""
    dtype = draw(st.sampled_from([np.uint8, np.uint16]))
    shape = draw(st.tuples(st.integers(1, 60), st.integers(1, 90), st.integers(1, 20)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    top = draw(st.sampled_from([0, 1, 12, np.iinfo(dtype).max]))
    series = rng.integers(0, top, shape, dtype, endpoint=True)
    for image in series:
        if rng.random() < draw(st.sampled_from([0.0, 0.1, 0.5])):
            image[rng.integers(shape[1]) :, rng.integers(shape[2])] = np.iinfo(dtype).max
    return series


THRESHOLDS = st.sampled_from([0, 1e-9, 1, 7.5, 150, 1e9]) | st.floats(1e-3, 1e4)
FRACTIONS = st.sampled_from([1, 0.8, 0.5, 0.1, 1e-3]) | st.floats(1e-3, 1)


@examples(200)
@given(all_series(), THRESHOLDS, FRACTIONS)
@example(np.full((7, 50, 5), 3, np.uint8), 5, 0.8)
@example(np.full((1, 50, 5), 3, np.uint8), 5, 0.8)
@example(np.full((1, 1, 1), 3, np.uint16), 0, 0.8)
def test_equals_the_method_by_hand(series, thresh_cleansing, frac_cleansing):
    found = cleanse(series, thresh_cleansing, frac_cleansing)
    np.testing.assert_array_equal(found.score, score_by_hand(series), strict=True)
    kept, threshold = choice_by_hand(found.score, thresh_cleansing, frac_cleansing)
    np.testing.assert_array_equal(found.kept, kept, strict=True)
    assert found.threshold == threshold
    assert type(found.threshold) is float
    assert found.kept.any()


@pytest.mark.parametrize("count", [*range(1, 25), 500])
def test_the_usual_range_is_the_running_median(count):
    rng = np.random.default_rng(count)
    for course in (rng.normal(size=count), rng.integers(0, 3, count) / 4, np.zeros(count)):
        found = cleansing._baseline(course)
        np.testing.assert_array_equal(found, running_median(course), strict=True)
        if count != 4:  # of which SciPy 1.17 reads beyond the end in one dimension
            np.testing.assert_array_equal(found, ndimage.median_filter(course, size=10))


def streaky(count, height, rows, images, size=200):
    """Return flat images, some of which have a wide range of grey values in some rows."""
    series = np.full((count, height, 6), 20, np.uint8)
    for image in images:
        series[image, rows, 3] = size
    return series


@pytest.mark.parametrize(
    ("height", "scored"),
    [
        (1, range(1)),
        (13, range(13)),
        (14, range(1, 14)),
        (30, range(25, 30)),
        (38, range(37, 38)),
        (39, range(38, 39)),
        (40, range(40)),
        (41, range(40)),
        (80, range(20, 60)),
        (100, range(25, 75)),
        (101, range(25, 75)),
    ],
)
def test_rows_that_are_scored(height, scored):
    # Below 40 rows the slice starts at a negative number, which counts from the end.
    for row in range(height):
        score = cleanse(streaky(25, height, row, [12]), 0, 0.8).score
        assert (score[12] > 0) == (row in scored)


def test_images_with_streaks_are_dropped():
    found = cleanse(streaky(30, 80, slice(35, 45), [7, 21]), 0, 0.9)
    assert np.flatnonzero(~found.kept).tolist() == [7, 21]


def test_score_is_the_range_of_all_16_bits():
    series = np.zeros((21, 80, 4), np.uint16)
    series[10, 20:60, 2] = 65535
    assert cleanse(series, 0, 0.8).score[10] == 65535


def test_variance_is_that_of_the_scores():
    score = cleanse(streaky(12, 80, slice(30, 41), [3, 4]), 0, 0.8).score
    exact = [Fraction(value) for value in score.tolist()]
    mean = sum(exact) / len(exact)
    variance = sum((value - mean) ** 2 for value in exact) / len(exact)
    found = cleanse(streaky(12, 80, slice(30, 41), [3, 4]), 30, 1e-3)
    assert found.threshold == pytest.approx(float(150 * variance / 30), rel=1e-12)


@pytest.fixture
def scores(monkeypatch):
    """Let the test choose the scores."""

    def use(values):
        monkeypatch.setattr(cleansing, "_score", lambda _: np.array(values, float))

    return use


ANY = np.zeros((1, 1, 1), np.uint8)


def test_threshold_zero_keeps_the_quantile(scores):
    scores([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
    found = cleanse(ANY, 0, 0.8)
    assert found.threshold == 8
    assert found.kept.tolist() == [True] * 9 + [False] * 2


def test_fraction_one_keeps_all(scores, caplog):
    scores([0, 1, 5])
    caplog.set_level(logging.INFO)
    for fraction in (1, 1.0, np.float32(1)):
        found = cleanse(ANY, 1e9, fraction)
        assert found.kept.tolist() == [True] * 3
        assert found.threshold == np.inf
    assert caplog.messages[0] == "All 3 background images are kept: cleansing is off"


def test_threshold_that_keeps_enough_is_used(scores, warned):
    scores([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10])  # their variance is 10
    found = cleanse(ANY, 1500 / 8.5, 0.8)
    assert found.threshold == pytest.approx(8.5)
    assert found.kept.tolist() == [True] * 9 + [False] * 2
    assert warned() == []


def test_threshold_that_keeps_too_few_gives_way_with_a_warning(scores, warned):
    scores([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
    found = cleanse(ANY, 500, 0.8)
    assert found.threshold == 8
    assert found.kept.tolist() == [True] * 9 + [False] * 2
    (text,) = warned()
    assert "thresh_cleansing=500 would keep only 36.4 %" in text
    assert "frac_cleansing=0.8" in text


@pytest.mark.parametrize("fraction", [0.8, 0.75, 0.5])
def test_threshold_named_in_the_warning_keeps_enough(scores, warned, fraction):
    scores([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
    cleanse(ANY, 500, fraction)
    named = float(re.search(r"thresh_cleansing=(\S+) would have kept enough", warned()[0])[1])
    found = cleanse(ANY, named, fraction)
    assert len(warned()) == 1
    assert found.kept.mean() >= fraction


def test_just_enough_is_enough(scores, warned):
    scores([0, 1, 2, 3])  # their variance is 5 / 4
    found = cleanse(ANY, 150, 0.5)
    assert found.threshold == 1.25
    assert warned() == []


def test_a_quantile_that_was_asked_for_is_no_reason_to_warn(scores, warned):
    scores([0, 1])
    found = cleanse(ANY, 0, 0.8)
    assert found.kept.tolist() == [True, False]
    assert warned() == []


def test_kept_fraction_is_one_minus_the_dropped_one(scores, warned):
    # One of ten is kept, but 1 - 0.9 is a little less than 0.1.
    scores([0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
    found = cleanse(ANY, 1e9, 0.1)
    assert found.threshold == pytest.approx(0.9)
    assert len(warned()) == 1


def test_images_at_the_threshold_are_kept(scores):
    scores([1, 1, 1])
    assert cleanse(ANY, 0, 0.5).kept.tolist() == [True] * 3


def test_series_is_left_alone():
    series = streaky(8, 50, slice(5, 9), [2])
    series.flags.writeable = False
    before = series.tobytes()
    cleanse(series, 2, 0.5)
    assert series.tobytes() == before


def test_four_images_do_not_depend_on_what_lies_behind_them_in_memory():
    series = np.zeros((4, 40, 8), np.uint8)
    series[:, :, 0] = np.array([3, 90, 7, 200], np.uint8)[:, None]
    expected = cleanse(series, 0, 0.5).score
    for seed in range(50):
        _ = np.random.default_rng(seed).normal(0, 1e9, size=4)  # freed at once
        np.testing.assert_array_equal(cleanse(series, 0, 0.5).score, expected)
