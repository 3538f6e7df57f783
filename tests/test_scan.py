import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sparsemed import scan as scan_module
from sparsemed.scan import scan


class WatchedFrames:
    """Frames that refuse to be read twice, back to front, or across a block boundary."""

    def __init__(self, images, block):
        self.images = images
        self.shape = images.shape
        self.dtype = images.dtype
        self.block = block
        self.reads = []
        self.buffers = {}

    def read(self, start, stop, out):
        assert 0 <= start < stop <= len(self.images)
        assert not self.reads or self.reads[-1][1] <= start
        assert start // self.block == (stop - 1) // self.block
        assert stop % self.block == 0 or stop == len(self.images)
        self.reads.append((start, stop))
        buffer = out if out.base is None else out.base
        self.buffers[id(buffer)] = len(buffer)
        out[:] = self.images[start:stop]


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
    frames = WatchedFrames(numbered(count, dtype=dtype), block=draw(st.integers(1, count + 5)))
    return frames, np.array(starts), length, draw(st.booleans())


def case(count, starts, length, block, with_bands):
    return WatchedFrames(numbered(count), block), np.array(starts), length, with_bands


@settings(deadline=None, max_examples=300)
@given(cases())
@example(case(80, [70], 10, 7, False))
@example(case(80, [70], 10, 7, True))
@example(case(80, [0, 30, 31, 60], 3, 10, False))
@example(case(80, [0, 1, 2, 3, 60], 20, 1, True))
@example(case(5, [0], 1, 100, False))
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
        assert all(start % frames.block == 0 for start, _ in frames.reads)
    else:
        assert needed <= read
        assert {i // frames.block for i in read} == {i // frames.block for i in needed}

    assert reports == [stop / len(images) for _, stop in frames.reads]
    assert reports == sorted(reports)
    assert reports[-1] == 1 or not with_bands

    (room,) = frames.buffers.values()
    assert room <= 2 * length + frames.block


@pytest.mark.parametrize("with_bands", [True, False])
def test_memory_does_not_grow_with_the_measurement(with_bands):
    frames = WatchedFrames(numbered(5000), block=16)
    starts = np.arange(0, 4900, 37)
    scan(frames, starts, 100, with_bands=with_bands, num_cpus=1, report=lambda _: None)
    (room,) = frames.buffers.values()
    assert room <= 216


@pytest.mark.parametrize("block", [1, 8, 64])
def test_frames_are_moved_once_at_most_on_average(monkeypatch, block):
    moved = 0

    class Watched(scan_module._Recent):
        def _make_room(self):
            nonlocal moved
            super()._make_room()
            moved += self.end - self.begin

    monkeypatch.setattr(scan_module, "_Recent", Watched)
    frames = WatchedFrames(numbered(2000), block)
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
    assert frames.reads == (every_block if with_bands else [(25, 30), (30, 40), (80, 90)])


def test_equal_windows_are_computed_once(monkeypatch):
    lengths = []

    def count(frames, image, num_cpus):
        assert num_cpus == 3
        lengths.append(len(frames))
        image[:] = frames[0]

    monkeypatch.setattr(scan_module, "median_into", count)
    images = numbered(40)
    found = scan(
        WatchedFrames(images, block=8),
        np.array([5, 20, 5, 5, 20, 7]),
        10,
        with_bands=False,
        num_cpus=3,
        report=lambda _: None,
    )
    assert lengths == [10, 10, 10]
    np.testing.assert_array_equal(found.series, images[[5, 20, 5, 5, 20, 7]])
