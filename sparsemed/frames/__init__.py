"""Where frames come from: one narrow interface, `FrameSource`, and who provides it."""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class FrameSource(Protocol):
    """Frames that can be read in blocks, front to back."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(N, H, W)``: number, height and width of the frames."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """What `read` delivers: native uint8 or uint16."""

    @property
    def block(self) -> int:
        """Frames that are best read together; such blocks start at its multiples."""

    def read(self, start: int, stop: int, out: NDArray[Any]) -> None:
        """Fill `out`, of shape ``(stop - start, H, W)``, with the frames from start to stop."""
