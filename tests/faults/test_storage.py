"""Disks that are full, folders that vanish, what is read-only, locked, or cannot be locked."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from faults.commands import commands
from faults.refusing import can_refuse
from patience import PATIENCE
from rings import counts

from sparsemed import BackgroundSparseMed
from sparsemed.hdf5.commit import new_file

pytestmark = pytest.mark.skipif(os.name == "nt", reason="mounts, signals and users of POSIX")

PARAMETERS = {"kernel_size": 5}
START = """
import os, resource, shutil, subprocess, sys
from pathlib import Path
import click.testing, h5py
from sparsemed.cli import main

def invoke(*arguments):
    arguments = [str(argument) for argument in arguments]
    return click.testing.CliRunner().invoke(main, arguments, prog_name="sparsemed")

def compute(*arguments):
    return invoke("compute", *arguments, "-k", "kernel_size=5", "--quiet")

def check_error(result, *words):
    assert result.exit_code == 1, (result.output, result.exc_info)
    assert result.stderr.startswith("Error: ") and result.stderr.count("\\n") == 1, result.output
    for word in words:
        assert str(word) in result.stderr, (word, result.output)

def is_done(path):
    with h5py.File(path) as h5:
        return "basin_events/image_bg" in h5

def listing(folder):
    return sorted(path.name for path in Path(folder).iterdir())

source, folder = map(Path, sys.argv[1:])
before = source.read_bytes()
"""
MOUNT = """
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1M", "none", folder], check=True)
"""


def make_measurement(path):
    """Write a small measurement with backgrounds that do not compress."""
    images = np.random.default_rng(0).integers(0, 256, (60, 40, 60), dtype=np.uint8)
    with h5py.File(path, "w") as h5:
        h5.create_dataset("events/image", data=images, chunks=(10, 40, 60))
        h5["events/time"] = np.arange(60.0)
    return path


@pytest.fixture
def path(tmp_path):
    return make_measurement(tmp_path / "in.rtdc")


def listing(folder):
    return sorted(entry.name for entry in folder.iterdir())


def run(script, source, folder, *before):
    """Run a script in a process of its own."""
    arguments = [*before, sys.executable, "-c", START + script, f"{source}", f"{folder}"]
    environment = {**os.environ, "PYTHONPATH": f"{Path(__file__).parents[1]}"}
    done = subprocess.run(
        arguments, capture_output=True, text=True, timeout=PATIENCE, env=environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_with_mounts(script, source, folder):
    """Run a script that may mount file systems, which vanish with it."""
    unshare = ["unshare", "--mount"]
    if os.geteuid() != 0:
        unshare.append("--map-root-user")
    probe = [*unshare, "mount", "-t", "tmpfs", "-o", "size=1M", "none", "/mnt"]
    try:
        subprocess.run(probe, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        reason = getattr(error, "stderr", b"") or b""
        pytest.skip(f"mounting is not allowed here: {error} {reason.decode().strip()}")
    return run(script, source, folder, *unshare)


# Full disks


def test_a_disk_that_is_full_at_every_stage(path, tmp_path):
    (tmp_path / "mount").mkdir()
    script = (
        MOUNT
        + """
ballast = folder / "ballast"

def leave(pages):
    "Fill the disk but for some pages."
    ballast.unlink(missing_ok=True)
    there = os.statvfs(folder)
    with open(ballast, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, (there.f_bavail - pages) * there.f_bsize)

shutil.copy(source, folder)
inner = folder / source.name
result = compute(inner)
assert result.exit_code == 0, result.output
output = folder / "in_bg.rtdc"
needed = os.path.getsize(output) // 4096
assert needed > 20
for kind, target, options in (("new", output, []), ("in place", inner, ["--in-place"])):
    failed = 0
    for pages in range(needed + 60):
        output.unlink(missing_ok=True)
        leave(pages)
        result = compute(inner, *options)
        assert ballast.exists()
        if result.exit_code == 0:
            break
        failed += 1
        check_error(result, target, "No space left on device", "make room", "run again")
        assert inner.read_bytes() == before
        assert listing(folder) == ["ballast", "in.rtdc"], (kind, pages)
    assert is_done(target)
    assert failed > needed // 2
    print(kind, failed)
"""
    )
    said = run_with_mounts(script, path, tmp_path / "mount")
    print(said)


def test_a_limit_to_the_size_of_files(path, tmp_path):
    """What a quota does is alike, and needs no mount."""
    folder = tmp_path / "folder"
    folder.mkdir()
    script = """
from sparsemed import compute_background

def limited(size, act):
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        return act()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))

def fails(act, *words):
    try:
        act()
    except OSError as error:
        for word in words:
            assert str(word) in str(error), (word, error)
    else:
        raise AssertionError("nothing happened")

