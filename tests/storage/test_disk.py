import errno
import io
import os

import pytest

from sparsemed.storage import disk


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
