"""The journal of an interrupted change, and how that is undone."""

import contextlib
import errno
import json
import os
import time

import numpy as np
import portalocker
import pytest
from hdf5.files import (
    JOURNAL,
    apply,
    check_unchanged,
    fail_at,
    listing,
    no_locks,
    posix,
    record,
)

from sparsemed.hdf5 import commit, journal
from sparsemed.hdf5.commit import changed_file, new_file
from sparsemed.hdf5.journal import recover
from sparsemed.storage import disk


def test_no_locks_and_an_old_journal(kinds, interrupted, monkeypatch):
    monkeypatch.setattr(portalocker, "lock", no_locks())
    with pytest.raises(OSError, match="try again in"):
        recover(interrupted)
    os.utime(interrupted.parent / JOURNAL, (time.time() - 61,) * 2)
    assert recover(interrupted) is True
    check_unchanged(interrupted, kinds["v110"][0])


@pytest.mark.parametrize("age", [-3600, -61, -30, 0, 30, 61, 3600])
def test_without_locks_a_journal_is_in_use_for_a_minute_whatever_the_clock(
    kinds, interrupted, monkeypatch, age
):
    """Clocks of other machines are fast or slow: one of the future must not block for good."""
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)  # a machine may stand still for a second
    monkeypatch.setattr(portalocker, "lock", no_locks())
    os.utime(interrupted.parent / JOURNAL, (now - age,) * 2)
    before = interrupted.read_bytes()
    if abs(age) < 60:
        with pytest.raises(
            OSError, match=r"another process may be writing it, .*; try again in 60 seconds"
        ):
            recover(interrupted)
        assert interrupted.read_bytes() == before
        assert listing(interrupted) == [interrupted.name, JOURNAL]
    else:
        assert recover(interrupted) is True
        check_unchanged(interrupted, kinds["v110"][0])


def test_no_journal(kinds, v110):
    assert recover(v110) is False
    assert recover(str(v110)) is False
    assert recover(v110.parent / "missing") is False
    check_unchanged(v110, kinds["v110"][0])


@posix
def test_recovery_through_a_link(kinds, interrupted, tmp_path, monkeypatch):
    soft = tmp_path / "soft"
    soft.symlink_to(interrupted)
    assert recover(soft) is True
    check_unchanged(interrupted, kinds["v110"][0])
    moments = record(monkeypatch, interrupted, lambda: apply(soft))
    assert any(JOURNAL in files for _, files in moments)


@posix
def test_recovery_while_another_process_writes(interrupted):
    state = interrupted.read_bytes()
    with open(interrupted, "r+b") as handle:
        portalocker.lock(handle, portalocker.LOCK_EX | portalocker.LOCK_NB)
        with pytest.raises(OSError, match=r"m.rtdc: .*being written by another process"):
            recover(interrupted)
        with pytest.raises(OSError, match=r"m.rtdc: .*being written by another process"):
            apply(interrupted)
    assert interrupted.read_bytes() == state
    assert listing(interrupted) == [interrupted.name, JOURNAL]


def test_journal_removed_while_waiting(kinds, v110, monkeypatch):
    journal = v110.parent / JOURNAL
    journal.write_bytes(b"")
    real = disk.locked

    @contextlib.contextmanager
    def locked(handle, path):
        with real(handle, path):
            journal.unlink()
            yield

    monkeypatch.setattr(disk, "locked", locked)
    assert recover(v110) is False
    check_unchanged(v110, kinds["v110"][0])


def test_damaged_journal(interrupted):
    """A journal appears when it is complete, so that one that is not is no harmless one."""
    state, journal = interrupted.read_bytes(), interrupted.parent / JOURNAL
    whole = journal.read_bytes()
    flips = [(len(whole) * i // 20, 1 << i % 8) for i in range(20)]
    flipped = [whole[:at] + bytes([whole[at] ^ bit]) + whole[at + 1 :] for at, bit in flips]
    for content in (b"", whole[:40], whole[:-1], bytes(len(whole)), *flipped):
        journal.write_bytes(content)
        with pytest.raises(OSError, match=f"m.rtdc: cannot be restored, as {JOURNAL} is damaged"):
            recover(interrupted)
        assert interrupted.read_bytes() == state
        assert journal.read_bytes() == content
    journal.write_bytes(whole)
    assert recover(interrupted) is True


def test_pack():
    content = (100, 50, [(10, b"old", b"new"), (30, b"o", b"n")])
    assert journal._unpack(journal.pack(*content)) == content


def test_restoring_writes_what_seems_restored_already(kinds, interrupted, monkeypatch):
    """After a failed fsync the system shows what it could not write."""
    old = kinds["v110"][0]
    spans = journal._unpack((interrupted.parent / JOURNAL).read_bytes())[2]
    with monkeypatch.context() as patch:
        fail_at(patch, interrupted, len(spans) + 1, OSError(errno.EIO, "Broken"))  # the sync
        with pytest.raises(OSError, match="could not be restored"):
            recover(interrupted)
    assert interrupted.read_bytes() == old
    steps = record(monkeypatch, interrupted, lambda: recover(interrupted))
    written = [place for (what, _, place, when), _ in steps if (what, when) == ("write", "after")]
    assert sorted(written) == [offset for offset, _, _ in spans]


def test_journal_without_file(interrupted):
    state = interrupted.read_bytes()
    interrupted.unlink()
    for attempt in (recover, apply, lambda path: new_file(path).__enter__()):
        with pytest.raises(OSError, match=f"m.rtdc: is missing, but its journal {JOURNAL}"):
            attempt(interrupted)
    assert listing(interrupted) == [JOURNAL]
    interrupted.write_bytes(state)
    assert recover(interrupted) is True


def test_journal_of_another_file(kinds, interrupted):
    """A file that was put in place of the broken one must not be damaged."""
    old, other = kinds["v110"][0], kinds["earliest"][0]
    for content in (other, other + bytes(len(old)), old[:-5], old + bytes(10**6)):
        interrupted.write_bytes(content)
        with pytest.raises(OSError, match=f"m.rtdc: was changed after .* delete {JOURNAL}"):
            recover(interrupted)
        assert interrupted.read_bytes() == content
        assert listing(interrupted) == [interrupted.name, JOURNAL]
    interrupted.write_bytes(old)  # a backup
    assert recover(interrupted) is True
    check_unchanged(interrupted, old)


def test_journal_is_small(v110, monkeypatch):
    sizes = []
    real = journal.pack
    monkeypatch.setattr(commit, "pack", lambda *a: (sizes.append(len(real(*a))), real(*a))[1])
    with changed_file(v110) as h5:
        h5["new"] = np.zeros(100_000)
    assert sizes[0] < 5000


def test_journal_can_be_read_by_people():
    head, _, content = journal.pack(100, 50, [(10, b"\x01", b"\x02")]).partition(b"\n")
    assert head.startswith(b"sparsemed journal 1 ")
    assert json.loads(content) == [100, 50, [[10, "01", "02"]]]
