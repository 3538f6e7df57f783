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
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sparsemed.lazy import lazy_property
from sparsemed.quality.quantiles import median, quantile

Floats = NDArray[np.float32]

Pattern = tuple[Floats, Floats]
"""How strong a pattern is in each frame, shape (n,), and at each place, shape (h·w,)."""

PLACES_OFF = 0.025
"""Least share of places that counts: 5 % of a channel, as half of an image is wall."""

FRAMES_OFF = 0.02
"""Least share of frames that counts: two of 96, as a single one may be off by chance."""

MOST_LEFT = 1.2
"""Grey values that may be left: together with unseen errors, a background is then off by 1.45."""

LEAST_CELL = 1.0
"""Least difference of a covered place, in grey values."""

PALE = 1.5
"""Error of a median in rows that pale cells make restless by one grey value."""

_TILE = 8
"""Side of a tile in pixels, less than a cell."""

_MEAN_OF_LEAST = (0, 0, 0.56, 0.85, 1.03, 1.16, 1.27, 1.35, 1.42, 1.49, 1.54, 1.59, 1.63)
"""How far below the mean the least of so many normal values is, in standard deviations."""

_MOST_TOGETHER = len(_MEAN_OF_LEAST) - 1


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


def sizes(maps: Floats) -> NDArray[np.float64]:
    """Return what each map exceeds, up or down, at `PLACES_OFF` of its places."""
    if not np.any(maps):
        return np.zeros(len(maps))
    return quantile(np.abs(maps).reshape(len(maps), -1), 1 - PLACES_OFF).astype(np.float64)


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
    pattern = _pattern(changes, of_lines, noise, grid)
    off = is_off(changes - pattern, of_all)
    width = cell_width(off, grid) / grid
    covered = how_often(off, grid, width)
    length = _together(covered, width, residues.shape)
    if has_noisy_lines:
        length = _MOST_TOGETHER  # a line is as large as what counts, and its noise as a cell
    spells = _faint_spells(residues, of_all, length)
    if not has_noisy_lines:
        spells += _strong_spells(changes, off)
        cells = Cells(covered, _off_again(off), _share_of_cell(width, off.shape))
        spells = [spell for spell in spells if _is_more_than_cells(spell, off, unusual, cells)]
    maps = np.array([spell.map for spell in spells], np.float32).reshape(-1, *steady.shape)
    _set_objects_aside(maps, varies)
    light = light * _beyond_lines(light, of_lines, grid)
    ghosts = _ghosts(residues, unusual, of_all)
    restless = _restless(changes, off)
    if not has_noisy_lines:
        restless = np.maximum(restless, _restless_rows(changes, off, noise))
    begins = np.array([spell.begin for spell in spells], np.intp)
    ends = np.array([spell.end for spell in spells], np.intp)
    return Left(steady, maps, begins, ends, pattern, light, ghosts, restless, off, noise, covered)


