"""Measurements with a known fault and a known truth, made up or of real frames."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import h5py
import numpy as np
from scipy import ndimage

from benchmarks.measurements import real_measurement

HEIGHT, WIDTH = 64, 128
CHANNEL = slice(20, 46)
RATE = 100.0


class Made(NamedTuple):
    """A measurement, and what a perfect background of each frame would be.

    Attributes
    ----------
    frames : ndarray, shape (N, H, W), uint8 or uint16
    time : ndarray, shape (N,), seconds
    truth : callable
        Returns the channel without cells, as the lamp lights it, in a frame of that number.
    scale : float
        What a grey value of 8 bits amounts to in the frames.
    """

    frames: Any
    time: Any
    truth: Callable[[int], Any]
    scale: float


def error(background, made: Made, count: int = 100) -> float:
    """Return how far a background is off the truth, in grey values of 8 bits.

    With ``r = background + offset - truth`` of a frame, averaged over 3 × 3 pixels (which leaves
    what has the size of a cell or an edge, and little of the noise), the error of the frame is the
    95 % quantile of ``abs(r)`` over the pixels of the channel, its edges included. Returned is the
    95 % quantile over (at most 100, evenly spaced) frames. Rounding and the noise of
    a median of 200 frames make `FLOOR`.
    """
    chosen = np.unique(np.linspace(0, len(made.time) - 1, count).round().astype(int))
    errors = []
    for number in chosen.tolist():
        left = background[number] - made.truth(number)
        if background.offsets is not None:
            left = left + background.offsets[number]
        left = ndimage.uniform_filter(left / made.scale, 3)
        errors.append(np.quantile(np.abs(left[CHANNEL]), 0.95))
    return float(np.quantile(errors, 0.95))


FLOOR = 0.45
"""Error of a background that has no fault but rounding and the noise of the camera."""


@lru_cache(maxsize=8)
def drawn_channel(seed: int):
    """Draw an empty channel: walls with dark edges, uneven light, and specks of dirt."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    from_wall = np.minimum(rows - 21, HEIGHT - 19 - rows)
    channel = np.where(from_wall < 0, 120.0, 150.0)
    channel -= 60 * np.exp(-((from_wall / 2.0) ** 2))
    channel += 12 * np.exp(-((columns - 60) ** 2 + (rows - 32) ** 2) / 4e3)
    for _ in range(10):
        row, column = rng.integers(HEIGHT), rng.integers(WIDTH)
        channel -= rng.uniform(5, 25) * np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 3)
    return channel


@lru_cache(maxsize=4)
def drawn_cell(radius: float = 6):
    """Draw what a cell adds to the channel: a dark rim around a brighter middle."""
    reach = np.arange(-int(radius) - 3, int(radius) + 4)
    distance = np.hypot(*np.meshgrid(reach, reach))
    rim = -45 * np.exp(-(((distance - radius) / 1.7) ** 2))
    return rim + 15 * np.exp(-((distance / (0.6 * radius)) ** 2))


@lru_cache(maxsize=1)
def drawn_lamp():
    """Draw what a bright object of one grey value adds to the picture."""
    distance = np.hypot(*np.mgrid[-8:9, -8:9])
    return np.clip((7 - distance) / 3, 0, 1)


@lru_cache(maxsize=1)
def real_scene():
    """Return channel and cells (what they add to it) of a real measurement."""
    with h5py.File(real_measurement("2023")) as h5:
        frames = h5["events/image"][:].astype(float)
    channel = np.median(frames, axis=0)
    cells = []
    for frame in frames:
        added = frame - channel - np.median(frame - channel)
        seen = ndimage.binary_dilation(abs(ndimage.uniform_filter(added, 3)) > 6, iterations=2)
        label, _ = ndimage.label(seen)
        for number, place in enumerate(ndimage.find_objects(label), 1):
            size = np.count_nonzero(label == number)
            if 150 < size < 1500 and place[0].start > 20 and place[0].stop < 60:
                cells.append(np.where(label[place] == number, added[place], 0))
    return ndimage.gaussian_filter(channel, 0.5)[8:72, 100:228], cells[:20]


