"""What settings must leave in order to be advised, with trials that are made up."""

import numpy as np
import pytest

from sparsemed import compute_background
from sparsemed.method.scan import scan
from sparsemed.parameters import Parameters
from sparsemed.quality import trying
from sparsemed.quality.left import MOST_LEFT
from sparsemed.quality.trying import HELPS, HELPS_LITTLE, Trial


@pytest.mark.parametrize(("before", "share"), [(MOST_LEFT / HELPS, HELPS), (10, HELPS_LITTLE)])
@pytest.mark.parametrize("more", [-0.01, 0.01])
def test_settings_are_advised_only_if_they_leave_little(before, share, more):
    now, other = Parameters(kernel_size=200), Parameters(kernel_size=100)
    cure = trying._choose(now, [Trial(now, before), Trial(other, before * (share + more))])
    assert cure.settings == ("kernel_size=100" if more < 0 else "")


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
