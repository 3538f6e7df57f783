"""Stored bytes, behind one narrow interface: how many, in which state, and what they are."""

import errno
import os
import threading
from io import FileIO
from os import PathLike
from pathlib import Path
from typing import Protocol

UNSUPPORTED = {errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.ENOSYS, errno.EINVAL}
"""What systems answer that cannot do what was asked for, such as locking a file."""


def file_state(file: Path | int) -> tuple[int, ...]:
    """Return what differs once another program has changed, replaced or removed the file.

    That is its size and when it was written, but not its number: some file systems over a network
    (sshfs, CIFS) or over several disks (mergerfs) give the same file another number at each look.
    """
    try:
        found = os.stat(file)
    except (FileNotFoundError, NotADirectoryError):
        return ()
    return found.st_size, found.st_mtime_ns


def has_name(descriptor: int) -> bool:
    """Return whether an open file still has a name; it has none once it is replaced or removed."""
    return os.fstat(descriptor).st_nlink > 0


class StoredBytes(Protocol):
    """Bytes that can be read at places, by several threads at once."""

    @property
    def size(self) -> int:
        """How many there are."""

    @property
    def state(self) -> tuple[int, ...]:
        """What differs once somebody has changed them."""

    def read_into(self, buffer: memoryview, offset: int) -> bool:
        """Fill a buffer with what begins at an offset; return whether there was enough."""


class LocalBytes:
    """A file on this machine.

    Parameters
    ----------
    path : str or path
        Its name.
    descriptor : int, optional
        The file, opened by somebody who keeps it open; then it is this very one that is read,
        whatever has become of its name.
    """

    def __init__(self, path: str | PathLike[str], descriptor: int | None = None) -> None:
        self._path = Path(path).absolute()  # the working folder may change
        self._descriptor = descriptor
        # Some file systems count no names at all. On Windows an open file keeps its name.
        self._had_name = os.name == "posix" and descriptor is not None and has_name(descriptor)
        self._turn = threading.Lock()
        self._file: FileIO | None = None

    def __str__(self) -> str:
        return str(self._path)

    def close(self) -> None:
        """Close what was opened here."""
        if self._file is not None:
            self._file.close()

    @property
    def size(self) -> int:
        """How many bytes there are."""
        return os.stat(self._path if self._descriptor is None else self._descriptor).st_size

    @property
    def state(self) -> tuple[int, ...]:
        """What differs once another program has changed, replaced or removed the file."""
        if self._had_name and self._descriptor is not None and not has_name(self._descriptor):
            return ()
        return file_state(self._path)

    def read_into(self, buffer: memoryview, offset: int) -> bool:
        """Fill a buffer with what begins at an offset; return whether there was enough."""
        done = 0
        while done < len(buffer):
            count = self._read(buffer[done:], offset + done)
            if not count:
                return False
            done += count
        return True

    def _read(self, buffer: memoryview, offset: int) -> int:
        if self._descriptor is not None and hasattr(os, "preadv"):
            return os.preadv(self._descriptor, [buffer], offset)
        # Windows, where an open file can be neither replaced nor removed
        with self._turn:
            if self._file is None:
                self._file = open(self._path, "rb", buffering=0)  # noqa: SIM115
            self._file.seek(offset)
            return self._file.readinto(buffer) or 0
