"""Quantiles by one partition are those of NumPy."""

import numpy as np
import pytest

from sparsemed.quality.quantiles import median, quantile


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
