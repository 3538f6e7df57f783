"""The steps of images, from the frames that each was assigned to."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rings import examples

from sparsemed.method.assignment import assign_frames, find_steps
from sparsemed.method.windows import step_times


@examples(150)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(2, 120),
    st.sampled_from([0.1, 0.5, 1, 3]),
    st.sampled_from([np.float64, np.float32]),
)
def test_steps_are_found_again(seed, count, split_time, dtype):
    rng = np.random.default_rng(seed)
    time = np.cumsum(rng.exponential(0.1, count)).astype(dtype)  # sparse at times, and dense
    time -= time[0]
    steps = step_times(time, split_time)
    kept_times = steps[rng.random(len(steps)) < 0.8]
    if not len(kept_times):
        return
    index = assign_frames(time, kept_times, split_time)
    found = find_steps(time, index, len(kept_times), split_time)
    assert found.dtype == steps.dtype
    assert set(found) <= set(steps)
    np.testing.assert_array_equal(assign_frames(time, found, split_time), index)
    # Where frames lie apart, images of several steps end at the same frame.
    reach = np.diff(time).max() if len(time) > 1 else 0
    assert np.all(np.abs(found - kept_times)[:-1] <= 2 * reach + split_time)


def test_steps_of_evenly_spaced_frames_are_exact_but_for_the_last():
    time = np.arange(500) / 50
    steps = step_times(time, 0.5)
    kept_times = steps[np.random.default_rng(0).random(len(steps)) < 0.7]
    found = find_steps(time, assign_frames(time, kept_times, 0.5), len(kept_times), 0.5)
    np.testing.assert_array_equal(found[:-1], kept_times[:-1])
    assert found[-1] == kept_times[-2] + 0.5


@pytest.mark.parametrize("change", ["time", "frames", "order", "split_time", "too many"])
def test_what_no_steps_explain_is_not_known(change):
    time = np.arange(100) / 20
    index = assign_frames(time, np.array([0.0, 1.0, 3.0, 4.0]), 1)
    count, split_time = 4, 1
    if change == "time":
        time = time * 1.37
    elif change == "frames":
        time, index = time[::3], index[::3]
        index[10] = 3
        index[11:] = 3
    elif change == "order":
        time = time[::-1] - time[-1]
    elif change == "split_time":
        split_time = 0.7
    else:
        count = 9
    assert find_steps(time, index, count, split_time) is None
