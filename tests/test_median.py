from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsemed import cores, median
from sparsemed.median import median_image, median_into

DTYPES = [np.uint8, np.uint16]

# Around 8 and 248, the groups in which the kernel counts, and where 8 or 16 bits run out.
COUNTS = [1, 2, 7, 8, 9, 247, 248, 249, 255, 256, 257, 495, 496, 497, 65535, 65536, 65537]


def by_sorting(stack):
    return np.sort(stack, axis=0)[len(stack) // 2]


def check(stack, num_cpus=None):
    image = median_image(stack, num_cpus)
    assert image.dtype == stack.dtype.newbyteorder("=")
    np.testing.assert_array_equal(image, by_sorting(stack), strict=image.dtype == stack.dtype)


def random_stack(shape, dtype, seed=1):
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


@st.composite
def stacks(draw):
    dtype = draw(st.sampled_from(DTYPES))
    grey = st.integers(0, np.iinfo(dtype).max)
    low, high = sorted([draw(grey), draw(grey)])
    shape = draw(st.tuples(st.integers(1, 600), st.integers(1, 9), st.integers(1, 9)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return rng.integers(low, high, shape, dtype, endpoint=True)


@settings(deadline=None, max_examples=150)
@given(stacks(), st.sampled_from([None, 1, 2, 1000]))
def test_equals_sorting(stack, num_cpus):
    check(stack, num_cpus)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("count", COUNTS)
def test_any_number_of_frames(count, dtype):
    top = np.iinfo(dtype).max
    stack = random_stack((count, 3, 3), dtype)
    stack[:, 0, 0] = 0
    stack[:, 0, 1] = top
    # One frame more or less on the dark side decides.
    for column, dark in enumerate([count // 2 - 1, count // 2, count // 2 + 1]):
        stack[:, 1, column] = np.random.default_rng(2).permutation(
            np.where(np.arange(count) < dark, 0, top).astype(dtype)
        )
    stack[:, 2, 0] = np.arange(count) % 2 + top - 1
    check(stack)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("pixels", [1, 511, 512, 513, 1024, 1025, 1537])
def test_images_of_several_chunks(pixels, dtype):
    # 800 frames are so many that a chunk is no longer than its minimum of 512 pixels.
    stack = random_stack((800, 1, pixels), dtype)
    check(stack, num_cpus=1)
    check(stack, num_cpus=2)


def test_few_frames_of_large_images():
    check(random_stack((3, 701, 601), np.uint8), num_cpus=1)
    check(random_stack((1, 701, 601), np.uint16), num_cpus=1)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "lay_out",
    [
        lambda stack: stack[::2, 1::2, ::3],
        lambda stack: stack.transpose(2, 0, 1),
        lambda stack: stack[::-1, ::-1, ::-1],
        lambda stack: np.broadcast_to(stack[:1], stack.shape),
        lambda stack: np.asfortranarray(stack),
        lambda stack: stack.astype(stack.dtype.newbyteorder(">")),
        lambda stack: np.frombuffer(b"0" + stack.tobytes(), stack.dtype, offset=1).reshape(
            stack.shape
        ),
    ],
    ids=["strided", "transposed", "reversed", "broadcast", "Fortran", "big-endian", "unaligned"],
)
def test_any_memory_layout(lay_out, dtype):
    check(lay_out(random_stack((25, 14, 17), dtype)))


@pytest.mark.parametrize("writeable", [True, False])
def test_leaves_its_input_alone(writeable):
    stack = random_stack((9, 6, 5), np.uint8)
    before = stack.tobytes()
    stack.flags.writeable = writeable
    image = median_image(stack)
    assert stack.tobytes() == before
    assert stack.flags.writeable is writeable
    assert image.flags.writeable


def test_leaves_a_buffer_alone():
    buffer = random_stack((9, 6, 5), np.uint8)
    before = buffer.tobytes()
    image = np.empty((6, 5), np.uint8)
    median_into(buffer, image, None)
    assert buffer.tobytes() == before
    assert buffer.flags.writeable
    np.testing.assert_array_equal(image, by_sorting(buffer))


@pytest.mark.parametrize("shape", [(3, 0, 4), (3, 4, 0), (1, 0, 0)])
def test_no_pixels_make_an_empty_image(shape):
    check(np.zeros(shape, np.uint16))


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.uint32, np.float64, np.bool_, object])
def test_refuses_other_dtypes(dtype):
    message = (
        rf"^stack: dtype must be uint8 or uint16, got {np.dtype(dtype)}; "
        r"convert it, for example with stack\.astype\(numpy\.uint8\)$"
    )
    with pytest.raises(TypeError, match=message):
        median_image(np.zeros((2, 3, 4), dtype))


@pytest.mark.parametrize("shape", [(), (3,), (3, 4), (0, 3, 4), (2, 3, 4, 5)])
def test_refuses_other_shapes(shape):
    message = r"^stack: shape must be \(K, H, W\) with K >= 1, got \("
    with pytest.raises(ValueError, match=message):
        median_image(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("num_cpus", [0, -1, True, 1.0, "2"])
def test_refuses_other_numbers_of_cpus(num_cpus):
    message = f"^num_cpus must be a whole number from 1 up, got {num_cpus!r}$"
    with pytest.raises(ValueError, match=message):
        median_image(np.zeros((2, 3, 4), np.uint8), num_cpus)


def test_python_threads_may_call_at_once():
    stacks_ = [random_stack((50 + i, 20, 61), DTYPES[i % 2], seed=i) for i in range(8)]
    start = Barrier(len(stacks_))

    def work(stack):
        start.wait()
        return [median_image(stack, num_cpus=1 + i % 2) for i in range(20)]

    with ThreadPoolExecutor(len(stacks_)) as pool:
        for stack, images in zip(stacks_, pool.map(work, stacks_), strict=True):
            for image in images:
                np.testing.assert_array_equal(image, by_sorting(stack), strict=True)


@pytest.fixture
def kernel_call(monkeypatch):
    """Replace the kernel by one that notes the number of threads, and fails."""
    seen = {}

    def kernel(*args):
        seen["threads"] = numba.get_num_threads()
        raise MemoryError

    monkeypatch.setattr(median, "_select_rank", kernel)
    return seen


@pytest.mark.parametrize("outside", [1, numba.config.NUMBA_NUM_THREADS])
@pytest.mark.parametrize("asked", [1, 2, 1000, None])
def test_thread_count_holds_inside_and_is_restored(kernel_call, outside, asked):
    stack = np.zeros((2, 3, 4), np.uint8)
    before = numba.get_num_threads()
    numba.set_num_threads(outside)
    try:
        with pytest.raises(MemoryError):
            median_image(stack, asked)
        assert numba.get_num_threads() == outside
    finally:
        numba.set_num_threads(before)
    wanted = asked or cores.available_cores()
    assert kernel_call["threads"] == min(wanted, numba.config.NUMBA_NUM_THREADS)


def test_works_again_after_a_failure(monkeypatch):
    stack = random_stack((5, 3, 4), np.uint8)
    with monkeypatch.context() as patch:
        patch.setattr(median, "_select_rank", None)
        with pytest.raises(TypeError):
            median_image(stack)
    check(stack)
