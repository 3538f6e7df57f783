import errno
import os
import subprocess
import sys

import h5py
import numpy as np
import pytest
from hdf5.files import files_open

from sparsemed.hdf5.entries import Attributes, entry, has_entry, subgroup
from sparsemed.hdf5.file_access import FileAccess
from sparsemed.hdf5.opening import open_untouched
from sparsemed.storage.stored import UNSUPPORTED


@pytest.fixture
def h5(tmp_path):
    with h5py.File(tmp_path / "file.rtdc", "w") as h5:
        h5["events/image"] = np.zeros((3, 2, 2), np.uint8)
        h5["events/näme"] = h5py.SoftLink("image")
        h5["events/up"] = h5py.SoftLink("/")
        h5["events/nowhere"] = h5py.SoftLink("/gone/x")
        h5["events/away"] = h5py.ExternalLink("gone.rtdc", "/x")
        h5.attrs["number"] = 3
        yield h5


@pytest.mark.parametrize(
    "path",
    ["image", "./image", "/events/image", "//events/./image/", "näme", "up/events/up/events/näme"],
)
def test_entries_are_those_of_h5py(h5, path):
    assert entry(h5["events"], path) == h5["events"][path] == h5["events/image"]


@pytest.mark.parametrize(
    "path", ["gone", "gone/image", "image/x", "nowhere", "../events", "i\0", 3, None, "\ud800", []]
)
def test_what_is_not_there(h5, path):
    assert entry(h5["events"], path) is None


def test_links_to_other_files_need_a_reach(h5, tmp_path):
    message = r"file\.rtdc: events/away \(external link\): leads to '?.*gone\.rtdc'?, "
    with pytest.raises(ValueError, match=f"{message}another file, and is not followed"):
        entry(h5, "events/away")
    with pytest.raises(ValueError, match=f"{message}which does not exist"):
        entry(h5, "events/away", FileAccess(tmp_path / "file.rtdc", "any"))
    with h5py.File(tmp_path / "gone.rtdc", "w") as other:
        other["x"] = 3
    access = FileAccess(tmp_path / "file.rtdc", "same-folder")
    assert entry(h5, "events/away", access)[()] == 3
    access.close()
    with h5py.File(tmp_path / "gone.rtdc", "a"):  # it is closed
        pass


def test_holds_follows_no_last_link(h5):
    for name in ("image", "nowhere", "away", "up/events/away"):
        assert has_entry(h5, f"events/{name}")
    for name in ("gone", "gone/x", "image/x", "nowhere/x", ""):
        assert has_entry(h5, f"events/{name}") == (name == "")
    with pytest.raises(ValueError, match="is not followed"):
        has_entry(h5, "events/away/x")


def test_groups(h5):
    assert subgroup(h5, "events") == h5["events"]
    assert subgroup(h5, "gone") is None
    with pytest.raises(ValueError, match=r"file\.rtdc: events/image is not a group"):
        subgroup(h5, "events/image")


def test_a_file_that_is_replaced_while_it_is_opened(h5, tmp_path, monkeypatch):
    h5["x"] = 1
    h5.close()
    path, other = tmp_path / "file.rtdc", tmp_path / "other.rtdc"
    other.write_bytes(path.read_bytes())
    real = h5py.File

    def replace_first(*arguments):
        other.replace(path)
        return real(*arguments)

    monkeypatch.setattr("sparsemed.hdf5.opening.h5py.File", replace_first)
    with pytest.raises(OSError, match=r"file\.rtdc: was replaced by another file") as raised:
        FileAccess(path, "any").open(path)
    assert raised.tb  # what was raised still holds on to everything
    assert str(path) not in files_open()


@pytest.mark.parametrize("number", [*sorted(UNSUPPORTED), errno.EAGAIN, errno.EIO])
def test_a_file_system_that_knows_no_locks_is_done_without_and_no_other(
    h5, tmp_path, monkeypatch, number
):
    h5.close()
    path, real = tmp_path / "file.rtdc", h5py.File

    def refuse_locks(*arguments, locking=True, **options):
        if locking:
            raise OSError(number, f"unable to lock file, errno = {number}")
        return real(*arguments, locking=locking, **options)

    monkeypatch.setattr("sparsemed.hdf5.opening.h5py.File", refuse_locks)
    if number in UNSUPPORTED:
        with open_untouched(path) as found:
            assert found.mode == "r"
        return
    with pytest.raises(OSError, match=r"file\.rtdc: "):
        open_untouched(path)


