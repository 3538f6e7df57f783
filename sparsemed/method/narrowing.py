"""Medians of floating-point frames: computed in 16 bits, and kept in 8 bits if they fit."""

from typing import Any

import numpy as np

from sparsemed.method.repeated import RepeatedImages
from sparsemed.method.scan import Scan, Scanning


def narrowing(scanning: Scanning) -> Scanning:
    """Return a scan like `scanning` that keeps medians in 8 bits if all of them fit.

    The range of floating-point frames is unknown until all are read.
    """

    def scan_and_narrow(*args: Any, **kwargs: Any) -> Scan:
        found: Scan = scanning(*args, **kwargs)
        return found._replace(series=_narrowed(found.series))

    return scan_and_narrow


def _narrowed(images: Any) -> Any:
    if isinstance(images, RepeatedImages):
        return RepeatedImages(_narrowed(images.distinct), images.index)
    return images.astype(np.uint8) if images.max() <= np.iinfo(np.uint8).max else images
