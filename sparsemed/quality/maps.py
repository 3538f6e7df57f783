"""Maps of what is left at places: how large it is, and whether it is more than noise."""

import numpy as np
from numpy.typing import NDArray

from sparsemed.quality.quantiles import quantile

Floats = NDArray[np.float32]

PLACES_OFF = 0.025
"""Least share of places that counts: 5 % of a channel, as half of an image is wall."""

FRAMES_OFF = 0.02
"""Least share of frames that counts: two of 96, as a single one may be off by chance."""

LEAST_CELL = 1.0
"""Least difference of a covered place, in grey values."""


def sizes(maps: Floats) -> NDArray[np.float64]:
    """Return what each map exceeds, up or down, at `PLACES_OFF` of its places."""
    if not np.any(maps):
        return np.zeros(len(maps))
    return quantile(np.abs(maps).reshape(len(maps), -1), 1 - PLACES_OFF).astype(np.float64)


def size_of(maps: Floats) -> float:
    """Return what is exceeded in `FRAMES_OFF` of the frames."""
    return float(np.quantile(sizes(maps), 1 - FRAMES_OFF))


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
