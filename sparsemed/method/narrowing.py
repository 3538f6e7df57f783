"""Medians of floats: computed in 16 bits, as cameras have them, and kept in 8 where they fit."""

from typing import Any

import numpy as np

from sparsemed.method.ranges import Scanning
from sparsemed.method.repeated import RepeatedImages
from sparsemed.method.scan import Scan


def narrowing(scanning: Scanning) -> Scanning:
    """Return what scans as `scanning` does, and keeps medians in 8 bits if all of them fit.

    Which values floats have, nobody knows before all are read.
    """

    def scan_and_narrow(*args: Any, **kwargs: Any) -> Scan:
        found: Scan = scanning(*args, **kwargs)
        return found._replace(series=_narrowed(found.series))

    return scan_and_narrow


def _narrowed(images: Any) -> Any:
    if isinstance(images, RepeatedImages):
        return RepeatedImages(_narrowed(images.distinct), images.index)
    return images.astype(np.uint8) if images.max() <= np.iinfo(np.uint8).max else images
