"""The data behind all numbers: frames and background images, at a few thousand places."""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sparsemed.lazy import lazy_property
from sparsemed.method.result import Background
from sparsemed.method.windows import window_starts
from sparsemed.quality.finding import Cure
from sparsemed.quality.left import MOST_LEFT, Left, cell_width, find_left, noise_of
from sparsemed.quality.light import IMAGES, grey_scale
from sparsemed.quality.maps import LEAST_CELL, PLACES_OFF, Floats, is_off
from sparsemed.quality.quantiles import median
from sparsemed.quality.sample import LEAST_FRAMES, Sample, spread

PLACES = 3_500
"""Number of places of an image, or up to four times as many."""

LEAST_WINDOWS = 3
"""Least number of windows without common frames to tell whether something changes."""


class Fit(NamedTuple):
    """Images explained as backgrounds under another light and shifted, and the remainder.

    Attributes
    ----------
    gain, added : ndarray, shape (n,)
        The light of each image: its background times `gain`, plus `added`.
    shift : ndarray, shape (n, 2)
        Shift of each image in pixels, down and along the flow; 0 without edges.
    left : ndarray, shape (n, h, w)
        The remainder.
    """

    gain: NDArray[np.float64]
    added: NDArray[np.float64]
    shift: NDArray[np.float64]
    left: Floats


BLOCK = 32
"""Images that are fitted at once; more would not stay in the cache, which doubles the time."""

MOST_OF_TIME = 0.9
"""From this share of frames on, they are looked at all together."""

LEAST_PAIRS = 3
"""Least number of pairs of consecutive frames that tell how often cells arrive."""

LEAST_SIDE = 5
"""Least number of rows and columns; smaller images are extended at their edges."""


