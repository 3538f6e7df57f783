"""Where work is done, with real processes, real clusters, and workers that are killed."""

import os
import re
import signal
import subprocess
import sys
import threading
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from time import monotonic, sleep

import pytest
from patience import PATIENCE

from sparsemed.executors import pool as pools
from sparsemed.executors.rounds import as_completed, check_executor, worker_count
from sparsemed.executors.tasks import ExecutorError
from sparsemed.kernels.cores import available_cores
from sparsemed.version import __version__


def work(task, num_cpus):
    """Do as the task says; a function of its own may be pickled by name."""
    match task:
        case "fail":
            raise TimeoutError("in vain")
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
        case "wait":
            sleep(PATIENCE)
        case ("once", flag) if not flag.exists():
            flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)
    return task, num_cpus, os.getpid()


def test_without_an_engine_tasks_are_done_one_by_one_as_they_are_asked_for():
    made = []
    tasks = (made.append(name) or name for name in ("a", "fail", "b"))
    outcomes = as_completed(None, work, tasks, 3)
    assert next(outcomes).value == ("a", 3, os.getpid())
    assert made == ["a"]
    failed, last = outcomes
    assert (failed.number, failed.value, str(failed.error)) == (1, None, "in vain")
    assert (last.number, last.value[0], last.error) == (2, "b", None)
    assert worker_count(None) == 1


def test_a_pool_of_processes():
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        check_executor(pool)
        assert worker_count(pool) == 2
        outcomes = {each.number: each for each in as_completed(pool, work, [1, "fail", 3, 4, 5, 6])}
        assert [outcomes[i].value[0] for i in (0, 2, 3, 4, 5)] == [1, 3, 4, 5, 6]
        assert isinstance(outcomes[1].error, TimeoutError)
        share = max(1, available_cores() // 2)
        assert {outcomes[i].value[1] for i in (0, 2, 3)} == {share}
        assert os.getpid() not in {outcomes[i].value[2] for i in (0, 2, 3)}

        (outcome,) = as_completed(pool, work, ["die"])
        message = r"and the pool is broken \(.*\); run again with a new pool$"
        assert re.search(message, str(outcome.error))
        with pytest.raises(ExecutorError, match=message):
            list(as_completed(pool, work, [1]))


def test_a_pool_gets_a_task_more_for_each_worker_than_that_can_do_at_once():
    pool = pools.Pool(ThreadPoolExecutor(2))
    assert pool.free_workers([]) == (set(), [None] * 4)
    assert pool.free_workers([None] * 3) == (set(), [None])
    assert pool.free_workers([None] * 4) == (set(), [])


def test_tasks_of_a_pool_that_have_not_begun_are_called_off():
    may_end = threading.Event()
    begun = []

    def wait(task, num_cpus):
        begun.append(task)
        may_end.wait(PATIENCE)

    with ThreadPoolExecutor(1) as pool:
        outcomes = as_completed(pool, wait, range(1000))
        first = threading.Thread(target=next, args=[outcomes])
        first.start()
        may_end.set()
        first.join()
        outcomes.close()
    assert begun == [*range(len(begun))]
    assert len(begun) <= 3


def test_an_executor_of_another_kind():
    """As that of mpi4py: it says how many workers it has, and nothing of their machine."""

    class Remote(Executor):
        num_workers = 3

        def submit(self, function, /, *args):
            future = Future()
            future.set_result(function(*args))
            return future

    assert worker_count(Remote()) == 3
    assert [each.value[:2] for each in as_completed(Remote(), work, ["a"])] == [("a", None)]
    assert [each.value[:2] for each in as_completed(Remote(), work, ["a"], 2)] == [("a", 2)]


@pytest.mark.parametrize("thing", ["tcp://127.0.0.1:8786", 4, ThreadPoolExecutor])
def test_what_is_no_engine(thing):
    with pytest.raises(TypeError, match=r"^executor must be a concurrent.futures.Executor or a "):
        check_executor(thing)


def test_workers_of_another_version(monkeypatch):
    with ThreadPoolExecutor(1) as pool:
        (outcome,) = as_completed(pool, work, ["a"])
        assert outcome.error is None
        at_worker = pools._at_worker

        def sent_by_another(call, version):
            return at_worker(call, "99.0")

        monkeypatch.setattr(pools, "_at_worker", sent_by_another)
        (outcome,) = as_completed(pool, work, ["a"])
    assert str(outcome.error) == (
        f"a worker has sparsemed {__version__}, but 99.0 is needed; install that version there"
    )


def test_a_cluster(cluster, monkeypatch):
    check_executor(cluster)
    assert worker_count(cluster) == 2
    outcomes = {each.number: each for each in as_completed(cluster, work, [1, "fail", 3, 4, 5, 6])}
    assert [outcomes[i].value[:2] for i in (0, 2, 3, 4, 5)] == [(i, 2) for i in (1, 3, 4, 5, 6)]
    assert isinstance(outcomes[1].error, TimeoutError)
    assert [each.value[:2] for each in as_completed(cluster, work, ["a"], 1)] == [("a", 1)]

    monkeypatch.setattr("sparsemed.executors.dask_cluster.__version__", "99.0")
    message = rf"^the worker at tcp://.* has sparsemed {__version__}, but 99.0 is needed; install"
    with pytest.raises(ExecutorError, match=message):
        check_executor(cluster)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="nobody is killed like that here")
