"""A crash at any moment leaves the old state or the new one."""

import itertools
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from hdf5.files import (
    JOURNAL,
    KINDS,
    LOAD,
    apply,
    check_unchanged,
    contents,
    listing,
    posix,
    record,
    restore,
    without_litter,
)

from sparsemed.hdf5.commit import new_file
from sparsemed.hdf5.journal import recover
from sparsemed.storage import disk


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
    appended = [("write", "m.rtdc"), ("sync", "m.rtdc")]
    assert order == [
        ("write", "hidden"),
        ("sync", "hidden"),
        ("sync_folder", "folder"),
        *appended,
        ("write", "m.rtdc"),
        ("sync", "m.rtdc"),
        ("remove", JOURNAL),
        ("sync_folder", "folder"),
    ]

    patches = [
        number
        for number, ((what, name, place, _), _) in enumerate(moments)
        if (what, name) == ("write", "m.rtdc") and place < len(old)
    ]
    removal = next(
        i
        for i, (what, _) in enumerate(moments)
        if what == (*what[:3], "after") and what[0] == "remove"
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
        ending = ["remove", "sync_folder"]
        assert order == ending or order[-4:] == ["truncate", "sync", *ending]
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

        spy(disk, "write", self.write)
        spy(disk, "sync", lambda handle: self.log.append(("sync", self.inode(handle.fileno()))))
        spy(disk, "sync_folder", lambda _: self.log.append(("sync folder",)))
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


def test_new_file_killed_at_any_moment(path, monkeypatch, way):
    def run():
        with new_file(path) as h5:
            h5["a"] = np.arange(1000)

    moments = record(monkeypatch, path, run)
    assert [what[:2] for what, _ in moments if what[-1] == "after"] == [
        ("write", "hidden"),
        ("sync", "hidden"),
        ("sync_folder", "folder"),
    ]
    whole = path.read_bytes()
    for _, files in moments:
        assert way == "named" or files == without_litter(files)
        assert without_litter(files) in ({}, {path.name: whole})
