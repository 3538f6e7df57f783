"""Stored bytes, behind one narrow interface: where they are, in which state, and what they are."""

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
"""What systems answer that cannot do what was asked for, such as locking a file."""

COARSE_NS = 2 * 10**9
"""How far the times of one file may differ from one file system to another: some keep 2 s."""


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


class Habits(NamedTuple):
    """How bytes like to be read.

    Attributes
    ----------
    gap : int
        Bytes between two ranges that are rather read along than left out.
    piece : int
        Bytes from which on a read is better cut in two.
    at_once : int
        Reads that may be under way at the same time.
    """

    gap: int
    piece: int
    at_once: int


class StoredBytes(Protocol):
    """Bytes that can be read at places, by several threads at once.

    Where they are is for the class to know: a file, a server, memory. HDF5 and the readers of
    frames see nothing but this.
    """

    @property
    def name(self) -> str:
        """What messages call them: an absolute path, or an address without anything secret."""

    @property
    def key(self) -> str:
        """Which bytes they are: two that have the same key are at one and the same place."""

    @property
    def size(self) -> int:
        """How many there are."""

    @property
    def state(self) -> tuple[Any, ...]:
        """What differs once somebody has changed them; empty once they are gone."""

    @property
    def habits(self) -> Habits:
        """How they like to be read."""

    def expect(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Take note of what will be read next, and fetch it ahead where that helps.

        Parameters
        ----------
        ranges : iterable of (int, int)
            Begin and end of the reads to come, about in their order: one call of `read_into` for
            each. Ranges that were expected before are not any more. May be taken bit by bit, and
            need not be taken at all. Other reads can come in between.
        """

    def gather(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Fetch some small ranges, begin and end of each, that will be read at once here and there.

        It is called, as `read_into` is, by HDF5.
        """

    def read_into(self, buffer: memoryview, offset: int) -> bool:
        """Fill a buffer with what begins at an offset; return whether there was enough.

        HDF5 calls it, too, while it holds a lock that Python's other threads may wait for. So a
        range that is not expected must be read without waiting for another thread of Python's.

        Raises
        ------
        OSError
            If they cannot be read.
        """

    def interrupt(self) -> None:
        """Let reads that are under way, and those until `close`, end with an error if they last."""

    def close(self) -> None:
        """Let go of what reading took: files, connections, what was fetched ahead.

        Reading takes it anew.
        """

    def opener(self) -> "Opener":
        """Return what opens the same bytes again, be it in another process."""


Opener = Callable[[], StoredBytes]
"""Opens bytes where the work is done. It can be pickled.

It raises an OSError where they are missing, or not those that they are here.
"""


def require_state(stored: StoredBytes, state: tuple[Any, ...]) -> None:
    """Check that bytes are in the state that they were in.

    Raises
    ------
    OSError
        If not. Frames that were read may then be of two different states.
    """
    if stored.state != state:
        raise OSError(
            f"{stored.name}: was changed, replaced or removed by another program while its "
            "frames were read; run again when that has ended"
        )


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

    habits = Habits(
        gap=16 * 1024,  # HDF5 puts parts of its index there
        piece=2 * 1024**2,  # what caches hold
        at_once=1024,
    )

    def __init__(self, path: str | PathLike[str], descriptor: int | None = None) -> None:
        self._path = Path(path).absolute()  # the working folder may change
        self.name = str(self._path)
        self.key = os.path.realpath(self._path)
        self._descriptor = descriptor
        # Some file systems count no names at all. On Windows an open file keeps its name.
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
        """How many bytes there are."""
        return os.stat(self._path if self._descriptor is None else self._descriptor).st_size

    @property
    def state(self) -> tuple[int, ...]:
        """What differs once another program has changed, replaced or removed the file."""
        if self._had_name and self._descriptor is not None and not has_name(self._descriptor):
            return ()
        return file_state(self._path)

    def expect(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Do nothing: the system reads ahead."""

    def gather(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Do nothing: no way is long."""

    def interrupt(self) -> None:
        """Do nothing: reading does not last."""

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
        # Where nobody has it open, or on Windows, where it can be neither replaced nor removed.
        with self._turn:
            if self._file is None or self._file.closed:
                self._file = open(self._path, "rb", buffering=0)  # noqa: SIM115
            if not hasattr(os, "preadv"):
                self._file.seek(offset)
                return self._file.readinto(buffer) or 0
            descriptor = self._file.fileno()
        return os.preadv(descriptor, [buffer], offset)

    def opener(self) -> Opener:
        """Return what opens the same file again, be it in another process."""
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
