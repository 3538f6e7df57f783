from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sparsemed import scan as scan_module
from sparsemed.scan import scan


class WatchedFrames:
    """Frames that refuse to be read twice, back to front, or across a block boundary."""

    def __init__(self, images, block, blocks_at_once=1, piece=None):
        self.images = images
        self.shape = images.shape
        self.dtype = images.dtype
        self.block = block
        self.batch = block * blocks_at_once
        self.piece = piece or self.batch
        self.is_open = False
        self.reads = []
        self.buffers = {}

    @contextmanager
    def reading(self):
        assert not self.is_open
        self.is_open = True
        yield self._read
        self.is_open = False

    def _read(self, start, stop, out):
        assert self.is_open
        assert 0 <= start < stop <= len(self.images)
        assert stop - start == len(out) <= self.batch
        assert not self.reads or self.reads[-1][1] <= start
        assert start % self.block == 0
        assert stop % self.block == 0 or stop == len(self.images)
        self.reads.append((start, stop))
        buffer = out if out.base is None else out.base
        self.buffers[id(buffer)] = len(buffer)
        out[:] = 77  # until they arrive
        for begin in range(start, stop, self.piece):
            end = min(begin + self.piece, stop)
            out[begin - start : end - start] = self.images[begin:end]
            yield begin, end


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
    at_once, piece = draw(st.integers(1, 4)), draw(st.integers(1, 20))
    frames = WatchedFrames(numbered(count, dtype=dtype), block, at_once, piece)
    return frames, np.array(starts), length, draw(st.booleans())


def case(count, starts, length, block, with_bands, blocks_at_once=1):
    frames = WatchedFrames(numbered(count), block, blocks_at_once)
    return frames, np.array(starts), length, with_bands


@settings(deadline=None, max_examples=300)
@given(cases())
@example(case(80, [70], 10, 7, False))
@example(case(80, [70], 10, 7, True))
@example(case(80, [0, 30, 31, 60], 3, 10, False))
@example(case(80, [0, 1, 2, 3, 60], 20, 1, True))
@example(case(5, [0], 1, 100, False))
@example(case(80, [0, 1, 2, 3, 41, 60], 20, 3, False, blocks_at_once=3))
@example(case(80, [0, 30, 60], 3, 1, False, blocks_at_once=50))
def test_equals_brute_force(case):
    frames, starts, length, with_bands = case
    images = frames.images
    reports = []
    found = scan(frames, starts, length, with_bands=with_bands, num_cpus=1, report=reports.append)
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
    else:
        assert needed <= read
        assert {i // frames.block for i in read} == {i // frames.block for i in needed}

    assert reports == [stop / len(images) for _, stop in frames.reads]
    assert reports == sorted(reports)
    assert reports[-1] == 1 or not with_bands

    (room,) = frames.buffers.values()
    assert room <= 2 * length + frames.batch
    assert not frames.is_open


@pytest.mark.parametrize("with_bands", [True, False])
def test_memory_does_not_grow_with_the_measurement(with_bands):
    frames = WatchedFrames(numbered(5000), block=16, blocks_at_once=3)
    starts = np.arange(0, 4900, 37)
    scan(frames, starts, 100, with_bands=with_bands, num_cpus=1, report=lambda _: None)
    (room,) = frames.buffers.values()
    assert room <= 248


@pytest.mark.parametrize("blocks_at_once", [1, 4])
@pytest.mark.parametrize("block", [1, 8, 64])
def test_frames_are_moved_once_at_most_on_average(monkeypatch, block, blocks_at_once):
    moved = 0

    class Watched(scan_module._Recent):
        def make_room(self, start, stop, needed_from):
            nonlocal moved
            begin, end = self.begin, self.end
            room = super().make_room(start, stop, needed_from)
            moved += max(0, end - self.begin) if self.begin != begin else 0
            return room

    monkeypatch.setattr(scan_module, "_Recent", Watched)
    frames = WatchedFrames(numbered(2000), block, blocks_at_once)
    scan(frames, np.arange(1950), 50, with_bands=True, num_cpus=1, report=lambda _: None)
    assert 0 < moved <= 2000


@pytest.mark.parametrize("with_bands", [True, False])
def test_frames_between_windows_are_read_for_bands_only(with_bands):
    frames = WatchedFrames(numbered(100), block=10)
    scan(
        frames,
        np.array([80, 25]),
        10,
        with_bands=with_bands,
        num_cpus=None,
        report=lambda _: None,
    )
    every_block = [(i, i + 10) for i in range(0, 100, 10)]
    assert frames.reads == (every_block if with_bands else [(20, 30), (30, 40), (80, 90)])


def test_blocks_are_read_together():
    frames = WatchedFrames(numbered(100), block=10, blocks_at_once=4)
    scan(frames, np.array([25, 85]), 15, with_bands=True, num_cpus=1, report=lambda _: None)
    assert frames.reads == [(0, 40), (40, 80), (80, 100)]
    frames.reads.clear()
    scan(frames, np.array([15, 85]), 15, with_bands=False, num_cpus=1, report=lambda _: None)
    assert frames.reads == [(10, 30), (80, 100)]


def test_frames_are_no_longer_held_after_an_error():
    class Broken(WatchedFrames):
        closed = False

        @contextmanager
        def reading(self):
            try:
                with super().reading() as read:
                    yield read
            finally:
                self.closed = True

        def _read(self, start, stop, out):
            if start >= 20:
                raise OSError("broken")
            return super()._read(start, stop, out)

    frames = Broken(numbered(40), block=10)
    with pytest.raises(OSError, match=r"^broken$"):
        scan(frames, np.arange(30), 5, with_bands=True, num_cpus=1, report=lambda _: None)
    assert frames.closed


@pytest.fixture
def kernel_calls(monkeypatch):
    """Replace the kernel by one that takes the first frame of each window; list its calls."""
    calls = []

    def first_frames(frames, starts, length, images, num_cpus):
        assert num_cpus == 3
        assert len(starts) == len(images) > 0
        assert 0 <= starts[0] <= starts[-1] <= len(frames) - length
        calls.append(len(starts))
        images[:] = frames[starts]

    monkeypatch.setattr(scan_module, "median_images", first_frames)
    return calls


def test_equal_windows_are_computed_once(kernel_calls):
    images = numbered(40)
    found = scan(
        WatchedFrames(images, block=8),
        np.array([5, 20, 5, 5, 20, 7]),
        10,
        with_bands=False,
        num_cpus=3,
        report=lambda _: None,
    )
    assert kernel_calls == [1, 1, 1]  # they are complete at 16, 24 and 32
    np.testing.assert_array_equal(found.series, images[[5, 20, 5, 5, 20, 7]])


@pytest.mark.parametrize("with_bands", [True, False])
def test_the_kernel_is_called_once_a_batch(kernel_calls, with_bands):
    images = numbered(100)
    starts = np.concatenate([np.arange(0, 60), np.arange(88, 91)])
    found = scan(
        WatchedFrames(images, block=5, blocks_at_once=5, piece=3),
        starts,
        10,
        with_bands=with_bands,
        num_cpus=3,
        report=lambda _: None,
    )
    # Batches end at 25, 50, 75 and 100; windows begin 10 frames before at the latest.
    assert kernel_calls == [16, 25, 19, 3]
    np.testing.assert_array_equal(found.series, images[starts])
