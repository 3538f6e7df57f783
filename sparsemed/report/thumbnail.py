"""Very small images, for pages with thousands of them."""

import base64
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsemed.report.pictures import shrunken

WIDTH, HEIGHT = 160, 80
"""Largest size in pixels."""

MOST_BYTES = 2000
"""Largest bytes of the file; noisy images lose details to fit."""

LEVELS = (75, 50, 25, 10, 1)
"""Qualities of JPEG to try, from 0 to 100."""


def thumbnail(image: NDArray[Any]) -> str:
    """Return a grey image as the data URL of a small JPEG, from its darkest to its brightest.

    Parameters
    ----------
    image : ndarray, shape (H, W)

    Examples
    --------
    >>> thumbnail(np.arange(800 * 320, dtype="u2").reshape(800, 320))[:23]
    'data:image/jpeg;base64,'
    """
    import imagecodecs  # takes a moment

    height, width = image.shape
    small = shrunken(image, math.ceil(max(width / WIDTH, height / HEIGHT)))[:HEIGHT, :WIDTH]
    low, high = float(small.min()), float(small.max())
    grey = np.rint((small - low) * (255 / max(high - low, 1))).astype(np.uint8)
    for level in LEVELS:
        jpeg = bytes(imagecodecs.jpeg8_encode(grey, level=level))
        if len(jpeg) <= MOST_BYTES:
            break
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"
