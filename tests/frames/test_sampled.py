import h5py
import numpy as np
import pytest

from sparsemed import BackgroundSparseMed
from sparsemed.demo import make_measurement
from sparsemed.frames.opening import open_frames
from sparsemed.frames.sampled import SampledFrames
from sparsemed.quality import assess, take_sample


def test_frames_are_kept_as_they_are_read():
    images = np.random.default_rng(0).integers(0, 255, (90, 30, 20), dtype=np.uint8)
    numbers = np.array([0, 7, 41, 89])
    frames = SampledFrames(open_frames(images, 1), numbers)
    out = np.empty((50, 30, 20), np.uint8)
    with frames.reading() as read:
        read(0, 50, out)
    np.testing.assert_array_equal(out, images[:50])
    assert frames.read.tolist() == [True, True, True, False]
    np.testing.assert_array_equal(frames.kept[:3], images[numbers[:3]])


def test_frames_that_are_kept_are_read_whole():
    images = np.random.default_rng(0).integers(0, 255, (90, 30, 20), dtype=np.uint8)
    numbers = np.array([0, 7, 41, 89])
    frames = SampledFrames(open_frames(images, 1), numbers)
    out = np.empty((50, 20, 20), np.uint8)
    with frames.reading() as read:
        read(0, 50, out)
    np.testing.assert_array_equal(out, images[:50, :20])
    assert frames.read.tolist() == [True, True, True, False]
    np.testing.assert_array_equal(frames.kept[:3], images[numbers[:3]])


@pytest.mark.parametrize("offsets", [True, False])
def test_a_job_judges_by_the_frames_that_it_came_by(tmp_path, offsets):
    make_measurement(tmp_path / "in.rtdc", count=700)
    with BackgroundSparseMed(
        tmp_path / "in.rtdc", tmp_path / "out.rtdc", offset_correction=offsets
    ) as job:
        job.process()
    again = take_sample(job.background)
    np.testing.assert_array_equal(job.sample.numbers, again.numbers)
    np.testing.assert_array_equal(job.sample.frames, again.frames)
    assert assess(job.background, job.sample) == job.background.quality(try_cures=False)


@pytest.mark.parametrize("block", [1, 7, 90])
def test_frames_to_keep_are_read_by_blocks(tmp_path, block):
    images = np.random.default_rng(0).integers(0, 255, (90, 30, 20), dtype=np.uint8)
    numbers = np.array([0, 1, 7, 41, 42, 89])
    with h5py.File(tmp_path / "a.h5", "w") as h5:
        h5.create_dataset("image", data=images, chunks=(block, 30, 20), compression="lzf")
    with h5py.File(tmp_path / "a.h5") as h5:
        frames = open_frames(h5["image"], 1)
        sampled = SampledFrames(frames, numbers)
        decoded = []
        decode = frames._decode
        frames._decode = lambda *about: (decoded.append(about[2]), decode(*about))
        sampled.read_all()
    np.testing.assert_array_equal(sampled.kept, images[numbers])
    assert sampled.read.all()
    assert sorted(decoded) == sorted(set(decoded))
