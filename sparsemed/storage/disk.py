"""Files read, written, locked and replaced; each either wholly or not at all.

Everything that changes the disk goes through here, and callers name the module: so tests can stop
the program at each of these actions, or let it fail.
"""

import contextlib
import errno
import io
import logging
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import portalocker

from sparsemed.storage.stored import UNSUPPORTED

logger = logging.getLogger(__name__)

_PIECE = 1024**2  # what is written at once; no signal is heeded meanwhile

_PATIENCE = 2.0 if os.name == "nt" else 0.0  # seconds for which a virus scanner may hold a file

_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}


def check_folder(path: Path) -> None:
    """Check that the folder of a file is there, and may be written to.

    Raises
    ------
    FileNotFoundError, PermissionError
        If it is not.
    """
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path}: the folder does not exist; create it first")
    if not can_create_in(path.parent):
        raise PermissionError(f"{path}: the folder is read-only")


def no_such_file(path: Path) -> FileNotFoundError:
    """Return the error that says that a file is missing, and which may be meant."""
    return FileNotFoundError(f"{path}: there is no such file{did_you_mean(path)}")


def did_you_mean(path: Path) -> str:
    """Return the most similar name in the folder of a path, as the end of a sentence."""
    import difflib  # takes a while to import

    with contextlib.suppress(OSError):
        close = difflib.get_close_matches(path.name, os.listdir(path.parent), 1, 0.8)
        return f"; did you mean {path.with_name(close[0])}?" if close else ""
    return ""


def make_folder(folder: Path, elsewhere: str) -> None:
    """Make a folder for files, if it is missing.

    Parameters
    ----------
    folder : Path
    elsewhere : str
        How to choose another one, which ends the error.

    Raises
    ------
    PermissionError
        If no files can be made in it, or it cannot be made.
    """
    nearest = next((each for each in (folder, *folder.parents) if os.path.lexists(each)), folder)
    if nearest.is_dir() and not can_create_in(nearest):
        raise PermissionError(f"{nearest}: the folder is read-only; {elsewhere}")
    folder.mkdir(parents=True, exist_ok=True)


def can_create_in(folder: Path) -> bool:
    """Return whether files may be made in a folder, found out by making one.

    What the system says without trying (`os.access`) is wrong where permissions are more than
    nine bits: access control lists, file servers, an administrator who is none there. Nothing is
    left in the folder. Troubles that are not about permissions, such as a full disk, do not count.
    """
    with contextlib.suppress(AttributeError, OSError):  # not on this system, or not on this disk
        os.close(os.open(folder, os.O_TMPFILE | os.O_RDWR, 0o600))
        return True
    # not by `tempfile`, which tries ten thousand names and more where Windows forbids the first
    probe = folder / _temporary_name()
    try:
        open(probe, "xb").close()
    except OSError as error:
        return error.errno not in _FORBIDDEN
    _discard(probe)
    return True


def can_write(path: Path) -> bool:
    """Return whether a file may be changed, found out by opening it. It stays as it is."""
    try:
        open(path, "r+b", buffering=0).close()
    except OSError as error:
        return error.errno not in _FORBIDDEN
    return True


def check_absent(path: Path) -> None:
    """Check that no file has that name."""
    if os.path.lexists(path):
        raise FileExistsError(f"{path}: exists already; choose another name, or delete it")


def create(path: Path, data: bytes | bytearray) -> None:
    """Write a file that appears under its name, if that is still free, when it is complete."""
    if not _create_nameless(path, data):
        temporary = path.with_name(_temporary_name())
        try:
            with open(temporary, "xb", buffering=0) as handle:
                write(handle, 0, data)
                sync(handle)
            try:
                _patiently(os.link, temporary, path)  # unlike a rename, this replaces nothing
            except OSError:
                check_absent(path)
                _patiently(os.rename, temporary, path)  # a file system without hard links
        finally:
            _discard(temporary)  # after an error this is the file, after success its second name
    sync_folder(path.parent)


def _create_nameless(path: Path, data: bytes | bytearray) -> bool:
    """Create a file that has no name until it is whole; a kill leaves nothing behind.

    Returns whether the system can do that, which is Linux on most file systems.
    """
    try:
        descriptor = os.open(path.parent, os.O_TMPFILE | os.O_RDWR, 0o666)
    except (AttributeError, OSError):
        return False
    with open(descriptor, "r+b", buffering=0) as handle:
        write(handle, 0, data)
        sync(handle)
        try:
            # with src_dir_fd, though it counts for relative paths only, links are really followed
            link = f"/proc/self/fd/{descriptor}"
            os.link(link, path, src_dir_fd=descriptor, follow_symlinks=True)
        except OSError:
            check_absent(path)
            return False
    return True


