"""What frames, time and identity are asked of, whatever was given."""

from abc import ABC, abstractmethod
from numbers import Integral
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sparsemed.executors.rounds import TaskRunner
from sparsemed.frames.choice import ANY, Choice
from sparsemed.frames.source import FrameOpener, FrameSource, PartOpener
from sparsemed.hdf5.file_access import Policy
from sparsemed.method.compute import Plan
from sparsemed.method.ranges import RangedScan, Scanning
from sparsemed.method.result import Background
from sparsemed.method.tiles import scan_tiles
from sparsemed.storage.identity import Identity
from sparsemed.storage.places import AnyPath


class Options(NamedTuple):
    """How frames are opened; see `sparsemed.inputs.open_input`."""

    time: ArrayLike | None = None
    frame_rate: float | None = None
    basins: Policy = "any"
    num_cpus: int = 1
    choice: Choice = ANY
    floats: type[np.unsignedinteger[Any]] = np.uint16


class Input(ABC):
    """Frames that were given, and are open until `close`.

    Parameters
    ----------
    options : Options

    Attributes
    ----------
    label : str or None
        The file as it was given, which errors begin with; None for an array.
    source : Path, RemotePath or None
        The measurement that a result refers to, absolute; None for all else.
    basins : str
        Which other files may be opened; see `sparsemed.compute_background`.
    num_cpus : int
        Largest number of threads.
    """

    label: str | None = None
    source: AnyPath | None = None

    def __init__(self, options: Options) -> None:
        self.options = options
        self.basins: Policy = options.basins
        self.num_cpus = options.num_cpus

    @property
    @abstractmethod
    def data(self) -> Any:
        """The frames as they are stored: an array-like of shape (N, H, W)."""

    @property
    @abstractmethod
    def frames(self) -> FrameSource:
        """The frames; opened when they are first asked for, as that may take seconds."""

    @property
    @abstractmethod
    def time(self) -> NDArray[Any]:
        """Time of each frame, of shape (N,), in seconds; the first is 0."""

    @property
    def identity(self) -> Identity | None:
        """Which file the frames are from, as a result keeps it; None for an array."""
        return None

    @abstractmethod
    def open_part(self, begin: int, end: int) -> FrameOpener:
        """Return what opens some of the frames elsewhere: it can be pickled."""

    def scanning(self, executor: Any, ranges: int | None, num_cpus: int | None) -> Scanning:
        """Return what passes over the frames; see `scanning`."""
        return scanning(executor, self.open_part, ranges, num_cpus)

    @abstractmethod
    def check(self, planned: Plan) -> None:
        """Check that what is planned suits this kind of input.

        Raises
        ------
        ValueError
            If it does not.
        """

    def review(self, found: Background, planned: Plan) -> None:  # noqa: B027 (most have no doubts)
        """Warn if frames are not what they were taken for, as a look at some of them shows."""

    @abstractmethod
    def check_unchanged(self) -> None:
        """Check that no file was changed since it was opened.

        Raises
        ------
        OSError
            If one was.
        """

    @abstractmethod
    def require_same(self, identity: Identity) -> None:
        """Check that this is what frames were read from before.

        Raises
        ------
        ValueError
            If it was replaced or changed meanwhile.
        """

    @abstractmethod
    def reopened(self) -> Self:
        """Return the same, open again after `close`, whatever the working folder is now."""

    @abstractmethod
    def close(self) -> None:
        """Close what was opened here."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def scanning(executor: Any, open_part: PartOpener, ranges: Any, num_cpus: int | None) -> Scanning:
    """Return what scans: in one pass here, unless there is an executor, or ranges are asked for.

    Raises
    ------
    TypeError, sparsemed.executors.tasks.ExecutorError
        If the executor cannot be used; see `sparsemed.executors.rounds.check_executor`.
    ValueError
        If `ranges` is not a whole number from 1 up.
    """
    if ranges is not None and (
        isinstance(ranges, bool) or not isinstance(ranges, Integral) or ranges < 1
    ):
        raise ValueError(f"ranges must be a whole number from 1 up, got {ranges!r}")
    if executor is None and ranges is None:
        return scan_tiles
    return RangedScan(
        TaskRunner(executor), open_part, None if ranges is None else int(ranges), num_cpus
    )
