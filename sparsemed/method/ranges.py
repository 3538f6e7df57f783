"""One huge measurement, cut into ranges of frames that are scanned apart, and joined again.

A range holds the windows that begin in it, and reads on as far as they reach; so it shares some
frames with the next. Only medians and band means come back. They are the same, however the frames
are cut: each median is one of the same frames.
"""

from collections.abc import Callable, Generator
from contextlib import closing
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from sparsemed.frames.source import FrameOpener, FrameSource, PartOpener, join_spans
from sparsemed.method.scan import Scan, of_steps, scan
from sparsemed.progress import Progress, ignore

RANGE_BYTES = 128 * 1024**2
"""What the frames of a range weigh at least, where nobody says how many ranges there are to be."""

PER_WORKER = 4
"""Ranges for each worker, of frames that are enough for that: if one is lost, so is little."""

LEAST_WINDOWS = 4
"""Windows that fit into a range at least, one after the other, so that little is read twice."""


class Range(NamedTuple):
    """Some windows, and the frames that they take.

    Attributes
    ----------
    begin, end : int
        The first frame that is read, and the one after the last.
    own : int
        The frame after the last one whose band mean is taken here.
    first, last : int
        Its first window, in the order of the file, and the one after its last.
    """

    begin: int
    end: int
    own: int
    first: int
    last: int


class Runner(Protocol):
    """What does ranges, here or elsewhere; see `sparsemed.executors.rounds.TaskRunner`."""

    def worker_count(self) -> int:
        """Return how many ranges are done at the same time."""

    def as_completed(
        self, work: Callable[..., Any], tasks: Any, num_cpus: int | None
    ) -> Generator[Any]:
        """Do tasks, and yield the number, value and error of each."""


class RangedScan:
    """A scan in ranges; it is called as `sparsemed.method.scan.scan`.

    Parameters
    ----------
    runner : Runner
        What does the ranges.
    open_part : callable
        ``open_part(begin, end)`` returns what opens these frames where the work is done.
    ranges : int or None
        How many ranges; None leaves that to their size and the number of workers.
    num_cpus : int or None
        Largest number of threads for a range; see `Runner`.
    """

    def __init__(
        self, runner: Runner, open_part: PartOpener, ranges: int | None, num_cpus: int | None
    ) -> None:
        self.runner = runner
        self.open_part = open_part
        self.ranges = ranges
        self.num_cpus = num_cpus

    def __call__(
        self,
        frames: FrameSource,
        starts: NDArray[np.intp],
        length: int,
        *,
        with_bands: bool,
        progress: Progress,
        **how: Any,
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
                how | {"with_bands": with_bands},
            )
            for each in ranges
        )
        images = np.empty((len(distinct), *frames.shape[1:]), frames.dtype)
        means = np.empty(frames.shape[0]) if with_bands else None
        unwritten = list(frames.unwritten)
        done, all_ = 0, sum(each.end - each.begin for each in ranges)
        with closing(self.runner.as_completed(_scan_part, tasks, self.num_cpus)) as outcomes:
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


Scanning = Callable[..., Scan]
"""`sparsemed.method.tiles.scan_tiles`, or a `RangedScan`."""


def range_count(frames: FrameSource, length: int, workers: int) -> int:
    """Return how many ranges suit frames and workers: a multiple of these, if there are enough."""
    count, height, width = frames.shape
    size = count * height * width * frames.dtype.itemsize
    most = min(PER_WORKER * workers, size // RANGE_BYTES, count // (LEAST_WINDOWS * length))
    return max(1, most if most < workers else most // workers * workers)


def cut(
    starts: NDArray[np.intp], length: int, frames: FrameSource, number: int, with_bands: bool
) -> list[Range]:
    """Return ranges that hold all windows, and with bands all frames: no more than `number`.

    They begin where blocks of frames do. With bands they are as even as these let them; without,
    each has as many windows as the others, and frames of no window are in none.

    Parameters
    ----------
    starts : ndarray of int, shape (m,), ascending and distinct
        First frame of each window.
    length : int
        Frames in a window.
    frames : FrameSource
        What is to be cut.
    number : int
        How many ranges there are to be, if blocks are enough.
    with_bands : bool
        Whether each frame is needed, be it in a window or not.
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
    """What a worker needs for a range; windows begin at `starts`, counted from its first frame."""

    open_frames: FrameOpener
    starts: NDArray[np.intp]
    length: int
    how: dict[str, Any]


def _scan_part(task: _Task, num_cpus: int | None) -> Scan:
    how = task.how | {"num_cpus": num_cpus}
    with task.open_frames(num_cpus) as frames:
        return scan(frames, task.starts, task.length, progress=ignore, **how)