def fill(shown: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return, for each image, the share of columns that are set in the fullest rows.

    Objects leave gaps; if the channel moves, or its light changes, whole rows are set.
    """
    filled: NDArray[np.float64] = np.quantile(np.mean(shown, axis=2), 0.95, axis=1)
    return filled


def is_off(residues: Floats, noise: float) -> NDArray[np.bool_]:
    """Return where there is more than noise: mostly a cell."""
    off: NDArray[np.bool_] = np.abs(residues) > max(LEAST_CELL, 3.5 * noise)
    return off


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


def _together(covered: float, width: float, shape: tuple[int, ...]) -> int:
    """Return a number of consecutive frames (4 to 12) that cells hardly ever cover by chance.

    `width` is the width of cells in places. If cells of a share ``a`` of a frame cover places in a
    share ``c`` of frames, all of ``m`` consecutive frames show one at a spot with a probability of
    ``c^m``. There are ``1 / a`` spots, ``j`` of which make up `PLACES_OFF`: the probability that
    this happens in the sample must be below one in fifty.
    """
    share = _share_of_cell(width, shape)
    needed = min(20, math.ceil(PLACES_OFF / share))
    for length in range(4, _MOST_TOGETHER):
        if _happens(shape[0], covered**length / share, needed) < 0.02:
            return length
    return _MOST_TOGETHER


def _share_of_cell(width: float, shape: tuple[int, ...]) -> float:
    """Return the share of a frame that a cell covers."""
    return min(1.0, max(math.pi / 4 * width**2, 1) / (shape[1] * shape[2]))


def _happens(count: int, mean: float, needed: float) -> float:
    """Return how often so many spots are found in `count` trials with this mean, about."""
    return float(count * mean**needed / math.gamma(needed + 1))


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


def _off_again(off: NDArray[np.bool_]) -> float:
    """Return how often a place that is off is still so in the next frame, usually in a twelfth."""
    again = np.sum(off[1:] & off[:-1], axis=(1, 2))
    before = np.sum(off[:-1], axis=(1, 2))
    parts = [np.array_split(each, min(12, len(off) - 1)) for each in (again, before)]
    return float(np.median([np.sum(a) / max(1, np.sum(b)) for a, b in zip(*parts, strict=True)]))


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


def _set_objects_aside(spells: Floats, varies: NDArray[np.bool_]) -> None:
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
    size = _size(light)
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


def _pattern(
    residues: Floats, noise_of_lines: tuple[float, float], noise: float, grid: int
) -> Floats:
    """Return what changes from frame to frame, everywhere at once: the real patterns of residues.

    The first singular vectors of every other frame are candidates. In the frames between, each is
    measured in the left and in the right of the places: chance, and cells, are here or there,
    so that a pattern is one if both agree (a correlation above 0.5, up or down), and if it is more
    than noise of whole rows or columns can be. Residues are clipped, so that cells weigh little,
    at three times their noise or, as long as the patterns reach beyond, twice that; of these, the
    largest pattern counts that places follow (see `_followed`).
    """
    count, height, width = residues.shape
    half = residues[::2].shape[0]
    overlap = max(1.0, 3 / grid)  # places share pixels, and so share noise
    of_rows, of_columns = noise_of_lines
    least = 2 * max(
        of_rows**2 * width * overlap * (math.sqrt(half) + math.sqrt(height / overlap)) ** 2,
        of_columns**2 * height * overlap * (math.sqrt(half) + math.sqrt(width / overlap)) ** 2,
        1e-6,  # less is rounding
    )
    clip = max(3 * noise, 2.0)
    pattern, size = np.zeros_like(residues), 0.0
    while True:
        clipped = np.clip(residues, -clip, clip)
        flat = clipped.reshape(count, -1)
        values, vectors = _largest(np.einsum("ip,jp->ij", flat[::2], flat[::2]), MOST_PATTERNS)
        found = []
        for value, vector in zip(values.tolist(), vectors, strict=True):
            shape = np.einsum("i,ip->p", vector, flat[::2])
            if value > least and _agree(clipped[1::2], shape.reshape(height, width)):
                course = np.einsum("ip,p->i", flat, shape / np.sum(np.square(shape)))
                found.append((course, shape))
        followed = _summed(_followed(found, residues, noise), residues.shape)
        size_of_followed = _size(followed)
        if size_of_followed >= size:
            pattern, size = followed, size_of_followed
        if clip > 60 or _size(_summed(found, residues.shape)) < 0.6 * clip:
            return pattern
        clip *= 2


def _largest(products: Floats, count: int) -> tuple[NDArray[np.float64], Floats]:
    """Return the largest eigenvalues of products of frames, descending, and their eigenvectors.

    Twice as many vectors are multiplied until they span what is largest. Neither matrix products
    nor `numpy.linalg.eigh` of so many frames: where cores are busy, their threads wait for each
    other, and take a hundred times as long.
    """
    power = products / max(float(np.trace(products)), 1e-9)
    power = power.astype(np.float64)
    for _ in range(2):
        power = np.einsum("ij,kj->ik", power, power)
    vectors = np.random.default_rng(0).normal(size=(len(products), 2 * count))
    for _ in range(8):
        vectors = np.linalg.qr(np.einsum("ij,jk->ik", power, vectors))[0]
    values, turns = np.linalg.eigh(np.einsum("ia,ij,jb->ab", vectors, products, vectors))
    largest = slice(None, -count - 1, -1)
    return values[largest], np.einsum("ia,ab->bi", vectors, turns[:, largest]).astype(np.float32)


def _size(maps: Floats) -> float:
    """Return what is exceeded in `FRAMES_OFF` of the frames."""
    return float(np.quantile(sizes(maps), 1 - FRAMES_OFF))


def _summed(patterns: list[Pattern], shape: tuple[int, ...]) -> Floats:
    """Return the sum of patterns, shape (n, h, w)."""
    flat = np.zeros((shape[0], shape[1] * shape[2]), np.float32)
    for course, of_places in patterns:
        flat += np.outer(course, of_places)
    return flat.reshape(shape)


def _followed(patterns: list[Pattern], residues: Floats, noise: float) -> list[Pattern]:
    """Return those patterns that places follow, each or hardly at all.

    Where many cells pass for a while, both sides of a frame are darker; but each of the places
    shows either a cell or none, and nowhere their mean. A pattern is one if at least 40 % of the
    places show it, and twice as many as show nothing. They count by the square of the pattern.
    """
    flat = residues.reshape(len(residues), -1)
    some = slice(None, None, max(1, flat.shape[1] // 1_000))  # are enough for shares
    rest = flat[:, some].copy()
    followed = []
    for course, shape in patterns:
        each = np.outer(course, shape[some])
        weight = np.square(each)
        near = np.maximum(np.abs(each) / 2, 1.5 * noise)
        from_nothing = np.abs(rest)
        from_pattern = np.abs(rest - each)
        is_nearer = from_pattern < from_nothing
        follow = np.sum(weight * (is_nearer & (from_pattern < near)))
        if follow >= max(
            0.4 * np.sum(weight),
            2 * np.sum(weight * (~is_nearer & (from_nothing < near))),
        ):
            rest -= each
            followed.append((course, shape))
    return followed


MOST_PATTERNS = 4
"""Largest number of patterns; a shift has two, as has a travelling wave."""


def _agree(residues: Floats, shape: Floats) -> bool:
    """Whether both sides of frames show a pattern at the same time.

    The middle quarter is left out, as cells may extend over both sides.
    """
    side = max(1, 3 * shape.shape[1] // 8)
    halves = [
        np.sum(residues[:, :, part] * shape[:, part], axis=(1, 2))
        for part in (slice(side), slice(-side, None))
    ]
    halves = [half - np.mean(half) for half in halves]
    sizes_of_both = math.sqrt(float(halves[0] @ halves[0]) * float(halves[1] @ halves[1]))
    return abs(float(halves[0] @ halves[1])) > 0.5 * sizes_of_both > 0
