"""Grey values: their scale, flicker as in dcnum, saturation; and missing frames."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsemed.frames.source import spans_in_words
from sparsemed.method.result import Background
from sparsemed.quality.finding import Finding, judge, percent
from sparsemed.quality.sample import spread

IMAGES = 25
"""Largest number of background images to use, evenly spaced."""

FLICKER = 2.5
"""Least difference of the wall of a frame in grey values when the lamp flickers, as in dcnum."""

SATURATED = 0.01
"""Largest share of black or white pixels in a good background."""

PATCH = 3
"""Least number of equal neighbours of such a pixel; a single one is a fault of the camera."""


def grey_scale(background: Background) -> float:
    """Return the number of grey values in these images per grey value of 8 bits.

    It is 1 for uint8. Cameras fill uint16 to different degrees, so there it is
    the median of the background divided by 128, the middle of 8 bits; at least 1.
    """
    return scale_of(background.images)


def scale_of(images: NDArray[Any]) -> float:
    """Return the same for background images, of shape (M, H, W)."""
    if images.dtype == np.uint8:
        return 1.0
    step = max(1, images[0].size // 100_000)  # some pixels suffice
    some = images[spread(len(images), 5)].reshape(-1)[::step]
    return max(1.0, float(np.median(some)) / 128)


LEFT_REACH = 5
"""Grey values of 8 bits at both ends of the scale of frames less their background."""


def flicker_events(background: Background) -> NDArray[np.bool_] | None:
    """Return which frames show the lamp flicker; None without offsets.

    dcnum takes the median brightness of a strip at the top of each of the first
    thousand frames. A frame flickers if its own is 2.5 grey values or more off
    from what is usual, and a lamp flickers if five frames do. Here the strip is the
    wall band, the brightness is the offset ``bg_off``, what is usual is its
    median, and all frames count: ``abs(bg_off - median(bg_off)) >= 2.5``, for
    5 of 1000 frames. As offsets are relative to the background image, slow
    drift of the lamp is not taken for flicker.
    """
    if background.offsets is None:
        return None
    off = np.abs(background.offsets - np.median(background.offsets))
    events: NDArray[np.bool_] = off >= FLICKER * grey_scale(background)
    return events


def unwritten(background: Background) -> Finding | None:
    """Share of frames that were never written; left out if there are none.

    Look here if there is one: missing frames are read as black.
    """
    if not background.unwritten:
        return None
    count = sum(stop - start for start, stop in background.unwritten)
    share = count / len(background)
    return judge(
        "unwritten",
        "Frames that were never written",
        share,
        f"{count:,} of {len(background):,} ({percent(share)}): "
        f"{spans_in_words(list(background.unwritten))}",
        "Frames that the file has no data of, as when an acquisition or a copy stopped. They are "
        "read as black.",
        "Copy the file again, or leave these frames out of what you conclude from it.",
    )


def saturation(background: Background) -> Finding:
    """Share of the pixels of the background that are black or white, where cells may not show.

    Black is 0, white the largest value of 8, 10, 12, 14 or 16 bits, the first that all kept images
    fit into. Pixels with less than three equal neighbours do not count. Look here above 1 %.
    """
    images = background.images[spread(len(background.images), IMAGES)]
    brightest = int(images.max())
    bits = 8 if images.dtype == np.uint8 else 10
    while brightest >= 2**bits:
        bits += 2
    value = 0.0
    if images.min() == 0 or brightest == 2**bits - 1:
        ends = (images == 0) | (images == 2**bits - 1)
        value = float(np.mean(ends & (_neighbours(ends) >= PATCH)))
    advice = ""
    if value > SATURATED:
        advice = (
            "No parameter brings back what the camera did not see: set light or exposure so that "
            "images without cells are between a third and two thirds of the range."
        )
    return judge(
        "saturation",
        "Black or white pixels",
        value,
        f"{percent(value)} of the background",
        "Pixels at the end of the camera's range, where a cell may not show.",
        advice,
    )


def _neighbours(marked: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return how many of the eight pixels around each are marked."""
    padded = np.pad(marked, ((0, 0), (1, 1), (1, 1))).astype(np.uint8)
    height, width = marked.shape[1:]
    count = np.zeros(marked.shape, np.uint8)
    for row in range(3):
        for column in range(3):
            if (row, column) != (1, 1):
                count += padded[:, row : row + height, column : column + width]
    return count


def grey_range(images: NDArray[Any]) -> tuple[float, float]:
    """Return the grey values for black and white: all but outliers, and never the same."""
    low, high = (float(value) for value in np.quantile(images, [0.001, 0.999]))
    return (low, high) if high > low else (low - 1, high + 1)
