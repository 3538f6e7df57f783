"""Whatever happens during a change, the file is the old one or the new one."""
# ruff: noqa: PT012 (what raises is the end of the with block)

import contextlib
import errno
import io
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
import portalocker
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsemed.hdf5 import commit
from sparsemed.hdf5.commit import changed_file, new_file, recover

posix = pytest.mark.skipif(os.name == "nt", reason="needs POSIX")
linux = pytest.mark.skipif(not hasattr(os, "O_TMPFILE"), reason="needs files without a name")
ACTIONS = ("_write", "_truncate", "_sync", "_sync_folder", "_remove")
JOURNAL = "m.rtdc.sparsemed-journal"
LOAD = (
    "import importlib.util, os, resource, signal, sys, h5py, numpy as np\n"
    f"spec = importlib.util.spec_from_file_location('commit', {commit.__file__!r})\n"
    "commit = importlib.util.module_from_spec(spec)\n"
    "spec.loader.exec_module(commit)\n"
    "path = sys.argv[1]\n"
)


def build(path, **options):
    """Write a file with what measurements have: images, traces, text, attributes, links."""
    rng = np.random.default_rng(0)
    with h5py.File(path, "w", **options) as h5:
        images = rng.integers(0, 9, (30, 16, 20), dtype=np.uint8)
        shape = {"chunks": (4, 16, 20), "maxshape": (None, 16, 20)}
        h5.create_dataset("events/image", data=images, **shape, **hdf5plugin.Zstd(clevel=5))
        h5.create_dataset("events/mask", data=images > 4, **shape, compression="gzip")
        h5.create_dataset("events/checked", data=images, **shape, fletcher32=True)
        h5["events/deform"] = rng.random(2000)
        h5["events/old"] = rng.random(3000)
        h5["logs/text"] = ["eins", "zwei", "drei"]
        h5["table"] = np.array([(1, 2.5), (3, 4.5)], dtype=[("a", "i4"), ("b", "f8")])
        h5["alias"] = h5py.SoftLink("/events/deform")
        h5["same"] = h5["events/mask"]
        h5.attrs["experiment:sample"] = "Blut"
        h5["events/image"].attrs["CLASS"] = np.bytes_("IMAGE")
        for number in range(20):
            h5[f"many/{number}"] = np.full(50, number)
    return path


def change(h5):
    """Add, replace, extend, move and delete."""
    background = np.arange(20 * 320, dtype=np.uint16).reshape(20, 16, 20) // 7
    dataset = h5.create_dataset(
        "events/image_bg", data=background, chunks=(1, 16, 20), **hdf5plugin.Zstd(clevel=5)
    )
    dataset.attrs["by"] = "me"
    h5.create_dataset("basins/a/b", data=np.arange(3000.0), compression="gzip", chunks=(100,))
    h5["events/deform"][10:20] = -1
    h5["events/mask"].resize(34, axis=0)
    h5["events/mask"][29:] = True
    h5.move("table", "tables/first")
    del h5["events/old"]
    del h5["many/3"]
    h5.attrs["experiment:sample"] = "Wasser"
    h5.attrs["new"] = np.arange(300)
    h5.flush()
    h5["logs/after flush"] = "text"


def contents(path):
    """Return everything that a reader sees."""
    seen = {}

    def visit(name, entry):
        attributes = {key: np.asarray(value).tolist() for key, value in entry.attrs.items()}
        data = ()
        if isinstance(entry, h5py.Dataset):
            filters = (entry.chunks, entry.compression, entry._filters, entry.maxshape)
            is_text = h5py.check_string_dtype(entry.dtype)
            value = str(entry[()]) if is_text else entry[()].tobytes()
            data = (str(entry.dtype), entry.shape, filters, value)
        seen[name] = (attributes, data)

    with h5py.File(path) as h5:
        visit("/", h5)
        h5.visititems(visit)
        for name in h5:
            seen[f"link {name}"] = repr(h5.get(name, getlink=True).__class__)
    return seen


