"""The whole method on one page: plan, scan, conclude. Begin here."""

from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sparsemed.frames.source import FrameSource, spans_in_words
from sparsemed.method.assignment import assign_frames
from sparsemed.method.cleansing import cleanse
from sparsemed.method.offsets import BAND_ROWS, band_means, offsets
from sparsemed.method.repeated import each, pick
from sparsemed.method.result import Background
from sparsemed.method.scan import Scan, Scanning, scan
from sparsemed.method.time_axis import coarseness
from sparsemed.method.time_reversals import find_falls
from sparsemed.method.windows import step_times, window_length, window_starts
from sparsemed.parameters import Parameters
from sparsemed.progress import Progress, ignore
from sparsemed.warned import warn


class Plan(NamedTuple):
    """The windows of frames for the background images.

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
        The parameters of the method.
    label : str or None
        Name of the measurement in messages.
    offset_rows : int
        Number of rows at the top of a frame from which its brightness offset is computed.
    """

    time: NDArray[Any]
    steps: NDArray[Any]
    starts: NDArray[np.intp]
    length: int
    parameters: Parameters
    label: str | None = None
    offset_rows: int = BAND_ROWS


def compute(
    frames: FrameSource,
    planned: Plan,
    progress: Progress = ignore,
    scanning: Scanning = scan,
) -> Background:
    """Compute a background from frames as planned: the method itself.

    Parameters
    ----------
    frames : FrameSource
    planned : Plan
    progress : callable
        Called with the fraction done.
    scanning : callable
        Scans the frames; see `sparsemed.method.scan.scan`.

    Raises
    ------
    ValueError
        If windows and background images do not fit into memory. Also raises what reading raises.
    """
    progress(0.0)
    try:
        found = scanning(
            frames,
            planned.starts,
            planned.length,
            with_bands=bool(planned.parameters.offset_correction),
            band_rows=planned.offset_rows,
            progress=progress,
        )
        concluded = conclude(planned, found)
    except MemoryError as error:
        raise ValueError(_too_large(frames, planned, error)) from error
    if found.unwritten:
        warn(
            f"{planned.label or 'frames'}: frames {spans_in_words(found.unwritten)} were never "
            "written, and count as black; is the file complete?"
        )
    background = replace(concluded, unwritten=tuple(found.unwritten))
    progress(1.0)
    return background


def _too_large(frames: FrameSource, planned: Plan, error: MemoryError) -> str:
    """Return which parameter makes background images or windows too large for the memory."""
    count, height, width = frames.shape
    image = height * width * frames.dtype.itemsize
    images = len(np.unique(planned.starts))
    too_many = images > planned.length
    what = (
        f"split_time={planned.parameters.split_time:g} makes {len(planned.steps)} background "
        f"images, of which {images} differ ({images * image / 1e9:.3g} GB); use a larger "
        "split_time"
        if too_many
        else f"kernel_size={planned.parameters.kernel_size} makes windows of {planned.length} "
        f"frames ({planned.length * image / 1e9:.3g} GB); use a smaller kernel_size"
    )
    return (
        f"{planned.label or 'frames'}: {count} frames of {height} × {width} pixels do not fit into "
        f"memory ({error}): {what}"
    )


def plan(
    time: NDArray[Any],
    parameters: Parameters,
    label: str | None = None,
    offset_rows: int = BAND_ROWS,
) -> Plan:
    """Choose the windows for a time axis, and warn of an odd axis; see `Plan`."""
    steps = step_times(time, parameters.split_time, label or "time")
    about = f"{label}: " if label else ""
    if (falls := find_falls(time)).count:
        warn(f"{about}{falls.text}. {falls.advice}")
    if (coarse := coarseness(time, parameters.split_time)) is not None:
        warn(f"{about}{coarse}")
    if len(steps) > len(time):
        warn(
            f"{about}split_time={parameters.split_time:g} makes {len(steps)} background images of "
            f"{len(time)} frames, as the time spans {time[-1]:.6g} s; if the time is in "
            "milliseconds, divide it by 1000; if frames are really that sparse, use a larger "
            "split_time"
        )
    length = window_length(parameters.kernel_size, time)
    starts = window_starts(time, steps, length)
    return Plan(time, steps, starts, length, parameters, label, offset_rows)


def conclude(planned: Plan, found: Scan) -> Background:
    """Make a background from the results of a scan."""
    series, frame_means = found.series, found.band_means
    time, parameters = planned.time, planned.parameters
    kept, score, threshold = cleanse(series, parameters.thresh_cleansing, parameters.frac_cleansing)
    images = series if kept.all() else pick(series, np.flatnonzero(kept))
    frame_index = assign_frames(time, planned.steps[kept], parameters.split_time)
    bg_off = None
    if frame_means is not None:
        wall = partial(band_means, rows=planned.offset_rows)
        bg_off = offsets(frame_means, each(images, wall), frame_index)
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
        offset_rows=planned.offset_rows,
    )
