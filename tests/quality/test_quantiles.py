"""Quantiles by one partition are those of NumPy, and running medians those of SciPy."""

import numpy as np
import pytest
from scipy import ndimage

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


@pytest.mark.parametrize("length", [1, 2, 3, 20])
def test_running_medians_are_those_of_scipy(length):
    values = np.random.default_rng(0).normal(size=(length, 2, 3))
    expected = ndimage.median_filter(values, size=(5, 1, 1), mode="nearest")
    np.testing.assert_array_equal(running_median(values, 5), expected)
