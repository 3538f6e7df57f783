"""Where frames come from: one narrow interface, `FrameSource`, and who provides it."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

MOST_FRAMES = 10**8
"""Frames that can be taken: three hours at 10 kHz. What claims more is damaged."""

Read = Callable[[int, int, NDArray[Any]], None]
"""``read(start, stop, out)`` fills `out`, of shape ``(stop - start, H, W)``, with frames."""


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
    def batch(self) -> int:
        """Frames that are best read at once; a multiple of `block`."""

    @property
    def threads(self) -> int:
        """How many threads may read at the same time."""

    def reading(self) -> AbstractContextManager[Read]:
        """Hold what reading takes (files, threads), and provide the function that reads."""
