"""Text that comes from files, made safe to show.

A file name, a log or a name within a file may hold what drives a terminal (escape sequences),
breaks lines or turns the direction of writing.
"""

import json
import math
from collections.abc import Mapping
from typing import Any

LONGEST = 200
"""Characters of a text from a file that an error quotes."""


def printable(text: object) -> str:
    r"""Return text on one line, with all that cannot be seen written as Python does.

    Parameters
    ----------
    text : object
        Shown as ``str`` has it.

    Examples
    --------
    >>> print(printable("cells 5 µm\n\x1b]0;owned\x07"))
    cells 5 µm\n\x1b]0;owned\x07
    """
    shown = str(text)
    if shown.isprintable():  # as nearly all is
        return shown
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in shown
    )


def quoted(text: object) -> str:
    r"""Return text in quotes, as `printable` has it, and cut if it is long.

    Examples
    --------
    >>> print(quoted("a\rb"))
    'a\rb'
    """
    shown = printable(str(text)[: LONGEST + 1])
    return f"'{shown}'" if len(shown) <= LONGEST else f"'{shown[:LONGEST]}…'"


def as_json(value: Any) -> str:
    r"""Return a value as JSON on one line: in ASCII, with null for NaN and infinity.

    JSON has no word for these, and most of what reads JSON refuses them.

    Examples
    --------
    >>> print(as_json({"µ": float("nan"), "kept": (1, 2.5)}))
    {"\u00b5": null, "kept": [1, 2.5]}
    """
    return json.dumps(_with_null(value), allow_nan=False)


def _with_null(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: _with_null(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_with_null(each) for each in value]
    return value
