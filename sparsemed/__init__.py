"""Sparse median background images for imaging cytometry.

The names below are the whole public surface. Each is loaded when it is first
used, so that ``import sparsemed`` costs next to nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sparsemed.version import __version__

__all__ = [
    "BackgroundSparseMed",
    "BackgroundWarning",
    "FileResult",
    "LiveBackground",
    "SparseBackground",
    "__version__",
    "compute_background",
    "compute_files",
    "load",
    "median_image",
    "watch",
]

_MODULES = {
    "BackgroundSparseMed": "sparsemed.jobs.job",
    "BackgroundWarning": "sparsemed.warned",
    "FileResult": "sparsemed.jobs.file_result",
    "LiveBackground": "sparsemed.live",
    "SparseBackground": "sparsemed.result",
    "compute_background": "sparsemed.background",
    "compute_files": "sparsemed.jobs.many",
    "load": "sparsemed.loading",
    "median_image": "sparsemed.kernels.median",
    "watch": "sparsemed.jobs.watch",
}

if TYPE_CHECKING:
    from sparsemed.background import compute_background
    from sparsemed.jobs.file_result import FileResult
    from sparsemed.jobs.job import BackgroundSparseMed
    from sparsemed.jobs.many import compute_files
    from sparsemed.jobs.watch import watch
    from sparsemed.kernels.median import median_image
    from sparsemed.live import LiveBackground
    from sparsemed.loading import load
    from sparsemed.result import SparseBackground
    from sparsemed.warned import BackgroundWarning


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'sparsemed' has no attribute {name!r}")
    value = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
