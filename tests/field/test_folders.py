"""Folders as they are: results of other programs, recordings that go on, recorded backgrounds."""

import json
import shutil
import subprocess
import sys
from contextlib import contextmanager

import click.testing
import h5py
import numpy as np
import pytest

from sparsemed import BackgroundSparseMed, compute_background
from sparsemed.cli import main
from sparsemed.demo import make_measurement
from sparsemed.rtdc.info import info
from sparsemed.rtdc.measurement import Measurement

COUNT = 300


def invoke(*arguments):
    runner = click.testing.CliRunner()
    return runner.invoke(main, [str(each) for each in arguments], prog_name="sparsemed")


@pytest.fixture
def raw(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    make_measurement(folder / "raw.rtdc", count=COUNT)
    return folder / "raw.rtdc"


# Results of ChipStream ------------------------------------------------------------------------


@pytest.mark.parametrize("has_images", [False, True])
@pytest.mark.parametrize("name", ["raw_dcn.rtdc", "cells.rtdc"])
def test_results_of_chipstream_are_no_measurements(raw, name, has_images):
    result = raw.with_name(name)
    if has_images:
        shutil.copy(raw, result)
    else:
        with BackgroundSparseMed(raw, result) as job:
            job.process()
    with h5py.File(result, "a") as h5:  # as dcnum's pipeline writes
        h5.attrs["pipeline:dcnum generation"] = "13"
        h5.attrs["pipeline:dcnum segmenter"] = "thresh:t=-6:cle=1^f=1^clo=2"
        h5.attrs["pipeline:dcnum hash"] = "5bb6ab3e1c1a3f4e"
    run = invoke("compute", raw.parent, "--dry-run", "--json")
    assert run.exit_code == 0, run.output
    assert [json.loads(line)["input"] for line in run.stdout.splitlines()] == [str(raw)]
    run = invoke("compute", raw.parent, "-v", "--dry-run")
    assert f"{name}: skipped" in run.stderr
    if has_images:  # a file that is named is meant
        run = invoke("compute", result, "--dry-run", "--json")
        assert json.loads(run.stdout)["input"] == str(result)


# Recordings that go on ------------------------------------------------------------------------

RECORD = """
import sys, h5py, numpy as np
path, images, times = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
data = np.random.default_rng(0).integers(90, 110, (400, 40, 64), np.uint8)
with h5py.File(path, "w", libver="latest") as h5:
    h5.attrs["imaging:frame rate"] = 1000.0
    image = h5.create_dataset("events/image", (0, 40, 64), "u1", maxshape=(None, 40, 64),
                              chunks=(25, 40, 64))
    time = h5.create_dataset("events/time", (0,), "f8", maxshape=(None,), chunks=(100,))
    h5.swmr_mode = True
    def grow(images, times):
        image.resize(images, axis=0)
        image[:] = data[:images]
        time.resize(times, axis=0)
        time[:] = np.arange(times) / 100
        image.flush()
        time.flush()
    grow(images, times)
    print("ready", flush=True)
    for line in sys.stdin:
        grow(*map(int, line.split()))
        print("more", flush=True)
"""


@contextmanager
def recording(path, images, times):
    """Let another process record so that others may read meanwhile."""
    with subprocess.Popen(
        [sys.executable, "-c", RECORD, path, str(images), str(times)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def recorded(count):
    images = np.random.default_rng(0).integers(90, 110, (400, 40, 64), np.uint8)[:count]
    return compute_background(images, time=np.arange(count) / 100, kernel_size=50)


@pytest.mark.parametrize(
    ("images", "times", "whole"), [(300, 300, 300), (300, 280, 280), (275, 300, 275)]
)
def test_a_recording_is_read_as_far_as_it_goes(tmp_path, images, times, whole):
    path = tmp_path / "live.rtdc"
    with recording(path, images, times):
        found = compute_background(path, kernel_size=50)
        assert (
            f"live.rtdc: another program records into it, or died while recording; only the first "
            f"{whole} frames, which are complete, are used" in found.warnings[0]
        )
        assert info(path).time.span == pytest.approx((whole - 1) / 100)
        with BackgroundSparseMed(path, tmp_path / "out.rtdc", kernel_size=50) as job:
            job.process()
        with pytest.raises(OSError, match=r"live\.rtdc: another program records into it.*another"):
            BackgroundSparseMed(path, path)
    expected = recorded(whole)
    np.testing.assert_array_equal(found.series, expected.series)
    np.testing.assert_array_equal(found.frame_index, expected.frame_index)
    np.testing.assert_array_equal(job.background.series, expected.series)


def test_a_recording_that_grows_while_it_is_read(tmp_path):
    path = tmp_path / "live.rtdc"

    def grow(fraction):
        if fraction == 0:
            process.stdin.write("400 400\n")
            process.stdin.flush()
            assert process.stdout.readline() == "more\n"

    with recording(path, 300, 300) as process:
        found = compute_background(path, kernel_size=50, progress=grow)
        np.testing.assert_array_equal(found.series, recorded(300).series)
        again = compute_background(path, kernel_size=50)
        np.testing.assert_array_equal(again.series, recorded(400).series)


def test_a_recording_whose_program_died(tmp_path):
    path = tmp_path / "live.rtdc"
    with recording(path, 300, 300):
        pass  # killed
    found = compute_background(path, kernel_size=50)
    np.testing.assert_array_equal(found.series, recorded(300).series)
    with Measurement(path) as measurement:
        assert measurement.is_live


# Backgrounds that somebody else recorded ------------------------------------------------------


def test_a_recorded_background_that_is_replaced_is_told(raw):
    with h5py.File(raw, "a") as h5:  # as Shape-In does
        h5["events/image_bg"] = np.zeros_like(h5["events/image"])
    said = "in place of a background of unknown origin (events/image_bg)"
    run = invoke("compute", raw, "--in-place", "--dry-run")
    assert said in run.stdout
    run = invoke("compute", raw, "--in-place", "--dry-run", "--json")
    assert json.loads(run.stdout)["replaces"] in said
    run = invoke("compute", raw, "--in-place")
    assert (run.exit_code, said in run.stdout) == (0, True)
    run = invoke("compute", raw, "--in-place", "--json", "--redo")
    assert json.loads(run.stdout)["replaces"] == "sparsemed:k=200^s=1^t=0^f=0.8^o=1"
    run = invoke("compute", raw, "--in-place")
    assert "in place of" not in run.stdout  # it was ours
    run = invoke("compute", raw, "--json")
    assert json.loads(run.stdout)["replaces"] is None  # a new file
