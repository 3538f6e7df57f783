"""Keywords that do not exist are told with the one that is meant."""

import inspect

import numpy as np
import pytest

from sparsemed import compute_background
from sparsemed.keywords import MEANT

FRAMES = np.zeros((9, 24, 33), np.uint8)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("fps", "frame_rate"),
        ("window", "kernel_size"),
        ("kernelsize", "kernel_size"),
        ("images", "frames"),
    ],
)
def test_what_is_meant_is_named(given, meant):
    with pytest.raises(TypeError, match=rf"no argument '{given}'; did you mean '{meant}'\?$"):
        compute_background(FRAMES, **{given: 3})


def test_what_is_like_nothing_is_told_what_there_is():
    with pytest.raises(
        TypeError, match="no argument 'zzz'; it has frames, time, frame_rate, kernel"
    ):
        compute_background(FRAMES, zzz=3)


def test_all_that_is_suggested_exists():
    assert set(MEANT.values()) <= set(inspect.signature(compute_background).parameters)
    assert not set(MEANT) & set(inspect.signature(compute_background).parameters)


def test_a_background_says_what_an_array_of_it_would_be():
    background = compute_background(FRAMES, frame_rate=3)
    every = np.stack(list(background))
    assert background.shape == every.shape
    assert background.dtype == every.dtype
    assert background.nbytes == every.nbytes
