"""Numbers that say whether a background is good, and what to change where it is not.

Each finding has its formula in the docstring of the function that makes it.
Grey values are those of 8-bit images; see `grey_scale` for others.
"""

from sparsemed.method.result import Background
from sparsemed.quality import cells, light, noise
from sparsemed.quality.finding import GOOD, LOOK_HERE, Finding
from sparsemed.quality.light import FLICKER, flicker_events, grey_scale
from sparsemed.quality.noise import WallNoise, wall_noise
from sparsemed.quality.sample import Sample, take_sample

__all__ = [
    "FLICKER", "GOOD", "LOOK_HERE", "Finding", "Sample", "WallNoise", "assess", "flicker_events",
    "grey_scale", "take_sample", "wall_noise",
]  # fmt: skip


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
        Left out is what cannot be told: movement and streaks from less than three
        background images, flicker with neither offsets nor frames.

    Examples
    --------
    >>> import numpy as np
    >>> import sparsemed
    >>> images = np.full((100, 40, 60), 90, dtype=np.uint8)
    >>> background = sparsemed.compute_background(images, time=np.arange(100) / 10)
    >>> [finding.key for finding in assess(background)]
    ['flicker', 'drift', 'streaks', 'movement', 'dropped', 'saturation']
    >>> all(finding.is_good for finding in assess(background, take_sample(background, images)))
    True
    """
    # The lamp comes first, as it may be the cause of what follows.
    findings = [
        light.unwritten(background),
        light.flicker(background, sample),
        light.drift(background),
        cells.streaks(background, sample),
        cells.movement(background),
        cells.dropped(background, sample),
        noise.noise(background, sample),
        noise.channel(background, sample),
        light.saturation(background),
    ]
    return tuple(finding for finding in findings if finding is not None)
