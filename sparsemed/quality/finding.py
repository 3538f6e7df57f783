"""One number about a background, its verdict, and advice if it is not good."""

import math
from collections.abc import Sequence
from typing import NamedTuple

GOOD = "good"

LOOK_HERE = "look here"

CANNOT_TELL = "cannot tell"

LIMIT = 0.75
"""Largest error from one cause, in grey values of 8 bits; all causes add up to about one."""

EXPLAINS = 0.5
"""Least share of what is left of the frames that a cause must explain."""


class Finding(NamedTuple):
    """One number about a background, with its verdict.

    Attributes
    ----------
    key : str
        Short name, for programs.
    title : str
        Name of the number.
    value : float
        The number.
    text : str
        The number in words, with its unit.
    verdict : str
        ``"good"``, ``"look here"`` or ``"cannot tell"``.
    explanation : str
        The meaning of the number, in a sentence.
    advice : str
        What to change, with a value to try, or that no parameter helps; empty if it is good.
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
        """Whether the verdict is good."""
        return self.verdict == GOOD

    def __str__(self) -> str:
        line = f"{self.verdict}: {self.title}: {self.text}"
        return line if self.is_good else f"{line}\n  → {self.advice}"


class Cure(NamedTuple):
    """The result of trying other settings.

    Attributes
    ----------
    settings : str
        Settings that help, as ``name=value``; empty if none helps.
    left, before : float
        What is left with the best settings, and with the present ones, in grey values.
    tried : int
        Number of settings tried.
    is_judged : bool
        Whether windows with these settings fit often enough into the measurement to be judged.
    """

    settings: str
    left: float
    before: float
    tried: int
    is_judged: bool = True


def judge(key: str, title: str, value: float, text: str, explanation: str, advice: str) -> Finding:
    """Return a finding: `look here` if there is advice, otherwise `good`."""
    return Finding(key, title, value, text, LOOK_HERE if advice else GOOD, explanation, advice)


def overall(findings: Sequence[Finding]) -> str:
    """Return the verdict on a background as a whole.

    It is ``"look here"`` if one finding is, otherwise ``"cannot tell"`` if one is, and ``"good"``
    only if all are.

    Parameters
    ----------
    findings : sequence of Finding
        The result of `assess`.

    Returns
    -------
    str
    """
    verdicts = {finding.verdict for finding in findings}
    return next((v for v in (LOOK_HERE, CANNOT_TELL) if v in verdicts), GOOD)


def moment(seconds: float) -> str:
    """Return a time as text, also an unknown one."""
    return f"{seconds:.4g} s" if math.isfinite(seconds) else "time unknown"


def percent(share: float) -> str:
    """Return a share as text."""
    percent = 100 * share
    if abs(percent) < 0.005:
        return "0 %"
    return f"{percent:{'.0f' if abs(percent) >= 10 else '.2g'}} %".replace("-", "−")
