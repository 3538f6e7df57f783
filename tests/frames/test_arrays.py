import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsemed.frames import arrays
from sparsemed.frames.arrays import ArrayFrames, PickedFrames


def numbered(count, height=5, width=6, dtype=np.uint8):
    values = np.arange(count * height * width) * 7 % (int(np.iinfo(dtype).max) + 1)
    return values.reshape(count, height, width).astype(dtype)


def read(frames, start=0, stop=None):
    stop = frames.shape[0] if stop is None else stop
    out = np.empty((stop - start, *frames.shape[1:]), frames.dtype)
    with frames.reading() as reading:
        reading(start, stop, out)
    return out


@pytest.fixture
def file():
    with h5py.File("frames.h5", "w", driver="core", backing_store=False) as file:
        yield file


# What is accepted


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, ">u2"])
def test_arrays_are_taken_as_they_are(dtype):
    images = numbered(9, dtype=np.uint16).astype(dtype)
    frames = ArrayFrames(images)
    assert frames.shape == (9, 5, 6)
    assert frames.dtype == images.dtype.newbyteorder("=")
    assert frames.dtype.isnative
    np.testing.assert_array_equal(read(frames), images)
    np.testing.assert_array_equal(read(frames, 3, 5), images[3:5])


def test_memmap(tmp_path):
    images = numbered(9)
    images.tofile(tmp_path / "frames")
    mapped = np.memmap(tmp_path / "frames", np.uint8, "r", shape=images.shape)
    np.testing.assert_array_equal(read(ArrayFrames(mapped), 2, 7), images[2:7])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, ">u2"])
@pytest.mark.parametrize("chunks", [None, (4, 5, 6), (3, 2, 4)], ids=["none", "frames", "tiles"])
def test_hdf5_dataset(file, chunks, dtype):
    images = numbered(11)
    dataset = file.create_dataset("image", data=images.astype(dtype), chunks=chunks)
    frames = ArrayFrames(dataset)
    assert frames.dtype == (np.uint16 if dtype in (np.uint16, ">u2") else np.uint8)
    np.testing.assert_array_equal(read(frames), images)
    np.testing.assert_array_equal(read(frames, 5, 10), images[5:10])


def test_anything_with_shape_dtype_and_slicing():
    class Lazy:
        shape = (np.int64(3), 5, 6)
        dtype = "uint8"
        chunks = ((2, 1), (5,), (6,))  # as Dask has them

        def __getitem__(self, span):
            return numbered(3)[span].tolist()

    frames = ArrayFrames(Lazy())
    assert [type(length) for length in frames.shape] == [int, int, int]
    np.testing.assert_array_equal(read(frames, 1, 3), numbered(3)[1:3])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4", np.longdouble])
def test_whole_floats_are_taken_as_bytes(dtype):
    images = np.arange(256).reshape(2, 8, 16).astype(dtype)
    images[0, 0, 0] = -0.0
    frames = ArrayFrames(images)
    assert frames.dtype == np.uint8
    np.testing.assert_array_equal(read(frames), images.astype(np.uint8), strict=True)


# What is refused


@pytest.mark.parametrize("value", [0.5, 254.75, 256, 1e30, -1, -0.25, np.nan, np.inf, -np.inf])
def test_other_floats_are_refused(value):
    images = numbered(9).astype(np.float64)
    images[6, 2, 3] = images[6, 4, 0] = images[7, 0, 0] = value
    frames = ArrayFrames(images, label="images in file")
    read(frames, 0, 6)
    message = (
        rf"^images in file: frame 6 holds {float(value)}; images of dtype float64 "
        r"must be whole numbers from 0 to 255 \(scale and round them, then convert "
        r"with \.astype\(numpy\.uint8\) or numpy\.uint16\)$"
    ).replace("+", r"\+")
    for start in (0, 4, 6):
        with pytest.raises(TypeError, match=message):
            read(frames, start, 9)


@pytest.mark.parametrize(
    "dtype", [np.int8, np.int64, np.uint32, np.bool_, np.complex64, object, "S3", "m8[s]"]
)
def test_other_dtypes_are_refused(dtype):
    images = np.zeros((3, 4, 5), np.uint8).astype(dtype)
    with pytest.raises(TypeError) as caught:
        ArrayFrames(images, label="here")
    assert str(caught.value) == (
        f"here: images of dtype {images.dtype} are not supported; convert them with "
        ".astype(numpy.uint8) or .astype(numpy.uint16) if their values fit"
    )


@pytest.mark.parametrize("images", [[[[1]]], (), None, 7, iter([np.zeros((2, 2))])])
def test_what_is_no_array_is_refused(images):
    message = (
        rf"^images: expected an array of shape \(N, H, W\), got {type(images).__name__}; "
        r"make one array of it, for example with numpy\.stack\(images\)$"
    )
    with pytest.raises(TypeError, match=message):
        ArrayFrames(images)


@pytest.mark.parametrize("shape", [(), (4,), (4, 5), (2, 3, 4, 5)])
def test_other_ranks_are_refused(shape):
    with pytest.raises(ValueError, match=r"^images: shape must be \(N, H, W\), got ") as caught:
        ArrayFrames(np.zeros(shape, np.uint8))
    assert str(caught.value).endswith(str(shape))


@pytest.mark.parametrize("shape", [(0, 4, 5), (3, 0, 5), (3, 4, 0)])
def test_no_frames_are_refused(shape):
    with pytest.raises(ValueError, match=r"^images: there are no frames; the shape is ") as caught:
        ArrayFrames(np.zeros(shape, np.uint8))
    assert str(caught.value).endswith(str(shape))


def test_what_cannot_be_read_is_named(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as h5:
        dataset = h5.create_dataset("image", data=numbered(9), chunks=(3, 5, 6), fletcher32=True)
        dataset.id.write_direct_chunk((3, 0, 0), bytes(94)[:-1] + b"1")
    with h5py.File(tmp_path / "a.h5") as h5:
        frames = ArrayFrames(h5["image"], label="here")
        read(frames, 0, 3)
        with pytest.raises(OSError, match=r"^here: frames 2 to 6 cannot be read \(.+\)$"):
            read(frames, 2, 7)


# Blocks and batches


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("chunk", [1, 7, 10, 1000])
def test_batches_are_whole_chunks_of_limited_weight(file, chunk, dtype):
    dataset = file.create_dataset("image", (100_000, 80, 320), dtype, chunks=(chunk, 80, 320))
    frames = ArrayFrames(dataset)
    weight = frames.batch * 80 * 320 * np.dtype(dtype).itemsize
    chunk_weight = chunk * 80 * 320 * np.dtype(dtype).itemsize
    assert frames.block == chunk
    assert frames.batch % chunk == 0
    if chunk_weight <= arrays.BATCH_BYTES:
        assert arrays.BATCH_BYTES - chunk_weight < weight <= arrays.BATCH_BYTES
    else:
        assert frames.batch == chunk


@pytest.mark.parametrize(("height", "expected"), [(1, 8192), (8, 1024), (3, 2730), (9000, 1)])
def test_batches_without_chunks(height, expected):
    frames = ArrayFrames(np.broadcast_to(np.uint8(0), (3, height, 1024)))
    assert frames.block == 1
    assert frames.batch == expected


# Picked frames


class WatchedFrames(ArrayFrames):
    """Frames in batches of a chosen length that note what is read."""

    def __init__(self, images, batch):
        super().__init__(images)
        self.block = self.batch = batch
        self.reads = []

    def _read(self, start, stop, out):
        self.reads.append((start, stop))
        super()._read(start, stop, out)


@settings(deadline=None, max_examples=200)
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
