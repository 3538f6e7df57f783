import os
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest

from sparsemed.storage.stored import LocalBytes, file_state

CONTENT = bytes(range(256)) * 100


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture(params=["preadv", "seek", "by name"])
def stored(path, request, monkeypatch):
    """Bytes of a file that somebody has open, as read on this system and on others."""
    if request.param == "preadv" and not hasattr(os, "preadv"):
        pytest.skip("not on this system")
    if request.param == "seek":
        monkeypatch.delattr(os, "preadv", raising=False)
    with open(path, "rb") as file:
        stored = LocalBytes(path, None if request.param == "by name" else file.fileno())
        yield stored
        stored.close()


def read(stored, start, stop):
    buffer = bytearray(stop - start)
    assert stored.read_into(memoryview(buffer), start)
    return bytes(buffer)


def test_bytes_are_those_of_the_file(stored):
    assert stored.size == len(CONTENT)
    assert read(stored, 0, len(CONTENT)) == CONTENT
    assert read(stored, 300, 301) == CONTENT[300:301]
    assert read(stored, 7, 7) == b""


def test_what_is_not_there_is_told(stored):
    assert not stored.read_into(memoryview(bytearray(2)), len(CONTENT) - 1)
    assert not stored.read_into(memoryview(bytearray(1)), len(CONTENT) + 1)


def test_many_threads_read_at_once(stored):
    places = range(0, len(CONTENT) - 100, 97)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda start: read(stored, start, start + 100), places))
    assert found == [CONTENT[start : start + 100] for start in places]


@pytest.mark.skipif(not hasattr(os, "preadv"), reason="needs POSIX")
def test_a_system_that_returns_less_than_asked_for_is_asked_again(path, monkeypatch):
    real = os.preadv

    def half(descriptor, buffers, offset):
        (buffer,) = buffers
        return real(descriptor, [buffer[: max(1, len(buffer) // 2)]], offset)

    monkeypatch.setattr(os, "preadv", half)
    with open(path, "rb") as file:
        assert read(LocalBytes(path, file.fileno()), 3, 5000) == CONTENT[3:5000]


def test_the_state_differs_once_somebody_has_changed_the_file(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stored = LocalBytes("file")
    monkeypatch.chdir("/")  # the working folder may change
    before = stored.state
    assert before == file_state(path) == stored.state
    with open(path, "ab") as file:
        file.write(b"more")
    assert stored.state not in (before, ())
    path.unlink()
    assert stored.state == ()
    assert file_state(path / "within a file") == ()


def test_what_was_opened_is_closed(path):
    stored = LocalBytes(path)
    stored.close()  # nothing was
    assert read(stored, 0, 3) == CONTENT[:3]
    stored.close()
    assert stored._file.closed


def test_a_file_is_known_by_where_it_really_is(path, tmp_path):
    (tmp_path / "link").symlink_to(path)
    stored, linked = LocalBytes(path), LocalBytes(tmp_path / "link")
    assert stored.key == linked.key == os.path.realpath(path)
    assert linked.name == str(linked) == str(tmp_path / "link")
    assert LocalBytes(tmp_path / "other").key != stored.key


def test_the_same_bytes_are_opened_elsewhere(path):
    opener = pickle.loads(pickle.dumps(LocalBytes(path).opener()))
    again = opener()
    assert read(again, 7, 300) == CONTENT[7:300]
    again.close()
    written = path.stat().st_mtime_ns
    os.utime(path, ns=(written, written + 10**9))  # not all file systems keep fractions
    assert opener().size == len(CONTENT)
    os.utime(path, ns=(written, written + 3 * 10**9))
    with pytest.raises(OSError, match=f"^{path}: is another file for a worker"):
        opener()
    path.write_bytes(b"short")
    os.utime(path, ns=(written, written))
    with pytest.raises(OSError, match="is another file for a worker"):
        opener()
    path.unlink()
    with pytest.raises(OSError, match=f"^{path}: is missing for a worker"):
        opener()


def test_a_file_needs_not_be_told_what_to_expect(stored):
    stored.expect(pytest.fail(f"range {n}") for n in range(3))
    assert read(stored, 3, 9) == CONTENT[3:9]
    assert min(stored.habits) > 0
