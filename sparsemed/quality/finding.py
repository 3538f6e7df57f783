"""One number about a background, what it means, and settings to try."""

from typing import NamedTuple

from sparsemed.method.result import Background

GOOD = "good"

LOOK_HERE = "look here"


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
        ``"good"`` or ``"look here"``.
    explanation : str
        What the number is, in a sentence.
    advice : str
        What to change, with a value to try; empty where all is good.
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


def judge(
    key: str, title: str, value: float, text: str, explanation: str, advice: str
) -> Finding:
    """Return a finding: one to look at if there is an advice."""
    return Finding(key, title, value, text, LOOK_HERE if advice else GOOD, explanation, advice)


def more_frames(background: Background) -> str:
    """Return the setting of a window three times as long, as far as there are frames."""
    size = min(int(background.parameters.kernel_size), len(background))
    if size == len(background):
        return "measure for longer (all frames are in the window already)"
    return f"kernel_size={min(3 * size, len(background))}"


def follow_faster(background: Background) -> str:
    """Return settings with which the background follows changes four times as fast."""
    size = max(21, background.parameters.kernel_size // 4)
    return f"kernel_size={size}, split_time={background.parameters.split_time / 4:g}"


def percent(share: float) -> str:
    """Return a share as text."""
    percent = 100 * share
    if abs(percent) < 0.005:
        return "0 %"
    return f"{percent:{'.0f' if abs(percent) >= 10 else '.2g'}} %".replace("-", "−")
