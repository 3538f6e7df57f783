"""Suggests the right name for an unknown keyword of a function."""

import difflib
import inspect
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

MEANT = {
    "fps": "frame_rate",
    "framerate": "frame_rate",
    "rate": "frame_rate",
    "times": "time",
    "timestamps": "time",
    "images": "frames",
    "stack": "frames",
    "window": "kernel_size",
    "window_size": "kernel_size",
    "kernel": "kernel_size",
    "step": "split_time",
    "interval": "split_time",
    "fraction": "frac_cleansing",
    "threshold": "thresh_cleansing",
    "offset": "offset_correction",
    "rows": "offset_rows",
    "threads": "num_cpus",
    "cores": "num_cpus",
    "n_jobs": "num_cpus",
    "workers": "num_cpus",
    "client": "executor",
    "pool": "executor",
}
"""Our names for common names in other programs."""


def naming_what_is_meant(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function so that its error on an unknown keyword suggests a known one.

    Examples
    --------
    >>> @naming_what_is_meant
    ... def show(frame_rate=1): ...
    >>> show(fps=3)
    Traceback (most recent call last):
    ...
    TypeError: show() has no argument 'fps'; did you mean 'frame_rate'?
    """
    known = [name for name in inspect.signature(function).parameters if name != "self"]

    @wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        for name in kwargs:
            if name not in known:
                raise TypeError(
                    f"{function.__name__}() has no argument {name!r}{_hint(name, known)}"
                )
        return function(*args, **kwargs)

    return checked


def _hint(name: str, known: list[str]) -> str:
    plain = name.lower()
    close = MEANT.get(plain) or next(iter(difflib.get_close_matches(plain, known, 1)), None)
    return f"; did you mean {close!r}?" if close in known else f"; it has {', '.join(known)}"
