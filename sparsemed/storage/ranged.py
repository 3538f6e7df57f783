"""Bytes of an object in a network, as `StoredBytes`: checked, cached, and fetched ahead.

HDF5 reads a few bytes at a time, in a thread that must not wait for another Python thread: these
come in blocks, which are kept. Frames are read in a known order: these are fetched ahead by
threads.
"""

import os
from collections import OrderedDict
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Any

from sparsemed.storage.ahead import Ahead
from sparsemed.storage.answers import Version
from sparsemed.storage.connections import Guard
from sparsemed.storage.place import Place
from sparsemed.storage.remote import REQUESTS, RemoteObject
from sparsemed.storage.stored import Habits

BLOCK = 64 * 1024
"""Bytes of a block."""

AT_ONCE = 4
"""Number of blocks fetched for a missing one."""

MOST_AT_ONCE = 128
"""Largest number of blocks fetched for a missing one, if reads follow each other."""

MOST_CACHED = 256 * 1024
"""Largest bytes of a read through blocks; a longer read is data, which is read once."""

MOST_KEPT = 1024
"""Number of blocks that are kept: 64 MiB, those used last."""

MOST_AHEAD = 64 * 1024**2
"""Largest bytes that are fetched ahead."""

HABITS = Habits(gap=64 * 1024, piece=2 * 1024**2, at_once=REQUESTS)
"""A request costs as much time as some 100 KiB."""


