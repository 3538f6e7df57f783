"""Submit tasks to workers and yield results as they complete.

Tasks are independent of each other. A task that raises an error is not tried again. If a Dask
worker is lost (killed, out of memory, or out of reach), another one does its task. A pool that
loses a process breaks.
"""

from collections import Counter
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Executor
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

from sparsemed.executors.dask_cluster import PATIENCE, DaskCluster, is_client
from sparsemed.executors.pool import Pool, pool_size
from sparsemed.executors.tasks import (
    ExecutorError,
    Finished,
    LostError,
    Place,
    Task,
    Work,
    Workers,
    too_many_losses,
)

MOST_LOSSES = 4
"""Workers that may be lost over the same task before it is blamed for that."""


def check_executor(executor: Any) -> None:
    """Check that an executor can do work, and that its workers have this version of sparsemed.

    Parameters
    ----------
    executor : concurrent.futures.Executor, dask.distributed.Client or None
        None is no executor: work is done here.

    Raises
    ------
    TypeError
        If it is none of these, or a client that has to be awaited.
    ExecutorError
        If Dask workers have no sparsemed, or another version, or cannot be asked.
    """
    if executor is None or (isinstance(executor, Executor) and not is_client(executor)):
        return
    if not is_client(executor):
        raise TypeError(
            "executor must be a concurrent.futures.Executor or a dask.distributed.Client, "
            f"got {executor!r}"
        )
    if executor.asynchronous:
        raise TypeError("executor: this client has to be awaited; take Client(asynchronous=False)")
    DaskCluster(executor).check_versions()


def worker_count(executor: Any) -> int:
    """Return how many tasks an executor does at the same time; at least 1."""
    if executor is None:
        return 1
    if is_client(executor):
        return max(1, len(DaskCluster(executor).workers()))
    return pool_size(executor)


def as_completed(
    executor: Any, work: Work[Task], tasks: Iterable[Task], num_cpus: int | None = None
) -> Generator[Finished, None, None]:
    """Have tasks done, and yield what comes of each as it finishes.

    No more tasks are taken than can be under way, so that they may be made as they are needed.
    When nobody wants to know any more, those that have not begun are called off.

    Parameters
    ----------
    executor : concurrent.futures.Executor, dask.distributed.Client or None
        None: one task after the other, here.
    work : callable
        ``work(task, num_cpus)``; a function that can be pickled, as must be tasks.
    tasks : iterable
    num_cpus : int or None
        Largest number of threads for a task. None: all those of a Dask worker, an even share
        of the cores in a pool on this machine, or else all cores there are.

    Raises
    ------
    ExecutorError
        If the scheduler of a cluster is lost.
    """
    if executor is None:
        for number, task in enumerate(tasks):
            try:
                outcome = Finished(number, work(task, num_cpus))
            except Exception as error:
                outcome = Finished(number, error=error)
            yield outcome
        return
    workers: Workers = DaskCluster(executor) if is_client(executor) else Pool(executor)
    yield from _Round(workers, work, tasks, num_cpus).outcomes()


class TaskRunner:
    """What does tasks: an executor, or this process.

    Parameters
    ----------
    executor : concurrent.futures.Executor, dask.distributed.Client or None

    Raises
    ------
    TypeError, ExecutorError
        As of `check_executor`.
    """

    def __init__(self, executor: Any) -> None:
        check_executor(executor)
        self._executor = executor

    def worker_count(self) -> int:
        """Return how many tasks are done at the same time."""
        return worker_count(self._executor)

    def as_completed(
        self, work: Work[Task], tasks: Iterable[Task], num_cpus: int | None
    ) -> Generator[Finished, None, None]:
        """Do tasks; see `as_completed`."""
        return as_completed(self._executor, work, tasks, num_cpus)


class _Sent(NamedTuple):
    """A task that is under way, and who has it."""

    number: int
    task: Any
    place: Place


class _Round:
    """Tasks on their way to workers and back."""

    def __init__(
        self, workers: Workers, work: Work[Any], tasks: Iterable[Any], num_cpus: int | None
    ) -> None:
        self.workers = workers
        self.work = work
        self.todo = enumerate(tasks)
        self.num_cpus = num_cpus
        self.again: list[tuple[int, Any]] = []
        self.losses: Counter[int] = Counter()
        self.under_way: dict[Any, _Sent] = {}
        self.arrived: SimpleQueue[Any] = SimpleQueue()
        self.news: list[Finished] = []

    def outcomes(self) -> Iterator[Finished]:
        try:
            while True:
                try:
                    self.send()
                except ExecutorError:  # what is done is told all the same
                    while not self.arrived.empty():
                        self.take(0)
                    yield from self.news
                    raise
                # Only now, so that no worker waits for the one who is told.
                while self.news:
                    yield self.news.pop(0)
                if not self.under_way and not self.again:
                    return
                self.take(PATIENCE)
        finally:
            self.workers.cancel(list(self.under_way))

    def send(self) -> None:
        """Give tasks to those who have none; first of all those whose worker was lost."""
        lost, free = self.workers.free_workers([sent.place for sent in self.under_way.values()])
        for future in [each for each, sent in self.under_way.items() if sent.place in lost]:
            self.note_loss(future)
        waiting = iter(lambda: self.again.pop() if self.again else next(self.todo, None), None)
        for place, (number, task) in zip(free, waiting, strict=False):
            future = self.workers.submit(place, self.work, task, self.num_cpus)
            self.under_way[future] = _Sent(number, task, place)
            future.add_done_callback(self.arrived.put)

    def take(self, timeout: float) -> None:
        """Wait for something to arrive, and take note of it."""
        with suppress(Empty):
            future = self.arrived.get(timeout=timeout)
            if future not in self.under_way:  # it was called off
                return
            try:
                value = self.workers.result(future, self.under_way[future].place)
                self.news.append(Finished(self.under_way.pop(future).number, value))
            except LostError:
                self.note_loss(future)
            except Exception as error:
                self.news.append(Finished(self.under_way.pop(future).number, error=error))

    def note_loss(self, future: Any) -> None:
        number, task, _ = self.under_way.pop(future)
        self.workers.cancel([future])
        self.losses[number] += 1
        if self.losses[number] < MOST_LOSSES:
            self.again.append((number, task))
        else:
            self.news.append(Finished(number, error=too_many_losses(self.losses[number])))
