"""Earlier tries for a measurement: each page stores them for the next one."""

import html
import json
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

MOST = 20
"""Largest number of tries in a page."""

NAME = "sparsemed-tries"
"""Name of the element of a page with the tries."""

_HELD = re.compile(rf'<meta name="{NAME}" content="([^"]*)">'.encode())

HEAD_BYTES = 64 * 1024
"""The element is within the first bytes of a page."""


class Try(NamedTuple):
    """Tried parameters, and the verdict.

    Attributes
    ----------
    about : str
        The measurement: its identifier or name, and its number of frames.
    parameters, verdict : str
    """

    about: str
    parameters: str
    verdict: str


def read_tries(pages: Sequence[Path], about: str) -> list[Try]:
    """Return the tries for a measurement in earlier pages, each once, the newest last."""
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
    """Return tries with a new one, which replaces one with the same parameters."""
    return [*(each for each in tries if each.parameters != new.parameters), new][-MOST:]


def as_text(tries: Sequence[Try]) -> str:
    """Return tries as the content of an element, which the page escapes."""
    return json.dumps(tries)


def in_words(tries: Sequence[Try], now: str) -> str:
    """Return the tries as text, except for the current one; empty if there are no others.

    Examples
    --------
    >>> tries = [Try("m", "defaults", "look here"), Try("m", "kernel_size=500", "good")]
    >>> in_words(tries, "defaults")
    'kernel_size=500: good'
    """
    return "; ".join(
        f"{each.parameters}: {each.verdict}" for each in tries if each.parameters != now
    )