class RangedBytes:
    """An object in a network, read by ranges.

    Parameters
    ----------
    place : Place
        Place of the object.
    version : Version, optional
        The version that it must have. Default: its version now.
    guard : callable, optional
        Which hosts may be used; see `RemoteObject`.

    Raises
    ------
    OSError
        If it cannot be read. The message names it.
    """

    habits = HABITS

    def __init__(
        self, place: Place, version: Version | None = None, guard: Guard | None = None
    ) -> None:
        self.name = place.shown
        self.key = place.key
        self._place = place
        self._guard = guard
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        self._expected = -1  # the block after those that were fetched last
        self._more = AT_ONCE
        self._begin(version)
        if version is None:
            first = bytearray(AT_ONCE * BLOCK)
            count = self._remote.fetch(0, memoryview(first))
            self._keep(0, first[:count])

    def _begin(self, version: Version | None) -> None:
        """Make connections and threads for reading, which belong to one process."""
        self._remote = RemoteObject(self._place, version, self._guard)
        self._ahead: Ahead | None = None
        self._process = os.getpid()

    def __str__(self) -> str:
        return self.name

    @property
    def size(self) -> int:
        """Number of bytes."""
        return self.version.size

    @property
    def version(self) -> Version:
        """Version of the object, with which each answer is compared."""
        assert self._remote.version is not None  # known since it was opened
        return self._remote.version

    @property
    def state(self) -> tuple[Any, ...]:
        """State of the object; a change is noticed by reading."""
        return tuple(each for each in self.version if each is not None)

    @property
    def is_public(self) -> bool:
        """Whether the host is public."""
        return self._remote.is_public

    def opener(self) -> Callable[[], "RangedBytes"]:
        """Return a function that opens the same bytes, also in another process."""
        return partial(RangedBytes, self._place, self.version, self._guard)

    def expect(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Begin to fetch the expected ranges, and keep them until they are read."""
        self._own()
        if self._ahead is not None:
            self._ahead.close()
        if self._remote.whole is None:
            inside = (each for each in ranges if each[1] <= self.size)
            self._ahead = Ahead(self._remote.fetch, inside, HABITS, MOST_AHEAD)

    def gather(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Fetch the missing blocks of several ranges at once, in this thread."""
        self._own()
        if self._remote.whole is not None:
            return
        numbers: set[int] = set()
        for begin, end in ranges:
            numbers.update(range(begin // BLOCK, -(-min(end, self.size) // BLOCK)))
        self._fetch_blocks(sorted(numbers - self._blocks.keys())[: MOST_KEPT // 2])

    def read_into(self, buffer: memoryview, offset: int) -> bool:
        """Fill a buffer from an offset on; return whether there were enough bytes."""
        self._own()
        end = offset + len(buffer)
        if end > self.size:
            return False
        if self._remote.whole is not None:
            return self._remote.copy_whole(offset, buffer) == len(buffer)
        if self._ahead is not None and self._ahead.read_into(buffer, offset):
            return True
        if len(buffer) > MOST_CACHED and self._lacks(offset // BLOCK, -(-end // BLOCK)):
            self._fetch(buffer, offset)
            return True
        for number in range(offset // BLOCK, -(-end // BLOCK)):
            block = self._block(number, -(-end // BLOCK))
            first, last = max(offset, number * BLOCK), min(end, (number + 1) * BLOCK)
            buffer[first - offset : last - offset] = block[
                first - number * BLOCK : last - number * BLOCK
            ]
        return True

    def interrupt(self) -> None:
        """End current requests; threads that wait for them get an OSError."""
        self._own()
        self._remote.close()
        if self._ahead is not None:
            self._ahead.close()

    def close(self) -> None:
        """End current requests, and begin anew with the next read."""
        self.interrupt()
        self._begin(self.version)

    def _own(self) -> None:
        if self._process != os.getpid():  # in a forked process
            self._begin(self.version)

    def _fetch(self, buffer: memoryview, offset: int) -> None:
        """Fetch a long range, by several requests at once, in this thread."""
        step = max(MOST_CACHED, min(HABITS.piece, -(-len(buffer) // REQUESTS)))
        parts = [(offset + at, buffer[at : at + step]) for at in range(0, len(buffer), step)]
        for first in range(0, len(parts), REQUESTS):
            self._remote.fetch_all(parts[first : first + REQUESTS])

    def _block(self, number: int, stop: int) -> bytes:
        """Return a block, fetched with those after it up to `stop`, and some more."""
        found = self._blocks.get(number)
        if found is None:
            is_next = number == self._expected
            self._more = min(2 * self._more, MOST_AT_ONCE) if is_next else AT_ONCE
            count = min(max(self._more, stop - number), MOST_KEPT // 2)
            self._expected = number + count
            self._fetch_blocks([number, *self._missing(number + 1, number + count)])
            return self._blocks[number]
        with suppress(KeyError):  # another thread has just dropped it
            self._blocks.move_to_end(number)
        return found

    def _lacks(self, begin: int, end: int) -> bool:
        return any(number not in self._blocks for number in range(begin, end))

    def _missing(self, begin: int, end: int) -> Iterable[int]:
        end = min(end, -(-self.size // BLOCK))
        return (number for number in range(begin, end) if number not in self._blocks)

    def _fetch_blocks(self, numbers: list[int]) -> None:
        """Fetch blocks; consecutive blocks by one request, all requests at once."""
        if not numbers:
            return
        most = max(AT_ONCE, min(HABITS.piece // BLOCK, -(-len(numbers) // REQUESTS)))
        runs: list[list[int]] = []
        for number in numbers:
            if runs and number == runs[-1][-1] + 1 and len(runs[-1]) < most:
                runs[-1].append(number)
            else:
                runs.append([number])
        for first in range(0, len(runs), REQUESTS):
            parts = []
            for run in runs[first : first + REQUESTS]:
                begin = run[0] * BLOCK
                room = bytearray(min((run[-1] + 1) * BLOCK, self.size) - begin)
                parts.append((begin, room))
            self._remote.fetch_all([(begin, memoryview(room)) for begin, room in parts])
            for begin, room in parts:
                self._keep(begin, room)

    def _keep(self, begin: int, data: bytearray) -> None:
        for first in range(0, len(data), BLOCK):
            self._blocks[(begin + first) // BLOCK] = bytes(data[first : first + BLOCK])
        while len(self._blocks) > MOST_KEPT:
            self._blocks.popitem(last=False)
