"""Chooses the settings to advise from those that were tried."""

import math

from sparsemed.parameters import Parameters
from sparsemed.quality.advice import SHORTEST
from sparsemed.quality.finding import Cure
from sparsemed.quality.left import MOST_LEFT
from sparsemed.quality.trials import HELPS, LeftBy, Trial
from sparsemed.quality.view import PLACES

MOST_CHECKS = 4
"""Largest number of settings that are judged again before they are advised."""


def confirm(
    now: Parameters, trials: list[Trial], share: float, left_by: LeftBy
) -> tuple[Trial | None, list[Trial]]:
    """Choose settings and judge them again, at as many places as a verdict looks at.

    There, they must still leave less, or as much less if they cannot be judged; if not, others are
    chosen. Returned are the settings, if there are such, and the trials as they are known then.
    """
    known = {trial.parameters: trial for trial in trials}
    asked = dict(known)
    for number in range(MOST_CHECKS):
        chosen = _choose(now, list(asked.values()), share)
        if chosen is None:
            break
        for parameters in (now, chosen.parameters) if number == 0 else (chosen.parameters,):
            known[parameters] = known[parameters]._replace(left=left_by(parameters, PLACES))
        asked[now] = known[now]
        both = [known[now], known[chosen.parameters]]
        confirmed = _choose(now, both, 1 if chosen.is_judged else share)
        if confirmed is not None:
            return confirmed, list(known.values())
        del asked[chosen.parameters]
    return None, list(known.values())


def _choose(now: Parameters, trials: list[Trial], share: float = HELPS) -> Trial | None:
    """Choose settings that leave less and change little; None if none helps.

    Settings that cannot be judged are chosen only if the others leave too much, and much more. If
    those in use cannot be judged, others that can are chosen even if they leave no less, but are
    good: those with the longest windows.
    """
    present = next(trial for trial in trials if trial.parameters == now)
    judged = [trial for trial in trials if trial.is_judged]
    least = min((trial.left for trial in judged), default=math.inf)
    chosen = last = _simplest(now, trials)
    if least <= MOST_LEFT or last.left > share * least:
        chosen = _simplest(now, judged or trials)
    if chosen.left <= share * present.left and present.left - chosen.left >= 0.3:
        return chosen
    good = [t for t in judged if t.left <= MOST_LEFT and t.parameters.kernel_size >= SHORTEST]
    if good and not present.is_judged:
        return min(good, key=lambda trial: _changes(now, trial, longest=True))
    return None


def told(now: Parameters, trials: list[Trial], chosen: Trial | None) -> Cure:
    """Return what is told of these trials: of the settings chosen, or else the least left."""
    before = next(trial.left for trial in trials if trial.parameters == now)
    if chosen is not None:
        named = ", ".join(_named(now, chosen.parameters))
        return Cure(named, chosen.left, before, len(trials), chosen.is_judged)
    least = min((trial.left for trial in trials if trial.is_judged), default=before)
    return Cure("", least, before, len(trials))


def _simplest(now: Parameters, trials: list[Trial]) -> Trial:
    """Return, of the trials that leave little more than the best, the one with fewest changes."""
    least = min(trial.left for trial in trials)
    good = [trial for trial in trials if trial.left <= max(1.15 * least, least + 0.1)]
    return min(good, key=lambda trial: _changes(now, trial))


def _changes(now: Parameters, trial: Trial, longest: bool = False) -> tuple[int, float]:
    """Return how many settings differ, and what decides among as many."""
    second = -float(trial.parameters.kernel_size) if longest else trial.left
    return len(_named(now, trial.parameters)), second


def _named(now: Parameters, then: Parameters) -> list[str]:
    """Return the settings that differ, as ``name=value``."""
    named = []
    for name in ("kernel_size", "split_time", "frac_cleansing", "offset_correction"):
        value = getattr(then, name)
        if value != getattr(now, name):
            named.append(f"{name}={value if isinstance(value, bool) else f'{value:g}'}")
    return named
