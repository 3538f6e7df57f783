"""Where frames come from: one narrow interface, `FrameSource`, and who provides it."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

MOST_FRAMES = 10**8
"""Frames that can be taken: three hours at 10 kHz. What claims more is damaged."""

Spans = list[tuple[int, int]]
"""First frame, and the one after the last, of each stretch; ascending and apart."""


class Batch(NamedTuple):
    """Frames that are read at once.

    Attributes
    ----------
    start, stop : int
        The first frame, and the one after the last.
    rows : int
        How many rows of each are read, from the top.
    """

    start: int
    stop: int
    rows: int


Read = Callable[[int, int, NDArray[Any]], None]
"""``read(start, stop, out)`` fills `out`, of shape ``(stop - start, rows, W)``, with frames.

With as many rows of each as `out` has, from the top: below, nothing is read that need not be.
"""


class FrameSource(Protocol):
    """Frames that can be read in batches, front to back."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(N, H, W)``: number, height and width of the frames."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """What is read: native uint8 or uint16."""

    @property
    def block(self) -> int:
        """Frames that are stored together; reads had better begin and end at its multiples."""

    @property
    def row_block(self) -> int:
        """Rows of a frame that are stored together; who needs a few had better read a multiple."""

    @property
    def batch(self) -> int:
        """Frames that are best read at once; a multiple of `block`."""

    @property
    def unwritten(self) -> Spans:
        """Frames, or parts of them, that nobody ever wrote; complete once all was read."""

    @property
    def threads(self) -> int:
        """How many threads may read at the same time."""

    def reading(self, wanted: Iterable[Batch] = (), /) -> AbstractContextManager[Read]:
        """Hold what reading takes (files, threads), and provide the function that reads.

        Parameters
        ----------
        wanted : iterable of Batch
            What will be read, in that order, for those who fetch it ahead. It may be left out, and
            other reads can come in between.
        """

    def interrupt(self) -> None:
        """Let reads that are under way in other threads end with an error, if they may last."""


FrameOpener = Callable[[int | None], AbstractContextManager[FrameSource]]
"""``open_frames(num_cpus)`` opens frames, be it in another process: it can be pickled."""

PartOpener = Callable[[int, int], FrameOpener]
"""``open_part(begin, end)`` returns what opens these frames alone."""


def join_spans(spans: Iterable[tuple[int, int]]) -> Spans:
    """Return spans in order, those that touch or overlap as one.

    Examples
    --------
    >>> join_spans([(5, 9), (0, 3), (3, 4), (6, 7)])
    [(0, 4), (5, 9)]
    """
    joined: Spans = []
    for start, stop in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(stop, joined[-1][1]))
        else:
            joined.append((start, stop))
    return joined


def spans_in_words(spans: Spans) -> str:
    """Return spans as text; of many, the first ones.

    Examples
    --------
    >>> spans_in_words([(350, 600), (700, 701)])
    '350 to 599, 700'
    """
    shown = [f"{a}" if b == a + 1 else f"{a} to {b - 1}" for a, b in spans[:4]]
    more = f" and {len(spans) - 4} more stretches" if len(spans) > 4 else ""
    return f"{', '.join(shown)}{more}"
