import logging
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import h5py
import numpy as np
import pytest
from dcnum.read import get_mapped_object
from dcnum.write import HDF5Writer
from hdf5.files import files_open
from parity.compare import differences

import sparsemed
from sparsemed import BackgroundSparseMed
from sparsemed.rtdc.basins import read_basins
from sparsemed.rtdc.identity import DIGEST_ATTRIBUTE


def images(count=40):
    return np.random.default_rng(0).integers(50, 90, size=(count, 24, 16), dtype=np.uint8)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "in.rtdc"
    with h5py.File(path, "w") as h5:
        h5["events/image"] = images()
        h5["events/time"] = np.arange(40.0)
    return path


def test_attributes_that_dcnum_users_read(path, tmp_path):
    with BackgroundSparseMed(
        str(path), str(tmp_path / "out.rtdc"), kernel_size=100, num_cpus=3
    ) as job:
        assert job.kernel_size == 40
        assert job.kwargs == {
            "kernel_size": 100,
            "split_time": 1.0,
            "thresh_cleansing": 0,
            "frac_cleansing": 0.8,
            "offset_correction": True,
        }
        assert (job.split_time, job.thresh_cleansing, job.frac_cleansing) == (1.0, 0, 0.8)
        assert job.offset_correction is True
        assert job.num_cpus == 3
        assert (job.image_count, job.image_shape, job.duration) == (40, (24, 16), 39)
        assert job.output_path == tmp_path / "out.rtdc"
        assert job.bg_images.shape == (39, 24, 16)
        assert not job.bg_images.any()
        assert isinstance(job.logger, logging.Logger)
        np.testing.assert_array_equal(job.input_data[3:5], images()[3:5])


def test_the_input_can_be_read_after_work_in_place(path):
    with BackgroundSparseMed(path, path) as job:
        job.process()
        np.testing.assert_array_equal(job.input_data[:], images())


def test_frames_are_passed_over_in_ranges_by_others(path, tmp_path):
    alone, apart = tmp_path / "alone.rtdc", tmp_path / "apart.rtdc"
    with BackgroundSparseMed(path, alone, kernel_size=5) as job:
        job.process()
        sample = job.sample
    fractions = []
    with (
        ThreadPoolExecutor(2) as pool,
        BackgroundSparseMed(path, apart, kernel_size=5, executor=pool, ranges=3) as job,
    ):
        job.process(fractions.append)
        np.testing.assert_array_equal(job.sample.numbers, sample.numbers)
        np.testing.assert_array_equal(job.sample.frames, sample.frames)
    assert not differences(alone, apart)
    assert fractions[0] == 0
    assert fractions[-1] == 1
    with (
        ThreadPoolExecutor(2) as pool,
        BackgroundSparseMed(images(), apart, kernel_size=5, executor=pool, ranges=3) as job,
    ):
        job.process_approach()
        np.testing.assert_array_equal(job.sample.frames, sample.frames)
    for wrong in ({"executor": 4}, {"ranges": 0}):
        with pytest.raises((TypeError, ValueError), match=r"^(executor|ranges) must be a"):
            BackgroundSparseMed(path, apart, **wrong)


def test_it_computes_what_compute_background_computes(path, tmp_path):
    settings = {"kernel_size": 7, "split_time": 3, "thresh_cleansing": 0.2, "frac_cleansing": 0.6}
    with BackgroundSparseMed(path, tmp_path / "out.rtdc", **settings) as job:
        result = job.process_approach()
        assert not (tmp_path / "out.rtdc").exists()
        assert result is job.background
    for source in (path, images()):
        other = sparsemed.compute_background(source, np.arange(40.0), **settings)
        for name in ("images", "frame_index", "offsets", "series", "kept", "score", "step_times"):
            np.testing.assert_array_equal(getattr(result, name), getattr(other, name))


def test_process_and_save_write_the_same_but_for_the_paths_of_the_measurement(path, tmp_path):
    with BackgroundSparseMed(path, tmp_path / "job.rtdc", kernel_size=5) as job:
        job.process()
    sparsemed.compute_background(path, kernel_size=5).save(tmp_path / "saved.rtdc")
    digest, said = differences(tmp_path / "job.rtdc", tmp_path / "saved.rtdc")
    assert DIGEST_ATTRIBUTE in digest
    assert said.startswith("/basins: ")
    records = []
    for name in ("job.rtdc", "saved.rtdc"):
        with h5py.File(tmp_path / name) as h5:
            records.append({basin.name: dict(basin.record) for basin in read_basins(h5)})
    paths = [each["in.rtdc"].pop("paths") for each in records]
    assert paths == [[f"{path}"], [f"{path}", "in.rtdc"]]
    assert records[0] == records[1]


