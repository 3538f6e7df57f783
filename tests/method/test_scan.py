import threading
from contextlib import contextmanager
from time import sleep

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from patience import PATIENCE
from rings import examples

from sparsemed.method import scan as scan_module
from sparsemed.method import series
from sparsemed.method.scan import scan


class WatchedFrames:
    """Frames that refuse to be read twice, or across a block boundary."""

    def __init__(self, images, block, blocks_at_once=1, threads=1, row_block=None):
        self.images = images
        self.row_block = row_block or images.shape[1]
        self.shape = images.shape
        self.dtype = images.dtype
        self.block = block
        self.batch = block * blocks_at_once
        self.threads = threads
        self.unwritten = []
        self.is_open = False
        self.at_once = 0
        self.reads = []
        self.rows = {}  # of each read, by its begin
        self.buffers = {}
        self._lock = threading.Lock()

    def interrupt(self):
        pass

    @contextmanager
    def reading(self, _wanted=()):
        assert not self.is_open
        self.is_open = True
        try:
            yield self._read
        finally:
            self.is_open = False
            assert self.at_once == 0

    def _read(self, start, stop, out):
        assert self.is_open
        assert 0 <= start < stop <= len(self.images)
        assert stop - start == len(out) <= self.batch
        assert out.shape[1] % self.row_block == 0 or out.shape[1] == self.shape[1]
        assert start % self.block == 0
        assert stop % self.block == 0 or stop == len(self.images)
        with self._lock:
            assert all(stop <= begin or end <= start for begin, end in self.reads)
            self.reads.append((start, stop))
            self.rows[start] = out.shape[1]
            buffer = out if out.base is None else out.base
            self.buffers[id(buffer)] = len(buffer)
            self.at_once += 1
            assert self.at_once <= self.threads
        out[:] = 77  # until they arrive
        out[:] = self.images[start:stop, : out.shape[1]]
        with self._lock:
            self.at_once -= 1


def numbered(count, height=3, width=4, dtype=np.uint8):
    rng = np.random.default_rng(count)
    return rng.integers(0, np.iinfo(dtype).max, (count, height, width), dtype, endpoint=True)


@st.composite
def cases(draw):
    count = draw(st.integers(1, 80))
    length = draw(st.integers(1, count))
    starts = draw(st.lists(st.integers(0, count - length), min_size=1, max_size=15))
    if draw(st.booleans()):
        starts.sort()
    dtype = draw(st.sampled_from([np.uint8, np.uint16]))
    block = draw(st.integers(1, count + 5))
    at_once, threads = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    height = draw(st.sampled_from([3, 30]))
    images = numbered(count, height, 2, dtype)
    row_block = draw(st.integers(1, height))
    frames = WatchedFrames(images, block, at_once, threads, row_block)
    held = draw(st.integers(0, 120))
    return frames, np.array(starts), length, draw(st.booleans()), held


def case(count, starts, length, block, with_bands, blocks_at_once=1, threads=1, held=0):
    frames = WatchedFrames(numbered(count), block, blocks_at_once, threads)
    return frames, np.array(starts), length, with_bands, held


