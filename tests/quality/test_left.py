"""What is left of frames, of arrays made for it."""

import numpy as np
import pytest

from sparsemed.quality.left import find_left
from sparsemed.quality.patterns import find_patterns
from sparsemed.quality.spells import _half_of, find_spells

COUNT, HEIGHT, WIDTH = 96, 24, 60
NOISE = 0.5


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def residues(rng):
    """Nothing but noise."""
    return rng.normal(0, NOISE, (COUNT, HEIGHT, WIDTH)).astype(np.float32)


def left_of(residues, unusual=None):
    nothing = np.zeros_like(residues)
    wall = np.random.default_rng(1).normal(0, NOISE, (COUNT, 8, WIDTH)).astype(np.float32)
    varies = np.zeros(residues.shape[1:], bool)
    return find_left(residues, wall, nothing, nothing if unusual is None else unusual, varies, 2)


def with_crowd(residues, rng, during, share):
    """Put dark cells of 6 × 6 places into some frames, so that they cover a share of them."""
    for number in range(*during):
        for _ in range(rng.poisson(-np.log(1 - share) * HEIGHT * WIDTH / 36)):
            row, column = rng.integers(-5, HEIGHT), rng.integers(-5, WIDTH)
            residues[number, max(0, row) : row + 6, max(0, column) : column + 6] = -35
    return residues


def test_of_noise_nothing_is_left(residues):
    assert left_of(residues).size < 1


@pytest.mark.parametrize("share", [0.3, 0.5])
@pytest.mark.parametrize("during", [(30, 45), (10, 45)])
def test_a_crowd_that_comes_for_a_while_is_no_pattern(residues, rng, during, share):
    left = left_of(with_crowd(residues, rng, during, share))
    assert not left.pattern.any()
    assert left.size < 1.2


@pytest.mark.parametrize("amount", [1.5, 4, 20])
def test_what_trembles_everywhere_is_a_pattern_also_among_cells(residues, rng, amount):
    with_crowd(residues, rng, (0, COUNT), 0.1)
    residues[:, :6] += amount * rng.uniform(-1, 1, (COUNT, 1, 1))
    left = left_of(residues)
    assert amount < left.size < 2 * amount
    assert left.pattern.any()


@pytest.mark.parametrize("changes", [False, True])
def test_places_that_are_off_each_time_in_another_way_are_restless(residues, rng, changes):
    by = rng.uniform(-30, 30, (COUNT, 10, 30)) if changes else 30
    residues[:, 5:15, 10:40] += by
    left = left_of(residues)
    assert left.size > 5
    assert left.is_restless == changes


@pytest.mark.parametrize("follow", [False, True])
def test_what_only_images_show_is_left_of_frames_that_do_not(residues, rng, follow):
    """Cells cover the place in every other frame, so that an image took them for background."""
    unusual = np.zeros_like(residues)
    unusual[40:60, 5:15, 10:30] = -35
    if not follow:
        residues[40:60:2, 5:15, 10:30] += 35
    left = left_of(residues, unusual)
    assert left.size == (pytest.approx(0, abs=1) if follow else pytest.approx(35))
    assert set(np.flatnonzero(left.course > 1)) == (set() if follow else {*range(40, 60, 2)})


@pytest.mark.parametrize("frames", [4, 6])
@pytest.mark.parametrize("share", [0.02, 0.15])
def test_a_spot_of_a_few_frames_is_left_also_among_cells(residues, rng, frames, share):
    with_crowd(residues, rng, (0, COUNT), share)
    assert left_of(residues).size < 1.2
    residues[40 : 40 + frames, 5:19, 10:24] -= 20
    left = left_of(residues)
    assert left.size > 15
    assert set(np.flatnonzero(left.course > 15)) == set(range(40, 40 + frames))


@pytest.mark.parametrize("size", [5, 8])
def test_a_spot_of_a_few_frames_is_left_if_it_covers_enough_places(residues, size):
    residues[40:42, 5 : 5 + size, 10 : 10 + size] -= 20  # of 36 places that count
    assert (left_of(residues).size > 15) == (size == 8)


def test_spots_at_two_times_are_left_but_objects_at_many_places_are_not(residues):
    def left_with(places):
        seen = residues.copy()
        for number, column in enumerate(places):
            begin = 5 + 90 * number // len(places)
            seen[begin : begin + 6, 6:16, column : column + 10] += 20
        return left_of(seen).size

    assert left_with([5, 45]) > 15
    assert left_with([0, 10, 20, 30, 40, 50]) < 1.2


@pytest.mark.parametrize("noise", [NOISE, 0.8, 1.3])
@pytest.mark.parametrize("frames", [5, 9, 14])
def test_a_short_crowd_is_no_spell(rng, noise, frames):
    residues = rng.normal(0, noise, (COUNT, HEIGHT, WIDTH)).astype(np.float32)
    with_crowd(residues, rng, (40, 40 + frames), 0.6)
    assert not np.any(np.abs(left_of(residues).spells) > 1.2)


def test_objects_that_stay_are_no_spell_unless_images_show_them(residues, rng):
    kept = np.zeros_like(residues)
    for begin in range(0, COUNT, 8):
        for row, column in rng.integers(0, (18, 54), (4, 2)):
            kept[begin : begin + 8, row : row + 6, column : column + 6] = -35
    assert not len(left_of(residues + kept).spells)
    assert len(left_of(residues + kept, -kept).spells)


def test_of_much_noise_all_frames_are_one_median(rng):
    assert left_of(rng.normal(0, 20, (COUNT, HEIGHT, WIDTH)).astype(np.float32)).noise > 15


def test_what_at_least_half_of_some_frames_show():
    assert _half_of(1, 0.3) == pytest.approx(0.3)
    assert _half_of(2, 0.3) == pytest.approx(1 - 0.7**2)
    assert _half_of(3, 0.5) == pytest.approx(0.5)
    assert _half_of(10**5, 0.3) == pytest.approx(0)
    assert _half_of(10**5, 0.7) == pytest.approx(1)


def test_where_a_spell_is_shown_without_cells(residues, rng):
    residues[40:60, 8:20] += 20
    for frame in range(40, 60):  # cells, of which the pattern of these frames has traces
        at = int(rng.integers(0, WIDTH - 8))
        residues[frame, 2:6, at : at + 4] -= 35
    left = left_of(residues)
    assert np.mean(np.abs(left.pattern[50][2:6]) > 1.5) > 0.2
    shown = left.map_of(50)
    assert np.median(shown[8:20]) == pytest.approx(20, abs=1)
    assert np.mean(np.abs(shown[2:6]) > 1.5) < 0.05


@pytest.mark.parametrize("seed", range(40))
def test_light_of_frames_without_noise_is_one_pattern(seed):
    lit = np.random.default_rng(seed).random(COUNT) < 1 / 3
    residues = np.zeros((COUNT, 18, 56), np.float32)
    residues[lit] = 3
    np.testing.assert_allclose(find_patterns(residues, (0, 0), 0.02, 1), residues, atol=1e-3)


@pytest.mark.parametrize(("count", "is_found"), [(14, True), (8, False)])
def test_where_lines_are_noisy_only_long_spells_are_found(count, is_found):
    residues = np.random.default_rng(0).normal(0, 0.3, (96, 20, 40)).astype(np.float32)
    residues[30 : 30 + count, :10, :20] += 3
    nothing = np.zeros_like(residues)
    found = find_spells(residues, residues, nothing > 0, nothing, 0.3, None)
    assert bool(found) is is_found
    assert all(spell.begin in range(28, 34) for spell in found)
