"""Numbers that say whether a background is good, and what to change where it is not.

Each finding has its formula in the docstring of the function that makes it.
Grey values are those of 8-bit images; see `grey_scale` for others.

May import: inputs, method, frames.
"""

from sparsemed.method.result import Background
from sparsemed.quality import cells, change, lamp, light, noise, question
from sparsemed.quality.finding import CANNOT_TELL, GOOD, LOOK_HERE, Finding, overall
from sparsemed.quality.light import FLICKER, flicker_events, grey_scale
from sparsemed.quality.noise import WallNoise, wall_noise
from sparsemed.quality.sample import Sample, take_sample
from sparsemed.quality.view import View

__all__ = [
    "CANNOT_TELL",
    "FLICKER",
    "GOOD",
    "LOOK_HERE",
    "Finding",
    "Sample",
    "WallNoise",
    "assess",
    "flicker_events",
    "grey_scale",
    "overall",
    "take_sample",
    "wall_noise",
]


def assess(background: Background, sample: Sample | None = None) -> tuple[Finding, ...]:
    """Say what is good about a background, and where to look.

    Parameters
    ----------
    background : Background
    sample : Sample, optional
        Frames to compare with. Without them, what needs them is left out.

    Returns
    -------
    tuple of Finding
        What cannot be told is left out, and the last one says why.

    Examples
    --------
    >>> import numpy as np
    >>> import sparsemed
    >>> images = np.full((100, 40, 60), 90, dtype=np.uint8)
    >>> background = sparsemed.compute_background(
    ...     images, time=np.arange(100) / 10, kernel_size=30)
    >>> [finding.key for finding in assess(background)]
    ['saturation', 'flicker', 'streaks', 'change', 'dropped', 'drift', 'windows']
    >>> overall(assess(background))
    'cannot tell'
    >>> overall(assess(background, take_sample(background, images)))
    'good'
    """
    view = View(background, sample)
    judged = change.enough(view)
    plain = [light.unwritten(background), change.order(background), light.saturation(background)]
    if change.shows_nothing(view):
        return _found(*plain, judged)
    # In the order of causes: each may be the reason of those that follow, and where one is found
    # these only refer to it, so that all of the advice is one.
    causes: list[Finding | None] = [lamp.flicker(view), cells.crowd(view), change.grain(view)]
    looks = [cells.streaks, change.change]
    if not question.is_clean(view) or not view.is_sampled:
        causes.insert(2, change.shake(view))
        looks = [lamp.channel, cells.streaks, change.change, noise.noise]
    for look in looks:
        causes.append(look(view, _see(causes)))
    left = question.what_is_left(view, _see(causes))
    return _found(left, *plain, *causes, cells.dropped(view), lamp.drift(view), judged)


def _found(*findings: Finding | None) -> tuple[Finding, ...]:
    return tuple(finding for finding in findings if finding is not None)


def _see(findings: list[Finding | None]) -> str:
    """Refer to the first finding that is not good, if there is one."""
    for each in findings:
        if each is not None and not each.is_good and each.key in _CAUSES:
            return f"See “{each.title}”."
    return ""


_CAUSES = {"crowd", "shake", "grain", "channel", "streaks", "change"}