def test_nothing_is_written_before_process(path, tmp_path):
    with BackgroundSparseMed(path, tmp_path / "out.rtdc"):
        pass
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_an_interrupted_run_changes_nothing(path, monkeypatch, error):
    before = path.read_bytes()

    def interrupt(*arguments):
        raise error

    with BackgroundSparseMed(path, path) as job:
        monkeypatch.setattr("sparsemed.method.series.median_images", interrupt)
        with pytest.raises(error):
            job.process()
        assert job.get_progress() < 1
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_progress_never_falls(path, tmp_path, monkeypatch):
    seen = []
    with BackgroundSparseMed(path, tmp_path / "out.rtdc") as job:
        note = job._note_progress
        monkeypatch.setattr(
            job, "_note_progress", lambda done: (note(done), seen.append(job.get_progress()))
        )
        job.process()
    assert seen == sorted(seen)
    assert seen[0] == 0


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"kernel_size": 2.5}, ValueError, "kernel_size must be a whole number from 1 up .*2.5"),
        ({"kernel_size": True}, ValueError, "kernel_size"),
        ({"split_time": np.inf}, ValueError, "split_time must be a number above 0"),
        ({"split_time": "1"}, ValueError, "split_time .* got '1'"),
        ({"thresh_cleansing": np.nan}, ValueError, "thresh_cleansing"),
        ({"offset_correction": 2}, ValueError, "offset_correction must be True or False, got 2"),
        ({"num_cpus": 0}, ValueError, "num_cpus must be a whole number from 1 up, got 0"),
        ({"kernelsize": 3}, TypeError, "kernelsize"),
    ],
)
def test_bad_parameters(path, tmp_path, settings, error, message):
    with pytest.raises(error, match=message):
        BackgroundSparseMed(path, tmp_path / "out.rtdc", **settings)
    assert os.listdir(tmp_path) == [path.name]


def test_the_output_is_checked_before_the_work(path, tmp_path):
    with pytest.raises(FileNotFoundError, match="the folder does not exist"):
        BackgroundSparseMed(path, tmp_path / "gone" / "out.rtdc")
    (tmp_path / "notes.txt").write_text("precious")
    with pytest.raises(OSError, match=r"notes\.txt: cannot be read as an HDF5 file"):
        BackgroundSparseMed(path, tmp_path / "notes.txt")
    assert (tmp_path / "notes.txt").read_text() == "precious"


def test_the_measurement_is_closed_after_an_error(path, tmp_path):
    with pytest.raises(FileNotFoundError):
        BackgroundSparseMed(path, tmp_path / "gone" / "out.rtdc")
    with h5py.File(path, "a"):
        pass


def spoil(path, output, way):
    """Make one thing wrong; return the settings of the job that is to be refused."""
    with h5py.File(path, "a") as h5:
        if way == "no images":
            del h5["events/image"]
        elif way == "floats":
            del h5["events/image"]
            h5["events/image"] = images() + 0.5j
        elif way == "times":
            h5["events/time"][3] = np.nan
        elif way == "too many steps":
            return {"split_time": 1e-9}
        elif way == "output of another":
            h5.attrs["experiment:run identifier"] = "me"
    with h5py.File(output, "w") as h5:
        h5["events/deform"] = np.zeros(3 if way == "other output" else 40)
        h5.attrs["experiment:run identifier"] = "you"
    return {"basins": "on"} if way == "policy" else {}


@pytest.mark.parametrize(
    "way",
    [
        "no images",
        "floats",
        "times",
        "too many steps",
        "policy",
        "other output",
        "output of another",
    ],
)
def test_a_job_that_is_refused_leaves_nothing_open_and_nothing_changed(path, tmp_path, way):
    output = tmp_path / "out.rtdc"
    settings = spoil(path, output, way)
    before = {each.name: each.read_bytes() for each in tmp_path.iterdir()}
    try:
        BackgroundSparseMed(path, output, **settings)
    except (ValueError, TypeError):
        left_open = files_open()  # while the error still holds on to the job
    assert left_open.isdisjoint({str(path), str(output)})
    assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == before


