"""What settings must leave in order to be advised, with trials that are made up."""

import numpy as np
import pytest

from sparsemed import compute_background
from sparsemed.method.offsets import band_means
from sparsemed.method.scan import scan
from sparsemed.method.windows import window_starts
from sparsemed.parameters import Parameters
from sparsemed.quality import cure, take_sample, trying
from sparsemed.quality.excerpt import Excerpt
from sparsemed.quality.left import Left
from sparsemed.quality.trials import HELPS, Trial, by_other_windows, left_by_settings
from sparsemed.quality.trying import HELPS_RESTLESS
from sparsemed.quality.view import PLACES


@pytest.mark.parametrize("share", [HELPS, HELPS_RESTLESS])
@pytest.mark.parametrize("more", [-0.01, 0.01])
def test_settings_are_advised_only_if_they_leave_little(share, more):
    now, other = Parameters(kernel_size=200), Parameters(kernel_size=100)
    trials = [Trial(now, 10), Trial(other, 10 * (share + more))]
    assert cure._choose(now, trials, share) == (trials[1] if more < 0 else None)


@pytest.mark.parametrize("is_restless", [False, True])
@pytest.mark.parametrize("is_clean", [False, True])
def test_where_it_is_a_guess_settings_must_leave_less(monkeypatch, is_restless, is_clean):
    asked = []
    monkeypatch.setattr(trying, "is_clean", lambda _: is_clean)
    monkeypatch.setattr(Left, "is_restless", is_restless)
    monkeypatch.setattr(trying, "_may_be_cured", lambda *_: True)
    monkeypatch.setattr(trying, "find_cure", lambda *given: asked.append(given[-1]))
    frames = np.random.default_rng(0).integers(90, 110, (600, 40, 60), np.uint8)
    trying.examine(compute_background(frames, frame_rate=100, kernel_size=50), frames)
    assert asked == [HELPS_RESTLESS if is_restless and not is_clean else HELPS]


def test_settings_are_tried_with_as_many_cores_as_given(monkeypatch):
    asked = []

    def noted(*given, **more):
        asked.append(more["num_cpus"])
        return scan(*given, **more)

    monkeypatch.setattr(trying, "_may_be_cured", lambda *_: True)
    monkeypatch.setattr("sparsemed.quality.trials.scan", noted)
    frames = np.random.default_rng(0).integers(90, 110, (600, 40, 60), np.uint8)
    background = compute_background(frames, frame_rate=100, kernel_size=50)
    background.quality(frames, num_cpus=3)
    assert set(asked) == {3}
    with pytest.raises(ValueError, match="num_cpus must be a whole number from 1 up, got 0"):
        background.quality(frames, num_cpus=0)


@pytest.mark.parametrize("offset_correction", [True, False])
@pytest.mark.parametrize("length", [40, 90, 150])
def test_frames_are_judged_by_images_whose_windows_do_not_hold_them(offset_correction, length):
    rng = np.random.default_rng(length)
    frames = rng.integers(90, 110, (200, 40, 60), np.uint8)
    frames[rng.random(200) < 0.3] += 20
    time = np.sort(rng.uniform(0, 4, 200))
    made = compute_background(
        frames, time - time[0], kernel_size=length, offset_correction=offset_correction
    )
    sample = take_sample(made, frames)
    starts = window_starts(made.time, made.step_times, length)
    other, seen = by_other_windows(made, sample, starts)
    expected = {}
    for number in sample.numbers.tolist():
        windows = enumerate(starts[made.kept].tolist())
        distances = {
            image: abs(first + length / 2 - number)
            for image, first in windows
            if not first <= number < first + length
        }
        if distances:
            expected[number] = min(distances, key=distances.get)
    assert seen.numbers.tolist() == list(expected)
    np.testing.assert_array_equal(seen.frames, frames[seen.numbers])
    assert other.frame_index[seen.numbers].tolist() == list(expected.values())
    assert (other.offsets is not None) == offset_correction
    if offset_correction:
        walls = band_means(seen.frames) - band_means(made.images)[list(expected.values())]
        np.testing.assert_allclose(other.offsets[seen.numbers], walls)
    np.testing.assert_array_equal(
        made.frame_index,
        compute_background(
            frames, time - time[0], kernel_size=length, offset_correction=offset_correction
        ).frame_index,
    )


def test_what_rests_for_a_whole_window_is_seen_by_frames_of_another():
    frames = np.random.default_rng(0).integers(98, 102, (1200, 60, 80), np.uint8)
    background = compute_background(frames, frame_rate=100, kernel_size=600, frac_cleansing=1)
    for end, is_seen in ((0, False), (600, True)):
        seen = frames.copy()
        seen[:end, 25:40, 30:50] += 40
        excerpt = Excerpt(seen, background.time)
        left = left_by_settings(background, excerpt, {}, background.parameters, PLACES)
        assert (left > 30) == is_seen
