"""Makes text from files safe to show.

A file name, a log or a name within a file may contain escape sequences for terminals, line breaks,
or characters that reverse the direction of writing.
"""

import json
import math
from collections.abc import Mapping
from typing import Any

LONGEST = 200
"""Largest number of characters that an error quotes from a file."""


def printable(text: object) -> str:
    r"""Return text on one line, with all unprintable characters as Python escapes.

    Parameters
    ----------
    text : object
        Converted by ``str``.

    Examples
    --------
    >>> print(printable("cells 5 µm\n\x1b]0;owned\x07"))
    cells 5 µm\n\x1b]0;owned\x07
    """
    shown = str(text)
    if shown.isprintable():  # nearly always
        return shown
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in shown
    )


def quoted(text: object) -> str:
    r"""Return printable text in quotes, cut if it is long.

    Examples
    --------
    >>> print(quoted("a\rb"))
    'a\rb'
    """
    shown = printable(str(text)[: LONGEST + 1])
    return f"'{shown}'" if len(shown) <= LONGEST else f"'{shown[:LONGEST]}…'"


def as_json(value: Any) -> str:
    r"""Return a value as JSON on one line: in ASCII, with null for NaN and infinity.

    JSON does not have NaN and infinity, and most readers refuse them.

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
