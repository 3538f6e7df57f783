"""The number of available cores, and threads that share out work.

The threads of Numba are not used. They belong to the whole process: a parallel function of another
package in another thread may crash it, as may a fork. And a parallel function takes as long to
compile as all other kernels. Plain threads that live for one call do the same work.
"""

import os
import posixpath
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from numbers import Integral
from pathlib import Path, PurePosixPath


def available_cores() -> int:
    """Return how many cores this process may use.

    Returns
    -------
    int
        The cores of the machine, as limited by CPU affinity, Python
        (``PYTHON_CPU_COUNT``, from 3.13 on), control groups (Linux, for example
        in a container) and Slurm (``SLURM_CPUS_PER_TASK``); at least 1.
    """
    counts = [_slurm_cpus(), _group_quota()]
    if hasattr(os, "sched_getaffinity"):
        counts.append(len(os.sched_getaffinity(0)))
    else:
        counts.append(os.cpu_count())
    if hasattr(os, "process_cpu_count"):
        counts.append(os.process_cpu_count())
    return max(1, min((count for count in counts if count), default=1))


def _slurm_cpus() -> int | None:
    """Return the cores per task of a Slurm job, or None."""
    try:
        count = int(os.environ["SLURM_CPUS_PER_TASK"])
    except (KeyError, ValueError):
        return None
    return count if count > 0 else None


def _group_quota(
    groups: Path = Path("/proc/self/cgroup"), mount: Path = Path("/sys/fs/cgroup")
) -> int | None:
    """Return the cores that control groups allow (rounded up), or None without a limit.

    Groups are nested up to the mount point, and the smallest limit counts. In a container, the path
    of the group may be valid outside only; then the mount point is its own group.
    """
    quotas = []
    for folder, group in _own_groups(groups, mount):
        inside = PurePosixPath(posixpath.normpath(f"/{group.lstrip('/')}")).relative_to("/")
        for each in (folder / inside, *(folder / parent for parent in inside.parents)):
            quotas.append(_quota(each / "cpu.max"))
            quotas.append(_quota(each / "cpu.cfs_quota_us", each / "cpu.cfs_period_us"))
    return min((quota for quota in quotas if quota), default=None)


def _own_groups(groups: Path, mount: Path) -> Iterator[tuple[Path, str]]:
    """Yield possible mount points of control groups for cores, each with the path of the group."""
    try:
        lines = groups.read_text(errors="surrogateescape").split("\n")
    except OSError:  # not Linux
        return
    for line in lines:
        number, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if number == "0" and not controllers:  # version 2, alone or beside version 1
            yield mount, group
            yield mount / "unified", group
        elif "cpu" in controllers.split(","):  # version 1
            yield mount / "cpu", group
            yield mount / controllers, group


def _quota(*files: Path) -> int | None:
    """Return the cores that a control group allows: quota divided by period, in microseconds."""
    try:
        quota, period = (int(word) for file in files for word in file.read_text().split())
        return -(-quota // period) if quota > 0 else None
    except (OSError, ValueError, ZeroDivisionError):  # no such file; or "max", which is no limit
        return None


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
        raise ValueError(
            f"num_cpus must be a whole number from 1 up, got {num_cpus!r}; leave it out for all "
            "cores"
        )
    return int(num_cpus)


def share_out(work: Callable[[int, int], None], count: int, most: int, num_cpus: int) -> None:
    """Call ``work(begin, end)`` for all parts of `count` items, in plain threads.

    The calling thread takes part; if no other thread can be started, it does all.

    Parameters
    ----------
    work : callable
        It should release Python's lock.
    count : int
        Number of items, 1 or more.
    most : int
        Largest number of items in a part.
    num_cpus : int
        Largest number of threads, the calling one included.
    """
    cores = min(num_cpus, os.cpu_count() or 1)
    size = min(most, -(-count // cores))
    parts = [(begin, min(begin + size, count)) for begin in range(0, count, size)]
    todo = iter(parts)
    errors: list[BaseException] = []

    def take_parts() -> None:
        try:
            for part in todo:
                work(*part)
        except BaseException as error:
            errors.append(error)
            list(todo)  # leaves no parts, so that the other threads end

    helpers = [threading.Thread(target=take_parts) for _ in range(min(cores, len(parts)) - 1)]
    try:
        with suppress(RuntimeError):  # the system has no more threads, or the interpreter ends
            for helper in helpers:
                _start(helper)
        take_parts()
    finally:
        list(todo)
        for helper in helpers:
            _wait_for(helper)
    if errors:
        raise errors.pop(0)  # the first, such as Ctrl-C; later errors do not hide it


def _start(thread: threading.Thread) -> None:
    """Start a thread; what a signal handler raises meanwhile is passed on.

    If the thread has begun by then, Python raises a KeyError in its place.
    """
    try:
        thread.start()
    except KeyError as error:
        raise error.__context__ or error from None


def _wait_for(thread: threading.Thread) -> None:
    """Wait for the end of a thread, unless it was not started.

    If a signal arrived while it was started, it runs, but has no number for a moment.
    """
    for _ in range(1000):
        if thread.ident is not None or thread not in threading.enumerate():
            break
        time.sleep(0.001)
    if thread.ident is not None:
        thread.join()
