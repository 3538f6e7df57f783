"""Bytes of an object in a network, as `StoredBytes`: checked, cached, and fetched ahead.

HDF5 asks for few bytes here and there, in a thread of its own that must wait for no other one of
Python's: these come in blocks, which are kept. Frames are wanted in an order that is known: these
are fetched ahead, by threads.
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
from sparsemed.storage.remote import REQUESTS, Place, RemoteObject
from sparsemed.storage.stored import Habits

BLOCK = 64 * 1024
"""Bytes that are kept together."""

AT_ONCE = 4
"""Blocks that are fetched for one that is missing."""

MOST_AT_ONCE = 128
"""Blocks that are fetched for one, if what was wanted before lies just before it."""

MOST_CACHED = 256 * 1024
"""Bytes of a read that goes by the blocks; what is longer is data, and read once."""

MOST_KEPT = 1024
"""Blocks that are kept: 64 MiB. Those that were used last stay."""

MOST_AHEAD = 64 * 1024**2
"""Bytes that are fetched ahead."""

HABITS = Habits(gap=64 * 1024, piece=2 * 1024**2, at_once=REQUESTS)
"""A request takes as long as some 100 KiB."""


class RangedBytes:
    """An object in a network, read by ranges.

    Parameters
    ----------
    place : Place
        Where it is.
    version : Version, optional
        What it has to be; by default, what it is now.
    guard : callable, optional
        Which hosts may be asked; see `RemoteObject`.

    Raises
    ------
    OSError
        If it cannot be read, or does not say what it is. The message names it.
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
        """Take what reading takes: connections and threads are of one process."""
        self._remote = RemoteObject(self._place, version, self._guard)
        self._ahead: Ahead | None = None
        self._process = os.getpid()

    def __str__(self) -> str:
        return self.name

    @property
    def size(self) -> int:
        """How many bytes there are."""
        return self.version.size

    @property
    def version(self) -> Version:
        """What the object was found to be, by which each answer is checked."""
        assert self._remote.version is not None  # known since it was opened
        return self._remote.version

    @property
    def state(self) -> tuple[Any, ...]:
        """What differs once somebody has changed them: here, reading itself notices."""
        return tuple(each for each in self.version if each is not None)

    @property
    def is_public(self) -> bool:
        """Whether the host is one that anybody can reach."""
        return self._remote.is_public

    def opener(self) -> Callable[[], "RangedBytes"]:
        """Return what opens these very bytes, be it in another process."""
        return partial(RangedBytes, self._place, self.version, self._guard)

    def expect(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Begin to fetch what will be read, and keep it until then; see `StoredBytes`."""
        self._own()
        if self._ahead is not None:
            self._ahead.close()
        if self._remote.whole is None:
            inside = (each for each in ranges if each[1] <= self.size)
            self._ahead = Ahead(self._remote.fetch, inside, HABITS, MOST_AHEAD)

    def gather(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Fetch the blocks of several ranges at once, in this thread, unless they are kept."""
        numbers: set[int] = set()
        for begin, end in ranges:
            numbers.update(range(begin // BLOCK, -(-min(end, self.size) // BLOCK)))
        self._fetch_blocks(sorted(numbers - self._blocks.keys())[: MOST_KEPT // 2])

    def read_into(self, buffer: memoryview, offset: int) -> bool:
        """Fill a buffer with what begins at an offset; return whether there was enough."""
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
        """End what is under way; threads that wait for it get an OSError."""
        self._own()
        self._remote.close()
        if self._ahead is not None:
            self._ahead.close()

    def close(self) -> None:
        """End what is under way, and begin anew with the next read."""
        self.interrupt()
        self._begin(self.version)

    def _own(self) -> None:
        if self._process != os.getpid():  # this is a fork
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
        """Fetch blocks, those that follow each other by one request, all at once."""
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
