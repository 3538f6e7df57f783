"""Tries which settings help: on a part of the frames, judged by what they leave."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sparsemed.frames.opening import open_frames
from sparsemed.frames.source import Batch
from sparsemed.inputs.door import open_again, open_input
from sparsemed.inputs.given import Input
from sparsemed.kernels.cores import check_num_cpus
from sparsemed.method.compute import Plan, conclude
from sparsemed.method.result import Background
from sparsemed.method.scan import Scan, scan
from sparsemed.method.windows import step_times, window_length, window_starts
from sparsemed.parameters import Parameters
from sparsemed.progress import ignore
from sparsemed.quality.cells import what_passes
from sparsemed.quality.finding import Cure, Finding
from sparsemed.quality.question import worst
from sparsemed.quality.sample import take_sample
from sparsemed.quality.verdict import findings_of
from sparsemed.quality.view import LEAST_WINDOWS, PLACES, View
from sparsemed.warned import keeping_warnings

MOST_FRAMES = 20_000
"""Largest number of frames for trials, around the worst frame."""

MOST_BYTES = 64 * 1024**2
"""Largest bytes of these frames; if there are more, strips along the flow are left out."""

STRIP = 16
"""Width of a strip in pixels."""

LENGTHS = (25, 50, 100, 200, 500, 1000)
"""Lengths of windows to try, besides the present one."""

HELPS = 0.75
"""Settings help if they leave at most this share."""

HELPS_RESTLESS = 0.5
"""The same where most of it is at places that are nearly always covered, as that is a guess."""


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
    if try_cures and _may_be_cured(findings):
        worst_frame = int(view.sample.numbers[worst(view)]) if view.sample is not None else 0
        is_guessed = view.is_sampled and view.left.is_restless
        helps = HELPS_RESTLESS if is_guessed else HELPS
        view.cure = find_cure(background, frames, worst_frame, cores, helps)
        findings = findings_of(view)
    return view, findings


def _may_be_cured(findings: tuple[Finding, ...]) -> bool:
    """Whether something is wrong that other settings may correct."""
    poor = {finding.key for finding in findings if not finding.is_good}
    return bool(poor & {"left", "streaks", "change"}) and not poor & {"windows", "order"}


class Excerpt(NamedTuple):
    """A part of the frames, to try settings on.

    Attributes
    ----------
    frames : ndarray, shape (n, H, w)
    time : ndarray, shape (n,), seconds
    """

    frames: NDArray[Any]
    time: NDArray[Any]


class Trial(NamedTuple):
    """Tried settings, and what they leave in grey values."""

    parameters: Parameters
    left: float


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
    opened = _opened(background, frames, num_cpus)
    if opened is None:
        return None
    with opened as given:
        excerpt = _take(given, background, worst)
    with keeping_warnings(
        tell=lambda _text: None
    ):  # warnings on settings that the user did not choose
        trials = list(_trials(background, excerpt, num_cpus))
    return _choose(background.parameters, trials, helps)


def _opened(
    background: Background, frames: Any, num_cpus: int
) -> AbstractContextManager[Input] | None:
    if frames is not None:
        return open_input(frames, basins=background.basins, num_cpus=num_cpus)
    if background.identity is None:
        return None
    return open_again(background.identity, background.basins, num_cpus)


def _take(given: Input, background: Background, worst: int) -> Excerpt:
    """Read the part of the frames for trials."""
    source = given.frames
    count, height, width = source.shape
    first = max(0, min(worst - MOST_FRAMES // 2, count - MOST_FRAMES))
    last = min(count, first + MOST_FRAMES)
    weight = (last - first) * height * width * source.dtype.itemsize
    columns = np.arange(width)
    columns = columns[columns // STRIP % max(1, -(-weight // MOST_BYTES)) == 0]
    kept = np.empty((last - first, height, len(columns)), source.dtype)
    batch = np.empty((min(source.batch, last - first), height, width), source.dtype)
    starts = range(first, last, len(batch))
    batches = [Batch(start, min(start + len(batch), last), height) for start in starts]
    with source.reading(batches) as read:
        for start, stop, _ in batches:
            out = batch[: stop - start]
            read(start, stop, out)
            kept[start - first : stop - first] = out[:, :, columns]
    time = background.time[first:last]
    return Excerpt(kept, time - time[0])


def _trials(background: Background, excerpt: Excerpt, num_cpus: int) -> Iterator[Trial]:
    """Try the present settings, then other windows and steps, then other offsets."""
    now = background.parameters
    scans: dict[tuple[int, float], Scan] = {}
    done: dict[Parameters, Trial] = {}

    def tried(parameters: Parameters) -> Trial:
        if parameters not in done:
            left = _left_by(parameters, background, excerpt, scans, num_cpus)
            done[parameters] = Trial(parameters, left)
        return done[parameters]

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
        fraction = now.frac_cleansing if length > now.kernel_size else 1
        windows = replace(now, kernel_size=length, split_time=step)
        tried(replace(windows, offset_correction=corrects, frac_cleansing=fraction))
    for trial in sorted(done.values(), key=lambda trial: trial.left)[:3]:
        for fraction in (now.frac_cleansing, 1):
            tried(replace(trial.parameters, frac_cleansing=fraction))
        tried(replace(trial.parameters, offset_correction=not trial.parameters.offset_correction))
    yield from done.values()


def _windows(now: Parameters, excerpt: Excerpt) -> list[tuple[int, float]]:
    """Return lengths and steps of windows to try."""
    count = len(excerpt.time)
    rate = count / max(float(excerpt.time[-1]), 1e-9)
    most = count // (LEAST_WINDOWS + 1)
    lengths = {*LENGTHS, int(now.kernel_size), most}
    found = []
    for length in sorted(each for each in lengths if each <= most):
        half = float(f"{max(length / rate / 2, 4 / rate):.2g}")
        asked = float(now.split_time)
        for step in sorted({asked, min(half, asked), float(f"{asked / 4:.2g}")}):
            images = float(excerpt.time[-1]) / step
            few = step == asked or images <= count / 2
            if few and images * excerpt.frames[0].nbytes <= 4 * MOST_BYTES:
                found.append((length, step))
    return found


def _left_by(
    parameters: Parameters,
    background: Background,
    excerpt: Excerpt,
    scans: dict[tuple[int, float], Scan],
    num_cpus: int,
) -> float:
    """Return what a background with these parameters leaves of the excerpt."""
    time = excerpt.time
    length = window_length(int(parameters.kernel_size), time)
    steps = step_times(time, parameters.split_time, "time")
    starts = window_starts(time, steps, length)
    rows = background.offset_rows
    planned = Plan(time, steps, starts, length, parameters, None, rows)
    windows = int(parameters.kernel_size), float(parameters.split_time)
    if windows not in scans:
        scans[windows] = scan(
            open_frames(excerpt.frames, num_cpus),
            starts,
            length,
            with_bands=True,
            band_rows=rows,
            num_cpus=num_cpus,
            progress=ignore,
        )
    found = scans[windows]
    if not parameters.offset_correction:
        found = found._replace(band_means=None)
    made = conclude(planned, found)
    view = View(made, take_sample(made, excerpt.frames), most_places=PLACES // 4)
    return max(view.left.size, what_passes(view))


def _choose(now: Parameters, trials: list[Trial], share: float = HELPS) -> Cure:
    """Return, of the trials that leave little more than the best, the one with fewest changes."""
    before = next(trial.left for trial in trials if trial.parameters == now)
    least = min(trial.left for trial in trials)
    good = [trial for trial in trials if trial.left <= max(1.15 * least, least + 0.1)]

    def changes(trial: Trial) -> tuple[int, float]:
        return len(_named(now, trial.parameters)), trial.left

    best = min(good, key=changes)
    helps = best.left <= share * before and before - best.left >= 0.3
    return Cure(
        ", ".join(_named(now, best.parameters)) if helps else "", best.left, before, len(trials)
    )


def _named(now: Parameters, then: Parameters) -> list[str]:
    """Return the settings that differ, as ``name=value``."""
    named = []
    for name in ("kernel_size", "split_time", "frac_cleansing", "offset_correction"):
        value = getattr(then, name)
        if value != getattr(now, name):
            named.append(f"{name}={value if isinstance(value, bool) else f'{value:g}'}")
    return named
