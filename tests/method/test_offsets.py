from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rings import examples

from sparsemed.method.offsets import band_means, offsets


def by_definition(frames, rows=20):
    return np.mean(frames[:, :rows].astype(np.float64), axis=(1, 2))


@st.composite
def stacks(draw):
    dtype = draw(st.sampled_from([np.uint8, np.uint16]))
    shape = draw(st.tuples(st.integers(1, 6), st.integers(1, 45), st.integers(1, 40)))
    low = draw(st.integers(0, np.iinfo(dtype).max))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return rng.integers(low, np.iinfo(dtype).max, shape, dtype, endpoint=True)


@examples(100)
@given(stacks())
@example(np.full((2, 20, 4000), 65535, np.uint16))  # the sum takes more than 32 bits
@example(np.full((2, 20, 3277), 65535, np.uint16))  # the least width for which it does
@example(np.full((2, 20, 3276), 65535, np.uint16))
@example(np.full((1, 30, 900_000), 255, np.uint8))
def test_mean_of_the_first_20_rows(frames):
    np.testing.assert_array_equal(band_means(frames), by_definition(frames), strict=True)


@examples(30)
@given(stacks(), st.integers(1, 50))
def test_mean_of_other_rows(frames, rows):
    expected = by_definition(frames, rows)
    np.testing.assert_array_equal(band_means(frames, rows), expected, strict=True)


@examples(30)
@given(stacks())
def test_mean_is_the_float_nearest_to_the_exact_one(frames):
    for frame, mean in zip(frames[:, :20].tolist(), band_means(frames).tolist(), strict=True):
        pixels = [pixel for row in frame for pixel in row]
        assert mean == float(Fraction(sum(pixels), len(pixels)))


@pytest.mark.parametrize(
    "lay_out",
    [
        lambda frames: frames[::2, :, ::3],
        lambda frames: frames[::-1, ::-1, ::-1],
        lambda frames: frames.transpose(2, 1, 0),
        np.asfortranarray,
    ],
    ids=["strided", "reversed", "transposed", "Fortran"],
)
def test_any_memory_layout(lay_out):
    frames = lay_out(np.arange(9 * 30 * 17, dtype=np.uint16).reshape(9, 30, 17))
    np.testing.assert_array_equal(band_means(frames), by_definition(frames), strict=True)


def test_no_frames_have_no_means():
    assert band_means(np.empty((0, 30, 4), np.uint8)).shape == (0,)


def test_offsets_are_frames_less_their_images():
    of_frames = np.array([10.25, 11.0, 9.5])
    of_images = np.array([10.0, 20.0])
    index = np.array([0, 1, 0])
    np.testing.assert_array_equal(offsets(of_frames, of_images, index), [0.25, -9.0, -0.5])
