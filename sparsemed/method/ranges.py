"""One large measurement, cut into ranges of frames that are scanned separately and joined.

A range has the windows that begin in it, and reads on to the end of the last one, so it shares some
frames with the next range. Only medians and band means come back. They do not depend on the cuts,
as each median is that of the same frames.
"""

from collections.abc import Callable, Generator
from contextlib import closing
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from sparsemed.frames.source import FrameOpener, FrameSource, PartOpener, join_spans
from sparsemed.kernels.cores import available_cores
from sparsemed.method.offsets import BAND_ROWS
from sparsemed.method.scan import Scan, of_steps, scan
from sparsemed.progress import Progress, ignore

RANGE_BYTES = 128 * 1024**2
"""Least bytes of the frames of a range, if the number of ranges is not given."""

PER_WORKER = 4
"""Ranges for each worker, if there are enough frames: a lost worker then costs little."""

LEAST_WINDOWS = 4
"""Least length of a range in windows, so that few frames are read twice."""


class Range(NamedTuple):
    """Some windows, and the frames that they need.

    Attributes
    ----------
    begin, end : int
        The first frame to read, and the one after the last.
    own : int
        The frame after the last one whose band mean this range provides.
    first, last : int
        Its first window, in the order of the file, and the one after the last.
    """

    begin: int
    end: int
    own: int
    first: int
    last: int


class Runner(Protocol):
    """Does tasks, in this process or in workers; see `sparsemed.executors.rounds.TaskRunner`."""

    def worker_count(self) -> int:
        """Return how many tasks are done at the same time."""

    def as_completed(self, work: Callable[..., Any], tasks: Any) -> Generator[Any]:
        """Do tasks, and yield the number, value and error of each."""


class RangedScan:
    """A scan in ranges; it is called like `sparsemed.method.scan.scan`.

    Parameters
    ----------
    runner : Runner
        Scans the ranges.
    open_part : callable
        ``open_part(begin, end)`` returns an opener of these frames, which can be pickled.
    ranges : int or None
        Number of ranges; None: it follows from their size and the number of workers.
    """

    def __init__(self, runner: Runner, open_part: PartOpener, ranges: int | None) -> None:
        self.runner = runner
        self.open_part = open_part
        self.ranges = ranges

    def __call__(
        self,
        frames: FrameSource,
        starts: NDArray[np.intp],
        length: int,
        *,
        with_bands: bool,
        band_rows: int = BAND_ROWS,
        progress: Progress,
    ) -> Scan:
        """Compute the median image of each window, and the band mean of each frame."""
        distinct, window_of_step = np.unique(starts, return_inverse=True)
        number = self.ranges
        if number is None:
            number = range_count(frames, length, self.runner.worker_count())
        ranges = cut(distinct, length, frames, number, with_bands)
        tasks = (
            _Task(
                self.open_part(each.begin, each.end),
                distinct[each.first : each.last] - each.begin,
                length,
                with_bands,
                band_rows,
            )
            for each in ranges
        )
        images = np.empty((len(distinct), *frames.shape[1:]), frames.dtype)
        means = np.empty(frames.shape[0]) if with_bands else None
        unwritten = list(frames.unwritten)
        done, all_ = 0, sum(each.end - each.begin for each in ranges)
        with closing(self.runner.as_completed(_scan_part, tasks)) as outcomes:
            for outcome in outcomes:
                if outcome.error is not None:
                    raise outcome.error
                found: Scan = outcome.value
                begin, end, own, first, last = ranges[outcome.number]
                images[first:last] = found.series
                if means is not None and found.band_means is not None:
                    means[begin:own] = found.band_means[: own - begin]
                unwritten += [(begin + start, begin + stop) for start, stop in found.unwritten]
                done += end - begin
                progress(done / all_)
        return Scan(of_steps(images, window_of_step), means, join_spans(unwritten))


def range_count(frames: FrameSource, length: int, workers: int) -> int:
    """Return a number of ranges: a multiple of `workers`, if there are enough frames."""
    count, height, width = frames.shape
    size = count * height * width * frames.dtype.itemsize
    most = min(PER_WORKER * workers, size // RANGE_BYTES, count // (LEAST_WINDOWS * length))
    return max(1, most if most < workers else most // workers * workers)


def cut(
    starts: NDArray[np.intp], length: int, frames: FrameSource, number: int, with_bands: bool
) -> list[Range]:
    """Return at most `number` ranges that have all windows and, with bands, all frames.

    They begin at edges of blocks. With bands, they are about equally long. Without, they have
    about equally many windows, and frames outside of windows are left out.

    Parameters
    ----------
    starts : ndarray of int, shape (m,), ascending and distinct
        First frame of each window.
    length : int
        Frames in a window.
    frames : FrameSource
        The frames to cut.
    number : int
        Number of ranges, if there are enough blocks.
    with_bands : bool
        Whether each frame is needed, in a window or not.
    """
    count, block = frames.shape[0], frames.block
    parts = np.arange(min(number, count if with_bands else len(starts)))
    if with_bands:
        edges = count * parts // len(parts) // block * block
    else:
        edges = starts[len(starts) * parts // len(parts)] // block * block
    edges = np.append(np.unique(edges), count)
    firsts = np.searchsorted(starts, edges)
    ranges = []
    for begin, own, first, last in zip(
        edges[:-1].tolist(),
        edges[1:].tolist(),
        firsts[:-1].tolist(),
        firsts[1:].tolist(),
        strict=True,
    ):
        reach = int(starts[last - 1]) + length if last > first else begin
        end = max(reach, own) if with_bands else reach
        ranges.append(Range(begin, min(-(-end // block) * block, count), own, first, last))
    return ranges


class _Task(NamedTuple):
    """A range for a worker; `starts` of windows are counted from its first frame."""

    open_frames: FrameOpener
    starts: NDArray[np.intp]
    length: int
    with_bands: bool
    band_rows: int


def _scan_part(task: _Task, num_cpus: int | None) -> Scan:
    cores = num_cpus or available_cores()
    with task.open_frames(cores) as frames:
        return scan(
            frames,
            task.starts,
            task.length,
            with_bands=task.with_bands,
            band_rows=task.band_rows,
            num_cpus=cores,
            progress=ignore,
        )
