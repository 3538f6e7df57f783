"""Warnings about results: Python warnings of one category, also kept in the result.

Problems of the machine, such as a read-only cache, are logged instead.
"""

import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import NamedTuple


class BackgroundWarning(UserWarning):
    """Something is odd about the data or the parameters, so the background may be wrong.

    The texts of all warnings about a background are also in its attribute ``warnings``.

    Examples
    --------
    >>> import warnings
    >>> import numpy as np
    >>> import sparsemed
    >>> images = np.zeros((9, 40, 60), np.uint8)
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore", sparsemed.BackgroundWarning)
    ...     background = sparsemed.compute_background(images, time=np.arange(9.0))
    >>> background.warnings
    ('kernel_size 200 is more than the 9 frames: all frames are used',)
    """


class _Hearing(NamedTuple):
    texts: list[str]
    tell: Callable[[str], None]

    def hear(self, text: str) -> None:
        if text not in self.texts:
            self.texts.append(text)
            self.tell(text)


def tell_python(text: str) -> None:
    """Issue a Python warning at the line that called this package."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_OURS):
        level, frame = level + 1, frame.f_back
    warnings.warn(text, BackgroundWarning, stacklevel=level)


_OURS = f"{Path(__file__).parent}{os.sep}"

_hearing: ContextVar[_Hearing | None] = ContextVar("_hearing", default=None)


def warn(text: str) -> None:
    """Warn about a result; within `keeping_warnings`, repeated texts are told once."""
    hearing = _hearing.get()
    if hearing is None:
        tell_python(text)
    else:
        hearing.hear(text)


@contextmanager
def keeping_warnings(
    texts: list[str] | None = None, tell: Callable[[str], None] | None = None
) -> Iterator[list[str]]:
    """Keep the texts of the warnings of this thread.

    Parameters
    ----------
    texts : list of str, optional
        Receives the texts. A text that is in it already is not told again.
    tell : callable, optional
        Called with each text. Default: the enclosing `keeping_warnings`, or `warnings.warn`.

    Yields
    ------
    list of str
    """
    kept: list[str] = [] if texts is None else texts
    if tell is None:
        around = _hearing.get()
        tell = tell_python if around is None else around.hear
    token = _hearing.set(_Hearing(kept, tell))
    try:
        yield kept
    finally:
        _hearing.reset(token)
