"""A file that another program records is read as far as all that is needed goes."""

import os
import shutil

import h5py
import numpy as np
import pytest
from jobs.recorder import Recorder, frames_of, times_of

from sparsemed.rtdc import growing
from sparsemed.rtdc.growing import GrowingMeasurement


@pytest.fixture
def path(tmp_path):
    return tmp_path / "in.rtdc"


@pytest.fixture
def recorder(path):
    recorder = Recorder(path)
    yield recorder
    if recorder.process.returncode is None:
        recorder.kill()


def assert_comes(recording, begin, end):
    frames, times = recording.poll()
    np.testing.assert_array_equal(times, times_of(np.arange(begin, end)), strict=True)
    np.testing.assert_array_equal(frames, frames_of(np.arange(begin, end)), strict=True)
    assert recording.count == end


def test_as_far_as_all_features_go(path, recorder):
    recorder("begin swmr time", "flush")
    recording = GrowingMeasurement(path)
    assert recording.shape == (40, 30)
    assert recording.dtype == np.uint8
    assert_comes(recording, 0, 0)
    recorder("image 5", "flush image")  # ahead of time
    assert_comes(recording, 0, 0)
    recorder("time 12", "flush time")  # and behind
    assert_comes(recording, 0, 5)
    recorder("image 3")  # nobody has seen these yet
    assert_comes(recording, 5, 5)
    recorder("flush")  # a chunk that grows, and moves
    assert_comes(recording, 5, 8)
    recorder("image 52", "time 48", "flush")
    assert_comes(recording, 8, 60)
    assert recording.time is None
    recorder("close")
    assert_comes(recording, 60, 60)
    np.testing.assert_array_equal(recording.time, times_of(np.arange(60)) - 5.5)


def test_of_many_frames_the_first_come_first(path, recorder, monkeypatch):
    monkeypatch.setattr(growing, "LOOK_BYTES", 40 * 30 * 20)
    recorder("begin swmr time", "image 50", "time 50", "close")
    recording = GrowingMeasurement(path)
    assert_comes(recording, 0, 20)
    assert_comes(recording, 20, 40)
    assert recording.time is None
    assert_comes(recording, 40, 50)
    assert recording.time is not None


def test_times_by_the_count_of_the_camera(path, recorder):
    recorder("begin swmr frame", "image 5", "frame 5", "flush")
    recording = GrowingMeasurement(path)
    _, times = recording.poll()
    np.testing.assert_array_equal(times, (1 + np.arange(5.0)) / 100, strict=True)
    recorder("image 2", "frame 2", "close")
    assert recording.poll()[1].tolist() == [0.06, 0.07]


def test_a_dead_writer_leaves_what_was_flushed_last(path, recorder):
    recorder("begin swmr time", "image 5", "time 5", "flush", "image 7", "time 7")
    recording = GrowingMeasurement(path)
    recorder.kill()
    assert_comes(recording, 0, 5)
    assert_comes(recording, 5, 5)
    assert recording.time is None  # who knows


def test_closed_and_opened_again_it_goes_on(path, recorder):
    recorder("begin swmr time", "image 5", "time 5", "flush")
    recording = GrowingMeasurement(path)
    assert_comes(recording, 0, 5)
    recorder("image 5", "time 5", "close", "again", "image 5", "time 5", "flush")
    assert_comes(recording, 5, 15)
    assert recording.time is None
    recorder("close")
    assert_comes(recording, 15, 15)
    assert recording.time is not None


def test_no_lock_is_in_the_way_of_the_writer(path, recorder):
    recorder("begin swmr time", "image 5", "time 5", "flush")
    recording = GrowingMeasurement(path)
    with recording._open() as measurement:
        assert measurement.is_live
        recorder("image 5", "time 5", "flush", "close", "again", "close")


