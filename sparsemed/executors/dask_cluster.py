"""A Dask cluster: each worker gets one task at a time, for all its threads."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from typing import Any

from sparsemed.executors.tasks import (
    Call,
    ExecutorError,
    LostError,
    Place,
    require_version,
    too_many_losses,
)
from sparsemed.progress import Progress
from sparsemed.version import __version__

PATIENCE = 1.0
"""Seconds between two looks for new workers and for the scheduler."""


FETCH_SECONDS = 10.0
"""Seconds to wait for a result before checking that its worker is there."""


MESSAGE_SECONDS = 0.5
"""Seconds between two messages of a worker on the progress of its task."""


class DaskCluster:
    """Dask workers; each gets one task at a time, for all its threads."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.known: list[str] = []
        self.last_look = -PATIENCE
        self.had_workers = False
        self.name = f"the Dask scheduler at {getattr(client.scheduler, 'address', 'no address')}"

    def workers(self) -> list[str]:
        """Return the addresses of all workers."""
        self.require_scheduler()
        try:
            return list(self.client.nthreads())
        except Exception as error:  # of many kinds
            raise self._lost() from error

    def require_scheduler(self) -> None:
        """Check that the connection to the scheduler was never lost."""
        if self.client.status != "running":  # it may reconnect, but its tasks are gone
            raise self._lost()

    def check_versions(self) -> None:
        """Check that all workers have this version of sparsemed."""
        self.require_scheduler()
        # Workers without sparsemed could not unpickle a function of it.
        ask = "__import__('sparsemed.version').version.__version__"
        try:
            versions = self.client.run(eval, ask, on_error="return")
        except Exception as error:
            raise self._lost() from error
        for worker, found in versions.items():
            if isinstance(found, ImportError):
                raise ExecutorError(
                    f"the worker at {worker} has no sparsemed ({found}); install it there"
                )
            if isinstance(found, BaseException):
                raise ExecutorError(f"the worker at {worker} does not answer ({found!r})")
            require_version(f"the worker at {worker}", found, __version__)

    def free_workers(self, taken: list[Place]) -> tuple[set[Place], list[Place]]:  # noqa: D102 (see Workers)
        self.require_scheduler()
        if not self.known or time.monotonic() - self.last_look >= PATIENCE:
            self.known, self.last_look = self.workers(), time.monotonic()
        workers = self.known
        free: list[Place] = [worker for worker in workers if worker not in taken]
        self.had_workers |= bool(workers)
        # While there are no workers, one task is sent to any: clusters that grow with their work
        # then start some. Clusters restart lost workers by themselves.
        is_first = not self.had_workers and not taken
        return {*taken} - {None, *workers}, [None] if is_first else free

    def submit(self, place: Place, call: Call) -> Any:
        """Send a task to a worker.

        Exactly this worker is named: a task that may go to others Dask would never give to a
        worker that comes later.
        """
        import dask

        # A task holds its part of an array, as it must outlive the worker; Dask warns of its size.
        with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1 TiB"}):
            return self.client.submit(
                _at_dask_worker, call, __version__, pure=False, workers=place and [place]
            )

    def result(self, future: Any, place: Place) -> Any:  # noqa: D102 (see Workers)
        from distributed import KilledWorker

        while True:
            try:
                return future.result(timeout=None if future.status == "error" else FETCH_SECONDS)
            except KilledWorker as error:
                raise too_many_losses(error.allowed_failures + 1) from error
            except CancelledError as error:
                raise self._lost() from error
            except TimeoutError:
                if future.status == "error":  # the task itself raised it
                    raise
                if place is not None and place not in self.workers():
                    raise LostError from None

    def cancel(self, futures: list[Any]) -> None:  # noqa: D102 (see Workers)
        if futures and self.client.status == "running":
            with suppress(Exception):  # no scheduler, no tasks
                self.client.cancel(futures)

    def _lost(self) -> ExecutorError:
        return ExecutorError(f"{self.name} cannot be reached any more")


_turns: dict[str, threading.Lock] = {}


def _at_dask_worker(call: Call, version: str) -> Any:
    """Do a task with all threads of a worker, one task at a time.

    The lock is needed when a worker takes over the task of a lost one, and has one already.
    """
    from distributed import get_worker

    worker = get_worker()
    threads = worker.state.nthreads
    require_version("a worker", __version__, version)
    with _turns.setdefault(worker.address, threading.Lock()):
        return call.work(call.task, min(threads, call.num_cpus or threads))


def this_worker() -> Any | None:
    """Return the Dask worker that runs the current task, or None."""
    if (distributed := sys.modules.get("distributed")) is None:
        return None
    try:
        return distributed.get_worker()
    except ValueError:
        return None


def is_client(executor: Any) -> bool:
    """Whether an executor is a Dask client. If Dask was never imported, it is not."""
    distributed = sys.modules.get("distributed")
    return distributed is not None and isinstance(executor, distributed.Client)


@contextmanager
def subscribe(executor: Any, topic: str, note: Callable[[int, float], None]) -> Iterator[None]:
    """Call ``note(number, part)`` as workers report which part of a task is done, if they can."""
    if not hasattr(executor, "subscribe_topic"):
        yield
        return
    executor.subscribe_topic(topic, lambda event: note(*event[1]))
    try:
        yield
    finally:
        with suppress(Exception):  # the scheduler may be gone
            executor.unsubscribe_topic(topic)


def notify(topic: str, number: int) -> Progress | None:
    """Return a function that reports the progress of a task, if this is a Dask worker."""
    worker = this_worker()
    if worker is None:
        return None
    last = time.monotonic()

    def tell(part: float) -> None:
        nonlocal last
        if time.monotonic() - last >= MESSAGE_SECONDS:
            last = time.monotonic()
            worker.log_event(topic, [number, part])

    return tell
