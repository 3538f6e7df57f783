import os
import re
import subprocess
import sys
import threading
from time import sleep

import numba
import numpy as np
import pytest

from sparsemed.kernels import cores
from sparsemed.kernels.cores import available_cores, check_num_cpus, kernel_threads, share_out


@pytest.mark.parametrize(
    ("text", "quota"),
    [
        ("max 100000\n", None),
        ("100000 100000\n", 1),
        ("50000 100000\n", 1),
        ("100001 100000\n", 2),
        ("350000 100000\n", 4),
        ("400000 100000\n", 4),
        ("25000 50000", 1),
        ("", None),
        ("100000", None),
        ("1 2 3", None),
        ("many 100000", None),
    ],
)
def test_container_quota(tmp_path, text, quota):
    limit_file = tmp_path / "cpu.max"
    limit_file.write_text(text)
    assert cores._container_quota(limit_file) == quota


def test_no_container_has_no_quota(tmp_path):
    assert cores._container_quota(tmp_path / "cpu.max") is None
    assert cores._container_quota(tmp_path) is None


@pytest.mark.parametrize(
    ("affinity", "quota", "expected"),
    [(8, None, 8), (8, 3, 3), (2, 3, 2), (1, None, 1), (8, 0, 8)],
)
def test_available_cores(monkeypatch, affinity, quota, expected):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(affinity)), raising=False)
    monkeypatch.setattr(cores, "_container_quota", lambda: quota)
    assert available_cores() == expected


@pytest.mark.parametrize(("count", "expected"), [(6, 6), (None, 1)])
def test_available_cores_without_affinity(monkeypatch, count, expected):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: count)
    monkeypatch.setattr(cores, "_container_quota", lambda: None)
    assert available_cores() == expected


def test_none_means_all_available_cores(monkeypatch):
    monkeypatch.setattr(cores, "available_cores", lambda: 17)
    assert check_num_cpus(None) == 17


@pytest.mark.parametrize("num_cpus", [1, 1000, np.int64(3), np.uint8(2)])
def test_whole_numbers_are_taken(num_cpus):
    found = check_num_cpus(num_cpus)
    assert found == num_cpus
    assert type(found) is int


@pytest.mark.parametrize(
    "num_cpus", [0, -1, True, False, 1.0, np.float64(2), np.bool_(True), "2", [1], 1j]
)
def test_others_are_refused(num_cpus):
    with pytest.raises(ValueError, match=r"^num_cpus must be a whole number from 1 up") as caught:
        check_num_cpus(num_cpus)
    assert str(caught.value).endswith(f"got {num_cpus!r}")


@pytest.mark.parametrize("outside", [1, numba.config.NUMBA_NUM_THREADS])
def test_thread_count_is_that_of_the_caller_again(outside):
    before = numba.get_num_threads()
    numba.set_num_threads(outside)
    try:
        for asked in (1, 2, 1000):
            with kernel_threads(asked) as are_there:
                assert are_there
                assert numba.get_num_threads() == min(asked, numba.config.NUMBA_NUM_THREADS)
            assert numba.get_num_threads() == outside
        with pytest.raises(KeyError), kernel_threads(1):
            raise KeyError
        assert numba.get_num_threads() == outside
    finally:
        numba.set_num_threads(before)


def test_thread_count_is_restored_if_stopped_as_soon_as_it_is_set(monkeypatch):
    before = numba.get_num_threads()
    really = numba.set_num_threads

    def set_and_stop(count):
        monkeypatch.undo()
        really(count)
        raise KeyboardInterrupt

    numba.set_num_threads(numba.config.NUMBA_NUM_THREADS)
    try:
        monkeypatch.setattr(numba, "set_num_threads", set_and_stop)
        with pytest.raises(KeyboardInterrupt), kernel_threads(1):
            pass
        assert numba.get_num_threads() == numba.config.NUMBA_NUM_THREADS
    finally:
        numba.set_num_threads(before)


def test_one_python_thread_at_a_time():
    waiting, entered = threading.Event(), threading.Event()

    def enter():
        waiting.set()
        with kernel_threads(1):
            entered.set()

    second = threading.Thread(target=enter)
    with kernel_threads(1):
        second.start()
        waiting.wait()
        assert not entered.wait(0.05)
        with kernel_threads(2):  # as from the handler of a signal
            pass
    second.join()
    assert entered.is_set()


THREADS = """
import os, sys
import numpy as np
from numba import njit, prange


@njit(parallel=True)
def theirs(values):
    for i in prange(len(values)):
        values[i] = i


def are_there():
    with kernel_threads(2) as found:
        return found


def in_child(work):
    child = os.fork()
    if not child:
        os._exit(work())
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if sys.argv[1] == "theirs first":
    theirs(np.zeros(3))
from sparsemed.kernels.cores import kernel_threads
assert are_there() == (sys.argv[2] == "True")
assert not in_child(are_there)
assert not in_child(lambda: in_child(are_there))
assert are_there() == (sys.argv[2] == "True")
"""


