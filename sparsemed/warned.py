"""Warnings about results: Python warnings of one category, which the result keeps, too.

What is wrong with the machine (a cache that cannot be written) is logged instead.
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
    """A background may not be what was meant: something is odd about the data or parameters.

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
    """Issue a Python warning, as if whoever called this package had done so."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_OURS):
        level, frame = level + 1, frame.f_back
    warnings.warn(text, BackgroundWarning, stacklevel=level)


_OURS = f"{Path(__file__).parent}{os.sep}"

_hearing: ContextVar[_Hearing | None] = ContextVar("_hearing", default=None)


def warn(text: str) -> None:
    """Warn of something about a result; where it is said again at once, only once."""
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
        The texts are added to it. A text that it holds already is not told again.
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
