from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rings import examples

from sparsemed.kernels import cores, median
from sparsemed.kernels.median import median_image, median_images

DTYPES = [np.uint8, np.uint16]

# Around 8 and 248, the groups in which the kernel counts, and where 8 or 16 bits run out.
COUNTS = [1, 2, 7, 8, 9, 247, 248, 249, 255, 256, 257, 495, 496, 497, 65535, 65536, 65537]


LATER = (median._by_guesses, median._by_counts)


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


@examples(150)
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
    images = np.empty((2, 6, 5), np.uint8)
    median_images(buffer, np.arange(9), np.array([0, 2]), 7, images, 2)
    assert buffer.tobytes() == before
    assert buffer.flags.writeable
    np.testing.assert_array_equal(images, [by_sorting(buffer[:7]), by_sorting(buffer[2:])])


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


def test_refuses_masked_values():
    stack = np.ma.masked_equal(np.arange(12, dtype=np.uint8).reshape(3, 2, 2), 5)
    with pytest.raises(ValueError, match=r"^stack: some values are masked, .* stack\.filled"):
        median_image(stack)
    assert median_image(stack.filled(0)).tolist() == [[4, 1], [6, 7]]


@pytest.mark.parametrize("shape", [(), (3,), (3, 4), (0, 3, 4), (2, 3, 4, 5)])
def test_refuses_other_shapes(shape):
    message = r"^stack: shape must be \(K, H, W\) with K >= 1, got \("
    with pytest.raises(ValueError, match=message):
        median_image(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("num_cpus", [0, -1, True, 1.0, "2"])
def test_refuses_other_numbers_of_cpus(num_cpus):
    message = f"^num_cpus must be a whole number from 1 up, got {num_cpus!r}; leave it out for all "
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


@pytest.mark.parametrize("asked", [1, 2, 5, None])
def test_as_many_threads_as_asked_for(monkeypatch, asked):
    seen = []
    monkeypatch.setattr(cores, "available_cores", lambda: 3)
    monkeypatch.setattr(median, "share_out", lambda *args: seen.append(args[-1]))
    median_image(np.zeros((300, 200, 300), np.uint8), asked)
    assert seen == [asked or 3]


def test_no_more_threads_than_there_is_work_for(monkeypatch):
    seen = []
    monkeypatch.setattr(median, "share_out", lambda *args: seen.append(args[-1]))
    median_image(np.zeros((20, 200, 300), np.uint8), 1000)
    assert seen == [1]


def test_works_again_after_a_failure(monkeypatch):
    stack = random_stack((5, 3, 4), np.uint8)
    with monkeypatch.context() as patch:
        patch.setattr(median, "_select", None)
        with pytest.raises(TypeError):
            median_image(stack)
    check(stack)


def test_kernels_are_compiled_before_they_are_called():
    frames = random_stack((300, 6, 8), np.uint8)
    for starts in (np.array([0]), np.array([0, 100, 200]), np.arange(200)):
        images = np.empty((len(starts), 6, 8), np.uint8)
        median_images(frames, np.arange(300), starts, 100, images, 2)
    for way in (median._by_bits, median._by_guesses, median._by_counts):
        types = [types[0].dtype.name for types in way.signatures]
        assert sorted(types) == sorted(set(types))


# Windows that overlap


def of_each_window(frames, starts, length):
    """Median image of each window, by sorting it."""
    return np.array([by_sorting(frames[start : start + length]) for start in starts.tolist()])


def of_windows(frames, starts, length, chunk, done=0, before=0):
    """Median image of each window, by one call of the kernel; frames lie in no order.

    Of the first few, that are `done`, it gets an image instead of computing it.
    """
    rows = np.random.default_rng(len(frames)).permutation(len(frames))
    flat = frames.reshape(len(frames), -1)[np.argsort(rows)]
    flat.flags.writeable = False
    images = np.empty((len(starts), *frames.shape[1:]), frames.dtype)
    images[:done] = before
    flat_images = images.reshape(len(starts), -1)
    ways = median._Ways(*(median._compiled(way, frames.dtype) for way in (median._by_bits, *LATER)))
    for lo in range(0, flat.shape[1], chunk):
        hi = min(lo + chunk, flat.shape[1])
        stretches = median._stretches(starts, length, done)
        median._select(flat, rows, starts, length, stretches, flat_images, lo, hi, ways)
    return images


def brightness(kind, rng, count, dtype):
    """Values of one pixel over time."""
    top = int(np.iinfo(dtype).max)
    level = int(rng.choice([0, 3, 4, 5, 100, top - 5, top - 4, top - 3, top]))
    moment = np.arange(count)
    if kind == "constant":
        values = np.full(count, level)
    elif kind == "noise":
        values = level + rng.integers(-3, 4, count)
    elif kind == "drift":
        values = level + rng.choice([-1, 1]) * moment * rng.choice([0.01, 0.1, 1, 9])
        values += rng.integers(-1, 2, count)
    elif kind == "flicker":
        values = level + rng.integers(-20, 21, count) * (moment % 2)
    elif kind == "extremes":
        values = top * rng.integers(0, 2, count)
    elif kind == "jumps":
        values = rng.integers(0, top + 1, 1 + count // 40).repeat(40)[:count]
    else:
        values = rng.integers(0, top + 1, count)
    return np.clip(values, 0, top).astype(dtype)


KINDS = ["constant", "noise", "drift", "flicker", "extremes", "jumps", "anything"]


def film(kinds, rng, count, dtype):
    """Frames of one row; the pixels are of the kinds in turn."""
    pixels = [brightness(kind, rng, count, dtype) for kind in kinds]
    return np.stack(pixels, axis=1)[:, np.newaxis]


def ascending_starts(draw, length, most):
    kind = draw(st.sampled_from(["next", "near", "any", "turns"]))
    number = draw(st.integers(1, most))
    if kind == "next":
        steps = [1] * number
    elif kind == "turns":  # near for a while, then a jump, then near again
        near = draw(st.integers(1, max(1, length // 8)))
        steps = [length + 5 if i % 7 == 6 else near for i in range(number)]
    else:
        largest = max(1, length // 4) if kind == "near" else length + 5
        steps = draw(st.lists(st.integers(0, largest), min_size=number, max_size=number))
    return np.cumsum([draw(st.integers(0, 3)), *steps])


@st.composite
def overlapping(draw, longest, most):
    dtype = draw(st.sampled_from(DTYPES))
    length = draw(st.one_of(st.integers(1, longest), st.integers(1, 20)))
    starts = ascending_starts(draw, length, min(most, 1 + 20_000 // length))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    # One pixel that behaves otherwise makes the kernel search anew for its whole chunk.
    one = draw(st.sampled_from(KINDS))
    kinds = [one] * 3 if draw(st.booleans()) else draw(st.permutations(KINDS))
    count = int(starts[-1]) + length + draw(st.integers(0, 3))
    return film(kinds, rng, count, dtype), starts, length


@examples(500)
@given(overlapping(longest=600, most=80), st.integers(1, 8))
def test_windows_that_overlap(case, chunk):
    frames, starts, length = case
    found = of_windows(frames, starts, length, chunk)
    np.testing.assert_array_equal(found, of_each_window(frames, starts, length), strict=True)


@examples(100)
@given(
    overlapping(longest=300, most=20),
    st.lists(st.integers(0, 139), max_size=4, unique=True),
    st.integers(0, 3),
    st.integers(0, 2**16 - 1),
)
def test_few_pixels_that_are_far_off(case, places, done, before):
    # Most pixels are where they were; those in some places are not.
    frames, starts, length = case
    many = np.repeat(frames[:1], len(frames), axis=0)[:, :, :1].repeat(140, axis=2)
    for number, place in enumerate(places):
        many[:, :, place] = frames[:, :, number % frames.shape[2]]
    done = min(done, len(starts) - 1)
    before = frames.dtype.type(before % (int(np.iinfo(frames.dtype).max) + 1))
    found = of_windows(many, starts, length, 140, done, before)[done:]
    np.testing.assert_array_equal(found, of_each_window(many, starts[done:], length), strict=True)


@examples(60)
@given(overlapping(longest=200, most=40), st.sampled_from([1, 2, 1000]))
def test_many_windows_are_as_one_at_a_time(case, num_cpus):
    frames, starts, length = case
    found = np.empty((len(starts), *frames.shape[1:]), frames.dtype)
    median_images(frames, np.arange(len(frames)), starts, length, found, num_cpus)
    alone = [median_image(frames[start : start + length]) for start in starts.tolist()]
    np.testing.assert_array_equal(found, np.array(alone), strict=True)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("length", [4, 5, 248, 249, 300])
@pytest.mark.parametrize("kind", KINDS)
def test_every_next_window(kind, length, dtype):
    rng = np.random.default_rng(3)
    frames = film([kind] * 12, rng, length + 150, dtype)
    starts = np.arange(151)
    found = of_windows(frames, starts, length, chunk=5)
    np.testing.assert_array_equal(found, of_each_window(frames, starts, length), strict=True)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("edge", ["dark", "bright"])
def test_the_darkest_and_brightest_values(edge, dtype):
    # The median goes to the end of what the dtype holds, and back, one level at a time.
    way = np.concatenate([np.arange(12)[::-1], np.zeros(12, int), np.arange(12)]).repeat(3)
    values = way if edge == "dark" else np.iinfo(dtype).max - way
    frames = values.astype(dtype).reshape(-1, 1, 1)
    for length in (1, 4, 8, 9, 20):
        starts = np.arange(len(frames) - length + 1)
        found = of_windows(frames, starts, length, chunk=1)
        np.testing.assert_array_equal(found, of_each_window(frames, starts, length), strict=True)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("far", [1, 3, 4, 5, 7, 8, 9, 100, 250])
def test_a_median_that_jumps(far, dtype):
    # From any place to any other: up and down, within the counted levels and beyond.
    for low in (0, 1, 5, int(np.iinfo(dtype).max) - far):
        high = min(low + far, int(np.iinfo(dtype).max))
        for first, then in ((low, high), (high, low)):
            frames = np.full((60, 1, 2), first, dtype)
            frames[25:, 0, 0] = then
            starts = np.arange(41)
            found = of_windows(frames, starts, 20, chunk=2)
            np.testing.assert_array_equal(found, of_each_window(frames, starts, 20), strict=True)


@pytest.mark.parametrize("num_cpus", [1, 2])
@pytest.mark.parametrize("dtype", DTYPES)
def test_overlapping_windows_in_several_chunks(dtype, num_cpus):
    # 800 frames are so many that a chunk is no longer than its minimum of 512 pixels.
    rng = np.random.default_rng(4)
    frames = film(["noise", "constant"] * 700, rng, 850, dtype)
    frames[:, :, 1030:1040] = film(["anything"] * 10, rng, 850, dtype)
    starts = np.array([0, 1, 2, 2, 30, 50])
    found = np.empty((len(starts), *frames.shape[1:]), dtype)
    median_images(frames, np.arange(len(frames)), starts, 800, found, num_cpus)
    np.testing.assert_array_equal(found, of_each_window(frames, starts, 800), strict=True)


class WatchedCounting:
    """Stands in for the counting, in plain NumPy, and notes how many frames are looked at."""

    def __init__(self):
        self.frames = []
        self.guessed = []

    def one(self, frames, rows, lo, hi, limit, _few, below):
        self.frames.append(len(rows))
        below[:] = (frames[rows, lo:hi] < limit).sum(axis=0)

    def each(self, frames, rows, lo, hi, limits, _fews, below):
        self.guessed.append(len(rows))
        for limit, count in zip(limits, below, strict=False):
            count[:] = (frames[rows, lo:hi] < limit).sum(axis=0)


@pytest.fixture
def plain(monkeypatch):
    """Return the kernel as Python runs it, which need not be compiled for other constants."""
    watched = WatchedCounting()
    monkeypatch.setattr(median, "_count_below", watched.one)
    monkeypatch.setattr(median, "_count_below_each", watched.each)
    for name in ("_count_in_column", "_read_column", "_surround", "_settle"):
        monkeypatch.setattr(median, name, getattr(median, name).py_func)
    ways = median._Ways(*(way.py_func for way in (median._by_bits, *LATER)))

    def run(frames, starts, length, done=0, before=0):
        images = np.full((len(starts), frames.shape[2]), before, frames.dtype)
        rows = np.arange(len(frames))
        stretches = median._stretches(starts, length, done)
        with np.errstate(over="ignore"):  # compiled integers wrap without a word
            median._select(
                frames[:, 0], rows, starts, length, stretches, images, 0, frames.shape[2], ways
            )
        return images[:, np.newaxis]

    run.counted, run.guessed = watched.frames, watched.guessed
    return run


@pytest.mark.parametrize("near", [1, 4, 50])
@pytest.mark.parametrize("levels", [1, 2, 3, 8, 40])
def test_how_many_levels_are_counted_makes_no_difference(plain, monkeypatch, levels, near):
    monkeypatch.setattr(median, "LEVELS", levels)
    monkeypatch.setattr(median, "NEAR", near)
    rng = np.random.default_rng(levels)
    for kind in KINDS:
        for dtype in DTYPES:
            frames = film([kind] * 3, rng, 60, dtype)
            starts = np.cumsum(rng.integers(0, 4, 12))
            found = plain(frames, starts, 20)
            expected = of_each_window(frames, starts, 20)
            np.testing.assert_array_equal(found, expected, strict=True)


@pytest.mark.parametrize("level", [2, 100, 253])
def test_windows_that_overlap_cost_what_is_new(plain, level):
    rng = np.random.default_rng(5)
    frames = (level + rng.integers(-2, 3, (300, 1, 4))).astype(np.uint8)
    first, counts = 8 * 100, median.LEVELS * 100
    plain(frames, np.array([0]), 100)
    assert sum(plain.counted) == first
    plain.counted.clear()
    plain(frames, np.arange(201), 100)
    assert sum(plain.counted) == first + counts + 199 * 2 * median.LEVELS


@pytest.mark.parametrize("value", [0, 255])
def test_the_darkest_and_brightest_median_costs_no_more(plain, value):
    plain(np.full((300, 1, 4), value, np.uint8), np.arange(201), 100)
    assert sum(plain.counted) == (8 + median.LEVELS) * 100 + 199 * 2 * median.LEVELS


def test_counts_are_given_up_where_overlapping_ends(plain):
    frames = film(["noise"] * 4, np.random.default_rng(5), 500, np.uint8)
    plain(frames, np.array([0, 1, 2, 102, 203]), 100)
    assert sum(plain.counted) == (8 + median.LEVELS) * 100 + 2 * median.LEVELS
    assert plain.guessed == [100, 100]


@pytest.mark.parametrize("step", [26, 99, 100, 101])
def test_windows_that_hardly_overlap_are_not_counted(plain, step):
    frames = film(["noise"] * 4, np.random.default_rng(6), 100 + 3 * step, np.uint8)
    plain(frames, np.arange(4) * step, 100)
    assert sum(plain.counted) == 8 * 100
    assert plain.guessed == [100] * 3


@pytest.mark.parametrize("few", [0, 1, 2, 10**6])
def test_pixels_are_searched_for_together_or_one_by_one(plain, monkeypatch, few):
    monkeypatch.setattr(median, "FEW", few)
    rng = np.random.default_rng(few)
    for dtype in DTYPES:
        frames = film(KINDS, rng, 90, dtype)
        for starts in (np.arange(40), np.arange(4) * 20):
            found = plain(frames, starts, 20)
            expected = of_each_window(frames, starts, 20)
            np.testing.assert_array_equal(found, expected, strict=True)


def test_a_window_begins_where_the_last_launch_has_ended(plain):
    frames = np.full((100, 1, 4), 77, np.uint8)
    found = plain(frames, np.array([0, 50]), 50, done=1, before=78)
    assert (found[1] == 77).all()
    assert (plain.guessed, plain.counted) == ([50], [])


def test_guesses_that_fail_are_not_made_again(plain):
    frames = film(["jumps"] * 8, np.random.default_rng(7), 800, np.uint16)
    plain(frames, np.arange(10) * 80, 40)
    assert plain.guessed == [40]
    assert sum(plain.counted) == 10 * 16 * 40


def test_nothing_is_counted_in_vain_for_long(plain):
    # A median that leaves the counted levels with each window.
    frames = (20 * np.arange(300, dtype=np.uint16)).reshape(-1, 1, 1)
    plain(frames, np.arange(201), 100)
    assert sum(plain.counted) <= 1.1 * 201 * 16 * 100