inner = shutil.copy(source, folder)
output = folder / "out.rtdc"
background = compute_background(inner, kernel_size=5)
failed = 0
for size in (1_000, 30_000, 80_000, 10_000_000):
    result = limited(size, lambda: compute(inner, "-o", output))
    if result.exit_code == 0:
        assert is_done(output)
        break
    failed += 1
    check_error(result, output, "File too large", "make room")
    assert listing(folder) == ["in.rtdc"]
assert failed == 3
output.unlink()
for size in (1_000, len(before), len(before) + 50_000, 10_000_000):
    result = limited(size, lambda: compute(inner, "--in-place"))
    if result.exit_code == 0:
        assert is_done(inner)
        break
    check_error(result, inner, "File too large", "as before")
    assert Path(inner).read_bytes() == before
    assert listing(folder) == ["in.rtdc"]
page = folder / "page.html"
page.write_text("<!DOCTYPE html>\\n<title>old</title>")
old = page.read_bytes()
limited(20_000, lambda: fails(lambda: background.save(output), output, "make room"))
result = limited(20_000, lambda: invoke("report", source, "-o", page, "-k", "kernel_size=5"))
if "matplotlib" not in result.output:
    check_error(result, page, "make room")
    assert page.read_bytes() == old
made = limited(9_000, lambda: invoke("demo", "--out", folder / "made"))
check_error(made, folder / "made" / "demo.rtdc", "make room")
assert listing(folder) == ["in.rtdc", "made", "page.html"]
assert listing(folder / "made") == []
"""
    run(script, path, folder)


# Folders that vanish


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("fate", ["removed", "renamed", "a file"])
def test_a_folder_that_vanishes_during_the_computation(path, tmp_path, in_place, fate):
    folder, elsewhere = tmp_path / "folder", tmp_path / "elsewhere"
    folder.mkdir()
    source = Path(shutil.copy(path, folder)) if in_place else path
    target = source if in_place else folder / "out.rtdc"

    def vanish(fraction):
        if fraction < 0.9 or not folder.is_dir():
            return
        if fate == "renamed":
            folder.rename(elsewhere)
        else:
            shutil.rmtree(folder)
        if fate == "a file":
            folder.write_text("precious")

    with BackgroundSparseMed(source, target, **PARAMETERS) as job:
        job._note_progress = vanish  # all fractions, not 20 a second
        with pytest.raises(OSError, match=f"{target}: (the folder does not exist|was changed, re)"):
            job.process()
    assert not folder.is_dir()
    if fate == "renamed":
        assert listing(elsewhere) == ["in.rtdc"] * in_place
        if in_place:
            assert (elsewhere / "in.rtdc").read_bytes() == path.read_bytes()
    if fate == "a file":
        assert folder.read_text() == "precious"


@pytest.mark.parametrize("fate", ["removed", "a file"])
def test_a_folder_that_vanishes_while_the_file_is_written(tmp_path, fate):
    folder = tmp_path / "folder"
    folder.mkdir()
    failed = pytest.raises(OSError, match=r"out\.rtdc: could not be created")
    with failed, new_file(folder / "out.rtdc") as h5:
        h5["a"] = 1
        shutil.rmtree(folder)
        if fate == "a file":
            folder.write_text("precious")
    assert listing(tmp_path) == ["folder"] * (fate == "a file")


def test_an_input_that_vanishes(path, tmp_path):
    with BackgroundSparseMed(path, tmp_path / "out.rtdc", **PARAMETERS) as job:
        path.unlink()
        with pytest.raises(OSError, match=r"in\.rtdc: was changed, replaced or removed"):
            job.process()
    assert listing(tmp_path) == []


# What is read-only

READ_ONLY = """
assert invoke("info", source).exit_code == 0
elsewhere = folder / "elsewhere"
result = compute(source, "-o", elsewhere)
assert result.exit_code == 0, result.output
assert is_done(elsewhere / "in_bg.rtdc")
"""


def test_a_file_system_that_is_read_only(path, tmp_path):
    (tmp_path / "mount").mkdir()
    script = (
        MOUNT
        + """
inner = shutil.copy(source, folder / "in.rtdc")
subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
source, folder = folder / "in.rtdc", source.parent
check_error(compute(source), source.parent / "in_bg.rtdc", "the folder is read-only")
check_error(compute(source, "--in-place"), source, "read-only")
assert listing(source.parent) == ["in.rtdc"]
"""
        + READ_ONLY
    )
    run_with_mounts(script, path, tmp_path / "mount")


def test_what_permissions_forbid():
    script = (
        """
