"""Time that falls, or is not in seconds, is noticed by all who should."""

import numpy as np
import pytest

from sparsemed import compute_background
from sparsemed.method.time_reversals import TimeReversals, find_falls
from sparsemed.quality import overall

IMAGES = np.full((400, 40, 60), 90, np.uint8)
IMAGES += (np.arange(60) > 30).astype(np.uint8) * 20  # a channel that never changes


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        ([0.0], TimeReversals(0)),
        ([0.0, 0.0, 1.0], TimeReversals(0)),
        ([0.0, 1.0, 0.5, 2.0], TimeReversals(1, 2, 1.0, 0.5)),
        ([0, 3, 1, 2, 0], TimeReversals(2, 2, 3.0, 1.0)),
        ([0.0, -1.0, -1.0, -2.0], TimeReversals(2, 1, 0.0, -1.0, is_reversed=True)),
    ],
)
def test_where_time_falls(time, expected):
    assert find_falls(np.array(time)) == expected


CASES = {
    "joined": (np.tile(np.arange(200) / 20, 2), "time falls at frame 200, from 9.95 s to 0 s"),
    "reversed": (np.arange(400)[::-1] / 20, "time runs backwards, beginning at frame 1, from 0 s"),
    "jittering": (
        np.arange(400) / 20 - np.tile([0, 0.2], 200),
        "time falls 200 times, first at frame 1, from 0 s to -0.15 s",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_it_is_said_and_no_such_background_is_good(case):
    time, text = CASES[case]
    background = compute_background(IMAGES, time, kernel_size=50)
    assert background.warnings[0].startswith(text)
    findings = {each.key: each for each in background.quality(IMAGES)}
    assert findings["order"].verdict == "look here"
    assert findings["order"].text.startswith(text)
    assert findings["order"].advice in background.warnings[0]
    assert overall(findings.values()) == "look here"


def test_time_that_never_falls_is_no_finding():
    background = compute_background(IMAGES, np.arange(400) / 20, kernel_size=50)
    findings = background.quality(IMAGES)
    assert "order" not in {each.key for each in findings}
    assert overall(findings) == "good"


def test_milliseconds_are_asked_about():
    time = np.arange(400) / 20
    right = compute_background(IMAGES, time, kernel_size=50)
    assert right.warnings == ()
    wrong = compute_background(IMAGES, time * 1000, kernel_size=50)
    (text,) = wrong.warnings
    assert text.startswith(
        "split_time=1 makes 19950 background images of 400 frames, as the time spans 19950 s; if "
        "the time is in milliseconds, divide it by 1000;"
    )
    as_many = compute_background(IMAGES, np.arange(400) * (400 / 399), kernel_size=50)
    assert len(as_many.series) == 400
    assert as_many.warnings == ()
