"""Files that are written anew: the old one is there until the new one is complete."""

# ruff: noqa: PT012 (what raises is the end of the with block)

import errno
import os

import h5py
import numpy as np
import pytest
from hdf5.files import JOURNAL, check_unchanged, fail_at, listing, posix, record

from sparsemed.hdf5.commit import rewritten_file
from sparsemed.storage import disk


def rewrite(path):
    with rewritten_file(path) as h5:
        assert list(h5) == []
        h5["new"] = np.arange(100_000)


def is_new(path):
    with h5py.File(path) as h5:
        return list(h5) == ["new"] and np.array_equal(h5["new"], np.arange(100_000))


@posix
def test_it_begins_empty_and_keeps_name_link_and_mode(v110, tmp_path):
    v110.chmod(0o640)
    (tmp_path / "link").symlink_to(v110)
    before = v110.stat()
    rewrite(tmp_path / "link")
    assert is_new(v110)
    assert (tmp_path / "link").is_symlink()
    assert v110.stat().st_mode == before.st_mode
    assert listing(v110) == [v110.name]


def test_it_is_old_or_new_at_any_moment(kinds, v110, monkeypatch, way):
    old = kinds["v110"][0]
    moments = record(monkeypatch, v110, lambda: rewrite(v110))
    assert is_new(v110)
    new = v110.read_bytes()
    states = [files[v110.name] for _, files in moments]
    assert set(states) == {old, new}
    assert states == sorted(states, key=lambda state: state == new)
    if way == "nameless":  # so that nothing stays of it
        assert all(set(files) == {v110.name} for _, files in moments)


@pytest.mark.parametrize(("number", "action"), [(0, "write"), (1, "sync")])
def test_whatever_fails_it_stays(kinds, v110, monkeypatch, way, number, action):
    full = OSError(errno.ENOSPC, "No space left on device")
    hit = fail_at(monkeypatch, v110, number, full)
    with pytest.raises(OSError, match=r"m\.rtdc: could not be written; make room"):
        rewrite(v110)
    assert hit[0] == action
    check_unchanged(v110, kinds["v110"][0])


def test_a_folder_that_cannot_be_made_safe_does_not_undo_it(v110, monkeypatch):
    hit = fail_at(monkeypatch, v110, 2, OSError(errno.EIO, "Input/output error"))
    rewrite(v110)
    assert hit[0] == "sync_folder"
    assert is_new(v110)


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()], ids=repr)
def test_an_error_in_the_body(kinds, v110, error):
    with pytest.raises(type(error)), rewritten_file(v110) as h5:
        h5["a"] = 1
        raise error
    check_unchanged(v110, kinds["v110"][0])


@posix
def test_not_while_this_program_has_it_open(kinds, v110):
    with (
        h5py.File(v110),
        pytest.raises(OSError, match=r"m\.rtdc: is open elsewhere in this program"),
    ):
        rewrite(v110)
    check_unchanged(v110, kinds["v110"][0])


def test_not_if_another_program_has_changed_it(v110):
    def change_it():
        with h5py.File(v110, "r+") as other:
            other["other"] = 1

    with pytest.raises(OSError, match="was changed by another program"), rewritten_file(v110):
        change_it()
    with h5py.File(v110) as h5:
        assert "other" in h5
    with pytest.raises(OSError, match="was changed by another program"), rewritten_file(v110):
        rewrite(v110)
    assert is_new(v110)
    with pytest.raises(OSError, match="was changed by another program"), rewritten_file(v110):
        (v110.parent / JOURNAL).write_bytes(b"of another process")
    assert sorted(listing(v110)) == [v110.name, JOURNAL]


@posix
def test_one_who_reads_without_a_lock_goes_on(v110):
    with h5py.File(v110, locking=False) as h5:
        rewrite(v110)
        assert h5["events/deform"].shape == (2000,)
    assert is_new(v110)


@posix
def test_what_would_be_missed_is_not_replaced(v110, monkeypatch):
    assert disk.can_be_replaced(v110)
    os.link(v110, v110.parent / "another name")
    assert not disk.can_be_replaced(v110)
    (v110.parent / "another name").unlink()
    monkeypatch.setattr(os, "geteuid", lambda: v110.stat().st_uid + 1)
    assert not disk.can_be_replaced(v110)
