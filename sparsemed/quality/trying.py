"""Judges a background and, if it is not good, tries which settings help."""

from functools import partial
from typing import Any

from sparsemed.inputs.door import open_again, open_input
from sparsemed.kernels.cores import check_num_cpus
from sparsemed.method.result import Background
from sparsemed.quality.advice import has_room
from sparsemed.quality.change import has_few_windows
from sparsemed.quality.cure import confirm, told
from sparsemed.quality.excerpt import take_excerpt
from sparsemed.quality.finding import Cure, Finding
from sparsemed.quality.question import is_clean, worst
from sparsemed.quality.sample import take_sample
from sparsemed.quality.trials import HELPS, left_by_settings, try_settings
from sparsemed.quality.verdict import findings_of
from sparsemed.quality.view import View
from sparsemed.warned import keeping_warnings

HELPS_RESTLESS = 0.5
"""The largest share where most is left at places covered nearly always, as that is a guess."""


def examine(
    background: Background,
    frames: Any = None,
    try_cures: bool = True,
    num_cpus: int | None = None,
) -> tuple[View, tuple[Finding, ...]]:
    """Judge a background by some of its frames; if it is not good, try other settings.

    Parameters
    ----------
    background : Background
    frames : array-like, shape (N, H, W), or str or path, optional
        See `sparsemed.quality.take_sample`.
    try_cures : bool
        Whether to try other settings if the background is not good.
    num_cpus : int, optional
        Largest number of threads for that. Default: all available cores.

    Returns
    -------
    view : View
        The view behind the findings, with the sample.
    findings : tuple of Finding
    """
    cores = check_num_cpus(num_cpus) if try_cures else 1
    view = View(background, take_sample(background, frames))
    findings = findings_of(view)
    has_few = has_few_windows(view)
    if try_cures and _may_be_cured(findings, has_few, has_room(background)):
        worst_frame = int(view.sample.numbers[worst(view)]) if view.sample is not None else 0
        is_guessed = not is_clean(view) and view.left.is_restless
        helps = HELPS_RESTLESS if is_guessed else HELPS
        cure = find_cure(background, frames, worst_frame, cores, helps)
        if _poor(findings) & {"left", "streaks", "change"}:
            view.cure = cure
        if has_few:
            view.shorter = cure
        findings = findings_of(view)
    return view, findings


def _may_be_cured(findings: tuple[Finding, ...], has_few: bool, is_long: bool) -> bool:
    """Whether something is wrong that other settings may correct.

    Where windows are too few to judge, shorter ones may correct that if the measurement is long
    enough for them.
    """
    poor = _poor(findings)
    if "order" in poor or ("windows" in poor and not has_few):
        return False
    return bool(poor & {"left", "streaks", "change"}) or ("windows" in poor and is_long)


def _poor(findings: tuple[Finding, ...]) -> set[str]:
    return {finding.key for finding in findings if not finding.is_good}


def find_cure(
    background: Background, frames: Any, worst: int, num_cpus: int, helps: float = HELPS
) -> Cure | None:
    """Try settings on a part of the frames, and return those that leave least.

    Parameters
    ----------
    background : Background
    frames : array-like, shape (N, H, W), or str or path, or None
        See `sparsemed.quality.take_sample`.
    worst : int
        Number of the worst frame.
    num_cpus : int
    helps : float
        Settings help if they leave at most this share.

    Returns
    -------
    Cure or None
        None if there are no frames to try with.
    """
    if frames is not None:
        given = open_input(frames, basins=background.basins, num_cpus=num_cpus)
    elif background.identity is not None:
        given = open_again(background, num_cpus)
    else:
        return None
    with given:
        excerpt = take_excerpt(given, background.time, worst)
    # Nobody is told of warnings on settings that the user did not choose.
    with keeping_warnings(tell=lambda _text: None):
        left_by = partial(left_by_settings, background, excerpt, {})
        trials = list(try_settings(background, excerpt, left_by))
        chosen, trials = confirm(background.parameters, trials, helps, left_by)
    return told(background.parameters, trials, chosen)
