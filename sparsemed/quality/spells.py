"""Spells: what some consecutive frames show, and cells do not by chance."""

import math
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sparsemed.quality.maps import LEAST_CELL, PLACES_OFF, Floats, fill, sizes
from sparsemed.quality.quantiles import median

_MEAN_OF_LEAST = (0, 0, 0.56, 0.85, 1.03, 1.16, 1.27, 1.35, 1.42, 1.49, 1.54, 1.59, 1.63)
"""How far below the mean the least of so many normal values is, in standard deviations."""

_MOST_TOGETHER = len(_MEAN_OF_LEAST) - 1


class Spell(NamedTuple):
    """What frames from `begin` to `end` show: all of them, or medians of so many each."""

    map: Floats
    begin: int
    end: int
    together: int = 1


class Cells(NamedTuple):
    """How often a place shows a cell, how often still in the next frame, and a cell's share."""

    covered: float
    again: float
    share: float


def cells_in(off: NDArray[np.bool_], covered: float, width: float) -> Cells:
    """Return how cells cover places.

    Parameters
    ----------
    off : ndarray of bool, shape (n, h, w)
        Where there is a cell.
    covered : float
        Share of frames in which cells cover a place, where it is largest.
    width : float
        Width of cells in places.
    """
    share = max(math.pi / 4 * width**2, 1) / (off.shape[1] * off.shape[2])
    return Cells(covered, _off_again(off), min(1.0, share))


def _off_again(off: NDArray[np.bool_]) -> float:
    """Return how often a place that is off is still so in the next frame, usually in a twelfth."""
    again = np.sum(off[1:] & off[:-1], axis=(1, 2))
    before = np.sum(off[:-1], axis=(1, 2))
    parts = [np.array_split(each, min(12, len(off) - 1)) for each in (again, before)]
    return float(np.median([np.sum(a) / max(1, np.sum(b)) for a, b in zip(*parts, strict=True)]))


def find_spells(
    residues: Floats,
    changes: Floats,
    off: NDArray[np.bool_],
    unusual: Floats,
    noise: float,
    cells: Cells | None,
) -> list[Spell]:
    """Find spells in what is left of frames.

    Parameters
    ----------
    residues, changes : ndarray, shape (n, h, w)
        What is left of frames, and the same without what all of them show.
    off : ndarray of bool, shape (n, h, w)
        Where there is more than noise.
    unusual : ndarray, shape (n, h, w)
        What the backgrounds show and most others do not.
    noise : float
        Standard deviation of the noise of a place.
    cells : Cells or None
        How cells cover places. None where whole rows or columns are noisy: a line is as large as
        what counts, and its noise is taken for a cell.
    """
    if cells is None:
        return _faint_spells(residues, noise, _MOST_TOGETHER)
    length = _together(cells, len(off))
    spells = _faint_spells(residues, noise, length) + _strong_spells(changes, off)
    return [spell for spell in spells if _is_more_than_cells(spell, off, unusual, cells)]


def _together(cells: Cells, count: int) -> int:
    """Return a number of consecutive frames (4 to 12) that cells hardly ever cover by chance.

    If cells of a share ``a`` of a frame cover places in a share ``c`` of frames, all of ``m``
    consecutive frames show one at a spot with a probability of ``c^m``. There are ``1 / a`` spots,
    ``j`` of which make up `PLACES_OFF`: the probability that this happens in the sample must be
    below one in fifty.
    """
    needed = min(20, math.ceil(PLACES_OFF / cells.share))
    for length in range(4, _MOST_TOGETHER):
        if _happens(count, cells.covered**length / cells.share, needed) < 0.02:
            return length
    return _MOST_TOGETHER


def _happens(count: int, mean: float, needed: float) -> float:
    """Return how often so many spots are found in `count` trials with this mean, about."""
    return float(count * mean**needed / math.gamma(needed + 1))


def _strong_spells(changes: Floats, off: NDArray[np.bool_]) -> list[Spell]:
    """Return what is `off`, in the same direction, in all of some consecutive frames."""
    found = []
    dark, bright = off & (changes < 0), off & (changes > 0)
    for length in range(2, min(_MOST_TOGETHER, len(off)) + 1):
        shown = _running(np.minimum, dark, length) | _running(np.minimum, bright, length)
        large = np.count_nonzero(shown, axis=(1, 2)) > PLACES_OFF * off[0].size
        for begin in np.flatnonzero(large).tolist():
            values = changes[begin : begin + length]
            least = np.min(np.abs(values), axis=0) * np.sign(values[0])
            found.append(Spell(least * shown[begin], begin, begin + length))
    return found


