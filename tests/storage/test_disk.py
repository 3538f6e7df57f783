import errno
import io
import os

import pytest

from sparsemed.storage import disk
from sparsemed.storage.stored import UNSUPPORTED


def fail(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("before", [None, b"an earlier page"])
def test_what_is_replaced_is_whole(tmp_path, before):
    path = tmp_path / "page.html"
    if before is not None:
        path.write_bytes(before)
    disk.replace(path, b"new" * 10**6)
    assert path.read_bytes() == b"new" * 10**6
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("action", ["write", "sync"])
@pytest.mark.parametrize("before", [None, b"an earlier page"])
def test_what_cannot_be_replaced_stays(tmp_path, monkeypatch, action, before):
    path = tmp_path / "page.html"
    if before is not None:
        path.write_bytes(before)
    monkeypatch.setattr(disk, action, fail)
    with pytest.raises(OSError, match=r"page\.html: could not be written; make room or choose"):
        disk.replace(path, b"new")
    assert [each.read_bytes() for each in tmp_path.iterdir()] == [before] * (before is not None)


def test_large_writes_go_piece_by_piece_and_short_ones_go_on(tmp_path):
    class Slow:
        """A file that takes at most 1000 bytes at once."""

        def __init__(self, handle):
            self.handle, self.sizes = handle, []

        def seek(self, offset):
            self.handle.seek(offset)

        def write(self, data):
            self.sizes.append(len(data))
            return self.handle.write(data[:1000])

    data = os.urandom(5000)
    with open(tmp_path / "file", "xb", buffering=0) as handle:
        disk.write(Slow(handle), 3, data)
    assert (tmp_path / "file").read_bytes() == bytes(3) + data


def test_reading_beyond_the_end_yields_what_there_is(tmp_path):
    (tmp_path / "file").write_bytes(b"0123456789")
    with open(tmp_path / "file", "rb", buffering=0) as handle:
        assert disk.read(handle, 3, 7) == b"3456"
        assert disk.read(handle, 8, 100) == b"89"
        assert disk.read(handle, 100, 200) == b""
        assert disk.read(handle, 5, 2) == b""
        assert disk.size(handle) == 10


def test_a_folder_must_be_there(tmp_path):
    disk.check_folder(tmp_path / "file")
    with pytest.raises(FileNotFoundError, match=r"file: the folder does not exist; create it"):
        disk.check_folder(tmp_path / "gone" / "file")
    (tmp_path / "no folder").touch()
    with pytest.raises(FileNotFoundError, match="the folder does not exist"):
        disk.check_folder(tmp_path / "no folder" / "file")


def test_errors_of_ours_are_named_once(tmp_path):
    with (
        pytest.raises(OSError, match=r"^says it already$"),
        disk.naming(tmp_path / "file", "could not be changed"),
    ):
        raise OSError("says it already")
    with (
        pytest.raises(OSError, match=r"file: could not be changed \(No space left on device\)$"),
        disk.naming(tmp_path / "file", "could not be changed"),
    ):
        fail()


class Sparing(io.FileIO):
    """A file of which the system returns and takes less than it is asked to."""

    def readinto(self, buffer):
        view = memoryview(buffer)
        return super().readinto(view[: max(1, len(view) // 2)])

    def write(self, data):
        return super().write(data[: max(1, len(data) // 2)])


def test_a_system_that_does_half_of_what_it_is_asked_to_is_asked_again(tmp_path):
    content = bytes(range(256)) * 20
    with Sparing(tmp_path / "file", "w+") as handle:
        disk.write(handle, 3, content)
        assert disk.read(handle, 3, 3 + len(content)) == content
        assert disk.read(handle, 100, 10**6) == content[97:]
    assert (tmp_path / "file").read_bytes() == bytes(3) + content


# Permissions are found out by trying


@pytest.mark.parametrize("nameless", [True, False])
def test_nothing_is_left_of_a_trial(tmp_path, monkeypatch, nameless):
    if not nameless:
        monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    monkeypatch.setattr(os, "access", lambda *_: False)
    (tmp_path / "file").write_bytes(b"old")
    before = os.stat(tmp_path / "file")
    assert disk.can_create_in(tmp_path)
    assert disk.can_write(tmp_path / "file")
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() == b"old"
    assert os.stat(tmp_path / "file").st_mtime_ns == before.st_mtime_ns


@pytest.mark.parametrize(
    ("reason", "is_allowed"),
    [("EACCES", False), ("EPERM", False), ("EROFS", False), ("ENOSPC", True), ("EDQUOT", True)],
)
def test_only_what_is_forbidden_counts(tmp_path, monkeypatch, reason, is_allowed):
    def refuse(*_, **__):
        raise OSError(getattr(errno, reason), reason)

    (tmp_path / "file").touch()
    monkeypatch.setattr(os, "open", refuse)
    monkeypatch.setattr("builtins.open", refuse)
    assert disk.can_create_in(tmp_path) is is_allowed
    assert disk.can_write(tmp_path / "file") is is_allowed


# Others hold a file for a moment, which matters on Windows


@pytest.fixture
def held(monkeypatch):
    """Let the system forbid one of its actions a number of times."""
    monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    monkeypatch.setattr(disk, "_PATIENCE", 0.5)

    def hold(action, times):
        real = getattr(os, action)
        left = [times]

        def act(*arguments, **options):
            if left[0]:
                left[0] -= 1
                raise PermissionError(errno.EACCES, "Permission denied")
            return real(*arguments, **options)

        monkeypatch.setattr(os, action, act)
        return left

    return hold


def remove(path):
    path.write_bytes(b"")
    disk.remove(path)


ACTIONS = {
    "link": lambda path: disk.create(path, b"new"),
    "replace": lambda path: disk.replace(path, b"new"),
    "unlink": remove,
}


@pytest.mark.parametrize("action", ACTIONS)
def test_a_file_that_is_held_for_a_moment(tmp_path, held, action):
    left = held(action, 4)
    ACTIONS[action](tmp_path / "file")
    assert left == [0]
    found = {entry.name: entry.read_bytes() for entry in tmp_path.iterdir()}
    assert found == ({} if action == "unlink" else {"file": b"new"})


def test_a_file_that_is_held_where_there_are_no_links(tmp_path, held, monkeypatch):
    monkeypatch.setattr(os, "link", fail)
    held("rename", 4)
    disk.create(tmp_path / "file", b"new")
    assert [entry.read_bytes() for entry in tmp_path.iterdir()] == [b"new"]


@pytest.mark.parametrize("action", ["replace", "unlink"])
@pytest.mark.parametrize("patience", [0.0, 0.1])
def test_patience_has_an_end(tmp_path, held, monkeypatch, action, patience):
    monkeypatch.setattr(disk, "_PATIENCE", patience)
    left = held(action, 10**9)
    with pytest.raises(PermissionError):
        ACTIONS[action](tmp_path / "file")
    assert (10**9 - left[0] > 1) == bool(patience)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"] * (action == "unlink")


def test_there_is_no_patience_where_it_is_not_needed():
    assert bool(disk._PATIENCE) is (os.name == "nt")


@pytest.mark.parametrize("work", [disk.create, disk.replace])
def test_a_temporary_file_that_stays_is_a_warning(tmp_path, held, monkeypatch, caplog, work):
    monkeypatch.setattr(disk, "_PATIENCE", 0.05)
    held("unlink", 10**9)
    if work is disk.replace:
        monkeypatch.setattr(os, "replace", lambda old, new: new.write_bytes(old.read_bytes()))
    work(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"
    (left,) = (entry for entry in tmp_path.iterdir() if entry.name != "file")
    (said,) = caplog.messages
    assert said.startswith(f"{left}: is a temporary file that could not be removed")
    assert said.endswith("delete it")


def test_an_error_is_not_hidden_by_a_temporary_file_that_stays(tmp_path, held, monkeypatch, caplog):
    monkeypatch.setattr(disk, "_PATIENCE", 0.0)
    held("unlink", 10**9)
    monkeypatch.setattr(disk, "sync", fail)
    with pytest.raises(OSError, match="No space left on device"):
        disk.create(tmp_path / "file", b"new")
    assert "could not be removed" in caplog.text


@pytest.mark.parametrize("is_folder", [False, True])
def test_what_is_replaced_stays_until_the_other_is_whole(tmp_path, is_folder):
    path = tmp_path / "result"

    def write(place, text):
        if is_folder:
            place.mkdir()
            place = place / "inside"
        place.write_text(text)

    def read():
        return (path / "inside" if is_folder else path).read_text()

    for text in ("first", "second"):
        with disk.replacing(path) as temporary:
            write(temporary, text)
        assert read() == text

    def fail():
        with disk.replacing(path) as temporary:
            write(temporary, "half")
            raise ValueError("in between")

    with pytest.raises(ValueError, match="in between"):
        fail()
    assert read() == "second"
    assert [each.name for each in tmp_path.iterdir()] == ["result"]


@pytest.mark.skipif(os.name == "nt", reason="Windows opens no folders")
@pytest.mark.parametrize("number", [*sorted(UNSUPPORTED), errno.EIO])
def test_folders_are_synced_where_the_system_can(tmp_path, monkeypatch, number):
    seen = []

    def fail(descriptor):
        seen.append(descriptor)
        raise OSError(number, "by order of the test")

    monkeypatch.setattr(os, "fsync", fail)
    if number in UNSUPPORTED:
        disk.sync_folder(tmp_path)
    else:
        with pytest.raises(OSError, match="by order"):
            disk.sync_folder(tmp_path)
    with pytest.raises(OSError, match="Bad file descriptor"):  # it is closed
        os.fstat(seen[0])
