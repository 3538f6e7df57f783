"""A job killed at any moment leaves the old file or the new one, and nothing else.

Run as a program, this file is a process that has done all imports and a first job. It forks
children that run one job each, and kills them. Without that, a kill would take a second.
"""

import collections
import json
import mmap
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import h5py
import hdf5plugin  # noqa: F401  (lets HDF5 read Zstandard)
import numpy as np
import pytest
from rings import counts

import sparsemed.jobs.job
from benchmarks.measurements import NotAvailableError, generate_measurement
from sparsemed import BackgroundSparseMed
from sparsemed.hdf5 import commit
from sparsemed.hdf5.journal import recover
from sparsemed.storage import disk

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="elsewhere, a kill may leave litter"),
    pytest.mark.parametrize("kills", counts(20, 100, 1000)),
]

PHASES = ("computing", "storing", "committing", "appending", "patching", "patched", "done")
LIMIT = 60  # seconds: a job that takes longer hangs
OLD = {"kernel_size": 40, "split_time": 0.7}
NEW = {"kernel_size": 60, "split_time": 0.5}


# The warm process


def announce(began, alarm, fatal):
    """Have the job note when each of its phases begins; what it does stays what it was.

    `alarm` seconds after the patches have begun, the process is killed: by a timer that nobody
    handles, which kills like SIGKILL, but on the microsecond. At the beginning of the `fatal` phase
    it kills itself.
    """

    def note(phase):
        began[PHASES.index(phase)] = time.perf_counter()
        if phase == fatal:
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(module, name, before=None, after=None):
        real = getattr(module, name)

        def act(*arguments, **options):
            if before:
                before()
            result = real(*arguments, **options)
            if after:
                after()
            return result

        setattr(module, name, act)

    def patching():
        note("patching")
        signal.setitimer(signal.ITIMER_REAL, alarm)

    def patched():
        if began[PHASES.index("patching")]:
            note("patched")

    watch(sparsemed.jobs.job, "write_background", before=lambda: note("storing"))
    watch(commit, "_commit", before=lambda: note("committing"))
    # what a new file and a journal are made with
    watch(disk, "create", before=lambda: note("committing"), after=lambda: note("appending"))
    watch(os, "utime", after=patching)  # the last thing before the patches
    watch(disk, "sync", before=patched)
    signal.setitimer(signal.ITIMER_REAL, LIMIT)
    note("computing")


def run_and_kill(order):
    """Run a job in a child; kill it so many seconds after a phase of it has begun, if asked to.

    Returns the moments at which its phases began, and how it ended.
    """
    began = np.frombuffer(mmap.mmap(-1, 8 * len(PHASES)))
    phase, delay = order.get("kill", (None, None))
    if not (child := os.fork()):
        code = 1
        try:
            fatal = phase if delay == 0 else None
            announce(began, delay if delay and phase == "patching" else LIMIT, fatal)
            with BackgroundSparseMed(order["input"], order["output"], **order["settings"]) as job:
                job.process()
            began[PHASES.index("done")] = time.perf_counter()
            code = 0
        finally:
            os._exit(code)
    if delay and phase in ("computing", "committing"):
        latest = time.perf_counter() + LIMIT
        while not began[PHASES.index(phase)] and time.perf_counter() < latest:
            time.sleep(1e-4)
        time.sleep(delay)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return {"began": began.tolist(), "status": os.waitstatus_to_exitcode(status)}


def serve():
    """Follow the orders that come in, a line each; the first is for warming up."""
    for number, line in enumerate(sys.stdin):
        order = json.loads(line)
        if number == 0:
            with BackgroundSparseMed(order["input"], order["output"], **order["settings"]) as job:
                job.process()
            os.unlink(order["output"])
        print(json.dumps(run_and_kill(order)), flush=True)


# The tests


class Killer:
    """Has jobs killed by the warm process, and looks at what is left."""

    def __init__(self, process, seed):
        self.process = process
        self.rng = random.Random(seed)
        self.count = collections.Counter()
        self.kills = self.tries = 0

    def run(self, **order):
        """Have a job run. From one that comes to its end, learn how long it takes."""
        self.process.stdin.write(json.dumps(order, default=str) + "\n")
        self.process.stdin.flush()
        report = json.loads(self.process.stdout.readline())
        began = dict(zip(PHASES, report["began"], strict=True))
        if report["status"] == 0:
            self.seconds = {p: began["done"] - began[p] for p in ("computing", "committing")}
        return report

    def kill(self, **order):
        """Kill a job and return the phase in which that was.

        Each third time, one of `phases` in turn is where it is killed, whatever the machine;
        otherwise, it is a random moment.
        """
        turn, rest = divmod(self.tries, 3)
        self.tries += 1
        if rest == 0:
            self.case = order | {"kill": (self.phases[turn % len(self.phases)], 0)}
        else:
            phase = self.rng.choices(("computing", "committing", "patching"), self.weights)[0]
            longest = 40e-6 if phase == "patching" else self.seconds[phase]
            self.case = order | {"kill": (phase, self.rng.uniform(1e-6, longest))}
        report = self.run(**self.case)
        if report["status"] == 0:  # it was faster
            reached = "done"
        else:
            assert report["status"] in (-signal.SIGKILL, -signal.SIGALRM)
            reached = PHASES[int(np.argmax(report["began"]))]
            self.kills += 1
        self.count[reached] += 1
        return reached


