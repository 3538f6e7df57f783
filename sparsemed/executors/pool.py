"""Executors of Python and the like: threads, processes, mpi4py, joblib."""

from concurrent.futures import BrokenExecutor, Executor
from dataclasses import replace
from typing import Any

from sparsemed.executors.tasks import Call, ExecutorError, Place, require_version
from sparsemed.kernels.cores import available_cores
from sparsemed.version import __version__


def pool_size(pool: Executor) -> int:
    """Return how many workers an executor has."""
    # The names in mpi4py, and in Python and loky.
    for name in ("num_workers", "_max_workers"):
        if isinstance(count := getattr(pool, name, None), int) and count > 0:
            return count
    return available_cores()


class Pool:
    """An executor; each worker has a second task waiting, so that it never idles."""

    def __init__(self, pool: Executor) -> None:
        self.pool = pool
        self.count = pool_size(pool)
        is_local = hasattr(pool, "_max_workers")
        self.share = max(1, available_cores() // self.count) if is_local else None

    def free_workers(self, taken: list[Place]) -> tuple[set[Place], list[Place]]:  # noqa: D102 (see Workers)
        return set(), [None] * (2 * self.count - len(taken))

    def submit(self, place: Place, call: Call) -> Any:  # noqa: ARG002, D102 (see Workers)
        call = replace(call, num_cpus=call.num_cpus or self.share)
        try:
            return self.pool.submit(_at_worker, call, __version__)
        except BrokenExecutor as error:
            raise _broken(error) from error

    def result(self, future: Any, place: Place) -> Any:  # noqa: ARG002, D102 (see Workers)
        try:
            return future.result()
        except BrokenExecutor as error:
            raise _broken(error) from error

    def cancel(self, futures: list[Any]) -> None:  # noqa: D102 (see Workers)
        for future in futures:
            future.cancel()


def _at_worker(call: Call, version: str) -> Any:
    """Do a task in a worker."""
    require_version("a worker", __version__, version)
    return call.work(call.task, call.num_cpus)


def _broken(error: BaseException) -> ExecutorError:
    return ExecutorError(
        f"a worker of the pool ended before its task (killed, or out of memory?), and the pool is "
        f"broken ({error}); run again with a new pool"
    )
