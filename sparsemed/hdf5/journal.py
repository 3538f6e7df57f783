"""The journal: the bytes that a change of a file replaces, and how to restore them.

While the journal exists, the change does not count: the next open rolls it back.
"""

import hashlib
import io
import json
import os
import stat
import time
from os import PathLike
from pathlib import Path

import numpy as np

from sparsemed.hdf5.overlay import Change, as_array
from sparsemed.storage import disk

_MAGIC = b"sparsemed journal 1 "

_LONGEST = 143  # bytes of a file name that every file system allows; most allow 255

_FRESH = 60  # seconds for which a journal counts as in use if files cannot be locked


def recover(path: str | PathLike[str]) -> bool:
    """Undo a change that was interrupted, if there was one.

    Parameters
    ----------
    path : str or path
        The file.

    Returns
    -------
    bool
        Whether a change was undone.

    Raises
    ------
    PermissionError
        If there is something to undo, but the file or its folder is read-only.
    OSError
        If another process writes the file, or may do so where files cannot be
        locked; or if the journal is damaged or does not fit the file. The
        journal then stays.
    """
    path = Path(os.path.realpath(path))
    journal = journal_of(path)
    if not interrupted(path):
        return False
    _check_journal(path, journal)
    if not path.exists():
        raise OSError(
            f"{path}: is missing, but its journal {journal.name} is there; "
            "put the file back, or delete the journal"
        )
    failed = disk.naming(path, f"could not be restored; keep {journal.name} and try again")
    with (
        disk.open_for_writing(path, "as an interrupted change has to be undone") as handle,
        disk.locked(handle, path) as is_locked,
        failed,
    ):
        if not journal.exists():  # another process held the lock, and has just finished
            return False
        if not is_locked and abs(time.time() - journal.stat().st_mtime) < _FRESH:
            raise OSError(
                f"{path}: another process may be writing it, as there is {journal.name} and files "
                f"cannot be locked here; try again in {_FRESH} seconds"
            )
        roll_back(path, handle)
        return True


def interrupted(path: str | PathLike[str]) -> bool:
    """Return whether a file has an interrupted change that is not undone."""
    return os.path.lexists(journal_of(Path(os.path.realpath(path))))


def roll_back(path: Path, handle: io.FileIO) -> None:
    """Restore the old state and remove the journal."""
    journal = journal_of(path)
    content = _unpack(journal.read_bytes())
    if content is None:
        raise OSError(
            f"{path}: cannot be restored, as {journal.name} is damaged; "
            f"if the file is intact, delete {journal.name}"
        )
    old_size, tail_size, changes = content
    found = [disk.read(handle, offset, offset + len(old)) for offset, old, _ in changes]
    if not old_size <= disk.size(handle) <= old_size + tail_size or not all(
        np.all((as_array(now) == as_array(old)) | (as_array(now) == as_array(new)))
        for now, (_, old, new) in zip(found, changes, strict=True)
    ):
        raise OSError(
            f"{path}: was changed after an interrupted change, which cannot be undone any "
            f"more; if the file is intact, delete {journal.name}"
        )
    # Old bytes that read as equal are written, too: after a failed sync, the disk may differ.
    for offset, old, _ in reversed(changes):
        disk.write(handle, offset, old)
    disk.truncate(handle, old_size)
    disk.sync(handle)
    disk.remove(journal)
    disk.sync_folder(path.parent)


def pack(old_size: int, tail_size: int, changes: list[Change]) -> bytes:
    """Return the content of a journal."""
    spans = [(offset, old.hex(), new.hex()) for offset, old, new in changes]
    content = json.dumps([old_size, tail_size, spans]).encode()
    return _MAGIC + hashlib.sha256(content).hexdigest().encode() + b"\n" + content


def _unpack(journal: bytes) -> tuple[int, int, list[Change]] | None:
    head, _, content = journal.partition(b"\n")
    if head != _MAGIC + hashlib.sha256(content).hexdigest().encode():
        return None
    old_size, tail_size, spans = json.loads(content)
    changes = [(offset, bytes.fromhex(old), bytes.fromhex(new)) for offset, old, new in spans]
    return old_size, tail_size, changes


def journal_of(path: Path) -> Path:
    """Return the path of the journal of a file."""
    journal = path.with_name(f"{path.name}.sparsemed-journal")
    if len(os.fsencode(journal.name)) <= _LONGEST:
        return journal
    return path.with_name(hashlib.sha256(os.fsencode(path.name)).hexdigest() + journal.suffix)


def _check_journal(path: Path, journal: Path) -> None:
    """Check that a journal can be trusted, as it tells what to write into the file."""
    try:
        note = os.lstat(journal)
    except FileNotFoundError:  # another process has just finished with it
        return
    if not stat.S_ISREG(note.st_mode):
        raise OSError(f"{path}: its journal {journal.name} is no regular file; delete it")
    # in a sticky folder (/tmp), others cannot replace the file; nor may their journal change it
    if os.name == "posix" and path.exists() and os.stat(path.parent).st_mode & stat.S_ISVTX:
        owners = {os.geteuid(), os.stat(path).st_uid}
        if note.st_uid not in owners:
            raise PermissionError(
                f"{path}: its journal {journal.name} belongs to another user, in a folder where "
                "all may write; let its owner run 'sparsemed recover'"
            )