def _is_more_than_cells(
    spell: Spell, off: NDArray[np.bool_], unusual: Floats, cells: Cells
) -> bool:
    """Whether a spell covers more places than cells do by chance.

    If cells cover the places beside it in a share ``c`` of its ``m`` frames, in fuller rows, and
    cover them still in the next frame in a share ``q``, all frames show one at ``c q^(m - 1) / a``
    spots, as a cell covers a share ``a`` of the places. The spell must cover so many spots as are
    covered less than once in fifty samples. If its images show it in reverse, it is not in the
    frames: then, ``q`` is ``c``.
    """
    shown, frames = np.abs(spell.map) > LEAST_CELL, off[spell.begin : spell.end]
    share = float(np.mean(shown))
    places = len(frames) * np.count_nonzero(~shown, axis=1)
    if share <= PLACES_OFF or not np.any(places):
        return share > PLACES_OFF
    beside = np.count_nonzero(frames & ~shown, axis=(0, 2))[places > 0] / places[places > 0]
    covered = max(cells.covered, float(np.quantile(beside, 0.75)))
    of_image = np.mean(unusual[spell.begin : spell.end], axis=0)
    is_of_image = -of_image * np.sign(spell.map) > np.abs(spell.map) / 4
    again = 0.0 if np.mean(is_of_image[shown]) > 0.5 else cells.again
    at_first = (
        max(covered, float(np.quantile(np.mean(off, axis=(0, 2)), 0.9))) if again else covered
    )
    first, later = (_half_of(spell.together, each) for each in (at_first, max(covered, again)))
    medians = (spell.end - spell.begin) // spell.together
    spots = first * later ** (medians - 1) / cells.share
    found = min(100.0, max(1.0, share / cells.share))
    return found > spots and _happens(len(off) // spell.together, spots, found) < 0.02


def _half_of(count: int, share: float) -> float:
    """Return how often at least half of so many frames show what a share of all frames shows."""
    count = min(count, 1000)  # of more, the result is the same, but terms exceed a float
    return sum(
        math.comb(count, some) * share**some * (1 - share) ** (count - some)
        for some in range((count + 1) // 2, count + 1)
    )


def _faint_spells(residues: Floats, noise: float, length: int) -> list[Spell]:
    """Return what all of some consecutive frames show, also if it is hardly more than noise.

    If the noise is above 0.75, medians of some frames replace single frames.
    """
    together = min(len(residues), math.ceil((1.25 * noise / 0.75) ** 2)) if noise > 0.75 else 1
    count = len(residues) // together
    firsts = np.arange(len(residues))
    if together > 1:
        noise *= 1.25 / math.sqrt(together)
        firsts = np.linspace(0, len(residues), count, endpoint=False).astype(np.intp)
        parts = np.split(residues, firsts[1:])
        residues = np.stack([median(part, axis=0) for part in parts])
        length = 4  # of medians, in which cells hardly show
    length = min(length, len(residues))
    least, most = (_running(bound, residues, length) for bound in (np.minimum, np.maximum))
    # The least value of a spell is below its mean; the limit leaves noise at one in 500 places.
    limit = max(0.5, NormalDist().inv_cdf(1 - 0.001 ** (1 / length))) * noise
    shift = np.float32((_MEAN_OF_LEAST[length] - 0.25) * noise)
    spells = np.zeros_like(least)
    np.copyto(spells, least + shift, where=least > limit)
    np.copyto(spells, most - shift, where=most < -limit)
    large = np.count_nonzero(np.abs(spells) > LEAST_CELL, axis=(1, 2)) > PLACES_OFF * least[0].size
    return [
        Spell(spells[number], begin, begin + length * together, together)
        for number, begin in enumerate(firsts.tolist()[: len(spells)])
        if large[number]
    ]


def _running(bound: np.ufunc, values: NDArray[Any], length: int) -> NDArray[Any]:
    """Return the least, or the largest, values of so many consecutive frames."""
    done = 1
    while done < length:
        step = min(done, length - done)
        values = bound(values[:-step], values[step:])
        done += step
    return values


def set_objects_aside(spells: Floats, varies: NDArray[np.bool_]) -> None:
    """Remove slow objects from spells, unless a background image shows them.

    They are at changing places: all spells together show more than three times as many places as
    one spell, and none fills a row. Objects that stay in one place, such as a bubble, are kept.
    """
    if not np.any(spells):
        return
    shown = np.abs(spells) > max(1.0, float(sizes(spells).max()) / 2)
    shown = shown[np.mean(shown, axis=(1, 2)) > PLACES_OFF / 2]
    often = float(np.mean(np.any(shown, axis=0)))
    if often > 3 * float(np.mean(shown)) and np.quantile(fill(shown), 0.9) < 0.7:
        spells[:, ~varies] = 0
