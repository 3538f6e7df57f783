"""Changes of HDF5 files: what is written, what fails, and who else may be there."""

# ruff: noqa: PT012 (what raises is the end of the with block)

import errno
import itertools
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import h5py
import numpy as np
import portalocker
import pytest
from hdf5.files import (
    JOURNAL,
    KINDS,
    LOAD,
    Model,
    apply,
    change,
    check_unchanged,
    contents,
    fail_at,
    listing,
    no_locks,
    posix,
    restore,
)

from sparsemed.hdf5 import overlay
from sparsemed.hdf5.commit import changed_file, new_file
from sparsemed.hdf5.journal import recover
from sparsemed.storage import disk


@pytest.mark.parametrize("kind", [*KINDS, "trailing bytes"])
def test_result_is_that_of_plain_hdf5(kinds, path, monkeypatch, kind):
    old, before, after = kinds[kind]
    path.write_bytes(old)
    assert contents(path) == before
    model = Model(old)

    def write(shown, data, real=overlay.Overlay.write):
        model.file.seek(shown.tell())
        model.file.write(data)
        return real(shown, data)

    def truncate(shown, size, real=overlay.Overlay.truncate):
        model.truncate(size)
        return real(shown, size)

    monkeypatch.setattr(overlay.Overlay, "write", write)
    monkeypatch.setattr(overlay.Overlay, "truncate", truncate)
    with changed_file(path) as h5:
        assert h5.filename == str(path)
        change(h5)
        assert path.read_bytes() == old
    assert contents(path) == after
    assert listing(path) == [path.name]
    new = model.file.getvalue()
    assert path.read_bytes() == new + old[len(new) :]
    if kind == "trailing bytes":
        assert len(new) < len(old)


def test_old_data_stay_where_they_are(kinds, v110):
    with h5py.File(v110) as h5:
        places = [h5["events/image"].id.get_chunk_info(i) for i in range(8)]
        places = [(place.byte_offset, place.size) for place in places]
        places.append((h5["events/deform"].id.get_offset(), 16000))
    with changed_file(v110) as h5:
        h5.create_dataset("events/image_bg", data=np.ones((9, 16, 20)), compression="gzip")
    old, new = kinds["v110"][0], v110.read_bytes()
    assert len(new) > len(old)
    for offset, size in places:
        assert old[offset : offset + size] == new[offset : offset + size]


def test_several_changes_in_a_row(v110):
    for number in range(12):
        with changed_file(v110) as h5:
            h5[f"number/{number}"] = np.full(1000, number)
            if number:
                del h5[f"number/{number - 1}"]
    with h5py.File(v110) as h5:
        assert list(h5["number"]) == ["11"]
        assert np.all(h5["number/11"][:] == 11)


def test_body_may_close_the_file(kinds, v110):
    with changed_file(v110) as h5:
        change(h5)
        h5.close()
    assert contents(v110) == kinds["v110"][2]


def test_no_change_touches_nothing(kinds, v110):
    before = v110.stat()
    with changed_file(v110) as h5:
        assert h5["events/deform"].shape == (2000,)
    assert v110.stat().st_mtime_ns == before.st_mtime_ns
    check_unchanged(v110, kinds["v110"][0])


@posix
def test_mode_links_and_owner_stay(kinds, v110, tmp_path):
    v110.chmod(0o640)
    os.link(v110, tmp_path / "hard")
    (tmp_path / "soft").symlink_to(v110)
    before = v110.stat()
    with changed_file(tmp_path / "soft") as h5:
        change(h5)
    after = v110.stat()
    for name in ("st_mode", "st_ino", "st_uid", "st_gid", "st_nlink"):
        assert getattr(before, name) == getattr(after, name)
    assert contents(tmp_path / "hard") == contents(tmp_path / "soft") == kinds["v110"][2]
    assert (tmp_path / "soft").is_symlink()


def test_other_libraries_can_read_what_is_written(v110, tmp_path):
    """Objects have the format of HDF5 1.10, whatever HDF5 writes them."""
    with new_file(tmp_path / "new.rtdc") as h5:
        h5.create_dataset("a", data=np.zeros((9, 9)), chunks=(1, 9), compression="gzip")
        place = h5py.h5o.get_info(h5["a"].id).addr
    data = (tmp_path / "new.rtdc").read_bytes()
    assert data[8] <= 3  # superblock
    assert data[place : place + 5] == b"OHDR\x02"
    flags = data[place + 5]
    place += 6 + 16 * bool(flags & 32) + 4 * bool(flags & 16) + (1 << (flags & 3))
    while data[place] != 8:  # layout
        place += 4 + 2 * bool(flags & 4) + int.from_bytes(data[place + 1 : place + 3], "little")
    assert data[place + 4 + 2 * bool(flags & 4)] <= 4