@pytest.mark.parametrize("fails", [False, True])
def test_progress_is_told_to_nobody_once_its_job_is_done(path, tmp_path, monkeypatch, fails):
    monkeypatch.setattr("sparsemed.progress.PAUSE", 0)
    told = []

    def tell(fraction):
        told.append(fraction)
        if fails and fraction:
            raise KeyboardInterrupt

    with BackgroundSparseMed(path, tmp_path / "out.rtdc") as job:
        with pytest.raises(KeyboardInterrupt) if fails else nullcontext():
            job.process(tell)
        assert (told[0], told[-1]) == (0, 0.99 if fails else 1)
        told.clear()
        job.process_approach()
        job.process()
    assert told == []


@pytest.mark.parametrize("shape", [(40,), (40, 5), (40, 5, 5, 3)])
def test_images_of_the_wrong_rank(tmp_path, shape):
    with h5py.File(tmp_path / "in.rtdc", "w") as h5:
        h5["events/image"] = np.zeros(shape, np.uint8)
    with pytest.raises(ValueError, match=r"in\.rtdc: events/image: shape must be \(N, H, W\)"):
        BackgroundSparseMed(tmp_path / "in.rtdc", tmp_path / "out.rtdc")


def test_a_job_can_be_tried_again(path, tmp_path, monkeypatch):
    def fail(*arguments, **options):
        raise OSError("full")

    output = tmp_path / "out.rtdc"
    with BackgroundSparseMed(path, output) as job:
        with monkeypatch.context() as patch:
            patch.setattr("sparsemed.jobs.job.write_background", fail)
            with pytest.raises(OSError, match="full"):
                job.process()
        assert not output.exists()
        np.testing.assert_array_equal(job.input_data[:], images())
        job.process()
    assert output.exists()
    with pytest.raises(ValueError, match=r"in\.rtdc: the job is over"):
        job.process()


def test_mapped_images_are_seen_through_the_mapping(tmp_path):
    mapping = np.arange(40)[::-1].copy()
    with HDF5Writer(tmp_path / "in.rtdc", mode="w") as writer:
        writer.store_basin("frames", internal_data={"image": images()}, mapping=mapping)
    with BackgroundSparseMed(tmp_path / "in.rtdc", tmp_path / "out.rtdc") as job:
        assert job.input_data.shape == (40, 24, 16)
        np.testing.assert_array_equal(job.input_data[3:7], images()[mapping][3:7])


def test_the_frame_rate_counts_only_where_time_is_unknown(path, tmp_path):
    known = sparsemed.compute_background(path, frame_rate=1.0)
    np.testing.assert_array_equal(known.time, np.arange(40.0))
    with h5py.File(path, "a") as h5:
        del h5["events/time"]
        h5["events/frame"] = np.arange(40) * 3
    guessed = sparsemed.compute_background(path, frame_rate=2.0)
    np.testing.assert_array_equal(guessed.time, np.arange(40) * 1.5)
    with h5py.File(path, "a") as h5:
        h5.attrs["imaging:frame rate"] = "fast"
    with pytest.raises(ValueError, match=r"in\.rtdc: frame rate must be a number .* got 'fast'"):
        BackgroundSparseMed(path, tmp_path / "out.rtdc")


def test_the_guess_at_the_time_of_an_array_is_a_warning(tmp_path, warned):
    frames = np.broadcast_to(images(), (1200, 40, 24, 16)).reshape(-1, 24, 16)
    with BackgroundSparseMed(frames, tmp_path / "out.rtdc") as job:
        assert job.duration == len(frames) / 3600 * 1.5
    expected = "The times are unknown: 2400 frames per second are assumed, a duration of 20.0 s"
    assert warned() == [*job.warnings] == [expected]


def test_dcnum_s_mapped_datasets_are_arrays(path):
    with h5py.File(path) as h5:
        mapped = get_mapped_object(h5["events/image"], np.arange(40)[::-1].copy())
        found = sparsemed.compute_background(mapped, np.arange(40.0))
    expected = sparsemed.compute_background(images()[::-1], np.arange(40.0))
    np.testing.assert_array_equal(found.series, expected.series)


def test_who_listened_to_one_call_does_not_hear_the_next(tmp_path):
    told = []
    images = np.full((40, 24, 16), 90, np.uint8)
    with BackgroundSparseMed(images, tmp_path / "out.rtdc", kernel_size=7) as job:
        job.process(told.append)
        assert told[-1] == 1
        told.clear()
        job.process_approach()
        job.process()
    assert told == []