def make(
    fault: str,
    strength: float = 1.0,
    seed: int = 0,
    dtype=np.uint8,
    count: int = 2400,
    real: bool = False,
) -> Made:
    """Make a measurement with a fault; see `FAULTS` for what a strength is."""
    rng = np.random.default_rng(seed)
    channel, cells = real_scene() if real else (drawn_channel(seed), [drawn_cell()])
    time = np.arange(count) / RATE
    if fault == "few":
        count = int(strength)
        time = np.linspace(0, 240, count)
    if fault.startswith("short"):
        count = int(strength)
        time = np.arange(count) / RATE
    height, width = channel.shape

    states = Course(fault, strength, channel, count, rng)
    grain = rng.normal(0, 40 if fault == "noise" else 1.5, (24, height, 2 * width))
    scale = 1.0 if dtype == np.uint8 else 16.0
    frames = np.empty((count, height, width), dtype)
    density = strength if fault == "dense cells" else 1.0
    density = density / 2 if real else density  # its cells are larger
    mean = 0 if fault in ("noise", "stack, bright objects") else density
    slow = []
    if fault in SLOW:
        slow = _slow_cells(SLOW[fault] or strength, count, width, rng)
    lamps = _wandering(count, height, width, rng) if fault == "stack, bright objects" else None
    rolling = _rolling_cells(width, rng) if fault == "rolling cells" else []
    begin_stuck = (1 - strength) * count if fault == "stuck cell" else count
    pale = 23 if fault == "pale cells" else 0
    crowd = -25 * np.log(1 - strength) if fault == "crowded spells" else 0  # 23 of them cover 60 %
    pale_cell = -(np.hypot(*np.mgrid[-7:8, -7:8]) < 7).astype(float)
    for number in range(count):
        shift = rng.integers(width)
        frame = states(number) + grain[rng.integers(24), :, shift : shift + width]
        for begin, end, left in slow:
            if begin <= number < end:
                _put(frame, drawn_cell(), 23, left)
        if number >= begin_stuck:
            _put(frame, cells[0], 25, 40)
        if lamps is not None:
            for top, left in lamps[number].tolist():
                _put(frame, strength * drawn_lamp(), int(top) - 8, int(left) - 8)
        for left, cell in rolling:
            at = (left + strength * time[number]) % (width + 20) - 15
            _put(frame, cell, height - 37, int(at))
        if fault == "triggered" and rng.random() < strength:
            _put(frame, drawn_cell(9), 21 + rng.integers(-1, 2), 50 + rng.integers(-2, 3))
        if fault == "row noise":
            frame += rng.normal(0, strength, (height, 1))
        if crowd and _is_crowded(number / count):
            for _ in range(rng.poisson(crowd)):
                _put(frame, 35 * pale_cell, rng.integers(15, 40), rng.integers(-13, width))
        for _ in range(rng.poisson(pale)):
            _put(frame, strength * pale_cell, rng.integers(15, 40), rng.integers(-13, width))
        for _ in range(rng.poisson(mean)):
            cell = cells[rng.integers(len(cells))]
            rows = (0, height) if fault.startswith("stack") else (22, height - 20)
            _put(
                frame,
                cell,
                rng.integers(rows[0], max(rows[0] + 1, rows[1] - cell.shape[0] + 1)),
                rng.integers(-5, width - 5),
            )
        if fault == "saturation":
            frame = frame * (1 + strength)
        frames[number] = np.clip(np.rint(scale * frame), 0, 255 * scale)

    def truth(number):
        light = 1 + strength if fault == "saturation" else 1
        return np.clip(scale * light * states(number), 0, 255 * scale)

    return Made(frames, time, truth, scale)