forks = pytest.mark.skipif(sys.platform != "linux", reason="needs forks, and GNU's OpenMP")


@forks
@pytest.mark.parametrize(
    ("layer", "order", "expected"),
    [
        ("omp", "ours first", True),
        ("omp", "theirs first", False),  # a fork may lie in between
        ("workqueue", "ours first", False),
        ("none at all", "ours first", False),
    ],
)
def test_where_the_threads_of_numba_can_be_used(layer, order, expected):
    environment = os.environ | {"NUMBA_THREADING_LAYER": layer}
    command = [sys.executable, "-W", "error", "-c", THREADS, order, str(expected)]
    subprocess.run(command, env=environment, check=True)


@forks
def test_a_child_that_is_forked_before_any_launch_has_threads():
    code = (
        THREADS.partition("if sys.argv")[0]
        + """
from sparsemed.kernels.cores import kernel_threads
assert in_child(are_there) == 1
assert are_there()
"""
    )
    environment = os.environ | {"NUMBA_THREADING_LAYER": "omp"}
    subprocess.run([sys.executable, "-W", "error", "-c", code], env=environment, check=True)


LAUNCH = """
import os
from sparsemed.kernels.cores import kernel_threads
before = dict(os.environ)
with kernel_threads(1):
    pass
assert dict(os.environ) == before
"""


@pytest.mark.parametrize(
    ("wish", "spins"),
    [
        ({}, "0"),
        ({"OMP_WAIT_POLICY": "active"}, "[1-9][0-9]{5,}"),
        ({"GOMP_SPINCOUNT": "7"}, "7"),
    ],
)
def test_threads_of_openmp_sleep_unless_somebody_wants_otherwise(wish, spins):
    # GNU's OpenMP itself says what it has understood.
    environment = {name: value for name, value in os.environ.items() if name not in cores.WISHES}
    environment |= {"OMP_DISPLAY_ENV": "verbose", "NUMBA_THREADING_LAYER": "omp"} | wish
    run = subprocess.run([sys.executable, "-c", LAUNCH], env=environment, capture_output=True)
    said = run.stderr.decode()
    if "GOMP_SPINCOUNT" not in said:
        pytest.skip("Numba does not use GNU's OpenMP here")
    assert run.returncode == 0, said
    assert re.search(rf"GOMP_SPINCOUNT = '{spins}'", said)


@pytest.mark.parametrize("num_cpus", [1, 2, 3, 1000])
@pytest.mark.parametrize(("count", "most"), [(1, 5), (7, 1), (7, 3), (40, 1000)])
def test_each_item_is_done_once(count, most, num_cpus):
    parts = []
    share_out(lambda begin, end: parts.append((begin, end)), count, most, num_cpus)
    assert [n for begin, end in sorted(parts) for n in range(begin, end)] == [*range(count)]
    assert all(0 < end - begin <= most for begin, end in parts)


def test_as_many_threads_as_asked_for(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    for num_cpus, expected in [(1, 1), (3, 3), (5, 5), (9, 5)]:
        meeting = threading.Barrier(expected)  # nobody gets on until all are there
        seen = set()

        def work(begin, end, meeting=meeting, seen=seen):
            seen.add(threading.get_ident())
            meeting.wait(60)

        share_out(work, expected, 1, num_cpus)
        assert len(seen) == expected
        assert threading.get_ident() in seen


@pytest.mark.parametrize("bad", [0, 7, 19])
def test_an_error_ends_it_and_is_passed_on(bad, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    done = []

    def work(begin, end):
        if begin == bad:
            raise KeyError(bad)
        sleep(0.001)
        done.append(begin)

    before = threading.active_count()
    with pytest.raises(KeyError):
        share_out(work, 1000, 1, 4)
    assert len(done) < 100
    assert threading.active_count() == before


def test_the_first_error_is_passed_on(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    meeting, stopped = threading.Barrier(2, timeout=20), threading.Event()

    def work(begin, end):
        meeting.wait()
        if threading.current_thread() is threading.main_thread():
            stopped.set()
            raise KeyboardInterrupt
        stopped.wait(20)
        sleep(0.05)
        raise KeyError

    with pytest.raises(KeyboardInterrupt):
        share_out(work, 2, 1, 2)


def test_the_caller_does_it_all_where_no_thread_can_be_started(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 4)

    def refuse(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    done = []
    share_out(lambda begin, _end: done.append(begin), 9, 1, 4)
    assert done == [*range(9)]
