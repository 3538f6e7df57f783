"""Turns arrays and figures into pictures within a page."""

import base64
import io
import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sparsemed.report.markup import escaped

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PIXELS = 100_000  # of one image; larger ones are shrunk

_DOTS_PER_INCH = 150

_THUMBNAIL = (160, 80)  # largest width and height in pixels

THUMBNAIL_BYTES = 2000
"""Largest bytes of the file of a thumbnail; noisy images lose details to fit."""

_QUALITIES = (75, 50, 25, 10, 1)  # of JPEG, from 0 to 100, to try for a thumbnail


def grey_picture(image: NDArray[Any], low: float, high: float, shrink: int, label: str) -> str:
    """Return an image in 8-bit grey, from black at `low` to white at `high`."""
    small = shrunken(image, shrink)
    grey = np.clip(np.rint((small - low) * (255 / (high - low))), 0, 255).astype(np.uint8)
    height, width = grey.shape
    return _picture(png(grey), width, height, label)


def figure_picture(figure: "Figure", label: str, narrow: "Figure | None" = None) -> str:
    """Return a matplotlib figure as a picture; on a phone it is another one, if one is given."""
    drawn = _drawn(figure)
    height, width, _ = drawn.shape
    picture = _picture(png(drawn), width, height, label)
    if narrow is None:
        return picture
    url = data_url(png(_drawn(narrow)))
    return f'<picture><source media="(max-width: 40rem)" srcset="{url}">{picture}</picture>'


def _drawn(figure: "Figure") -> NDArray[np.uint8]:
    """Return a figure as pixels, of shape (H, W, 3)."""
    import imagecodecs

    buffer = io.BytesIO()
    quick = {"compress_level": 1}
    figure.savefig(buffer, format="png", dpi=_DOTS_PER_INCH, facecolor="white", pil_kwargs=quick)
    pixels: NDArray[np.uint8] = imagecodecs.png_decode(buffer.getvalue())
    return np.ascontiguousarray(pixels[..., :3])  # nothing is transparent


def png(image: NDArray[np.uint8]) -> bytes:
    """Return an image, of shape (H, W) or (H, W, 3), as the contents of a PNG file."""
    import imagecodecs  # only here, as some installations are incomplete

    return bytes(imagecodecs.png_encode(image, level=9))


def data_url(content: bytes) -> str:
    """Return a PNG as a data URL."""
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


def _picture(content: bytes, width: int, height: int, label: str) -> str:
    return (
        f'<img src="{data_url(content)}" width="{width}" height="{height}" alt="{escaped(label)}">'
    )


def thumbnail(image: NDArray[Any]) -> str:
    """Return a grey image as the data URL of a small JPEG, from its darkest to its brightest.

    Pages show thousands of them.

    Parameters
    ----------
    image : ndarray, shape (H, W)

    Examples
    --------
    >>> thumbnail(np.arange(800 * 320, dtype="u2").reshape(800, 320))[:23]
    'data:image/jpeg;base64,'
    """
    import imagecodecs  # takes a moment

    (height, width), (across, down) = image.shape, _THUMBNAIL
    small = shrunken(image, math.ceil(max(width / across, height / down)))[:down, :across]
    low, high = float(small.min()), float(small.max())
    grey = np.rint((small - low) * (255 / max(high - low, 1))).astype(np.uint8)
    for quality in _QUALITIES:
        jpeg = bytes(imagecodecs.jpeg8_encode(grey, level=quality))
        if len(jpeg) <= THUMBNAIL_BYTES:
            break
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"


def shrinkage(images: NDArray[Any]) -> int:
    """Return by which factor to shrink images, so that they are not too large."""
    return math.ceil(math.sqrt(images[0].size / _PIXELS))


def shrunken(image: NDArray[Any], factor: int) -> NDArray[np.float64]:
    """Return the means of squares of `factor` pixels a side; incomplete squares are cut off."""
    height, width = (max(1, length // factor) for length in image.shape)
    cut = image[: height * factor, : width * factor].astype(np.float64)
    down, across = cut.shape[0] // height, cut.shape[1] // width
    means: NDArray[np.float64] = cut.reshape(height, down, width, across).mean(axis=(1, 3))
    return means


def shrunk_note(factor: int) -> str:
    """Return a note that images are shrunk, if they are."""
    return f" Images are shown at 1/{factor} of their size." if factor > 1 else ""