def test_a_worker_of_a_cluster_is_killed(cluster, tmp_path):
    tasks = [("once", tmp_path / "died"), *range(6)]
    outcomes = {each.number: each for each in as_completed(cluster, work, tasks)}
    assert {number: each.error for number, each in outcomes.items()} == dict.fromkeys(range(7))
    assert (tmp_path / "died").exists()


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="nobody is killed like that here")
def test_a_task_that_kills_its_workers(cluster, monkeypatch):
    monkeypatch.setattr("sparsemed.executors.rounds.MOST_LOSSES", 2)
    outcomes = {each.number: each for each in as_completed(cluster, work, ["a", "die", "b"])}
    assert outcomes[0].error is outcomes[2].error is None
    assert isinstance(outcomes[1].error, ExecutorError)
    assert str(outcomes[1].error) == (
        "2 workers were lost one after the other while they did the same task; have they enough "
        "memory?"
    )


@pytest.mark.slow
def test_workers_without_sparsemed_and_a_scheduler_that_ends(tmp_path):
    from distributed import Client

    address = tmp_path / "scheduler.json"
    (tmp_path / "without.py").write_text("import sys; sys.modules['sparsemed'] = None")

    def start(*words):
        command = [sys.executable, "-m", *words, "--scheduler-file", str(address), "--no-dashboard"]
        found = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}  # where `work` is
        return subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd=tmp_path, env=found)

    worker = ("distributed.cli.dask_worker", "--no-nanny", "--nthreads=1")
    scheduler = start("distributed.cli.dask_scheduler", "--host=127.0.0.1", "--port=0")
    others = [start(*worker), start(*worker, "--preload", str(tmp_path / "without.py"))]
    try:
        with Client(scheduler_file=str(address), timeout=PATIENCE) as client:
            client.wait_for_workers(2, timeout=PATIENCE)
            with pytest.raises(ExecutorError, match=r"^the worker at tcp://.* has no sparsemed \("):
                check_executor(client)
            others[1].kill()
            while worker_count(client) > 1:
                sleep(0.05)
            check_executor(client)

            outcomes = as_completed(client, work, ["a", "wait"])
            assert next(outcomes).value[0] == "a"
            scheduler.kill()
            began = monotonic()
            with pytest.raises(
                ExecutorError, match=r"^the Dask scheduler at tcp://.* cannot be rea"
            ):
                list(outcomes)
            assert monotonic() - began < 15
            with pytest.raises(
                ExecutorError, match=r"^the Dask scheduler at tcp://.* cannot be rea"
            ):
                check_executor(client)
    finally:
        for process in (scheduler, *others):
            process.kill()
            process.wait()
