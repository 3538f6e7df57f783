"""Memory follows the windows that differ, and where it is not enough, the argument is named."""

import tracemalloc

import numpy as np
import pytest

from sparsemed import compute_background
from sparsemed.quality import take_sample
from sparsemed.quality.sample import corrected
from sparsemed.report.slides import _frames_section, series_section

IMAGES = np.random.default_rng(0).integers(80, 120, (100, 80, 400), dtype=np.uint8)
STEPS = 20_000  # all of them together would weigh 640 MB


def peak_of(work):
    tracemalloc.start()
    try:
        found = work()
        return found, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_twenty_thousand_steps_of_a_hundred_frames():
    time = np.linspace(0, STEPS, 100)

    def compute():
        return compute_background(IMAGES, time, kernel_size=60, frac_cleansing=0.8)

    compute()  # compiles
    background, peak = peak_of(compute)
    assert background.series.shape == (STEPS, 80, 400)
    assert peak < 120e6  # of which 64 MiB are for frames
    sample = take_sample(background, IMAGES)
    for use in (
        lambda: background.quality(IMAGES),
        lambda: corrected(background, sample, rows=20),
        lambda: _frames_section(background, sample, 0),
        lambda: series_section(background),
        lambda: background.subtract(IMAGES),
        background._repr_html_,
    ):
        _, peak = peak_of(use)
        assert peak < 150e6


@pytest.mark.parametrize(
    ("where", "options", "message"),
    [
        (
            "inputs.given.scan",
            {"kernel_size": 5, "split_time": 0.1},
            r"split_time=0\.1 makes 99 background images, of which 96 differ \(0\.00307 GB\); "
            "use a larger split_time$",
        ),
        ("method.compute.conclude", {"kernel_size": 5, "split_time": 0.1}, r"split_time=0\.1 "),
        (
            "inputs.given.scan",
            {"kernel_size": 80, "split_time": 1},
            r"kernel_size=80 makes windows of 80 frames \(0\.00256 GB\); use a smaller kern",
        ),
    ],
)
def test_a_lack_of_memory_is_blamed_on_an_argument(monkeypatch, where, options, message):
    def too_much(*_, **__):
        raise MemoryError("Unable to allocate 5 GiB")

    monkeypatch.setattr(f"sparsemed.{where}", too_much)
    begin = r"^frames: 100 frames of 80 × 400 pixels do not fit into memory \(Unable .* GiB\): "
    with pytest.raises(ValueError, match=begin + message):
        compute_background(IMAGES, np.arange(100) / 10, **options)
