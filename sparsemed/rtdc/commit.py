"""Write HDF5 files so that a crash at any moment leaves the old state or the new one.

HDF5 never writes to the disk itself: it works on an overlay, which reads from the file and keeps
every change in memory. Once HDF5 is done, a journal of the few bytes about to be replaced is laid
beside the file. Then what is new is appended behind the old end, where no reader looks yet; then
the few bytes are patched; then the journal is removed. As long as there is a journal, the change
has not happened, and `recover` restores the old state from it.
"""

import contextlib
import errno
import hashlib
import io
import json
import os
import secrets
import signal
import threading
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from types import FrameType
from typing import Any

import h5py
import numpy as np
import portalocker
from numpy.typing import NDArray

# "latest" alone means the format of the installed library: what HDF5 2 writes, HDF5 1 cannot read
_LIBVER = ("v110", "latest")
_PAGE = 4096
_NEAR = 64  # changed bytes closer than this are patched together
_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_MAGIC = b"sparsemed journal 1 "
_UNSUPPORTED = {errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.ENOSYS, errno.EINVAL}

_Change = tuple[int, bytes, bytes]  # offset, old bytes, new bytes


@contextlib.contextmanager
def new_file(path: str | PathLike[str]) -> Iterator[h5py.File]:
    """Create an HDF5 file that appears under its name only when it is complete.

    Until the body has finished, the content is kept in memory.

    Parameters
    ----------
    path : str or path
        The file; it must not exist.

    Yields
    ------
    h5py.File
        The file, open for writing.

    Raises
    ------
    FileExistsError
        If the file exists, or came into existence in the meantime.
    OSError
        If the folder is missing, or the file cannot be written.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path}: the folder does not exist; create it first")
    _check_absent(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    failed = "could not be created; make room or choose another folder, and run again"
    try:
        with _naming(path, failed):
            handle = open(temporary, "xb", buffering=0)  # noqa: SIM115
        with handle:
            overlay = _Overlay(handle, path)
            with _hdf5_on(overlay, "w") as h5:
                yield h5
            with _naming(path, failed):
                _write(handle, 0, overlay.tail)
                _sync(handle)
        with _naming(path, failed):
            _publish(temporary, path)
            _sync_folder(path.parent)
    finally:
        # after an error this is the file, after success its second name
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def changed_file(path: str | PathLike[str]) -> Iterator[h5py.File]:
    """Change an existing HDF5 file wholly or, if anything fails, not at all.

    The file itself changes only after the body has finished; until then other
    programs read it undisturbed, and new content is kept in memory.

    Parameters
    ----------
    path : str or path
        The file. When the body has finished, no one else may have it open.

    Yields
    ------
    h5py.File
        The file, open for reading and writing.

    Raises
    ------
    PermissionError
        If the file or its folder is read-only.
    OSError
        If the file is missing or not HDF5, is open or was changed elsewhere,
        or cannot be written.
    """
    path = Path(os.path.realpath(path))  # a journal lies beside the file, not beside a link to it
    recover(path)
    with _open_for_writing(path) as handle:
        state = _state(path)
        overlay = _Overlay(handle, path)
        with _hdf5_on(overlay, "r+") as h5:
            yield h5
        _commit(path, handle, overlay, state)


def recover(path: str | PathLike[str]) -> bool:
    """Undo a change that was interrupted, if there was one.

    Parameters
    ----------
    path : str or path
        The file.

    Returns
    -------
    bool
        Whether a change was undone.

    Raises
    ------
    PermissionError
        If there is something to undo, but the file or its folder is read-only.
    OSError
        If another process is writing the file, or if the journal does not fit
        the file. The journal then stays where it is.
    """
    path = Path(os.path.realpath(path))
    journal = _journal(path)
    if not journal.exists():
        return False
    if not path.exists():
        raise OSError(
            f"{path}: is missing, but its journal {journal.name} is there; "
            "put the file back, or delete the journal"
        )
    failed = _naming(path, f"could not be restored; keep {journal.name} and try again")
    with _open_for_writing(path) as handle, _locked(handle, path), failed:
        # whoever held the lock may just have finished
        return journal.exists() and _roll_back(path, handle)


class _Overlay:
    """A file for h5py: a real one, with all changes kept in memory.

    HDF5 calls its methods and loses their exceptions, or crashes on them. So
    they raise none, but note the first failure.
    """

    def __init__(self, handle: io.FileIO, path: Path) -> None:
        self.handle = handle
        self.path = path
        self.old_size = _size(handle)
        self.shown = self.old_size  # the file shows only up to here, if it was cut
        self.size = self.old_size
        self.pages: dict[int, bytearray] = {}  # changed pages of the file
        self.tail = bytearray()  # all that lies beyond its old end
        self.position = 0
        self.is_open = False
        self.failure: BaseException | None = None

    def __repr__(self) -> str:
        return str(self.path)  # h5py takes it for the file name

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self.position = offset + (self.size if whence == os.SEEK_END else 0)
        return self.position

    def tell(self) -> int:
        return self.position

    def read(self, count: int) -> bytes:
        data = bytearray(count)
        return bytes(data[: self.readinto(data)])

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        try:
            view[:] = self.content(self.position, self.position + len(view))
            if self.is_open and view == _SIGNATURE:  # HDF5 takes this for the file linked to
                raise OSError("links to other files cannot be followed during a change")
        except BaseException as error:
            self.failure = self.failure or error
            view[:] = bytes(len(view))
        count = max(0, min(len(view), self.size - self.position))
        self.position += count
        return count

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        try:
            self._put(self.position, view)
        except BaseException as error:
            self.failure = self.failure or error
        self.position += len(view)
        return len(view)

    def truncate(self, size: int) -> int:
        try:
            self._resize(size)
        except BaseException as error:
            self.failure = self.failure or error
        return size

    def flush(self) -> None:
        pass

    def content(self, start: int, stop: int) -> bytearray:
        """Return the bytes from start to stop; beyond the end these are zeros."""
        data = _read(self.handle, start, min(stop, self.shown))
        data.extend(bytes(stop - start - len(data)))
        inside = max(start, min(stop, self.old_size))
        for number in range(start // _PAGE, -(-inside // _PAGE)):
            if (page := self.pages.get(number)) is not None:
                first, last = max(start, number * _PAGE), min(inside, (number + 1) * _PAGE)
                data[first - start : last - start] = page[first % _PAGE :][: last - first]
        first = max(start, self.old_size)
        new = self.tail[first - self.old_size : max(0, stop - self.old_size)]
        data[first - start : first - start + len(new)] = new
        return data

    def changes(self) -> list[_Change]:
        """Return where the old part of the file has become different."""
        end = min(self.size, self.old_size)
        cut = range(self.shown // _PAGE, -(-end // _PAGE))
        places = [np.empty(0, np.int64)]
        for number in sorted({*cut, *(n for n in self.pages if n * _PAGE < end)}):
            start, stop = number * _PAGE, min(end, (number + 1) * _PAGE)
            differs = _array(_read(self.handle, start, stop)) != _array(self.content(start, stop))
            places.append(start + np.flatnonzero(differs))
        place = np.concatenate(places)
        groups = np.split(place, np.flatnonzero(np.diff(place) > _NEAR) + 1)
        spans = [(int(group[0]), int(group[-1]) + 1) for group in groups if len(group)]
        return [(a, bytes(_read(self.handle, a, b)), bytes(self.content(a, b))) for a, b in spans]

    def raise_failure(self) -> None:
        """Raise the failure that was noted, if any."""
        failure, self.failure = self.failure, None  # a circle through HDF5 would outlive Python
        if isinstance(failure, Exception):
            reason = f"{type(failure).__name__}: {failure}"
            raise OSError(
                f"{self.path}: the change failed in memory ({reason}), nothing was written"
            ) from failure
        if failure is not None:
            raise failure

    def _put(self, start: int, data: memoryview) -> None:
        stop = start + len(data)
        offset = start
        while offset < min(stop, self.old_size):
            number, within = divmod(offset, _PAGE)
            count = min(stop, self.old_size, (number + 1) * _PAGE) - offset
            if number not in self.pages:
                self.pages[number] = self.content(number * _PAGE, (number + 1) * _PAGE)
            self.pages[number][within : within + count] = data[offset - start :][:count]
            offset += count
        if offset < stop:
            first = offset - self.old_size
            self.tail.extend(bytes(max(0, first - len(self.tail))))
            self.tail[first : first + stop - offset] = data[offset - start :]
        if len(data):
            self.size = max(self.size, stop)

    def _resize(self, size: int) -> None:
        for number in [n for n in self.pages if (n + 1) * _PAGE > size]:
            kept = max(0, size - number * _PAGE)
            self.pages[number][kept:] = bytes(_PAGE - kept)
        beyond = max(0, size - self.old_size)
        del self.tail[beyond:]
        self.tail.extend(bytes(beyond - len(self.tail)))
        self.shown = min(self.shown, size)
        self.size = size


@contextlib.contextmanager
def _hdf5_on(overlay: _Overlay, mode: str) -> Iterator[h5py.File]:
    with _signals_put_off():
        try:
            h5 = h5py.File(overlay, mode, libver=_LIBVER)
        except OSError as error:
            overlay.raise_failure()
            raise OSError(f"{overlay.path}: cannot be opened as HDF5 ({error})") from error
        overlay.is_open = True
        try:
            yield h5
            h5.close()
        except BaseException as error:
            with contextlib.suppress(Exception):  # the first error tells more
                h5.close()
            if isinstance(error, Exception):
                overlay.raise_failure()
            raise
    overlay.raise_failure()


@contextlib.contextmanager
def _signals_put_off() -> Iterator[None]:
    """Let no signal handler, such as that of Ctrl-C, run within a method of the overlay.

    What it raises there goes to HDF5, and shows up as a crash or not at all. So
    the signal is sent again a little later.
    """
    if threading.current_thread() is not threading.main_thread():  # no handlers run here
        yield
        return
    found = {number: signal.getsignal(number) for number in signal.valid_signals()}
    handlers: dict[int, Any] = {number: value for number, value in found.items() if callable(value)}

    def handle(number: int, frame: FrameType | None) -> None:
        caller = frame
        while caller is not None:
            if caller.f_code in _OVERLAY_CODE:
                threading.Timer(0.01, signal.raise_signal, [number]).start()
                return
            caller = caller.f_back
        handlers[number](number, frame)

    try:
        for number in handlers:
            signal.signal(number, handle)
        yield
    finally:
        for number, handler in handlers.items():
            if signal.getsignal(number) is handle:
                signal.signal(number, handler)


_OVERLAY_CODE = {method.__code__ for method in vars(_Overlay).values() if callable(method)}


def _commit(path: Path, handle: io.FileIO, overlay: _Overlay, state: tuple[int, ...]) -> None:
    journal = _journal(path)
    with _locked(handle, path):
        if _state(path) != state or journal.exists():
            raise OSError(f"{path}: was changed by another program in the meantime; run again")
        try:
            with _naming(path, "could not be changed and is as before; make room and run again"):
                changes = overlay.changes()
                if not changes and not overlay.tail:
                    return
                with open(journal, "xb", buffering=0) as note:
                    _write(note, 0, _pack(overlay.old_size, len(overlay.tail), changes))
                    _sync(note)
                _sync_folder(path.parent)
                _write(handle, overlay.old_size, overlay.tail)
                _sync(handle)
                for offset, _, new in changes:
                    _write(handle, offset, new)
                _sync(handle)
                _remove(journal)
        except BaseException:
            if journal.exists():  # otherwise nothing has changed yet, or everything
                with _naming(path, f"could not be restored; keep {journal.name} and run again"):
                    _roll_back(path, handle)
            raise
        with contextlib.suppress(OSError):  # at worst, the journal comes back and undoes the change
            _sync_folder(path.parent)


def _roll_back(path: Path, handle: io.FileIO) -> bool:
    """Restore the old state, remove the journal, and return whether it was complete."""
    journal = _journal(path)
    content = _unpack(journal.read_bytes())
    if content is not None:  # otherwise it was cut short, and nothing had changed yet
        old_size, tail_size, changes = content
        found = [_read(handle, offset, offset + len(old)) for offset, old, _ in changes]
        if not old_size <= _size(handle) <= old_size + tail_size or not all(
            np.all((_array(now) == _array(old)) | (_array(now) == _array(new)))
            for now, (_, old, new) in zip(found, changes, strict=True)
        ):
            raise OSError(
                f"{path}: was changed after an interrupted change, which cannot be undone any "
                f"more; if the file is as it should be, delete {journal.name}"
            )
        for now, (offset, old, _) in zip(found, changes, strict=True):
            if now != old:
                _write(handle, offset, old)
        _truncate(handle, old_size)
        _sync(handle)
    _remove(journal)
    _sync_folder(path.parent)
    return content is not None


def _pack(old_size: int, tail_size: int, changes: list[_Change]) -> bytes:
    spans = [(offset, old.hex(), new.hex()) for offset, old, new in changes]
    content = json.dumps([old_size, tail_size, spans]).encode()
    return _MAGIC + hashlib.sha256(content).hexdigest().encode() + b"\n" + content


def _unpack(journal: bytes) -> tuple[int, int, list[_Change]] | None:
    head, _, content = journal.partition(b"\n")
    if head != _MAGIC + hashlib.sha256(content).hexdigest().encode():
        return None
    old_size, tail_size, spans = json.loads(content)
    changes = [(offset, bytes.fromhex(old), bytes.fromhex(new)) for offset, old, new in spans]
    return old_size, tail_size, changes


def _journal(path: Path) -> Path:
    return path.with_name(f"{path.name}.sparsemed-journal")


def _state(path: Path) -> tuple[int, ...]:
    """Return what differs once another program has changed, replaced or removed the file."""
    if not path.exists():
        return ()
    stat = path.stat()
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns


def _open_for_writing(path: Path) -> io.FileIO:
    if path.exists() and not os.access(path.parent, os.W_OK):
        raise PermissionError(
            f"{path}: the folder is read-only, but needs a journal during a change; "
            "make it writable, or choose another output file"
        )
    try:
        return open(path, "r+b", buffering=0)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path}: there is no such file") from error
    except PermissionError as error:
        raise PermissionError(
            f"{path}: the file is read-only; make it writable, or choose another output file"
        ) from error


@contextlib.contextmanager
def _locked(handle: io.FileIO, path: Path) -> Iterator[None]:
    """Keep others out of the file: `recover`, and HDF5, which locks what it has open."""
    is_locked = True
    try:
        portalocker.lock(handle, portalocker.LOCK_EX | portalocker.LOCK_NB)
    except portalocker.AlreadyLocked as error:
        raise OSError(
            f"{path}: is open in another program, or is being written by another process; "
            "close it there and run again"
        ) from error
    except portalocker.LockException as error:
        is_locked = False
        if getattr(error.__cause__, "errno", None) not in _UNSUPPORTED:
            raise OSError(f"{path}: cannot be locked ({error}); run again") from error
    try:
        yield
    finally:
        if is_locked:  # closing is not enough: forked processes may hold the handle, too
            portalocker.unlock(handle)


@contextlib.contextmanager
def _naming(path: Path, what: str) -> Iterator[None]:
    """Say in errors of the system which file they are about, and what to do."""
    try:
        yield
    except OSError as error:
        if error.errno is None:  # one of ours, which says so already
            raise
        raise OSError(error.errno, f"{path}: {what} ({error.strerror})") from error


def _check_absent(path: Path) -> None:
    if os.path.lexists(path):
        raise FileExistsError(f"{path}: exists already; choose another name, or delete it")


def _publish(temporary: Path, path: Path) -> None:
    """Give a file its name, if that is still free."""
    try:
        os.link(temporary, path)  # unlike a rename, this replaces nothing
    except OSError:
        _check_absent(path)
        os.rename(temporary, path)  # a file system without hard links


# Everything that goes to the disk goes through these; tests stop at each of them.


def _read(handle: io.FileIO, start: int, stop: int) -> bytearray:
    data = bytearray(max(0, stop - start))
    handle.seek(start)
    done = 0
    while done < len(data) and (count := handle.readinto(memoryview(data)[done:])):
        done += count
    del data[done:]
    return data


def _write(handle: io.FileIO, offset: int, data: bytes | bytearray) -> None:
    handle.seek(offset)
    done = 0
    while done < len(data):
        done += handle.write(memoryview(data)[done:])


def _truncate(handle: io.FileIO, size: int) -> None:
    handle.truncate(size)


def _sync(handle: io.FileIO) -> None:
    os.fsync(handle.fileno())


def _sync_folder(folder: Path) -> None:
    """Make the names in a folder durable, where the system can."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:  # Windows opens no folders
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    path.unlink()


def _array(data: bytes | bytearray) -> NDArray[np.uint8]:
    return np.frombuffer(data, np.uint8)


def _size(handle: io.FileIO) -> int:
    return os.fstat(handle.fileno()).st_size
