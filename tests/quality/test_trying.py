"""What settings must leave in order to be advised, with trials that are made up."""

import numpy as np
import pytest

from sparsemed import compute_background
from sparsemed.method.scan import scan
from sparsemed.parameters import Parameters
from sparsemed.quality import trying
from sparsemed.quality.left import Left
from sparsemed.quality.trying import HELPS, HELPS_RESTLESS, Trial


@pytest.mark.parametrize("share", [HELPS, HELPS_RESTLESS])
@pytest.mark.parametrize("more", [-0.01, 0.01])
def test_settings_are_advised_only_if_they_leave_little(share, more):
    now, other = Parameters(kernel_size=200), Parameters(kernel_size=100)
    cure = trying._choose(now, [Trial(now, 10), Trial(other, 10 * (share + more))], share)
    assert cure.settings == ("kernel_size=100" if more < 0 else "")


@pytest.mark.parametrize("is_restless", [False, True])
def test_where_it_is_a_guess_settings_must_leave_less(monkeypatch, is_restless):
    asked = []
    monkeypatch.setattr(Left, "is_restless", is_restless)
    monkeypatch.setattr(trying, "_may_be_cured", lambda _: True)
    monkeypatch.setattr(trying, "find_cure", lambda *given: asked.append(given[-1]))
    frames = np.random.default_rng(0).integers(90, 110, (600, 40, 60), np.uint8)
    trying.examine(compute_background(frames, frame_rate=100, kernel_size=50), frames)
    assert asked == [HELPS_RESTLESS if is_restless else HELPS]


def test_settings_are_tried_with_as_many_cores_as_given(monkeypatch):
    asked = []

    def noted(*given, **more):
        asked.append(more["num_cpus"])
        return scan(*given, **more)

    monkeypatch.setattr(trying, "_may_be_cured", lambda _: True)
    monkeypatch.setattr(trying, "scan", noted)
    frames = np.random.default_rng(0).integers(90, 110, (600, 40, 60), np.uint8)
    background = compute_background(frames, frame_rate=100, kernel_size=50)
    background.quality(frames, num_cpus=3)
    assert set(asked) == {3}
    with pytest.raises(ValueError, match="num_cpus must be a whole number from 1 up, got 0"):
        background.quality(frames, num_cpus=0)
