import re
import weakref
from itertools import pairwise
from pathlib import Path

import dask.array as da
import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rings import examples

from sparsemed.frames import arrays
from sparsemed.frames.arrays import ArrayFrames


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


def test_half_floats_of_sixteen_bits_are_exact_and_their_infinity_is_refused():
    images = np.arange(2048).reshape(8, 16, 16).astype(np.float16)
    frames = ArrayFrames(images, floats=np.uint16)
    np.testing.assert_array_equal(read(frames), images.astype(np.uint16), strict=True)
    images[3, 2, 1] = np.inf
    with pytest.raises(TypeError, match="frame 3 holds inf; frames of dtype float16 must be"):
        read(ArrayFrames(images, floats=np.uint16))


@pytest.mark.parametrize("value", [0.5, 254.75, 256, 1e30, -1, -0.25, np.nan, np.inf, -np.inf])
def test_other_floats_are_refused(value):
    images = numbered(9).astype(np.float64)
    images[6, 2, 3] = images[6, 4, 0] = images[7, 0, 0] = value
    frames = ArrayFrames(images, label="images in file")
    read(frames, 0, 6)
    message = (
        rf"^images in file: frame 6 holds {float(value)}; frames of dtype float64 "
        r"must be whole numbers from 0 to 255 \(scale and round them, then convert "
        r"with \.astype\(numpy\.uint8\) or numpy\.uint16\)$"
    ).replace("+", r"\+")
    for start in (0, 4, 6):
        with pytest.raises(TypeError, match=message):
            read(frames, start, 9)


def test_int16_of_cameras_is_exact_or_refused_with_the_value():
    images = (numbered(9, dtype=np.uint16) % 2**12).astype(np.int16)
    frames = ArrayFrames(images)
    assert frames.dtype == np.uint16
    np.testing.assert_array_equal(read(frames, 0, 9), images)
    images[6, 2, 3] = -1
    with pytest.raises(TypeError, match=r"frame 6 holds -1; .* whole numbers from 0 to 65535"):
        read(ArrayFrames(images), 0, 9)


def test_floats_can_be_of_16_bits():
    images = numbered(9).astype(np.float32)
    images[5] = 4095
    frames = ArrayFrames(images, floats=np.uint16)
    np.testing.assert_array_equal(read(frames, 0, 9), images.astype(np.uint16), strict=True)
    for value in (65536, 0.5, -1, np.nan):
        images[6, 2, 3] = value
        with pytest.raises(TypeError, match=r"frame 6 holds .* whole numbers from 0 to 65535"):
            read(ArrayFrames(images, floats=np.uint16), 0, 9)


class Tensor:
    """An object with a shape and a dtype that is not a NumPy array."""

    shape, dtype = (9, 4, 5), "torch.uint8"

    def __getitem__(self, key):
        return self


@pytest.mark.parametrize(
    ("has", "how"),
    [
        ({"detach": None, "numpy": print}, "frames.detach().cpu().numpy()"),
        ({"numpy": print}, "frames.numpy()"),
        ({"__cuda_array_interface__": {}}, "frames.get()"),
    ],
)
def test_tensors_are_told_how_to_become_arrays(has, how):
    tensor = type("Tensor", (Tensor,), has)()
    with pytest.raises(
        TypeError, match=rf"is a tensor or the like .*; hand over {re.escape(how)}$"
    ):
        ArrayFrames(tensor, "frames")


@pytest.mark.parametrize(
    "dtype", [np.int8, np.int64, np.uint32, np.bool_, np.complex64, object, "S3", "m8[s]"]
)
def test_other_dtypes_are_refused(dtype):
    images = np.zeros((3, 4, 5), np.uint8).astype(dtype)
    with pytest.raises(TypeError) as caught:
        ArrayFrames(images, label="here")
    assert str(caught.value) == (
        f"here: frames of dtype {images.dtype} are not supported; convert them with "
        ".astype(numpy.uint8) or .astype(numpy.uint16) if their values fit"
    )


FRAME = np.zeros((2, 2), np.uint8)


