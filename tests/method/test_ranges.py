"""A measurement in ranges: the same bits for all cuts and all workers."""

import multiprocessing
import os
import pickle
import re
import signal
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import h5py
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rings import examples

from sparsemed import compute_background
from sparsemed.executors.rounds import TaskRunner
from sparsemed.frames.arrays import ArrayFrames
from sparsemed.frames.opening import open_frames
from sparsemed.frames.parts import PartFrames, chunks_part
from sparsemed.frames.picked import PickedFrames
from sparsemed.inputs import open_input
from sparsemed.method import ranges as ranges_module
from sparsemed.method import series
from sparsemed.method.compute import compute, plan
from sparsemed.method.ranges import Range, RangedScan, cut, range_count
from sparsemed.method.tiles import scan_tiles
from sparsemed.parameters import Parameters


def random_images(count, height=4, width=5, dtype=np.uint8):
    rng = np.random.default_rng(count)
    return rng.integers(0, np.iinfo(dtype).max, (count, height, width), dtype, endpoint=True)


class Blocks(ArrayFrames):
    """Frames in blocks, which take note of what is read."""

    def __init__(self, images, block):
        super().__init__(images)
        self.block = block
        self.batch = 2 * block
        self.blocks_read = []

    def interrupt(self):
        pass

    @contextmanager
    def reading(self, _wanted=()):
        with super().reading() as read:

            def read_and_note(start, stop, out):
                assert start % self.block == 0
                assert stop % self.block == 0 or stop == self.shape[0]
                self.blocks_read += range(start // self.block, -(-stop // self.block))
                read(start, stop, out)

            yield read_and_note

    @contextmanager
    def part(self, begin, end, num_cpus):
        assert num_cpus == 1
        yield PartFrames(self, begin, end)

    def open_part(self, begin, end):
        return partial(self.part, begin, end)


def same(one, other):
    assert set(vars(one)) == set(vars(other))
    for name, value in vars(one).items():
        if isinstance(value, np.ndarray) or hasattr(value, "distinct"):
            np.testing.assert_array_equal(value, vars(other)[name], strict=True, err_msg=name)
        elif name != "seen":  # frames that workers read are not kept
            assert value == vars(other)[name], name


@st.composite
def cases(draw):
    count = draw(st.integers(1, 90))
    steps = draw(st.lists(st.floats(0, 3), min_size=count, max_size=count))
    time = np.array(draw(st.permutations(steps))).cumsum() if draw(st.booleans()) else steps
    parameters = Parameters(
        kernel_size=draw(st.integers(1, 100)),
        split_time=draw(st.sampled_from([0.3, 1.0, 7.5])),
        frac_cleansing=draw(st.sampled_from([0.5, 0.8, 1.0])),
        offset_correction=draw(st.booleans()),
    )
    dtype = draw(st.sampled_from([np.uint8, np.uint16]))
    time = np.array(time, draw(st.sampled_from([np.float64, np.float32])))
    return count, time - time[0], parameters, dtype, draw(st.integers(1, 30))


@examples(100)
@given(cases(), st.integers(1, 100))
@example((90, np.arange(90.0), Parameters(5, offset_correction=False), np.uint8, 7), 4)
@example((60, np.r_[np.arange(30.0), 2000 + np.arange(30.0)], Parameters(9), np.uint8, 4), 6)
def test_the_same_bits_for_any_number_of_ranges(case, ranges):
    count, time, parameters, dtype, block = case
    frames = Blocks(random_images(count, dtype=dtype), block)
    planned = plan(time, parameters)
    fractions = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(series, "HELD_BYTES", 2000)  # one range must not hold millions
        whole = compute(frames, planned)
        apart = RangedScan(TaskRunner(None, 1), frames.open_part, ranges)
        frames.blocks_read.clear()
        same(whole, compute(frames, planned, fractions.append, apart))
    assert fractions == sorted(fractions)
    assert fractions[0] == 0
    assert fractions[-1] == 1
    starts = np.unique(planned.starts)
    made = cut(starts, planned.length, frames, ranges, parameters.offset_correction)
    assert len(made) <= ranges
    again = (len(made) - 1) * (-(-planned.length // block) + 1)
    needed = {i // block for s in starts.tolist() for i in range(s, s + planned.length)}
    if parameters.offset_correction:
        needed = set(range(-(-count // block)))
    assert set(frames.blocks_read) == needed
    assert len(frames.blocks_read) - len(needed) <= again


def test_ranges_begin_with_blocks_and_reach_as_far_as_their_windows():
    frames = Blocks(random_images(100), 10)
    starts = np.array([0, 28, 33, 60, 75])
    assert cut(starts, 15, frames, 3, with_bands=True) == [
        Range(0, 50, 30, 0, 2),
        Range(30, 60, 60, 2, 3),
        Range(60, 100, 100, 3, 5),
    ]
    # The frames from 50 to 59 are of no window.
    assert cut(starts, 15, frames, 3, with_bands=False) == [
        Range(0, 20, 20, 0, 1),
        Range(20, 50, 60, 1, 3),
        Range(60, 90, 100, 3, 5),
    ]


@pytest.mark.parametrize(
    ("count", "length", "workers", "expected"),
    [
        (10_000, 200, 8, 1),  # too small for several
        (160_000, 200, 2, 4),  # of 640 MB: no more than five, and as many for each
        (160_000, 200, 8, 4),  # fewer than workers: as many as there can be
        (10**6, 200, 2, 8),  # four for each, if they are large enough
        (10**6, 100_000, 2, 2),  # or else much would be read twice
        (10**6, 10**6, 2, 1),
    ],
)
def test_the_number_of_ranges_by_size_and_workers(count, length, workers, expected):
    frames = ArrayFrames(np.broadcast_to(np.uint8(7), (count, 40, 100)))
    assert range_count(frames, length, workers) == expected


@pytest.mark.parametrize("ranges", [0, -1, 2.0, True, "2"])
def test_bad_numbers_of_ranges(ranges):
    images = random_images(9)
    with pytest.raises(ValueError, match=rf"^ranges must be a whole number .* got {ranges!r}$"):
        compute_background(images, np.arange(9), ranges=ranges)


def test_without_both_nothing_is_cut():
    assert open_input(random_images(9)).scanning(None, None).func is scan_tiles


def test_a_bad_executor_is_refused_before_anything_is_read():
    with pytest.raises(TypeError, match=r"^executor must be a concurrent.futures.Executor or a"):
        compute_background(random_images(9), executor="tcp://127.0.0.1:1")


ARRAY = random_images(3000, 20, 30)
TIME = np.arange(3000) / 100
OPTIONS = {"kernel_size": 120, "split_time": 0.5}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A measurement in 60 chunks, compressed."""
    path = tmp_path_factory.mktemp("ranges") / "in.rtdc"
    with h5py.File(path, "w") as h5:
        h5.create_dataset("events/image", data=ARRAY, chunks=(50, 20, 30), compression="gzip")
        h5["events/time"] = TIME
        h5.attrs["experiment:run identifier"] = "one"
    return path


@pytest.fixture(scope="module")
def expected():
    return compute_background(ARRAY, TIME, **OPTIONS)


def same_but_source(found, expected):
    same(found, type(found)(**vars(expected) | {"identity": found.identity}))


def arrays(path):
    """Yield the images as arrays of many kinds."""
    import dask.array
    import xarray
    import zarr

    yield "numpy", ARRAY.astype(np.float32)
    yield "dask", dask.array.from_array(ARRAY, chunks=(70, 20, 15))
    store = zarr.create_array(
        path.parent / "images.zarr",
        shape=ARRAY.shape,
        chunks=(64, 20, 30),
        dtype="u1",
        overwrite=True,
    )
    store[:] = ARRAY
    yield "zarr", store
    yield "xarray", xarray.DataArray(ARRAY, dims=("frame", "y", "x"))
    with h5py.File(path) as h5:
        yield "h5py", h5["events/image"]


def test_the_rows_of_offsets_are_chosen_for_each_range():
    chosen = OPTIONS | {"offset_rows": 30}
    images = random_images(900, 40, 30)
    expected = compute_background(images, TIME[:900], **chosen)
    assert not np.array_equal(
        expected.offsets, compute_background(images, TIME[:900], **OPTIONS).offsets
    )
    with ThreadPoolExecutor(2) as pool:
        same(compute_background(images, TIME[:900], executor=pool, ranges=4, **chosen), expected)


def test_stacks_are_opened_by_their_paths(tmp_path, expected):
    import tifffile
    import zarr

    tifffile.imwrite(tmp_path / "in.tif", ARRAY, compression="zlib", photometric="minisblack")
    zarr.create_array(tmp_path / "in.zarr", data=ARRAY, chunks=(64, 20, 30))
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        for path in (tmp_path / "in.tif", tmp_path / "in.zarr"):
            found = compute_background(path, TIME, executor=pool, ranges=3, **OPTIONS)
            assert found.stack == path
            same_but_source(found, expected)


@pytest.mark.slow
def test_processes_of_a_pool(path, expected):
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        fractions = []
        found = compute_background(
            path, executor=pool, ranges=5, progress=fractions.append, **OPTIONS
        )
        same_but_source(found, expected)
        assert found.source == path
        assert fractions[0] == 0
        assert fractions[-1] == 1
        same_but_source(compute_background(path, executor=pool, **OPTIONS), expected)
        same(compute_background(ARRAY, TIME, executor=pool, ranges=3, **OPTIONS), expected)


def test_workers_of_a_cluster(path, expected, cluster):
    import dask.array
    from distributed import futures_of

    same_but_source(compute_background(path, executor=cluster, ranges=7, **OPTIONS), expected)
    for kind, images in arrays(path):
        found = compute_background(images, TIME, executor=cluster, ranges=4, **OPTIONS)
        assert (kind, same(found, expected)) == (kind, None)
    with cluster.as_current():
        kept = dask.array.from_array(ARRAY, chunks=(500, 20, 30)).persist()
        assert futures_of(kept)
        same(compute_background(kept, TIME, executor=cluster, ranges=3, **OPTIONS), expected)


@contextmanager
def killing_its_process(opener, identity, flag, begin, end, num_cpus):
    """Open frames as `measurement_part` does, and be killed once while some are read."""
    from sparsemed.rtdc.frames import _open_part

    with _open_part(opener, identity, begin, end, num_cpus) as frames:
        if begin > 1000:
            try:
                os.close(os.open(flag, os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                pass
            else:
                threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGKILL)).start()
                threading.Event().wait(20)
        yield frames


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="nobody is killed like that here")
def test_a_worker_is_killed_in_the_middle(path, expected, cluster, tmp_path):
    flag = str(tmp_path / "killed")

    def open_part(begin, end):
        return partial(killing_its_process, opener, identity, flag, begin, end)

    with open_input(path) as opened:
        identity, opener = opened.identity, opened._measurement.opener()
    planned = plan(TIME, Parameters(**OPTIONS))
    found = compute(
        ArrayFrames(ARRAY), planned, scanning=RangedScan(TaskRunner(cluster, None), open_part, 6)
    )
    assert os.path.exists(flag)
    np.testing.assert_array_equal(found.series, expected.series, strict=True)
    np.testing.assert_array_equal(found.offsets, expected.offsets, strict=True)


def test_errors_of_ranges_are_those_of_the_measurement(path, tmp_path, cluster):
    images = ARRAY.astype(np.float32)
    images[2345, 3, 4] = 0.5
    message = r"^frames\[1500:3000\]: frame 845 holds 0.5; frames of dtype float32 must be whole"
    with ThreadPoolExecutor(2) as pool, pytest.raises(TypeError, match=message):
        compute_background(images, TIME, executor=pool, ranges=2)

    damaged = tmp_path / "damaged.rtdc"
    damaged.write_bytes(path.read_bytes())
    with h5py.File(damaged, "r") as h5:
        chunk = h5["events/image"].id.get_chunk_info(41)
    with damaged.open("r+b") as file:
        file.seek(chunk.byte_offset + 100)
        file.write(bytes(200))
    message = f"^{re.escape(str(damaged))}: .*frames 2050 to 2099 cannot be read"
    with pytest.raises(OSError, match=message) as alone:
        compute_background(damaged)
    with pytest.raises(OSError, match=message) as apart:
        compute_background(damaged, executor=cluster, ranges=4)
    assert str(apart.value) == str(alone.value)


@pytest.mark.parametrize("known_by", ["size and time", "contents"])
def test_workers_that_see_another_file(path, tmp_path, monkeypatch, known_by):
    other = tmp_path / "other.rtdc"
    other.write_bytes(path.read_bytes())
    with h5py.File(other, "r+") as h5:
        h5.attrs["experiment:run identifier"] = "another"
        h5["more"] = 1
    scan_part = ranges_module._scan_part

    def elsewhere(task, num_cpus):
        if known_by == "contents":
            opener, *more = task.open_frames.args
            args = (partial(opener.func, other, *opener.args[1:]), *more)
        else:
            layout, opener, *more = task.open_frames.args
            args = (layout, partial(opener.func, other, *opener.args[1:]), *more)
        open_frames = partial(task.open_frames.func, *args)
        return scan_part(task._replace(open_frames=open_frames), num_cpus)

    monkeypatch.setattr(ranges_module, "_scan_part", elsewhere)
    if known_by == "contents":  # where HDF5 has to read the frames
        monkeypatch.setattr("sparsemed.inputs.measurement.chunks_part", lambda *_: None)
    with pytest.raises((OSError, ValueError), match="all workers must see the same files under"):
        compute_background(path, ranges=2)


def test_workers_need_no_hdf5_for_chunks(path, expected, monkeypatch):
    scan_part = ranges_module._scan_part

    def elsewhere(task, num_cpus):
        sent = pickle.dumps(task)
        assert len(sent) < 10_000
        with monkeypatch.context() as patch:
            patch.setattr("h5py.File.__init__", None)
            return scan_part(pickle.loads(sent), num_cpus)

    monkeypatch.setattr(ranges_module, "_scan_part", elsewhere)
    with h5py.File(path) as h5:
        same(compute_background(h5["events/image"], TIME, ranges=4, **OPTIONS), expected)
    same_but_source(compute_background(path, ranges=4, **OPTIONS), expected)


def test_parts_of_a_mapping_are_sent_with_the_chunks_that_they_are_of(path):
    picks = np.random.default_rng(0).integers(0, 3000, 400)
    with h5py.File(path) as h5:
        frames = PickedFrames(open_frames(h5["events/image"], 2), picks)
        opener = pickle.loads(pickle.dumps(chunks_part(frames, 100, 300)))
    out = np.empty((200, 20, 30), np.uint8)
    with opener(1) as part, part.reading() as read:
        read(0, 200, out)
    np.testing.assert_array_equal(out, ARRAY[picks[100:300]])


def test_a_part_notices_when_its_file_is_changed(path, tmp_path):
    changed = tmp_path / "in.rtdc"
    changed.write_bytes(path.read_bytes())
    with h5py.File(changed) as h5:
        opener = chunks_part(open_frames(h5["events/image"], 2), 100, 300)
    with pytest.raises(OSError, match="was changed, replaced or removed"), opener(1):
        changed.write_bytes(b"")


def test_datasets_that_nobody_else_can_open(path, expected):
    with (
        ThreadPoolExecutor(2) as pool,
        h5py.File("memory.h5", "w", driver="core", backing_store=False) as h5,
    ):
        dataset = h5.create_dataset("image", data=ARRAY, chunks=(50, 20, 30))
        same(compute_background(dataset, TIME, executor=pool, ranges=3, **OPTIONS), expected)


def test_frames_that_were_never_written(tmp_path):
    path = tmp_path / "in.h5"
    with h5py.File(path, "w") as h5:
        dataset = h5.create_dataset("image", (1000, 20, 30), "u1", chunks=(50, 20, 30))
        dataset[:400] = ARRAY[:400]
        dataset[450:] = ARRAY[450:1000]
        h5["time"] = TIME[:1000]
    with h5py.File(path) as h5:
        found = compute_background(h5["image"], h5["time"][:], ranges=3, **OPTIONS)
        same(found, compute_background(h5["image"], h5["time"][:], **OPTIONS))
    assert found.unwritten == ((400, 450),)


def test_frames_of_no_window_that_were_never_written_are_told_all_the_same(tmp_path):
    """Without offsets nobody reads them."""
    with h5py.File(tmp_path / "in.h5", "w") as h5:
        dataset = h5.create_dataset("image", (1000, 20, 30), "u1", chunks=(50, 20, 30))
        dataset[:400] = 90
        dataset[450:] = 90
    options = {"kernel_size": 20, "split_time": 50, "offset_correction": False}
    with h5py.File(tmp_path / "in.h5") as h5:
        for ranges in (None, 2):
            time = np.arange(1000) / 10
            found = compute_background(h5["image"], time, ranges=ranges, **options)
            assert found.unwritten == ((400, 450),)


def test_a_part_tells_of_what_was_never_written_within_it():
    frames = ArrayFrames(random_images(50))
    frames.unwritten = [(0, 10), (15, 25), (30, 40), (45, 50)]
    assert PartFrames(frames, 20, 35).unwritten == [(0, 5), (10, 15)]
    assert PartFrames(frames, 10, 15).unwritten == []
    assert PartFrames(frames, 0, 50).unwritten == frames.unwritten


@pytest.mark.parametrize(("workers", "expected"), [(2, 4), (3, 3), (4, 4), (5, 5), (6, 5)])
def test_five_ranges_are_shared_out_so_that_no_worker_has_one_more_than_others(workers, expected):
    count = 5 * ranges_module.RANGE_BYTES // (100 * 100) + 1
    frames = ArrayFrames(np.broadcast_to(np.uint8(7), (count, 100, 100)))
    assert range_count(frames, 20, workers) == expected
