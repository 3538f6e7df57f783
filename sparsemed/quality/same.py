"""Checks that frames handed over are those of a background."""

import numpy as np

from sparsemed.inputs import Input, open_again
from sparsemed.method.result import Background
from sparsemed.method.seen import Seen, sparse

COMPARED = 8
"""Number of frames that are compared, evenly spaced."""


def require_frames_of(background: Background, given: Input) -> None:
    """Check that frames are those of which a background was computed, if that can be told.

    Files are compared by a few frames and not by names or identifiers, which copies and exports
    do not keep.

    Raises
    ------
    ValueError
        If they are other frames, or if their file was replaced.
    """
    known = background.identity
    if known is not None and given.identity is not None:
        own = given.identity
        if (own.path, own.choice) == (known.path, known.choice):
            given.require_same(known)
            return
    seen = background.seen or _look_again(background)
    if seen is None or seen.are_in(given.pick(seen.numbers)):
        return
    of = "those" if background.origin is None else f"those of {background.origin}"
    raise ValueError(
        f"{given.label or 'frames'}: holds other frames than {of}, of which the background was "
        "computed; hand over these, or compute the background of the others"
    )


def _look_again(background: Background) -> Seen | None:
    """Read a few frames of the file of a background; None if it has none, or not any more."""
    if background.identity is None:
        return None
    try:
        with open_again(background, num_cpus=1) as own:
            numbers = np.unique(np.linspace(0, len(background) - 1, COMPARED).astype(np.intp))
            frames = own.pick(numbers)
    except (OSError, ImportError, ValueError):  # it was moved or replaced since
        return None
    return Seen(numbers, frames[sparse(frames)])