def replace(path: Path, data: bytes | bytearray) -> None:
    """Write a file wholly or not at all, in place of one that may be there, whose mode it gets."""
    temporary = path.with_name(_temporary_name())
    try:
        with naming(path, "could not be written; make room or choose another folder"):
            if not _create_nameless(temporary, data):
                with open(temporary, "xb", buffering=0) as handle:
                    write(handle, 0, data)
                    sync(handle)
            with contextlib.suppress(FileNotFoundError):
                shutil.copymode(path, temporary)
            _patiently(os.replace, temporary, path)
    finally:
        _discard(temporary)
    with contextlib.suppress(OSError):  # at worst, the old file comes back
        sync_folder(path.parent)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Provide a name for a file or folder, which takes the place of another one once it is whole.

    It is removed if anything fails, and then the other one stays.
    """
    temporary = path.with_name(_temporary_name())
    aside = path.with_name(_temporary_name())
    try:
        with naming(path, "could not be written; make room or choose another folder"):
            yield temporary
            if path.is_dir():  # which none can take the place of
                _patiently(os.rename, path, aside)
            elif path.exists():
                shutil.copymode(path, temporary)
            try:
                _patiently(os.replace, temporary, path)
            except OSError:
                if aside.exists():
                    _patiently(os.rename, aside, path)
                raise
    finally:
        for left in (temporary, aside):
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                _discard(left)
    with contextlib.suppress(OSError):
        sync_folder(path.parent)


def can_be_replaced(path: Path) -> bool:
    """Return whether another file may take the place of one without anybody missing anything.

    One that has several names would lose all but one, and that of another user its owner.
    """
    found = path.stat()
    return found.st_nlink == 1 and (os.name == "nt" or found.st_uid == os.geteuid())


def _temporary_name() -> str:
    return f".sparsemed-{secrets.token_hex(8)}.tmp"


def _patiently(action: Callable[..., None], *paths: Path) -> None:
    """Rename, link or remove a file, which others may hold for a moment.

    On Windows these are virus scanners, search and backups, which look at each new file.
    """
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            return action(*paths)
        except PermissionError:
            if time.monotonic() >= end:
                raise
        time.sleep(0.02)


def _discard(temporary: Path) -> None:
    """Remove a temporary file, if it is still there; the work does not depend on that."""
    try:
        _patiently(os.unlink, temporary)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        logger.warning(
            "%s: is a temporary file that could not be removed (%s); delete it",
            temporary,
            error.strerror,
        )


@contextlib.contextmanager
def naming(path: Path, what: str) -> Iterator[None]:
    """Say in errors of the system which file they are about, and what to do."""
    try:
        yield
    except OSError as error:
        if error.errno is None:  # one of ours, which says so already
            raise
        raise OSError(error.errno, f"{path}: {what} ({error.strerror})") from error


def open_for_writing(path: Path, reason: str) -> io.FileIO:
    """Open a file that is going to change; if it is read-only, `reason` ends the error."""
    if path.exists() and not can_create_in(path.parent):
        raise PermissionError(
            f"{path}: the folder is read-only, but a change needs a journal in it; "
            f"make it writable, {reason}"
        )
    try:
        return open(path, "r+b", buffering=0, opener=_opened_aside)
    except FileNotFoundError as error:
        raise no_such_file(path) from error
    except PermissionError as error:
        raise PermissionError(
            f"{path}: the file is read-only; make it writable, {reason}"
        ) from error


def _opened_aside(path: str, flags: int) -> int:
    """Open a file, but not in the place of a standard stream that is closed.

    What libraries and Python itself print on their last legs would go into the file.
    """
    descriptor = os.open(path, flags)
    if descriptor > 2:
        return descriptor
    try:
        return _opened_aside(path, flags)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def locked(handle: io.FileIO, path: Path) -> Iterator[bool]:
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
        # closing alone is not enough: forked processes may hold the handle, too
        if is_locked and not handle.closed:
            portalocker.unlock(handle)


def read(handle: io.FileIO, start: int, stop: int) -> bytearray:
    """Return the bytes from start to stop, or as many as there are."""
    data = bytearray(max(0, stop - start))
    handle.seek(start)
    done = 0
    while done < len(data) and (count := handle.readinto(memoryview(data)[done:])):
        done += count
    del data[done:]
    return data


def write(handle: io.FileIO, offset: int, data: bytes | bytearray) -> None:
    """Write all of the data at an offset."""
    handle.seek(offset)
    done = 0
    while done < len(data):  # piece by piece: the system heeds no signal meanwhile
        done += handle.write(memoryview(data)[done : done + _PIECE])


def truncate(handle: io.FileIO, size: int) -> None:
    """Cut a file."""
    handle.truncate(size)


def sync(handle: io.FileIO) -> None:
    """Make the content of a file durable."""
    os.fsync(handle.fileno())


def sync_folder(folder: Path) -> None:
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


def remove(path: Path) -> None:
    """Remove a file."""
    _patiently(os.unlink, path)


def size(handle: io.FileIO) -> int:
    """Return how many bytes a file has."""
    return os.fstat(handle.fileno()).st_size
