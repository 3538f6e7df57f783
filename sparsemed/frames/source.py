"""The interface of all frames: `FrameSource`."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

MOST_FRAMES = 10**8
"""Largest number of frames: three hours at 10 kHz. A file that claims more is damaged."""

Spans = list[tuple[int, int]]
"""First frame, and the one after the last, of each span; ascending and disjoint."""


class Batch(NamedTuple):
    """Frames that are read at once.

    Attributes
    ----------
    start, stop : int
        The first frame, and the one after the last.
    rows : int
        Number of rows to read, from the top.
    """

    start: int
    stop: int
    rows: int


Read = Callable[[int, int, NDArray[Any]], None]
"""``read(start, stop, out)`` fills `out`, of shape ``(stop - start, rows, W)``, with frames.

Of each frame, it reads the topmost rows, as many as `out` has.
"""


class FrameSource(Protocol):
    """Frames that can be read in batches, front to back.

    `ChunkFrames` reads chunks past HDF5, and `ArrayFrames` slices an array. `PickedFrames`,
    `PartFrames` and `SampledFrames` read from other sources.
    """

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(N, H, W)``: number, height and width of the frames."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of frames as read: native uint8 or uint16."""

    @property
    def block(self) -> int:
        """Number of frames stored together; reads should begin and end at multiples of it."""

    @property
    def row_block(self) -> int:
        """Number of rows of a frame stored together; reads should take a multiple of it."""

    @property
    def batch(self) -> int:
        """Best number of frames to read at once; a multiple of `block`."""

    @property
    def unwritten(self) -> Spans:
        """Frames of which some part was never written; complete once all frames were read."""

    @property
    def threads(self) -> int:
        """Number of threads that may read at the same time."""

    def reading(self, wanted: Iterable[Batch] = (), /) -> AbstractContextManager[Read]:
        """Hold the resources of reading (files, threads), and provide the function that reads.

        Parameters
        ----------
        wanted : iterable of Batch
            The reads to come, in order, so that their bytes can be fetched ahead. It may be left
            out, and other reads can come in between.
        """

    def interrupt(self) -> None:
        """Make reads in other threads fail soon, if they may take long."""


FrameOpener = Callable[[int], AbstractContextManager[FrameSource]]
"""``open_frames(num_cpus)`` opens frames, also in another process: it can be pickled."""

PartOpener = Callable[[int, int], FrameOpener]
"""``open_part(begin, end)`` returns an opener of these frames alone."""


def join_spans(spans: Iterable[tuple[int, int]]) -> Spans:
    """Return spans in order; those that touch or overlap are joined.

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
    """Return spans as text; at most the first four.

    Examples
    --------
    >>> spans_in_words([(350, 600), (700, 701)])
    '350 to 599, 700'
    """
    shown = [f"{a}" if b == a + 1 else f"{a} to {b - 1}" for a, b in spans[:4]]
    more = f" and {len(spans) - 4} more spans" if len(spans) > 4 else ""
    return f"{', '.join(shown)}{more}"
