"""Opens HDF5 files for reading: the user's own file, restored first, or others, left untouched.

HDF5 also reads any `StoredBytes`, such as a file in a network.
"""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from weakref import WeakValueDictionary

import h5py

from sparsemed.hdf5.fileobj import StoredFile
from sparsemed.hdf5.journal import recover
from sparsemed.printable import printable
from sparsemed.storage import disk
from sparsemed.storage.places import AnyPath
from sparsemed.storage.ranged import RangedBytes
from sparsemed.storage.stored import UNSUPPORTED, LocalBytes, StoredBytes, file_state

_handed: WeakValueDictionary[int, StoredFile] = WeakValueDictionary()
"""File objects that HDF5 has open, by its identifiers."""


class UnreadableError(OSError):
    """A file exists, but HDF5 cannot read it. What to do depends on its purpose.

    Parameters
    ----------
    name : str
        The file.
    reason : str
        Why it cannot be read.
    advice : str
        What to do if it is a measurement.
    """

    def __init__(self, name: str, reason: str, advice: str = "") -> None:
        super().__init__(f"{name}: {reason}{advice}")
        self.reason, self.advice = reason, advice


def open_restored(path: Path) -> h5py.File:
    """Open an HDF5 file for reading, after undoing a change that was interrupted.

    Raises
    ------
    OSError
        If it is missing or not HDF5; the message names the file.
    """
    if not path.exists():
        raise disk.no_such_file(path)
    if path.is_dir():
        try:
            os.listdir(path)
        except OSError as error:
            text = f"{path}: this folder cannot be listed ({error.strerror}); nothing in it is read"
            raise OSError(text) from error
        raise IsADirectoryError(f"{path}: is a folder")
    if not path.is_file():
        raise OSError(f"{path}: is not a file")
    recover(path)
    return open_untouched(path)


def open_untouched(path: Path) -> h5py.File:
    """Open an HDF5 file for reading, also one that is being recorded in SWMR mode.

    Raises
    ------
    OSError
        If it cannot be read as HDF5, or is being written; the message names the file.
    """
    name = printable(path)
    before = file_state(path)
    if is_recorded(path):
        with suppress(OSError):  # without a lock, which its writer may need at this moment
            return h5py.File(path, "r", locking=False, swmr=True)
    try:
        try:
            return _open(path)
        except OSError:
            # HDF5 reads the size before it locks; a change may have been completed in between.
            if file_state(path) == before:
                raise
            return _open(path)
    except PermissionError as error:
        raise PermissionError(f"{name}: may not be read; check its permissions") from error
    except BlockingIOError as error:
        raise OSError(
            f"{name}: is open for writing in another program; close it there and run again"
        ) from error
    except OSError as error:
        if "consistency flags" in str(error):
            with suppress(OSError):  # a recording whose file begins with a user block
                return h5py.File(path, "r", locking=False, swmr=True)
            raise UnreadableError(
                name,
                "another program writes into it, or died while writing",
                "; close it there. If no program has it open, keep a copy and run HDF5's "
                f"h5clear --status {name}",
            ) from error
        if error.errno == errno.EMFILE:
            raise OSError(
                f"{name}: cannot be opened, as too many files are open; allow more, for example "
                "with 'ulimit -n 4096', and run again"
            ) from error
        why, advice = _why(path, error)
        raise UnreadableError(name, f"cannot be read as an HDF5 file{why}", advice) from error


def is_recorded(path: Path) -> bool:
    """Whether a program records into a file in SWMR mode, or died while doing so."""
    with suppress(OSError), open(path, "rb") as file:
        header = file.read(12)
        is_new = len(header) == 12 and header[:8] == b"\x89HDF\r\n\x1a\n" and header[8] >= 2
        return is_new and bool(header[11] & 4)
    return False


_SIZES = re.compile(r"truncated file: eof = (\d+),.* stored_eof = (\d+)")
"""The message of HDF5 on a file that was cut off."""


COPY = "; copy it again from its origin"
"""Advice on a measurement that is empty or cut off."""


def _why(path: Path, error: OSError) -> tuple[str, str]:
    with suppress(OSError):
        if not path.stat().st_size:
            return ": it is empty (0 bytes)", COPY
    return _truncation(error)


def _truncation(error: OSError) -> tuple[str, str]:
    if sizes := _SIZES.search(str(error)):
        there, written = map(int, sizes.groups())
        return f": it is truncated ({there:,} of {written:,} bytes are there)", COPY
    return f" ({error})", ""


def is_open_here(path: Path) -> bool:
    """Whether this process has a file open in HDF5, under any name."""
    for file in h5py.h5f.get_obj_ids(h5py.h5f.OBJ_ALL, h5py.h5f.OBJ_FILE):
        with suppress(OSError, ValueError, RuntimeError, NotImplementedError):
            if os.path.samefile(path, os.fsdecode(file.name)):
                return True
            if os.path.samestat(os.stat(path), os.fstat(file.get_vfd_handle())):
                return True
    return False


def _open(path: Path) -> h5py.File:
    try:
        return h5py.File(path, "r")
    except OSError as error:
        # A file system without locks. Once a file is open without locks, HDF5 wants that again.
        no_locks = "unable to lock file" in str(error) and error.errno in UNSUPPORTED
        if not no_locks and "file locking flag values don't match" not in str(error):
            raise
        return h5py.File(path, "r", locking=False)


def open_stored(stored: StoredBytes) -> h5py.File:
    """Open stored bytes as an HDF5 file for reading.

    Failures of later reads are raised by `raise_failure`.

    Raises
    ------
    OSError
        If the bytes cannot be read, or not as HDF5; the message names them.
    """
    file = StoredFile(stored)
    name = printable(stored.name)
    if not stored.size:
        raise OSError(f"{name}: cannot be read as an HDF5 file: it is empty (0 bytes)")
    try:
        h5 = h5py.File(file, "r")
    except OSError as error:
        file.raise_failure()
        why, advice = _truncation(error)
        raise UnreadableError(name, f"cannot be read as an HDF5 file{why}", advice) from error
    _handed[h5.id.id] = file
    return h5


@contextmanager
def opened(path: AnyPath) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading, also one in a network; see `open_restored`.

    Raises
    ------
    OSError
        If it cannot be read, now or later.
    """
    if isinstance(path, Path):
        with open_restored(path) as h5:
            yield h5
        return
    with open_stored(RangedBytes(path.place)) as h5:
        try:
            yield h5
        except Exception:
            raise_failure(h5)
            raise
        raise_failure(h5)


def bytes_behind(place: h5py.File | h5py.Dataset) -> StoredBytes | None:
    """Return the bytes from which HDF5 reads a file or dataset.

    Returns None if HDF5 reads them through a driver of its own.
    """
    h5 = place.file
    if (file := _handed.get(h5.id.id)) is not None:
        return file.stored
    if h5.driver != "sec2":
        return None
    descriptor = int(h5.id.get_vfd_handle()) if os.name == "posix" else None
    return LocalBytes(h5.filename, descriptor)


def is_elsewhere(place: h5py.File | h5py.Dataset) -> bool:
    """Return whether HDF5 reads a file or dataset from stored bytes instead of a file."""
    return place.file.id.id in _handed


def raise_failure(place: h5py.File | h5py.Dataset) -> None:
    """Raise the failure of a read of stored bytes, if there was one.

    HDF5 does not report it, and goes on with zeros.

    Raises
    ------
    OSError
        The error of the read; raised at each call, as HDF5 may have kept the zeros.
    """
    if (file := _handed.get(place.file.id.id)) is not None:
        file.raise_failure()
