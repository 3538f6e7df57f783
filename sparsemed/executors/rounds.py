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
    Call,
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
"""If so many workers are lost over one task, the task fails."""


def check_executor(executor: Any) -> None:
    """Check that an executor can be used, and that its workers have this version of sparsemed.

    Parameters
    ----------
    executor : concurrent.futures.Executor, dask.distributed.Client or None
        None: this process does the work.

    Raises
    ------
    TypeError
        If it is none of these, or an asynchronous client.
    ExecutorError
        If Dask workers have no sparsemed, or another version, or do not answer.
    """
    if executor is None or (isinstance(executor, Executor) and not is_client(executor)):
        return
    if not is_client(executor):
        raise TypeError(
            "executor must be a concurrent.futures.Executor or a dask.distributed.Client, "
            f"got {executor!r}"
        )
    if executor.asynchronous:
        raise TypeError("executor: this client is asynchronous; use Client(asynchronous=False)")
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
    """Submit tasks, and yield the result of each as it finishes.

    Tasks are taken from the iterable only as workers become free, so that they can be made late.
    When the generator is closed, tasks that have not begun are cancelled.

    Parameters
    ----------
    executor : concurrent.futures.Executor, dask.distributed.Client or None
        None: one task after the other in this process.
    work : callable
        ``work(task, num_cpus)``. It and the tasks must be picklable.
    tasks : iterable
    num_cpus : int or None
        Largest number of threads for a task. None: all threads of a Dask worker, an even share
        of the cores in a pool on this machine, otherwise all cores.

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
    yield from _Round(workers, (Call(work, task, num_cpus) for task in tasks)).outcomes()


class TaskRunner:
    """Does tasks by an executor, or in this process.

    Parameters
    ----------
    executor : concurrent.futures.Executor, dask.distributed.Client or None
    num_cpus : int or None
        Largest number of threads for a task; see `as_completed`.

    Raises
    ------
    TypeError, ExecutorError
        See `check_executor`.
    """

    def __init__(self, executor: Any, num_cpus: int | None) -> None:
        check_executor(executor)
        self._executor = executor
        self._num_cpus = num_cpus

    def worker_count(self) -> int:
        """Return how many tasks are done at the same time."""
        return worker_count(self._executor)

    def as_completed(
        self, work: Work[Task], tasks: Iterable[Task]
    ) -> Generator[Finished, None, None]:
        """Do tasks; see `as_completed`."""
        return as_completed(self._executor, work, tasks, self._num_cpus)


class _Sent(NamedTuple):
    """A submitted call and its worker."""

    number: int
    call: Call
    place: Place


class _Round:
    """Tasks on their way to workers and back."""

    def __init__(self, workers: Workers, calls: Iterable[Call]) -> None:
        self.workers = workers
        self.todo = enumerate(calls)
        self.again: list[tuple[int, Call]] = []
        self.losses: Counter[int] = Counter()
        self.under_way: dict[Any, _Sent] = {}
        self.arrived: SimpleQueue[Any] = SimpleQueue()
        self.news: list[Finished] = []

    def outcomes(self) -> Iterator[Finished]:
        try:
            while True:
                try:
                    self.send()
                except ExecutorError:  # finished tasks are yielded first
                    while not self.arrived.empty():
                        self.take(0)
                    yield from self.news
                    raise
                # After sending, so that no worker waits while the caller handles a result.
                while self.news:
                    yield self.news.pop(0)
                if not self.under_way and not self.again:
                    return
                self.take(PATIENCE)
        finally:
            self.workers.cancel(list(self.under_way))

    def send(self) -> None:
        """Send tasks to free workers, beginning with tasks whose worker was lost."""
        lost, free = self.workers.free_workers([sent.place for sent in self.under_way.values()])
        for future in [each for each, sent in self.under_way.items() if sent.place in lost]:
            self.note_loss(future)
        waiting = iter(lambda: self.again.pop() if self.again else next(self.todo, None), None)
        for place, (number, call) in zip(free, waiting, strict=False):
            future = self.workers.submit(place, call)
            self.under_way[future] = _Sent(number, call, place)
            future.add_done_callback(self.arrived.put)

    def take(self, timeout: float) -> None:
        """Wait for a result, and keep it."""
        with suppress(Empty):
            future = self.arrived.get(timeout=timeout)
            if future not in self.under_way:  # it was cancelled
                return
            try:
                value = self.workers.result(future, self.under_way[future].place)
                self.news.append(Finished(self.under_way.pop(future).number, value))
            except LostError:
                self.note_loss(future)
            except Exception as error:
                self.news.append(Finished(self.under_way.pop(future).number, error=error))

    def note_loss(self, future: Any) -> None:
        number, call, _ = self.under_way.pop(future)
        self.workers.cancel([future])
        self.losses[number] += 1
        if self.losses[number] < MOST_LOSSES:
            self.again.append((number, call))
        else:
            self.news.append(Finished(number, error=too_many_losses(self.losses[number])))