def test_big_file_is_not_copied(path, monkeypatch):
    with h5py.File(path, "w", libver="latest") as h5:
        creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        creation.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        creation.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        space = h5py.h5s.create_simple((300_000_000,))
        h5py.h5d.create(h5.id, b"raw", h5py.h5t.NATIVE_UINT8, space, creation)
        h5["small"] = np.arange(1000)
    assert path.stat().st_size > 300_000_000
    moved = {"_read": 0, "write": 0}

    def read(handle, start, stop, real=disk.read):
        moved["_read"] += stop - start
        return real(handle, start, stop)

    def write(handle, offset, data, real=disk.write):
        moved["write"] += len(data)
        return real(handle, offset, data)

    monkeypatch.setattr(disk, "read", read)
    monkeypatch.setattr(disk, "write", write)
    data = np.random.default_rng(0).integers(0, 256, 500_000, dtype=np.uint8)
    with changed_file(path) as h5:
        h5["new"] = data
    assert moved["write"] < 520_000
    assert moved["_read"] < 100_000
    with h5py.File(path) as h5:
        assert np.array_equal(h5["new"][:], data)
        assert np.array_equal(h5["small"][:], np.arange(1000))


@pytest.mark.parametrize(
    "error", [ValueError("no"), OSError("no"), KeyboardInterrupt(), SystemExit(3)], ids=repr
)
def test_error_in_the_body(kinds, v110, error):
    with pytest.raises(type(error)) as caught, changed_file(v110) as h5:
        change(h5)
        raise error
    assert caught.value is error
    check_unchanged(v110, kinds["v110"][0])


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left"), KeyboardInterrupt(), MemoryError()], ids=repr
)
def test_failing_action(kinds, v110, monkeypatch, error):
    old, _, after = kinds["v110"]
    for number in itertools.count():
        restore(v110, {v110.name: old})
        with monkeypatch.context() as patch:
            hit = fail_at(patch, v110, number, error)
            caught = None
            try:
                apply(v110)
            except BaseException as found:
                caught = found
        if not hit:
            break
        assert listing(v110) == [v110.name]
        if hit == ["sync_folder", False] or (
            hit == ["remove", True] and isinstance(error, KeyboardInterrupt)
        ):  # the journal is gone: this is the new state
            assert contents(v110) == after
            assert caught is (None if isinstance(error, OSError) else error)
            continue
        check_unchanged(v110, old)
        if isinstance(error, OSError):
            assert isinstance(caught, OSError)
            assert caught.errno == errno.ENOSPC
            assert str(v110) in str(caught)
            assert "as before" in str(caught)
        else:
            assert caught is error
    assert number > 8
    assert contents(v110) == after


def test_failure_that_goes_on_failing(kinds, v110, monkeypatch):
    """Even undoing fails: the journal stays, and does its work later."""
    old = kinds["v110"][0]
    for number in itertools.count():
        restore(v110, {v110.name: old})
        caught = None
        with monkeypatch.context() as patch:
            hit = fail_at(patch, v110, number, OSError(errno.EIO, "Broken"), forever=True)
            try:
                apply(v110)
            except OSError as found:
                caught = found
        if caught is None:
            break
        assert str(v110) in str(caught)
        assert (JOURNAL in str(caught)) is (JOURNAL in listing(v110))
        recover(v110)
        check_unchanged(v110, old)
    assert hit == ["sync_folder", False]  # the journal is gone


