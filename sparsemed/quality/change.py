"""Changes: lasting ones, and those too fast for any window."""

import math

import numpy as np
from numpy.typing import NDArray

from sparsemed.method.result import Background
from sparsemed.method.time_reversals import find_falls
from sparsemed.quality.advice import LEAST_CHANGE, advise, longer, shorter
from sparsemed.quality.finding import CANNOT_TELL, EXPLAINS, LIMIT, Finding, judge, percent
from sparsemed.quality.maps import Floats, sizes
from sparsemed.quality.quantiles import median, quantile, running_median
from sparsemed.quality.question import is_clean
from sparsemed.quality.sample import spread
from sparsemed.quality.view import LEAST_WINDOWS, View, fit

LATE = 0.67
"""Grey values by which a background may be late, in addition to its grain."""

LAIN_DOWN = 4
"""Least lasting change in grey values where an object has come to rest."""

LAIN_PLACES = 0.005
"""Least share of places that such an object covers."""

MOST_LAIN = 0.35
"""From this share of places on that change and stay so, the picture has changed, not an object."""

ALL_COLUMNS = 0.9
"""From this share of columns on, the picture has changed, not an object."""

SHAKEN = 0.25
"""Least ratio of shaking to lateness, as fast creeping also looks like a little shaking."""

BLANK = 3
"""Least ratio of the scatter of an image to its grain, for it to show anything."""


def shows_nothing(view: View) -> bool:
    """Whether the frames show nothing but noise."""
    if not view.is_sampled or view.noise < 0.05:
        return False
    return float(np.std(view.below[0])) < BLANK * graininess(view)


def has_few_windows(view: View) -> bool:
    """Whether windows fit too rarely into the frames, and nothing else keeps from judging them."""
    few = len(view.background) // view.length < LEAST_WINDOWS
    return few and view.is_sampled and view.knows_windows


def enough(view: View) -> Finding:
    """How many windows the frames suffice for: only frames of other windows tell.

    A background cannot be judged with less than three windows, with less than 16 frames in the
    sample, if windows are unknown, or if the frames show only noise: if the background image
    scatters over its places less than three times as much as its grain explains.
    """
    count = len(view.background) // view.length
    verdict, advice = CANNOT_TELL, ""
    if view.sample is None:
        advice = "There are no frames to compare the background with: give them."
    elif not view.is_sampled:
        advice = f"{len(view.background)} frames are too few to tell: measure for longer."
    elif not view.knows_windows:
        advice = (
            "The file does not tell from which frames its background images were made, as where "
            "only some frames were kept, or where it is not known when they were recorded: judge "
            "the background of the whole measurement, or load it with its time axis."
        )
    elif count < LEAST_WINDOWS:
        advice = (
            f"Windows of {view.length} frames fit fewer than three times into "
            f"{len(view.background)} frames, so that nothing can be compared: {shorter(view)}"
        )
    elif shows_nothing(view):
        advice = "The images show nothing but noise, so that there is nothing to judge."
    else:
        verdict = "good"
    return Finding(
        "windows",
        "Enough to judge from",
        count,
        f"frames for {count} window{'s' * (count != 1)}",
        verdict,
        "An image fits the frames of its own window even if it is wrong, so that frames of at "
        "least three windows are needed.",
        advice,
    )


def order(background: Background) -> Finding | None:
    """Frames whose time is earlier than that of the frame before; left out if there are none.

    Look here if there is one: backgrounds are assigned by time, so frames of joined recordings get
    backgrounds of each other.
    """
    falls = find_falls(background.time)
    if not falls.count:
        return None
    return judge(
        "order",
        "Frames in the order of time",
        falls.count,
        falls.text,
        "Frames whose time is before that of the frame before.",
        falls.advice,
    )


def graininess(view: View) -> float:
    """Return the noise of the camera in a background image, in 95 % of places."""
    return 2 * 1.25 * view.noise / math.sqrt(view.length)