def largest_room(frames, length, held):
    """Frames that may be in memory: those held or of a window, and those being read."""
    ahead = 2 * frames.threads
    return (max(held // frames.batch, -(-length // frames.batch) + 1) + ahead) * frames.batch


def room_of(frames):
    """Return the frames of the buffer for windows; of others, each thread has one for a batch."""
    *passing, room = sorted(frames.buffers.values())
    assert len(passing) <= frames.threads
    assert all(size <= frames.batch for size in passing)
    return room


def hold(monkeypatch, frames, held):
    """Have room for a number of frames, where windows need no more."""
    frame_bytes = frames.images[0].nbytes
    monkeypatch.setattr(series, "HELD_BYTES", held * frame_bytes)


@examples(300)
@given(cases())
@example(case(80, [70], 10, 7, False))
@example(case(80, [70], 10, 7, True))
@example(case(80, [0, 30, 31, 60], 3, 10, False))
@example(case(80, [0, 1, 2, 3, 60], 20, 1, True))
@example(case(5, [0], 1, 100, False))
@example(case(80, [0, 1, 2, 3, 41, 60], 20, 3, False, blocks_at_once=3))
@example(case(80, [0, 30, 60], 3, 1, False, blocks_at_once=50))
def test_equals_brute_force(case):
    frames, starts, length, with_bands, held = case
    images = frames.images
    reports = []
    with pytest.MonkeyPatch.context() as patch:
        hold(patch, frames, held)
        found = scan(
            frames, starts, length, with_bands=with_bands, num_cpus=1, progress=reports.append
        )
    series = [np.sort(images[start : start + length], axis=0)[length // 2] for start in starts]
    np.testing.assert_array_equal(found.series, np.array(series), strict=True)
    if with_bands:
        means = np.mean(images[:, :20], axis=(1, 2))
        np.testing.assert_array_equal(found.band_means, means, strict=True)
    else:
        assert found.band_means is None

    read = {i for start, stop in frames.reads for i in range(start, stop)}
    needed = {i for start in starts.tolist() for i in range(start, start + length)}
    if with_bands:
        assert read == set(range(len(images)))
        height, block = images.shape[1], frames.row_block
        band = min(height, -(-20 // block) * block)  # and what is stored along with it
        for start, stop in frames.reads:
            rows = height if needed & set(range(start, stop)) else band
            assert frames.rows[start] == rows
    else:
        assert needed <= read
        assert {i // frames.block for i in read} == {i // frames.block for i in needed}

    assert reports == sorted(stop / len(images) for _, stop in frames.reads)
    assert reports[-1] == 1 or not with_bands

    assert room_of(frames) <= largest_room(frames, length, held)
    assert not frames.is_open


@pytest.mark.parametrize("with_bands", [True, False])
@pytest.mark.parametrize(("threads", "held"), [(1, 0), (1, 480), (4, 480)])
def test_memory_does_not_grow_with_the_measurement(with_bands, threads, held, monkeypatch):
    frames = WatchedFrames(numbered(5000), block=16, blocks_at_once=3, threads=threads)
    hold(monkeypatch, frames, held)
    starts = np.arange(0, 4900, 37)
    scan(frames, starts, 100, with_bands=with_bands, num_cpus=1, progress=lambda _: None)
    assert room_of(frames) == largest_room(frames, 100, held) < 900


def test_frames_are_read_at_the_same_time(monkeypatch):
    together = threading.Barrier(3, timeout=PATIENCE)

    class Patient(WatchedFrames):
        def _read(self, start, stop, out):
            super()._read(start, stop, out)
            with self._lock:
                self.at_once += 1
            together.wait()  # for two others
            with self._lock:
                self.at_once -= 1

    frames = Patient(numbered(120), block=10, threads=3)
    hold(monkeypatch, frames, 60)
    starts = np.arange(0, 111)
    found = scan(frames, starts, 10, with_bands=True, num_cpus=3, progress=lambda _: None)
    np.testing.assert_array_equal(
        found.series, [np.sort(frames.images[s : s + 10], axis=0)[5] for s in starts]
    )


def test_heavy_batches_are_read_by_fewer_threads(monkeypatch):
    frames = WatchedFrames(numbered(400), block=10, threads=8)
    monkeypatch.setattr(scan_module, "AHEAD_BYTES", 35 * frames.images[0].nbytes)
    hold(monkeypatch, frames, 60)
    scan(frames, np.arange(0, 390, 9), 10, with_bands=True, num_cpus=8, progress=lambda _: None)
    assert frames.buffers.popitem()[1] == 60 + 3 * 10


@pytest.mark.parametrize("with_bands", [True, False])
def test_frames_between_windows_are_read_for_bands_only(with_bands):
    frames = WatchedFrames(numbered(100), block=10)
    scan(
        frames,
        np.array([80, 25]),
        10,
        with_bands=with_bands,
        num_cpus=2,
        progress=lambda _: None,
    )
    assert len(frames.buffers) == (2 if with_bands else 1)  # they do not take the room of others
    every_block = [(i, i + 10) for i in range(0, 100, 10)]
    assert frames.reads == (every_block if with_bands else [(20, 30), (30, 40), (80, 90)])


def test_blocks_are_read_together():
    frames = WatchedFrames(numbered(100), block=10, blocks_at_once=4)
    scan(frames, np.array([25, 85]), 15, with_bands=True, num_cpus=1, progress=lambda _: None)
    assert frames.reads == [(0, 40), (40, 80), (80, 100)]
    frames.reads.clear()
    scan(frames, np.array([15, 85]), 15, with_bands=False, num_cpus=1, progress=lambda _: None)
    assert frames.reads == [(10, 30), (80, 100)]


@pytest.mark.parametrize("threads", [1, 3])
def test_files_and_threads_are_gone_after_an_error(threads):
    class Broken(WatchedFrames):
        closed = False

        def interrupt(self):
            pass

        @contextmanager
        def reading(self, _wanted=()):
            try:
                with super().reading() as read:
                    yield read
            finally:
                self.closed = True

        def _read(self, start, stop, out):
            if start >= 20:
                raise OSError("broken")
            super()._read(start, stop, out)

    frames = Broken(numbered(40), block=10, threads=threads)
    before = set(threading.enumerate())
    with pytest.raises(OSError, match=r"^broken$"):
        scan(frames, np.arange(30), 5, with_bands=True, num_cpus=1, progress=lambda _: None)
    assert frames.closed
    assert set(threading.enumerate()) <= before


def test_reads_that_wait_are_given_up_after_an_error():
    is_over = threading.Event()

    class Slow(WatchedFrames):
        def _read(self, start, stop, out):
            if start == 0:
                raise OSError("broken")
            super()._read(start, stop, out)
            is_over.wait(PATIENCE)

        def interrupt(self):  # comes after the error
            is_over.set()

    frames = Slow(numbered(100), block=10, threads=2)
    with pytest.raises(OSError, match=r"^broken$"):
        scan(frames, np.arange(90), 5, with_bands=True, num_cpus=2, progress=lambda _: None)
    # Four are under way: one is broken, one or two are being read, and the last one waits for
    # its turn in vain.
    assert {*frames.reads} <= {(10, 20), (20, 30)}


@pytest.fixture
def kernel_calls(monkeypatch):
    """Replace the kernel by one that takes the first frame of each window; list its calls."""
    calls = []

    def first_frames(frames, rows, starts, length, images, num_cpus, done):
        assert num_cpus == 3
        assert len(starts) == len(images) > done
        assert 0 <= starts[0] <= starts[-1] <= len(rows) - length
        calls.append(len(starts) - done)
        images[done:] = frames[rows[starts[done:]]]

    monkeypatch.setattr(series, "median_images", first_frames)
    return calls


def test_equal_windows_are_computed_once(kernel_calls):
    images = numbered(40)
    found = scan(
        WatchedFrames(images, block=8),
        np.array([5, 20, 5, 5, 20, 7]),
        10,
        with_bands=False,
        num_cpus=3,
        progress=lambda _: None,
    )
    assert kernel_calls == [3]
    np.testing.assert_array_equal(found.series, images[[5, 20, 5, 5, 20, 7]])


@pytest.mark.parametrize("with_bands", [True, False])
def test_windows_are_computed_together_when_there_is_no_more_room(
    kernel_calls, with_bands, monkeypatch
):
    frames = WatchedFrames(numbered(100), block=5)
    hold(monkeypatch, frames, 40)
    starts = np.concatenate([np.arange(0, 60), np.arange(88, 91)])
    found = scan(frames, starts, 10, with_bands=with_bands, num_cpus=3, progress=lambda _: None)
    # There is room for 50 frames, those being read among them. At first it is full with the
    # frames before 50; those from 40 on stay, as windows begin at 41 to 49.
    assert kernel_calls == [41, 22]
    np.testing.assert_array_equal(found.series, frames.images[starts])


def test_frames_of_no_window_take_no_room(kernel_calls, monkeypatch):
    frames = WatchedFrames(numbered(1000), block=5)
    hold(monkeypatch, frames, 40)
    starts = np.arange(3, 1000, 250)  # each is in two blocks
    scan(frames, starts, 5, with_bands=True, num_cpus=3, progress=lambda _: None)
    assert kernel_calls == [4]


def test_no_thread_to_be_had(monkeypatch):
    def refuse(*_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    frames = WatchedFrames(numbered(40), block=8)
    with pytest.raises(OSError, match=r"^no thread can be started .*; use a smaller num_cpus$"):
        scan(frames, np.array([5]), 10, with_bands=False, num_cpus=3, progress=lambda _: None)


def test_what_a_handler_raises_while_a_thread_is_started_is_passed_on(monkeypatch):
    def start(thread):
        try:
            raise TimeoutError("time is up")
        except TimeoutError:
            raise KeyError(thread)  # noqa: B904 (as Python does if the thread has begun)

    monkeypatch.setattr(threading.Thread, "start", start)
    frames = WatchedFrames(numbered(40), block=8)
    with pytest.raises(TimeoutError, match="time is up"):
        scan(frames, np.array([5]), 10, with_bands=False, num_cpus=3, progress=lambda _: None)


def test_a_pool_that_takes_nothing_any_more(monkeypatch):
    """As in a thread that outlives the main one: the pool ends while a read is under way."""

    class Slow(WatchedFrames):
        def _read(self, start, stop, out):
            if start == 8:
                monkeypatch.setattr("concurrent.futures.thread._shutdown", True)
            self.at_once += 1
            assert self.at_once <= 1
            sleep(0.01)
            self.at_once -= 1
            super()._read(start, stop, out)

    frames = Slow(numbered(80), block=8)
    found = scan(frames, np.array([5]), 10, with_bands=True, num_cpus=3, progress=lambda _: None)
    np.testing.assert_array_equal(found.series[0], np.sort(frames.images[5:15], axis=0)[5])