assert compute(source, "-o", folder / "first.rtdc").exit_code == 0  # Numba writes its cache
(folder / "first.rtdc").unlink()
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
check_error(compute(source, "--in-place"), source, "is read-only")
source.chmod(0o644) if source.owner() == "nobody" else None
check_error(compute(source), source.parent / "in_bg.rtdc", "the folder is read-only")
assert listing(source.parent) == ["in.rtdc"]
"""
        + READ_ONLY
    )
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        source, folder = Path(name, "source"), Path(name, "folder")
        source.mkdir()
        folder.mkdir()
        folder.chmod(0o777)
        path = make_measurement(source / "in.rtdc")
        try:
            path.chmod(0o444)
            source.chmod(0o555)
            run(script, path, folder)
        finally:
            source.chmod(0o755)


# Others who use the file


@pytest.fixture(scope="module")
def two_commands(tmp_path_factory):
    with (
        commands(tmp_path_factory.mktemp("first")) as first,
        commands(tmp_path_factory.mktemp("second")) as second,
    ):
        yield first, second


@pytest.mark.parametrize("rounds", counts(2, 10, 50))
@pytest.mark.parametrize("in_place", [False, True])
def test_two_processes_write_the_same_file(two_commands, path, tmp_path, in_place, rounds):
    folder = tmp_path / "folder"
    folder.mkdir()
    source = folder / "in.rtdc"
    output = source if in_place else folder / "in_bg.rtdc"
    outcomes = set()
    first, second = two_commands
    for number in range(rounds):
        output.unlink(missing_ok=True)
        shutil.copy(path, source)
        for command in (first, second):
            size = 5 if command is first else 7
            options = ["--in-place"] if in_place else []
            command.start("compute", source, *options, "-q", "-k", f"kernel_size={size}")
        ended = [first.wait(), second.wait()]
        case = (number, ended)
        assert 0 in [each.status for each in ended], case
        for each in ended:
            if each.status:
                assert each.status == 1, case
                assert each.err.startswith("Error: "), case
                assert each.err.count("\n") == 1, case
                assert f"{output}: " in each.err, case
                assert any(
                    said in each.err for said in ("run again", "exists; choose another name")
                ), case
        with h5py.File(output) as h5:
            ppid = h5["basin_events/image_bg"].attrs["dcnum ppid background"]
            assert len(h5["basins"]) == 1 + (not in_place), case
        done = [f":k={size}^" in ppid for size in (5, 7)]
        assert done.count(True) == 1, case
        assert ended[done.index(True)].status == 0, case
        assert listing(folder) == sorted({"in.rtdc", output.name}), case
        outcomes.add(tuple(each.status for each in ended))
    print(outcomes)


@pytest.mark.parametrize("mode", ["r", "r+"])
def test_a_file_that_another_program_has_open(path, tmp_path, mode):
    before = path.read_bytes()
    code = "import h5py, sys; h5 = h5py.File(*sys.argv[1:]); print(1, flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code, f"{path}", mode],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        other.stdout.readline()
        state = path.read_bytes()
        said = "is open in another" if mode == "r" else "is open for writing in another"
        refused = pytest.raises(OSError, match=rf"in\.rtdc: {said} program.* run again")
        with refused, BackgroundSparseMed(path, path, **PARAMETERS) as job:
            job.process()
        assert path.read_bytes() == state
        if mode == "r":  # readers do not mind each other
            with BackgroundSparseMed(path, tmp_path / "out.rtdc", **PARAMETERS) as job:
                job.process()
            assert state == before
        other.communicate("\n")
    with BackgroundSparseMed(path, path, **PARAMETERS) as job:
        job.process()
    assert listing(tmp_path) == ["in.rtdc"] if mode == "r+" else ["in.rtdc", "out.rtdc"]


@pytest.mark.skipif(not can_refuse(), reason="the numbers of system calls are not known here")
@pytest.mark.parametrize("reason", ["ENOLCK", "ENOSYS"])
def test_a_file_system_without_locks(path, tmp_path, reason):
    script = f"""
import errno, fcntl
from faults.refusing import refuse

for name in ("flock", "fcntl"):
    refuse(name, errno.{reason})
for lock in (fcntl.flock, fcntl.lockf):
    try:
        lock(open(source, "rb"), fcntl.LOCK_SH)
    except OSError as error:
        assert error.errno == errno.{reason}
    else:
        raise AssertionError("locked")
inner = shutil.copy(source, folder)
assert invoke("info", inner).exit_code == 0
for options in ([], [], ["--in-place"], ["--in-place"]):
    result = compute(inner, *options)
    assert result.exit_code == 0, result.output
os.environ["HDF5_USE_FILE_LOCKING"] = "FALSE"
for path in (inner, folder / "in_bg.rtdc"):
    with h5py.File(path, locking=False) as h5:
        assert len(h5["basin_events/image_bg"]) > 40
assert listing(folder) == ["in.rtdc", "in_bg.rtdc"]
"""
    folder = tmp_path / "folder"
    folder.mkdir()
    run(script, path, folder)