def grain(view: View) -> Finding | None:
    """Noise that is left in the background images: ``2 · 1.25 n / sqrt(K)``.

    ``n`` is the noise of a place (the mean of 3 × 3 pixels) in a frame, ``K`` the frames of a
    window; a median has 1.25 times the noise of a mean. Look here above 0.75 grey values.
    """
    if not view.is_sampled:
        return None
    value = graininess(view)
    advice = ""
    if value > LIMIT:
        setting = longer(view, (value / LIMIT) ** 2)
        why = "The noise of the camera remains in the images"
        advice = f"{why}: {setting}." if is_clean(view) else advise(view, why, "expose for longer")
    return judge(
        "grain",
        "Grain of the background",
        value,
        f"{value:.2g} grey values",
        "What the noise of the camera leaves in the background images.",
        advice,
    )


def staying(view: View) -> Floats:
    """Return by how much each place changes and stays changed, in grey values.

    With the images whose windows share no frames in the order of time, under one light: the
    range of their running median over three (which forgets what comes and goes).
    """
    series = view.series
    before, after = (
        np.concatenate([series[:1], series[:-1]]),
        np.concatenate([series[1:], series[-1:]]),
    )
    lower, upper = np.minimum(before, after), np.maximum(before, after)
    changed: Floats = np.ptp(np.clip(series, lower, upper), axis=0)
    return changed


def lag(view: View) -> float:
    """Return the error of backgrounds that are late or early, at lasting changes.

    A window begins with its step, and dropped images leave gaps. So compare the image of a frame
    with the kept image whose window has the frame nearest to its middle: ``d`` is their difference,
    under one light, at places with lasting changes. The result is the 97 % quantile of ``abs(d)``
    over places, and of that the 95 % quantile over at most 48 frames.
    """
    if not view.knows_windows:
        return 0.0
    background = view.background
    stays = staying(view)[view.middle] > LEAST_CHANGE
    if not np.any(stays):
        return 0.0
    kept = np.flatnonzero(background.kept)
    numbers = spread(len(background), 48)
    has = kept[background.frame_index[numbers]]
    middles = view.starts[kept] + view.length / 2
    fits = kept[np.abs(middles - numbers[:, np.newaxis]).argmin(axis=1)]
    pairs, which = np.unique(np.stack([has, fits], axis=1), axis=0, return_inverse=True)
    distinct, place = np.unique(pairs, return_inverse=True)
    images = view.places(background.series[distinct])
    first, second = images[place.reshape(pairs.shape).T]
    left = fit(first, second).left[:, view.middle]
    left *= stays
    late = quantile(np.abs(left).reshape(len(left), -1), 0.97)
    return float(np.quantile(late[which.ravel()], 0.95))


def change(view: View, cause: str) -> Finding | None:
    """How far backgrounds are behind lasting changes; see `lag`.

    The images whose windows share no frames, in the order of time and under one light, are
    passed through a running median over three, which removes passing changes. A place has a lasting
    change if the result has a range above 1 grey value. There, the image of a frame is compared
    with the kept image whose window has the frame in its middle: the number is the 97 % quantile of
    their difference over places in the middle rows, and of that the 95 % quantile over frames. Look
    here above 0.67 grey values plus one and a half times the grain of the background; also if more
    than 0.5 % of the places, far from edges and not in all columns, change by more than 4, and less
    than 35 % change at all: then an object has come to rest there. If nothing is left of the
    frames, look here above 4 grey values: then, what changes is in frames and images alike.
    """
    if len(view.apart) < LEAST_WINDOWS:
        return None
    changes = staying(view)[view.middle]
    value = lag(view)
    places = changes > LAIN_DOWN
    if np.any(places):
        places &= ~_near_edges(view)
    text = (
        f"the background is {value:.2g} grey values behind; "
        f"{percent(float(np.mean(changes > LEAST_CHANGE)))} of the picture changed, and stayed so"
    )
    advice = ""
    least = LATE + (1.5 * graininess(view) if view.is_sampled else 0)
    if value > least and (not is_clean(view) or not view.is_sampled):
        what = "channel" if view.is_channel else "picture"
        why = f"The {what} itself changes, and the background is late"
        advice = advise(view, why, "find out what changes")
    elif value > LAIN_DOWN:
        what = "cells" if view.is_channel else "objects"
        advice = (
            "Background images that follow each other differ much. Either they follow a change, or "
            f"they show slow {what}, which are missing in the frames then: look at them."
        )
    is_object = np.mean(changes > LEAST_CHANGE) < MOST_LAIN
    is_object &= np.mean(np.any(places, axis=0)) < ALL_COLUMNS
    if np.mean(places) > LAIN_PLACES and is_object:
        arrival = view.background.step_times[view.apart[_arrival(view, places)]]
        advice = (
            f"Something has come to lie in one place at about {arrival:.4g} s. If it is dirt, the "
            "background shows it, as it should. If it is a cell, it is missing in all frames from "
            f"then on: leave them out. {advice}".rstrip()
        )
    return judge(
        "change",
        "Changes that stay",
        value,
        text,
        "How far the background is behind lasting changes, as of focus, position or dirt.",
        cause if advice and cause else advice,
    )


