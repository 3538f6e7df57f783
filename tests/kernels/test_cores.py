import os
import subprocess
import sys
import threading
from pathlib import Path
from time import sleep

import numpy as np
import pytest
from patience import PATIENCE

from sparsemed.kernels import cores
from sparsemed.kernels.cores import available_cores, check_num_cpus, share_out


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
def test_quota_of_a_container(tmp_path, text, quota):
    assert group_quota(tmp_path, "0::/\n", {"cpu.max": text}) == quota


def group_quota(folder, groups, limits):
    """Return the quota that a process finds which is told of groups, with limits in files."""
    (folder / "self").write_text(groups)
    for name, text in limits.items():
        file = folder / "mount" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return cores._group_quota(folder / "self", folder / "mount")


def old(path, quota, period=100000):
    return {f"{path}/cpu.cfs_quota_us": f"{quota}\n", f"{path}/cpu.cfs_period_us": f"{period}\n"}


TWO, THREE, FOUR, NONE = (f"{count} 100000" for count in (200000, 300000, 400000, "max"))
OLD = "4:memory:/other\n3:cpuacct,cpu:/jobs/mine\n1:cpuset:/none\n"


@pytest.mark.parametrize(
    ("groups", "limits", "quota"),
    [
        ("0::/jobs/mine\n", {"jobs/mine/cpu.max": THREE}, 3),
        ("0::/jobs/mine\n", {"jobs/mine/cpu.max": THREE, "jobs/cpu.max": TWO}, 2),
        ("0::/jobs/mine\n", {"jobs/mine/cpu.max": TWO, "jobs/cpu.max": THREE}, 2),
        ("0::/jobs/mine\n", {"jobs/mine/cpu.max": NONE, "jobs/cpu.max": FOUR}, 4),
        ("0::/jobs/mine\n", {"jobs/mine/cpu.max": NONE, "jobs/other/cpu.max": TWO}, None),
        ("0::/jobs/mine\n", {"cpu.max": TWO}, 2),  # a container that sees its own group alone
        ("0::/../../mine\n", {"cpu.max": TWO}, 2),
        ("0::/a:b/c\n", {"a:b/c/cpu.max": TWO}, 2),
        ("0::/jobs\n", {"unified/jobs/cpu.max": TWO}, 2),  # beside version 1
        (OLD, old("cpuacct,cpu/jobs/mine", 250000), 3),
        (OLD, old("cpu/jobs/mine", 250000), 3),
        (OLD, old("cpu/jobs/mine", 50000, 25000), 2),
        (OLD, old("cpu/jobs/mine", -1), None),
        (OLD, old("cpu/jobs/mine", -1) | old("cpu/jobs", 400000), 4),
        (OLD, old("cpu/jobs/mine", 300000) | old("cpu", 100000), 1),
        (OLD, old("cpu", 200000), 2),
        (OLD, old("cpu/jobs/mine", 200000, 0), None),
        (OLD, old("memory/other", 100000) | old("cpuset/none", 100000), None),
        (OLD, {"cpu/jobs/mine/cpu.cfs_quota_us": "100000"}, None),
        (OLD + "0::/jobs\n", old("cpu", 400000) | {"unified/jobs/cpu.max": TWO}, 2),
        ("", {"cpu.max": TWO}, None),
        ("nonsense\n", {"cpu.max": TWO}, None),
    ],
)
def test_quota_of_control_groups(tmp_path, groups, limits, quota):
    assert group_quota(tmp_path, groups, limits) == quota


def test_no_control_groups_have_no_quota(tmp_path):
    assert cores._group_quota(tmp_path / "self", tmp_path) is None
    assert group_quota(tmp_path, "0::/jobs\n2:cpu:/jobs\n", {}) is None


QUOTA = """
import sys
from pathlib import Path
from sparsemed.kernels.cores import available_cores
before = available_cores()
Path(sys.argv[1], "cgroup.procs").write_text("0")
print(before, available_cores())
"""


def test_quota_of_a_real_control_group():
    groups = Path("/proc/self/cgroup").read_text() if os.name != "nt" else ""
    folder = Path("/sys/fs/cgroup/cpu" if ":cpu:" in groups else "/sys/fs/cgroup")
    outer, inner = folder / f"sparsemed-{os.getpid()}", folder / f"sparsemed-{os.getpid()}/inner"
    made = []
    try:
        for each in (outer, inner):
            each.mkdir()
            made.append(each)
        if (outer / "cpu.cfs_quota_us").exists():
            (outer / "cpu.cfs_quota_us").write_text("100000")
        else:
            (outer / "cpu.max").write_text("100000 100000")
        command = [sys.executable, "-c", QUOTA, str(inner)]
        run = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"control groups with a limit cannot be made here: {error}")
    finally:
        for each in reversed(made):
            each.rmdir()
    assert run.stdout.split()[1] == "1"


