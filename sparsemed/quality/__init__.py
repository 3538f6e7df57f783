"""Numbers that tell whether a background is good, and what to change if it is not.

The formula of each number is in the docstring of its function.
Grey values are those of 8-bit images; see `grey_scale` for others.

May import: inputs, method, frames, kernels (`num_cpus` is checked there).
"""

from sparsemed.method.result import Background
from sparsemed.quality.finding import CANNOT_TELL, GOOD, LOOK_HERE, Finding, overall
from sparsemed.quality.light import FLICKER, flicker_events, grey_scale
from sparsemed.quality.noise import WallNoise, wall_noise
from sparsemed.quality.sample import Sample, take_sample
from sparsemed.quality.verdict import findings_of
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
    """Judge a background.

    Parameters
    ----------
    background : Background
    sample : Sample, optional
        Frames to compare with. Without them, numbers that need them are left out.

    Returns
    -------
    tuple of Finding
        Numbers that cannot be told are left out; the last finding says why.

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
    return findings_of(View(background, sample))