@pytest.fixture(scope="module")
def measurement(tmp_path_factory):
    """Return a measurement made from real frames, small as a job is run on it so often."""
    path = tmp_path_factory.mktemp("measurement") / "in.rtdc"
    try:
        generate_measurement(path, 100, 20)
    except NotAvailableError as reason:
        pytest.skip(f"{reason}")
    return path


@pytest.fixture
def killer():
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "NUMBA_THREADING_LAYER": "workqueue",  # survives forks
    }
    with subprocess.Popen(
        [sys.executable, __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        yield Killer(process, seed=6)
        process.stdin.close()


def contents(path):
    """Return all that a file holds: attributes, and bytes as they are stored or as they read."""
    seen = {}

    def visit(name, entry):
        attributes = {key: str(np.asarray(value).tolist()) for key, value in entry.attrs.items()}
        data = None
        if isinstance(entry, h5py.Dataset):
            data = (str(entry.dtype), entry.shape, entry.chunks, entry._filters)
            if entry.chunks and len(entry.chunks) == 3:  # decoding all images would take long
                corners = [i * entry.chunks[0] for i in range(-(-len(entry) // entry.chunks[0]))]
                data += tuple(entry.id.read_direct_chunk((i, 0, 0)) for i in corners)
            elif h5py.check_string_dtype(entry.dtype):
                data += (str(entry[()]),)
            else:
                data += (entry[()].tobytes(),)
        seen[name] = (attributes, data)

    with h5py.File(path) as h5:
        visit("/", h5)
        h5.visititems(visit)
    return seen


def test_in_place(measurement, tmp_path, killer, kills):
    """Into a measurement without background, or in place of an earlier one."""
    folder = tmp_path / "folder"
    folder.mkdir()
    path, journal = folder / "m.rtdc", folder / "m.rtdc.sparsemed-journal"
    shutil.copy(measurement, path)
    killer.run(input=path, output=tmp_path / "warm.rtdc", settings=NEW)
    starts = []
    for number in range(2):
        if number:
            path.write_bytes(starts[0][0])
            assert killer.run(input=path, output=path, settings=OLD)["status"] == 0
        old, before = path.read_bytes(), contents(path)
        assert killer.run(input=path, output=path, settings=NEW)["status"] == 0
        starts.append((old, before, contents(path)))
    for _, before, after in starts:
        assert {name: before[name] for name in ("events/image", "events/time")}.items() <= (
            after.items()
        )
        assert before != after
    killer.phases, killer.weights = PHASES[:-1], (50, 40, 10)
    unreadable = 0
    for number in range(5 * kills):
        if killer.kills == kills:
            break
        old, before, after = starts[killer.rng.random() < 0.8]
        path.write_bytes(old)
        phase = killer.kill(input=path, output=path, settings=NEW)
        case = f"kill {number}: {killer.case}, killed while {phase}"
        left = sorted(os.listdir(folder))
        assert left in ([path.name], [path.name, journal.name]), case
        try:
            found = contents(path)
        except (OSError, RuntimeError, KeyError):
            found = None
        is_interrupted = journal.exists()
        killer.count["journal left"] += is_interrupted
        if is_interrupted and phase == "patching" and found not in (before, after):
            unreadable += 1
        elif phase in ("computing", "storing"):
            assert path.read_bytes() == old, case
            assert not is_interrupted, case
        else:
            assert found in (before, after), case
            assert found == before or phase in ("patching", "patched", "done"), case
            assert found == after or phase != "done", case
        assert recover(path) is is_interrupted, case
        if is_interrupted:
            assert path.read_bytes() == old, case
        assert contents(path) in (before, after), case
        assert os.listdir(folder) == [path.name], case
        if is_interrupted or number % 10 == 0:
            assert killer.run(input=path, output=path, settings=NEW)["status"] == 0, case
            assert contents(path) == after, case
    print(f"{killer.kills} kills in place: {dict(killer.count)}, {unreadable} within the patches")
    assert killer.kills == kills
    assert {*killer.phases} <= {*killer.count}
    assert killer.count["journal left"] >= kills / 20
    if kills >= 1000:
        assert unreadable > 0


def test_new_file(measurement, tmp_path, killer, kills):
    folder = tmp_path / "folder"
    folder.mkdir()
    path = folder / "out.rtdc"
    raw = measurement.read_bytes()
    killer.run(input=measurement, output=path, settings=NEW)
    whole = contents(path)
    path.unlink()
    killer.phases, killer.weights = PHASES[:4], (50, 50, 0)
    for number in range(5 * kills):
        if killer.kills == kills:
            break
        phase = killer.kill(input=measurement, output=path, settings=NEW)
        case = f"kill {number}: {killer.case}, killed while {phase}"
        left = os.listdir(folder)
        assert left in ([], [path.name]), case
        killer.count["there"] += bool(left)
        if phase in ("computing", "storing"):
            assert not left, case
        if left:
            assert contents(path) == whole, case
            path.unlink()
        elif number % 10 == 0:
            assert killer.run(input=measurement, output=path, settings=NEW)["status"] == 0, case
            assert contents(path) == whole, case
            path.unlink()
    assert measurement.read_bytes() == raw
    print(f"{killer.kills} kills of new files: {dict(killer.count)}")
    assert killer.kills == kills
    assert {*killer.phases} <= {*killer.count}
    assert killer.count["there"] >= kills / 20


if __name__ == "__main__":
    serve()
