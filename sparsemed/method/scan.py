"""One pass over the frames: each frame is read once for all its windows."""

import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from sparsemed.frames.source import Batch, FrameSource, Spans
from sparsemed.method.offsets import BAND_ROWS, band_means
from sparsemed.method.repeated import repeat
from sparsemed.method.series import Series
from sparsemed.progress import Progress

AHEAD_BYTES = 128 * 1024**2
"""Largest bytes of frames that are being read, for any number of threads."""


class Scan(NamedTuple):
    """The results of one pass over the frames.

    Attributes
    ----------
    series : ndarray or RepeatedImages, shape (M, H, W)
        Median image of each window.
    band_means : ndarray of float64, shape (N,), or None
        Brightness of the wall band of each frame, if wanted.
    unwritten : list of (int, int)
        Spans of frames that were never written.
    """

    series: Any
    band_means: NDArray[np.float64] | None
    unwritten: Spans


class Scanning(Protocol):
    """Scans frames: `scan`, `sparsemed.method.tiles.scan_tiles`, or a `RangedScan`."""

    def __call__(
        self,
        frames: FrameSource,
        starts: NDArray[np.intp],
        length: int,
        *,
        with_bands: bool,
        band_rows: int,
        progress: Progress,
    ) -> Scan:
        """Compute the median image of each window, and the band mean of each frame."""


def scan(
    frames: FrameSource,
    starts: NDArray[np.intp],
    length: int,
    *,
    with_bands: bool,
    band_rows: int = BAND_ROWS,
    num_cpus: int = 1,
    progress: Progress,
) -> Scan:
    """Compute the median image of each window, and the band mean of each frame.

    Windows are computed in the order of the file, whatever the order of `starts`, and equal
    windows once. Threads read batches of frames into free places of a buffer. Of frames that no
    window needs, only the bands are read. When all places are taken, or all is read, the
    medians of all complete windows are computed, many in one launch; reading and computing
    take turns.

    Parameters
    ----------
    frames : FrameSource
    starts : ndarray of int, shape (M,)
        First frame of each window.
    length : int
        Frames in a window.
    with_bands : bool
        Whether to compute `band_means`. Otherwise, blocks that no window needs are
        not read.
    band_rows : int
        Number of rows of the bands.
    num_cpus : int
        Largest number of threads.
    progress : callable
        Called with the fraction of frames that are done.

    Returns
    -------
    Scan
    """
    count, height, width = frames.shape
    distinct, window_of_step = np.unique(starts, return_inverse=True)
    means = np.empty(count) if with_bands else None
    spans = [(0, count)] if with_bands else _needed_spans(distinct, length, frames)

    batch_bytes = frames.batch * height * width * frames.dtype.itemsize
    ahead = max(1, min(2 * frames.threads, AHEAD_BYTES // batch_bytes))
    series = Series(distinct, length, frames.shape, frames.dtype, frames.batch, ahead, num_cpus)
    todo = _batches(spans, frames.batch)
    following = next(todo, None)
    under_way: deque[tuple[int, int, Future[None]]] = deque()
    # Of frames that no window needs, only the band is read, up to the end of its row block.
    top = min(height, -(-band_rows // frames.row_block) * frames.row_block)
    own = _OfThread((min(frames.batch, count), top, width), frames.dtype)

    wanted = (
        Batch(start, stop, height if series.needs(start, stop) else top)
        for start, stop in _batches(spans, frames.batch)
    )
    threads = _threads(frames.threads, frames.interrupt)
    with frames.reading(wanted) as read, threads as pool:

        def fetch(start: int, stop: int, place: NDArray[Any] | None) -> None:
            out = own.frames[: stop - start] if place is None else place
            read(start, stop, out)
            if means is not None:
                means[start:stop] = band_means(out, band_rows)

        try:
            while following or under_way or not series.is_complete:
                while following and series.has_room and len(under_way) < ahead:
                    place = series.place(*following)
                    under_way.append((*following, _submit(pool, fetch, *following, place)))
                    following = next(todo, None)
                if under_way:
                    under_way[0][2].result()
                    start, stop, _ = under_way.popleft()
                    series.arrived(start, stop)
                    progress(stop / count)
                else:
                    series.compute()
        finally:
            # An error refers to this stack frame. If the stack frame referred to the error
            # through its futures, the buffer would live until the garbage collector runs.
            under_way.clear()

    return Scan(of_steps(series.images, window_of_step), means, frames.unwritten)


class _OfThread(threading.local):
    """A buffer of each thread for frames that no window needs; it stays in the cache."""

    def __init__(self, shape: tuple[int, int, int], dtype: np.dtype[Any]) -> None:
        self.frames = np.empty(shape, dtype)


def of_steps(images: NDArray[Any], window_of_step: NDArray[np.intp]) -> Any:
    """Return the image of each step from that of each window; several steps may share one."""
    once_each = np.array_equal(window_of_step, np.arange(len(images)))
    return images if once_each else repeat(images, window_of_step)


@contextmanager
def _threads(count: int, interrupt: Callable[[], None]) -> Iterator[ThreadPoolExecutor]:
    """Provide a pool of threads. After an error or a signal, they end before it propagates."""
    name = f"sparsemed-{secrets.token_hex(8)}"
    with ThreadPoolExecutor(count, thread_name_prefix=name) as pool:
        try:
            yield pool
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            interrupt()
            pool.shutdown()
            # If a signal arrived while a thread was started, the pool does not know that thread.
            for _ in range(1000):
                if not any(thread.name.startswith(name) for thread in threading.enumerate()):
                    break
                time.sleep(0.001)
            raise


def _submit(pool: ThreadPoolExecutor, work: Callable[..., None], *args: Any) -> Future[None]:
    """Submit work to the pool, or do it here if the interpreter is shutting down."""
    try:
        return pool.submit(work, *args)
    except KeyError as error:  # hides what a signal handler raised while a thread was started
        raise error.__context__ or error from None
    except RuntimeError as error:
        # This thread may outlive the main thread, after which pools accept no work.
        if "shutdown" not in str(error):
            raise OSError(f"no thread can be started ({error}); use a smaller num_cpus") from error
    pool.shutdown()  # earlier work must end first, as not all sources allow two readers
    arrival: Future[None] = Future()
    work(*args)
    arrival.set_result(None)
    return arrival


def _needed_spans(
    starts: NDArray[np.intp], length: int, frames: FrameSource
) -> list[tuple[int, int]]:
    """Return the spans of frames, in whole blocks, that windows need."""
    block = frames.block
    spans: list[tuple[int, int]] = []
    for start in starts.tolist():
        begin = start // block * block
        end = min(-(-(start + length) // block) * block, frames.shape[0])
        if spans and begin <= spans[-1][1]:
            spans[-1] = (spans[-1][0], end)
        else:
            spans.append((begin, end))
    return spans


def _batches(spans: list[tuple[int, int]], batch: int) -> Iterator[tuple[int, int]]:
    for begin, end in spans:
        for start in range(begin, end, batch):
            yield start, min(start + batch, end)
