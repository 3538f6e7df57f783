"""The interface of stored bytes, and files on this machine behind it."""

import errno
import os
import threading
from collections.abc import Callable, Iterable
from functools import partial
from io import FileIO
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple, Protocol

UNSUPPORTED = {errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.ENOSYS, errno.EINVAL}
"""Error numbers of unsupported actions, such as locking a file."""

COARSE_NS = 2 * 10**9
"""Largest difference between times of one file on different file systems: some round to 2 s."""


def file_state(file: Path | int) -> tuple[int, ...]:
    """Return the state of a file, which differs after it was changed, replaced or removed.

    It is size and time of writing, but not the inode number: some file systems over a network
    (sshfs, CIFS) or over several disks (mergerfs) change it at each look.
    """
    try:
        found = os.stat(file)
    except (FileNotFoundError, NotADirectoryError):
        return ()
    return found.st_size, found.st_mtime_ns


def has_name(descriptor: int) -> bool:
    """Return whether an open file still has a name: not after it was replaced or removed."""
    return os.fstat(descriptor).st_nlink > 0


class Habits(NamedTuple):
    """How bytes are best read.

    Attributes
    ----------
    gap : int
        Largest gap between two ranges that should be read together.
    piece : int
        Largest bytes of one read.
    at_once : int
        Number of reads at the same time.
    """

    gap: int
    piece: int
    at_once: int


class StoredBytes(Protocol):
    """Bytes that can be read at offsets, by several threads at once.

    They may be in a file, on a server, or in memory. HDF5 and the readers of frames see only this
    interface.
    """

    @property
    def name(self) -> str:
        """Name in messages: an absolute path, or an address without secrets."""

    @property
    def key(self) -> str:
        """Key, equal for bytes at the same place."""

    @property
    def size(self) -> int:
        """Number of bytes."""

    @property
    def state(self) -> tuple[Any, ...]:
        """State, which differs after a change; empty if they are gone."""

    @property
    def habits(self) -> Habits:
        """How they are best read."""

    def expect(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Announce the reads to come, so that their bytes can be fetched ahead.

        Parameters
        ----------
        ranges : iterable of (int, int)
            Begin and end of each call of `read_into` to come, roughly in order. They replace the
            ranges expected before. The iterable may be consumed bit by bit, or not at all. Other
            reads can come in between.
        """

    def gather(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Fetch some small ranges, given by begin and end, that will be read soon.

        Like `read_into`, it is called by HDF5.
        """

    def read_into(self, buffer: memoryview, offset: int) -> bool:
        """Fill a buffer from an offset on; return whether there were enough bytes.

        HDF5 also calls it, while it holds a lock for which other Python threads may wait. So a
        range that is not expected must be read without waiting for another Python thread.

        Raises
        ------
        OSError
            If they cannot be read.
        """

    def interrupt(self) -> None:
        """Make current reads, and reads until `close`, fail if they take long."""

    def close(self) -> None:
        """Release files, connections and bytes fetched ahead; the next read begins anew."""

    def opener(self) -> "Opener":
        """Return a function that opens the same bytes, also in another process."""


Opener = Callable[[], StoredBytes]
"""Opens bytes in a worker. It can be pickled.

It raises an OSError if they are missing there, or other bytes.
"""


def require_state(stored: StoredBytes, state: tuple[Any, ...]) -> None:
    """Check that the state of bytes has not changed.

    Raises
    ------
    OSError
        If it has. Frames that were read may then be of two different states.
    """
    if stored.state != state:
        raise OSError(
            f"{stored.name}: was changed, replaced or removed by another program while its "
            "frames were read; run again when it does not change any more"
        )


class LocalBytes:
    """A file on this machine.

    Parameters
    ----------
    path : str or path
        Path of the file.
    descriptor : int, optional
        Descriptor of the file, which the caller keeps open. Then this file is read, whatever
        happens to its name.
    """

    habits = Habits(
        gap=16 * 1024,  # room for parts of an index of HDF5
        piece=2 * 1024**2,  # fits into caches
        at_once=1024,
    )

    def __init__(self, path: str | PathLike[str], descriptor: int | None = None) -> None:
        self._path = Path(path).absolute()  # the working folder may change
        self.name = str(self._path)
        self.key = os.path.realpath(self._path)
        self._descriptor = descriptor
        # Some file systems do not count names. On Windows, an open file keeps its name.
        self._had_name = os.name == "posix" and descriptor is not None and has_name(descriptor)
        self._turn = threading.Lock()
        self._file: FileIO | None = None

    def __str__(self) -> str:
        return self.name

    def close(self) -> None:
        """Close what was opened here."""
        if self._file is not None:
            self._file.close()

    @property
    def size(self) -> int:
        """Number of bytes."""
        return os.stat(self._path if self._descriptor is None else self._descriptor).st_size

    @property
    def state(self) -> tuple[int, ...]:
        """State of the file, which differs after it was changed, replaced or removed."""
        if self._had_name and self._descriptor is not None and not has_name(self._descriptor):
            return ()
        return file_state(self._path)

    def expect(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Do nothing: the system reads ahead."""

    def gather(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Do nothing: small reads are fast."""

    def interrupt(self) -> None:
        """Do nothing: reads are short."""

    def read_into(self, buffer: memoryview, offset: int) -> bool:
        """Fill a buffer from an offset on; return whether there were enough bytes."""
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
        # Without a descriptor, or on Windows, where an open file cannot be replaced or removed.
        with self._turn:
            if self._file is None or self._file.closed:
                self._file = open(self._path, "rb", buffering=0)  # noqa: SIM115
            if not hasattr(os, "preadv"):
                self._file.seek(offset)
                return self._file.readinto(buffer) or 0
            descriptor = self._file.fileno()
        return os.preadv(descriptor, [buffer], offset)

    def opener(self) -> Opener:
        """Return a function that opens the same file, also in another process."""
        return partial(_open_same, self._path, self.state)


def _open_same(path: Path, state: tuple[int, ...]) -> LocalBytes:
    found = file_state(path)
    is_same = found[:1] == state[:1] and all(
        abs(here - there) < COARSE_NS for here, there in zip(found[1:], state[1:], strict=True)
    )
    if not found or not is_same:
        what = "is another file for a worker than" if found else "is missing for a worker, but not"
        raise OSError(
            f"{path}: {what} for the program that sent the task; all workers must see the same "
            "files under the same paths"
        )
    return LocalBytes(path)
