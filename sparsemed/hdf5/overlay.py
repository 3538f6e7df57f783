"""A file object for h5py: a real file, with all changes kept in memory."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsemed.hdf5.fileobj import FileObject
from sparsemed.storage import disk

_PAGE = 4096

_NEAR = 4096  # closer changes become one write; the system writes whole pages anyway

_SIGNATURE = b"\x89HDF\r\n\x1a\n"

Change = tuple[int, bytes, bytes]  # offset, old bytes, new bytes


class Overlay(FileObject):
    """A file with all changes kept in memory, for h5py to read and write."""

    def __init__(self, handle: io.FileIO, path: Path) -> None:
        super().__init__(str(path))
        self.handle = handle
        self.path = path
        self.old_size = disk.size(handle)
        self.shown = self.old_size  # the file shows only up to here, if it was cut
        self.size = self.old_size
        self.pages: dict[int, bytearray] = {}  # changed pages of the file
        self.tail = bytearray()  # all bytes beyond its old end
        self.is_open = False

    def fill(self, view: memoryview, offset: int) -> None:
        """Fill a view with the bytes from an offset; beyond the end these are zeros."""
        view[:] = self.content(offset, offset + len(view))
        if self.is_open and view == _SIGNATURE:  # HDF5 would take this file for the one linked to
            raise OSError("links to other files cannot be followed during a change")

    def write(self, data: Any) -> int:
        """Write bytes at the offset."""
        view = memoryview(data).cast("B")
        try:
            self._put(self.position, view)
        except BaseException as error:
            self.failure = self.failure or error
        self.position += len(view)
        return len(view)

    def truncate(self, size: int) -> int:
        """Cut or extend the file."""
        try:
            self._resize(size)
        except BaseException as error:
            self.failure = self.failure or error
        return size

    def content(self, start: int, stop: int) -> bytearray:
        """Return the bytes from start to stop; beyond the end these are zeros."""
        data = disk.read(self.handle, start, min(stop, self.shown))
        data.extend(bytes(stop - start - len(data)))
        inside = max(start, min(stop, self.old_size))
        for number in range(start // _PAGE, -(-inside // _PAGE)):
            if (page := self.pages.get(number)) is not None:
                first, last = max(start, number * _PAGE), min(inside, (number + 1) * _PAGE)
                data[first - start : last - start] = page[first % _PAGE :][: last - first]
        first = max(start, self.old_size)
        new = self.tail[first - self.old_size : max(0, stop - self.old_size)]
        data[first - start : first - start + len(new)] = new
        return data

    def changes(self) -> list[Change]:
        """Return the changes in the old part of the file."""
        end = min(self.size, self.old_size)
        cut = range(self.shown // _PAGE, -(-end // _PAGE))
        places = [np.empty(0, np.int64)]
        for number in sorted({*cut, *(n for n in self.pages if n * _PAGE < end)}):
            start, stop = number * _PAGE, min(end, (number + 1) * _PAGE)
            before, now = disk.read(self.handle, start, stop), self.content(start, stop)
            differs = as_array(before) != as_array(now)
            places.append(start + np.flatnonzero(differs))
        place = np.concatenate(places)
        groups = np.split(place, np.flatnonzero(np.diff(place) > _NEAR) + 1)
        spans = [(int(group[0]), int(group[-1]) + 1) for group in groups if len(group)]
        return [
            (a, bytes(disk.read(self.handle, a, b)), bytes(self.content(a, b))) for a, b in spans
        ]

    def raise_failure(self) -> None:
        """Raise the first failure, if any."""
        failure, self.failure = self.failure, None  # a reference cycle through HDF5 is never freed
        if isinstance(failure, Exception):
            reason = f"{type(failure).__name__}: {failure}"
            raise OSError(
                f"{self.path}: the change failed in memory ({reason}), nothing was written"
            ) from failure
        if failure is not None:
            raise failure

    def _put(self, start: int, data: memoryview) -> None:
        stop = start + len(data)
        offset = start
        while offset < min(stop, self.old_size):
            number, within = divmod(offset, _PAGE)
            count = min(stop, self.old_size, (number + 1) * _PAGE) - offset
            if number not in self.pages:
                self.pages[number] = self.content(number * _PAGE, (number + 1) * _PAGE)
            self.pages[number][within : within + count] = data[offset - start :][:count]
            offset += count
        if offset < stop:
            first = offset - self.old_size
            self.tail.extend(bytes(max(0, first - len(self.tail))))
            self.tail[first : first + stop - offset] = data[offset - start :]
        if len(data):
            self.size = max(self.size, stop)

    def _resize(self, size: int) -> None:
        for number in [n for n in self.pages if (n + 1) * _PAGE > size]:
            kept = max(0, size - number * _PAGE)
            self.pages[number][kept:] = bytes(_PAGE - kept)
        beyond = max(0, size - self.old_size)
        del self.tail[beyond:]
        self.tail.extend(bytes(beyond - len(self.tail)))
        self.shown = min(self.shown, size)
        self.size = size


def as_array(data: bytes | bytearray) -> NDArray[np.uint8]:
    """Return bytes as an array, without copying."""
    return np.frombuffer(data, np.uint8)
