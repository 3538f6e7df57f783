"""Open an HDF5 file for reading: one's own, restored first, or a stranger's, never touched."""

import os
import re
from contextlib import suppress
from pathlib import Path

import h5py

from sparsemed.hdf5.journal import recover
from sparsemed.printable import printable
from sparsemed.storage.stored import UNSUPPORTED, file_state


def open_restored(path: Path) -> h5py.File:
    """Open an HDF5 file for reading, after undoing a change that was interrupted.

    Raises
    ------
    OSError
        If it is missing or not HDF5; the message names the file.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no such file")
    if path.is_dir():
        try:
            os.listdir(path)
        except OSError as error:
            text = f"{path}: this folder cannot be listed ({error.strerror}); nothing of it is read"
            raise OSError(text) from error
        raise IsADirectoryError(f"{path}: is a folder")
    if not path.is_file():
        raise OSError(f"{path}: is not a file")
    recover(path)
    return open_untouched(path)


def open_untouched(path: Path) -> h5py.File:
    """Open an HDF5 file; one that is being recorded, if its writer lets others read (SWMR).

    Raises
    ------
    OSError
        If it cannot be read as HDF5, or is being written; the message names the file.
    """
    name = printable(path)
    before = file_state(path)
    try:
        try:
            return _open(path)
        except OSError:
            # HDF5 looks at the size before it locks: just then, a change may have been completed.
            if file_state(path) == before:
                raise
            return _open(path)
    except PermissionError as error:
        raise PermissionError(f"{name}: may not be read") from error
    except BlockingIOError as error:
        raise OSError(
            f"{name}: is open for writing in another program; close it there and run again"
        ) from error
    except OSError as error:
        if "consistency flags" in str(error):
            with suppress(OSError):  # one who records so that others may read meanwhile
                return h5py.File(path, "r", locking=False, swmr=True)
            raise OSError(
                f"{name}: another program writes into it, or died while it did; close it there. If "
                f"there is none, keep a copy and run HDF5's: h5clear --status {name}"
            ) from error
        raise OSError(f"{name}: cannot be read as an HDF5 file{_why(path, error)}") from error


_SIZES = re.compile(r"truncated file: eof = (\d+),.* stored_eof = (\d+)")
"""What HDF5 says of a file that is shorter than it was when it was written."""


def _why(path: Path, error: OSError) -> str:
    with suppress(OSError):
        if not path.stat().st_size:
            return ": it is empty (0 bytes); copy it again from where it is whole"
    if sizes := _SIZES.search(str(error)):
        there, written = map(int, sizes.groups())
        return (
            f": it is truncated ({there:,} of {written:,} bytes are there); "
            "copy it again from where it is whole"
        )
    return f" ({error})"


def _open(path: Path) -> h5py.File:
    try:
        return h5py.File(path, "r")
    except OSError as error:
        # A file system without locks; once the file is open like that, all must do the same.
        no_locks = "unable to lock file" in str(error) and error.errno in UNSUPPORTED
        if not no_locks and "file locking flag values don't match" not in str(error):
            raise
        return h5py.File(path, "r", locking=False)
