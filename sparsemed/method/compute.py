"""The whole method on one page: plan, scan, conclude. Begin here."""

import logging
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sparsemed.frames.source import FrameSource, spans_in_words
from sparsemed.method.assignment import assign_frames
from sparsemed.method.cleansing import cleanse
from sparsemed.method.offsets import band_means, offsets
from sparsemed.method.repeated import each, pick
from sparsemed.method.result import Background
from sparsemed.method.scan import Scan, scan
from sparsemed.method.windows import step_times, window_length, window_starts
from sparsemed.parameters import Parameters
from sparsemed.progress import Progress, ignore

logger = logging.getLogger(__name__)


class Plan(NamedTuple):
    """Which windows of frames make the background images.

    Attributes
    ----------
    time : ndarray, shape (N,), seconds
        Time of each frame.
    steps : ndarray, shape (M,), seconds
        Times at which background images are computed.
    starts : ndarray of int, shape (M,)
        First frame of the window of each step.
    length : int
        Frames in a window.
    parameters : Parameters
        What all that follows from.
    label : str or None
        What errors call the measurement.
    """

    time: NDArray[Any]
    steps: NDArray[Any]
    starts: NDArray[np.intp]
    length: int
    parameters: Parameters
    label: str | None = None


def compute(
    frames: FrameSource,
    planned: Plan,
    num_cpus: int | None = None,
    report: Progress = ignore,
) -> Background:
    """Compute a background from frames, as it was planned: the method itself.

    Parameters
    ----------
    frames : FrameSource
    planned : Plan
    num_cpus : int or None
        Largest number of threads; None means all cores available.
    report : callable
        Called with the fraction done.

    Raises
    ------
    ValueError
        If windows and background images do not fit into memory; and what reading raises.
    """
    report(0.0)
    try:
        found = scan(
            frames,
            planned.starts,
            planned.length,
            with_bands=bool(planned.parameters.offset_correction),
            num_cpus=num_cpus,
            report=report,
        )
    except MemoryError as error:
        count, height, width = frames.shape
        raise ValueError(
            f"{planned.label or 'images'}: {count} frames of {height} × {width} pixels do not fit "
            f"into memory with windows of {planned.length} frames and {len(planned.steps)} "
            f"background images ({error}); take a smaller kernel_size or a larger split_time"
        ) from error
    if frames.unwritten:
        logger.warning(
            "%s: frames %s were never written, so they count as black; is the file complete?",
            planned.label or "images",
            spans_in_words(frames.unwritten),
        )
    background = replace(conclude(planned, found), unwritten=tuple(frames.unwritten))
    report(1.0)
    return background


def plan(time: NDArray[Any], parameters: Parameters, label: str | None = None) -> Plan:
    """Choose the windows for a time axis; errors call the measurement `label`."""
    steps = step_times(time, parameters.split_time, label or "time")
    length = window_length(parameters.kernel_size, time)
    return Plan(time, steps, window_starts(time, steps, length), length, parameters, label)


def conclude(planned: Plan, found: Scan) -> Background:
    """Make a background of what one pass over the frames has found."""
    series, frame_means = found
    time, parameters = planned.time, planned.parameters
    kept, score, threshold = cleanse(series, parameters.thresh_cleansing, parameters.frac_cleansing)
    images = series if kept.all() else pick(series, np.flatnonzero(kept))
    frame_index = assign_frames(time, planned.steps[kept], parameters.split_time)
    bg_off = None
    if frame_means is not None:
        bg_off = offsets(frame_means, each(images, band_means), frame_index)
    return Background(
        images=images,
        frame_index=frame_index,
        offsets=bg_off,
        time=time,
        series=series,
        step_times=planned.steps,
        kept=kept,
        score=score,
        threshold=threshold,
        parameters=parameters,
    )
