"""Fetches ranges ahead, in the order of the reads to come, by its own threads."""

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable

from sparsemed.storage.stored import Habits

Fetch = Callable[[int, memoryview], int]
"""``fetch(offset, buffer)`` fills a buffer."""


SLOW = 0.15
"""Seconds from which on a fetch takes long, so that more of them at once are faster."""


class _Piece:
    """Bytes that are fetched by one request, for one or several reads."""

    def __init__(self, begin: int, end: int) -> None:
        self.begin = begin
        self.end = end
        self.reads = 0  # number of reads to come
        self.is_taken = False  # whether a thread fetches it
        self.data: bytearray | None = None


class Ahead:
    """Ranges that are fetched before they are read, and dropped afterwards.

    There are up to twice as many fetches at once where they take long: many servers send only so
    much a second over one connection.

    A range that no thread has begun to fetch is left to who asks for it, so that nobody ever waits
    for anything but an answer of the server.

    Parameters
    ----------
    fetch : callable
        Fills a buffer from an offset on; is called in several threads.
    ranges : iterable of (int, int)
        Begin and end of each read, roughly in order.
    habits : Habits
        Sizes and number of requests.
    most_bytes : int
        Largest number of bytes held or being fetched; a single piece may be larger.
    """

    def __init__(
        self, fetch: Fetch, ranges: Iterable[tuple[int, int]], habits: Habits, most_bytes: int
    ) -> None:
        self._fetch = fetch
        self._most = most_bytes
        self._reads, self._pieces = _cut(ranges, habits)
        self._next = 0
        self._held = 0
        self._failure: BaseException | None = None
        self._is_over = False
        self._changed = threading.Condition()
        self._most_threads = 2 * habits.at_once
        self._threads: list[threading.Thread] = []
        with self._changed:
            for _ in range(habits.at_once):
                self._begin()

    def read_into(self, buffer: memoryview, offset: int) -> bool:
        """Fill a buffer with an expected range, as soon as it was fetched.

        Returns
        -------
        bool
            False if the range was not expected, or no thread fetches it: then the caller must.

        Raises
        ------
        OSError
            If fetching failed or was ended.
        """
        expected = self._reads.get((offset, offset + len(buffer)))
        if not expected:  # checked without a lock, as HDF5 calls this, too
            return False
        with self._changed:
            if not expected:  # another thread was faster
                return False
            pieces = expected.pop()
            is_under_way = all(piece.is_taken for piece in pieces)
            while is_under_way and any(piece.data is None for piece in pieces):
                if self._failure is not None:
                    raise type(self._failure)(*self._failure.args)
                if self._is_over:
                    raise OSError("reading was ended")
                self._changed.wait()
        if is_under_way:
            for piece in pieces:
                first, last = max(offset, piece.begin), min(offset + len(buffer), piece.end)
                source = memoryview(piece.data or b"")[first - piece.begin : last - piece.begin]
                buffer[first - offset : last - offset] = source
        with self._changed:
            for piece in pieces:
                piece.reads -= 1
                self._drop_if_read(piece)
        return is_under_way

    def close(self) -> None:
        """Let the threads end after their current requests."""
        with self._changed:
            self._is_over = True
            self._changed.notify_all()

    def join(self) -> None:
        """Wait until the threads have ended."""
        for thread in self._threads:
            thread.join()

    def _begin(self) -> None:
        """Begin to fetch the next piece, in one more thread, if there is room for it.

        It is taken at once, and not when the thread comes to run: who wants it first waits for it.
        """
        if (piece := self._next_piece()) is not None:
            work = threading.Thread(
                target=self._work, args=(piece,), name="sparsemed-fetch", daemon=True
            )
            try:
                work.start()
            except RuntimeError:  # no more threads are to be had, so others fetch it
                piece.is_taken = False
                self._next -= 1
                self._held -= piece.end - piece.begin
            else:
                self._threads.append(work)

    def _drop_if_read(self, piece: _Piece) -> None:
        if not piece.reads and piece.data is not None:
            piece.data = None
            self._held -= piece.end - piece.begin
            self._changed.notify_all()

    def _work(self, first: _Piece) -> None:
        piece: _Piece | None = first
        while piece is not None:
            data = bytearray(piece.end - piece.begin)
            began = time.monotonic()
            try:
                self._fetch(piece.begin, memoryview(data))
            except BaseException as error:
                with self._changed:
                    self._failure = self._failure or error
                    self._changed.notify_all()
                return
            with self._changed:
                piece.data = data
                self._drop_if_read(piece)
                self._changed.notify_all()
                if time.monotonic() - began > SLOW and len(self._threads) < self._most_threads:
                    self._begin()
            piece = self._take()

    def _take(self) -> _Piece | None:
        """Return the next piece to fetch, as soon as there is room; None after the last one."""
        with self._changed:
            while not self._is_over and self._failure is None:
                if (piece := self._next_piece()) is not None:
                    return piece
                if self._next == len(self._pieces):
                    return None
                self._changed.wait()
            return None

    def _next_piece(self) -> _Piece | None:
        """Return the next piece, taken, if there is one and room for it."""
        while self._next < len(self._pieces) and not self._pieces[self._next].reads:
            self._next += 1  # who wanted it has fetched it himself
        if self._next == len(self._pieces):
            return None
        piece = self._pieces[self._next]
        size = piece.end - piece.begin
        if self._held and self._held + size > self._most:
            return None
        self._next += 1
        self._held += size
        piece.is_taken = True
        return piece


def _cut(
    ranges: Iterable[tuple[int, int]], habits: Habits
) -> tuple[dict[tuple[int, int], list[list[_Piece]]], list[_Piece]]:
    """Join ranges that follow each other closely, and cut long ones.

    Returns
    -------
    reads : dict
        For each range, a list of its pieces for each time it is read.
    pieces : list of _Piece
    """
    reads: dict[tuple[int, int], list[list[_Piece]]] = defaultdict(list)
    pieces: list[_Piece] = []
    for begin, end in ranges:
        last = pieces[-1] if pieces else None
        if last and 0 <= begin - last.end <= habits.gap and end <= last.begin + habits.piece:
            last.end = end
            of_it = [last]
        else:
            edges = range(begin, end, habits.piece)
            of_it = [_Piece(at, min(at + habits.piece, end)) for at in edges]
            pieces += of_it
        for piece in of_it:
            piece.reads += 1
        reads[begin, end].append(of_it)
    return dict(reads), pieces
