"""New files appear when they are complete, and replace nothing."""

# ruff: noqa: PT012 (what raises is the end of the with block)

import errno
import os

import h5py
import hdf5plugin
import numpy as np
import pytest
from hdf5.files import (
    check_unchanged,
    fail_at,
    listing,
    posix,
    record,
    restore,
    without_litter,
)

from sparsemed.hdf5.commit import changed_file, new_file
from sparsemed.hdf5.journal import recover


def test_new_file(path):
    with new_file(path) as h5:
        assert not path.exists()
        h5.create_dataset("events/image", data=np.arange(100_000), **hdf5plugin.Zstd())
        h5.attrs["a"] = "b"
    assert listing(path) == [path.name]
    with h5py.File(path) as h5:
        assert np.array_equal(h5["events/image"][:], np.arange(100_000))
        assert h5.attrs["a"] == "b"
    apply_to_new = path.with_name("plain")
    apply_to_new.touch()
    assert path.stat().st_mode == apply_to_new.stat().st_mode


def test_new_file_without_hard_links(path, monkeypatch):
    def link(*_, **__):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    with new_file(path) as h5:
        h5["a"] = 1
    assert listing(path) == [path.name]
    path.write_bytes(b"mine")
    path.rename(path.with_name("mine"))
    with pytest.raises(FileExistsError, match=r"m.rtdc: exists; choose"), new_file(path) as h5:
        path.with_name("mine").rename(path)
    check_unchanged(path, b"mine")


@posix
@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077])
def test_new_file_has_the_usual_mode(path, way, mask):
    former = os.umask(mask)
    try:
        with new_file(path) as h5:
            h5["a"] = 1
    finally:
        os.umask(former)
    assert path.stat().st_mode & 0o777 == 0o666 & ~mask


def test_working_directory_changed_in_the_body(path, monkeypatch):
    monkeypatch.chdir(path.parent)
    os.mkdir("other")
    with new_file(path.name) as h5:
        h5["a"] = 1
        os.chdir("other")
    with changed_file("../" + path.name) as h5:
        h5["b"] = 1
        os.chdir("..")
    assert listing(path) == [path.name, "other"]
    assert os.listdir("other") == []
    with h5py.File(path) as h5:
        assert [*h5] == ["a", "b"]


@posix
def test_new_file_through_a_link_and_back(path, tmp_path):
    """What ``link/..`` is, is the system's to say."""
    (tmp_path / "elsewhere" / "deep").mkdir(parents=True)
    (tmp_path / "other").symlink_to(tmp_path / "elsewhere" / "deep")
    with new_file(tmp_path / "other" / ".." / path.name) as h5:
        h5["a"] = 1
    assert sorted(os.listdir(tmp_path / "elsewhere")) == ["deep", path.name]
    assert path.name not in os.listdir(tmp_path)


NAMES = {
    "spaces": " a\tb\nc .rtdc ",
    "not ASCII": "Blut größer 血.rtdc",
    "like an option": "-rf",
    "format": "%s{0}{x}$HOME`ls`*?[a].rtdc",
    "no text": os.fsdecode(b"a\xff\xfe.rtdc"),
    "long": "a" * 250 + ".rtdc",
    "just too long for the usual journal": "ä" * 63 + ".rtdc",
}


@posix
@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_odd_names(path, monkeypatch, way, name):
    path = path.with_name(name)
    try:
        path.touch()
    except OSError as error:
        pytest.skip(f"the file system refuses it: {error}")
    path.unlink()
    with new_file(path) as h5:
        h5["a"] = np.arange(100)
    old = path.read_bytes()

    def add():
        with changed_file(path) as h5:
            h5["b"] = np.arange(100)

    moments = record(monkeypatch, path, add)
    assert listing(path) == [path.name]
    restored = 0
    for _, files in moments:
        restore(path, without_litter(files))
        if recover(path):
            restored += 1
            check_unchanged(path, old)
    assert restored


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), SystemExit(1)], ids=repr)
def test_new_file_error_in_the_body(path, error):
    with pytest.raises(type(error)) as caught, new_file(path) as h5:
        h5["a"] = np.arange(100_000)
        raise error
    assert caught.value is error
    assert listing(path) == []


def test_new_file_exists(path):
    path.write_bytes(b"mine")
    with pytest.raises(FileExistsError, match=r"m.rtdc: exists; choose"), new_file(path):
        pytest.fail("too late")
    check_unchanged(path, b"mine")
    path.unlink()
    with pytest.raises(FileExistsError, match=r"m.rtdc: exists; choose"), new_file(path) as h5:
        h5["a"] = 1
        path.write_bytes(b"theirs")
    check_unchanged(path, b"theirs")


def test_new_file_without_folder(path):
    with pytest.raises(FileNotFoundError, match="folder does not exist; create it"):
        new_file(path.parent / "missing" / "m.rtdc").__enter__()


@pytest.mark.parametrize("number", range(3))
def test_new_file_failing_action(path, monkeypatch, number, way):
    fail_at(monkeypatch, path, number, OSError(errno.ENOSPC, "No space left"))
    with pytest.raises(OSError, match=r"m.rtdc: could not be created.*No space left"):  # noqa: SIM117
        with new_file(path) as h5:
            h5["a"] = 1
    monkeypatch.undo()
    assert [name for name in listing(path) if name.startswith(".")] == []
    if number < 2:
        assert listing(path) == []
