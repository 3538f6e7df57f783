"""File objects for h5py: bytes from anywhere, handed to HDF5 by callbacks."""

import os
from abc import ABC, abstractmethod
from typing import Any

from sparsemed.hdf5.children import children_of
from sparsemed.storage.stored import StoredBytes

_PART = 4096
"""Bytes of most parts of an index, at most."""


class FileObject(ABC):
    """A file object for h5py.

    HDF5 loses exceptions of its methods, or crashes on them. So the methods raise none: they keep
    the first failure, and return zeros.

    Attributes
    ----------
    name : str
        Name of the file for h5py.
    size : int
        Bytes of the file.
    failure : BaseException or None
        The first failure.
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
        """Fill a view with the bytes from an offset; beyond the end, with zeros."""

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to an offset."""
        self.position = offset + (self.size if whence == os.SEEK_END else 0)
        return self.position

    def tell(self) -> int:
        """Return the offset."""
        return self.position

    def read(self, count: int) -> bytes:
        """Return bytes from the offset on."""
        data = bytearray(count)
        return bytes(data[: self.readinto(data)])

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer from the offset on."""
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

    def flush(self) -> None:  # noqa: B027 (HDF5 calls it)
        """Do nothing: changes stay in memory."""


class StoredFile(FileObject):
    """Stored bytes as a file object for h5py, for reading.

    Parameters
    ----------
    stored : StoredBytes
    """

    def __init__(self, stored: StoredBytes) -> None:
        super().__init__(stored.name)
        self.stored = stored
        self.size = stored.size

    def fill(self, view: memoryview, offset: int) -> None:
        """Fill a view with the bytes from an offset; beyond the end, with zeros."""
        there = max(0, min(len(view), self.size - offset))
        if there and not self.stored.read_into(view[:there], offset):
            raise OSError(f"{self.name}: cannot be read, it has become shorter")
        view[there:] = bytes(len(view) - there)
        if children := children_of(view, self.size):
            self.stored.gather((address, address + _PART) for address in children)

    def raise_failure(self) -> None:
        """Raise the first failure, at each call: HDF5 may have kept the zeros.

        Raises
        ------
        OSError
            A new one each time: the traceback of the first would keep the file open.
        """
        if isinstance(self.failure, Exception):
            raise OSError(str(self.failure))
        if self.failure is not None:  # such as Ctrl-C
            failure, self.failure = self.failure, None
            raise failure
