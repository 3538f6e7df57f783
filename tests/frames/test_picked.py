import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rings import examples

from sparsemed.frames import arrays
from sparsemed.frames.arrays import ArrayFrames
from sparsemed.frames.picked import PickedFrames


def numbered(count, height=5, width=6, dtype=np.uint8):
    values = np.arange(count * height * width) * 7 % (int(np.iinfo(dtype).max) + 1)
    return values.reshape(count, height, width).astype(dtype)


def read(frames, start=0, stop=None):
    stop = frames.shape[0] if stop is None else stop
    out = np.empty((stop - start, *frames.shape[1:]), frames.dtype)
    with frames.reading() as reading:
        reading(start, stop, out)
    return out


class WatchedFrames(ArrayFrames):
    """Frames in batches of a chosen length that note what is read."""

    def __init__(self, images, batch):
        super().__init__(images)
        self.block = self.batch = batch
        self.reads = []

    def _read(self, held, start, stop, out):
        self.reads.append((start, stop))
        super()._read(held, start, stop, out)


@examples(200)
@given(st.data())
def test_picked_frames_equal_fancy_indexing(data):
    count = data.draw(st.integers(1, 60))
    images = numbered(count, 2, 3, np.uint16)
    picks = np.array(data.draw(st.lists(st.integers(0, count - 1), min_size=1, max_size=70)))
    start = data.draw(st.integers(0, len(picks) - 1))
    stop = data.draw(st.integers(start + 1, len(picks)))
    source = WatchedFrames(images, batch=data.draw(st.integers(1, 20)))

    frames = PickedFrames(source, picks)
    assert frames.shape == (len(picks), 2, 3)
    assert frames.block == 1
    assert frames.batch == arrays.BATCH_BYTES // 12
    assert frames.threads == 1
    expected = images[picks[start:stop]]
    np.testing.assert_array_equal(read(frames, start, stop), expected, strict=True)

    assert source.reads == sorted(source.reads)
    wanted = set(picks[start:stop].tolist())
    for begin, end in source.reads:
        assert begin // source.batch == (end - 1) // source.batch
        assert {begin, end - 1} <= wanted
    everything = [i for span in source.reads for i in range(*span)]
    assert len(everything) == len(set(everything))


def test_frames_far_apart_are_not_read_as_one():
    source = WatchedFrames(numbered(1000), batch=10)
    read(PickedFrames(source, np.array([999, 3, 500, 0, 3, 509])))
    assert source.reads == [(0, 4), (500, 510), (999, 1000)]


def test_frames_picked_in_order_are_read_at_once():
    source = WatchedFrames(numbered(30), batch=10)
    read(PickedFrames(source, np.arange(30)), 10, 20)
    assert source.reads == [(10, 20)]


def test_floats_of_picked_frames():
    images = numbered(6).astype(np.float32)
    frames = PickedFrames(ArrayFrames(images), np.array([5, 0, 5]))
    np.testing.assert_array_equal(read(frames), numbered(6)[[5, 0, 5]], strict=True)
    images[5, 0, 0] = 0.5
    with pytest.raises(TypeError, match=r"frame 5 holds 0\.5"):
        read(frames)


def test_picking_nothing_is_refused():
    with pytest.raises(ValueError, match=r"^there are no frames; the mapping is empty$"):
        PickedFrames(ArrayFrames(numbered(3)), np.array([], np.int64))
