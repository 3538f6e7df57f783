"""A scan tile by tile, for frames whose blocks are long in time; the bits are the same."""

import ctypes
import sys
from contextlib import suppress
from functools import partial

import numpy as np
from numpy.typing import NDArray

from sparsemed.frames.source import FrameSource, join_spans
from sparsemed.frames.tiles import tiles_of
from sparsemed.method.offsets import BAND_ROWS
from sparsemed.method.scan import Scan, Scanning, of_steps
from sparsemed.progress import Progress


def scan_tiles(
    scanning: Scanning,
    frames: FrameSource,
    starts: NDArray[np.intp],
    length: int,
    *,
    with_bands: bool,
    band_rows: int = BAND_ROWS,
    progress: Progress,
) -> Scan:
    """Compute the median image of each window, and the band mean of each frame.

    Each tile is done by `scanning`. The result is the same: the median of a pixel does not depend
    on its neighbours, and sums of whole numbers not on their order.
    """
    tiles = tiles_of(frames)
    if not tiles:
        return scanning(
            frames,
            starts,
            length,
            with_bands=with_bands,
            band_rows=band_rows,
            progress=progress,
        )
    count, height, width = frames.shape
    distinct, window_of_step = np.unique(starts, return_inverse=True)
    medians = np.empty((len(distinct), height, width), frames.dtype)
    band = min(band_rows, height)
    sums = np.zeros(count)
    unwritten = list(frames.unwritten)
    for number, (rows, columns, tile) in enumerate(tiles):
        own = max(0, min(band, rows.stop) - rows.start) if with_bands else 0
        found = scanning(
            tile,
            distinct,
            length,
            with_bands=own > 0,
            band_rows=own,
            progress=partial(_tell, progress, number, len(tiles)),
        )
        _return_memory()
        medians[:, rows, columns] = found.series
        unwritten += found.unwritten
        if found.band_means is not None:
            # A band mean is an integer sum divided by the number of pixels, rounded once; this
            # gives that sum back.
            sums += np.rint(found.band_means * (own * (columns.stop - columns.start)))
    means = sums / np.float64(band * width) if with_bands else None
    return Scan(of_steps(medians, window_of_step), means, join_spans(unwritten))


def _return_memory() -> None:
    """Make the C library of Linux return freed memory to the system.

    It keeps some for each thread that has read blocks: for threads of Dask and Zarr, often more
    than a tile in all.
    """
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # other C libraries keep nothing, or less
            ctypes.CDLL(None).malloc_trim(0)


def _tell(progress: Progress, number: int, count: int, done: float) -> None:
    progress((number + done) / count)
