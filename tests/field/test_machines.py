"""Machines as they are: odd file systems, other programs, no terminal, late environment."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import dclab
import h5py
import numpy as np
import pytest
from faults.test_storage import MOUNT, make_measurement, run, run_with_mounts
from patience import PATIENCE

import sparsemed
from sparsemed import BackgroundSparseMed
from sparsemed.hdf5.commit import changed_file
from sparsemed.hdf5.file_access import FileAccess

posix = pytest.mark.skipif(os.name == "nt", reason="mounts, users and descriptors of POSIX")

PARAMETERS = {"kernel_size": 5}


@pytest.fixture
def path(tmp_path):
    return make_measurement(tmp_path / "in.rtdc")


def listing(folder):
    return sorted(entry.name for entry in folder.iterdir())


def python(code, *arguments, **environment):
    """Run code in a process of its own, and return what it did."""
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env={**os.environ, **environment},
    )


# Permission is found out by trying


@posix
def test_a_system_that_denies_what_it_allows(path, tmp_path):
    """As with access control lists and file servers, of which `os.access` knows nothing."""
    script = """
os.access = lambda *_, **__: False
inner = shutil.copy(source, folder)
for options in ([], ["--in-place"], ["-o", folder / "results"]):
    result = compute(inner, *options)
    assert result.exit_code == 0, result.output
assert is_done(inner) and is_done(folder / "in_bg.rtdc") and is_done(folder / "results/in_bg.rtdc")
assert invoke("report", inner, "-o", folder / "page.html").exit_code == 0
assert listing(folder) == ["in.rtdc", "in_bg.rtdc", "page.html", "results"]
"""
    (tmp_path / "folder").mkdir()
    run(script, path, tmp_path / "folder")


@posix
@pytest.mark.parametrize("nameless", [True, False])
def test_a_system_that_allows_what_it_denies(nameless):
    script = f"""
if not {nameless}:  # as on most file servers
    def no_nameless(path, flags, *rest, real=os.open, **options):
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(95, "Operation not supported")
        return real(path, flags, *rest, **options)

    os.open = no_nameless
"""
    script += """
result = compute(source, "-o", folder / "first.rtdc")  # Numba writes its cache
assert result.exit_code == 0, (result.output, result.exc_info)
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
os.access = lambda *_, **__: True
from sparsemed import BackgroundSparseMed

def check_refused(output, *words):
    try:
        BackgroundSparseMed(source, output)
    except PermissionError as error:
        assert all(str(word) in str(error) for word in (output, *words)), error
    else:
        raise AssertionError("allowed")

inside = source.parent
check_error(compute(source), inside / "in_bg.rtdc", "the folder is read-only")
check_error(compute(source, "-o", inside / "results"), inside, "the folder is read-only")
check_error(compute(source, "--in-place"), source, "read-only")
check_refused(inside / "out.rtdc", "the folder is read-only")
check_refused(folder / "fixed.rtdc", "the file is read-only")
assert listing(inside) == ["in.rtdc"]
assert listing(folder) == ["first.rtdc", "fixed.rtdc"]
"""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        source, folder = Path(name, "source"), Path(name, "folder")
        source.mkdir()
        folder.mkdir()
        folder.chmod(0o777)
        path = make_measurement(source / "in.rtdc")
        make_measurement(folder / "fixed.rtdc").chmod(0o444)
        try:
            source.chmod(0o555)
            run(script, path, folder)
        finally:
            source.chmod(0o755)


@posix
def test_a_mount_that_is_read_only_although_the_system_denies_it(path, tmp_path):
    (tmp_path / "mount").mkdir()
    script = (
        MOUNT
        + """
inner = Path(shutil.copy(source, folder / "in.rtdc"))
subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
os.access = lambda *_, **__: True
check_error(compute(inner), folder / "in_bg.rtdc", "the folder is read-only")
check_error(compute(inner, "-o", folder / "results"), folder, "the folder is read-only")
check_error(compute(inner, "--in-place"), inner, "read-only")
assert listing(folder) == ["in.rtdc"]
"""
    )
    run_with_mounts(script, path, tmp_path / "mount")


def test_a_full_disk_is_no_lack_of_permission(path, tmp_path):
    (tmp_path / "mount").mkdir()
    script = (
        MOUNT
        + """
