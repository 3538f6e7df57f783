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
    height, width = channel.shape

    states = Course(fault, strength, channel, count, rng)
    grain = rng.normal(0, 40 if fault == "noise" else 1.5, (24, height, 2 * width))
    scale = 1.0 if dtype == np.uint8 else 16.0
    frames = np.empty((count, height, width), dtype)
    density = strength if fault == "dense cells" else 1.0
    density = density / 2 if real else density  # its cells are larger
    mean = 0 if fault == "noise" else density
    slow = _slow_cells(strength, count, width, rng) if fault == "slow cells" else []
    begin_stuck = (1 - strength) * count if fault == "stuck cell" else count
    for number in range(count):
        shift = rng.integers(width)
        frame = states(number) + grain[rng.integers(24), :, shift : shift + width]
        for begin, end, left in slow:
            if begin <= number < end:
                _put(frame, drawn_cell(), 23, left)
        if number >= begin_stuck:
            _put(frame, cells[0], 25, 40)
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
        self.channel = channel
        self.shift = np.zeros(count)
        self.blur = np.zeros(count)
        self.light = np.ones(count)
        self.added = np.zeros(count)
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
        if fault == "stack with lamp":
            self.added = np.where(np.arange(count) % 3, 0, strength)
        self._drawn = {}

    def __call__(self, number):
        key = round(50 * self.shift[number]) / 50, round(float(self.blur[number]), 2)
        if key not in self._drawn:
            image = ndimage.shift(self.channel, (key[0], key[0] / 2), order=1, mode="nearest")
            self._drawn[key] = ndimage.gaussian_filter(image, key[1])
        image = self._drawn[key]
        if number >= self.dirt_from:
            image = image + self.dirt
        return self.light[number] * image + self.added[number]


def _put(frame, cell, top, left):
    """Add a cell to a frame, as far as it is inside."""
    rows = slice(max(0, top), min(frame.shape[0], top + cell.shape[0]))
    columns = slice(max(0, left), min(frame.shape[1], left + cell.shape[1]))
    frame[rows, columns] += cell[
        rows.start - top : rows.stop - top, columns.start - left : columns.stop - left
    ]


def _slow_cells(share, count, width, rng):
    """Return begin, end and left of cells that stay for that share of a window of 200 frames."""
    slow, begin = [], 0
    while begin < count:
        end = begin + int(200 * share * rng.uniform(0.9, 1.1))
        slow.append((begin, end, int(rng.integers(0, width - 20))))
        begin = end + int(rng.integers(20, 60))
    return slow


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
    "few": (5, 16),
    "noise": (1.0,),
    "saturation": (0.2, 0.9),
    "stack": (1.0,),
    "stack with lamp": (9.0,),
}
"""Faults and their strengths.

Cells in a frame (a third of the channel's length is one's width); the share of a window of 200
frames that a slow cell stays; the share of the measurement in which a cell is stuck; grey values
of dirt over 40; pixels of blur, of a shift, or of a vibration to either side; the change of
brightness, as a share or (flashes, lamp over a stack) in grey values; the number of frames.
"""
