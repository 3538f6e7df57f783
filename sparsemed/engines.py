"""Where work is done: here, by an executor of Python's kind, or by a cluster of Dask's.

Whatever does it, tasks are independent of each other, and what they return comes as they finish. A
task that raises an error is not tried again. One whose worker was lost (killed, out of memory, or
out of reach) is done by another one of Dask's; a pool of processes breaks.
"""

import sys
import threading
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import BrokenExecutor, CancelledError, Executor
from contextlib import suppress
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any, NamedTuple, TypeVar

from sparsemed.kernels.cores import available_cores
from sparsemed.version import __version__

Task = TypeVar("Task")

Work = Callable[[Task, int | None], Any]
"""``work(task, num_cpus)`` does a task with at most so many threads; None means all cores."""

PATIENCE = 1.0
"""Seconds after which is looked for new workers, and whether the scheduler is still there."""


FETCH_SECONDS = 10.0
"""Seconds for which a result may be on its way before is looked whether its worker is there."""

MOST_LOSSES = 4
"""Workers that may be lost over the same task before it is blamed for that."""


class EngineError(OSError):
    """Workers or their scheduler are lost, or they are of another version."""


class Finished(NamedTuple):
    """What came of a task.

    Attributes
    ----------
    number : int
        Which of the tasks, counted from 0.
    value : object
        What the work returned.
    error : Exception or None
        What it raised; an `EngineError` where the fault is that of the engine.
    """

    number: int
    value: Any = None
    error: BaseException | None = None


def check_engine(engine: Any) -> None:
    """Check that an engine can do work, and that its workers have this version of sparsemed.

    Parameters
    ----------
    engine : concurrent.futures.Executor, dask.distributed.Client or None
        None is no engine: work is done here.

    Raises
    ------
    TypeError
        If it is none of these, or a client that has to be awaited.
    EngineError
        If workers of Dask's have no sparsemed, or another version, or cannot be asked.
    """
    if engine is None or (isinstance(engine, Executor) and not _is_client(engine)):
        return
    if not _is_client(engine):
        raise TypeError(
            "executor must be a concurrent.futures.Executor or a dask.distributed.Client, "
            f"got {engine!r}"
        )
    if engine.asynchronous:
        raise TypeError("executor: this client has to be awaited; take Client(asynchronous=False)")
    _Cluster(engine).check_versions()


def worker_count(engine: Any) -> int:
    """Return how many tasks an engine does at the same time; at least 1."""
    if engine is None:
        return 1
    if _is_client(engine):
        return max(1, len(_Cluster(engine).workers()))
    # What mpi4py's executors call it, and what Python's and loky's do.
    for name in ("num_workers", "_max_workers"):
        if isinstance(count := getattr(engine, name, None), int) and count > 0:
            return count
    return available_cores()


def finished(
    engine: Any, work: Work[Task], tasks: Iterable[Task], num_cpus: int | None = None
) -> Generator[Finished, None, None]:
    """Have tasks done, and yield what comes of each as it finishes.

    No more tasks are taken than can be under way, so that they may be made as they are needed.
    When nobody wants to know any more, those that have not begun are called off.

    Parameters
    ----------
    engine : concurrent.futures.Executor, dask.distributed.Client or None
        None: one task after the other, here.
    work : callable
        ``work(task, num_cpus)``; a function that can be pickled, as must be tasks.
    tasks : iterable
    num_cpus : int or None
        Largest number of threads for a task. None: all those of a worker of Dask's, an even share
        of the cores in a pool on this machine, or else all cores there are.

    Raises
    ------
    EngineError
        If the scheduler of a cluster is lost.
    """
    if engine is None:
        for number, task in enumerate(tasks):
            try:
                outcome = Finished(number, work(task, num_cpus))
            except Exception as error:
                outcome = Finished(number, error=error)
            yield outcome
        return
    crew = _Cluster(engine) if _is_client(engine) else _Pool(engine)
    yield from _Round(crew, work, tasks, num_cpus).outcomes()