there = os.statvfs(folder)
with open(folder / "ballast", "wb") as file:
    os.posix_fallocate(file.fileno(), 0, there.f_bavail * there.f_bsize)
for number in range(10_000):  # not even a name has room
    try:
        (folder / f"{number}").touch()
    except OSError:
        break
check_error(compute(source, "-o", folder / "out.rtdc"), "No space left on device", "make room")
"""
    )
    run_with_mounts(script.replace("size=1M", "size=1M,nr_inodes=20"), path, tmp_path / "mount")


# Numbers of files that differ at each look


class Looks:
    """What `os.stat` returns, but with another number of disk and file at each look."""

    def __init__(self, monkeypatch):
        self.count = 0
        for name in ("stat", "fstat"):
            monkeypatch.setattr(os, name, self.other(getattr(os, name)))

    def other(self, real):
        def look(*arguments, **options):
            found = real(*arguments, **options)
            self.count += 1
            exact = {name: getattr(found, name) for name in dir(found) if name.startswith("st_")}
            values = list(found)
            values[1:3] = self.count, 10**6 + self.count
            return os.stat_result(values, exact | {"st_ino": self.count})

        return look


def test_files_without_lasting_numbers_have_not_changed(path, monkeypatch):
    with BackgroundSparseMed(path, path, **PARAMETERS) as job:
        job.process()
    leads_on = path.with_name("in_bg.rtdc")
    with BackgroundSparseMed(path, leads_on, **PARAMETERS) as job:
        job.process()
    looks = Looks(monkeypatch)
    assert os.stat(path).st_ino != os.stat(path).st_ino
    for source, target in ((path, path), (leads_on, leads_on), (leads_on, path.with_name("new"))):
        with BackgroundSparseMed(source, target, **PARAMETERS) as job:
            job.process()
    found = sparsemed.compute_background(leads_on, **PARAMETERS)
    assert looks.count > 10
    monkeypatch.undo()
    for name in ("in.rtdc", "in_bg.rtdc", "new"):
        with h5py.File(path.with_name(name)) as h5:
            np.testing.assert_array_equal(h5["basin_events/image_bg"], found.images)


def replace_by_twin(path):
    """Put another file in the place of one, as large and as old."""
    twin = path.with_name("twin")
    found = path.stat()
    twin.write_bytes(path.read_bytes()[::-1])
    os.utime(twin, ns=(found.st_atime_ns, found.st_mtime_ns))
    os.replace(twin, path)
    assert path.stat().st_size == found.st_size
    assert path.stat().st_mtime_ns == found.st_mtime_ns
    return path.read_bytes()


@posix
def test_a_twin_in_the_place_of_a_file_that_is_read_is_noticed(path):
    def act(fraction):
        if fraction == 0:
            replace_by_twin(path)

    with pytest.raises(OSError, match=r"in\.rtdc: was changed, replaced or removed"):
        sparsemed.compute_background(path, progress=act, **PARAMETERS)


@posix
def test_a_twin_in_the_place_of_a_file_that_is_changed_is_noticed(path):
    noticed = pytest.raises(OSError, match=r"in\.rtdc: was changed by another program")
    with noticed, changed_file(path) as h5:
        h5["new"] = 1
        twin = replace_by_twin(path)
    assert path.read_bytes() == twin
    assert listing(path.parent) == ["in.rtdc"]


@posix
@pytest.mark.parametrize("is_large", [False, True])
def test_a_file_that_is_exchanged_while_it_is_opened(path, monkeypatch, is_large):
    from sparsemed.hdf5 import file_access

    def exchange_and_open(file):
        content = path.read_bytes() + bytes(is_large)
        found = path.stat()
        path.rename(path.with_name("moved"))
        path.write_bytes(content)
        os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
        return real(file)

    real = file_access.open_untouched
    monkeypatch.setattr(file_access, "open_untouched", exchange_and_open)
    other = FileAccess(path.with_name("result.rtdc"), "any")
    if is_large:
        with pytest.raises(OSError, match=r"in\.rtdc: was replaced by another file while it was"):
            other.open(path)
    else:  # of numbers that differ, and nothing else, nobody can tell what they mean
        assert "events" in other.open(path)
        other.close()


# Another program that reads without a lock

WRITE = """
import sys
import numpy as np
from sparsemed import BackgroundSparseMed
path, out, *sizes = sys.argv[1:]
for size in sizes:
    with BackgroundSparseMed(path, path, kernel_size=int(size)) as job:
        job.process()
