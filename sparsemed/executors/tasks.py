"""Tasks, what comes of them, and what can go wrong with workers."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeVar

Task = TypeVar("Task")

Work = Callable[[Task, int | None], Any]
"""``work(task, num_cpus)`` does a task with at most so many threads; None means all cores."""


class Finished(NamedTuple):
    """What came of a task.

    Attributes
    ----------
    number : int
        Which of the tasks, counted from 0.
    value : object
        What the work returned.
    error : Exception or None
        What it raised; an `ExecutorError` where the fault is that of the executor.
    """

    number: int
    value: Any = None
    error: BaseException | None = None


Place = str | None
"""Who has a task: the address of a Dask worker; workers of a pool have none."""


class Workers(Protocol):
    """Workers of one kind or another, as who sends tasks out has to do with them."""

    def free_workers(self, taken: list[Place]) -> tuple[set[Place], list[Place]]:
        """Return which of the places that have a task are lost, and which can have one more."""

    def submit(self, place: Place, work: Work[Any], task: Any, num_cpus: int | None) -> Any:
        """Send a task to a worker, and return its future."""

    def result(self, future: Any, place: Place) -> Any:
        """Return what a task returned, or raise what it raised.

        Raises
        ------
        ExecutorError
            If the fault is not that of the task.
        LostError
            If the task was done, but its worker took the result along.
        """

    def cancel(self, futures: list[Any]) -> None:
        """Call off tasks that nobody waits for any more."""


class ExecutorError(OSError):
    """Workers or their scheduler are lost, or they are of another version."""


class LostError(Exception):
    """What a task returned was lost with its worker."""


def too_many_losses(count: int) -> ExecutorError:
    """Return the error of a task that has cost so many workers their lives."""
    return ExecutorError(
        f"{count} workers were lost one after the other while they did the same task; have they "
        "enough memory?"
    )


def require_version(who: str, found: str, wanted: str) -> None:
    """Check that a worker has the version of sparsemed that the one has who sends it work.

    Raises
    ------
    ExecutorError
        If it has another.
    """
    if found != wanted:
        text = f"{who} has sparsemed {found}, but {wanted} is needed; install that there"
        raise ExecutorError(text)