class _Sent(NamedTuple):
    """A task that is under way, and who has it."""

    number: int
    task: Any
    place: str | None


class _LostError(Exception):
    """What a task returned was lost with its worker."""


class _Round:
    """Tasks on their way to workers and back."""

    def __init__(
        self, crew: "_Pool | _Cluster", work: Work[Any], tasks: Iterable[Any], num_cpus: int | None
    ) -> None:
        self.crew = crew
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
                except EngineError:  # what is done is told all the same
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
            self.crew.call_off(list(self.under_way))

    def send(self) -> None:
        """Give tasks to those who have none; first of all those whose worker was lost."""
        lost, free = self.crew.look([sent.place for sent in self.under_way.values()])
        for future in [each for each, sent in self.under_way.items() if sent.place in lost]:
            self.note_loss(future)
        waiting = iter(lambda: self.again.pop() if self.again else next(self.todo, None), None)
        for place, (number, task) in zip(free, waiting, strict=False):
            future = self.crew.submit(place, self.work, task, self.num_cpus)
            self.under_way[future] = _Sent(number, task, place)
            future.add_done_callback(self.arrived.put)

    def take(self, timeout: float) -> None:
        """Wait for something to arrive, and take note of it."""
        with suppress(Empty):
            future = self.arrived.get(timeout=timeout)
            if future not in self.under_way:  # it was called off
                return
            try:
                value = self.crew.result(future, self.under_way[future].place)
                self.news.append(Finished(self.under_way.pop(future).number, value))
            except _LostError:
                self.note_loss(future)
            except Exception as error:
                self.news.append(Finished(self.under_way.pop(future).number, error=error))

    def note_loss(self, future: Any) -> None:
        number, task, _ = self.under_way.pop(future)
        self.crew.call_off([future])
        self.losses[number] += 1
        if self.losses[number] < MOST_LOSSES:
            self.again.append((number, task))
        else:
            self.news.append(Finished(number, error=_too_many_losses(self.losses[number])))


