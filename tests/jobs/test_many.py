import contextlib
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import dask
import pytest
from jobs.holding import hold, started
from jobs.measurements import measure
from parity.compare import differences
from patience import PATIENCE
from rings import few_of

import sparsemed
from sparsemed import BackgroundWarning, FileResult, compute_files
from sparsemed.executors.tasks import ExecutorError, Finished
from sparsemed.jobs import many
from sparsemed.jobs.options import RunOptions
from sparsemed.jobs.runs import Run
from sparsemed.jobs.shares import Shares
from sparsemed.parameters import Parameters

distributed = pytest.importorskip("distributed")

TESTS = Path(__file__).parents[1]

OPTIONS = {"recursive": True, "kernel_size": 7}


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    """Return a folder of 20: one is broken, one is read-only, one is called like another."""
    data = tmp_path_factory.mktemp("night") / "data"
    for number in range(18):
        measure(data / f"M{number:03d}.rtdc", count=20 + 5 * number, seed=number)
    measure(data / "another day" / "M000.rtdc", count=44, seed=18)
    (data / "M000.rtdc").chmod(0o444)
    (data / "broken.rtdc").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(2000))
    return data


@pytest.fixture(scope="module")
def here(night):
    """Return what one machine makes of the folder."""
    output = night.parent / "here"
    results = list(compute_files(night, output, **OPTIONS))
    check_night(results)
    return output


def names(folder):
    return {each.relative_to(folder) for each in folder.rglob("*.rtdc")}


def check_same(one, other):
    """Check that results are equal, object by object: where HDF5 puts these is its own business."""
    assert names(one) == names(other)
    assert [each for name in names(one) for each in differences(one / name, other / name)] == []


def check_night(results):
    assert len(results) == len({result.input for result in results}) == 20
    (failed,) = (result for result in results if result.status == "failed")
    assert failed.input.name == "broken.rtdc"
    assert f"{failed.input}: " in failed.error
    assert "\n" not in failed.error
    assert {result.status for result in results if result is not failed} == {"done"}


@pytest.fixture(scope="module")
def cluster():
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, memory_limit=0, dashboard_address=":0"
    ) as cluster:
        yield cluster


@pytest.fixture
def client(cluster):
    with distributed.Client(cluster) as client:
        client.wait_for_workers(2)
        yield client


def test_what_comes_of_each_is_told_as_it_finishes(tmp_path):
    paths = [measure(tmp_path / "data" / f"{name}.rtdc", seed=ord(name)) for name in "ab"]
    told = compute_files(tmp_path / "data", kernel_size=7)
    first = next(told)
    assert isinstance(first, FileResult)
    assert (first.input, first.output) == (paths[0], paths[0].with_name("a_bg.rtdc"))
    assert (first.status, first.ppid) == ("done", "sparsemed:k=7^s=1^t=0^f=0.8^o=1")
    assert (first.frames, first.height, first.width) == (24, 24, 16)
    assert first.verdict in ("good", "look here", "cannot tell")
    assert first.findings
    assert not paths[1].with_name("b_bg.rtdc").exists()
    told.close()  # and nothing else is done
    assert not paths[1].with_name("b_bg.rtdc").exists()
    again = list(compute_files(str(tmp_path / "data"), kernel_size=7))
    assert [result.status for result in again] == ["skipped", "done"]
    assert again[0].kept == first.kept
    assert {each.status for each in compute_files(paths, kernel_size=7, redo=True)} == {"done"}


def test_mistakes_are_told_at_once_and_nothing_is_done(tmp_path):
    path = measure(tmp_path / "a.rtdc")
    for mistake in (
        {"kernel_size": 0},
        {"basins": "all"},
        {"num_cpus": 0},
        {"output": "x", "in_place": True},
    ):
        with pytest.raises(ValueError, match=r"kernel_size|basins|num_cpus|exclude each other"):
            compute_files(path, **mistake)
    for mistake in ({"kernel": 7}, {"executor": 3}):
        with pytest.raises(TypeError, match=r"kernel|executor"):
            compute_files(path, **mistake)
    with pytest.raises(FileNotFoundError, match="gone"):
        compute_files(tmp_path / "gone")
    assert os.listdir(tmp_path) == ["a.rtdc"]


def test_in_place(tmp_path):
    path = measure(tmp_path / "a.rtdc")
    statuses = [next(compute_files(path, in_place=True, kernel_size=7)).status for _ in range(2)]
    assert statuses == ["done", "skipped"]
    assert os.listdir(tmp_path) == ["a.rtdc"]


def test_a_fault_of_the_program_costs_one_measurement(tmp_path, monkeypatch):
    for name in "ab":
        measure(tmp_path / f"{name}.rtdc")
    assess, calls = sparsemed.quality.assess, []

    def fail_once(*arguments):
        calls.append(arguments)
        if len(calls) == 1:
            raise KeyError("oh")
        return assess(*arguments)

    monkeypatch.setattr("sparsemed.quality.assess", fail_once)
    failed, done = compute_files(tmp_path, kernel_size=7)
    assert failed.error == (
        f"{tmp_path / 'a.rtdc'}: KeyError: 'oh'; this is a bug, please report it"
    )
    assert done.status == "done"


