"""Backgrounds of an excerpt with other settings, judged by what they leave."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sparsemed.frames.arrays import ArrayFrames
from sparsemed.method.compute import Plan, conclude
from sparsemed.method.offsets import band_means
from sparsemed.method.repeated import each
from sparsemed.method.result import Background
from sparsemed.method.scan import Scan, scan
from sparsemed.method.windows import step_times, window_length, window_starts
from sparsemed.parameters import Parameters
from sparsemed.progress import ignore
from sparsemed.quality.cells import what_passes
from sparsemed.quality.excerpt import MOST_BYTES, Excerpt
from sparsemed.quality.left import MOST_LEFT
from sparsemed.quality.sample import LEAST_FRAMES, Sample, take_sample
from sparsemed.quality.view import LEAST_WINDOWS, PLACES, View

LENGTHS = (25, 50, 100, 200, 500, 1000)
"""Lengths of windows to try, besides the present one."""

FEWEST_WINDOWS = 2
"""The longest windows to try, as a last resort, fit so many times into the frames."""

HELPS = 0.75
"""Settings help if they leave at most this share."""

LeftBy = Callable[[Parameters, int], float]
"""What settings leave of the excerpt, given the number of places to look at."""


class Trial(NamedTuple):
    """Tried settings.

    Attributes
    ----------
    parameters : Parameters
    left : float
        What they leave, in grey values.
    is_judged : bool
        Whether windows fit often enough into the measurement to be judged.
    """

    parameters: Parameters
    left: float
    is_judged: bool = True


def try_settings(background: Background, excerpt: Excerpt, left_by: LeftBy) -> Iterator[Trial]:
    """Try the present settings, then other windows and steps, then other offsets.

    If all leave too much, windows are tried that fit only twice into the frames.
    """
    now = background.parameters
    most = len(background) // LEAST_WINDOWS
    done: dict[Parameters, Trial] = {}

    def tried(parameters: Parameters) -> Trial:
        if parameters not in done:
            left = left_by(parameters, PLACES // 4)
            done[parameters] = Trial(parameters, left, int(parameters.kernel_size) <= most)
        return done[parameters]

    is_judged = int(now.kernel_size) <= most
    corrects = bool(now.offset_correction)
    as_now, otherwise = (
        min(
            tried(replace(now, offset_correction=each, frac_cleansing=fraction)).left
            for fraction in (now.frac_cleansing, 1)
        )
        for each in (corrects, not corrects)
    )
    if otherwise < HELPS * as_now:
        corrects = not corrects
    for length, step in _windows(now, excerpt):
        # Shorter windows keep all images, to follow fast; longer ones drop images with cells.
        follows = length <= now.kernel_size and is_judged
        fraction = 1 if follows else now.frac_cleansing
        windows = replace(now, kernel_size=length, split_time=step)
        tried(replace(windows, offset_correction=corrects, frac_cleansing=fraction))
    for trial in sorted(done.values(), key=lambda trial: trial.left)[:3]:
        for fraction in (now.frac_cleansing, 1):
            tried(replace(trial.parameters, frac_cleansing=fraction))
        tried(replace(trial.parameters, offset_correction=not trial.parameters.offset_correction))
    best = min(done.values(), key=lambda trial: trial.left)
    longest = len(excerpt.time) // FEWEST_WINDOWS
    if best.left > MOST_LEFT and longest > now.kernel_size:
        corrects = best.parameters.offset_correction
        windows = replace(now, kernel_size=longest, offset_correction=corrects)
        long = [tried(replace(windows, frac_cleansing=each)) for each in (now.frac_cleansing, 1)]
        last = min(long, key=lambda trial: trial.left)
        tried(replace(last.parameters, offset_correction=now.offset_correction))
    yield from done.values()


def _windows(now: Parameters, excerpt: Excerpt) -> list[tuple[int, float]]:
    """Return lengths and steps of windows to try."""
    count = len(excerpt.time)
    rate = count / max(float(excerpt.time[-1]), 1e-9)
    most = count // (LEAST_WINDOWS + 1)
    lengths = {*LENGTHS, int(now.kernel_size), most}
    found = []
    for length in sorted(length for length in lengths if length <= most):
        half = float(f"{max(length / rate / 2, 4 / rate):.2g}")
        asked = float(now.split_time)
        for step in sorted({asked, min(half, asked), float(f"{asked / 4:.2g}")}):
            images = float(excerpt.time[-1]) / step
            few = step == asked or images <= count / 2
            if few and images * excerpt.frames[0].nbytes <= 4 * MOST_BYTES:
                found.append((length, step))
    return found


def left_by_settings(
    background: Background,
    excerpt: Excerpt,
    scans: dict[tuple[int, float], Scan],
    parameters: Parameters,
    places: int,
) -> float:
    """Return what a background with these parameters leaves of the excerpt, at so many places."""
    time = excerpt.time
    length = window_length(int(parameters.kernel_size), time)
    steps = step_times(time, parameters.split_time, "time")
    starts = window_starts(time, steps, length)
    rows = background.offset_rows
    planned = Plan(time, steps, starts, length, parameters, None, rows)
    windows = int(parameters.kernel_size), float(parameters.split_time)
    if windows not in scans:
        scans[windows] = scan(
            ArrayFrames(excerpt.frames),
            starts,
            length,
            with_bands=True,
            band_rows=rows,
            num_cpus=excerpt.num_cpus,
            progress=ignore,
        )
    found = scans[windows]
    if not parameters.offset_correction:
        found = found._replace(band_means=None)
    made = conclude(planned, found)
    sample = take_sample(made, excerpt.frames)
    assert sample is not None
    view = View(made, sample, most_places=places)
    left = max(view.left.size, what_passes(view))
    if len(time) // length < LEAST_WINDOWS:
        made, sample = by_other_windows(made, sample, starts)
        if len(sample.numbers) >= LEAST_FRAMES:
            left = max(left, View(made, sample, most_places=places).left.size)
    return left


def by_other_windows(
    background: Background, sample: Sample, starts: NDArray[np.intp]
) -> tuple[Background, Sample]:
    """Return frames of a sample, and the background with images whose windows do not hold them.

    Where an object rests for most of a window, the image shows it, as do most frames of the window,
    but not those of others. What these leave also counts what has changed meanwhile.

    Parameters
    ----------
    background : Background
    sample : Sample
    starts : ndarray of int, shape (M,)
        First frame of the window of each image of the series.
    """
    length = int(background.parameters.kernel_size)
    numbers = sample.numbers[:, np.newaxis]
    first = starts[background.kept]
    distance = np.abs(first + length / 2 - numbers)
    distance[(first <= numbers) & (numbers < first + length)] = np.inf
    seen = np.isfinite(np.min(distance, axis=1))
    sample = Sample(sample.numbers[seen], sample.frames[seen])
    index = background.frame_index.copy()
    index[sample.numbers] = np.argmin(distance, axis=1)[seen]
    offsets = background.offsets
    if offsets is not None:
        walls = each(background.images, partial(band_means, rows=background.offset_rows))
        offsets = offsets + walls[background.frame_index] - walls[index]
    return replace(background, frame_index=index, offsets=offsets), sample
