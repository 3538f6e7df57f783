"""A background as a small table with thumbnails, for notebooks."""

import numpy as np

from sparsemed.method.result import Background
from sparsemed.quality.finding import moment
from sparsemed.quality.sample import spread
from sparsemed.report.markup import escaped
from sparsemed.report.pictures import data_url, png

THUMBNAILS = 4
THUMBNAIL_WIDTH = 160  # pixels on the page


def html_table(background: Background) -> str:
    """Return a table on a background as HTML.

    It includes thumbnails of up to four background images, and needs neither other files nor
    matplotlib.

    Parameters
    ----------
    background : Background

    Returns
    -------
    str
    """
    count, height, width = background.images.shape
    dropped = "" if background.is_loaded else f", {len(background.series) - count} dropped"
    offsets = background.offsets
    rows = [
        ("source", background.origin.name if background.origin else "an array"),
        ("frames", f"{len(background)} of {height} × {width}, {np.ptp(background.time):.4g} s"),
        ("background images", f"{count} kept{dropped}"),
        (
            "offsets",
            "none"
            if offsets is None
            else f"{_signed(offsets.min())} to {_signed(offsets.max())} grey values",
        ),
        ("parameters", str(background.parameters)),
        *(("warning", text) for text in background.warnings),
    ]
    cells = "".join(
        f'<tr><th style="text-align:left">{name}</th>'
        f'<td style="text-align:left">{escaped(text)}</td></tr>'
        for name, text in rows
    )
    return (
        f'<table><caption style="text-align:left">SparseBackground</caption>{cells}'
        f'<tr><td colspan="2" style="text-align:left">{_thumbnails(background)}</td></tr></table>'
    )


def _thumbnails(background: Background) -> str:
    kept = np.flatnonzero(background.kept)
    shown = kept[spread(len(kept), THUMBNAILS)]
    images = background.series[shown]
    low, high = float(images.min()), float(images.max())
    step = max(1, -(-images.shape[2] // (2 * THUMBNAIL_WIDTH)))
    small = images[:, ::step, ::step].astype(np.float64)
    grey = ((small - low) * (255 / max(high - low, 1))).round().astype(np.uint8)
    figures = []
    for number, image in zip(shown.tolist(), grey, strict=True):
        at = moment(background.step_times[number])
        figures.append(
            '<figure style="display:inline-block;margin:2px;text-align:center">'
            f'<img src="{data_url(png(image))}" width="{THUMBNAIL_WIDTH}" '
            f'alt="background image at {at}">'
            f"<figcaption>{at}</figcaption></figure>"
        )
    return "".join(figures)


def _signed(value: float) -> str:
    return f"{value:+.1f}".replace("-", "−")
