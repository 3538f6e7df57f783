"""Sparse median background images for imaging cytometry.

The names below are the public API. Each is loaded when it is first used, so
that ``import sparsemed`` is fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sparsemed.version import __version__ as __version__

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
"""The public names, and where they are defined."""

if TYPE_CHECKING:  # type checkers cannot follow the table; a test compares the two
    from sparsemed.background import compute_background as compute_background
    from sparsemed.jobs.file_result import FileResult as FileResult
    from sparsemed.jobs.job import BackgroundSparseMed as BackgroundSparseMed
    from sparsemed.jobs.many import compute_files as compute_files
    from sparsemed.jobs.watch import watch as watch
    from sparsemed.kernels.median import median_image as median_image
    from sparsemed.live import LiveBackground as LiveBackground
    from sparsemed.loading import load as load
    from sparsemed.result import SparseBackground as SparseBackground
    from sparsemed.warned import BackgroundWarning as BackgroundWarning
else:  # type checkers would take it for empty
    __all__ = ["__version__", *_MODULES]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'sparsemed' has no attribute {name!r}")
    value = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return ["__version__", *_MODULES]
