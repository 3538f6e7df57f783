"""Tasks, their results, and the errors of workers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeVar

Task = TypeVar("Task")

Work = Callable[[Task, int | None], Any]
"""``work(task, num_cpus)`` does a task with at most so many threads; None means all cores."""


@dataclass(frozen=True)
class Call:
    """A task on its way to a worker.

    Attributes
    ----------
    work : callable
        ``work(task, num_cpus)``.
    task : object
    num_cpus : int or None
        Largest number of threads; None: the worker decides.
    """

    work: Work[Any]
    task: Any
    num_cpus: int | None


class Finished(NamedTuple):
    """The result of a task.

    Attributes
    ----------
    number : int
        Number of the task, counted from 0.
    value : object
        What the work returned.
    error : Exception or None
        What it raised; an `ExecutorError` if the executor is at fault.
    """

    number: int
    value: Any = None
    error: BaseException | None = None


Place = str | None
"""The worker that has a task: the address of a Dask worker, or None in a pool."""


class Workers(Protocol):
    """Workers of an executor or a cluster."""

    def free_workers(self, taken: list[Place]) -> tuple[set[Place], list[Place]]:
        """Return those of the taken places that are lost, and the places free for one more task."""

    def submit(self, place: Place, call: Call) -> Any:
        """Send a task to a worker, and return its future."""

    def result(self, future: Any, place: Place) -> Any:
        """Return what a task returned, or raise what it raised.

        Raises
        ------
        ExecutorError
            If the task is not at fault.
        LostError
            If the task was done, but its result was lost with its worker.
        """

    def cancel(self, futures: list[Any]) -> None:
        """Cancel tasks that nobody waits for any more."""


class ExecutorError(OSError):
    """Workers or their scheduler are lost, or have another version."""


class LostError(Exception):
    """The result of a task was lost with its worker."""


def too_many_losses(count: int) -> ExecutorError:
    """Return the error of a task over which so many workers were lost."""
    return ExecutorError(
        f"{count} workers were lost one after the other while they did the same task; have they "
        "enough memory?"
    )


def require_version(who: str, found: str, wanted: str) -> None:
    """Check that a worker has the same version of sparsemed as this process.

    Raises
    ------
    ExecutorError
        If it has another.
    """
    if found != wanted:
        text = f"{who} has sparsemed {found}, but {wanted} is needed; install that version there"
        raise ExecutorError(text)
