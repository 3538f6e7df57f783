"""Tries which settings help: on a part of the frames, judged by what they leave."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sparsemed.frames.arrays import ArrayFrames
from sparsemed.frames.source import Batch
from sparsemed.inputs.door import open_again, open_input
from sparsemed.inputs.given import Input
from sparsemed.kernels.cores import check_num_cpus
from sparsemed.method.compute import Plan, conclude
from sparsemed.method.offsets import band_means
from sparsemed.method.repeated import each
from sparsemed.method.result import Background
from sparsemed.method.scan import Scan, scan
from sparsemed.method.windows import step_times, window_length, window_starts
from sparsemed.parameters import Parameters
from sparsemed.progress import ignore
from sparsemed.quality.advice import SHORTEST, has_room
from sparsemed.quality.cells import what_passes
from sparsemed.quality.change import has_few_windows
from sparsemed.quality.finding import Cure, Finding
from sparsemed.quality.left import MOST_LEFT
from sparsemed.quality.question import is_clean, worst
from sparsemed.quality.sample import LEAST_FRAMES, Sample, take_sample
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

FEWEST_WINDOWS = 2
"""The longest windows to try, as a last resort, fit so many times into the frames."""

MOST_CHECKS = 4
"""Largest number of settings that are judged again before they are advised."""

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


class Excerpt(NamedTuple):
    """A part of the frames, to try settings on.

    Attributes
    ----------
    frames : ndarray, shape (n, H, w)
    time : ndarray, shape (n,), seconds
    num_cpus : int
        Largest number of threads of a trial.
    """

    frames: NDArray[Any]
    time: NDArray[Any]
    num_cpus: int = 1


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
        excerpt = _take(given, background, worst)
    with keeping_warnings(
        tell=lambda _text: None
    ):  # warnings on settings that the user did not choose
        left_by = partial(_left_by, background, excerpt, {})
        trials = list(_trials(background, excerpt, left_by))
        chosen, trials = _confirm(background.parameters, trials, helps, left_by)
    return _cure(background.parameters, trials, chosen)


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
    return Excerpt(kept, time - time[0], given.num_cpus)


def _trials(background: Background, excerpt: Excerpt, left_by: LeftBy) -> Iterator[Trial]:
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


def _left_by(
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


def _confirm(
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


def _cure(now: Parameters, trials: list[Trial], chosen: Trial | None) -> Cure:
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
