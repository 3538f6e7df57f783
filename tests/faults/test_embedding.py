"""Threads, forks and settings of programs that embed sparsemed."""

import asyncio
import gc
import logging
import os
import signal
import subprocess
import sys
import threading
import traceback
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic, sleep

import dask
import h5py
import hdf5plugin
import joblib
import numba
import numpy as np
import psutil
import pytest
from patience import PATIENCE
from rings import counts

import sparsemed
from sparsemed.frames.chunks import ChunkFrames
from sparsemed.frames.hdf5_layout import UnsuitableError
from sparsemed.frames.opening import open_frames
from sparsemed.rtdc.measurement import Measurement

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs forks")

IMAGES = np.random.default_rng(7).integers(60, 200, (400, 24, 61), np.uint8)
TIME = np.arange(400) / 50
SMALL = {"time": TIME, "kernel_size": 40, "split_time": 0.2}
MEDIAN = np.sort(IMAGES[:41], axis=0)[20]


def same(found, expected):
    return (
        np.array_equal(found.images, expected.images)
        and np.array_equal(found.frame_index, expected.frame_index)
        and np.array_equal(found.offsets, expected.offsets)
    )


@pytest.fixture(scope="module")
def expected():
    background = sparsemed.compute_background(IMAGES, **SMALL, num_cpus=1)
    for image, start in zip(background.series, background.step_times * 50, strict=True):
        start = min(round(start), 360)
        np.testing.assert_array_equal(image, np.sort(IMAGES[start : start + 40], axis=0)[20])
    return background


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """Return a measurement that is read past HDF5."""
    path = tmp_path_factory.mktemp("embedding") / "in.rtdc"
    with h5py.File(path, "w") as h5:
        h5.create_dataset(
            "events/image", data=IMAGES, chunks=(16, 24, 61), fletcher32=True, **hdf5plugin.Zstd()
        )
        h5["events/time"] = TIME
    return path


def compute(source, **settings):
    settings = {"kernel_size": 40, "split_time": 0.2} | settings
    if not isinstance(source, Path):
        settings["time"] = TIME
    return sparsemed.compute_background(source, **settings)


def in_child(work):
    """Fork, let the child do some work, and fail if it fails, dies or hangs."""
    child = os.fork()
    if not child:
        signal.alarm(int(PATIENCE))
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert status == 0, f"the child ended with status {status}"


# threads


@pytest.mark.parametrize("how", ["threads", "dask", "joblib", "asyncio"])
def test_eight_threads_at_once(expected, file, how):
    def work(number):
        num_cpus = [1, 2, None, 1000][number % 4]
        for source in (IMAGES, file):
            assert same(compute(source, num_cpus=num_cpus), expected)
        np.testing.assert_array_equal(sparsemed.median_image(IMAGES[:41], num_cpus), MEDIAN)
        return number

    if how == "threads":
        with ThreadPoolExecutor(8) as pool:
            done = [*pool.map(work, range(16))]
    elif how == "dask":
        tasks = [dask.delayed(work)(number) for number in range(16)]
        done = dask.compute(*tasks, scheduler="threads", num_workers=8)
    elif how == "joblib":
        tasks = (joblib.delayed(work)(number) for number in range(16))
        done = joblib.Parallel(8, backend="threading")(tasks)
    else:

        async def gather():
            return await asyncio.gather(*(asyncio.to_thread(work, n) for n in range(16)))

        done = asyncio.run(gather())
    assert [*done] == [*range(16)]


class StopError(BaseException):
    """As an interrupt is, no Exception."""


def stop_halfway(fraction):
    if fraction > 0.3:
        raise StopError


def state_of_process():
    return {
        "handlers": [signal.getsignal(number) for number in signal.valid_signals()],
        "environment": dict(os.environ),
        "Numba's threads": numba.get_num_threads(),
        "filters of warnings": list(warnings.filters),
        "hooks": (threading.excepthook, sys.excepthook, sys.unraisablehook),
        "folder": os.getcwd(),
        "float errors": np.geterr(),
        "log": (logging.root.level, list(logging.root.handlers), logging.raiseExceptions),
        "umask": os.umask(0o22),
        "recursion": sys.getrecursionlimit(),
        "switch interval": sys.getswitchinterval(),
    }


