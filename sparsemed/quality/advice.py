"""Advice in words: settings that helped in trials, or other remedies."""

import math

from sparsemed.method.result import Background
from sparsemed.quality.finding import Cure
from sparsemed.quality.left import MOST_LEFT
from sparsemed.quality.view import LEAST_WINDOWS, View

LEAST_CHANGE = 1.0
"""Least change of a place in grey values."""

SHORTEST = 25
"""Frames of the shortest window that advice suggests."""

TRY = "A report tries which settings help."


def advise(view: View, why: str, remedy: str, certain: str = "") -> str:
    """Return an advice: why something is wrong, and what helps.

    Parameters
    ----------
    view : View
        It has the results of trials, if settings were tried.
    why : str
        The cause, as a sentence without its end.
    remedy : str
        What to do besides parameters.
    certain : str
        A setting that is known to help, used if none were tried.
    """
    cure = view.cure
    if cure is None:
        return f"{why}: {certain}." if certain else f"{why}: {remedy}. {TRY}"
    if cure.settings:
        return f"{why}: {_tried(cure)} If that is not enough, {remedy}."
    return f"{why}, and no parameter helps: {remedy}. ({cure.tried} settings were tried.)"


def longer(view: View, factor: float) -> str:
    """Return the setting of a window longer by a factor, if the measurement has the frames."""
    most = len(view.background) // (LEAST_WINDOWS + 1)
    size = min(math.ceil(factor * view.length), most)
    if size < 1.25 * view.length:
        return (
            f"no parameter helps, as {len(view.background):,} frames do not hold enough windows "
            "that are longer: measure for longer"
        )
    return f"kernel_size={size}"


def has_room(background: Background) -> bool:
    """Whether windows that are not too short fit often enough into the frames."""
    return len(background) >= (LEAST_WINDOWS + 1) * SHORTEST


def shorter(view: View) -> str:
    """Return what to do where windows fit too rarely into the frames to be judged."""
    cure = view.shorter
    if not has_room(view.background):
        return "measure for longer."
    if cure is None:
        return f"measure for longer, or take shorter windows. {TRY}"
    if not cure.is_judged:
        return "measure for longer."
    if cure.settings:
        return _tried(cure)
    return f"measure for longer. (Shorter ones were tried, and leave {cure.left:.2g} grey values.)"


def _tried(cure: Cure) -> str:
    """Return settings that help, and what they leave."""
    still = ", which is still too much" if cure.left > MOST_LEFT else ""
    unsure = ""
    if not cure.is_judged:
        unsure = " Such windows fit only twice into the measurement, which is too few to be sure."
    return (
        f"{cure.settings}. Tried on a part of the frames, this leaves {cure.left:.2g} "
        f"grey values instead of {cure.before:.2g}{still}.{unsure}"
    )