@pytest.fixture(scope="module")
def kinds(tmp_path_factory):
    """Files of several HDF5 formats, old and changed by plain HDF5."""
    folder = tmp_path_factory.mktemp("kinds")
    options = {
        "earliest": {"libver": "earliest"},
        "v108": {"libver": "v108"},
        "v110": {"libver": "v110"},
        "latest": {"libver": "latest"},
        "user block": {"libver": "earliest", "userblock_size": 1024},
        "user block, latest": {"libver": "latest", "userblock_size": 512},
        "pages": {"libver": "v110", "fs_strategy": "page", "fs_persist": True},
        "trailing bytes": {"libver": "v110"},
    }
    found = {}
    for kind, option in options.items():
        path = build(folder / f"{kind}.rtdc", **option)
        if "userblock_size" in option:
            with open(path, "r+b") as file:
                file.write(b"user block")
        if kind == "trailing bytes":
            with open(path, "ab") as file:
                file.write(b"junk" * 30000)
        old, before = path.read_bytes(), contents(path)
        with h5py.File(path, "r+", libver=commit._LIBVER) as h5:
            change(h5)
        found[kind] = (old, before, contents(path))
    return found


KINDS = ["earliest", "v108", "v110", "latest", "user block", "user block, latest", "pages"]


@pytest.fixture
def path(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    return folder / "m.rtdc"


@pytest.fixture
def v110(kinds, path):
    path.write_bytes(kinds["v110"][0])
    return path


def listing(path):
    return sorted(entry.name for entry in path.parent.iterdir())


def check_unchanged(path, old):
    assert path.read_bytes() == old
    assert listing(path) == [path.name]


# The result


@pytest.mark.parametrize("kind", [*KINDS, "trailing bytes"])
def test_result_is_that_of_plain_hdf5(kinds, path, monkeypatch, kind):
    old, before, after = kinds[kind]
    path.write_bytes(old)
    assert contents(path) == before
    model = Model(old)

    def write(overlay, data, real=commit._Overlay.write):
        model.file.seek(overlay.tell())
        model.file.write(data)
        return real(overlay, data)

    def truncate(overlay, size, real=commit._Overlay.truncate):
        model.truncate(size)
        return real(overlay, size)

    monkeypatch.setattr(commit._Overlay, "write", write)
    monkeypatch.setattr(commit._Overlay, "truncate", truncate)
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


def test_truncated_bytes_are_not_needed_to_see_zeros(v110):
    """What HDF5 cut off and allocated again without writing is zero, not junk."""
    size = v110.stat().st_size
    with open(v110, "ab") as file:
        file.write(b"junk" * 3000)
    with changed_file(v110) as h5:
        h5.flush()  # cuts
        creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        creation.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        creation.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        space = h5py.h5s.create_simple((20000,))
        h5py.h5d.create(h5.id, b"raw", h5py.h5t.NATIVE_UINT8, space, creation)
    with h5py.File(v110) as h5:
        assert h5["raw"].id.get_offset() >= size
        assert not h5["raw"][:].any()


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
    moved = {"_read": 0, "_write": 0}

    def read(handle, start, stop, real=commit._read):
        moved["_read"] += stop - start
        return real(handle, start, stop)

    def write(handle, offset, data, real=commit._write):
        moved["_write"] += len(data)
        return real(handle, offset, data)

    monkeypatch.setattr(commit, "_read", read)
    monkeypatch.setattr(commit, "_write", write)
    data = np.random.default_rng(0).integers(0, 256, 500_000, dtype=np.uint8)
    with changed_file(path) as h5:
        h5["new"] = data
    assert moved["_write"] < 520_000
    assert moved["_read"] < 100_000
    with h5py.File(path) as h5:
        assert np.array_equal(h5["new"][:], data)
        assert np.array_equal(h5["small"][:], np.arange(1000))


# A crash at any moment


@pytest.fixture(params=[pytest.param("nameless", marks=linux), "named"])
def way(request, monkeypatch):
    """How new files and journals come into being: without a name, where the system can, or with."""
    if request.param == "named":
        monkeypatch.setattr(commit, "_create_nameless", lambda *_: False)
    return request.param


def name_of(target):
    """Return the name of a file or folder that something is done to, if it has one for good."""
    if isinstance(target, Path):
        return "folder" if target.is_dir() else target.name
    name = getattr(target, "name", "")
    return "hidden" if isinstance(name, int) or ".sparsemed-" in name else os.path.basename(name)


def record(monkeypatch, path, run):
    """Run, and return what lay in the folder at each moment, with the action then going on."""
    moments = []

    def note(what):
        files = {entry.name: entry.read_bytes() for entry in path.parent.iterdir()}
        moments.append((what, files))

    def stop_at(action, real):
        def act(target, *rest):
            name = name_of(target)
            place = rest[0] if rest else None
            note((action, name, place, "before"))
            if action == "_write" and len(rest[1]) > 1:
                real(target, place, rest[1][: len(rest[1]) // 2])
                note((action, name, place, "half"))
            real(target, *rest)
            note((action, name, place, "after"))

        return act

    with monkeypatch.context() as patch:
        for action in ACTIONS:
            patch.setattr(commit, action, stop_at(action, getattr(commit, action)))
        run()
    return moments


def apply(path):
    with changed_file(path) as h5:
        change(h5)


def restore(path, files):
    for entry in path.parent.iterdir():
        entry.unlink()
    for name, data in files.items():
        (path.parent / name).write_bytes(data)


@pytest.mark.parametrize("kind", [*KINDS, "trailing bytes"])
def test_kill_at_any_moment(kinds, path, monkeypatch, kind):
    old, before, after = kinds[kind]
    path.write_bytes(old)
    monkeypatch.setattr(os, "fsync", lambda _: None)
    moments = record(monkeypatch, path, lambda: apply(path))
    new = path.read_bytes()
    assert new != old

    done = [(what, name) for what, name, _, when in (m[0] for m in moments) if when == "after"]
    order = [key for key, _ in itertools.groupby(done)]
    appended = [("_write", "m.rtdc"), ("_sync", "m.rtdc")]
    assert order == [
        ("_write", "hidden"),
        ("_sync", "hidden"),
        ("_sync_folder", "folder"),
        *appended,
        ("_write", "m.rtdc"),
        ("_sync", "m.rtdc"),
        ("_remove", JOURNAL),
        ("_sync_folder", "folder"),
    ]

    patches = [
        number
        for number, ((what, name, place, _), _) in enumerate(moments)
        if (what, name) == ("_write", "m.rtdc") and place < len(old)
    ]
    removal = next(
        i
        for i, (what, _) in enumerate(moments)
        if what == (*what[:3], "after") and what[0] == "_remove"
    )
    for number, (_, files) in enumerate(moments):
        restore(path, without_litter(files))
        if not patches[0] < number < patches[-1]:
            assert contents(path) == (before if number <= patches[0] else after)
        undone = recover(path)
        assert path.read_bytes() == (new if number >= removal else old)
        assert listing(path) == [path.name]
        assert recover(path) is False
        assert undone is (JOURNAL in files)


def test_kill_during_recovery(kinds, v110, monkeypatch):
    old = kinds["v110"][0]
    monkeypatch.setattr(os, "fsync", lambda _: None)
    moments = record(monkeypatch, v110, lambda: apply(v110))
    for _, files in moments[3::4]:
        restore(v110, files)
        if JOURNAL not in files:
            continue
        steps = record(monkeypatch, v110, lambda: recover(v110))
        order = [what for (what, _, _, when), _ in steps if when == "after"]
        ending = ["_remove", "_sync_folder"]
        assert order == ending or order[-4:] == ["_truncate", "_sync", *ending]
        for _, again in steps:
            restore(v110, again)
            recover(v110)
            check_unchanged(v110, old)


class Disk:
    """Notes what is done in a folder, and says what may be left of it after a power cut."""

    def __init__(self, monkeypatch, folder):
        self.old = {entry.name: entry.read_bytes() for entry in folder.iterdir()}
        self.inodes = {entry.name: entry.stat().st_ino for entry in folder.iterdir()}
        self.log = []

        def spy(module, action, note):
            real = getattr(module, action)

            def act(*arguments, **options):
                note(*arguments)
                return real(*arguments, **options)

            monkeypatch.setattr(module, action, act)

        spy(commit, "_write", self.write)
        spy(commit, "_sync", lambda handle: self.log.append(("sync", self.inode(handle.fileno()))))
        spy(commit, "_sync_folder", lambda _: self.log.append(("sync folder",)))
        spy(os, "link", lambda old, new: self.name(new, self.inode(old)))
        spy(os, "unlink", lambda path: self.log.append(("unname", os.path.basename(path))))

    def inode(self, file):
        return os.stat(file).st_ino

    def name(self, path, inode):
        self.log.append(("name", os.path.basename(path), inode))

    def write(self, handle, offset, data):
        inode = self.inode(handle.fileno())
        if isinstance(handle.name, str | Path) and inode not in self.inodes.values():
            self.name(handle.name, inode)
        cuts = sorted({0, len(data) // 3, len(data) // 2, len(data)})
        for start, stop in itertools.pairwise(cuts):
            self.log.append(("write", inode, offset + start, bytes(data[start:stop])))

    def states(self, rng):
        """Yield for each moment what the folder may hold: what was not synced may be lost.

        Each for itself and in any order. Yields also whether all was done.
        """
        for end in range(len(self.log) + 1):
            safe = {self.inodes[name]: data for name, data in self.old.items()}
            names, waiting = dict(self.inodes), []
            for action, *rest in self.log[:end]:
                if action == "sync":
                    for one in waiting:
                        if one[:2] == ("write", *rest):
                            self.apply(one, safe, names)
                    waiting = [one for one in waiting if one[:2] != ("write", *rest)]
                elif action == "sync folder":
                    for one in waiting:
                        if one[0] != "write":
                            self.apply(one, safe, names)
                    waiting = [one for one in waiting if one[0] == "write"]
                else:
                    waiting.append((action, *rest))
            choices = [[], waiting, *([one] for one in waiting)]
            choices += [[o for o in waiting if o is not one] for one in waiting]
            choices += [
                [o for o in waiting if rng.random() < 0.5] for _ in range(20 * bool(waiting))
            ]
            for chosen in choices:
                files, there = dict(safe), dict(names)
                for one in chosen:
                    self.apply(one, files, there)
                content = {name: files.get(inode, b"") for name, inode in there.items()}
                yield content, end == len(self.log)

    @staticmethod
    def apply(one, files, names):
        action, *rest = one
        if action == "write":
            inode, offset, data = rest
            before = files.get(inode, b"").ljust(offset, b"\0")
            files[inode] = before[:offset] + data + before[offset + len(data) :]
        elif action == "name":
            names[rest[0]] = rest[1]
        else:
            names.pop(rest[0], None)


def without_litter(files):
    return {name: data for name, data in files.items() if not name.endswith(".tmp")}


@posix
def test_power_cut_at_any_moment(kinds, v110, monkeypatch, way):
    old, name = kinds["v110"][0], v110.name
    with monkeypatch.context() as patch:
        disk = Disk(patch, v110.parent)
        apply(v110)
    new = v110.read_bytes()
    monkeypatch.setattr(os, "fsync", lambda _: None)  # from here on, only time
    outcomes = []
    for files, is_done in disk.states(random.Random(1)):
        assert way == "named" or files == without_litter(files)
        restore(v110, without_litter(files))
        undone = recover(v110)
        found = v110.read_bytes()
        assert found in (old, new)
        assert found == new or not is_done
        assert listing(v110) == [name]
        outcomes.append((undone, found == new))
    assert {*outcomes} == {(False, False), (True, False), (False, True)}
    assert len(outcomes) > 300


@posix
def test_power_cut_of_a_new_file(path, monkeypatch, way):
    with monkeypatch.context() as patch:
        disk = Disk(patch, path.parent)
        with new_file(path) as h5:
            h5["a"] = np.arange(1000)
    whole = path.read_bytes()
    outcomes = []
    for files, is_done in disk.states(random.Random(1)):
        assert way == "named" or files == without_litter(files)
        left = without_litter(files)
        assert left == {path.name: whole} or (left == {} and not is_done)
        outcomes.append(left == {})
    assert {*outcomes} == {True, False}
    assert len(outcomes) > 40


@posix
@pytest.mark.soak  # whole jobs are killed in tests/faults/test_kills.py
def test_sigkill(path):
    """Kill a process that changes a file again and again."""
    with h5py.File(path, "w", libver="earliest") as h5:
        h5["fixed"] = np.arange(5000)
        h5.attrs["round"] = 0
    script = LOAD + (
        "while True:\n"
        "    with commit.changed_file(path) as h5:\n"
        "        k = int(h5.attrs['round']) + 1\n"
        "        h5.create_dataset(f'r{k}', data=np.full(20000, k), chunks=(500,))\n"
        "        if k > 3: del h5[f'r{k - 3}']\n"
        "        h5.attrs['round'] = k\n"
        "    print(k, flush=True)\n"
    )
    rng = random.Random(0)
    reached = 0
    for _ in range(15):
        with subprocess.Popen(
            [sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True
        ) as child:
            for _ in range(rng.randint(1, 3)):
                printed = int(child.stdout.readline())
            time.sleep(rng.random() * 0.03)
            child.kill()
            rest = child.stdout.read().split()
        if rest and rest[-1].isdigit():
            printed = int(rest[-1])
        recover(path)
        assert listing(path) == [path.name]
        with h5py.File(path) as h5:
            k = int(h5.attrs["round"])
            assert k in (printed, printed + 1)
            rounds = {f"r{i}" for i in range(max(1, k - 2), k + 1)}
            assert set(h5) == {"fixed", *rounds}
            assert np.array_equal(h5["fixed"][:], np.arange(5000))
            for i in range(max(1, k - 2), k + 1):
                assert np.all(h5[f"r{i}"][:] == i)
        reached = k
    assert reached >= 15


# Errors


@pytest.mark.parametrize(
    "error", [ValueError("no"), OSError("no"), KeyboardInterrupt(), SystemExit(3)], ids=repr
)
def test_error_in_the_body(kinds, v110, error):
    with pytest.raises(type(error)) as caught, changed_file(v110) as h5:
        change(h5)
        raise error
    assert caught.value is error
    check_unchanged(v110, kinds["v110"][0])


def fail_at(monkeypatch, path, number, error, forever=False):
    """Let the given action fail, halfway if it is a write; return which it was."""
    count = itertools.count()
    hit = []

    def make(action, real):
        def act(target, *rest):
            now = next(count)
            if now == number or (forever and now > number):
                hit[:] = hit or [action, (path.parent / JOURNAL).exists()]
                if action == "_write":
                    place, data = rest
                    real(target, place, data[: len(data) // 2])
                if action == "_remove" and isinstance(error, KeyboardInterrupt):
                    real(target)
                raise error
            return real(target, *rest)

        return act

    for action in ACTIONS:
        monkeypatch.setattr(commit, action, make(action, getattr(commit, action)))
    return hit


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
        if hit == ["_sync_folder", False] or (
            hit == ["_remove", True] and isinstance(error, KeyboardInterrupt)
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
    assert hit == ["_sync_folder", False]  # the journal is gone


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


@pytest.mark.parametrize("kind", [MemoryError, OSError, KeyboardInterrupt, ZeroDivisionError])
@pytest.mark.parametrize("method", ["_put", "_resize", "content"])
def test_failing_overlay(kinds, v110, monkeypatch, kind, method):
    """HDF5 loses exceptions of its callbacks, or crashes on them; they come up nonetheless."""
    old = kinds["v110"][0]
    calls = itertools.count()
    real = getattr(commit._Overlay, method)
    monkeypatch.setattr(commit._Overlay, method, lambda *a: (next(calls), real(*a))[1])
    apply(v110)
    total = next(calls)
    assert total > 1
    for number in sorted({0, 1, 2, total // 3, total // 2, total - 2, total - 1}):
        v110.write_bytes(old)
        calls = itertools.count()

        def fail(*arguments, stop=number, calls=calls):
            if next(calls) == stop:
                raise kind("broken")
            return real(*arguments)

        monkeypatch.setattr(commit._Overlay, method, fail)
        expected = KeyboardInterrupt if kind is KeyboardInterrupt else OSError
        if method == "content" and number >= total - 2:
            expected = kind  # this call comes from us, not from HDF5
        with pytest.raises(expected, match="broken"):
            apply(v110)
        check_unchanged(v110, old)
    assert h5py.h5f.get_obj_count(h5py.h5f.OBJ_ALL, h5py.h5f.OBJ_FILE) == 0


def wait():
    for _ in range(500):
        time.sleep(0.001)


@posix
def test_interrupt_inside_the_overlay(kinds, v110, monkeypatch):
    """Ctrl-C while HDF5 writes a dataset is not lost, and breaks nothing."""
    real = commit._Overlay._put

    def put(overlay, start, data):
        if len(data) > 30:
            monkeypatch.setattr(commit._Overlay, "_put", real)
            signal.raise_signal(signal.SIGINT)
        real(overlay, start, data)

    monkeypatch.setattr(commit._Overlay, "_put", put)
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), changed_file(v110) as h5:
            change(h5)
            wait()
            pytest.fail("the interrupt was lost")
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, former)
    check_unchanged(v110, kinds["v110"][0])


@posix
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_timer_during_a_change(v110):
    """The same at many moments, with a handler that raises."""
    data = np.random.default_rng(0).integers(0, 50, (20, 80, 400), dtype=np.uint8)
    former = signal.signal(signal.SIGALRM, signal.default_int_handler)
    old = v110.read_bytes()
    outcomes = set()
    try:
        for number in range(40):
            v110.write_bytes(old)
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.001 * (number + 1))
                with changed_file(v110) as h5:
                    h5.create_dataset("new", data=data, chunks=(1, 80, 400), compression="gzip")
                    is_changed = True
                wait()
            except KeyboardInterrupt:
                is_changed = v110.read_bytes() != old
            if is_changed:
                with h5py.File(v110) as h5:
                    assert np.array_equal(h5["new"][:], data)
            assert listing(v110) == [v110.name]
            outcomes.add(is_changed)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)
    assert False in outcomes


def test_links_to_other_files(kinds, v110):
    """HDF5 would take the overlay for the other file; better to refuse."""
    other = build(v110.with_name("other.rtdc"))
    with h5py.File(v110, "r+") as h5:
        h5["outside"] = h5py.ExternalLink("other.rtdc", "/events/deform")
        layout = h5py.VirtualLayout((2000,), float)
        layout[:] = h5py.VirtualSource("other.rtdc", "events/deform", (2000,))
        h5.create_virtual_dataset("virtual", layout)
    old = v110.read_bytes()
    for name in ("outside", "virtual"):
        with pytest.raises(OSError, match="links to other files"), changed_file(v110) as h5:
            h5["new"] = h5[name][:]
        assert v110.read_bytes() == old
    with changed_file(v110) as h5:
        assert "outside" in list(h5)
        h5.move("outside", "renamed")
        del h5["virtual"]
    other.unlink()
    with h5py.File(v110) as h5:
        assert isinstance(h5.get("renamed", getlink=True), h5py.ExternalLink)


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


# Others who use the file


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
    with h5py.File(v110), pytest.raises(OSError, match=r"m.rtdc: is open in another program"):
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


def no_locks(number=errno.ENOLCK):
    def lock(handle, flags):
        try:
            raise OSError(number, os.strerror(number))
        except OSError as error:
            raise portalocker.LockException(error) from error

    return lock


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

    def write(handle, offset, data, real=commit._write):
        real(handle, offset, data)
        if (v110.parent / JOURNAL).exists():
            with pytest.raises(OSError, match=r"m.rtdc: may be being written.* try again in 60 s"):
                recover(v110)
            refused.append(offset)

    with monkeypatch.context() as patch:
        patch.setattr(commit, "_write", write)
        apply(v110)
    assert len(refused) > 1
    assert contents(v110) == kinds["v110"][2]


def test_no_locks_and_an_old_journal(kinds, interrupted, monkeypatch):
    monkeypatch.setattr(portalocker, "lock", no_locks())
    with pytest.raises(OSError, match="try again in"):
        recover(interrupted)
    os.utime(interrupted.parent / JOURNAL, (time.time() - 61,) * 2)
    assert recover(interrupted) is True
    check_unchanged(interrupted, kinds["v110"][0])


def test_no_locks_and_another_writer(kinds, v110, monkeypatch):
    """Its journal is left alone, whenever it appears or is taken away."""
    journal = v110.parent / JOURNAL

    def create(path, data, real=commit._create):
        journal.write_bytes(b"theirs")
        real(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(commit, "_create", create)
        with pytest.raises(OSError, match=r"m.rtdc: was changed by another program"):
            apply(v110)
    assert journal.read_bytes() == b"theirs"
    journal.unlink()
    check_unchanged(v110, kinds["v110"][0])

    def sync(handle, real=commit._sync):
        real(handle)
        if journal.exists():
            journal.unlink()

    monkeypatch.setattr(commit, "_sync", sync)
    with pytest.raises(OSError, match=r"m.rtdc: could not be changed and is as before"):
        apply(v110)
    assert contents(v110) == kinds["v110"][1]
    assert listing(v110) == [v110.name]


@posix
def test_file_replaced_while_it_is_opened(kinds, v110, monkeypatch):
    def open_and_replace(path, reason, real=commit._open_for_writing):
        handle = real(path, reason)
        path.with_name("copy").write_bytes(kinds["v110"][0])
        os.replace(path.with_name("copy"), path)
        return handle

    monkeypatch.setattr(commit, "_open_for_writing", open_and_replace)
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


# Journals


@pytest.fixture
def interrupted(v110, monkeypatch):
    """A file whose change was killed between two patches, with its journal."""
    moments = record(monkeypatch, v110, lambda: apply(v110))
    half = [i for i, (what, _) in enumerate(moments) if what[:2] == ("_write", "m.rtdc")]
    restore(v110, moments[half[len(half) // 2 + 1]][1])
    return v110


def test_no_journal(kinds, v110):
    assert recover(v110) is False
    assert recover(str(v110)) is False
    assert recover(v110.parent / "missing") is False
    check_unchanged(v110, kinds["v110"][0])


def test_change_after_an_interrupted_one(kinds, interrupted):
    assert interrupted.read_bytes() != kinds["v110"][0]
    apply(interrupted)
    assert contents(interrupted) == kinds["v110"][2]


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
    real = commit._locked

    @contextlib.contextmanager
    def locked(handle, path):
        with real(handle, path):
            journal.unlink()
            yield

    monkeypatch.setattr(commit, "_locked", locked)
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
    assert commit._unpack(commit._pack(*content)) == content


def test_restoring_writes_what_seems_restored_already(kinds, interrupted, monkeypatch):
    """After a failed fsync the system shows what it could not write."""
    old = kinds["v110"][0]
    spans = commit._unpack((interrupted.parent / JOURNAL).read_bytes())[2]
    with monkeypatch.context() as patch:
        fail_at(patch, interrupted, len(spans) + 1, OSError(errno.EIO, "Broken"))  # the sync
        with pytest.raises(OSError, match="could not be restored"):
            recover(interrupted)
    assert interrupted.read_bytes() == old
    steps = record(monkeypatch, interrupted, lambda: recover(interrupted))
    written = [place for (what, _, place, when), _ in steps if (what, when) == ("_write", "after")]
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
    real = commit._pack
    monkeypatch.setattr(commit, "_pack", lambda *a: (sizes.append(len(real(*a))), real(*a))[1])
    with changed_file(v110) as h5:
        h5["new"] = np.zeros(100_000)
    assert sizes[0] < 5000


# The overlay


class Model:
    """The same as a plain buffer."""

    def __init__(self, data):
        self.file = io.BytesIO(data)

    def truncate(self, size):
        self.file.truncate(size)
        self.file.seek(0, os.SEEK_END)
        self.file.write(bytes(max(0, size - self.file.tell())))


places = st.integers(0, 3 * commit._PAGE + 700)
blocks = st.tuples(st.sampled_from([0, 1, 5, 700, 4096, 9000]), st.integers(0, 255))
steps = st.one_of(
    st.tuples(st.just("write"), places, blocks),
    st.tuples(st.just("read"), places, st.sampled_from([0, 3, 4096, 10000])),
    st.tuples(st.just("readinto"), places, st.sampled_from([0, 3, 4096, 10000])),
    st.tuples(st.just("truncate"), places),
)


@settings(max_examples=200, deadline=None)
@given(size=st.sampled_from([0, 1, 4096, 5000, 9001]), actions=st.lists(steps, max_size=25))
def test_overlay(size, actions):
    old = (bytes(range(1, 256)) * 40)[:size]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "file")
        path.write_bytes(old)
        with open(path, "r+b", buffering=0) as handle:
            overlay, model = commit._Overlay(handle, path), Model(old)
            for action, *rest in actions:
                if action == "truncate":
                    model.truncate(rest[0])
                    overlay.truncate(rest[0])
                elif action == "write":
                    place, (count, value) = rest
                    data = bytes([value]) * count
                    for file in (overlay, model.file):
                        file.seek(place)
                        assert file.write(memoryview(data)) == count
                    assert overlay.tell() == model.file.tell()
                elif action == "read":
                    found = []
                    for file in (overlay, model.file):
                        file.seek(rest[0])
                        found.append(file.read(rest[1]))
                    assert found[0] == found[1]
                else:
                    found = []
                    for file in (overlay, model.file):
                        file.seek(rest[0])
                        data = (
                            bytearray(rest[1]) if file is model.file else bytearray(b"x" * rest[1])
                        )
                        found.append((file.readinto(data), data))
                    assert found[0] == found[1]  # zeros beyond the end
                assert overlay.seek(0, os.SEEK_END) == model.file.seek(0, os.SEEK_END)
            assert overlay.failure is None
            assert path.read_bytes() == old
            changes, final = overlay.changes(), model.file.getvalue()
            patched = bytearray(old)
            for offset, before, after in changes:
                assert patched[offset : offset + len(before)] == before != after
                patched[offset : offset + len(after)] = after
            assert bytes(patched + overlay.tail) == final + old[len(final) :]


def test_only_net_changes_count(v110):
    with open(v110, "r+b", buffering=0) as handle:
        overlay = commit._Overlay(handle, v110)
        old = overlay.content(100, 200)
        overlay.seek(100)
        overlay.write(bytes(100))
        overlay.seek(100)
        overlay.write(old)
        assert overlay.changes() == []
        for place in (5000, 5020, 9000, 13097):
            overlay.seek(place)
            overlay.write(bytes([255 - overlay.content(place, place + 1)[0]]))
        assert [(offset, len(old)) for offset, old, _ in overlay.changes()] == [
            (5000, 4001),  # as few writes as can be, in pages that change anyway
            (13097, 1),
        ]


# New files


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
    with pytest.raises(FileExistsError, match=r"m.rtdc: exists already"), new_file(path) as h5:
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
    with pytest.raises(FileExistsError, match=r"m.rtdc: exists already"), new_file(path):
        pytest.fail("too late")
    check_unchanged(path, b"mine")
    path.unlink()
    with pytest.raises(FileExistsError, match=r"m.rtdc: exists already"), new_file(path) as h5:
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


def test_new_file_killed_at_any_moment(path, monkeypatch, way):
    def run():
        with new_file(path) as h5:
            h5["a"] = np.arange(1000)

    moments = record(monkeypatch, path, run)
    assert [what[:2] for what, _ in moments if what[-1] == "after"] == [
        ("_write", "hidden"),
        ("_sync", "hidden"),
        ("_sync_folder", "folder"),
    ]
    whole = path.read_bytes()
    for _, files in moments:
        assert way == "named" or files == without_litter(files)
        assert without_litter(files) in ({}, {path.name: whole})


def test_journal_can_be_read_by_people():
    head, _, content = commit._pack(100, 50, [(10, b"\x01", b"\x02")]).partition(b"\n")
    assert head.startswith(b"sparsemed journal 1 ")
    assert json.loads(content) == [100, 50, [[10, "01", "02"]]]