def test_a_percent_sign_in_the_name_of_a_source_is_no_pattern(tmp_path):
    with h5py.File(tmp_path / "100%b.rtdc", "w") as h5:
        h5["image"] = np.full((3, 4, 5), 7, np.uint8)
    layout = h5py.VirtualLayout((3, 4, 5), "u1")
    layout[:] = h5py.VirtualSource("100%%b.rtdc", "image", (3, 4, 5), "u1")
    with h5py.File(tmp_path / "in.rtdc", "w") as h5:
        h5.create_virtual_dataset("image", layout)
    with h5py.File(tmp_path / "in.rtdc") as h5:
        found = entry(h5, "image", FileAccess(tmp_path / "in.rtdc", "any"))
        assert (found[:] == 7).all()


def test_attributes_are_those_of_h5py(h5):
    assert dict(Attributes(h5)) == dict(h5.attrs) == {"number": 3}
    assert Attributes(h5).get("gone") is None
    assert len(Attributes(h5)) == 1


LOOK = """
import sys
from sparsemed.hdf5.entries import entry
from sparsemed.hdf5.file_access import FileAccess

for basins in ("any", "same-folder"):
    access = FileAccess(sys.argv[1], basins)
    try:
        print(entry(access.open_own(), "image", access)[0, 0, 0])
    except ValueError as error:
        print(error)
    access.close()
"""


def look(path, **environment):
    """Look at the images of a file in another process, as HDF5 looks at variables but once.

    Returns what there is with basins="any", and with "same-folder".
    """
    done = subprocess.run(
        [sys.executable, "-c", LOOK, path.name],
        env=os.environ | environment,
        cwd=path.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


@pytest.fixture
def two_folders(tmp_path):
    """Make two folders with files of the same names, of ones and of twos."""
    for number, folder in enumerate(("home", "away"), 1):
        (tmp_path / folder).mkdir()
        images = np.full((3, 4, 5), number, np.uint8)
        images.tofile(tmp_path / folder / "raw.raw")
        with h5py.File(tmp_path / folder / "raw.rtdc", "w") as h5:
            h5["image"] = images
    return tmp_path / "home" / "in.rtdc", tmp_path / "away"


@pytest.mark.parametrize("prefix", ["{away}", "${{ORIGIN}}/../away"])
def test_storage_is_looked_for_where_hdf5_will_find_it(two_folders, prefix):
    path, away = two_folders
    with h5py.File(path, "w") as h5:
        h5.create_dataset("image", (3, 4, 5), "u1", external=[("raw.raw", 0, 60)])
    prefix = {"HDF5_EXTFILE_PREFIX": prefix.format(away=away)}
    found, refused = look(path, **prefix)
    assert found == "2"
    assert "'same-folder' does not follow" in refused
    (away / "raw.raw").unlink()
    for refused in look(path, **prefix):
        assert "which does not exist" in refused


@pytest.mark.parametrize("prefix", ["{away}", "${{ORIGIN}}/../away", "/gone:{away}"])
def test_virtual_sources_are_looked_for_where_hdf5_will_find_them(two_folders, prefix):
    path, away = two_folders
    layout = h5py.VirtualLayout((3, 4, 5), "u1")
    layout[:] = h5py.VirtualSource("raw.rtdc", "image", (3, 4, 5), "u1")
    with h5py.File(path, "w") as h5:
        h5.create_virtual_dataset("image", layout)
    prefix = {"HDF5_VDS_PREFIX": prefix.format(away=away)}
    found, refused = look(path, **prefix)
    assert found == "2"
    assert "'same-folder' does not follow" in refused
    path.with_name("raw.rtdc").unlink()
    found, refused = look(path, **prefix)
    assert found == "2"
    assert "'same-folder' does not follow" in refused


def test_without_these_variables_files_are_those_beside(two_folders):
    path, _ = two_folders
    layout = h5py.VirtualLayout((3, 4, 5), "u1")
    layout[:] = h5py.VirtualSource("raw.rtdc", "image", (3, 4, 5), "u1")
    with h5py.File(path, "w") as h5:
        h5.create_virtual_dataset("image", layout)
    assert look(path) == ["1", "1"]
