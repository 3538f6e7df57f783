"""Write HDF5 files so that a crash at any moment leaves the old state or the new one.

HDF5 never writes to the disk itself: it works on an overlay, which reads from the file and keeps
every change in memory. When HDF5 is done, a journal of the few bytes to be replaced is written
beside the file. Then new content is appended after the old end, where no reader looks yet; then
the few bytes are patched; then the journal is removed. While the journal exists, the change does
not count, and `recover` restores the old state from it.
"""

import contextlib
import io
import os
from collections.abc import Iterator
from os import PathLike
from pathlib import Path

import h5py

from sparsemed.hdf5.journal import journal_of, pack, recover, roll_back
from sparsemed.hdf5.opening import is_open_here
from sparsemed.hdf5.overlay import Overlay
from sparsemed.hdf5.signals import signals_put_off
from sparsemed.storage import disk
from sparsemed.storage.stored import LocalBytes, file_state

# "latest" alone would be the format of the installed library; HDF5 1 cannot read that of HDF5 2
_LIBVER = ("v110", "latest")


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
    disk.check_folder(path)
    disk.check_absent(path)
    recover(path)  # raises if a missing file has a journal, which would be applied to the new file
    with _kept_in_memory(path) as (h5, overlay):
        yield h5
    failed = "could not be created; make room or choose another folder, and run again"
    with disk.naming(path, failed):
        disk.create(path, overlay.tail)


@contextlib.contextmanager
def rewritten_file(path: str | PathLike[str]) -> Iterator[h5py.File]:
    """Write an existing HDF5 file anew: a new file replaces the old one when it is complete.

    Until the body has finished, the old file is there. Programs that read it can go on.

    Parameters
    ----------
    path : str or path
        The file. When the body has finished, no one else may have it open.

    Yields
    ------
    h5py.File
        An empty file, open for writing.

    Raises
    ------
    PermissionError
        If the file or its folder is read-only.
    OSError
        If the file is missing, is open or was changed elsewhere, or cannot be written.
    """
    path = Path(os.path.realpath(path))  # so that a link still leads to the file
    recover(path)
    with disk.open_for_writing(path, "or choose another output file") as handle:
        stored = LocalBytes(path, handle.fileno())
        state = file_state(handle.fileno())
        with _kept_in_memory(path) as (h5, overlay):
            yield h5
        with _locked(handle, path):
            _check_unchanged(path, stored, state)
            if os.name == "nt":  # Windows replaces no open file
                handle.close()
            disk.replace(path, overlay.tail)


@contextlib.contextmanager
def changed_file(path: str | PathLike[str]) -> Iterator[h5py.File]:
    """Change an existing HDF5 file wholly or, if anything fails, not at all.

    The file changes only after the body has finished; until then, other
    programs can read it, and new content is kept in memory.

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
    with disk.open_for_writing(path, "or choose another output file") as handle:
        stored = LocalBytes(path, handle.fileno())
        state = file_state(handle.fileno())
        overlay = Overlay(handle, path)
        with _hdf5_on(overlay, "r+") as h5:
            yield h5
        _commit(overlay, handle, stored, state)


@contextlib.contextmanager
def _kept_in_memory(path: Path) -> Iterator[tuple[h5py.File, Overlay]]:
    with open(os.devnull, "rb", buffering=0) as nothing:
        overlay = Overlay(nothing, path)
        with _hdf5_on(overlay, "w") as h5:
            yield h5, overlay


@contextlib.contextmanager
def _hdf5_on(overlay: Overlay, mode: str) -> Iterator[h5py.File]:
    with signals_put_off():
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
def _locked(handle: io.FileIO, path: Path) -> Iterator[None]:
    """Lock the file; if that fails, the error tells whether this program has the file open."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(disk.locked(handle, path))
        except OSError as error:
            if not is_open_here(path):
                raise
            raise OSError(
                f"{path}: is open elsewhere in this program: close the h5py.File or the dataset "
                "of dclab that holds it (by close(), or at the end of 'with'), and run again"
            ) from error
        yield


def _commit(
    overlay: Overlay, handle: io.FileIO, stored: LocalBytes, state: tuple[int, ...]
) -> None:
    path = overlay.path
    journal = journal_of(path)
    with _locked(handle, path):
        _check_unchanged(path, stored, state)
        try:
            failed = "could not be changed and is as before; make room and run again"
            with disk.naming(path, failed):
                changes = overlay.changes()
                if not changes and not overlay.tail:
                    return
                disk.create(journal, pack(overlay.old_size, len(overlay.tail), changes))
                disk.write(handle, overlay.old_size, overlay.tail)
                disk.sync(handle)
                # Fails if the journal is gone: without locks, another process may have rolled back.
                os.utime(journal)
                for offset, _, new in changes:
                    disk.write(handle, offset, new)
                disk.sync(handle)
                disk.remove(journal)
        except FileExistsError as error:  # the journal of another process, without locks
            raise OSError(_MEANWHILE.format(path)) from error
        except BaseException:
            if journal.exists():  # otherwise nothing has changed yet, or everything
                with disk.naming(path, f"could not be restored; keep {journal.name} and run again"):
                    roll_back(path, handle)
            raise
        with contextlib.suppress(
            OSError
        ):  # in the worst case, the journal reappears and undoes the change
            disk.sync_folder(path.parent)


_MEANWHILE = "{}: was changed by another program in the meantime; run again"


def _check_unchanged(path: Path, stored: LocalBytes, state: tuple[int, ...]) -> None:
    if stored.state != state or journal_of(path).exists():
        raise OSError(_MEANWHILE.format(path))
