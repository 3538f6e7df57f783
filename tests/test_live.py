"""A background that grows is in the end the one of all frames, to the bit."""

import errno
import gc
import io
import threading
import time
import weakref
from dataclasses import replace

import h5py
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from patience import PATIENCE
from rings import examples

from sparsemed import LiveBackground, SparseBackground, compute_background, load, median_image
from sparsemed import live as live_module
from sparsemed.demo import make_measurement
from sparsemed.kernels import median
from sparsemed.method import growing
from sparsemed.quality import overall
from sparsemed.quality.sample import SAMPLE


def random_frames(count, height=4, width=5, dtype=np.uint8, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, np.iinfo(dtype).max, (count, height, width), dtype, endpoint=True)


def in_portions(frames, times, lengths):
    """Yield frames and times in portions of these lengths, over and over."""
    start = number = 0
    while start < len(frames):
        stop = start + lengths[number % len(lengths)]
        yield frames[start:stop], times[start:stop]
        start, number = stop, number + 1


def pushed(frames, time, *, lengths=(7,), thresh_cleansing=0, frac_cleansing=0.8, **options):
    """Compute as `compute_background` does, of frames that come bit by bit."""
    found = []
    with LiveBackground(
        frames.shape[1:],
        frames.dtype,
        on_image=lambda *each: found.append(each),
        **options,
    ) as live:
        count = 0
        for portion in in_portions(frames, time, lengths):
            count += live.push(*portion)
            assert len(found) == count
        images = live.images
        background = live.finish(thresh_cleansing, frac_cleansing)
    assert [number for number, _, _ in found] == list(range(count))
    for number, at, image in found:
        np.testing.assert_array_equal(image, background.series[number])
        np.testing.assert_array_equal(image, images[number])
        assert at == background.step_times[number]
    return background


def assert_same(one, other):
    assert set(vars(one)) == set(vars(other))
    doubts = set(other.warnings) - set(one.warnings)  # of an array, it is asked what its axes are
    assert all(text.startswith("Offsets are wrong") or "last axis" in text for text in doubts)
    for name, value in vars(replace(one, warnings=other.warnings)).items():
        if isinstance(value, np.ndarray) or hasattr(value, "distinct"):
            np.testing.assert_array_equal(value, vars(other)[name], strict=True, err_msg=name)
        elif name != "seen":
            assert value == vars(other)[name], name