class Course:
    """The channel without cells in each frame: where it is, how sharp, and how bright."""

    def __init__(self, fault, strength, channel, count, rng):
        part = np.arange(count) / count
        self.fault = fault
        self.channel = channel
        self.shift = np.zeros(count)
        self.blur = np.zeros(count)
        self.light = np.ones(count)
        self.added = np.zeros(count)
        self.uneven = np.zeros(count)
        self.unevenness = np.zeros_like(channel)
        self.turn = np.zeros(count)
        self.widening = np.zeros(count)
        self.other = channel
        self.other_from = count
        rows, columns = np.mgrid[: len(channel), : channel.shape[1]].astype(float)
        rows, columns = rows - len(channel) / 2, columns - channel.shape[1] / 2
        self.across = rows / (len(channel) / 2), columns / (channel.shape[1] / 2)
        self.dirt_from = count
        self.dirt = np.zeros_like(channel)
        if fault == "noise" or fault.startswith("stack"):
            self.channel = np.full_like(channel, 120)
        if fault.startswith("stack"):
            rows, columns = np.mgrid[: len(channel), : channel.shape[1]]
            self.channel = 120 + 15 * np.sin(rows / 9) * np.cos(columns / 13)
        if fault == "dirt":
            self.dirt_from = count // 2
            for row, column in rng.integers([22, 10], [42, 118], (6, 2)):
                rows, columns = np.mgrid[: len(channel), : channel.shape[1]]
                spot = np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 12)
                self.dirt -= 40 * strength * spot
        if fault == "focus drift":
            self.blur = strength * part
        if fault == "refocus":
            self.blur = np.where(part > 0.5, strength, 0)
        if fault == "jump":
            self.shift = np.where(part > 0.4, strength, 0)
        if fault == "creep":
            self.shift = strength * part
        if fault == "vibration":
            self.shift = rng.uniform(-strength, strength, count)
        if fault == "mains":
            phase = 2 * np.pi * np.arange(count) * 0.3819
            self.light = 1 + strength * np.sin(phase)
        if fault == "warm-up":
            self.light = 1 - strength * (1 - part)
        if fault == "flashes":
            self.added = np.where(rng.random(count) < 0.02, strength, 0)
        if fault == "lamp in steps":
            self.light = np.where(np.floor(part * 12) % 2, 1 - strength, 1)
        if fault == "hot pixels":
            self.channel = channel.copy()
            self.channel[tuple(rng.integers(0, channel.shape, (int(strength), 2)).T)] = 255
        spell = (part > 0.4) & (part < 0.52)
        if fault == "focus lost":
            self.blur = np.where(spell, strength, 0)
        if fault == "pushed":
            self.shift = np.where(spell, strength, 0)
        if fault == "bubble":
            distance = np.hypot(rows + 3, columns - 5)
            self.unevenness = 40 * np.exp(-(((distance - 11) / 2) ** 2)) * (abs(rows) < 13)
            self.uneven = np.where((part > 0.3) & (part < 0.3 + strength), -1, 0)
        if fault == "late jump":
            self.shift = np.where(part > 0.93, strength, 0)
        if fault == "another channel":
            self.other, self.other_from = drawn_channel(99), int(strength * count)
        if fault == "light turned up late":
            self.light = np.where(part > 0.92, 1 + strength, 1)
        if fault == "turning":
            self.turn = rng.uniform(-strength, strength, count)
        if fault == "pulsating walls":
            self.widening = rng.uniform(-strength, strength, count)
        if fault == "tilt of light":
            self.unevenness, self.uneven = self.across[1], rng.uniform(-strength, strength, count)
        if fault == "vignette":
            self.unevenness = self.across[0] ** 2 + self.across[1] ** 2 - 0.6
            self.uneven = rng.uniform(-strength, strength, count)
        if fault == "every other frame":
            self.shift = np.where(np.arange(count) % 2, strength, 0)
        if fault == "shadow":
            self.uneven = np.full(count, -strength)
        if fault == "stack with lamp":
            self.added = np.where(np.arange(count) % 3, 0, strength)
        self._drawn = {}

    def __call__(self, number):
        key = round(50 * self.shift[number]) / 50, round(float(self.blur[number]), 2)
        if key not in self._drawn:
            image = ndimage.shift(self.channel, (key[0], key[0] / 2), order=1, mode="nearest")
            self._drawn[key] = ndimage.gaussian_filter(image, key[1])
        image = self._drawn[key]
        if number >= self.other_from:
            image = self.other
        rows, columns = self.across
        turned = self.turn[number] * columns + self.widening[number] * np.sign(rows)
        if np.any(turned):
            image = image - turned * np.gradient(image, axis=0)
        if number >= self.dirt_from:
            image = image + self.dirt
        unevenness = self.unevenness
        if self.fault == "shadow":  # it walks along the channel
            unevenness = np.exp(
                -(((columns / 1.3 - 2.4 * number / len(self.light) + 1.2) / 0.3) ** 2)
            )
        if self.uneven[number]:
            image = image + self.uneven[number] * unevenness
        return self.light[number] * image + self.added[number]


def _put(frame, cell, top, left):
    """Add a cell to a frame, as far as it is inside."""
    rows = slice(max(0, top), min(frame.shape[0], top + cell.shape[0]))
    columns = slice(max(0, left), min(frame.shape[1], left + cell.shape[1]))
    if rows.start >= rows.stop or columns.start >= columns.stop:
        return
    frame[rows, columns] += cell[
        rows.start - top : rows.stop - top, columns.start - left : columns.stop - left
    ]


