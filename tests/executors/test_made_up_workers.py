"""Where work is done, with workers that are made up: a round of tasks takes milliseconds."""

import logging
import threading
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYetError
from types import SimpleNamespace

import pytest
from patience import PATIENCE

from sparsemed.executors import dask_client, dask_cluster, rounds
from sparsemed.executors.dask_cluster import DaskCluster
from sparsemed.executors.rounds import worker_count
from sparsemed.executors.tasks import Call, ExecutorError, LostError, require_version


@pytest.fixture(autouse=True)
def hurry(monkeypatch):
    monkeypatch.setattr(rounds, "PATIENCE", 0.001)


class Crew:
    """Workers by a plan: at each look, who is lost, and who is free; and what futures hold.

    Parameters
    ----------
    looks : list of (set, list) or Exception
        The last one stands for all that follow.
    results : dict, optional
        By task and worker: what is returned, or raised. Default: what the work returns.
        None: the future never ends.
    """

    def __init__(self, looks, results=None):
        self.looks, self.results = looks, results or {}
        self.sent, self.cancelled, self.taken = [], [], []

    def free_workers(self, taken):
        self.taken.append(list(taken))
        look = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
        if isinstance(look, Exception):
            raise look
        lost, free = look
        return lost & set(taken), [each for each in free if each not in taken]

    def submit(self, place, call):
        future = Future()
        future.about = call.task, place
        self.sent.append((call.task, place, call.num_cpus))
        if self.results.get((call.task, place), "") is not None:
            future.set_result(call.work(call.task, call.num_cpus))
        return future

    def result(self, future, place):
        assert future.about[1] == place
        found = self.results.get(future.about, future.result())
        if isinstance(found, Exception):
            raise found
        return found

    def cancel(self, futures):
        self.cancelled += [future.about for future in futures]


def double(task, num_cpus):
    return 2 * task


def outcomes_of(crew, tasks, num_cpus=None):
    return rounds._Round(crew, (Call(double, task, num_cpus) for task in tasks)).outcomes()


def in_words(outcomes):
    return sorted((each.number, each.value, each.error and str(each.error)) for each in outcomes)


def test_each_worker_gets_one_task_at_a_time_with_as_many_cores_as_are_given():
    crew = Crew([(set(), ["a", "b"])])
    found = in_words(outcomes_of(crew, range(5), 3))
    assert found == [(n, 2 * n, None) for n in range(5)]
    assert [task for task, *_ in crew.sent] == [*range(5)]
    assert {place for _, place, _ in crew.sent} == {"a", "b"}
    assert {cores for *_, cores in crew.sent} == {3}
    assert all(len(set(taken)) == len(taken) <= 2 for taken in crew.taken)
    assert crew.cancelled == []


def test_tasks_are_made_as_workers_are_free_and_called_off_when_nobody_asks():
    made = []
    crew = Crew([(set(), ["a", "b"])], {(1, "b"): None, (2, "a"): None})
    outcomes = outcomes_of(crew, (made.append(n) or n for n in range(100)))
    assert next(outcomes).value == 0
    assert made == [0, 1, 2]  # "a" has the next one before anything is told
    outcomes.close()
    assert made == [0, 1, 2]
    assert sorted(crew.cancelled) == [(1, "b"), (2, "a")]


def test_the_last_task_is_waited_for_when_its_worker_is_lost_and_there_is_no_other_yet():
    looks = [(set(), ["a"]), ({"a"}, []), (set(), []), (set(), ["b"])]
    crew = Crew(looks, {(7, "a"): None})
    (outcome,) = outcomes_of(crew, [7])
    assert (outcome.number, outcome.value, outcome.error) == (0, 14, None)
    assert [place for _, place, _ in crew.sent] == ["a", "b"]
    assert crew.cancelled == [(7, "a")]  # a worker that comes back must not do it, too


def test_a_result_that_was_lost_with_its_worker_is_made_again():
    crew = Crew([(set(), ["a"]), (set(), ["b"])], {(7, "a"): LostError()})
    assert in_words(outcomes_of(crew, [7])) == [(0, 14, None)]
    assert [place for _, place, _ in crew.sent] == ["a", "b"]


def test_a_task_that_was_lost_goes_first():
    crew = Crew([(set(), ["a"]), (set(), ["b"])], {(0, "a"): LostError()})
    assert in_words(outcomes_of(crew, [0, 1])) == [(0, 0, None), (1, 2, None)]
    assert [task for task, *_ in crew.sent] == [0, 0, 1]


def test_a_task_over_which_too_many_workers_are_lost_is_blamed_and_others_go_on(monkeypatch):
    monkeypatch.setattr(rounds, "MOST_LOSSES", 3)
    crew = Crew([(set(), ["a"])], {(0, "a"): LostError()})
    found = in_words(outcomes_of(crew, [0, 1]))
    assert found[1] == (1, 2, None)
    assert found[0][2].startswith("3 workers were lost one after the other while they did the sam")
    assert [task for task, *_ in crew.sent] == [0, 0, 0, 1]


