"""What is left of frames after subtraction, compared with the noise of the camera: where and when.

Cells pass; a wrong background shows in one of four ways, which are searched separately:

- *steady*: all frames show it. The most common value of a place over time is not 0.
- *a spell*: some consecutive frames show it. Cells cover a place only by chance, and so hardly ever
  in all of these frames; the fewer frames, the more places must show it.
- *a pattern*: it changes from frame to frame, as when light or channel trembles, but everywhere at
  the same time, while cells are at single places. The pattern of light is known, so that it is
  found in a single frame.
- *a ghost*: only the image shows it. Other images do not, and the frame looks as they do.

Where a place is covered nearly always, there is nothing to tell cells from background by: it is
*restless*, and its background is wrong.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from sparsemed.lazy import lazy_property
from sparsemed.quality.maps import FRAMES_OFF, PLACES_OFF, Floats, is_off, size_of, sizes
from sparsemed.quality.patterns import find_patterns
from sparsemed.quality.quantiles import median, quantile
from sparsemed.quality.spells import cells_in, find_spells, set_objects_aside

MOST_LEFT = 1.2
"""Grey values that may be left: together with unseen errors, a background is then off by 1.45."""

PALE = 1.5
"""Error of a median in rows that pale cells make restless by one grey value."""

_TILE = 8
"""Side of a tile in pixels, less than a cell."""


@dataclass(frozen=True)
class Left:
    """What is left of n frames at h × w places, in grey values of 8 bits.

    Attributes
    ----------
    steady : ndarray, shape (h, w)
        What all frames show.
    spells : ndarray, shape (s, h, w)
        What all frames of a spell show.
    begins, ends : ndarray of int, shape (s,)
        The first frame of each spell, and the one after its last.
    pattern : ndarray, shape (n, h, w)
        What changes from frame to frame, everywhere at once.
    light : ndarray, shape (n, h, w)
        What light makes of the background in each frame, beside the offset.
    ghosts : ndarray, shape (n, h, w)
        What only the image of a frame shows.
    restless : ndarray, shape (h, w)
        By how much two of three frames differ, each in another way; 0 where fewer do.
    off : ndarray of bool, shape (n, h, w)
        Where there is more than noise, besides steady and pattern: mostly a cell.
    noise : float
        Standard deviation of the noise of a place in a frame.
    covered : float
        Share of frames in which cells cover a place, where it is largest.
    """

    steady: Floats
    spells: Floats
    begins: NDArray[np.intp]
    ends: NDArray[np.intp]
    pattern: Floats
    light: Floats
    ghosts: Floats
    restless: Floats
    off: NDArray[np.bool_]
    noise: float
    covered: float

    @lazy_property
    def course(self) -> NDArray[np.float64]:
        """What is left in each frame, exceeded at `PLACES_OFF` of the places; shape (n,)."""
        course: NDArray[np.float64] = np.maximum(
            np.maximum.reduce([sizes(self.pattern), sizes(self.light), sizes(self.ghosts)]),
            sizes(np.stack([self.steady, self.restless])).max(),
        )
        for begin, end, size in zip(
            self.begins.tolist(), self.ends.tolist(), sizes(self.spells).tolist(), strict=True
        ):
            course[begin:end] = np.maximum(course[begin:end], size)
        return course

    @lazy_property
    def size(self) -> float:
        """What is left in more than `FRAMES_OFF` of the frames."""
        return float(np.quantile(self.course, 1 - FRAMES_OFF, method="higher"))

    @property
    def is_restless(self) -> bool:
        """Whether most of it is at places that are covered nearly always."""
        return float(sizes(self.restless[np.newaxis])[0]) > self.size / 2

    def map_of(self, frame: int) -> Floats:
        """Return what is left in one of the frames, by one of the largest."""
        maps = [self.steady, *self.spells[(self.begins <= frame) & (frame < self.ends)]]
        maps += [each[frame] for each in (self.ghosts, self.light)]
        maps += [self.restless, self.pattern[frame]]  # these two show traces of cells
        found = sizes(np.stack(maps))
        shown: Floats = maps[int(np.argmax(found >= 0.9 * found.max()))]
        return shown


def find_left(
    residues: Floats,
    quiet: Floats,
    light: Floats,
    unusual: Floats,
    varies: NDArray[np.bool_],
    grid: int,
) -> Left:
    """Find what is left in frames minus their backgrounds and offsets.

    Parameters
    ----------
    residues : ndarray, shape (n, h, w)
        Places of frames in the order of time, where there may be cells.
    quiet : ndarray, shape (n, k, w)
        Places without cells, or the same places.
    light : ndarray, shape (n, h, w)
        How much brighter the light makes the backgrounds than the offsets say.
    unusual : ndarray, shape (n, h, w)
        What the backgrounds show and most others do not.
    varies : ndarray of bool, shape (h, w)
        Where background images differ from each other.
    grid : int
        Pixels from one place to the next. A place is the mean of 3 × 3 pixels.

    Returns
    -------
    Left
    """
    noise = noise_of(residues, grid)
    of_lines = _noise_of_lines(quiet, noise, grid)
    has_noisy_lines = max(of_lines) > noise / 2
    of_all = math.hypot(noise, *of_lines)
    steady = _most_common(residues, of_all)
    changes = residues - steady
    pattern = find_patterns(changes, of_lines, noise, grid)
    off = is_off(changes - pattern, of_all)
    width = cell_width(off, grid) / grid
    covered = how_often(off, grid, width)
    cells = None if has_noisy_lines else cells_in(off, covered, width)
    spells = find_spells(residues, changes, off, unusual, of_all, cells)
    maps = np.array([spell.map for spell in spells], np.float32).reshape(-1, *steady.shape)
    set_objects_aside(maps, varies)
    light = light * _beyond_lines(light, of_lines, grid)
    ghosts = _ghosts(residues, unusual, of_all)
    restless = _restless(changes, off)
    if not has_noisy_lines:
        restless = np.maximum(restless, _restless_rows(changes, off, noise))
    begins = np.array([spell.begin for spell in spells], np.intp)
    ends = np.array([spell.end for spell in spells], np.intp)
    return Left(steady, maps, begins, ends, pattern, light, ghosts, restless, off, noise, covered)


def noise_of(residues: Floats, grid: int) -> float:
    """Return the noise of a place, from neighbours along the flow that share no pixel.

    Their differences contain no light, no edges along the flow and, in quiet rows, no cells.
    """
    apart = math.ceil(3 / grid)
    steps = np.abs(residues[:, :, apart:] - residues[:, :, :-apart])
    if not steps.size:
        return 0.02
    of_rows = median(steps.transpose(1, 0, 2).reshape(steps.shape[1], -1))
    return max(float(np.quantile(of_rows, 0.25)) * 1.4826 / math.sqrt(2), 0.02)


def _most_common(residues: Floats, noise: float) -> Floats:
    """Return the most common value of each place over time, which passing cells do not change.

    Beginning with the median, it is four times replaced by the mean of values within 2.5 times the
    noise.
    """
    reach = np.float32(2.5 * max(noise, 0.25))
    centre: Floats = median(residues, axis=0)
    scratch = np.empty_like(residues)
    for _ in range(4):
        near = np.abs(np.subtract(residues, centre, out=scratch), out=scratch) < reach
        count = np.count_nonzero(near, axis=0)
        sums = np.sum(np.multiply(residues, near, out=scratch), axis=0)
        centre = np.where(count > 0, sums / np.maximum(count, 1), centre).astype(np.float32)
    return centre


def how_often(off: NDArray[np.bool_], grid: int, width: float) -> float:
    """Return the share of frames in which cells cover a place, where they do most.

    With a share ``c``, a place that is off was not in the frame before in a share ``c (1 - c)``
    of frames; what stays for a while hardly adds to that. Taken from the mean of that over tiles
    as large as a cell, of which `PLACES_OFF` exceed it, while most cells pass.
    """
    if len(off) < 2:
        return 0.0
    arriving = off[1:] & ~off[:-1]
    arrivals = np.mean(arriving, axis=0)
    rows, columns = (
        np.arange(0, max(1, length - tile + 1), tile)
        for length, tile in ((side, max(1, _TILE // grid)) for side in arrivals.shape)
    )
    tiles = np.add.reduceat(np.add.reduceat(arrivals, rows, axis=0), columns, axis=1)
    counts = np.outer(
        np.diff(rows, append=arrivals.shape[0]), np.diff(columns, append=arrivals.shape[1])
    )
    most = _busiest(arriving, width) * float(np.quantile(tiles / counts, 1 - PLACES_OFF))
    often = min(0.25, most)
    return (1 - math.sqrt(1 - 4 * often)) / 2


def _busiest(arriving: NDArray[np.bool_], width: float) -> float:
    """Return how many times more cells than usual arrive in the twelfth with most of them.

    Twice what chance may add is taken off; `width` is that of cells in places.
    """
    cells = np.sum(arriving, axis=(1, 2)) / max(math.pi / 4 * width**2, 1)
    most = max(np.array_split(cells, min(12, len(cells))), key=np.mean)
    surely = float(np.sum(most)) - 2 * math.sqrt(float(np.sum(most)))
    return max(1.0, surely / len(most) / max(float(np.mean(cells)), 1e-9))


def cell_width(off: NDArray[np.bool_], grid: int) -> float:
    """Return the width of cells in pixels, from the mean length of covered stretches of rows."""
    begins = int(np.count_nonzero(off[:, :, 1:] & ~off[:, :, :-1]))
    return 4 / math.pi * grid * int(np.count_nonzero(off)) / max(1, begins)


def _beyond_lines(light: Floats, of_lines: tuple[float, float], grid: int) -> np.float32:
    """Return the share of the light that noise of whole rows or columns cannot explain.

    A straight line through ``m`` values with the noise ``s`` is off at its ends by up to
    ``3 s sqrt(6 / m)``, in nearly all frames.
    """
    overlap = max(1.0, 3 / grid)
    by_chance = max(
        3 * noise * math.sqrt(6 * overlap / count)
        for noise, count in zip(of_lines, light.shape[1:], strict=True)
    )
    size = size_of(light)
    return np.float32(math.sqrt(1 - (by_chance / size) ** 2) if size > by_chance else 0)


def _ghosts(residues: Floats, unusual: Floats, noise: float) -> Floats:
    """Return what only the image of a frame shows: there, the frame is as most images are.

    As where cells cover a place in most of the frames of a window, but not in others.
    """
    ghosts = np.zeros_like(unusual)
    off = is_off(unusual, noise)
    shown = unusual[off]
    ghosts[off] = shown * (np.abs(residues[off] + shown) < np.abs(shown) / 3)
    return ghosts


def _restless(residues: Floats, off: NDArray[np.bool_]) -> Floats:
    """Return by how much places differ in two of three frames."""
    restless = np.zeros(residues.shape[1:], np.float32)
    covered = np.mean(off, axis=0) > 2 / 3
    if np.any(covered):
        restless[covered] = quantile(np.abs(residues[:, covered]), 1 / 3, axis=0)
    return restless


def _restless_rows(residues: Floats, off: NDArray[np.bool_], noise: float) -> Floats:
    """Return the error of a median in rows with cells too pale to be set aside; shape (h, 1).

    There, two of three values differ more than noise explains, given the share that is set aside.
    """
    rows = np.abs(residues).transpose(1, 0, 2).reshape(residues.shape[1], -1)
    near = quantile(rows, 1 / 3)
    set_aside = np.minimum(np.mean(off, axis=(0, 2)), 0.6)
    usual = [NormalDist().inv_cdf(0.5 + 0.5 / 3 / (1 - share)) for share in set_aside.tolist()]
    excess = np.sqrt(np.maximum(0, (near / usual) ** 2 - noise**2))
    return (PALE * excess[:, np.newaxis]).astype(np.float32)


def _noise_of_lines(quiet: Floats, noise: float, grid: int) -> tuple[float, float]:
    """Return the common noise of whole rows, and of whole columns, of a frame."""
    apart = math.ceil(3 / grid)
    found = []
    for axis in (2, 1):
        lines = median(quiet, axis)
        steps = lines[:, apart:] - lines[:, :-apart]
        size = float(np.median(np.abs(steps - median(steps, axis=0)))) if steps.size else 0.0
        of_places = (1.25 * noise) ** 2 / (quiet.shape[axis] / apart)
        found.append(math.sqrt(max(0.0, (1.4826 * size) ** 2 / 2 - of_places)))
    return found[0], found[1]