@pytest.mark.parametrize("mask", [1, numba.config.NUMBA_NUM_THREADS])
def test_what_is_of_the_caller_stays_as_it_is(file, monkeypatch, mask):
    os.umask(0o22)
    before_mask = numba.get_num_threads()
    numba.set_num_threads(mask)
    monkeypatch.setattr("sparsemed.frames.chunks.BATCH_BYTES", 1)
    monkeypatch.setattr("sparsemed.progress.PAUSE", 0)
    try:
        with np.errstate(over="raise", invalid="ignore"):
            before = state_of_process()
            for source in (IMAGES, file):
                compute(source)
                with pytest.raises(ValueError, match="kernel_size"):
                    compute(source, kernel_size=0)
            with pytest.raises(StopError):
                compute(file, progress=stop_halfway)
            assert state_of_process() == before
    finally:
        numba.set_num_threads(before_mask)


# forks


def test_a_child_computes_the_same(expected, file):
    def work():
        for num_cpus in (1, 2, None):
            for source in (IMAGES, file):
                assert same(compute(source, num_cpus=num_cpus), expected)

    work()
    in_child(work)

    def fork_again():
        work()
        in_child(work)
        work()

    in_child(fork_again)
    work()


@pytest.mark.parametrize("forks", counts(5, 20, 500))
@pytest.mark.parametrize("slow", [False, True], ids=["past HDF5", "by HDF5"])
def test_forks_while_threads_compute(expected, file, slow, forks):
    stop = threading.Event()
    failed = []

    with h5py.File(file, "r+" if slow else "r") as h5:
        dataset = h5["events/image"]
        assert isinstance(open_frames(dataset, 1), ChunkFrames) is not slow

        def go_on(source):
            while not stop.is_set():
                if not same(compute(source), expected):
                    failed.append(source)

        def work():
            for source in (IMAGES, dataset):
                assert same(compute(source), expected)

        threads = [threading.Thread(target=go_on, args=[each]) for each in (IMAGES, dataset)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(forks):
                in_child(work)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
    assert not failed


def test_a_measurement_that_was_opened_before_the_fork(expected, file):
    with Measurement(file) as measurement:
        image = measurement.image.dataset
        frames = open_frames(image, 2)
        assert isinstance(frames, ChunkFrames)

        def read():
            found = np.empty_like(IMAGES)
            with frames.reading() as take:
                for start in range(0, 400, 16):
                    take(start, start + 16, found[start : start + 16])
            np.testing.assert_array_equal(found, IMAGES)
            np.testing.assert_array_equal(image[5:9], IMAGES[5:9])
            assert same(compute(image), expected)

        # The child shares place and descriptor with its parent, which reads at the same time.
        with ThreadPoolExecutor(1) as pool:
            at_once = pool.submit(lambda: [read() for _ in range(5)])
            in_child(lambda: [read() for _ in range(5)])
            at_once.result()


FIRST_CALL = """
import os, queue, signal, sys, threading
import numpy as np
import sparsemed

signal.alarm(int(sys.argv[1]))
images = np.random.default_rng(7).integers(60, 200, (41, 24, 61), np.uint8)
median = np.sort(images, axis=0)[20]
begun = queue.Queue()


class Watch:
    def find_spec(self, name, *_):
        if name.startswith("numpy."):
            begun.put(name)


def ours():
    return (sparsemed.median_image(images) == median).all()


sparsemed.median_image  # is imported now
sys.meta_path.insert(0, Watch())
thread = threading.Thread(target=lambda: begun.put(ours() and "done"))
thread.start()
while begun.get() != "done":
    child = os.fork()
    if not child:
        signal.alarm(int(sys.argv[1]))
        os._exit(0 if ours() else 1)
    assert os.waitpid(child, 0)[1] == 0
"""


def test_forks_while_a_thread_calls_for_the_first_time():
    """Numba imports modules of NumPy then, and holds locks meanwhile."""
    run(FIRST_CALL, f"{PATIENCE:.0f}")


POOL = """
import multiprocessing, sys
from pathlib import Path
import numpy as np
import sparsemed

settings = {"kernel_size": 40, "split_time": 0.2, "num_cpus": 2}


def work(path):
    return sparsemed.compute_background(path, **settings).images.tobytes()


if __name__ == "__main__":
    expected = work(sys.argv[1])
    with multiprocessing.get_context(sys.argv[2]).Pool(2) as pool:
        assert pool.map_async(work, [sys.argv[1]] * 4).get() == [expected] * 4
"""


@pytest.mark.parametrize(
    "kind", ["fork", "spawn", pytest.param("forkserver", marks=pytest.mark.soak)]
)
def test_pools_of_processes(file, tmp_path, kind):
    script = tmp_path / "pool.py"
    script.write_text(POOL)
    subprocess.run([sys.executable, script, file, kind], check=True, timeout=PATIENCE)


USER_OF_NUMBA = """
import os, sys
import numpy as np
import sparsemed
from numba import njit, objmode, prange, set_num_threads, get_num_threads, threading_layer

images = np.random.default_rng(7).integers(60, 200, (41, 24, 61), np.uint8)
median = np.sort(images, axis=0)[20]


def ours():
    return int((sparsemed.median_image(images, 2) == median).all())


@njit(parallel=True)
def theirs(count):
    right = np.zeros(count, np.int64)
    for i in prange(count):
        with objmode(one="int64"):
            one = ours()
        right[i] = one
    return right.sum()


assert theirs(30) == 30
assert threading_layer() == sys.argv[1]
set_num_threads(1)
assert theirs(3) == 3 and ours() and get_num_threads() == 1
child = os.fork()
if not child:
    os._exit(0 if ours() else 1)
assert os.waitpid(child, 0)[1] == 0
"""


def run(code, *args, **kwargs):
    """Run code in a Python of its own, and return what it printed."""
    ended = subprocess.run(
        [sys.executable, *kwargs.pop("options", ()), "-c", code, *args],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        **kwargs,
    )
    assert ended.returncode == 0, ended.stderr
    assert not ended.stderr, ended.stderr
    return ended.stdout


@pytest.mark.parametrize("layer", ["workqueue", "omp"])
def test_inside_a_parallel_function_of_numba(layer):
    run(USER_OF_NUMBA, layer, env=os.environ | {"NUMBA_THREADING_LAYER": layer})


# settings and ends of processes

MANY_THINGS = """
import atexit, sys, threading, time
import numpy as np
import sparsemed

images = np.random.default_rng(7).integers(60, 200, (200, 12, 31), np.uint8)
median = np.sort(images[:41], axis=0)[20]


def check(how):
    for given in (images, images.astype(">u2"), np.asfortranarray(images)):
        given.flags.writeable = False
        for num_cpus in (1, 2, None, 1000):
            assert (sparsemed.median_image(given[:41], num_cpus) == median).all(), how
    settings = dict(time=np.arange(200) / 50, kernel_size=41, split_time=0.1)
    found = sparsemed.compute_background(images, num_cpus=1000, **settings)
    assert (found.series[0] == median).all(), how
    print(how, flush=True)


def late():
    threading.main_thread().join()
    check("after the main thread")


def idle():
    while True:
        sparsemed.median_image(images)


check("main")
threading.Thread(target=late).start()
threading.Thread(target=idle, daemon=True).start()
atexit.register(check, "at exit")
"""


@pytest.mark.parametrize(
    ("options", "environment"),
    [
        (["-X", "dev", "-W", "error"], {"NUMBA_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}),
        pytest.param(
            ["-OO"],
            {"NUMBA_THREADING_LAYER": "no such layer", "OMP_THREAD_LIMIT": "1"},
            marks=pytest.mark.slow,
        ),
    ],
)
def test_settings_and_the_end_of_a_process(options, environment):
    printed = run(MANY_THINGS, options=options, env=os.environ | environment)
    assert sorted(printed.splitlines()) == ["after the main thread", "at exit", "main"]


def test_without_compiling():
    """Numba switched off, on one core."""
    code = """
import os
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
import numpy as np
import sparsemed
for dtype in ("u1", "u2"):
    for low, high in ((0, 4), (0, 2**{"u1": 8, "u2": 16}[dtype] - 1)):
        images = np.random.default_rng(7).integers(low, high, (70, 3, 5), dtype, endpoint=True)
        settings = dict(time=np.arange(70) / 20, kernel_size=41, split_time=0.1)
        found = sparsemed.compute_background(images, frac_cleansing=1, **settings)
        for number, start in enumerate(range(0, 28, 2)):
            expected = np.sort(images[start : start + 41], axis=0)[20]
            assert (found.series[number] == expected).all()
"""
    run(code, options=["-W", "error"], env=os.environ | {"NUMBA_DISABLE_JIT": "1"})


COLD = """
import logging, sys
import numpy as np
import sparsemed
from sparsemed.kernels import compiling
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
dtype = sys.argv[1]
images = np.random.default_rng(7).integers(60, 200, (41, 24, 61), dtype)
assert (sparsemed.median_image(images) == np.sort(images, axis=0)[20]).all()
"""


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, pytest.param(8, marks=pytest.mark.soak)])
def test_processes_that_need_the_same_at_once_compile_it_once(tmp_path, processes):
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-W", "error", "-c", COLD]
    under_way = [
        subprocess.Popen(
            [*command, dtype], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for dtype in ("u1", "u2")
        for _ in range(processes // 2 + 1)
    ]
    said = [each.communicate(timeout=PATIENCE) for each in under_way]
    for each, (_, error) in zip(under_way, said, strict=True):
        assert each.returncode == 0, error.decode()
    assert b"".join(line for line, _ in said).count(b"Compiling") == 2  # one for each dtype
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    # one index, what it leads to for each of two dtypes, and the lock
    assert sorted(path.suffix for path in kept) == [".lock", ".nbc", ".nbc", ".nbi"]
    before = [path.stat().st_mtime_ns for path in kept]
    for dtype in ("u1", "u2"):
        run(COLD, dtype, env=environment)
    assert [path.stat().st_mtime_ns for path in kept] == before


NOBODY = """
import os, sys, logging
import numpy as np
import multiprocessing.synchronize
import numba, numba.core.caching, numba.np.ufunc.parallel
numba.njit(lambda x: x + 1)(np.ones(3))  # imports what this user may not be allowed to read
import sparsemed.kernels.cores
os.chdir("/")
os.setgid(65534)
os.setuid(65534)
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(name)s")
images = np.random.default_rng(7).integers(60, 200, (41, 24, 61), np.uint8)
assert (sparsemed.median_image(images) == np.sort(images, axis=0)[20]).all()
assert (sparsemed.median_image(images[:40]) == np.sort(images[:40], axis=0)[20]).all()
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="needs another user")
@pytest.mark.skipif(
    not all(folder.stat().st_mode & 1 for folder in Path(numba.__file__).resolve().parents),
    reason="other users may not read what is installed here",
)
@pytest.mark.parametrize("home", [None, pytest.param("/nowhere/at/all", marks=pytest.mark.soak)])
def test_a_user_without_a_home(home, tmp_path):
    environment = {k: v for k, v in os.environ.items() if k not in ("HOME", "NUMBA_CACHE_DIR")}
    environment |= {"HOME": home} if home else {}
    assert run(NOBODY, env=environment).count("sparsemed.kernels.compiling") <= 1


# leaks


def held():
    """Count what a process holds on to."""
    this = psutil.Process()
    maps = this.memory_maps() if hasattr(this, "memory_maps") else []
    return {
        "threads": threading.active_count(),
        "threads of the system": this.num_threads(),
        "descriptors": this.num_fds() if hasattr(this, "num_fds") else 0,
        "children": len(this.children(recursive=True)),
        "shared memory": sum(each.path.startswith("/dev/shm") for each in maps),
    }


def more(before):
    """Return what a process holds more of than before; what others let go of meanwhile is fine."""
    return {kind: count for kind, count in held().items() if count > before[kind]}


def refuse(_):
    raise UnsuitableError("a test")


@pytest.mark.parametrize("runs", counts(5, 20, 200))
@pytest.mark.parametrize("case", ["array", "file", "slow", "error", "stopped"])
def test_nothing_leaks(expected, file, tmp_path, monkeypatch, case, runs):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("sparsemed.progress.PAUSE", 0)
    monkeypatch.setattr("sparsemed.frames.chunks.BATCH_BYTES", 1)
    heavy = np.zeros((4000, 80, 100), np.uint8)

    def work():
        if case == "array":
            compute(IMAGES)
        elif case == "file":
            compute(file)
        elif case == "slow":
            with h5py.File(file) as h5:
                monkeypatch.setattr("sparsemed.frames.opening.past_hdf5", refuse)
                compute(h5["events/image"])
        elif case == "error":
            with pytest.raises(RuntimeError, match="bad"):
                sparsemed.compute_background(FailsHalfway(heavy), frame_rate=1000)
        else:
            with pytest.raises(StopError):
                compute(file, progress=stop_halfway)

    for _ in range(3):
        work()
    gc.collect()
    before, weight = held(), psutil.Process().memory_info().rss
    gc.disable()  # nothing heavy may wait for the collector
    try:
        for _ in range(runs):
            work()
        grown = psutil.Process().memory_info().rss - weight
    finally:
        gc.enable()
    end = monotonic() + PATIENCE
    while more(before) and monotonic() < end:  # threads that were joined take a moment to end
        sleep(0.05)
    assert more(before) == {}
    assert grown < 8 * 2**20, f"{grown / 2**20:.1f} MiB more"
    assert [*tmp_path.iterdir()] == []


class FailsHalfway:
    """Images of which the last ones cannot be read."""

    def __init__(self, images):
        self.images, self.shape, self.dtype = images, images.shape, images.dtype

    def __getitem__(self, frames):
        if frames.stop > len(self.images) // 2:
            raise RuntimeError("bad")
        return self.images[frames]