def test_what_is_done_is_told_before_workers_that_cannot_be_reached():
    looks = [(set(), ["a", "b"]), ExecutorError("gone")]
    crew = Crew(looks, {(1, "b"): None})
    outcomes = outcomes_of(crew, [0, 1, 2])
    assert next(outcomes).value == 0
    with pytest.raises(ExecutorError, match="gone"):
        next(outcomes)
    assert crew.cancelled == [(1, "b")]


def test_an_error_of_a_task_is_its_own():
    crew = Crew([(set(), ["a"])], {(0, "a"): KeyError("oh")})
    assert in_words(outcomes_of(crew, [0, 1])) == [(0, None, "'oh'"), (1, 2, None)]


# A cluster, of which only the client is made up -------------------------------------------------


class Client(SimpleNamespace):
    """A Dask client; each read of `workers` returns the next number of threads of each worker."""

    def __init__(self, *workers, **more):
        super().__init__(status="running", scheduler=SimpleNamespace(address="tcp://x"), **more)
        self.looks, self.closed, self.waited = list(workers), False, 0

    def nthreads(self):
        return self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]

    def wait_for_workers(self, count):
        self.waited += count

    def close(self, **_):
        self.closed = True


def test_a_cluster_that_has_no_workers_yet_does_one_task_at_a_time(monkeypatch):
    monkeypatch.setattr(rounds, "is_client", lambda executor: isinstance(executor, Client))
    assert worker_count(Client({})) == 1
    assert worker_count(Client({"a": 2, "b": 2, "c": 1})) == 3


def test_a_first_task_may_go_to_anybody_and_others_to_who_is_free(monkeypatch):
    monkeypatch.setattr(dask_cluster, "PATIENCE", 0)
    cluster = DaskCluster(Client({}, {}, {"a": 1, "b": 1}, {"b": 1}, {}))
    assert cluster.free_workers([]) == (set(), [None])
    assert cluster.free_workers([None]) == (set(), [])  # one is enough to have workers started
    assert cluster.free_workers([None, "a"]) == (set(), ["b"])
    assert cluster.free_workers([None, "a"]) == ({"a"}, ["b"])
    assert cluster.free_workers([]) == (set(), [])  # there were some: they are started again


class Slow:
    """A future whose result does not come, at first."""

    def __init__(self, *outcomes, status="finished"):
        self.outcomes, self.status = list(outcomes), status

    def result(self, **_):
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


def test_a_result_is_waited_for_as_long_as_its_worker_is_there():
    cluster = DaskCluster(Client({"a": 1}))
    assert cluster.result(Slow(NotYetError(), NotYetError(), 3), "a") == 3
    assert cluster.result(Slow(NotYetError(), 3), None) == 3
    with pytest.raises(LostError):
        cluster.result(Slow(NotYetError(), 3), "b")
    with pytest.raises(NotYetError, match="own"):  # the task itself ran out of time
        cluster.result(Slow(NotYetError("own"), status="error"), "a")


def test_a_worker_does_one_task_at_a_time_however_many_threads_it_has(monkeypatch):
    worker = SimpleNamespace(address="tcp://made-up", state=SimpleNamespace(nthreads=2))
    monkeypatch.setattr("distributed.get_worker", lambda: worker)
    meeting, busy, seen = threading.Barrier(2, timeout=PATIENCE), threading.Lock(), []

    def work(task, num_cpus):
        seen.append((task, num_cpus, busy.acquire(blocking=False)))
        threading.Event().wait(0.05)  # the other one is at the door
        busy.release()

    def send(task, num_cpus):
        meeting.wait()
        call = Call(work, task, num_cpus)
        dask_cluster._at_dask_worker(call, dask_cluster.__version__)

    threads = [threading.Thread(target=send, args=each) for each in ((0, None), (1, 1))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(seen) == [(0, 2, True), (1, 1, True)]


@pytest.mark.parametrize("workers", [{}, {"a": 1}])
def test_a_client_says_that_it_waits_for_workers_and_is_closed_in_the_end(
    monkeypatch, caplog, workers
):
    client = Client(workers)
    monkeypatch.setattr(dask_client, "_connected", lambda _: client)
    monkeypatch.setattr(dask_client, "check_executor", lambda _: None)
    with caplog.at_level(logging.WARNING), dask_client.dask_client("tcp://x") as found:
        assert found is client
        assert not client.closed
    assert client.closed
    assert client.waited == (not workers)
    said = "--dask tcp://x: no workers yet; waiting for the first"
    assert [record.getMessage() for record in caplog.records] == ([] if workers else [said])


def test_another_version_is_told_from_the_same():
    require_version("who", "1.0", "1.0")
    with pytest.raises(ExecutorError, match=r"^who has sparsemed 0\.9, but 1\.0 is needed"):
        require_version("who", "0.9", "1.0")


def test_what_workers_tell_is_heard_until_the_work_is_over():
    heard, topics = [], {}
    client = SimpleNamespace(subscribe_topic=topics.__setitem__, unsubscribe_topic=topics.pop)

    def fail():
        with dask_cluster.subscribe(client, "topic", lambda *about: heard.append(about)):
            topics["topic"](("when", [3, 0.5]))
            raise KeyError("in the midst")

    with pytest.raises(KeyError, match="in the midst"):
        fail()
    assert heard == [(3, 0.5)]
    assert topics == {}
    with dask_cluster.subscribe(None, "topic", fail):  # others have no way to tell
        pass
