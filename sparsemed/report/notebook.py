"""A background as a small table with thumbnails, for notebooks."""

import struct
import zlib
from base64 import b64encode
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sparsemed.printable import printable

if TYPE_CHECKING:
    from sparsemed import SparseBackground

THUMBNAILS = 4
THUMBNAIL_WIDTH = 160  # pixels on the page


def html_table(background: "SparseBackground") -> str:
    """Return a table of what a background is made of, as a piece of HTML.

    It stands by itself: thumbnails of up to four background images are in the page, and
    need no matplotlib.

    Parameters
    ----------
    background : SparseBackground

    Returns
    -------
    str
    """
    count, height, width = background.images.shape
    asked = background.parameters
    dropped = len(background.series) - count
    offsets = background.offsets
    rows = [
        ("source", str(background.source.name) if background.source else "an array"),
        ("frames", f"{len(background)} of {height} × {width}, {background.time[-1]:.4g} s"),
        ("background images", f"{count} kept, {dropped} dropped"),
        ("offsets", "none" if offsets is None else f"{_signed(offsets.min())} to "
         f"{_signed(offsets.max())} grey values"),
        ("parameters", f"kernel_size={asked.kernel_size}, split_time={asked.split_time:g}, "
         f"thresh_cleansing={asked.thresh_cleansing:g}, frac_cleansing={asked.frac_cleansing:g}"),
    ]  # fmt: skip
    cells = "".join(
        f'<tr><th style="text-align:left">{escape(name)}</th>'
        f'<td style="text-align:left">{escape(printable(text))}</td></tr>'
        for name, text in rows
    )
    return (
        f'<table><caption style="text-align:left">SparseBackground</caption>{cells}'
        f'<tr><td colspan="2" style="text-align:left">{_thumbnails(background)}</td></tr></table>'
    )


def _thumbnails(background: "SparseBackground") -> str:
    kept = np.flatnonzero(background.kept)
    count = min(len(kept), THUMBNAILS)
    shown = np.unique(np.linspace(0, len(kept) - 1, count).round().astype(int))
    images = background.series[kept[shown]]
    low, high = float(images.min()), float(images.max())
    step = max(1, -(-images.shape[2] // (2 * THUMBNAIL_WIDTH)))
    small = images[:, ::step, ::step].astype(np.float64)
    grey = ((small - low) * (255 / max(high - low, 1))).round().astype(np.uint8)
    figures = []
    for number, image in zip(kept[shown].tolist(), grey, strict=True):
        at = f"{background.step_times[number]:.4g} s"
        source = "data:image/png;base64," + b64encode(png(image)).decode("ascii")
        figures.append(
            '<figure style="display:inline-block;margin:2px;text-align:center">'
            f'<img src="{source}" width="{THUMBNAIL_WIDTH}" alt="background image at {at}">'
            f"<figcaption>{at}</figcaption></figure>"
        )
    return "".join(figures)


def png(image: NDArray[Any]) -> bytes:
    """Return a grey image as the contents of a PNG file.

    Parameters
    ----------
    image : ndarray of uint8, shape (H, W)

    Returns
    -------
    bytes
    """
    height, width = image.shape
    # each row begins with the number of its filter: 0, none
    rows = np.pad(image, ((0, 0), (1, 0))).tobytes()
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def _signed(value: float) -> str:
    return f"{value:+.1f}".replace("-", "−")