def test_what_is_warned_of_is_kept(tmp_path, warned):
    paths = [measure(tmp_path / f"{name}.rtdc") for name in "ab"]
    text = "kernel_size 200 is more than the 24 frames: all frames are used"
    with ThreadPoolExecutor(1) as pool:
        for executor in (None, pool):
            for result in compute_files(paths, redo=True, executor=executor):
                assert result.warnings == (text,)
                row = result.as_row()
                assert row["warnings"] == [text]
                assert "thumbnail" not in row
    # It is said here, wherever the work is done, and then with the measurement that it is about.
    assert sorted(warned()) == sorted([text, text, *(f"{path}: {text}" for path in paths)])


def test_a_warning_that_is_made_an_error_fails_one_measurement(tmp_path):
    measure(tmp_path / "a.rtdc")
    with warnings.catch_warnings():
        warnings.simplefilter("error", BackgroundWarning)
        (result,) = compute_files(tmp_path)
    assert result.status == "failed"
    assert result.error.startswith(f"{tmp_path / 'a.rtdc'}: kernel_size 200 is more than the 24")


@pytest.mark.parametrize("kind", few_of(["threads", "processes", "dask"], few=1))
def test_the_same_files_come_of_any_engine(night, here, request, kind):
    told = []
    output = night.parent / kind  # as far away from the measurements as those of one machine
    if kind == "dask":
        executor = request.getfixturevalue("client")
    else:
        spawn = {"mp_context": multiprocessing.get_context("spawn")}
        pool = ThreadPoolExecutor if kind == "threads" else ProcessPoolExecutor
        executor = pool(2, **(spawn if kind == "processes" else {}))
    results = list(compute_files(night, output, executor=executor, progress=told.append, **OPTIONS))
    check_night(results)
    check_same(output, here)
    assert (told[0], told[-1]) == (0, 1)
    assert told == sorted(told)
    again = compute_files(night, output, executor=executor, **OPTIONS)
    assert sorted(result.status for result in again) == ["failed"] + 19 * ["skipped"]
    if kind != "dask":
        executor.shutdown()


class Watched(ThreadPoolExecutor):
    """Notes what kind of work it gets."""

    works = ()

    def submit(self, at_worker, call, *arguments):
        self.works = (*self.works, call.work.__module__)
        return super().submit(at_worker, call, *arguments)


def test_a_single_measurement_is_shared_out_in_ranges(night, here, tmp_path):
    told = []
    with Watched(2) as pool:
        (result,) = compute_files(
            night / "M017.rtdc",
            tmp_path / "M017_bg.rtdc",
            executor=pool,
            progress=told.append,
            kernel_size=7,
        )
    assert (result.status, result.frames) == ("done", 105)
    assert set(pool.works) == {"sparsemed.method.ranges"}
    assert (told[0], told[-1]) == (0, 1)
    # Where results lie is another matter.
    found = differences(tmp_path / "M017_bg.rtdc", here / "M017_bg.rtdc")
    assert [each for each in found if "basins" not in each] == []


class Listening(threading.Thread):
    """Takes results as they come, and how that ends."""

    def __init__(self, results):
        super().__init__()
        self.results, self.found, self.error = results, [], None
        self.start()

    def run(self):
        try:
            self.found.extend(self.results)
        except Exception as error:
            self.error = error


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_what_a_killed_worker_was_at_is_done_by_another(night, here, tmp_path, client):
    output = night.parent / "killed"
    client.run(hold, str(tmp_path))
    listening = Listening(compute_files(night, output, executor=client, **OPTIONS))
    victim, _ = started(tmp_path, 2)
    os.kill(victim, signal.SIGKILL)
    (tmp_path / "go").touch()
    listening.join(PATIENCE)
    check_night(listening.found)
    check_same(output, here)
    assert not list(output.rglob(".*"))