@pytest.mark.parametrize("how", ["other frames", "other size", "other time", "other identifier"])
def test_replaced_while_it_is_watched(path, recorder, tmp_path, how):
    recorder("begin swmr time", "image 9", "time 9", "flush")
    recording = GrowingMeasurement(path)
    assert_comes(recording, 0, 9)
    recorder("close")
    other = tmp_path / "other"
    shutil.copyfile(path, other)
    with h5py.File(other, "r+") as h5:
        if how == "other frames":
            h5["events/image"][8, 3, 4] ^= 1
        elif how == "other time":
            h5["events/time"][8] += 0.001
        elif how == "other identifier":
            h5.attrs["experiment:run identifier"] = "another"
        else:
            del h5["events/image"]
            h5["events/image"] = np.zeros((20, 4, 5), np.uint8)
    os.replace(other, path)
    with pytest.raises(ValueError, match=r"in\.rtdc: is another recording than before"):
        recording.poll()


def test_a_copy_in_its_place_is_the_same_recording(path, recorder, tmp_path):
    recorder("begin swmr time", "image 9", "time 9", "flush")
    recording = GrowingMeasurement(path)
    assert_comes(recording, 0, 9)
    recorder("image 3", "time 3", "close")
    shutil.copyfile(path, tmp_path / "other")
    os.replace(tmp_path / "other", path)
    assert_comes(recording, 9, 12)


def test_cut_while_it_is_watched(path, recorder):
    recorder("begin swmr time", "image 200", "time 200", "flush")
    recording = GrowingMeasurement(path)
    assert_comes(recording, 0, 200)
    size = path.stat().st_size
    for left in (size // 2, size // 10):
        os.truncate(path, left)
        with pytest.raises(
            OSError, match=rf"in\.rtdc: has become shorter .*\({left:,} of {size:,}"
        ):
            recording.poll()


@pytest.mark.parametrize("left", [19, 7, 0])
def test_fewer_frames_than_were_read(path, recorder, left):
    recorder("begin swmr time", "image 20", "time 20", "flush")
    recording = GrowingMeasurement(path)
    assert_comes(recording, 0, 20)
    recorder("close")
    with h5py.File(path, "r+") as h5:
        h5["events/image"].resize(left, axis=0)
        h5["events/time"].resize(left, axis=0)
    with pytest.raises(ValueError, match=rf"become shorter .* 20 frames were read, {left} are"):
        recording.poll()


def test_features_that_differ_in_the_end_are_an_error_as_they_are_of_compute(path, recorder):
    recorder("begin swmr time", "image 20", "time 18", "close")
    with pytest.raises(ValueError, match=r"events/time: has shape \(18,\), but there are 20"):
        GrowingMeasurement(path).poll()


@pytest.mark.parametrize("mode", ["plain", "latest", "latest, which has died"])
def test_a_writer_without_swmr_cannot_be_followed(path, recorder, mode):
    recorder(f"begin {mode.split(',')[0]} time", "image 5", "time 5", "flush")
    if "died" in mode:
        recorder.kill()
    with pytest.raises(OSError, match=r"in\.rtdc: another program writes .* without SWMR mode"):
        GrowingMeasurement(path)


@pytest.mark.parametrize(
    ("images", "times", "kind", "what"),
    [
        (
            np.zeros((9, 4, 5), np.uint8),
            False,
            ValueError,
            "has neither a feature 'time', nor a feature 'frame'",
        ),
        (np.zeros((9, 4, 5), np.float32), True, TypeError, "float32 .* cannot be followed"),
        (np.zeros((9, 4, 5), np.uint32), True, TypeError, "uint32 .* cannot be followed"),
        (
            np.zeros((9, 4, 5, 3), np.uint8),
            True,
            TypeError,
            r"\(9, 4, 5, 3\), and cannot be followed",
        ),
        (None, True, ValueError, "has no dataset 'events/image'"),
    ],
    ids=["no times", "floats", "32 bits", "colours", "no images"],
)
def test_what_cannot_be_followed(path, images, times, kind, what):
    with h5py.File(path, "w") as h5:
        h5.create_group("events")
        if images is not None:
            h5["events/image"] = images
        if times:
            h5["events/time"] = np.arange(9.0)
    with pytest.raises(kind, match=what):
        GrowingMeasurement(path)
