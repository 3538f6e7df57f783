"""Access to a file, and to the other files that it may lead to."""

import os
import stat
from os import PathLike
from pathlib import Path
from typing import Any, Literal, get_args

import h5py

from sparsemed.hdf5.journal import interrupted
from sparsemed.hdf5.opening import (
    bytes_behind,
    open_restored,
    open_stored,
    open_untouched,
    raise_failure,
)
from sparsemed.printable import printable
from sparsemed.storage.identity import States
from sparsemed.storage.stored import LocalBytes, StoredBytes, file_state, require_state

Policy = Literal["off", "same-folder", "any", "network"]
"""Which other files a measurement may lead to; see `FileAccess`."""

MISSING = "which does not exist"
"""The answer of `FileAccess.refusal` for a missing file."""

MOST_FILES = 1000
"""Largest number of other files that a measurement may lead to.

All stay open, so that HDF5 finds them open: if it could not open a source, it would make black
frames.
"""

_OF_THE_SYSTEM = ("/proc/", "/sys/")  # they look like regular files


def check_policy(basins: str) -> None:
    """Check the option `basins`.

    Raises
    ------
    ValueError
        If there is no such policy.
    """
    if basins not in get_args(Policy):
        known = ", ".join(map(repr, get_args(Policy)))
        raise ValueError(f"basins must be one of {known}, got {basins!r}")


class FileAccess:
    """A file and the other files that it may lead to, opened for reading.

    An interrupted change is undone only in the file itself, which the user names; other files stay
    as they are.

    Parameters
    ----------
    file : str, path or StoredBytes
        The file. Stored bytes have no folder.
    policy : str
        ``"off"``: no other file. ``"same-folder"``: only files directly in the
        folder of this one, after symbolic links of both are resolved. ``"any"``
        and ``"network"``: all. In each case, only regular files.

    Attributes
    ----------
    name : str
        Name of the file in messages.
    here : str
        The working folder at the start; it may change.

    Raises
    ------
    ValueError
        If there is no such policy.
    """

    def __init__(self, file: str | PathLike[str] | StoredBytes, policy: Policy) -> None:
        check_policy(policy)
        self.policy = policy
        self.here = _working_folder()
        self._file = Path(file) if isinstance(file, (str, PathLike)) else file
        if isinstance(self._file, Path):
            self.name = str(self._file)
            self._only = os.path.dirname(os.path.realpath(self._file))
        else:
            self.name = self._file.name
            self._only = ""  # no file lies in it
        self._open: list[h5py.File] = []
        self._others: dict[str, h5py.File] = {}
        self._states: list[tuple[StoredBytes, tuple[Any, ...]]] = []

    def open_own(self) -> h5py.File:
        """Open the file itself, after undoing a change that was interrupted.

        Raises
        ------
        OSError
            If it is missing or cannot be read as HDF5.
        """
        if isinstance(self._file, Path):
            return self._remember(open_restored(self._file))
        return self._remember(open_stored(self._file))

    def folder_of(self, h5: h5py.File) -> str:
        """Return the folder of an open file; absolute if the working folder has changed."""
        folder = os.path.dirname(h5.filename)
        return folder if _working_folder() == self.here else os.path.join(self.here, folder)

    def close(self) -> None:
        """Close all files."""
        for h5 in self._open:
            h5.close()

    def raise_failures(self) -> None:
        """Raise the error that HDF5 met in one of the files; see `raise_failure`."""
        for h5 in self._open:
            raise_failure(h5)

    @property
    def states(self) -> States:
        """The files that were opened, with their states at that time."""
        return tuple((stored.name, state) for stored, state in self._states)

    def check_unchanged(self) -> None:
        """Check that no file was changed, replaced or removed since it was opened.

        Raises
        ------
        OSError
            If a file was, as frames may then be of two different states; or if HDF5 failed to
            read something.
        """
        self.raise_failures()
        for stored, state in self._states:
            require_state(stored, state)

    def refusal(self, path: Path) -> str | None:
        """Return why a file is not opened, as the end of a sentence; None if it may be opened."""
        if self.policy == "off":  # not even its state is read
            return "which basins='off' does not follow"
        try:
            found = os.stat(path)
        except (OSError, ValueError):  # no such file, or no such name
            return MISSING
        real = os.path.realpath(path)
        if not stat.S_ISREG(found.st_mode) or real.startswith(_OF_THE_SYSTEM):
            return "which is no regular file"
        if self.policy == "same-folder" and os.path.dirname(real) != self._only:
            return "which basins='same-folder' does not follow: it lies in another folder"
        return None

    def open(self, path: Path) -> h5py.File:
        """Open a file for reading, or return it if it is open.

        Raises
        ------
        ValueError
            If it may not be opened.
        OSError
            If it has an interrupted change, or cannot be read as HDF5.
        """
        real, name = os.path.realpath(path), printable(path)
        if real in self._others:
            return self._others[real]
        if (reason := self.refusal(path)) is not None:
            raise ValueError(f"leads to {name}, {reason}")
        self._require_room(name)
        if interrupted(path):
            raise OSError(
                f"{name}: a change of this file was interrupted; undo it with 'sparsemed recover "
                f"{name}' and run again"
            )
        seen, state = os.stat(real), file_state(Path(real))
        h5 = open_untouched(path)
        descriptor = _descriptor(h5)
        if descriptor is not None:
            # another inode number alone proves nothing: some file systems change it at each look
            is_same = os.path.samestat(os.fstat(descriptor), seen)
            if not is_same and file_state(descriptor) != state:
                h5.close()
                raise OSError(f"{name}: was replaced by another file while it was opened")
        self._others[real] = h5
        return self._remember(h5)

    def open_stored(self, stored: StoredBytes) -> h5py.File:
        """Open stored bytes for reading, or return their file if it is open.

        Raises
        ------
        ValueError
            If there are too many files.
        OSError
            If they cannot be read as HDF5.
        """
        if stored.key in self._others:
            return self._others[stored.key]
        self._require_room(printable(stored.name))
        h5 = self._others[stored.key] = open_stored(stored)
        return self._remember(h5)

    def note(self, path: Path) -> None:
        """Note the state of a file that HDF5 opens by itself; see `check_unchanged`."""
        self._note(LocalBytes(path))

    def _require_room(self, name: str) -> None:
        if len(self._others) >= MOST_FILES:
            raise ValueError(f"leads to {name}, and to more than {MOST_FILES} files in all")

    def _remember(self, h5: h5py.File) -> h5py.File:
        self._open.append(h5)
        if not h5.swmr_mode:  # a file that is being recorded does change
            self._note(bytes_behind(h5) or LocalBytes(h5.filename))
        return h5

    def _note(self, stored: StoredBytes) -> None:
        self._states.append((stored, stored.state))


def _working_folder() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:  # it was removed
        return os.sep


def _descriptor(h5: h5py.File) -> int | None:
    """Return the descriptor with which HDF5 reads a file, if it has one."""
    if os.name == "posix" and h5.driver == "sec2":
        return int(h5.id.get_vfd_handle())
    return None