class _Pool:
    """An executor; it gets a task more for each worker than that can do at once."""

    def __init__(self, pool: Executor) -> None:
        self.pool = pool
        self.count = worker_count(pool)
        is_local = hasattr(pool, "_max_workers")
        self.share = max(1, available_cores() // self.count) if is_local else None

    def look(self, taken: list[str | None]) -> tuple[set[str | None], list[str | None]]:
        return set(), [None] * (2 * self.count - len(taken))

    def submit(self, _: str | None, work: Work[Any], task: Any, num_cpus: int | None) -> Any:
        try:
            return self.pool.submit(_at_worker, work, task, num_cpus or self.share, __version__)
        except BrokenExecutor as error:
            raise _broken(error) from error

    def result(self, future: Any, _: str | None) -> Any:
        try:
            return future.result()
        except BrokenExecutor as error:
            raise _broken(error) from error

    def call_off(self, futures: list[Any]) -> None:
        for future in futures:
            future.cancel()


class _Cluster:
    """Workers of Dask's; each gets one task at a time, for all its threads."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.known: list[str] = []
        self.last_look = -PATIENCE
        self.had_workers = False
        self.name = f"the Dask scheduler at {getattr(client.scheduler, 'address', 'no address')}"

    def workers(self) -> list[str]:
        self.require_scheduler()
        try:
            return list(self.client.nthreads())
        except Exception as error:  # of many kinds
            raise self._lost() from error

    def require_scheduler(self) -> None:
        if self.client.status != "running":  # it may connect again, but its tasks are gone
            raise self._lost()

    def check_versions(self) -> None:
        self.require_scheduler()
        # A function of ours could not even be named to those who have no sparsemed.
        ask = "__import__('sparsemed.version').version.__version__"
        try:
            versions = self.client.run(eval, ask, on_error="return")
        except Exception as error:
            raise self._lost() from error
        for worker, found in versions.items():
            if isinstance(found, ImportError):
                raise EngineError(f"the worker at {worker} has no sparsemed ({found})")
            if isinstance(found, BaseException):
                raise EngineError(f"the worker at {worker} cannot be asked ({found!r})")
            if found != __version__:
                raise EngineError(_other_version(f"the worker at {worker}", found, __version__))

    def look(self, taken: list[str | None]) -> tuple[set[str | None], list[str | None]]:
        """Return which of the places that have a task are lost, and which are free."""
        self.require_scheduler()
        if not self.known or monotonic() - self.last_look >= PATIENCE:
            self.known, self.last_look = self.workers(), monotonic()
        workers = self.known
        free: list[str | None] = [worker for worker in workers if worker not in taken]
        self.had_workers |= bool(workers)
        # A task that may go to anybody brings workers where there are none yet, as some clusters
        # grow with their work. Lost ones are started again by those who look after them.
        is_first = not self.had_workers and not taken
        return {*taken} - {None, *workers}, [None] if is_first else free

    def submit(self, place: str | None, work: Work[Any], task: Any, num_cpus: int | None) -> Any:
        """Send a task to a worker.

        It must be this one alone: what may go to others, too, Dask gives to none that comes later.
        """
        import dask

        # A part of an array is sent along with its task, as that must outlive the worker.
        with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1 TiB"}):
            return self.client.submit(
                _at_dask_worker, work, task, num_cpus, __version__, pure=False,
                workers=place and [place],
            )  # fmt: skip

    def result(self, future: Any, place: str | None) -> Any:
        from distributed import KilledWorker

        while True:
            try:
                return future.result(timeout=None if future.status == "error" else FETCH_SECONDS)
            except KilledWorker as error:
                raise _too_many_losses(error.allowed_failures + 1) from error
            except CancelledError as error:
                raise self._lost() from error
            except TimeoutError:
                if future.status == "error":  # it is one of the task
                    raise
                if place is not None and place not in self.workers():
                    raise _LostError from None

    def call_off(self, futures: list[Any]) -> None:
        if futures and self.client.status == "running":
            with suppress(Exception):  # no scheduler, no tasks
                self.client.cancel(futures)

    def _lost(self) -> EngineError:
        return EngineError(f"{self.name} cannot be reached any more")


def _at_worker(work: Work[Any], task: Any, num_cpus: int | None, version: str) -> Any:
    """Do a task where it was sent to."""
    if version != __version__:
        raise EngineError(_other_version("a worker", __version__, version))
    return work(task, num_cpus)


_turns: dict[str, threading.Lock] = {}


def _at_dask_worker(work: Work[Any], task: Any, num_cpus: int | None, version: str) -> Any:
    """Do a task with the threads of a worker, one task at a time.

    A worker that takes over from one that was lost has a task of its own.
    """
    from distributed import get_worker

    worker = get_worker()
    threads = worker.state.nthreads
    with _turns.setdefault(worker.address, threading.Lock()):
        return _at_worker(work, task, min(threads, num_cpus or threads), version)


def is_task() -> bool:
    """Whether this is part of a task that a worker of Dask's does."""
    if (distributed := sys.modules.get("distributed")) is None:
        return False
    try:
        distributed.get_worker()
    except ValueError:
        return False
    return True


def _is_client(engine: Any) -> bool:
    """Whether an engine is a client of Dask's; whoever has one has imported that."""
    distributed = sys.modules.get("distributed")
    return distributed is not None and isinstance(engine, distributed.Client)


def _too_many_losses(count: int) -> EngineError:
    return EngineError(
        f"{count} workers were lost one after the other while they did the same task; have they "
        "enough memory?"
    )


def _broken(error: BaseException) -> EngineError:
    return EngineError(
        f"a worker of the pool ended before its task (killed, or out of memory?), and the pool is "
        f"broken ({error}); run again, with a new one"
    )


def _other_version(who: str, found: str, wanted: str) -> str:
    return f"{who} has sparsemed {found}, but {wanted} is needed; install that there"
