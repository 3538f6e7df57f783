"""How many cores there are, and one parallel kernel at a time.

Numba's threads are a resource of the whole process. Its ``workqueue`` layer
aborts when two Python threads start a parallel function at once, and
``set_num_threads`` sticks to the thread that called it. Both troubles are
dealt with here, once, for every kernel of the package.
"""

import functools
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Integral
from pathlib import Path

import numba

WISHES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""Variables by which a user may say how OpenMP's threads are to wait."""

_one_launch = threading.Lock()


def available_cores() -> int:
    """Return how many cores this process may use.

    Returns
    -------
    int
        The cores of the machine, less those that CPU affinity or the quota of
        a container (Linux control groups, version 2) takes away; at least 1.
    """
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    return max(1, min(count, _container_quota() or count))


def _container_quota(limit_file: Path = Path("/sys/fs/cgroup/cpu.max")) -> int | None:
    """Cores that the control group grants (rounded up), or None without a limit."""
    try:
        quota, period = map(int, limit_file.read_text().split())
    except (OSError, ValueError):  # no such file, or "max"
        return None
    return -(-quota // period)


def check_num_cpus(num_cpus: int | None) -> int:
    """Return the number of cores to use, or all available ones for None.

    Raises
    ------
    ValueError
        If `num_cpus` is not a whole number from 1 up.
    """
    if num_cpus is None:
        return available_cores()
    if isinstance(num_cpus, bool) or not isinstance(num_cpus, Integral) or num_cpus < 1:
        raise ValueError(f"num_cpus must be a whole number from 1 up, got {num_cpus!r}")
    return int(num_cpus)


@contextmanager
def kernel_threads(num_cpus: int | None = None) -> Iterator[None]:
    """Hold the right to launch parallel kernels, with at most `num_cpus` threads.

    The calling thread's own Numba thread count is restored at the end.
    """
    wanted = min(check_num_cpus(num_cpus), numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]
    with _one_launch:
        _start_threads()
        before = numba.get_num_threads()
        numba.set_num_threads(wanted)
        try:
            yield
        finally:
            numba.set_num_threads(before)


@functools.cache
def _start_threads() -> None:
    """Have Numba start its threads, and have them sleep while there is nothing to do.

    OpenMP's threads would go on spinning for a while after each kernel, on the cores that are to
    decode frames by then. OpenMP reads what is wanted from the environment, when it starts.
    """
    if any(name in os.environ for name in WISHES):
        return
    os.environ["OMP_WAIT_POLICY"] = "passive"
    try:
        numba.get_num_threads()
    finally:
        del os.environ["OMP_WAIT_POLICY"]