def _near_edges(view: View) -> NDArray[np.bool_]:
    """Return which places are near edges both in the first and in the last of the images apart."""
    from scipy import ndimage  # takes a while to import

    near = np.ones(view.series.shape[1:], bool)
    for image in view.series[[0, -1]]:
        rises = [np.gradient(image, axis=k) for k, count in enumerate(image.shape) if count > 1]
        steep = np.sqrt(sum((rise**2 for rise in rises), np.zeros_like(image)))
        size = 2 * max(1, 3 // view.grid) + 1
        near &= ndimage.maximum_filter(steep, size, mode="nearest") > 3 * view.grid
    return near[view.middle]


def _arrival(view: View, places: NDArray[np.bool_]) -> int:
    """Return the number of the image at which these places change most."""
    course = np.mean(view.series[:, view.middle][:, places], axis=1)
    return int(np.argmax(np.abs(np.diff(course)))) + 1


def shake(view: View) -> Finding | None:
    """How far the channel moves from frame to frame, too fast for any window.

    Where edges are, ``frame - image = -(s · slope)`` gives the shift ``s`` of each frame of the
    sample, by least squares. What is left of its course less its running median over five
    frames is the shaking, ``v = 2 · 1.48 median(abs(v))`` pixels in each direction: against the
    background of the frame or against the median of all frames, whichever is less. The number
    is the 95 % quantile of ``abs(v · slope)`` over places in the middle rows. Look here above 0.75
    grey values, if that is more than a quarter of what is late (see `change`). Left out if less
    than half of it changes everywhere at once: cells that are always at one place look so, too.
    """
    if not view.is_sampled:
        return None
    courses = np.stack([view.fit.shift, view.fixed.shift], axis=1)
    fast = courses - running_median(courses, 5)
    pixels = 2 * 1.4826 * np.median(np.abs(fast), axis=0).min(axis=0)
    rises = median(view.slopes, axis=0)[:, view.middle]
    value = float(np.quantile(np.hypot(pixels[0] * rises[0], pixels[1] * rises[1]), 0.95))
    advice = ""
    if value > LIMIT and np.quantile(sizes(view.left.pattern), 0.95) < EXPLAINS * value:
        return None
    if value > max(LIMIT, 0.4 * view.left.size) and value > SHAKEN * lag(view):
        what, remedy = "channel", "fix the chip and the camera, and keep pumps off the table"
        if not view.is_channel:
            what, remedy = "picture", "fix stage and camera"
        why = f"The {what} shakes from frame to frame, which no median can follow"
        advice = advise(view, why, remedy)
    return judge(
        "shake",
        "Channel that shakes" if view.is_channel else "Picture that shakes",
        value,
        f"± {float(np.hypot(*pixels)):.2g} pixels, which changes edges by {value:.2g} grey values",
        "How far the picture moves from frame to frame, and by how much edges change.",
        advice,
    )
