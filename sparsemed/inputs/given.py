"""The interface of all inputs: frames, time and identity."""

from abc import ABC, abstractmethod
from functools import partial
from numbers import Integral
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sparsemed.executors.rounds import TaskRunner
from sparsemed.frames.choice import Choice
from sparsemed.frames.source import FrameOpener, FrameSource
from sparsemed.hdf5.file_access import Policy
from sparsemed.method.compute import Plan
from sparsemed.method.ranges import RangedScan
from sparsemed.method.result import Background
from sparsemed.method.scan import Scanning, scan
from sparsemed.method.seen import Seen
from sparsemed.method.tiles import scan_tiles
from sparsemed.storage.identity import Identity
from sparsemed.storage.places import AnyPath


class Options(NamedTuple):
    """How frames are opened; see `sparsemed.inputs.open_input`.

    `num_cpus` is for this process, `worker_cpus` for a worker; None: the worker decides.
    """

    time: ArrayLike | None
    frame_rate: float | None
    basins: Policy
    num_cpus: int
    worker_cpus: int | None
    choice: Choice
    floats: type[np.unsignedinteger[Any]]


class Input(ABC):
    """Frames from a file or an array, open until `close`.

    Its kinds are `ArrayInput`, `StackInput`, `DatasetInput` and `MeasurementInput`, each a module
    beside this one.

    Parameters
    ----------
    options : Options

    Attributes
    ----------
    label : str or None
        The file as given, with which errors begin; None for an array.
    source : Path, RemotePath or None
        Absolute path of the measurement; None for other inputs. Results refer to it.
    basins : str
        Which other files may be opened; see `sparsemed.compute_background`.
    num_cpus : int
        Largest number of threads in this process.
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
        """The frames; opened at first access, as that may take seconds."""

    @property
    @abstractmethod
    def time(self) -> NDArray[Any]:
        """Time of each frame, of shape (N,), in seconds; the first is 0."""

    @property
    def identity(self) -> Identity | None:
        """The file that the frames are from, as results record it; None for an array."""
        return None

    @property
    def seen(self) -> Seen | None:
        """Some pixels of frames that were read, by which these are recognized, if some are kept."""
        return None

    @abstractmethod
    def open_part(self, begin: int, end: int) -> FrameOpener:
        """Return an opener of some frames, which can be pickled."""

    def pick(self, numbers: NDArray[np.intp]) -> NDArray[Any]:
        """Return some frames, by their numbers, ascending."""
        # One at a time: not all arrays take lists of indices.
        frames = (np.asarray(self.data[number : number + 1]) for number in numbers.tolist())
        return np.concatenate(list(frames))

    def scanning(self, executor: Any, ranges: int | None) -> Scanning:
        """Return the scan: one pass, or by ranges if these or an executor are given.

        Raises
        ------
        TypeError, sparsemed.executors.tasks.ExecutorError
            If the executor cannot be used; see `sparsemed.executors.rounds.check_executor`.
        ValueError
            If `ranges` is not a whole number from 1 up.
        """
        if executor is None and ranges is None:
            return partial(scan_tiles, partial(scan, num_cpus=self.num_cpus))
        is_whole = isinstance(ranges, Integral) and not isinstance(ranges, bool)
        if ranges is not None and not (is_whole and ranges >= 1):
            raise ValueError(f"ranges must be a whole number from 1 up, got {ranges!r}")
        count = None if ranges is None else int(ranges)
        return RangedScan(TaskRunner(executor, self.options.worker_cpus), self.open_part, count)

    @abstractmethod
    def check(self, planned: Plan) -> None:
        """Check that this kind of input takes the parameters.

        Raises
        ------
        ValueError
            If it does not take one of them.
        """

    def review(self, found: Background, planned: Plan) -> None:  # noqa: B027 (most have no doubts)
        """Warn if some frames show that axes, times or offsets were misread."""

    @abstractmethod
    def check_unchanged(self) -> None:
        """Check that no file has changed since it was opened.

        Raises
        ------
        OSError
            If a file has changed.
        """

    @abstractmethod
    def require_same(self, identity: Identity) -> None:
        """Check that this is the file from which frames were read before.

        Raises
        ------
        ValueError
            If the file was replaced or changed meanwhile.
        """

    @abstractmethod
    def reopened(self) -> Self:
        """Return this input, open again after `close`; the working folder may have changed."""

    @abstractmethod
    def close(self) -> None:
        """Close all that was opened here."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()