np.save(out, job.background[:])
"""


@posix
def test_dclab_reads_on_while_the_background_is_replaced(path, tmp_path):
    """It opens files without a lock, so that others may write; it sees one state throughout."""

    def write(kernel_size):
        done = python(WRITE, path, tmp_path / f"{kernel_size}.npy", kernel_size)
        assert done.returncode == 0, done.stderr
        return np.load(tmp_path / f"{kernel_size}.npy")

    with h5py.File(path) as h5:
        images, time = h5["events/image"][:], h5["events/time"][:]
    first = write(5)
    with dclab.new_dataset(path) as dataset:
        np.testing.assert_array_equal(dataset["image"][0], images[0])
        np.testing.assert_array_equal(dataset["image_bg"][0], first[0])
        assert dataset["time"][3] == time[3]
        write(7)
        third = write(9)
        assert not np.array_equal(first, third)
        for number in range(len(images)):
            np.testing.assert_array_equal(dataset["image"][number], images[number])
            np.testing.assert_array_equal(dataset["image_bg"][number], first[number])
        np.testing.assert_array_equal(dataset["time"][:], time)
    with dclab.new_dataset(path) as dataset:
        for number in range(len(images)):
            np.testing.assert_array_equal(dataset["image"][number], images[number])
            np.testing.assert_array_equal(dataset["image_bg"][number], third[number])


@posix
@pytest.mark.parametrize("touched", ["", "events", "events/image", "basin_events/image_bg"])
def test_readers_without_a_lock_see_the_old_state_or_an_error(path, tmp_path, touched):
    """What they look for only afterwards may be missing to them, but is never something else."""
    with BackgroundSparseMed(path, path, kernel_size=5) as job:
        job.process()
    with h5py.File(path) as h5:
        names = ["events/image", "events/time", "events/bg_off", "basin_events/image_bg"]
        before = {name: h5[name][:] for name in names}
    with h5py.File(path, locking=False) as h5:
        if touched:
            list(h5[touched]) if touched == "events" else h5[touched][:1]
        done = python(WRITE, path, tmp_path / "later.npy", 7, 9)
        assert done.returncode == 0, done.stderr
        for name in names:
            try:
                found = h5[name][:]
            except (KeyError, OSError):
                assert name != touched
                continue
            np.testing.assert_array_equal(found, before[name])


# Numba's threads have begun, and then somebody asks for another number

LATE = """
import os
import numba, numpy as np
import sparsemed

numba.get_num_threads()  # starts them

stack = np.random.default_rng(0).integers(0, 200, (9, 40, 60), dtype=np.uint8)
expected = np.median(stack, axis=0)
assert (sparsemed.median_image(stack) == expected).all()
os.environ["NUMBA_NUM_THREADS"] = "1"
before = dict(os.environ)
assert (sparsemed.median_image(stack.astype(np.uint16)) == expected).all()
assert dict(os.environ) == before
"""


@pytest.mark.soak  # it compiles both kernels; the next test does the same with a small one
def test_a_number_of_threads_that_comes_late(tmp_path):
    """As by ``import chipstream`` in a program that has computed something, with a cold cache."""
    done = python(LATE, NUMBA_CACHE_DIR=str(tmp_path), NUMBA_NUM_THREADS="2")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


LATER = """
import os, sys, threading
import numba, numpy as np
from sparsemed.kernels.compiling import kernel, ready