def _is_crowded(part):
    """Whether cells come in crowds: for a third of the time, in two spells."""
    return 0.15 < part < 0.33 or 0.6 < part < 0.77


SLOW = {"slow cells": None, "short, slow cells": 0.4}
"""Faults with slow cells, and the share that they stay if that is not the strength."""


def _slow_cells(share, count, width, rng):
    """Return begin, end and left of cells that stay for that share of a window of 200 frames."""
    slow, begin = [], 0
    while begin < count:
        end = begin + int(200 * share * rng.uniform(0.9, 1.1))
        slow.append((begin, end, int(rng.integers(0, width - 20))))
        begin = end + int(rng.integers(20, 60))
    return slow


def _wandering(count, height, width, rng):
    """Return where 6 objects are that wander at random, which leave on one side and come back."""
    steps = rng.normal(0, 0.7, (count, 6, 2))
    steps[0] = rng.uniform(0, [height, width], (6, 2))
    return np.cumsum(steps, axis=0) % [height, width]


def _rolling_cells(width, rng):
    """Return left and picture of cells that roll along the lower wall."""
    return [(left, drawn_cell(5)) for left in rng.uniform(0, width, width // 24)]


FAULTS = {
    "plain": (1.0,),
    "dense cells": (3.0, 5.0, 8.0, 16.0),
    "slow cells": (0.3, 0.6, 0.9),
    "stuck cell": (0.5, 0.25),
    "dirt": (0.3, 1.0),
    "focus drift": (0.5, 1.5, 3.0),
    "refocus": (0.5, 2.0),
    "jump": (0.3, 1.0, 4.0),
    "creep": (0.5, 3.0, 10.0),
    "vibration": (0.1, 0.5, 1.5),
    "mains": (0.01, 0.04, 0.09),
    "warm-up": (0.1, 0.2, 0.4),
    "flashes": (5.0, 20.0),
    "lamp in steps": (0.05, 0.2),
    "focus lost": (0.7, 2.0),
    "pushed": (0.2, 0.6, 3.0),
    "bubble": (0.07, 0.1, 0.2),
    "late jump": (0.3, 3.0),
    "another channel": (0.5, 0.93),
    "light turned up late": (0.05, 0.2),
    "turning": (0.15, 0.3),
    "pulsating walls": (0.04, 0.1),
    "tilt of light": (1.0, 3.0),
    "vignette": (1.0, 3.0),
    "every other frame": (0.05, 0.3),
    "shadow": (3.0,),
    "rolling cells": (2.0, 15.0),
    "triggered": (0.3, 0.45, 1.0),
    "pale cells": (2.3, 6.0),
    "crowded spells": (0.3, 0.5, 0.6),
    "row noise": (1.0,),
    "hot pixels": (300.0,),
    "few": (5, 16),
    "short": (500,),
    "short, slow cells": (500,),
    "noise": (1.0,),
    "saturation": (0.2, 0.9),
    "stack": (1.0,),
    "stack with lamp": (9.0,),
    "stack, bright objects": (60.0,),
}
"""Faults and their strengths.

Cells in a frame (a third of the channel's length is one's width); the share of a window of 200
frames that a slow cell stays; the share of the measurement in which a cell is stuck; grey values
of dirt over 40; pixels of blur, of a shift, or of a vibration to either side; the change of
brightness, as a share or (flashes, lamp over a stack) in grey values; the number of frames (few:
in four minutes; short: at 100 a second).

For an eighth of the time: pixels of blur (focus lost) or of a shift (pushed); the share of the time
that a bubble stays. Pixels of a shift in the last 7 %; where in time another channel begins; the
share by which light is turned up in the last 8 %. From frame to frame: pixels by which both ends of
the channel (turning) or its walls (pulsating) move, grey values by which light is uneven along the
channel (tilt) or from the middle out (vignette), pixels by which every other frame is shifted.
Grey values of a wide shadow that walks along; pixels a second of cells that roll along the lower
wall; how often a triggered camera has a cell in one place; grey values of cells that cover 60 %;
how often cells cover a place, for a third of the time; grey values of noise that a row has in
common; pixels that are always white; grey values of objects that wander at random.
"""