@pytest.mark.parametrize(
    ("images", "advice"),
    [
        ([FRAME, FRAME], "; make one array of it with numpy.stack(frames)"),
        ((FRAME,), "; make one array of it with numpy.stack(frames)"),
        (
            ["a.tif", Path("b.tif")],
            "; of single images, hand over the folder, or a pattern such as 'folder/img_*.tif'",
        ),
        ([], "; make one array of it with numpy.stack(frames)"),
        (iter([FRAME]), "; make one array of it with numpy.stack(list(frames))"),
        ((FRAME for _ in range(3)), "; make one array of it with numpy.stack(list(frames))"),
        ({"image": FRAME}, ""),
        (None, ""),
        (7, ""),
    ],
)
def test_what_is_no_array_is_refused(images, advice):
    with pytest.raises(TypeError) as caught:
        ArrayFrames(images)
    name = type(images).__name__
    expected = f"frames: expected an array of shape (N, H, W), got {name}{advice}"
    assert str(caught.value) == expected


def test_a_group_is_refused(file):
    with pytest.raises(TypeError, match=r"^frames: expected an array .*, got File$"):
        ArrayFrames(file)


def test_a_closed_dataset_is_refused(file):
    dataset = file.create_dataset("image", data=np.zeros((3, 2, 2), np.uint8))
    file.close()
    with pytest.raises(ValueError, match=r"^here: the file of the dataset is closed; keep it open"):
        ArrayFrames(dataset, "here")


def test_masked_values_are_refused():
    """NumPy would take what lies behind the mask."""
    images = np.ma.masked_greater(np.arange(24, dtype=np.uint8).reshape(4, 2, 3), 20)
    frames = ArrayFrames(images, "here")
    with frames.reading() as reading:
        reading(0, 3, np.empty((3, 2, 3), np.uint8))
        with pytest.raises(ValueError, match=r"^here: some values of frames 3 to 3 are masked"):
            reading(3, 4, np.empty((1, 2, 3), np.uint8))
    with ArrayFrames(images.filled(0)).reading() as reading:
        reading(3, 4, np.empty((1, 2, 3), np.uint8))


def test_what_follows_the_advice_is_accepted():
    frames = ArrayFrames(np.stack(list(iter(numbered(3)))))
    np.testing.assert_array_equal(read(frames), numbered(3))


def test_a_dataset_without_a_shape_is_refused(file):
    file["image"] = h5py.Empty("u1")
    with pytest.raises(ValueError, match=r"^frames: shape must be \(N, H, W\), got \(\)$"):
        ArrayFrames(file["image"])


def test_an_unknown_number_of_frames_is_refused():
    images = da.from_array(numbered(9), chunks=(4, 5, 6))
    some = images[images[:, 0, 0] > 100]
    message = r"^frames: the shape \(nan, 5, 6\) is unknown; .* frames\.compute_chunk_sizes\(\)$"
    with pytest.raises(ValueError, match=message):
        ArrayFrames(some)
    some.compute_chunk_sizes()
    expected = numbered(9)[numbered(9)[:, 0, 0] > 100]
    np.testing.assert_array_equal(read(ArrayFrames(some)), expected)


def test_the_dtype_of_another_library_is_refused():
    class Tensor:
        shape = (3, 5, 6)
        dtype = "frameworks.uint8"

        def __getitem__(self, span):
            return numbered(3)[span]

    message = r"^here: frames of dtype frameworks\.uint8 are not supported; convert them with "
    with pytest.raises(TypeError, match=message):
        ArrayFrames(Tensor(), label="here")


@pytest.mark.parametrize(("dtype", "largest"), [("u1", 255), ("u2", 65535), ("f4", 255)])
@pytest.mark.parametrize("excess", [-1, 1])
def test_values_that_are_not_of_the_dtype_are_refused(dtype, largest, excess):
    class Careless:
        shape = (9, 5, 6)

        def __init__(self):
            self.dtype = dtype
            self.values = numbered(9).astype(int)

        def __getitem__(self, span):
            return self.values[span]

    images = Careless()
    images.values[4, 1, 2] = largest if excess > 0 else 0
    np.testing.assert_array_equal(read(ArrayFrames(images)), images.values)
    images.values[4, 1, 2] += excess
    message = (
        rf"^frames: frame 4 holds {images.values[4, 1, 2]}; frames of dtype int64 must be whole "
        rf"numbers from 0 to {largest} "
    )
    with pytest.raises(TypeError, match=message):
        read(ArrayFrames(images))


@pytest.mark.parametrize("shape", [(), (4,), (4, 5), (2, 3, 4, 5)])
def test_other_ranks_are_refused(shape):
    with pytest.raises(ValueError, match=r"^frames: shape must be \(N, H, W\), got ") as caught:
        ArrayFrames(np.zeros(shape, np.uint8))
    assert str(caught.value).partition(", got ")[2].startswith(str(shape))


