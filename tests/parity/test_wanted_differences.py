"""Where we differ from dcnum on purpose: its behaviour, and ours."""

import os
import shutil
import signal
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest
from dcnum.feat.feat_background.bg_sparse_median import BackgroundSparseMed as Theirs
from dcnum.read import HDF5Data
from dcnum.write import HDF5Writer
from parity.oracle import dcnum_background

from sparsemed import BackgroundSparseMed as Ours
from sparsemed import compute_background

pytestmark = pytest.mark.filterwarnings(
    "ignore::dcnum.write.writer.CreatingFileWithoutBasinWarning"
)


def write_measurement(path, images, times=None):
    with h5py.File(path, "w") as h5:
        h5["events/image"] = images
        if times is not None:
            h5["events/time"] = times
    return path


def drifting(count=60):
    """Frames whose brightness is their number."""
    return np.zeros((count, 40, 20), np.uint8) + np.arange(count, dtype=np.uint8)[:, None, None]


def run(cls, path, **settings):
    with (dcnum_background if cls is Theirs else cls)(path, path, **settings) as job:
        job.process()


# second run in place -------------------------------------------------------------------------

COARSE = {"kernel_size": 5, "split_time": 20, "frac_cleansing": 1}
FINE = {"kernel_size": 5, "split_time": 4, "frac_cleansing": 1}


def test_second_run_in_place_dcnum_shows_wrong_backgrounds(tmp_path):
    """Which of two basins wins is a matter of their checksums: half of the time the first."""
    wrong = 0
    for split_time in (2, 3, 5, 6, 10, 15, 20, 30):
        path = write_measurement(tmp_path / f"{split_time}.rtdc", drifting(), np.arange(60.0))
        second = FINE | {"split_time": split_time}
        run(Theirs, path, **FINE)
        run(Theirs, path, **second)
        expected = compute_background(drifting(), np.arange(60.0), **second)
        with HDF5Data(path) as data:
            assert len(data.basins) == 2
            try:
                wrong += not np.array_equal(data["image_bg"][:], expected[:])
            except IndexError:  # the old mapping leads to images that are gone
                wrong += 1
    assert 0 < wrong < 8


@pytest.mark.parametrize("first", [Theirs, Ours])
def test_second_run_in_place_replaces_the_first(tmp_path, first):
    path = write_measurement(tmp_path / "in.rtdc", drifting(), np.arange(60.0))
    run(first, path, **FINE)
    run(Ours, path, **COARSE)
    expected = compute_background(drifting(), np.arange(60.0), **COARSE)
    with HDF5Data(path) as data:
        assert len(data.basins) == 1
        np.testing.assert_array_equal(data["image_bg"][:], expected[:])
        np.testing.assert_array_equal(data["bg_off"], expected.offsets)
    with h5py.File(path) as h5:
        assert [name for name in h5["events"] if "basinmap" in name] == ["basinmap0"]
        assert set(h5) == {"events", "basins", "basin_events"}


# killed while writing in place ---------------------------------------------------------------

RUN_IN_PLACE = """
import sys
from pathlib import Path
module, path = sys.argv[1:]
if module == "dcnum":
    sys.path.insert(0, str(Path("tests").resolve()))
    from parity.oracle import dcnum_background
    opened = dcnum_background(path, path, split_time=0.1)
else:
    from sparsemed import BackgroundSparseMed
    opened = BackgroundSparseMed(path, path, split_time=0.1)
with opened as job:
    print("begin", flush=True)
    job.process()
    print("end", flush=True)
"""


