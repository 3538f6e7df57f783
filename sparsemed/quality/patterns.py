"""Patterns: what changes from frame to frame, but everywhere at the same time."""

import math

import numpy as np
from numpy.typing import NDArray

from sparsemed.quality.maps import Floats, size_of

Pattern = tuple[Floats, Floats]
"""How strong a pattern is in each frame, shape (n,), and at each place, shape (h·w,)."""

MOST_PATTERNS = 4
"""Largest number of patterns; a shift has two, as has a travelling wave."""


def find_patterns(
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
        size_of_followed = size_of(followed)
        if size_of_followed >= size:
            pattern, size = followed, size_of_followed
        if clip > 60 or size_of(_summed(found, residues.shape)) < 0.6 * clip:
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