@posix
def test_disk_full(kinds, v110):
    old = kinds["v110"][0]
    script = LOAD + (
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "limit = os.path.getsize(path) + 50_000\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))\n"
        "try:\n"
        "    with commit.changed_file(path) as h5:\n"
        "        for i in range(50):\n"
        "            h5.create_dataset(f'n{i}', data=np.random.rand(1000), chunks=(100,))\n"
        "except OSError as error:\n"
        "    print(error)\n"
        "try:\n"
        "    with commit.new_file(path + '.new') as h5:\n"
        "        for i in range(90):\n"
        "            h5.create_dataset(f'n{i}', data=np.random.rand(1000), chunks=(100,))\n"
        "except OSError as error:\n"
        "    print(error)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", script, str(v110)], capture_output=True, text=True, check=True
    )
    assert run.stderr == ""
    first, second = run.stdout.splitlines()
    assert f"{v110}: could not be changed and is as before" in first
    assert f"{v110}.new: could not be created" in second
    check_unchanged(v110, old)


def test_not_hdf5(path):
    with pytest.raises(FileNotFoundError, match=f"{path.name}: there is no such file"):
        apply(path)
    path.write_bytes(b"something else" * 100)
    with pytest.raises(OSError, match=f"{path.name}: cannot be opened as HDF5"):
        apply(path)
    check_unchanged(path, b"something else" * 100)
    with pytest.raises(OSError, match="folder"):
        apply(path.parent)


@posix
def test_read_only(kinds):
    """As a user who may not write: fails before any work."""
    script = LOAD + (
        "if os.geteuid() == 0: os.setgid(65534); os.setuid(65534)\n"
        "try:\n"
        "    with commit.changed_file(path) as h5: print('entered')\n"
        "except PermissionError as error: print(error)\n"
        "try: commit.recover(path)\n"
        "except PermissionError as error: print(error)\n"
    )

    def run(path):
        command = [sys.executable, "-c", script, str(path)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "m.rtdc")
        path.write_bytes(kinds["v110"][0])
        path.chmod(0o444)
        os.chmod(folder, 0o777)
        assert "m.rtdc: the file is read-only" in run(path)
        path.chmod(0o666)
        os.chmod(folder, 0o555)
        assert "m.rtdc: the folder is read-only" in run(path)
        Path(folder, JOURNAL).write_bytes(b"")
        assert run(path).count("m.rtdc: the folder is read-only") == 2
        os.chmod(folder, 0o777)


@posix
def test_open_elsewhere(kinds, v110):
    script = "import h5py, sys; h5 = h5py.File(sys.argv[1]); print(1, flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", script, str(v110)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        child.stdout.readline()
        with pytest.raises(OSError, match=r"m.rtdc: is open in another program.*run again"):
            apply(v110)
        child.stdin.write("\n")
    check_unchanged(v110, kinds["v110"][0])
    apply(v110)
    assert contents(v110) == kinds["v110"][2]


@posix
def test_open_in_the_same_process(kinds, v110):
    with (
        h5py.File(v110),
        pytest.raises(OSError, match=r"m.rtdc: is open elsewhere in this program"),
    ):
        apply(v110)
    check_unchanged(v110, kinds["v110"][0])


def test_readers_during_the_body(kinds, v110):
    with changed_file(v110) as h5:
        change(h5)
        assert contents(v110) == kinds["v110"][1]
    assert contents(v110) == kinds["v110"][2]


def test_changed_by_another_program(v110):
    with pytest.raises(OSError, match="changed by another program"), changed_file(v110) as h5:
        change(h5)
        with h5py.File(v110, "r+") as other:
            other["other"] = 1
    with h5py.File(v110) as h5:
        assert "other" in h5
        assert "events/image_bg" not in h5
    assert listing(v110) == [v110.name]


def test_two_changes_at_once(kinds, v110):
    with pytest.raises(OSError, match="changed by another program"), changed_file(v110) as h5:
        h5["first"] = 1
        apply(v110)
    assert contents(v110) == kinds["v110"][2]


@posix
def test_file_vanished_or_replaced(kinds, v110):
    with pytest.raises(OSError, match="changed by another program"), changed_file(v110) as h5:
        change(h5)
        v110.unlink()
    assert listing(v110) == []
    v110.write_bytes(kinds["v110"][0])
    with pytest.raises(OSError, match="changed by another program"), changed_file(v110) as h5:
        change(h5)
        (v110.parent / "copy").write_bytes(kinds["v110"][0])
        os.replace(v110.parent / "copy", v110)
    check_unchanged(v110, kinds["v110"][0])