@pytest.mark.parametrize("shape", [(0, 4, 5), (3, 0, 5), (3, 4, 0)])
def test_no_frames_are_refused(shape):
    with pytest.raises(ValueError, match=r"^frames: there are no frames; the shape is ") as caught:
        ArrayFrames(np.zeros(shape, np.uint8))
    assert str(caught.value).endswith(str(shape))


def test_what_cannot_be_read_is_named(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as h5:
        dataset = h5.create_dataset("image", data=numbered(9), chunks=(3, 5, 6), fletcher32=True)
        dataset.id.write_direct_chunk((3, 0, 0), bytes(94)[:-1] + b"1")
    with h5py.File(tmp_path / "a.h5") as h5:
        frames = ArrayFrames(h5["image"], label="here")
        read(frames, 0, 3)
        with pytest.raises(OSError, match=r"^here: frames 0 to 8 cannot be read \(.+\)$"):
            read(frames, 2, 7)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("chunk", [1, 7, 10, 1000])
def test_batches_are_whole_chunks_of_limited_weight(file, chunk, dtype):
    dataset = file.create_dataset("image", (100_000, 80, 320), dtype, chunks=(chunk, 80, 320))
    frames = ArrayFrames(dataset)
    weight = frames.batch * 80 * 320 * np.dtype(dtype).itemsize
    fits = chunk * 80 * 320 * np.dtype(dtype).itemsize <= arrays.BATCH_BYTES
    assert frames.block == (chunk if fits else 1)  # heavy chunks are held and handed out in parts
    assert frames.batch % frames.block == 0
    assert arrays.BATCH_BYTES - weight / frames.batch * frames.block < weight <= arrays.BATCH_BYTES


@pytest.mark.parametrize(("height", "expected"), [(1, 8192), (8, 1024), (3, 2730), (9000, 1)])
def test_batches_without_chunks(height, expected):
    frames = ArrayFrames(np.broadcast_to(np.uint8(0), (3, height, 1024)))
    assert frames.block == 1
    assert frames.batch == expected


@pytest.mark.parametrize(
    ("chunks", "block"),
    [
        (None, 1),
        ((), 1),
        ("auto", 1),
        ((4, 5, 6), 4),
        ((np.int64(4), 5, 6), 4),
        ((100, 5, 6), 9),
        (((4, 4, 1), (5,), (6,)), 4),
        (((9,), (2, 3), (6,)), 9),
        (((3, 0, 3, 3), (5,), (6,)), 3),
        (((4, 1, 4), (5,), (6,)), 1),
        (((1, 4, 4), (5,), (6,)), 1),
        (((2, 7), (5,), (6,)), 1),
        (((4, 4), (5,), (6,)), 1),  # of eight frames: not about this array
    ],
    ids=str,
)
def test_arrays_tell_their_blocks(chunks, block):
    images = InBlocks(numbered(9), chunks)
    frames = ArrayFrames(images)
    assert frames.block == block
    np.testing.assert_array_equal(read(frames), numbered(9))


def test_arrays_that_cannot_tell_their_blocks():
    class Irregular:
        shape, dtype = (9, 5, 6), np.uint8

        @property
        def chunks(self):
            raise NotImplementedError

        def __getitem__(self, span):
            return numbered(9)[span]

    frames = ArrayFrames(Irregular())
    assert frames.block == 1
    np.testing.assert_array_equal(read(frames), numbered(9))


class InBlocks:
    """An array that tells how it is stored, and notes what is read."""

    def __init__(self, images, chunks):
        self.images = images
        self.shape = images.shape
        self.dtype = images.dtype
        self.chunks = chunks
        self.reads = []

    def __getitem__(self, span):
        self.reads.append((span.start, span.stop))
        return self.images[span]


@st.composite
def arrays_in_blocks(draw):
    lengths = draw(st.lists(st.integers(0, 30), min_size=1, max_size=12).filter(any))
    if draw(st.booleans()):
        length = max(1, lengths[0])
        count = draw(st.integers(1, 100))
        lengths = [length] * (count // length) + [count % length]
        along = length if draw(st.booleans()) else tuple(lengths)
    else:
        along = tuple(lengths)
    images = numbered(sum(lengths), 2, 3, np.uint16)
    chunks = (along, (2,), (3,)) if isinstance(along, tuple) else (along, 1, 3)
    edges = sorted({0, *np.cumsum(lengths).tolist()})
    return InBlocks(images, chunks), list(pairwise(edges))


@examples(300)
@given(data=st.data(), stored=arrays_in_blocks(), at_once=st.integers(1, 40))
def test_each_block_is_read_whole_and_once(data, stored, at_once):
    """Whatever the blocks are like, and however the reads lie, as long as they go forward."""
    images, blocks = stored
    frame_bytes = 12
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arrays, "BATCH_BYTES", at_once * frame_bytes + data.draw(st.integers(0, 11)))
        frames = ArrayFrames(images)
    assert frames.batch <= at_once
    count = len(images.images)
    ends = sorted(data.draw(st.lists(st.integers(0, count), min_size=2, max_size=20)))
    wanted = set()
    with frames.reading() as reading:
        for number, (start, stop) in enumerate(pairwise(ends)):
            if start == stop or (number and data.draw(st.booleans())):
                continue
            wanted.update(range(start, stop))
            out = np.empty((stop - start, 2, 3), np.uint16)
            reading(start, stop, out)
            np.testing.assert_array_equal(out, images.images[start:stop])

    times = np.zeros(count, int)
    for begin, end in images.reads:
        inside = [block for block in blocks if begin <= block[0] and block[1] <= end]
        assert (inside[0][0], inside[-1][1]) == (begin, end)
        assert len(inside) == 1 or end - begin <= at_once
        times[begin:end] += 1
    for begin, end in blocks:
        needed = any(frame in wanted for frame in range(begin, end))
        assert (times[begin:end] == needed).all()


@pytest.mark.parametrize("chunk", [7, 30])
def test_what_was_read_is_released_before_more_is_read(monkeypatch, chunk):
    class Tracked(InBlocks):
        last = staticmethod(lambda: None)

        def __getitem__(self, span):
            assert self.last() is None
            block = super().__getitem__(span).copy()
            self.last = weakref.ref(block)
            return block

    monkeypatch.setattr(arrays, "BATCH_BYTES", 10 * 30)
    images = Tracked(numbered(60), (chunk, 5, 6))
    frames = ArrayFrames(images)
    np.testing.assert_array_equal(read(frames), numbered(60))
    assert len(images.reads) == -(-60 // chunk)
    assert images.last() is None


@pytest.mark.parametrize("left", [0, 3, 6])
def test_an_array_that_shrinks_is_refused(left):
    images = InBlocks(numbered(9), (3, 5, 6))
    frames = ArrayFrames(images)
    out = np.empty((3, 5, 6), np.uint8)
    with frames.reading() as reading:
        reading(0, 3, out)
        images.images = images.images[:left]
        message = (
            r"^frames: frames 6 to 8 came in the shape \(0, 5, 6\); "
            "the frames must not change while they are read$"
        )
        with pytest.raises(ValueError, match=message):
            reading(6, 9, out)


def test_an_array_that_grows_is_refused(file):
    dataset = file.create_dataset("image", data=numbered(9), maxshape=(None, 5, 6))
    frames = ArrayFrames(dataset, "here")
    message = (
        r"^here: the shape was \(9, 5, 6\) and is \(12, 5, 6\) now; "
        "the frames must not change while they are read$"
    )

    def read_while_it_grows():
        with frames.reading() as reading:
            reading(0, 9, np.empty((9, 5, 6), np.uint8))
            dataset.resize(12, axis=0)

    with pytest.raises(ValueError, match=message):
        read_while_it_grows()


@pytest.mark.parametrize("other", [(3, 5, 7), (3, 5), (3, 1, 1), (4, 5, 6)])
def test_frames_of_another_shape_are_refused(other):
    class Liar(InBlocks):
        def __getitem__(self, span):
            return np.zeros(other, np.uint8)

    frames = ArrayFrames(Liar(numbered(9), (3, 5, 6)))
    with pytest.raises(ValueError, match=r"^frames: frames 0 to 2 came in the shape") as caught:
        read(frames, 0, 3)
    assert str(other) in str(caught.value)


def test_other_failures_keep_their_type_and_say_where():
    def fail(block, block_info):
        if block_info[0]["chunk-location"][0] == 1:
            raise ZeroDivisionError("in a task")
        return block

    images = da.from_array(numbered(9), chunks=(3, 5, 6)).map_blocks(fail, dtype=np.uint8)
    frames = ArrayFrames(images, "here")
    out = np.empty((3, 5, 6), np.uint8)
    with frames.reading() as reading:
        with pytest.raises(ZeroDivisionError, match="in a task") as caught:
            reading(3, 6, out)
        assert caught.value.__notes__ == ["here: frames 3 to 5 were being read"]
        reading(6, 9, out)
    np.testing.assert_array_equal(out, numbered(9)[6:])