@dataclass
class View:
    """A background and a sample of its frames, at places; all else is computed at first access.

    A place is the mean of 3 × 3 pixels, which keeps edges and cells, and a third of the noise. In
    large images, places lie apart.
    """

    background: Background
    sample: Sample | None
    cure: Cure | None = None
    shorter: Cure | None = None
    most_places: int = PLACES

    @property
    def is_sampled(self) -> bool:
        """Whether there are enough frames to compare with."""
        return self.sample is not None and len(self.sample.numbers) >= LEAST_FRAMES

    @lazy_property
    def scale(self) -> float:
        """Number of grey values per grey value of 8 bits."""
        return grey_scale(self.background)

    @lazy_property
    def length(self) -> int:
        """Frames in a window."""
        count = len(self.background)
        if self.background.time[-1] <= self.background.time[0]:
            return count
        return min(int(self.background.parameters.kernel_size), count)

    @lazy_property
    def rate(self) -> float:
        """Frames a second."""
        return len(self.background) / max(float(self.background.time[-1]), 1e-9)

    @property
    def knows_windows(self) -> bool:
        """Whether the frames of each image are known; not all files tell."""
        return not np.isnan(self.background.step_times).any()

    @lazy_property
    def starts(self) -> NDArray[np.intp]:
        """First frame of the window of each image of the series."""
        return window_starts(self.background.time, self.background.step_times, self.length)

    @lazy_property
    def apart(self) -> NDArray[np.intp]:
        """Kept images whose windows share no frames, as many as possible.

        Of many, some are taken, evenly spaced; none if windows are unknown.
        """
        if not self.knows_windows:
            return np.array([], dtype=np.intp)
        chosen: list[int] = []
        free_from = -1
        for number in np.flatnonzero(self.background.kept).tolist():
            if self.starts[number] >= free_from:
                chosen.append(number)
                free_from = int(self.starts[number]) + self.length
        return np.array(chosen, dtype=np.intp)[spread(len(chosen), IMAGES)]

    @lazy_property
    def grid(self) -> int:
        """Pixels from one place to the next."""
        _, height, width = self.background.series.shape
        return max(1, math.isqrt(height * width // self.most_places))

    def places(self, images: NDArray[Any], down: int = 0, along: int = 0) -> Floats:
        """Return images at (shifted) places, shape (n, h, w), in grey values of 8 bits."""
        height, width = (max(LEAST_SIDE, n) for n in images.shape[1:])
        if images.shape[1:] != (height, width):
            more = [(0, 0), (0, height - images.shape[1]), (0, width - images.shape[2])]
            images = np.pad(images, more, mode="edge")
        rows, columns = (np.arange(2, n - 2, self.grid) for n in (height, width))
        wide = np.uint16 if images.dtype == np.uint8 else np.float32  # exact for nine values
        means = np.empty((len(images), len(rows), len(columns)), np.float32)
        for begin in range(0, len(images), 4):  # few, so that they stay in the cache
            some = slice(begin, begin + 4)
            bands: NDArray[Any] = np.zeros((len(means[some]), len(rows), width), wide)
            for top in range(1 + down, 4 + down):
                bands += images[some, top : top + height - 4 : self.grid].astype(wide)
            sums: NDArray[Any] = np.zeros_like(means[some], wide)
            for left in range(1 + along, 4 + along):
                sums += bands[:, :, left : left + width - 4 : self.grid]
            means[some] = sums
        means /= 9 * self.scale
        return means

    @lazy_property
    def middle(self) -> slice:
        """Rows of places in the middle, the same as for cleansing."""
        height = self.background.series.shape[1]
        reach = max(20, height // 4)
        top, bottom = max(0, height // 2 - reach), height // 2 + reach
        return slice(top // self.grid, max(top // self.grid + 1, bottom // self.grid))

    @lazy_property
    def band(self) -> slice:
        """Rows of places in the first rows of an image, which are used for offsets."""
        return slice(0, max(1, (self.background.offset_rows - 2) // self.grid))

    @lazy_property
    def residues(self) -> Floats:
        """Frames of the sample minus their backgrounds and offsets."""
        assert self.sample is not None
        residues = self.frames - self.below
        if self.background.offsets is not None:
            offsets = self.background.offsets[self.sample.numbers] / self.scale
            residues -= offsets[:, np.newaxis, np.newaxis].astype(np.float32)
        return residues

    @lazy_property
    def rows(self) -> slice:
        """Rows of places where cells may pass: all rows except for a wall."""
        band = self.band.stop
        count = len(range(2, max(3, self.background.series.shape[1] - 2), self.grid))
        return slice(band if self.has_wall and count > band + 3 else 0, None)

    @lazy_property
    def left(self) -> Left:
        """What is left of the frames; see `find_left`."""
        quiet = self.residues[:, self.band if self.rows.start else self.rows]
        return find_left(
            self.residues[:, self.rows],
            quiet,
            self.light[:, self.rows],
            self.unusual[:, self.rows],
            self.varies[self.rows],
            self.grid,
        )

    @lazy_property
    def light(self) -> Floats:
        """How much brighter light makes each background than its offset does."""
        assert self.sample is not None
        found, added = self.lit, self.lit.added
        if self.background.offsets is not None:
            added = added - self.background.offsets[self.sample.numbers] / self.scale
        light: Floats = (found.gain - 1).astype(np.float32)[:, np.newaxis, np.newaxis] * self.below
        light += added.astype(np.float32)[:, np.newaxis, np.newaxis]
        return light

    @lazy_property
    def varies(self) -> NDArray[np.bool_]:
        """Where background images differ by more than one grey value, under one light."""
        if len(self.apart) < 2:
            return np.zeros(self.frames.shape[1:], bool)
        varies: NDArray[np.bool_] = np.ptp(self.series, axis=0) > 1
        return varies

    @lazy_property
    def series(self) -> Floats:
        """The images `apart`, all under the light of their median."""
        images = self.places(self.background.series[self.apart])
        usual = median(images, axis=0)
        return usual + fit(images, np.broadcast_to(usual, images.shape)).left

    @lazy_property
    def frames(self) -> Floats:
        """The frames of the sample."""
        assert self.sample is not None
        return self.places(self.sample.frames)

    @lazy_property
    def used(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """The different background images of these frames, and the index of each frame in them."""
        assert self.sample is not None
        used = self.background.frame_index[self.sample.numbers]
        return np.unique(used, return_inverse=True)

    @lazy_property
    def below(self) -> Floats:
        """The background image of each of these frames."""
        return self.images[self.used[1]]

    @lazy_property
    def images(self) -> Floats:
        """The different background images of these frames."""
        return self.places(self.background.images[self.used[0]])

    @lazy_property
    def unusual(self) -> Floats:
        """What the image of each frame shows and most images do not, under one light."""
        images = self.images
        if np.mean(np.ptp(images, axis=0) > LEAST_CELL) < PLACES_OFF / 4:
            return np.zeros_like(self.below)  # too few to count
        usual = median(images, axis=0)
        return fit(images, np.broadcast_to(usual, images.shape)).left[self.used[1]]

    @lazy_property
    def slopes(self) -> Floats:
        """Slopes of these images per pixel, down and along the flow, shape (n, 2, h, w)."""
        distinct, which = self.used
        images = self.background.images[distinct]
        down = self.places(images, down=1) - self.places(images, down=-1)
        along = self.places(images, along=1) - self.places(images, along=-1)
        rises: Floats = np.stack([down, along], axis=1)[which]
        rises /= 2
        return rises

    @lazy_property
    def lit(self) -> Fit:
        """Frames of the sample, explained by their own background images under another light."""
        return fit(self.frames, self.below)

    @lazy_property
    def fit(self) -> Fit:
        """The same, also shifted."""
        return fit(self.frames, self.below, self.slopes)

    @lazy_property
    def fixed(self) -> Fit:
        """Frames of the sample, explained by one image: their median under one light."""
        light = np.maximum(median(self.frames.reshape(len(self.frames), -1)), 1)
        light = light[:, np.newaxis, np.newaxis]
        usual = median(self.frames / light, axis=0) * np.median(light)
        slopes = median(self.slopes, axis=0)
        return fit(
            self.frames,
            *(np.broadcast_to(each, (len(light), *each.shape)) for each in (usual, slopes)),
        )

    @lazy_property
    def noise(self) -> float:
        """Noise of a place in a frame."""
        return self.left.noise

    @lazy_property
    def has_wall(self) -> bool:
        """Whether the first rows are quiet like a wall: cells arrive at less than 1 % of places.

        Effects of light or of a shift do not count.
        """
        if not self.is_sampled:
            return True

        def is_quiet(left: Floats) -> bool:
            return _arrivals(left[:, self.band], self.grid) < 0.01

        return is_quiet(self.residues) or is_quiet(self.lit.left) or is_quiet(self.fit.left)

    @lazy_property
    def is_channel(self) -> bool:
        """Whether the images show a channel: of a measurement, or if rows differ more than columns.

        Otherwise, texts do not mention walls, pumps and lamps.
        """
        if self.background.source is not None:
            return True
        usual = self.places(self.background.images[:1])[0]
        of_rows, of_columns = (float(np.var(np.mean(usual, axis=axis))) for axis in (1, 0))
        return of_rows > 2 * of_columns

    @property
    def wall(self) -> str:
        """Name of the first rows in texts."""
        return "wall" if self.is_channel else "first rows"

    @property
    def cells(self) -> str:
        """Name of what passes in texts."""
        return "cells" if self.is_channel else "objects"

    @property
    def lamp(self) -> str:
        """Name of the light in texts."""
        return "lamp" if self.is_channel else "light"

    @lazy_property
    def covered(self) -> float:
        """Share of frames in which cells cover a pixel, in the fullest rows.

        A place counts as covered if a cell is on one of its pixels; this is corrected.
        """
        return self._covered_in(np.ones(len(self.left.off), bool))

    @lazy_property
    def covered_then(self) -> float:
        """The same share in the frames of which something is left; 0 if these are nearly all."""
        then = self.left.course > MOST_LEFT
        return self._covered_in(then) if np.mean(then) < MOST_OF_TIME else 0.0

    def _covered_in(self, frames: NDArray[np.bool_]) -> float:
        pairs = frames[1:] & frames[:-1]
        if np.count_nonzero(pairs) < LEAST_PAIRS:
            return 0.0
        off = self.left.off
        rows = np.mean(off[frames], axis=(0, 2))
        arrivals = np.mean((off[1:] & ~off[:-1])[pairs], axis=(0, 2))
        # Objects that stay for a while are no cells; but above one half, only the share tells.
        passing = (1 - np.sqrt(np.maximum(0, 1 - 4 * arrivals))) / 2
        often = np.where(rows > 0.5, rows, np.minimum(rows, passing))
        width = cell_width(off, self.grid)
        return float(np.quantile(often, 0.9)) * max(0.0, (width - 3) / max(width, 3)) ** 2


def _arrivals(residues: Floats, grid: int) -> float:
    """Return the share of places at which a cell has arrived since the frame before."""
    usual: Floats = median(residues, axis=0)
    off = is_off(residues - usual, noise_of(residues, grid))
    return float(np.mean(off[1:] & ~off[:-1]))


def fit(images: Floats, below: Floats, slopes: Floats | None = None) -> Fit:
    """Explain images by their backgrounds: by light and, if slopes are given, by a shift.

    Light by least squares, without places (cells) that differ by more than three times the usual
    and by more than a change of light explains; then the shift by least squares on the tenth of
    places with the steepest slopes, without places (cells) that a shift by two pixels cannot
    explain.
    """
    blocks = [slice(begin, begin + BLOCK) for begin in range(0, len(images), BLOCK)]
    fits = [
        _fit(images[block], below[block], None if slopes is None else slopes[block])
        for block in blocks
    ]
    return Fit(*(np.concatenate(each) for each in zip(*fits, strict=True)))


def _fit(images: Floats, below: Floats, slopes: Floats | None) -> Fit:
    shape = images.shape
    x, y = (each.reshape(shape[0], -1) for each in (below, images))
    centre = np.mean(x, axis=1, keepdims=True)
    x, y = x - centre, y - centre
    left = y - x
    some = slice(None, None, max(1, left.shape[1] // 1_000))  # are enough for a median
    left -= median(left[:, some])[:, np.newaxis]
    by_light = 0.15 * np.abs(x)
    for _ in range(2):
        usual = median(np.abs(left[:, some]))[:, np.newaxis]
        near = np.abs(left) <= np.maximum(1, 4.4 * usual) + by_light
        count = np.count_nonzero(near, axis=1, keepdims=True)
        near_x = near * x
        mean_x, mean_y = _sums(near_x) / count, _sums(near * y) / count
        variance = _sums(near_x * x) / count - mean_x**2
        gain = (_sums(near_x * y) / count - mean_x * mean_y) / np.maximum(variance, 4)
        gain[variance < 4] = 1  # an even image does not tell `gain` from `added`
        added = mean_y - gain * mean_x
        left = y - gain.astype(np.float32) * x
        left -= added.astype(np.float32)
    shift = np.zeros((shape[0], 2))
    if slopes is not None:
        shift = _take_shift(left, slopes.reshape(shape[0], 2, -1))
    added += centre * (1 - gain)
    return Fit(gain[:, 0], added[:, 0], shift, left.reshape(shape))


def _sums(values: Floats) -> NDArray[np.float64]:
    # No matrix products: their threads would cost more than they save.
    sums: NDArray[np.float64] = np.sum(values, axis=-1, keepdims=True).astype(np.float64)
    return sums


def _take_shift(left: Floats, slopes: Floats) -> NDArray[np.float64]:
    """Return the shift of images in pixels, and subtract its effect from `left`."""
    steep = np.sqrt(np.sum(np.square(slopes), axis=1))
    kth = int(0.9 * (steep.shape[1] - 1))
    limit = np.maximum(np.partition(steep, kth, axis=1)[:, kth : kth + 1], 1)
    clear = (steep >= limit) & (np.abs(left) <= 2 * steep + 2)
    shift = np.zeros((len(left), 2))
    known = np.flatnonzero(np.count_nonzero(clear, axis=1) >= 20)
    down, along = (clear[known] * slopes[known, axis] for axis in (0, 1))
    residue = clear[known] * left[known]
    both = _sums(down * along)
    squares = _sums(np.square(down)), _sums(np.square(along))
    least = 0.01 * (squares[0] + squares[1])  # where all edges have one direction
    normal = np.stack([squares[0] + least, both, both, squares[1] + least], axis=-1)
    aims = np.stack([_sums(down * residue), _sums(along * residue)], axis=1)
    moved = np.clip(np.linalg.solve(normal.reshape(-1, 2, 2), aims)[:, :, 0], -2, 2)
    by = moved.astype(np.float32)[:, :, np.newaxis]
    after = residue - by[:, 0] * down - by[:, 1] * along
    better = (_sums(np.square(after)) < 0.95 * _sums(np.square(residue)))[:, 0]
    chosen = known[better]
    left[chosen] -= by[better, 0] * slopes[chosen, 0] + by[better, 1] * slopes[chosen, 1]
    shift[chosen] = -moved[better]
    return shift
