"""One number about a background, what it means, and what to change where it is not good."""

import math
from collections.abc import Sequence
from typing import NamedTuple

GOOD = "good"

LOOK_HERE = "look here"

CANNOT_TELL = "cannot tell"

LIMIT = 0.75
"""Grey values (of 8 bits) by which a background may be off; what counts adds up to about one."""

EXPLAINS = 0.5
"""Share of what is left of the frames that a cause must amount to, to be the one."""


class Finding(NamedTuple):
    """One number about a background, and what it means.

    Attributes
    ----------
    key : str
        Short name, for programs.
    title : str
        What was looked at.
    value : float
        The number.
    text : str
        The number in words, with its unit.
    verdict : str
        ``"good"``, ``"look here"`` or ``"cannot tell"``.
    explanation : str
        What the number is, in a sentence.
    advice : str
        What to change, with a value to try, or that no parameter helps; empty where all is good.
    """

    key: str
    title: str
    value: float
    text: str
    verdict: str
    explanation: str
    advice: str

    @property
    def is_good(self) -> bool:
        """Whether there is nothing to look at."""
        return self.verdict == GOOD

    def __str__(self) -> str:
        line = f"{self.verdict}: {self.title}: {self.text}"
        return line if self.is_good else f"{line}\n  → {self.advice}"


class Cure(NamedTuple):
    """What trying other settings has found.

    Attributes
    ----------
    settings : str
        Those that help, as they are given; empty if none does.
    left, before : float
        What the best settings leave, and what those in use do, in grey values.
    tried : int
        How many were tried.
    """

    settings: str
    left: float
    before: float
    tried: int


def judge(key: str, title: str, value: float, text: str, explanation: str, advice: str) -> Finding:
    """Return a finding: one to look at if there is an advice."""
    return Finding(key, title, value, text, LOOK_HERE if advice else GOOD, explanation, advice)


def overall(findings: Sequence[Finding]) -> str:
    """Return the verdict on a background as a whole.

    It is ``"look here"`` if one finding is, else ``"cannot tell"`` if one is, and ``"good"``
    only if all are.

    Parameters
    ----------
    findings : sequence of Finding
        What `assess` returns.

    Returns
    -------
    str
    """
    verdicts = {finding.verdict for finding in findings}
    return next((v for v in (LOOK_HERE, CANNOT_TELL) if v in verdicts), GOOD)


def moment(seconds: float) -> str:
    """Return a time as text, also one that is not known."""
    return f"{seconds:.4g} s" if math.isfinite(seconds) else "time unknown"


def percent(share: float) -> str:
    """Return a share as text."""
    percent = 100 * share
    if abs(percent) < 0.005:
        return "0 %"
    return f"{percent:{'.0f' if abs(percent) >= 10 else '.2g'}} %".replace("-", "−")
