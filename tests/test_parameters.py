from dataclasses import FrozenInstanceError, asdict
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

from sparsemed.parameters import Parameters


def test_defaults_are_those_of_dcnum():
    assert asdict(Parameters()) == {
        "kernel_size": 200,
        "split_time": 1.0,
        "thresh_cleansing": 0,
        "frac_cleansing": 0.8,
        "offset_correction": True,
    }


def test_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        Parameters().kernel_size = 7


GOOD = {
    "kernel_size": [1, 10**9, np.int64(7), np.uint8(3)],
    "split_time": [1, 1e-9, 1e9, np.float32(0.5), np.float16(2), np.int16(3), np.longdouble(1)],
    "thresh_cleansing": [0, 0.0, -0.0, 1e9, np.float32(0.5), np.uint8(0)],
    "frac_cleansing": [1, 1.0, 1e-9, np.float64(0.3), np.int8(1)],
    "offset_correction": [True, False, 0, 1, np.bool_(True), np.int64(0)],
}

BAD = {
    "kernel_size": [0, -1, 1.0, 2.5, True, np.bool_(True), "200", None, np.array(3), [1], np.nan],
    "split_time": [0, 0.0, -0.1, np.nan, np.inf, -np.inf, True, "1", None, 1j, [1.0], Decimal(1)],
    "thresh_cleansing": [-1e-9, -1, np.nan, np.inf, False, "0", None, Fraction(1), np.array(1.0)],
    "frac_cleansing": [0, -0.1, 1.0000001, 2, np.nan, np.inf, True, "1", None, np.float32(1.5)],
    "offset_correction": [2, -1, 0.0, 1.0, "True", None, [], np.nan, np.int64(2)],
}

RANGES = {
    "kernel_size": "a whole number from 1 up (frames)",
    "split_time": "a number above 0 (seconds)",
    "thresh_cleansing": "a number from 0 up",
    "frac_cleansing": "a number above 0 and at most 1",
    "offset_correction": "True or False",
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in GOOD.items() for value in values]
)
def test_good_values_are_kept_as_given(name, value):
    assert getattr(Parameters(**{name: value}), name) is value


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in BAD.items() for value in values]
)
def test_bad_values_are_refused_by_name(name, value):
    with pytest.raises(ValueError, match=name) as caught:
        Parameters(**{name: value})
    assert str(caught.value) == f"{name} must be {RANGES[name]}, got {value!r}"


@pytest.mark.parametrize("name", ["split_time", "thresh_cleansing", "frac_cleansing"])
def test_integers_beyond_floats_are_refused(name):
    with pytest.raises(ValueError, match=f"^{name} must be "):
        Parameters(**{name: 10**400})