SCHEDULER = """
import sys, time
import distributed
if __name__ == "__main__":
    cluster = distributed.LocalCluster(
        n_workers=1, threads_per_worker=2, memory_limit=0, dashboard_address=":0"
    )
    print(cluster.scheduler_address, flush=True)
    time.sleep(600)
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_a_lost_scheduler_ends_it_and_the_next_run_goes_on(night, here, tmp_path):
    (tmp_path / "cluster.py").write_text(SCHEDULER)
    (tmp_path / "data").mkdir()
    for name in ("M001", "M002"):
        shutil.copy2(night / f"{name}.rtdc", tmp_path / "data")
    with (
        subprocess.Popen(
            [sys.executable, tmp_path / "cluster.py"],
            stdout=subprocess.PIPE,
            text=True,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": f"{TESTS.parent}{os.pathsep}{TESTS}"},
        ) as scheduler,
        dask.config.set({"distributed.comm.timeouts.connect": "1s"}),
    ):
        address = scheduler.stdout.readline().strip()
        client = distributed.Client(address, set_as_default=False)
        client.run(hold, str(tmp_path))
        results = compute_files(tmp_path / "data", tmp_path / "out", executor=client, kernel_size=7)
        listening = Listening(results)
        started(tmp_path, 1)
        scheduler.kill()
        listening.join(PATIENCE)
        client.close(timeout=1)
    assert isinstance(listening.error, ExecutorError)
    assert f"the Dask scheduler at {address}" in str(listening.error)
    assert listening.found == []
    (tmp_path / "go").touch()
    results = list(compute_files(tmp_path / "data", tmp_path / "out", kernel_size=7))
    assert {result.error for result in results} == {None}
    assert names(tmp_path / "out") == {Path("M001_bg.rtdc"), Path("M002_bg.rtdc")}


def test_progress_goes_by_the_size_of_files_and_never_back(tmp_path):
    from sparsemed.jobs.runs import Run

    runs = []
    for name, size in (("a", 100), ("b", 300)):
        (tmp_path / name).write_bytes(bytes(size))
        runs.append(Run(tmp_path / name, tmp_path / f"{name}_bg"))
    told = []
    shares = Shares(runs, told.append)
    shares.note(1, 0.5)
    shares.note(1, 0.25)  # on another worker, as the first was lost
    shares.note(1, 1.0)
    shares.note(0, 1.0)
    assert told == [0.375, 0.375, 0.75, 1.0]


@pytest.mark.parametrize("workers", [0, 2])
def test_the_working_folder_may_change_between_results(tmp_path, monkeypatch, workers):
    for day in "ab":
        for seed, name in enumerate(("M001.rtdc", "M002.rtdc"), 2 * (day == "b")):
            measure(tmp_path / day / name, seed=seed, identifier=None)
    monkeypatch.chdir(tmp_path / "a")
    with ThreadPoolExecutor(workers or 1) as pool:
        given = ["M001.rtdc", "M002.rtdc"]
        results = compute_files(given, "out", executor=pool if workers else None, kernel_size=7)
        monkeypatch.chdir(tmp_path / "b")
        found = sorted(results, key=lambda result: result.input)
    assert [result.status for result in found] == ["done", "done"]
    assert [str(result.input) for result in found] == given
    assert [result.output for result in found] == [
        Path("out/M001_bg.rtdc"),
        Path("out/M002_bg.rtdc"),
    ]
    assert sorted(os.listdir(tmp_path / "a")) == ["M001.rtdc", "M002.rtdc", "out"]
    assert sorted(os.listdir(tmp_path / "b")) == ["M001.rtdc", "M002.rtdc"]
    expected = sparsemed.compute_background(tmp_path / "a" / "M002.rtdc", kernel_size=7)
    loaded = sparsemed.load(tmp_path / "a" / "out" / "M002_bg.rtdc")
    assert (loaded.images == expected.images).all()


# What is sent, and what comes back, with workers that are made up


@pytest.fixture
def made_up(tmp_path, monkeypatch):
    """Return a function that runs three measurements of 1, 3 and 2 kB, given how each ends."""
    runs = [Run(tmp_path / f"{name}.rtdc", tmp_path / f"{name}_bg.rtdc") for name in "abc"]
    for run, size in zip(runs, (1000, 3000, 2000), strict=True):
        run.source.write_bytes(bytes(size))
    sent = []
    monkeypatch.setattr(many, "subscribe", lambda *_: contextlib.nullcontext())

    def results(errors):
        def as_completed(_executor, _work, tasks, _num_cpus):
            sent.extend(run.source.stem for run, *_ in tasks)
            for number, name in enumerate(sent):
                done = FileResult(Path(f"{name}.rtdc"), Path("out"), "done", "ppid")
                error = errors.get(name)
                yield Finished(number, None if error else done, error)

        monkeypatch.setattr(many, "as_completed", as_completed)
        found = many.run_all(runs, RunOptions(Parameters()), executor="a cluster")
        return sent, {result.input.stem: result for result in found}

    return results


def test_the_largest_is_sent_first(made_up):
    sent, found = made_up({})
    assert sent == ["b", "c", "a"]
    assert {name: result.output.name for name, result in found.items()} == {
        name: f"{name}_bg.rtdc" for name in "abc"
    }


def test_what_costs_workers_their_lives_fails_alone_and_lost_workers_end_all(made_up):
    class KilledWorker(Exception):
        pass

    fatal = ExecutorError("4 workers were lost")
    fatal.__cause__ = KilledWorker()
    _, found = made_up({"c": fatal, "a": ValueError("two\nlines")})
    assert [found[name].status for name in "abc"] == ["failed", "done", "failed"]
    assert found["c"].error.endswith("c.rtdc: 4 workers were lost")
    assert found["a"].error.endswith("a.rtdc: two lines")
    with pytest.raises(ExecutorError, match="the scheduler is gone"):
        made_up({"c": ExecutorError("the scheduler is gone")})


def test_of_two_names_the_longer_is_looked_for_first():
    run = Run(Path("data/in.h5"), Path("out.rtdc"))
    said = "/here/in.h5.rtdc: is there; /here/in.h5: is not"
    result = FileResult(Path("/here/in.h5"), Path("/here/in.h5.rtdc"), "failed", "ppid", said)
    named = many._under_given_names(result, run)
    assert named.error == "out.rtdc: is there; data/in.h5: is not"
