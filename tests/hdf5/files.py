"""Files to change, what is in them, and who stands in the way."""

import errno
import io
import itertools
import os
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
import portalocker
import pytest

from sparsemed.hdf5.commit import changed_file
from sparsemed.storage import disk

posix = pytest.mark.skipif(os.name == "nt", reason="needs POSIX")

linux = pytest.mark.skipif(not hasattr(os, "O_TMPFILE"), reason="needs files without a name")

ACTIONS = ("write", "truncate", "sync", "sync_folder", "remove")

JOURNAL = "m.rtdc.sparsemed-journal"

LOAD = (
    "import os, resource, signal, sys, h5py, numpy as np\n"
    "from sparsemed.hdf5 import commit\n"
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


KINDS = ["earliest", "v108", "v110", "latest", "user block", "user block, latest", "pages"]


def listing(path):
    return sorted(entry.name for entry in path.parent.iterdir())


def check_unchanged(path, old):
    assert path.read_bytes() == old
    assert listing(path) == [path.name]


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
            if action == "write" and len(rest[1]) > 1:
                real(target, place, rest[1][: len(rest[1]) // 2])
                note((action, name, place, "half"))
            real(target, *rest)
            note((action, name, place, "after"))

        return act

    with monkeypatch.context() as patch:
        for action in ACTIONS:
            patch.setattr(disk, action, stop_at(action, getattr(disk, action)))
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


def without_litter(files):
    return {name: data for name, data in files.items() if not name.endswith(".tmp")}


def fail_at(monkeypatch, path, number, error, forever=False):
    """Let the given action fail, halfway if it is a write; return which it was."""
    count = itertools.count()
    hit = []

    def make(action, real):
        def act(target, *rest):
            now = next(count)
            if now == number or (forever and now > number):
                hit[:] = hit or [action, (path.parent / JOURNAL).exists()]
                if action == "write":
                    place, data = rest
                    real(target, place, data[: len(data) // 2])
                if action == "remove" and isinstance(error, KeyboardInterrupt):
                    real(target)
                raise error
            return real(target, *rest)

        return act

    for action in ACTIONS:
        monkeypatch.setattr(disk, action, make(action, getattr(disk, action)))
    return hit


def no_locks(number=errno.ENOLCK):
    def lock(handle, flags):
        try:
            raise OSError(number, os.strerror(number))
        except OSError as error:
            raise portalocker.LockException(error) from error

    return lock


class Model:
    """The same as a plain buffer."""

    def __init__(self, data):
        self.file = io.BytesIO(data)

    def truncate(self, size):
        self.file.truncate(size)
        self.file.seek(0, os.SEEK_END)
        self.file.write(bytes(max(0, size - self.file.tell())))


def files_open():
    """Return the names of the HDF5 files that this process has open."""
    ids = h5py.h5f.get_obj_ids(types=h5py.h5f.OBJ_FILE)
    return {os.fsdecode(h5py.h5f.get_name(each)) for each in ids}
