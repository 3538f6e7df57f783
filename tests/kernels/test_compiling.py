import importlib.util
import logging
import os
import signal
import subprocess
import sys
import threading
from time import perf_counter

import numba
import numpy as np
import portalocker
import pytest
from numba.core import caching
from numba.core.compiler_lock import global_compiler_lock
from patience import PATIENCE

from sparsemed import progress
from sparsemed.kernels import compiling
from sparsemed.kernels.compiling import kernel, ready

SOURCE = """
def double(values):
    for i in range(len(values)):
        values[i] *= 2
"""


@pytest.fixture
def double(tmp_path, monkeypatch, caplog):
    """Return what makes a kernel, as a new process would; it is kept in a folder of its own."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "kept"))
    caplog.set_level(logging.INFO, "sparsemed.kernels.compiling")
    (tmp_path / "small.py").write_text(SOURCE)

    def make():
        spec = importlib.util.spec_from_file_location("small", tmp_path / "small.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        monkeypatch.setitem(sys.modules, "small", module)  # what is kept refers to its module
        return kernel(module.double)

    return make


def is_right(function, dtype=np.uint8):
    values = np.arange(4, dtype=dtype)
    ready(function, values)(values)
    return values.tolist() == [0, 2, 4, 6]


def logged(caplog):
    """Return the first word of what was logged since the last time."""
    words = [record.msg.split()[0] for record in caplog.records]
    caplog.clear()
    return words


COMPILES, USELESS = "Compiling", "Compiled"

LOCK = "sparsemed.lock"


def files(tmp_path, suffix):
    return sorted((tmp_path / "kept").rglob(f"*{suffix}"))


def test_what_was_compiled_is_loaded(double, caplog, tmp_path):
    for dtype in (np.uint8, np.uint16):
        assert is_right(double(), dtype)
        assert logged(caplog) == [COMPILES]
    assert len(files(tmp_path, ".nbc")) == 2
    for dtype in (np.uint8, np.uint16):
        assert is_right(double(), dtype)
        assert logged(caplog) == []


def test_a_numba_that_loads_in_another_way(double, caplog, monkeypatch):
    assert is_right(double())
    assert logged(caplog) == [COMPILES]
    load = caching.Cache._load_overload
    monkeypatch.delattr(caching.Cache, "_load_overload")
    monkeypatch.setattr(caching.Cache, "load_overload", load)
    assert is_right(double())
    assert logged(caplog) == []


def flip(byte):
    def damage(path):
        content = bytearray(path.read_bytes())
        content[int(byte * (len(content) - 1))] ^= 4
        path.write_bytes(content)

    return damage


def empty(path):
    path.write_bytes(b"")


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def replace_by_folder(path):
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("suffix", [".nbi", ".nbc"])
@pytest.mark.parametrize("damage", [empty, cut, replace_by_folder, flip(0)])
def test_a_cache_that_cannot_be_read(double, caplog, tmp_path, suffix, damage):
    assert is_right(double())
    (path,) = files(tmp_path, suffix)
    logged(caplog)
    damage(path)
    function = double()
    assert is_right(function)
    assert USELESS in logged(caplog)
    assert is_right(function, np.uint16)
    assert is_right(function)
    assert USELESS not in logged(caplog)  # once will do


@pytest.mark.skipif(os.name == "nt", reason="limits of POSIX")
def test_a_full_disk(double, caplog, tmp_path):
    import resource  # which Windows does not have

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    function = double()
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        assert is_right(function)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert logged(caplog) == [COMPILES, USELESS]
    assert files(tmp_path, ".nbc") == []
    assert is_right(double())


@pytest.mark.skipif(
    not hasattr(numba.config, "CACHE_LOCATOR_CLASSES"), reason="this Numba always finds a folder"
)
def test_without_a_folder_it_is_compiled_each_time_with_one_warning(
    double, caplog, tmp_path, monkeypatch
):
    # No place is any good: neither what the user says nor anything else that Numba tries.
    (tmp_path / "kept").write_text("a file, not a folder")
    monkeypatch.setattr(numba.config, "CACHE_LOCATOR_CLASSES", "UserProvidedCacheLocator")
    compiling._warn_of_no_cache.cache_clear()
    for function in (double(), double()):
        assert is_right(function)
        assert is_right(function, np.uint16)
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "set NUMBA_CACHE_DIR to a writable folder" in record.message


HOLD = """
import sys, portalocker
with portalocker.Lock(sys.argv[1], timeout=0):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_one_process_at_a_time_compiles(double, caplog, tmp_path, monkeypatch):
    """While another one does, this one waits; but patience has an end."""
    function = double()
    folder = function.stats.cache_path
    command = [sys.executable, "-c", HOLD, os.path.join(folder, LOCK)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        thread = threading.Thread(target=is_right, args=(function,))
        thread.start()
        thread.join(0.5)
        assert thread.is_alive()
        assert not function.overloads
        assert logged(caplog) == []
        other.stdin.close()
        thread.join()
    assert logged(caplog) == [COMPILES]
    assert len(files(tmp_path, ".nbi")) == 1

    monkeypatch.setattr(compiling, "PATIENCE", 0.1)
    with portalocker.Lock(command[-1], timeout=0):
        assert is_right(function, np.uint16)
    assert len(files(tmp_path, ".nbc")) == 2
    with portalocker.Lock(command[-1], timeout=0):  # and it is given back
        pass


def test_what_another_process_has_compiled_meanwhile_is_loaded(
    double, caplog, tmp_path, monkeypatch
):
    assert is_right(double())
    (index,) = files(tmp_path, ".nbi")
    hidden = index.rename(index.with_suffix(".hidden"))
    take_turn = compiling._KernelCache._take_turn

    def wait_for_another(cache):
        take_turn(cache)
        hidden.rename(index)

    monkeypatch.setattr(compiling._KernelCache, "_take_turn", wait_for_another)
    logged(caplog)
    assert is_right(double())
    assert logged(caplog) == []
    with portalocker.Lock(index.parent / LOCK, timeout=0):
        pass


def test_a_turn_ends_if_compiling_fails(double, caplog, monkeypatch):
    function = double()
    with pytest.raises(numba.TypingError):
        ready(function, "text")
    with portalocker.Lock(os.path.join(function.stats.cache_path, LOCK), timeout=0):
        pass


def test_the_time_is_known_that_compiling_takes(double, monkeypatch):
    before = compiling.seconds_compiling()
    began = perf_counter()
    assert is_right(double())
    assert 0 < compiling.seconds_compiling() - before <= perf_counter() - began


def test_it_is_said_that_something_is_compiled(double, monkeypatch, capsys):
    monkeypatch.setattr(progress, "HELD_UP", 0)
    monkeypatch.setattr(type(sys.stderr), "isatty", lambda _: True)
    assert is_right(double())
    assert capsys.readouterr().err.startswith("sparsemed: compiling, once on this machine\r ")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs forks")
def test_a_fork_while_another_thread_compiles(double):
    function, other = double(), double()
    begun = threading.Event()

    class Watch(logging.Handler):
        def emit(self, _record):
            begun.set()

    watch = Watch()
    logger = logging.getLogger("sparsemed.kernels.compiling")
    logger.addHandler(watch)
    thread = threading.Thread(target=is_right, args=(function, np.int16))
    thread.start()
    begun.wait()
    child = os.fork()
    if not child:
        signal.alarm(int(PATIENCE))
        try:
            os._exit(0 if is_right(other, np.int32) else 1)
        finally:
            os._exit(2)
    thread.join()
    logger.removeHandler(watch)
    assert os.waitpid(child, 0)[1] == 0


def test_of_two_threads_one_compiles_and_the_other_waits_for_nothing_else(
    double, caplog, tmp_path, monkeypatch
):
    monkeypatch.setattr(compiling, "PATIENCE", 1)
    function, found = double(), []
    threads = [threading.Thread(target=lambda: found.append(is_right(function))) for _ in range(2)]
    with global_compiler_lock:
        for thread in threads:
            thread.start()
        threads[0].join(0.1)
        assert all(thread.is_alive() for thread in threads)  # both are about to compile
    for thread in threads:
        thread.join()
    assert found == [True, True]
    assert logged(caplog) == [COMPILES]
    assert len(files(tmp_path, ".nbc")) == 1


def test_the_lock_is_held_while_what_was_compiled_is_kept(double, tmp_path, monkeypatch):
    function = double()
    save = caching.IndexDataCacheFile.save
    seen = []

    def look_and_save(*arguments):
        try:
            with portalocker.Lock(os.path.join(function.stats.cache_path, LOCK), timeout=0):
                seen.append("free")
        except portalocker.LockException:
            seen.append("held")
        save(*arguments)

    monkeypatch.setattr(caching.IndexDataCacheFile, "save", look_and_save)
    assert is_right(function)
    assert seen == ["held"]
    assert len(files(tmp_path, ".nbi")) == 1
    with portalocker.Lock(os.path.join(function.stats.cache_path, LOCK), timeout=0):
        pass


def test_a_lock_that_cannot_be_had_is_done_without(double, caplog, tmp_path):
    function = double()
    os.makedirs(os.path.join(function.stats.cache_path, LOCK))  # it cannot be opened
    assert is_right(function)
    assert logged(caplog) == [COMPILES]
    assert len(files(tmp_path, ".nbi")) == 1
    assert is_right(double())
    assert logged(caplog) == []


@pytest.mark.parametrize("error", [PermissionError, BlockingIOError, portalocker.LockException])
def test_a_lock_that_is_refused_is_done_without(double, caplog, tmp_path, monkeypatch, error):
    def refuse(*_):
        raise error

    monkeypatch.setattr(portalocker, "lock", refuse)
    monkeypatch.setattr(compiling, "PATIENCE", 0.01)
    assert is_right(double())
    assert logged(caplog) == [COMPILES]
    assert len(files(tmp_path, ".nbc")) == 1


@pytest.mark.parametrize("what", ["load", "save"])
def test_a_lack_of_memory_is_not_blamed_on_the_cache(double, caplog, monkeypatch, what):
    def fail(*_):
        raise MemoryError

    function = double()
    with monkeypatch.context() as patch:
        patch.setattr(caching.IndexDataCacheFile, what, fail)
        with pytest.raises(MemoryError):
            is_right(function)
    assert USELESS not in logged(caplog)
    assert function not in compiling._uncached
    assert is_right(function)
