"""Follows the advice of a page as a script would, on measurements whose truth is known."""

import re
from functools import cache
from typing import NamedTuple

import numpy as np
from truth.faults import FAULTS, FLOOR, error, make

from sparsemed import compute_background
from sparsemed.quality import overall

MOST_STEPS = 5

TOLERANCE = FLOOR + 1.0
"""Error in grey values up to which a background may be called good."""

NOISE = 0.35
"""What an error may grow by because shorter windows keep more noise."""

WAYS = {
    0: {"dtype": np.uint8},
    1: {"dtype": np.uint16},
    2: {"dtype": np.uint8, "offset_correction": False},
}
"""For each seed, how frames are stored, and whether offsets are on at first."""

REAL = (
    "plain",
    "dense cells",
    "slow cells",
    "stuck cell",
    "dirt",
    "jump",
    "creep",
    "vibration",
    "mains",
    "warm-up",
)
"""Faults that are also put into a real channel, with real cells."""

CASES = [(fault, strength) for fault, strengths in FAULTS.items() for strength in strengths]


class Step(NamedTuple):
    settings: dict
    verdict: str
    error: float
    findings: tuple


def settings_in(findings) -> dict:
    """Return the settings that the advice of findings names."""
    found = {}
    for finding in findings:
        for name, value in re.findall(
            r"\b(kernel_size|split_time|frac_cleansing|offset_correction)=(True|False|[\d.]*\d)",
            finding.advice,
        ):
            assert found.setdefault(name, value) == value, "advice that contradicts itself"
    return {
        name: {"True": True, "False": False}.get(value)
        if value in ("True", "False")
        else float(value)
        if "time" in name or "frac" in name
        else int(value)
        for name, value in found.items()
    }


@cache  # several tests look at the same
def follow(fault: str, strength: float, seed: int = 0, real: bool = False) -> list[Step]:
    """Compute a background, judge it, and do what is advised, until nothing is."""
    settings = dict(WAYS[seed])
    made = make(fault, strength, seed, settings.pop("dtype"), real=real)
    steps = []
    for _ in range(MOST_STEPS + 2):
        background = compute_background(made.frames, made.time, **settings)
        findings = background.quality(made.frames)
        steps.append(Step(settings, overall(findings), error(background, made), findings))
        advised = settings_in(findings)
        if not advised:
            break
        settings = settings | advised
    return steps
