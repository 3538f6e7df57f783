"""Reads, writes, locks and replaces files; each change is made wholly or not at all.

All changes of the disk go through this module, and callers write ``disk.name(…)``, so that tests
can stop the program at each action, or make it fail.
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

_PIECE = 1024**2  # bytes of one write; signals wait until it ends

_PATIENCE = 2.0 if os.name == "nt" else 0.0  # seconds for which a virus scanner may hold a file

_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}


def check_folder(path: Path) -> None:
    """Check that the folder of a file exists and is writable.

    Raises
    ------
    FileNotFoundError, PermissionError
        If it does not exist, or is read-only.
    """
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path}: the folder does not exist; create it first")
    if not can_create_in(path.parent):
        raise PermissionError(f"{path}: the folder is read-only")


def no_such_file(path: Path) -> FileNotFoundError:
    """Return the error on a missing file, with the most similar name."""
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
        Advice on how to choose another folder, for the end of the error.

    Raises
    ------
    PermissionError
        If the folder is read-only, or cannot be made.
    """
    nearest = next((each for each in (folder, *folder.parents) if os.path.lexists(each)), folder)
    if nearest.is_dir() and not can_create_in(nearest):
        raise PermissionError(f"{nearest}: the folder is read-only; {elsewhere}")
    folder.mkdir(parents=True, exist_ok=True)


def can_create_in(folder: Path) -> bool:
    """Return whether files may be made in a folder, by making one.

    `os.access` is wrong if permissions are more than nine bits: with access control lists, on file
    servers, or for an administrator without rights there. Nothing is left in the folder. Errors
    that do not concern permissions, such as a full disk, do not count.
    """
    with contextlib.suppress(AttributeError, OSError):  # not supported by the system or the disk
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
    """Return whether a file may be changed, by opening it. It is not changed."""
    try:
        open(path, "r+b", buffering=0).close()
    except OSError as error:
        return error.errno not in _FORBIDDEN
    return True


def check_absent(path: Path) -> None:
    """Check that no file has that name."""
    if os.path.lexists(path):
        raise FileExistsError(f"{path}: exists; choose another name, or delete it")


def create(path: Path, data: bytes | bytearray) -> None:
    """Write a file that appears under its name when it is complete, if the name is still free."""
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
    """Create a file that has no name until it is complete; a kill leaves nothing behind.

    Returns whether the system supports this: Linux does, on most file systems.
    """
    try:
        descriptor = os.open(path.parent, os.O_TMPFILE | os.O_RDWR, 0o666)
    except (AttributeError, OSError):
        return False
    with open(descriptor, "r+b", buffering=0) as handle:
        write(handle, 0, data)
        sync(handle)
        try:
            # src_dir_fd makes Python really follow links, though it has no effect on absolute paths
            link = f"/proc/self/fd/{descriptor}"
            os.link(link, path, src_dir_fd=descriptor, follow_symlinks=True)
        except OSError:
            check_absent(path)
            return False
    return True


def replace(path: Path, data: bytes | bytearray) -> None:
    """Write a file wholly or not at all; an existing one is replaced, and its mode is kept."""
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
    with contextlib.suppress(OSError):  # in the worst case, the old file comes back
        sync_folder(path.parent)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Provide a temporary name for a file or folder, which replaces another one at the end.

    If anything fails, it is removed, and the other one stays.
    """
    temporary = path.with_name(_temporary_name())
    aside = path.with_name(_temporary_name())
    try:
        with naming(path, "could not be written; make room or choose another folder"):
            yield temporary
            if path.is_dir():  # a folder cannot be replaced by renaming
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
    """Return whether replacing a file loses nothing but its content.

    A file with several names would lose all but one, and a file of another user its owner.
    """
    found = path.stat()
    return found.st_nlink == 1 and (os.name == "nt" or found.st_uid == os.geteuid())


def _temporary_name() -> str:
    return f".sparsemed-{secrets.token_hex(8)}.tmp"


def _patiently(action: Callable[..., None], *paths: Path) -> None:
    """Rename, link or remove a file; retry while another program holds it.

    On Windows, virus scanners, search and backups open each new file for a moment.
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
    """Remove a temporary file, if it still exists; a failure is only logged."""
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
    """Add the file and advice to errors of the system."""
    try:
        yield
    except OSError as error:
        if error.errno is None:  # an error of sparsemed, which names the file already
            raise
        raise OSError(error.errno, f"{path}: {what} ({error.strerror})") from error


def open_for_writing(path: Path, reason: str) -> io.FileIO:
    """Open a file to change it; `reason` is the end of the error if it is read-only."""
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
    """Open a file, but not under the number of a closed standard stream.

    Otherwise, output of libraries or of Python itself would go into the file.
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
    """Lock a file against `recover` in other processes, and against HDF5, which locks open files.

    Yields whether that was possible: some file systems have no locks.
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
        # closing is not enough, as forked processes may hold the handle, too
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
    while done < len(data):  # piece by piece, as signals wait for each write
        done += handle.write(memoryview(data)[done : done + _PIECE])


def truncate(handle: io.FileIO, size: int) -> None:
    """Cut a file."""
    handle.truncate(size)


def sync(handle: io.FileIO) -> None:
    """Make the content of a file durable."""
    os.fsync(handle.fileno())


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable, if the system can."""
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
    """Return the number of bytes of a file."""
    return os.fstat(handle.fileno()).st_size
