"""How much each of the three rings of tests tries; CONTRIBUTING.md says how they are run."""

from collections.abc import Iterable, Sequence
from itertools import product
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

PERCENT = {"quick": 10, "full": 100, "soak": 1000}
"""Hypothesis' profiles, and how many of the examples that tests ask for are tried by each."""

for name, percent in PERCENT.items():
    settings.register_profile(
        name,
        max_examples=percent,
        derandomize=name == "quick",  # a change must not be refused by chance
        deadline=None,  # machines are busy at times
        suppress_health_check=[HealthCheck.too_slow],
    )
settings.load_profile("quick")


def examples(count: int) -> settings:
    """Have Hypothesis try so many examples in the full ring, and a share of them by default."""
    return settings(max_examples=max(1, count * settings.default.max_examples // 100))


def counts(few: int, some: int, many: int | None = None) -> list[Any]:
    """Return parameters: a few by default, some in the full ring, many in the soak."""
    slow = [pytest.param(some, marks=pytest.mark.slow)]
    return [few, *slow, *([] if many is None else [pytest.param(many, marks=pytest.mark.soak)])]


def few_of(cases: Iterable[Any], few: int, some: int | None = None) -> list[Any]:
    """Return parameters: the first few by default, the first of some (or all) in the full ring."""
    found = []
    for number, case in enumerate(cases):
        is_slow = some is None or number < some
        found.append(_marked(case, "" if number < few else "slow" if is_slow else "soak"))
    return found


def every(step: int, cases: Iterable[Any]) -> list[Any]:
    """Return parameters: each so many by default, and all in the full ring."""
    return [_marked(case, "slow" if number % step else "") for number, case in enumerate(cases)]


def combined(*axes: Sequence[Any]) -> list[Any]:
    """Return parameters: all combinations in the full ring; by default, each value once or more."""
    lengths = [len(axis) for axis in axes]
    chosen = [tuple(n % length for length in lengths) for n in range(max(lengths))]
    others = [each for each in product(*map(range, lengths)) if each not in chosen]
    return [
        _marked(
            tuple(axis[n] for axis, n in zip(axes, each, strict=True)),
            "" if each in chosen else "slow",
        )
        for each in chosen + others
    ]


def _marked(case: Any, ring: str) -> Any:
    values = case if isinstance(case, tuple) else (case,)
    return pytest.param(*values, marks=getattr(pytest.mark, ring) if ring else ())