@pytest.fixture
def machine(monkeypatch):
    """A machine of 8 cores, and nothing that takes any away."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(os, "process_cpu_count", lambda: 8, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(cores, "_group_quota", lambda: None)
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    return monkeypatch


@pytest.mark.parametrize(
    ("affinity", "quota", "expected"),
    [(8, None, 8), (8, 3, 3), (2, 3, 2), (1, None, 1), (8, 0, 8)],
)
def test_available_cores(machine, affinity, quota, expected):
    machine.setattr(os, "sched_getaffinity", lambda _: set(range(affinity)))
    machine.setattr(cores, "_group_quota", lambda: quota)
    assert available_cores() == expected


@pytest.mark.parametrize(("count", "expected"), [(6, 6), (None, 1)])
def test_available_cores_without_affinity(machine, count, expected):
    machine.delattr(os, "sched_getaffinity")
    machine.delattr(os, "process_cpu_count")
    machine.setattr(os, "cpu_count", lambda: count)
    assert available_cores() == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("3", 3), ("1", 1), ("99", 8), ("0", 8), ("-2", 8), ("", 8), ("2(x3)", 8), ("2.5", 8)],
)
def test_cores_that_slurm_grants(machine, text, expected):
    machine.setenv("SLURM_CPUS_PER_TASK", text)
    assert available_cores() == expected


@pytest.mark.parametrize(("count", "expected"), [(3, 3), (99, 8), (None, 8)])
def test_cores_that_python_is_told_of(machine, count, expected):
    machine.setattr(os, "process_cpu_count", lambda: count)
    assert available_cores() == expected


@pytest.mark.skipif(sys.version_info < (3, 13), reason="new in Python 3.13")
@pytest.mark.parametrize("way", ["option", "variable"])
def test_cores_that_python_is_really_told_of(way):
    options = ["-X", "cpu_count=1"] if way == "option" else []
    code = "from sparsemed.kernels.cores import available_cores; print(available_cores())"
    run = subprocess.run(
        [sys.executable, *options, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **({"PYTHON_CPU_COUNT": "1"} if way == "variable" else {})},
    )
    assert run.stdout == "1\n"


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
    assert str(caught.value).endswith(f"got {num_cpus!r}; leave it out for all cores")


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
            meeting.wait(PATIENCE)

        share_out(work, expected, 1, num_cpus)
        assert len(seen) == expected
        assert threading.get_ident() in seen


def test_no_more_threads_than_asked_for_however_much_there_is_to_do(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    seen, both = set(), threading.Event()

    def work(begin, end):
        seen.add(threading.get_ident())
        if len(seen) > 1:
            both.set()
        both.wait(PATIENCE)
        sleep(0.001)  # so that a third one would come to it

    share_out(work, 40, 1, 2)
    assert len(seen) == 2


@pytest.mark.parametrize("bad", [0, 7, 19])
def test_an_error_ends_it_and_is_passed_on(bad, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    done = []

    def work(begin, end):
        if begin == bad:
            raise KeyError(bad)
        sleep(0.001)
        done.append(begin)

    before = set(threading.enumerate())
    with pytest.raises(KeyError):
        share_out(work, 10_000, 1, 4)
    assert len(done) < 5000  # it would take seconds: the machine may have much else to do
    assert set(threading.enumerate()) <= before


def test_the_first_error_is_passed_on(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    meeting, is_noted = threading.Barrier(2, timeout=PATIENCE), threading.Event()
    wait_for = cores._wait_for

    def note(thread):
        is_noted.set()
        wait_for(thread)

    def work(begin, end):
        meeting.wait()
        if threading.current_thread() is threading.main_thread():
            raise KeyboardInterrupt
        is_noted.wait(PATIENCE)
        raise KeyError

    monkeypatch.setattr(cores, "_wait_for", note)
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


@pytest.fixture
def start_name():
    """The function with which Python starts threads."""
    name = "_start_joinable_thread" if hasattr(threading, "_start_joinable_thread") else None
    return name or "_start_new_thread"  # before Python 3.13


def test_what_a_handler_raises_at_the_start_of_a_thread_is_passed_on(monkeypatch, start_name):
    start = getattr(threading, start_name)

    def start_and_fail(begin, *args, **how):
        is_over = threading.Event()
        start(lambda: (begin(), is_over.set()), *args, **how)
        is_over.wait(PATIENCE)
        raise TimeoutError("time is up")

    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(threading, start_name, start_and_fail)
    with pytest.raises(TimeoutError, match="time is up"):
        share_out(lambda *_: None, 100, 1, 2)


def test_a_thread_that_a_signal_interrupts_at_its_start_is_waited_for(monkeypatch, start_name):
    start = getattr(threading, start_name)

    def start_late(begin, *args, **how):
        start(lambda: (sleep(0.1), begin()), *args, **how)
        raise KeyboardInterrupt

    before = set(threading.enumerate())
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(threading, start_name, start_late)
    with pytest.raises(KeyboardInterrupt):
        share_out(lambda *_: None, 100, 1, 2)
    assert set(threading.enumerate()) <= before
