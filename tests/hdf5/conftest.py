"""Files of several formats, and ways to write them."""

import h5py
import pytest
from hdf5.files import apply, build, change, contents, linux, record, restore

from sparsemed.hdf5 import commit
from sparsemed.storage import disk


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


@pytest.fixture
def path(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    return folder / "m.rtdc"


@pytest.fixture
def v110(kinds, path):
    path.write_bytes(kinds["v110"][0])
    return path


@pytest.fixture(params=[pytest.param("nameless", marks=linux), "named"])
def way(request, monkeypatch):
    """How new files and journals come into being: without a name, where the system can, or with."""
    if request.param == "named":
        monkeypatch.setattr(disk, "_create_nameless", lambda *_: False)
    return request.param


@pytest.fixture
def interrupted(v110, monkeypatch):
    """A file whose change was killed between two patches, with its journal."""
    moments = record(monkeypatch, v110, lambda: apply(v110))
    half = [i for i, (what, _) in enumerate(moments) if what[:2] == ("write", "m.rtdc")]
    restore(v110, moments[half[len(half) // 2 + 1]][1])
    return v110
