import os
import re
import subprocess
import sys
import threading

import numba
import numpy as np
import pytest

from sparsemed import cores
from sparsemed.cores import available_cores, check_num_cpus, kernel_threads


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


def test_bad_number_is_refused_before_anything_is_held():
    with pytest.raises(ValueError, match="num_cpus"), kernel_threads(0):
        pass
    assert cores._one_launch.acquire(blocking=False)
    cores._one_launch.release()


@pytest.mark.parametrize("outside", [1, numba.config.NUMBA_NUM_THREADS])
def test_thread_count_is_that_of_the_caller_again(outside):
    before = numba.get_num_threads()
    numba.set_num_threads(outside)
    try:
        for asked in (1, 2, 1000):
            with kernel_threads(asked):
                assert numba.get_num_threads() == min(asked, numba.config.NUMBA_NUM_THREADS)
            assert numba.get_num_threads() == outside
        with pytest.raises(KeyError), kernel_threads(1):
            raise KeyError
        assert numba.get_num_threads() == outside
    finally:
        numba.set_num_threads(before)


def test_one_python_thread_at_a_time():
    entered = threading.Event()

    def enter():
        with kernel_threads(1):
            entered.set()

    second = threading.Thread(target=enter)
    with kernel_threads(1):
        assert not cores._one_launch.acquire(blocking=False)
        second.start()
    second.join()
    assert entered.is_set()


LAUNCH = """
import os
from sparsemed.cores import kernel_threads
before = dict(os.environ)
with kernel_threads():
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
