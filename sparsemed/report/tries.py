"""What was tried for a measurement before: a page remembers it, and the next one says it."""

import html
import json
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

MOST = 20
"""Tries that a page remembers."""

NAME = "sparsemed-tries"
"""Name of the element of a page that holds them."""

_HELD = re.compile(rf'<meta name="{NAME}" content="([^"]*)">'.encode())

HEAD_BYTES = 64 * 1024
"""Where in a page that element lies, at most."""


class Try(NamedTuple):
    """Parameters that were tried, and the verdict.

    Attributes
    ----------
    about : str
        The measurement: its identifier, or else its name; and its number of frames.
    parameters, verdict : str
    """

    about: str
    parameters: str
    verdict: str


def read_tries(pages: Sequence[Path], about: str) -> list[Try]:
    """Return the tries that pages remember of a measurement, the last ones last, each once."""
    found: dict[str, Try] = {}
    for page in pages:
        with suppress(OSError, ValueError, TypeError):
            with open(page, "rb") as file:
                held = _HELD.search(file.read(HEAD_BYTES))
            if held is None:
                continue
            for each in json.loads(html.unescape(held[1].decode("ascii"))):
                known = Try(*map(str, each))
                if known.about == about:
                    found.pop(known.parameters, None)
                    found[known.parameters] = known
    return list(found.values())[-MOST:]


def with_another(tries: Sequence[Try], new: Try) -> list[Try]:
    """Return tries with a new one, which takes the place of one with the same parameters."""
    return [*(each for each in tries if each.parameters != new.parameters), new][-MOST:]


def as_text(tries: Sequence[Try]) -> str:
    """Return tries as the content of an element; it is escaped by the page."""
    return json.dumps(tries)


def in_words(tries: Sequence[Try], now: str) -> str:
    """Return what was tried before, but for what is shown now; nothing if nothing was.

    Examples
    --------
    >>> tries = [Try("m", "defaults", "look here"), Try("m", "kernel_size=500", "good")]
    >>> in_words(tries, "defaults")
    'kernel_size=500: good'
    """
    return "; ".join(
        f"{each.parameters}: {each.verdict}" for each in tries if each.parameters != now
    )
