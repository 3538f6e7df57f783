"""Replaces the background method ``sparsemed`` of dcnum by sparsemed.

dcnum keeps a registry of background methods: the direct subclasses of its class
`Background`; of several with the same code, the last one.
"""

import inspect
import logging
import multiprocessing
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from sparsemed.install_hint import how_to_install
from sparsemed.jobs.job import BackgroundSparseMed as Ours
from sparsemed.lazy import lazy_property
from sparsemed.progress import Progress
from sparsemed.result import SparseBackground
from sparsemed.rtdc.pipeline_id import CODE, GENERATION, to_ppid
from sparsemed.version import __version__
from sparsemed.warned import keeping_warnings

TESTED = "0.31"
"""The tests run with versions of dcnum that begin with this."""

ALONE = ("basins", "executor", "ranges")
"""Arguments of our class that dcnum does not have."""

INSTALL = how_to_install(f"dcnum=={TESTED}.*")

try:
    import dcnum
except ModuleNotFoundError as error:
    raise ImportError(f"dcnum is not installed: {INSTALL}") from error
try:
    from dcnum.feat import feat_background
    from dcnum.feat.feat_background import Background
    from dcnum.feat.feat_background import BackgroundSparseMed as Theirs
    from dcnum.meta import ppid
    from dcnum.read import HDF5Data
except ImportError as error:
    raise ImportError(
        f"sparsemed cannot take its place in dcnum {dcnum.__version__} ({error}); "
        f"it is tested with {TESTED}: {INSTALL}"
    ) from error


# The registry finds only direct subclasses of `Background`. So the class begins as a subclass of
# the class of dcnum, where the registry does not see it, and `register` changes its base.
class BackgroundSparseMed(Ours, Theirs):  # type: ignore[misc]
    """`sparsemed.BackgroundSparseMed` as a subclass of the class `Background` of dcnum.

    Arguments and attributes are those of `sparsemed.BackgroundSparseMed`.

    Attributes
    ----------
    image_proc : multiprocessing.Value
        The fraction done, for the job runner of dcnum.
    """

    @lazy_property
    def image_proc(self) -> Any:  # noqa: D102 (see the class)
        return multiprocessing.get_context("spawn").Value("d", 0.0)

    def process(self, progress: Progress | bool | None = None) -> None:  # noqa: D102 (inherited)
        self.logger.info("This is sparsemed %s, in the place of dcnum's class", __version__)
        super().process(progress)
        self.image_proc.value = self.get_progress()

    def _keeping_warnings(self) -> AbstractContextManager[list[str]]:
        # A job of dcnum stores its log in the result; nobody would see Python warnings.
        return keeping_warnings(self._warned, self.logger.warning)

    def _note_progress(self, fraction: float) -> None:
        super()._note_progress(fraction)
        self.image_proc.value = self.get_progress()


def register() -> None:
    """Let dcnum compute its background method ``sparsemed`` with sparsemed.

    From then on, each job in this process gets the same background as before,
    faster, with the same pipeline identifiers and hash. The log of sparsemed
    goes to the log of dcnum. Registering twice does no harm.

    Raises
    ------
    ImportError
        If this version of dcnum differs in something that sparsemed relies on.

    Warns
    -----
    UserWarning
        If sparsemed was not tested with this version of dcnum.

    Examples
    --------
    >>> import sparsemed.dcnum
    >>> from dcnum.feat.feat_background import get_available_background_methods
    >>> sparsemed.dcnum.register()
    >>> get_available_background_methods()["sparsemed"]
    <class 'sparsemed.dcnum.BackgroundSparseMed'>
    >>> sparsemed.dcnum.unregister()
    """
    differs = list(_differences())
    if not differs:
        _move(below=Background, log="dcnum")
        if feat_background.get_available_background_methods().get(CODE) is not BackgroundSparseMed:
            unregister()
            differs = ["its registry of background methods"]
    if differs:
        raise ImportError(
            f"sparsemed cannot take its place in dcnum {dcnum.__version__}, which differs in "
            f"{' and '.join(differs)}; it is tested with {TESTED}: {INSTALL}"
        )
    if not f"{dcnum.__version__}.".startswith(f"{TESTED}."):
        warnings.warn(
            f"sparsemed is tested with dcnum {TESTED}, not with {dcnum.__version__}; "
            f"compare the results, or: {INSTALL}",
            stacklevel=2,
        )


def unregister() -> None:
    """Undo `register`: dcnum uses its own class again."""
    _move(below=Theirs, log=None)


def _move(below: type, log: str | None) -> None:
    """Change the base of the class, and the parent of the logger."""
    if below not in BackgroundSparseMed.__bases__:
        BackgroundSparseMed.__bases__ = (Ours, below)
    feat_background.get_available_background_methods.cache_clear()
    logger = logging.getLogger("sparsemed")
    logger.parent = logging.getLogger(log)
    logger.setLevel(logger.level)  # clears the cached levels of all loggers


def _differences() -> Iterator[str]:
    """Yield the ways in which dcnum differs from what this module assumes."""
    known = dir(Ours)
    if more := [name for name in vars(Background) if name[0] != "_" and name not in known]:
        yield f"what a background method does ({', '.join(more)})"
    for name in ("__init__", "check_user_kwargs"):
        ours = [each for each in _arguments(Ours, name) if each[0] not in ALONE]
        if _arguments(Theirs, name) != ours:
            yield f"the arguments of {name}"
    if getattr(ppid, "DCNUM_PPID_GENERATION", None) != GENERATION:
        yield "its pipeline generation"
    elif Theirs.get_ppid_from_ppkw({}) != to_ppid({}):
        yield "its pipeline identifiers"
    if not hasattr(feat_background.get_available_background_methods, "cache_clear"):
        yield "its registry of background methods"
    if not _reads_our_files():
        yield "how it reads backgrounds"


def _arguments(owner: type, name: str) -> list[tuple[str, Any]]:
    parameters = inspect.signature(getattr(owner, name)).parameters.values()
    return [(each.name, each.default) for each in parameters]


def _reads_our_files() -> bool:
    """Write a small background and let dcnum read it."""
    images = np.arange(2 * 4 * 6, dtype=np.uint8).reshape(2, 4, 6)
    index, offsets = np.array([1, 0, 1]), np.array([0.5, 0.0, -1.0])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "layout.rtdc"
        SparseBackground.of_images(images, index, offsets, np.arange(3.0)).save(path)
        try:
            with HDF5Data(path) as data:
                return np.array_equal(data["image_bg"][:], images[index]) and np.array_equal(
                    data["bg_off"], offsets
                )
        except Exception:  # any error means that dcnum cannot read it
            return False
