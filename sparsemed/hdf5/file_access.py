"""Which other files a file may lead to, and those of them that are open."""

import os
import stat
from os import PathLike
from pathlib import Path
from typing import Literal, get_args

import h5py

from sparsemed.hdf5.journal import interrupted
from sparsemed.hdf5.opening import open_restored, open_untouched
from sparsemed.printable import printable
from sparsemed.storage.stored import LocalBytes, file_state

Policy = Literal["off", "same-folder", "any"]
"""Which other files a measurement may lead to; see `FileAccess`."""

MISSING = "which does not exist"
"""What `FileAccess.refusal` says of a file that is not there."""

MOST_FILES = 250
"""Other files that a measurement may lead to."""

_OF_THE_SYSTEM = ("/proc/", "/sys/")  # regular files, by their looks


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
    """A file, the other files that it may lead to, and those of all these that are open.

    All are opened for reading. Others stay as they are: a change that was interrupted is undone
    only in the file itself, which the user names.

    Parameters
    ----------
    path : str or path
        The file.
    policy : str
        ``"off"``: no other file. ``"same-folder"``: only files directly in the
        folder of this one, once symbolic links are resolved, of both.
        ``"any"``: all. In any case, only regular files.

    Attributes
    ----------
    folder : Path
        The folder that paths begin at, if they are not absolute.

    Raises
    ------
    ValueError
        If there is no such policy.
    """

    def __init__(self, path: str | PathLike[str], policy: Policy) -> None:
        check_policy(policy)
        self.policy = policy
        self.folder = Path(path).parent
        self._only = os.path.dirname(os.path.realpath(path))
        self._path = Path(path)
        self._open: list[h5py.File] = []
        self._others: dict[str, h5py.File] = {}
        self._states: list[tuple[LocalBytes, tuple[int, ...]]] = []

    def open_own(self) -> h5py.File:
        """Open the file itself, after undoing a change that was interrupted.

        Raises
        ------
        OSError
            If it is missing or cannot be read as HDF5.
        """
        return self._remember(self._path, open_restored(self._path))

    def close(self) -> None:
        """Close the files that are open."""
        for h5 in self._open:
            h5.close()

    def check_unchanged(self) -> None:
        """Check that nobody has changed, replaced or removed the files since they were opened.

        Raises
        ------
        OSError
            If somebody has. Frames that were read may then be of two different states.
        """
        for stored, state in self._states:
            if stored.state != state:
                raise OSError(
                    f"{stored}: was changed, replaced or removed by another program while its "
                    "frames were read; run again when that has ended"
                )

    def refusal(self, path: Path) -> str | None:
        """Say why a file is not opened, as the end of a sentence; None if it may be opened."""
        if self.policy == "off":  # without as much as a look
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
            If a change of it was interrupted, or it cannot be read as HDF5.
        """
        real, name = os.path.realpath(path), printable(path)
        if real in self._others:
            return self._others[real]
        if (reason := self.refusal(path)) is not None:
            raise ValueError(f"leads to {name}, {reason}")
        if len(self._others) >= MOST_FILES:
            raise ValueError(f"leads to {name}, and to more than {MOST_FILES} files in all")
        if interrupted(path):
            raise OSError(
                f"{name}: a change of this file was interrupted; undo it, and run again: "
                f"sparsemed recover {name}"
            )
        seen, state = os.stat(real), file_state(Path(real))
        h5 = open_untouched(path)
        descriptor = _descriptor(h5)
        if descriptor is not None:
            # another number alone says nothing: some file systems give one at each look
            is_same = os.path.samestat(os.fstat(descriptor), seen)
            if not is_same and file_state(descriptor) != state:
                h5.close()
                raise OSError(f"{name}: was replaced by another file while it was opened")
        self._others[real] = h5
        return self._remember(path, h5)

    def note(self, path: Path, descriptor: int | None = None) -> None:
        """Note the state of a file that HDF5 opens by itself; see `check_unchanged`."""
        stored = LocalBytes(path, descriptor)
        self._states.append((stored, stored.state))

    def _remember(self, path: Path, h5: h5py.File) -> h5py.File:
        self._open.append(h5)
        if not h5.swmr_mode:  # one that is being recorded does change
            self.note(path, _descriptor(h5))
        return h5


def _descriptor(h5: h5py.File) -> int | None:
    """Return the descriptor by which HDF5 reads a file, where it has one."""
    if os.name == "posix" and h5.driver == "sec2":
        return int(h5.id.get_vfd_handle())
    return None
