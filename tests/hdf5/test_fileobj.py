"""HDF5 reads bytes from anywhere: here from memory, with a count of reads and faults at will."""

import gc
import io
import pickle
from functools import partial

import h5py
import numpy as np
import pytest

from sparsemed.demo import make_measurement
from sparsemed.frames.chunks import ChunkFrames
from sparsemed.frames.hdf5_layout import past_hdf5, why_hdf5_reads
from sparsemed.frames.opening import open_frames
from sparsemed.hdf5.fileobj import StoredFile
from sparsemed.hdf5.opening import bytes_behind, open_stored, raise_failure
from sparsemed.method.compute import compute, plan
from sparsemed.parameters import Parameters
from sparsemed.rtdc.frames import measurement_frames, measurement_time
from sparsemed.rtdc.measurement import Measurement
from sparsemed.storage.stored import Habits, LocalBytes


class MemoryBytes:
    """Bytes in memory that note each read; beyond `cut` they are gone, and some reads fail."""

    habits = Habits(gap=100, piece=2**20, at_once=3)

    def __init__(self, content, name="memory://somewhere/in.rtdc"):
        self.name = self.key = name
        self.content = content
        self.state = (1,)
        self.reads = []
        self.expected = []
        self.error = lambda: None

    @property
    def size(self):
        return len(self.content)

    def expect(self, ranges):
        self.expected = list(ranges)

    def gather(self, ranges):
        pass

    def interrupt(self):
        pass

    def read_into(self, buffer, offset):
        self.reads.append((offset, offset + len(buffer)))
        if (error := self.error()) is not None:
            raise error
        part = self.content[offset : offset + len(buffer)]
        buffer[: len(part)] = part
        return len(part) == len(buffer)

    def close(self):
        pass

    def opener(self):
        return partial(MemoryBytes, self.content, self.name)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("files") / "in.rtdc"
    make_measurement(path, count=400)
    return path


@pytest.fixture
def stored(path):
    return MemoryBytes(path.read_bytes())


def background(source):
    with Measurement(source) as measurement:
        frames = measurement_frames(measurement, 2)
        planned = plan(measurement_time(measurement), Parameters(kernel_size=50))
        found = compute(frames, planned)
        measurement.access.check_unchanged()
        return found


def test_a_measurement_is_computed_wherever_its_bytes_are(path, stored):
    found, expected = background(stored), background(path)
    np.testing.assert_array_equal(found.images, expected.images)
    np.testing.assert_array_equal(found.offsets, expected.offsets)
    np.testing.assert_array_equal(found.time, expected.time)


def test_frames_are_read_past_hdf5_by_just_the_reads_that_were_announced(stored):
    with Measurement(stored) as measurement:
        assert why_hdf5_reads(measurement.image.dataset) is None
        frames = measurement_frames(measurement, 2)
        planned = plan(measurement_time(measurement), Parameters(kernel_size=50))
        begun = len(stored.reads)
        compute(frames, planned)
        index = frames.layout.index
    assert sorted(stored.reads[begun:]) == sorted(stored.expected)
    for address, size in zip(index.addresses.tolist(), index.sizes.tolist(), strict=True):
        covering = [1 for begin, end in stored.expected if begin <= address < address + size <= end]
        assert len(covering) == 1  # each chunk is read once


def test_layout_and_opener_are_all_that_others_need(path, stored):
    for source in (path, stored):
        with Measurement(source) as measurement:
            layout, behind = past_hdf5(measurement.image.dataset)
            expected = measurement.image.dataset[100:130]
            sent = pickle.dumps((layout, behind.opener()))
        layout, opener = pickle.loads(sent)
        out = np.empty_like(expected)
        with ChunkFrames(layout, opener(), 1, "there").reading() as read:
            read(100, 130, out)
        np.testing.assert_array_equal(out, expected)


def test_a_file_is_known_by_its_bytes(path, stored):
    with h5py.File(path) as h5, open_stored(stored) as handed, open_stored(stored) as again:
        assert bytes_behind(handed["events/image"]) is stored is bytes_behind(again)
        behind = bytes_behind(h5["events"])
        assert isinstance(behind, LocalBytes)
        assert behind.key == LocalBytes(path).key
    with h5py.File(io.BytesIO(stored.content)) as h5:
        assert bytes_behind(h5) is None


def test_who_reads_few_at_once_is_asked_by_few(stored):
    with Measurement(stored) as measurement:
        assert measurement_frames(measurement, 64).threads == 3
        assert measurement_frames(measurement, 2).threads == 2


def test_a_change_is_noticed(stored):
    with Measurement(stored) as measurement:
        measurement.access.check_unchanged()
        stored.state = (2,)
        with pytest.raises(OSError, match=r"^memory://somewhere/in\.rtdc: was changed"):
            measurement.access.check_unchanged()


