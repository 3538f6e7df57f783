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
import stat
import threading
import time
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
_PIECE = 1024**2  # what is written at once; no signal is heeded meanwhile
_NEAR = 4096  # what changes closer than this is one write; the system writes whole pages anyway
_LONGEST = 143  # bytes of a file name that every file system takes; most take 255
_FRESH = 60  # seconds for which a journal counts as in use where files cannot be locked
_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_MAGIC = b"sparsemed journal 1 "
UNSUPPORTED = {errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.ENOSYS, errno.EINVAL}

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
    path = Path(path).absolute()  # the body may change the working directory
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path}: the folder does not exist; create it first")
    _check_absent(path)
    recover(path)  # raises if there is a journal of a file that is gone: it would come in here
    with open(os.devnull, "rb", buffering=0) as nothing:
        overlay = _Overlay(nothing, path)
        with _hdf5_on(overlay, "w") as h5:
            yield h5
    with _naming(path, "could not be created; make room or choose another folder, and run again"):
        _create(path, overlay.tail)


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
    with _open_for_writing(path, "or choose another output file") as handle:
        state = file_state(handle.fileno())
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
        If another process is writing the file, or may be where files cannot be
        locked; or if the journal is damaged or does not fit the file. The
        journal then stays where it is.
    """
    path = Path(os.path.realpath(path))
    journal = _journal(path)
    if not interrupted(path):
        return False
    _check_journal(path, journal)
    if not path.exists():
        raise OSError(
            f"{path}: is missing, but its journal {journal.name} is there; "
            "put the file back, or delete the journal"
        )
    failed = _naming(path, f"could not be restored; keep {journal.name} and try again")
    with (
        _open_for_writing(path, "as an interrupted change has to be undone") as handle,
        _locked(handle, path) as is_locked,
        failed,
    ):
        if not journal.exists():  # whoever held the lock has just finished
            return False
        if not is_locked and abs(time.time() - journal.stat().st_mtime) < _FRESH:
            raise OSError(
                f"{path}: may be being written by another process, as there is {journal.name} and "
                f"files cannot be locked here; try again in {_FRESH} seconds"
            )
        _roll_back(path, handle)
        return True


def interrupted(path: str | PathLike[str]) -> bool:
    """Return whether a change of a file was interrupted, and is still to be undone."""
    return os.path.lexists(_journal(Path(os.path.realpath(path))))


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
    """Let no signal handler, such as that of Ctrl-C, run while HDF5 works.

    What it raises in a method of the overlay, or when h5py lets go of something, goes to HDF5,
    and shows up as a crash or not at all. So the signal is sent again a little later.
    """
    if threading.current_thread() is not threading.main_thread():  # no handlers run here
        yield
        return
    found = {number: signal.getsignal(number) for number in signal.valid_signals()}
    handlers: dict[int, Any] = {number: value for number, value in found.items() if callable(value)}

    timers: list[threading.Timer] = []

    def handle(number: int, frame: FrameType | None) -> None:
        caller = frame
        while caller is not None:
            module = caller.f_globals.get("__name__", "")
            if caller.f_code in _OVERLAY_CODE or module.startswith("h5py."):
                _put_off.append(number)
                timer = threading.Timer(0.01, let_signals_in)
                timer.start()
                timers.append(timer)
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
        for timer in timers:
            timer.cancel()
            timer.join()
        let_signals_in()


_put_off: list[int] = []


def let_signals_in() -> None:
    """Send signals that were put off again: to be called between long calls of HDF5."""
    while _put_off:
        signal.raise_signal(_put_off.pop())


_OVERLAY_CODE = {method.__code__ for method in vars(_Overlay).values() if callable(method)}


def _commit(path: Path, handle: io.FileIO, overlay: _Overlay, state: tuple[int, ...]) -> None:
    journal = _journal(path)
    meanwhile = f"{path}: was changed by another program in the meantime; run again"
    with _locked(handle, path):
        if file_state(path) != state or journal.exists():
            raise OSError(meanwhile)
        try:
            with _naming(path, "could not be changed and is as before; make room and run again"):
                changes = overlay.changes()
                if not changes and not overlay.tail:
                    return
                _create(journal, _pack(overlay.old_size, len(overlay.tail), changes))
                _write(handle, overlay.old_size, overlay.tail)
                _sync(handle)
                # Fails if the journal is gone: without locks, others may have rolled back.
                os.utime(journal)
                for offset, _, new in changes:
                    _write(handle, offset, new)
                _sync(handle)
                _remove(journal)
        except FileExistsError as error:  # the journal of another process, without locks
            raise OSError(meanwhile) from error
        except BaseException:
            if journal.exists():  # otherwise nothing has changed yet, or everything
                with _naming(path, f"could not be restored; keep {journal.name} and run again"):
                    _roll_back(path, handle)
            raise
        with contextlib.suppress(OSError):  # at worst, the journal comes back and undoes the change
            _sync_folder(path.parent)


def _roll_back(path: Path, handle: io.FileIO) -> None:
    """Restore the old state and remove the journal."""
    journal = _journal(path)
    content = _unpack(journal.read_bytes())
    if content is None:
        raise OSError(
            f"{path}: cannot be restored, as {journal.name} is damaged; "
            f"if the file is as it should be, delete {journal.name}"
        )
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
    # What reads like the old bytes is written, too: after a failed sync, the disk may hold others.
    for offset, old, _ in reversed(changes):
        _write(handle, offset, old)
    _truncate(handle, old_size)
    _sync(handle)
    _remove(journal)
    _sync_folder(path.parent)


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
    journal = path.with_name(f"{path.name}.sparsemed-journal")
    if len(os.fsencode(journal.name)) <= _LONGEST:
        return journal
    return path.with_name(hashlib.sha256(os.fsencode(path.name)).hexdigest() + journal.suffix)


def _check_journal(path: Path, journal: Path) -> None:
    """Check that a journal is one: it says what to write into the file."""
    try:
        note = os.lstat(journal)
    except FileNotFoundError:  # somebody else has just finished with it
        return
    if not stat.S_ISREG(note.st_mode):
        raise OSError(f"{path}: its journal {journal.name} is no regular file; delete it")
    # where all may write, but none replace what others have, none may change it by a journal either
    if os.name == "posix" and path.exists() and os.stat(path.parent).st_mode & stat.S_ISVTX:
        owners = {os.geteuid(), os.stat(path).st_uid}
        if note.st_uid not in owners:
            raise PermissionError(
                f"{path}: its journal {journal.name} belongs to somebody else, in a folder where "
                "that is not to be trusted; let its owner run: sparsemed recover"
            )


def file_state(file: Path | int) -> tuple[int, ...]:
    """Return what differs once another program has changed, replaced or removed the file."""
    try:
        found = os.stat(file)
    except (FileNotFoundError, NotADirectoryError):
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _open_for_writing(path: Path, reason: str) -> io.FileIO:
    if path.exists() and not os.access(path.parent, os.W_OK):
        raise PermissionError(
            f"{path}: the folder is read-only, but a change needs a journal in it; "
            f"make it writable, {reason}"
        )
    try:
        return open(path, "r+b", buffering=0)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path}: there is no such file") from error
    except PermissionError as error:
        raise PermissionError(
            f"{path}: the file is read-only; make it writable, {reason}"
        ) from error


@contextlib.contextmanager
def _locked(handle: io.FileIO, path: Path) -> Iterator[bool]:
    """Keep others out of the file: `recover`, and HDF5, which locks what it has open.

    Yields whether that was possible: some file systems know no locks.
    """
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
        if getattr(error.__cause__, "errno", None) not in UNSUPPORTED:
            raise OSError(f"{path}: cannot be locked ({error}); run again") from error
    try:
        yield is_locked
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


def _create(path: Path, data: bytes | bytearray) -> None:
    """Write a file that appears under its name, if that is still free, when it is complete."""
    if not _create_nameless(path, data):
        temporary = path.with_name(f".sparsemed-{secrets.token_hex(8)}.tmp")
        try:
            with open(temporary, "xb", buffering=0) as handle:
                _write(handle, 0, data)
                _sync(handle)
            try:
                os.link(temporary, path)  # unlike a rename, this replaces nothing
            except OSError:
                _check_absent(path)
                os.rename(temporary, path)  # a file system without hard links
        finally:
            # after an error this is the file, after success its second name
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                temporary.unlink()
    _sync_folder(path.parent)


def _create_nameless(path: Path, data: bytes | bytearray) -> bool:
    """Do so with a file that has no name until then, and leaves nothing if the process is killed.

    Returns whether the system can do that, which is Linux on most file systems.
    """
    try:
        descriptor = os.open(path.parent, os.O_TMPFILE | os.O_RDWR, 0o666)
    except (AttributeError, OSError):
        return False
    with open(descriptor, "r+b", buffering=0) as handle:
        _write(handle, 0, data)
        _sync(handle)
        try:
            # with src_dir_fd, though it counts for relative paths only, links are really followed
            link = f"/proc/self/fd/{descriptor}"
            os.link(link, path, src_dir_fd=descriptor, follow_symlinks=True)
        except OSError:
            _check_absent(path)
            return False
    return True


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
    while done < len(data):  # piece by piece: the system heeds no signal meanwhile
        done += handle.write(memoryview(data)[done : done + _PIECE])


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
        if error.errno not in UNSUPPORTED:
            raise
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    path.unlink()


def _array(data: bytes | bytearray) -> NDArray[np.uint8]:
    return np.frombuffer(data, np.uint8)


def _size(handle: io.FileIO) -> int:
    return os.fstat(handle.fileno()).st_size