numba.get_num_threads()  # starts them
assert numba.config.NUMBA_NUM_THREADS == 3
for late in (None, "1", "many", "", "3", "5"):
    os.environ.pop("NUMBA_NUM_THREADS", None)
    if late is not None:
        os.environ["NUMBA_NUM_THREADS"] = late
    before = dict(os.environ)

    @kernel
    def double(values):
        for i in range(len(values)):
            values[i] *= 2

    def work(dtype):
        values = np.arange(4, dtype=dtype)
        ready(double, values)(values)
        right.append(values.tolist() == [0, 2, 4, 6])

    right = []
    threads = [threading.Thread(target=work, args=(d,)) for d in ("u1", "u2", "i4", "f4", "u1")]
    for thread in threads:
        thread.start()
    child = os.fork() if hasattr(os, "fork") else 1
    if not child:
        os._exit(dict(os.environ) != before)
    for thread in threads:
        thread.join()
    assert child == 1 or os.waitpid(child, 0)[1] == 0
    assert right == [True] * 5, late
    assert dict(os.environ) == before, late
try:
    call(double, "nonsense")
except Exception:
    pass
assert dict(os.environ) == before
"""


@pytest.mark.slow
def test_whatever_number_of_threads_comes_late_in_many_threads():
    done = python(LATER, NUMBA_NUM_THREADS="3")
    assert done.returncode == 0, done.stderr
    (line,) = done.stderr.splitlines()  # what has no file cannot be kept, which is said once
    assert "NUMBA_CACHE_DIR" in line


# Applications without a terminal

NO_STREAMS = """
import logging, os, sys, warnings
failed = sys.argv[2]

def note(*error):
    with open(failed, "a") as file:
        print(*error, file=file)

sys.excepthook = sys.unraisablehook = note
sys.stdin = sys.stdout = sys.stderr = None
import click, numpy as np
import sparsemed
from sparsemed.cli import main
path = sys.argv[1]
out = os.path.join(os.path.dirname(path), "out.rtdc")
warnings.warn("nobody sees this")
logging.getLogger("sparsemed").setLevel(logging.DEBUG)
images = np.zeros((30, 40, 60), np.uint8)
sparsemed.compute_background(images, progress=True)  # warns that it guesses the time
background = sparsemed.compute_background(path, progress=True, kernel_size=5)
with sparsemed.BackgroundSparseMed(path, out, kernel_size=5) as job:
    job.process(progress=True)
os.remove(out)

def status(*arguments):
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as end:
        return end.code
    return 0

assert status("compute", path, "-o", out, "-v", "-k", "kernel_size=5") == 0
assert status("info", path) == 0
assert status("report", path, "-k", "kernel_size=5") == 0
assert status("recover", path) == 0
assert status("demo", "--out", os.path.join(os.path.dirname(path), "demo")) == 0
assert status("compute", path + ".gone") == 2
assert status("compute", path, "-o", path) == 1
assert status("compute", "--nonsense") == 2
assert status("--help") == 0
"""


@pytest.mark.slow
def test_no_streams_at_all(path, tmp_path):
    done = python(NO_STREAMS, path, tmp_path / "failed")
    said = (tmp_path / "failed").read_text() if (tmp_path / "failed").exists() else ""
    assert done.returncode == 0, (said, done.stderr)
    assert said == ""
    with h5py.File(tmp_path / "out.rtdc") as h5:
        assert len(h5["basin_events/image_bg"]) > 40
    assert (tmp_path / "in_report.html").is_file()


@posix
def test_what_is_printed_does_not_go_into_a_measurement(path):
    """Where a stream is closed, the next file that is opened takes its number."""
    code = """
import os, sys
from sparsemed.hdf5.commit import changed_file
with changed_file(sys.argv[1]) as h5:
    h5["new"] = range(1000)
    for number in (0, 1, 2):
        try:
            os.write(number, b"Fatal: " * 100)
        except OSError:
            pass
"""
    command = [sys.executable, "-c", code, str(path)]
    shell = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"]
    subprocess.run([*shell, *command], check=True)
    with h5py.File(path) as h5:
        assert h5["new"][:].tolist() == [*range(1000)]
    assert b"Fatal" not in path.read_bytes()
    assert listing(path.parent) == ["in.rtdc"]