def test_other_files_of_the_same_folder_are_none(stored, tmp_path):
    with Measurement(stored, "same-folder") as measurement:
        assert "another folder" in measurement.access.refusal(__file__)
        (tmp_path / "file").write_bytes(b"")
        assert "another folder" in measurement.access.refusal(tmp_path / "file")


# What goes wrong below HDF5


def fail_from(stored, number):
    """Let all reads from the given one on fail, counted from now."""
    begun = len(stored.reads)

    def error():
        is_down = len(stored.reads) - begun > number
        return OSError("memory://somewhere/in.rtdc: the network is down") if is_down else None

    stored.error = error


def test_what_fails_while_a_file_is_opened_is_told(stored):
    fail_from(stored, 0)
    with pytest.raises(OSError, match="the network is down"):
        Measurement(stored)
    with pytest.raises(OSError, match=r"cannot be read as an HDF5 file: it is empty"):
        open_stored(MemoryBytes(b""))
    with pytest.raises(OSError, match=r"an HDF5 file: it is truncated \(5,000 of"):
        open_stored(MemoryBytes(stored.content[:5000]))
    with pytest.raises(OSError, match=r"cannot be read as an HDF5 file \("):
        open_stored(MemoryBytes(b"no HDF5" * 1000))


def test_no_failure_is_taken_for_zeros(stored, path):
    expected = background(path)
    whole = MemoryBytes(stored.content)
    background(whole)
    reads = len(whole.reads)
    assert reads > 10
    for number in range(reads):
        again = MemoryBytes(stored.content)
        fail_from(again, number)
        with pytest.raises(OSError, match=r"^memory://.*the network is down"):
            background(again)
    fail_from(stored, reads)
    np.testing.assert_array_equal(background(stored).offsets, expected.offsets)


def test_so_it_is_where_hdf5_reads_the_frames(stored):
    content = io.BytesIO()
    images = np.arange(4000, dtype=np.uint8).reshape(40, 10, 10)
    with h5py.File(content, "w") as h5:
        h5.create_dataset("image", data=images, chunks=(5, 10, 10), scaleoffset=0)
    stored = MemoryBytes(content.getvalue())
    with open_stored(stored) as h5:
        frames = open_frames(h5["image"], 1)
        assert not isinstance(frames, ChunkFrames)
        out = np.empty_like(images)
        with frames.reading() as read:
            read(0, 40, out)
            np.testing.assert_array_equal(out, images)
    with open_stored(stored) as h5:
        frames = open_frames(h5["image"], 1)
        with frames.reading() as read:
            fail_from(stored, 2)
            for _ in range(2):  # HDF5 may keep what it got
                with pytest.raises(OSError, match=r"^frames: frames 0 to 39 .*network is down"):
                    read(0, 40, out)
                stored.error = lambda: None


@pytest.mark.parametrize("failure", [OSError("the network is down"), KeyboardInterrupt()])
def test_who_has_failed_is_not_asked_again(failure):
    """As each read may last, and HDF5 goes on."""
    content = io.BytesIO()
    with h5py.File(content, "w") as h5:
        h5.create_dataset("image", data=np.ones((40, 10, 10)), chunks=(5, 10, 10))
    stored = MemoryBytes(content.getvalue())
    with open_stored(stored) as h5:
        dataset = h5["image"]
        _ = dataset[:5]  # with what HDF5 needs to find all others
        count = len(stored.reads)
        stored.error = lambda: failure
        assert not dataset[5:].any()  # it tells nothing
        assert len(stored.reads) == count + 1
        with pytest.raises(type(failure)):
            raise_failure(dataset)


def test_bytes_that_get_fewer_are_noticed(stored):
    with Measurement(stored) as measurement:
        stored.content = stored.content[:3000]
        with pytest.raises(OSError, match="it has become shorter"):
            _ = measurement.feature("time").read(), measurement.access.check_unchanged()


@pytest.mark.parametrize("fails", [False, True])
def test_nothing_holds_on_to_a_file_that_is_closed(stored, fails):
    for _ in range(2):
        if fails:
            fail_from(stored, 9)
        try:
            background(stored)
        except OSError:
            assert fails
    gc.collect()
    assert not [
        each for each in gc.get_objects() if isinstance(each, StoredFile) and each.stored is stored
    ]


def test_a_key_pressed_while_hdf5_reads_ends_what_was_to_be_read(stored):
    with Measurement(stored) as measurement:
        stored.error = KeyboardInterrupt
        with pytest.raises(KeyboardInterrupt):
            measurement.feature("time")