@st.composite
def axes(draw):
    """Times that do not fall: of several kinds, from any zero, in any dtype."""
    count = draw(st.integers(1, 120))
    kind = draw(st.sampled_from(["even", "random", "ties", "pauses", "equal", "on steps", "tiny"]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    if draw(st.integers(0, 7)) == 0:  # just before, at and just after steps
        steps = np.float32(draw(st.sampled_from([0.1, 0.3])) * rng.integers(0, 30, count))
        return np.sort(np.nextafter(steps, steps + rng.integers(-1, 2, count, np.int8)))
    gaps = {
        "even": lambda: np.full(count, 0.05),
        "random": lambda: rng.exponential(0.05, count),
        "ties": lambda: np.where(rng.random(count) < 0.1, 0.3, 0),
        "pauses": lambda: np.where(rng.random(count) < 0.05, rng.exponential(20, count), 0.01),
        "equal": lambda: np.zeros(count),
        "on steps": lambda: np.full(count, 0.1),
        "tiny": lambda: np.where(rng.random(count) < 0.1, 1.0, 1e-13),
    }[kind]()
    times = np.cumsum(gaps) + draw(st.sampled_from([0, 0.1, 1e3, 1e9]))
    dtype = draw(st.sampled_from([np.float64, np.float32, np.int64, np.uint32]))
    if np.dtype(dtype).kind != "f":
        times = 3 * times
    return times.astype(dtype)


@st.composite
def cases(draw):
    times = draw(axes())
    shape = draw(st.tuples(st.integers(1, 30), st.integers(1, 6)))
    frames = random_frames(
        len(times), *shape, draw(st.sampled_from([np.uint8, np.uint16])), len(times)
    )
    options = {
        "kernel_size": draw(st.integers(1, 60)),
        "split_time": draw(st.sampled_from([0.1, 0.3, 1.0, 1, 7.5])),
        "offset_correction": draw(st.booleans()),
        "offset_rows": draw(st.sampled_from([20, 3])),
        "frac_cleansing": draw(st.sampled_from([0.8, 0.5, 1])),
        "thresh_cleansing": draw(st.sampled_from([0, 0.1])),
    }
    lengths = draw(st.lists(st.integers(0, 60), min_size=1, max_size=6).filter(any))
    return frames, times, options, draw(st.sampled_from([lengths, [1], [10**6]]))


@pytest.mark.parametrize("dtype", ["i1", ">i2", "u1", "i4", "u8", "i8"])
@pytest.mark.parametrize("lengths", [[7], [1], [200]])
def test_whole_numbers_whose_span_exceeds_their_dtype(dtype, lengths):
    """All at once, the axis is then int64; until then, it keeps its dtype."""
    limits = np.iinfo(dtype)
    span = min(int(limits.max) - int(limits.min), 2**40)
    for last in (span, span // 4):
        times = np.array([int(limits.min) + last * i // 199 for i in range(200)], dtype)
        options = {"kernel_size": 20, "split_time": last / 30, "num_cpus": 1}
        frames = random_frames(200)
        expected = compute_background(frames, times, **options)
        assert_same(pushed(frames, times, lengths=lengths, **options), expected)


EVEN = np.arange(31) / 100

SOME = {"kernel_size": 5, "split_time": 0.1, "num_cpus": 1}


@examples(60)
@given(cases(), st.sampled_from([100, 16 * 1024**2]))
@example((random_frames(31), EVEN, {**SOME}, [1]), 100)  # the last time is on a step
@example((random_frames(4), EVEN[:4], {**SOME}, [1]), 100)  # fewer frames than a window
@example((random_frames(1), EVEN[:1], {**SOME}, [1]), 100)
def test_the_same_bits_as_all_at_once(case, piece_bytes):
    frames, times, options, lengths = case
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(growing, "PIECE_BYTES", piece_bytes)
        grown = pushed(frames, times, lengths=lengths, **options)
    assert_same(grown, compute_background(frames, times, **options))


@given(cases())
def test_the_same_bits_with_images_in_a_file(tmp_path_factory, case):
    frames, times, options, lengths = case
    folder = tmp_path_factory.mktemp("spill")
    grown = pushed(frames, times, lengths=lengths, spill=folder, **options)
    assert_same(grown, compute_background(frames, times, **options))
    assert list(folder.iterdir()) == []


def test_images_in_a_file_are_not_held(tmp_path):
    frames, times = random_frames(3000, 40, 60), np.arange(3000) / 50
    with LiveBackground((40, 60), kernel_size=20, split_time=0.1, spill=tmp_path) as live:
        live.push(frames[:1500], times[:1500])
        assert live.quality()  # which writes beyond the images that are final
        live.push(frames[1500:], times[1500:])
        np.testing.assert_array_equal(live.images[-1], live.image)
        assert not live._series._medians._images
        background = live.finish()
        np.testing.assert_array_equal(live.images[-1], live.image)
    expected = compute_background(frames, times, kernel_size=20, split_time=0.1)
    for images in (background.series, background.images):
        assert isinstance(images.distinct, np.memmap)
    np.testing.assert_array_equal(background.images, expected.images)
    background.save(tmp_path / "out.rtdc")
    np.testing.assert_array_equal(load(tmp_path / "out.rtdc")[:], expected[:])
    with pytest.raises(OSError, match=r"missing: no file .* made there \(No such file.* spill="):
        LiveBackground((40, 60), spill=tmp_path / "missing")


class SmallDisk(io.FileIO):
    """A file on a disk that is soon full, and takes less at once than it is given."""

    room = 0

    def write(self, data):
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = super().write(data[: min(self.room, 7)])
        self.room -= written
        return written


@pytest.fixture
def small_disk(tmp_path, monkeypatch):
    def make(*, dir, buffering):
        assert buffering == 0  # a buffer would keep what the disk refuses
        return SmallDisk(dir / "images", "w+b")

    monkeypatch.setattr(live_module, "TemporaryFile", make)
    return tmp_path


@pytest.mark.parametrize("room", [0, 50])  # for no image, and for two and a half
def test_a_disk_that_is_full_is_an_error_and_costs_nothing(small_disk, room):
    frames, times = random_frames(300), np.arange(300) / 50
    options = {"kernel_size": 20, "split_time": 0.5}
    with LiveBackground((4, 5), spill=small_disk, **options) as live:
        live._series._medians._file.room = room
        with pytest.raises(
            OSError, match=r"cannot be written \(No space left.* make room"
        ) as error:
            live.push(frames[:200], times[:200])
        assert str(small_disk) in str(error.value)
        assert len(live) == 200
        starts = [0, 25][: room // 20]
        assert [image.tolist() for image in live.images] == [
            median_image(frames[start : start + 20]).tolist() for start in starts
        ]
        for use in (live.quality, live.finish):
            with pytest.raises(OSError, match="make room"):
                use()
        live._series._medians._file.room = 10**6
        assert live.quality()
        assert live.push(frames[200:], times[200:]) > 2
        background = live.finish()
    assert_same(background, compute_background(frames, times, **options))


def test_frames_that_were_not_taken_are_not_judged(small_disk, monkeypatch):
    monkeypatch.setattr(growing, "PIECE_BYTES", 20 * 10)
    with LiveBackground((4, 5), kernel_size=20, split_time=0.5, spill=small_disk) as live:
        live._series._medians._file.room = 50
        with pytest.raises(OSError, match="make room"):
            live.push(random_frames(200), np.arange(200) / 50)
        assert 20 < len(live) < 200
        assert live._sample.so_far().numbers.max() < len(live)


def test_a_disk_that_stays_full_does_not_keep_from_leaving(small_disk):
    with (
        LiveBackground((4, 5), kernel_size=20, spill=small_disk) as live,
        pytest.raises(OSError, match="make room"),
    ):
        live.push(random_frames(300), np.arange(300) / 50)
    assert live.image is None


def test_all_kernels_are_there_before_the_first_frame(monkeypatch):
    median._compiled.cache_clear()
    with LiveBackground((40, 60), "uint16", kernel_size=20, split_time=0.02) as live:
        monkeypatch.setattr(median, "ready", None)
        frames = random_frames(300, 40, 60, np.uint16) // 1000
        for part, at in in_portions(frames, np.arange(300) / 200, [1, 40]):
            live.push(part, at)
        live.finish()


def test_frames_and_times_are_read_once():
    class Lazy:
        """Data that are read only when they are needed, as of Dask or HDF5."""

        def __init__(self, data):
            self.data, self.reads = data, 0

        def __array__(self, dtype=None, copy=None):
            self.reads += 1
            return self.data

    frames, times = Lazy(random_frames(60)), Lazy(np.arange(60) / 20)
    with LiveBackground((4, 5), kernel_size=10) as live:
        live.push(frames, times)
        live.finish()
    assert (frames.reads, times.reads) == (1, 1)


@pytest.mark.parametrize("compute", [compute_background, pushed], ids=["at once", "as it grows"])
def test_both_ways_are_the_definition(compute):
    rng = np.random.default_rng(3)
    frames = random_frames(400, 30, 6)
    times = np.round(np.cumsum(rng.exponential(0.02, 400)), 2)
    found = compute(frames, times, kernel_size=31, split_time=0.5, frac_cleansing=1)
    axis = times - times[0]
    for step, image in zip(np.arange(0, axis[-1], 0.5), found.series, strict=True):
        start = min(int(np.argmin(np.abs(step - axis))), 400 - 31)
        np.testing.assert_array_equal(image, np.sort(frames[start : start + 31], axis=0)[15])
    walls = frames[:, :20].mean(axis=(1, 2)) - found[:][:, :20].mean(axis=(1, 2))
    np.testing.assert_array_equal(found.offsets, walls)


@pytest.mark.parametrize(
    ("stands", "lengths"),
    [
        ("from the start", [137]),
        ("from the start", [10**6]),
        ("within", [1]),
        ("within", [10**6]),
        ("at the end", [137]),
        ("always", [10**6]),
    ],
    ids=str,
)
def test_ten_thousand_frames_at_one_time(stands, lengths):
    frames = random_frames(10_400)
    before, after = {"from the start": (0, 400), "within": (200, 200), "at the end": (400, 0)}.get(
        stands, (0, 0)
    )
    count = len(frames) - before - after
    times = np.concatenate(
        [np.arange(before) / 50, np.full(count, before / 50), (before + np.arange(after)) / 50]
    )
    options = {"kernel_size": 30, "split_time": 0.3}
    assert_same(
        pushed(frames, times, lengths=lengths, **options),
        compute_background(frames, times, **options),
    )


def test_after_a_pause_of_many_steps_images_are_counted_and_kept_once():
    frames = random_frames(300)
    times = np.concatenate([np.arange(150) / 50, 20_000 + np.arange(150) / 50])
    with LiveBackground((4, 5), kernel_size=30, split_time=0.5) as live:
        counts = [live.push(*portion) for portion in in_portions(frames, times, [50])]
        assert max(counts) > 39_000
        assert len(live._series._place) < 20
        background = live.finish()
    assert_same(background, compute_background(frames, times, kernel_size=30, split_time=0.5))


# What is refused leaves all as it was.


@pytest.fixture
def live():
    with LiveBackground((4, 5), kernel_size=10, split_time=1.0) as live:
        live.push(random_frames(50), np.arange(50) / 20)
        yield live


TIMES = 2.5 + np.arange(3) / 20


def with_value(value, at=1):
    times = TIMES.copy()
    times[at] = value
    return times


@pytest.mark.parametrize(
    ("frames", "times", "kind", "what"),
    [
        (random_frames(3, 5, 4), TIMES, ValueError, r"\(n, 4, 5\), got \(3, 5, 4\)"),
        (random_frames(3)[0], TIMES[:1], ValueError, r"got \(4, 5\); for a single frame"),
        (random_frames(3).astype("u2"), TIMES, TypeError, "must be uint8, got uint16"),
        (random_frames(3) / 2, TIMES, TypeError, "must be uint8, got float64"),
        ([[1, 2], [3]], TIMES[:1], ValueError, "inhomogeneous"),
        (np.ma.array(random_frames(3), mask=True), TIMES, ValueError, "masked"),
        (random_frames(3), TIMES[:2], ValueError, r"times: has shape \(2,\), .* 3 frames"),
        (random_frames(3), 2.5, ValueError, r"times: has shape \(\)"),
        (random_frames(3), ["a", "b", "c"], ValueError, "must hold numbers"),
        (random_frames(3), TIMES.astype(np.longdouble), TypeError, "longdouble|float128"),
        (random_frames(3), with_value(np.nan), ValueError, "is nan at frame 51; .* finite"),
        (random_frames(3), with_value(np.inf, 2), ValueError, "is inf at frame 52"),
        (random_frames(3), with_value(2.4), ValueError, "at frame 51, from 2.5 s to 2.4 s"),
        (random_frames(3), TIMES - 2.5, ValueError, "at frame 50, from 2.45 s to 0.0 s"),
        (random_frames(3), TIMES + 1e9, ValueError, "too small for a duration"),
        (random_frames(3), np.ma.array(TIMES, mask=[0, 0, 1]), ValueError, "masked"),
    ],
    ids=range(16),
)
def test_what_does_not_fit_is_refused_whole(live, frames, times, kind, what):
    if getattr(times, "dtype", None) == np.longdouble and np.longdouble == np.float64:
        pytest.skip("they are the same here")
    image, count = live.image, len(live)
    with pytest.raises(kind, match=what):
        live.push(frames, times)
    assert len(live) == count
    assert live.image is image
    live.push(random_frames(3, seed=1), TIMES)
    assert_same(
        live.finish(),
        compute_background(
            np.concatenate([random_frames(50), random_frames(3, seed=1)]),
            np.concatenate([np.arange(50) / 20, TIMES]),
            kernel_size=10,
        ),
    )


def test_the_first_portion_decides_nothing_if_it_is_refused_or_empty():
    with LiveBackground((4, 5), kernel_size=2) as live:
        assert live.push(np.empty((0, 4, 5), np.uint8), []) == 0
        with pytest.raises(ValueError, match="fall at frame 1"):
            live.push(random_frames(2), [5, 3])
        live.push(random_frames(2), [0.5, 3.5])
        with pytest.raises(ValueError, match="must hold numbers"):
            live.push(random_frames(1), [4j])
        live.push(random_frames(1), [5])  # whole numbers will do
        assert live.finish().time.tolist() == [0, 3, 4.5]


@pytest.mark.parametrize("by", ["finish", "with"])
def test_what_is_over_stays_so(by):
    with LiveBackground((4, 5), kernel_size=2) as live:
        live.push(random_frames(20), np.arange(20))
        image = live.image
        if by == "finish":
            live.finish()
            assert not live._series._ring.size  # which may be large
    judge = [live.quality] if by == "with" else []
    for use in (lambda: live.push(random_frames(1), [30]), live.finish, *judge):
        with pytest.raises(ValueError, match=f"ended by .*{by}"):
            use()
    assert live.image is image
    assert len(live) == 20


def test_nothing_comes_of_nothing():
    with LiveBackground((4, 5)) as live:
        assert live.image is None
        assert live.images.shape == (0, 4, 5)
        assert live.quality() == ()
        with pytest.raises(ValueError, match="no frame was pushed"):
            live.finish()
        live.push(random_frames(1), [0])
        with pytest.raises(ValueError, match="frac_cleansing must be"):
            live.finish(frac_cleansing=2)
        assert len(live.finish()) == 1


@pytest.mark.parametrize(
    ("arguments", "kind", "what"),
    [
        ({"shape": (4, 5, 6)}, ValueError, r"shape must be .* got \(4, 5, 6\)"),
        ({"shape": (4, 0)}, ValueError, "shape must be"),
        ({"shape": 7}, ValueError, "shape must be"),
        ({"dtype": "float32"}, TypeError, "uint8 or uint16, got float32"),
        ({"kernel_size": 0}, ValueError, "kernel_size"),
        ({"kernel_size": 10**15}, ValueError, "kernel_size=10.* memory .* use a smaller"),
        ({"kernel_size": 10**18}, ValueError, "kernel_size=10.* memory .* use a smaller"),
        ({"split_time": 0}, ValueError, "split_time"),
        ({"offset_rows": 0}, ValueError, "offset_rows"),
        ({"offset_correction": 2}, ValueError, "offset_correction"),
        ({"num_cpus": 0}, ValueError, "num_cpus"),
    ],
)
def test_arguments_are_checked(arguments, kind, what):
    with pytest.raises(kind, match=what):
        LiveBackground(**({"shape": (4, 5)} | arguments))


# What may be handed over, and what is handed back.


@pytest.mark.parametrize(
    "given",
    [
        lambda frames: frames.tolist() and np.asfortranarray(frames),
        lambda frames: np.repeat(frames, 2, axis=2)[:, :, ::2],
        lambda frames: frames[::-1][::-1],
        lambda frames: np.moveaxis(np.moveaxis(frames, 0, 2).copy(), 2, 0),
        lambda frames: np.frombuffer(frames.tobytes(), np.uint8).reshape(frames.shape),
        lambda frames: np.ma.array(frames),
    ],
    ids=["Fortran", "every second", "reversed", "frames last", "read-only", "nothing masked"],
)
def test_any_layout(given):
    frames, times = random_frames(60), np.arange(60) / 20
    with LiveBackground((4, 5), kernel_size=10) as live:
        for part, at in in_portions(frames, times, [13]):
            live.push(given(part), at)
        assert_same(live.finish(), compute_background(frames, times, kernel_size=10))


def test_big_endian_frames():
    frames, times = random_frames(60, dtype=np.uint16), np.arange(60) / 20
    with LiveBackground((4, 5), ">u2", kernel_size=10) as live:
        live.push(frames.astype(">u2"), times.astype(">f8"))
        assert_same(live.finish(), compute_background(frames, times, kernel_size=10))


def test_the_buffer_may_be_used_again():
    frames, times = random_frames(200), np.arange(200) / 20
    with LiveBackground((4, 5), kernel_size=10) as live:
        buffer, clock = np.empty((7, 4, 5), np.uint8), np.empty(7)
        for part, at in in_portions(frames, times, [7]):
            buffer[: len(part)], clock[: len(at)] = part, at
            live.push(buffer[: len(part)], clock[: len(at)])
            buffer[:], clock[:] = 0, -1
        assert_same(live.finish(), compute_background(frames, times, kernel_size=10))


def test_images_cannot_be_changed():
    with LiveBackground((4, 5), kernel_size=10) as live:
        live.push(random_frames(60), np.arange(60) / 20)
        with pytest.raises(ValueError, match="read-only"):
            live.image[0, 0] = 1
        copy = live.images
        copy[:] = 0
        assert live.images.any()


def test_follow_yields_each_image():
    frames, times = random_frames(200), np.arange(200) / 20
    with LiveBackground((4, 5), kernel_size=10) as live:
        images = list(live.follow(in_portions(frames, times, [33])))
        np.testing.assert_array_equal(images, live.images)
        assert len(images) == 10


def test_what_a_callback_raises_reaches_the_caller_and_costs_nothing():
    heard = []

    def on_image(number, time, image):
        heard.append(number)
        if number in (2, 3):
            raise RuntimeError(f"number {number}")

    frames, times = random_frames(200), np.arange(200) / 20
    with LiveBackground((4, 5), kernel_size=10, on_image=on_image) as live:
        with pytest.raises(RuntimeError, match="number 2"):
            live.push(frames[:150], times[:150])
        assert len(live) == 150
        with pytest.raises(RuntimeError, match="number 3"):
            live.push(frames[150:160], times[150:160])
        live.push(frames[160:], times[160:])
        assert heard == list(range(10))
        assert_same(live.finish(), compute_background(frames, times, kernel_size=10))


def test_another_thread_never_sees_half_an_image():
    frames = np.repeat(np.arange(250, dtype=np.uint8), 20)[:, np.newaxis, np.newaxis]
    frames = np.broadcast_to(frames, (5000, 60, 80))
    seen, is_over = set(), threading.Event()
    with LiveBackground((60, 80), kernel_size=20, split_time=0.02) as live:

        def look():
            while not is_over.is_set():
                if (image := live.image) is not None:
                    assert image.min() == image.max()
                    seen.add(int(image[0, 0]))

        failed = []
        hook, threading.excepthook = threading.excepthook, failed.append
        thread = threading.Thread(target=look)
        thread.start()
        try:
            for number, (part, at) in enumerate(in_portions(frames, np.arange(5000) / 1000, [20])):
                live.push(part, at)
                end = time.monotonic() + PATIENCE
                while len(seen) < number // 50 and not failed and time.monotonic() < end:
                    time.sleep(0.001)  # until it has looked
        finally:
            is_over.set()
            thread.join()
            threading.excepthook = hook
    assert not failed
    assert len(seen) > 2


def test_it_is_let_go_with_the_last_reference():
    live = LiveBackground((4, 5), kernel_size=10)
    live.push(random_frames(60), np.arange(60) / 20)
    gone = weakref.ref(live)
    gc.disable()
    try:
        del live
        assert gone() is None
    finally:
        gc.enable()


def test_what_is_odd_is_warned_of_at_the_end_and_kept(warned):
    with LiveBackground((40, 60)) as live:
        live.push(random_frames(60, 40, 60), np.arange(60) / 20)
        live.quality()
        assert warned() == []
        background = live.finish()
    assert warned() == ["kernel_size 200 is more than the 60 frames: all frames are used"]
    assert background.warnings == tuple(warned())


def test_quality_says_what_it_would_if_this_were_the_end(tmp_path):
    make_measurement(tmp_path / "in.rtdc", 1700)
    with h5py.File(tmp_path / "in.rtdc") as h5:
        frames, times = h5["events/image"][:], h5["events/time"][:]
    frames[700:] = (frames[700:] // 2) + np.roll(frames[700:] // 2, 1, axis=1)  # out of focus
    with LiveBackground((80, 320)) as live:
        live.push(frames[:700], times[:700])
        early = {finding.key: finding.verdict for finding in live.quality()}
        live.push(frames[700:], times[700:])
        late = {finding.key: finding.verdict for finding in live.quality()}
        background = live.finish()
        assert {finding.key: finding.verdict for finding in live.quality()} == late
    assert set(early.values()) == {"good"}
    assert late["change"] == "look here"
    assert overall(background.quality(frames)) == "look here"


@pytest.mark.parametrize("count", [1, SAMPLE - 1, SAMPLE, SAMPLE + 1, 2 * SAMPLE, 1000, 5001])
def test_the_sample_is_from_all_over_and_never_large(count):
    frames = random_frames(count)
    samples = []
    for lengths in ([1], [17], [10**6]):
        with LiveBackground((4, 5)) as live:
            for part, at in in_portions(frames, np.arange(count) / 20, lengths):
                buffer = part.copy()
                live.push(buffer, at)
                buffer[:] = 0  # as a camera does that writes into it again
            samples.append(live._sample.so_far())
            assert len(live._sample._kept) < 2 * SAMPLE
    for numbers, images in samples:
        np.testing.assert_array_equal(numbers, samples[0].numbers)
        np.testing.assert_array_equal(images, frames[numbers])
    assert min(SAMPLE, count) == len(numbers)
    gaps = np.diff(numbers, prepend=-1, append=count)
    assert gaps.min() >= 1
    assert gaps.max() <= 6 * count / SAMPLE + 1
    if count > SAMPLE:  # of a lamp with two states, or a camera with four, all are seen
        assert np.bincount(numbers % 4, minlength=4).min() > SAMPLE / 8


def test_results_can_be_saved_and_loaded(tmp_path):
    frames, times = random_frames(200, 40, 20), np.arange(200) / 20
    background = pushed(frames, times, kernel_size=10)
    background.save(tmp_path / "out.rtdc")
    loaded = load(tmp_path / "out.rtdc")
    np.testing.assert_array_equal(loaded[:], background[:])
    assert type(background) is SparseBackground
