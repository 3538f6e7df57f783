"""What h5py takes for a file: bytes from anywhere, handed to HDF5 by its callbacks."""

import os
from abc import ABC, abstractmethod
from typing import Any

from sparsemed.hdf5.children import children_of
from sparsemed.storage.stored import StoredBytes

_PART = 4096
"""Bytes of most parts of an index."""


class FileObject(ABC):
    """What h5py takes for a file.

    HDF5 calls its methods and loses their exceptions, or crashes on them. So they raise none, but
    note the first failure, and hand out zeros.

    Attributes
    ----------
    name : str
        What h5py takes for the name of the file.
    size : int
        Its bytes.
    failure : BaseException or None
        What went wrong first.
    """

    size: int

    def __init__(self, name: str) -> None:
        self.name = name
        self.position = 0
        self.failure: BaseException | None = None

    def __repr__(self) -> str:
        return self.name

    @abstractmethod
    def fill(self, view: memoryview, offset: int) -> None:
        """Fill a view with the bytes from an offset; beyond the end these are zeros."""

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to an offset."""
        self.position = offset + (self.size if whence == os.SEEK_END else 0)
        return self.position

    def tell(self) -> int:
        """Return the offset."""
        return self.position

    def read(self, count: int) -> bytes:
        """Return bytes from there."""
        data = bytearray(count)
        return bytes(data[: self.readinto(data)])

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer from there."""
        view = memoryview(buffer).cast("B")
        try:
            if self.failure is None:  # or else nobody wants more, and it may take long
                self.fill(view, self.position)
        except BaseException as error:
            self.failure = error
        if self.failure is not None:
            view[:] = bytes(len(view))
        count = max(0, min(len(view), self.size - self.position))
        self.position += count
        return count

    def flush(self) -> None:  # noqa: B027 (HDF5 calls it, and there is nothing to do)
        """Do nothing: what is changed stays in memory."""


class StoredFile(FileObject):
    """Stored bytes as h5py takes them, for reading.

    Parameters
    ----------
    stored : StoredBytes
    """

    def __init__(self, stored: StoredBytes) -> None:
        super().__init__(stored.name)
        self.stored = stored
        self.size = stored.size

    def fill(self, view: memoryview, offset: int) -> None:
        """Fill a view with the bytes from an offset; beyond the end these are zeros."""
        there = max(0, min(len(view), self.size - offset))
        if there and not self.stored.read_into(view[:there], offset):
            raise OSError(f"{self.name}: cannot be read, it has become shorter")
        view[there:] = bytes(len(view) - there)
        if children := children_of(view, self.size):
            self.stored.gather((address, address + _PART) for address in children)

    def raise_failure(self) -> None:
        """Raise what went wrong, now and ever again: HDF5 may have kept the zeros it got.

        Raises
        ------
        OSError
            Made anew each time: one that had passed through here would hold on to the file.
        """
        if isinstance(self.failure, Exception):
            raise OSError(str(self.failure))
        if self.failure is not None:  # Ctrl-C, say
            failure, self.failure = self.failure, None
            raise failure