def start_run(module, path):
    """Start a run in place in another process; return it when the work begins."""
    process = subprocess.Popen(
        [sys.executable, "-c", RUN_IN_PLACE, module, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "begin\n"
    return process


@pytest.fixture
def precious(tmp_path):
    """Return a measurement of the kind that RT-DC software writes, and its images."""
    images = np.random.default_rng(0).integers(0, 200, size=(400, 80, 200), dtype=np.uint8)
    path = tmp_path / "in.rtdc"
    with h5py.File(path, "w", libver="latest") as h5:
        h5["events/image"] = images
        h5["events/time"] = np.linspace(0, 10, 400)
    return path, images


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")
def test_killed_dcnum_leaves_a_broken_file(precious):
    path, _ = precious
    process = start_run("dcnum", path)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    process.stdout.close()
    with pytest.raises(OSError, match="consistency flags"):
        h5py.File(path)
    with pytest.raises(OSError, match=r"in\.rtdc: another program .* died .* h5clear --status"):
        compute_background(path)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")
def test_killed_sparsemed_leaves_the_old_or_the_new_state(precious, tmp_path):
    path, images = precious
    changed = tmp_path / "changed.rtdc"
    shutil.copyfile(path, changed)
    with start_run("sparsemed", changed) as process:
        began = time.perf_counter()
        assert process.stdout.readline() == "end\n"
        duration = time.perf_counter() - began
    with h5py.File(changed) as h5:
        new = h5["basin_events/image_bg"][:]

    for moment in np.linspace(0, 1.2, 4) * duration:
        victim = tmp_path / "victim.rtdc"
        shutil.copyfile(path, victim)
        with start_run("sparsemed", victim) as process:
            time.sleep(moment)
            process.kill()
        with h5py.File(victim) as h5:
            np.testing.assert_array_equal(h5["events/image"][:], images)
            if "basin_events" in h5:
                np.testing.assert_array_equal(h5["basin_events/image_bg"][:], new)
            else:
                assert set(h5["events"]) == {"image", "time"}
        run(Ours, victim, split_time=0.1)
        with h5py.File(victim) as h5:
            np.testing.assert_array_equal(h5["basin_events/image_bg"][:], new)


# images that are not uint8 -------------------------------------------------------------------


def test_uint16_images_keep_their_values(tmp_path):
    images = np.full((30, 40, 20), 1000, np.uint16)
    with dcnum_background(images, tmp_path / "dcnum.h5") as job:
        job.process()
        assert (job.bg_images == 1000 % 256).all()
    with Ours(images, tmp_path / "ours.h5") as job:
        job.process()
        assert job.bg_images.dtype == np.uint16
        assert (job.bg_images == 1000).all()
    with h5py.File(tmp_path / "ours.h5") as h5:
        assert h5["basin_events/image_bg"].dtype == np.uint16
        assert not h5["events/bg_off"][:].any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_whole_floats_are_taken_as_bytes(tmp_path, dtype):
    images = drifting().astype(dtype)
    with dcnum_background(images, tmp_path / "dcnum.h5", split_time=0.01) as job:
        job.process()
        expected = job.bg_images
    result = compute_background(images, split_time=0.01)
    assert result.series.dtype == np.uint8
    np.testing.assert_array_equal(result.series, expected)
    # dcnum averages float32 images in single precision; to us they are bytes
    same = compute_background(drifting(), split_time=0.01)
    np.testing.assert_array_equal(result.offsets, same.offsets)


@pytest.mark.parametrize("value", [-1.0, 256.0, 0.5, np.nan])
def test_other_floats_are_refused(tmp_path, value):
    images = drifting().astype(float)
    images[7, 3, 2] = value
    with Ours(images, tmp_path / "out.h5") as job, pytest.raises(TypeError, match="frame 7 holds"):
        job.process()
    assert not (tmp_path / "out.h5").exists()


@pytest.mark.parametrize("dtype", [bool, np.int32, np.int64, np.uint32, complex])
def test_other_dtypes_are_refused(tmp_path, dtype):
    with pytest.raises(TypeError, match=r"not supported; convert them with \.astype"):
        Ours(drifting().astype(dtype), tmp_path / "out.h5")


# time axes that break dcnum ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("images", "times", "theirs"),
    [
        (drifting(1), [0.0], Exception),
        (drifting(10), [5.0] * 10, Exception),
    ],
    ids=["one event", "all times equal"],
)
def test_without_a_duration_there_is_one_image(tmp_path, images, times, theirs):
    path = write_measurement(tmp_path / "in.rtdc", images, times)
    with (
        pytest.raises(theirs),
        np.errstate(all="ignore"),
        dcnum_background(path, tmp_path / "dcnum.rtdc") as job,
    ):
        job.process()
    with Ours(path, tmp_path / "ours.rtdc", kernel_size=3) as job:
        job.process()
        np.testing.assert_array_equal(job.bg_images, np.sort(images, axis=0)[[len(images) // 2]])
    with HDF5Data(tmp_path / "ours.rtdc") as data:
        assert not data["basinmap0"].any()


@pytest.mark.parametrize(
    ("images", "times", "message"),
    [
        (drifting(0), [], "events/image: there are no frames"),
        (drifting(3), [0, 1, np.nan], "events/time: is nan at frame 2"),
        (drifting(3), [0, np.inf, 2], "events/time: is inf at frame 1"),
        (drifting(3), [0, 1], r"events/time: has shape \(2,\), but there are 3 frames"),
    ],
    ids=["no events", "NaN", "infinite", "length"],
)
def test_impossible_time_axes_are_refused(tmp_path, images, times, message):
    path = write_measurement(tmp_path / "in.rtdc", images, times)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=rf"in\.rtdc: {message}"):
        Ours(path, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


# bad parameters ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("kernel_size", 0),
        ("split_time", 0),
        ("thresh_cleansing", -0.1),
        ("frac_cleansing", 0),
        ("frac_cleansing", 1.1),
    ],
)
def test_bad_parameters_are_value_errors(tmp_path, name, value):
    with pytest.raises(AssertionError):
        Theirs.check_user_kwargs(**{name: value})
    message = rf"{name} must be .*, got {value}"
    with pytest.raises(ValueError, match=message):
        Ours.check_user_kwargs(**{name: value})
    with pytest.raises(ValueError, match=message):
        Ours(drifting(), tmp_path / "out.h5", **{name: value})


# beyond dcnum --------------------------------------------------------------------------------


def test_offsets_of_mapped_images(tmp_path):
    raw = write_measurement(tmp_path / "raw.rtdc", drifting(30))
    mapping = np.arange(60) // 2
    path = tmp_path / "in.rtdc"
    with HDF5Writer(path, mode="w") as writer:
        writer.h5["events/time"] = np.arange(60.0)
        writer.store_basin("frames", paths=[raw], features=["image"], mapping=mapping)
    with pytest.raises(IndexError), dcnum_background(path, tmp_path / "dcnum.rtdc") as job:
        job.process()
    with Ours(path, tmp_path / "ours.rtdc", **COARSE) as job:
        job.process()
        offsets = job.background.offsets
    expected = compute_background(drifting(30)[mapping], np.arange(60.0), **COARSE)
    np.testing.assert_array_equal(offsets, expected.offsets)


def test_a_relative_input_path_is_not_lost(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    write_measurement(tmp_path / "data" / "in.rtdc", drifting(), np.arange(60.0))
    monkeypatch.chdir(tmp_path)
    with dcnum_background("data/in.rtdc", "data/dcnum.rtdc") as job:
        job.process()
    with Ours("data/in.rtdc", "data/ours.rtdc") as job:
        job.process()
    with HDF5Data("data/dcnum.rtdc") as data:
        assert "image" not in data
    with HDF5Data("data/ours.rtdc") as data:
        np.testing.assert_array_equal(data["image"][:], drifting())
