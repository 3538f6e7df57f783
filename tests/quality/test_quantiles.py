"""Quantiles by one partition are those of NumPy, and running medians those of their values."""

import numpy as np
import pytest

from sparsemed.quality.quantiles import median, quantile, running_median


@pytest.mark.parametrize("count", [1, 2, 3, 24, 25, 96])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_quantiles_are_those_of_numpy(count, axis):
    shape = np.insert([5, 7], axis, count)
    values = np.random.default_rng(count).normal(0, 10, shape).astype(np.float32)
    before = values.copy()
    for share in (0, 1 / 3, 0.5, 0.975, 1):
        found = quantile(values, share, axis)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, np.quantile(values, share, axis=axis), rtol=1e-5)
    np.testing.assert_allclose(median(values, axis), np.median(values, axis=axis), rtol=1e-5)
    np.testing.assert_array_equal(values, before)


@pytest.mark.parametrize("length", [1, 2, 3, 4, 20])
@pytest.mark.parametrize("shape", [(), (2, 3)])
def test_running_medians_repeat_the_values_at_the_ends(length, shape):
    values = np.random.default_rng(0).normal(size=(length, *shape))
    around = [np.clip(np.arange(each - 2, each + 3), 0, length - 1) for each in range(length)]
    expected = [np.median(values[each], axis=0) for each in around]
    np.testing.assert_array_equal(running_median(values, 5), expected)