def test_no_locks_here(kinds, v110, monkeypatch):
    monkeypatch.setattr(portalocker, "lock", no_locks(errno.EIO))
    with pytest.raises(OSError, match=r"m.rtdc: cannot be locked"):
        apply(v110)
    check_unchanged(v110, kinds["v110"][0])
    monkeypatch.setattr(portalocker, "lock", no_locks())
    apply(v110)
    assert contents(v110) == kinds["v110"][2]


def test_no_locks_and_a_reader_during_the_change(kinds, v110, monkeypatch):
    """It must not take the journal of a living process for that of a dead one."""
    monkeypatch.setattr(portalocker, "lock", no_locks())
    refused = []

    def write(handle, offset, data, real=disk.write):
        real(handle, offset, data)
        if (v110.parent / JOURNAL).exists():
            with pytest.raises(
                OSError, match=r"m.rtdc: another process may be writing it.* try again in 60 s"
            ):
                recover(v110)
            refused.append(offset)

    with monkeypatch.context() as patch:
        patch.setattr(disk, "write", write)
        apply(v110)
    assert len(refused) > 1
    assert contents(v110) == kinds["v110"][2]


def test_no_locks_and_another_writer(kinds, v110, monkeypatch):
    """Its journal is left alone, whenever it appears or is taken away."""
    journal = v110.parent / JOURNAL

    def create(path, data, real=disk.create):
        journal.write_bytes(b"theirs")
        real(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(disk, "create", create)
        with pytest.raises(OSError, match=r"m.rtdc: was changed by another program"):
            apply(v110)
    assert journal.read_bytes() == b"theirs"
    journal.unlink()
    check_unchanged(v110, kinds["v110"][0])

    def sync(handle, real=disk.sync):
        real(handle)
        if journal.exists():
            journal.unlink()

    monkeypatch.setattr(disk, "sync", sync)
    with pytest.raises(OSError, match=r"m.rtdc: could not be changed and is as before"):
        apply(v110)
    assert contents(v110) == kinds["v110"][1]
    assert listing(v110) == [v110.name]


@posix
def test_file_replaced_while_it_is_opened(kinds, v110, monkeypatch):
    def open_and_replace(path, reason, real=disk.open_for_writing):
        handle = real(path, reason)
        path.with_name("copy").write_bytes(kinds["v110"][0])
        os.replace(path.with_name("copy"), path)
        return handle

    monkeypatch.setattr(disk, "open_for_writing", open_and_replace)
    with pytest.raises(OSError, match=r"m.rtdc: was changed by another program"):
        apply(v110)
    check_unchanged(v110, kinds["v110"][0])


@posix
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_lock_ends_although_a_fork_lives_on(v110):
    reading, writing = os.pipe()
    with changed_file(v110) as h5:
        h5["a"] = 1
        if (child := os.fork()) == 0:
            os.read(reading, 1)
            os._exit(0)
    try:
        apply(v110)
    finally:
        os.write(writing, b"1")
        os.waitpid(child, 0)
        os.close(reading)
        os.close(writing)


def test_change_after_an_interrupted_one(kinds, interrupted):
    assert interrupted.read_bytes() != kinds["v110"][0]
    apply(interrupted)
    assert contents(interrupted) == kinds["v110"][2]


def test_a_journal_that_is_held_for_a_moment(kinds, v110, monkeypatch):
    _hold_journal(monkeypatch, 3)
    with changed_file(v110) as h5:
        change(h5)
    assert contents(v110) == kinds["v110"][2]
    assert listing(v110) == [v110.name]


def test_a_journal_that_cannot_be_removed_is_an_error(kinds, v110, monkeypatch):
    """It would undo the change; so the change is undone at once."""
    _hold_journal(monkeypatch, 10**9)
    failed = pytest.raises(OSError, match=r"m\.rtdc: could not be restored; keep")
    with failed, changed_file(v110) as h5:
        change(h5)
    assert listing(v110) == sorted([v110.name, JOURNAL])
    monkeypatch.undo()
    assert recover(v110)
    check_unchanged(v110, kinds["v110"][0])


def _hold_journal(monkeypatch, times):
    """Let a virus scanner hold the journal, so that it cannot be removed a number of times."""
    real, left = os.unlink, [times]

    def unlink(path, **options):
        if os.path.basename(path) == JOURNAL and left[0]:
            left[0] -= 1
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path, **options)

    monkeypatch.setattr(os, "unlink", unlink)
    monkeypatch.setattr(disk, "_PATIENCE", 0.3)
