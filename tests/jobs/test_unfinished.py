"""Outputs that are empty, cut off, or left behind: written anew, or told to be removed."""

import os
import re
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from jobs.measurements import measure
from parity.compare import differences

from sparsemed import BackgroundSparseMed, compute_background, compute_files, load
from sparsemed.jobs.selection import choose_runs
from sparsemed.rtdc.info import info
from sparsemed.rtdc.measurement import Measurement
from sparsemed.rtdc.unfinished import is_unfinished

SETTINGS = {"kernel_size": 7}


@pytest.fixture
def path(tmp_path):
    return measure(tmp_path / "data" / "M001.rtdc", count=200)


@pytest.fixture
def result(path):
    save_judged(path, path.with_name("M001_bg.rtdc"))
    return path.with_name("M001_bg.rtdc")


def save_judged(path, output):
    """Save a background with what `compute` finds, too."""
    background = compute_background(path, **SETTINGS)
    background.save(output, findings=background.quality(try_cures=False))


def cut(path, part):
    os.truncate(path, int(path.stat().st_size * part))


def compute(path, output):
    (found,) = compute_files(path, output, **SETTINGS)
    return found


def test_an_output_that_was_made_beforehand_is_written(path, tmp_path):
    output = tmp_path / "out.rtdc"
    output.touch()
    assert compute(path, output).status == "done"
    save_judged(path, tmp_path / "expected.rtdc")
    assert not differences(output, tmp_path / "expected.rtdc")
    output.write_bytes(b"")
    with BackgroundSparseMed(path, output, **SETTINGS) as job:
        job.process()
    output.write_bytes(b"")
    compute_background(path, **SETTINGS).save(output)


@pytest.mark.parametrize("part", [0.6, 0.9, 0.999])
def test_half_a_result_is_computed_anew(path, result, tmp_path, part):
    expected = tmp_path / "expected.rtdc"
    expected.write_bytes(result.read_bytes())
    cut(result, part)
    with pytest.raises(OSError, match=r"is a result, but .* is truncated .*; remove it and"):
        load(result)
    with pytest.raises(OSError, match="is a result, but"):
        Measurement(result)
    (found,) = compute_files(path.parent, **SETTINGS)  # it is no measurement
    assert (found.input, found.status) == (path, "done")
    assert not differences(result, expected)


@pytest.mark.parametrize("size", [0, 500])
def test_what_is_a_result_by_its_name_alone_may_be_a_measurement(path, result, size):
    os.truncate(result, size)
    what = "truncated (500 of" if size else "empty (0 bytes)"
    for read in (load, info):
        with pytest.raises(OSError, match=re.escape(f"{result}: cannot be read as")) as caught:
            read(result)
        first, second = str(caught.value).split("; if it is a ")[1:]
        assert f"it is {what}" in str(caught.value)
        assert first == "result, as its name says, remove it and compute it again"
        assert second == "measurement, copy it again from its origin"
    os.truncate(path, size)
    with pytest.raises(OSError, match=r"; copy it again from its origin$"):
        info(path)


def test_a_result_that_is_no_file_of_hdf5_may_be_anything(result):
    result.write_bytes(b"precious")
    with pytest.raises(OSError, match="cannot be read as an HDF5 file") as caught:
        info(result)
    assert "remove" not in str(caught.value)


def others(path, way):
    """Leave behind what is no result, or may be more than one."""
    if way == "half a measurement":
        measure(path, count=2000)
        cut(path, 0.5)
    elif way == "half a measurement with a background":
        measure(path, count=2000)
        compute_background(path, **SETTINGS).save(path, in_place=True)
        cut(path, 0.99)
    elif way == "something else":
        path.write_bytes(b"precious")
    else:
        code = (
            "import h5py, os, sys; h5 = h5py.File(sys.argv[1], 'w', libver='latest')\n"
            "h5['events/deform'] = range(200); h5.flush(); os._exit(1)"
        )
        subprocess.run([sys.executable, "-c", code, str(path)], check=False)


WAYS = [
    "half a measurement",
    "half a measurement with a background",
    "something else",
    "of a writer that was killed",
]


@pytest.mark.parametrize("way", WAYS)
def test_what_may_be_precious_is_left_and_no_advice_for_inputs_is_given(path, tmp_path, way):
    output = tmp_path / "out.rtdc"
    others(output, way)
    before = output.read_bytes()
    assert not is_unfinished(output)
    found = compute(path, output)
    assert found.status == "failed"
    assert f": {output}: " in found.error
    assert "remove it and run again, or write to another file" in found.error
    assert "copy it again" not in found.error
    assert "h5clear" not in found.error
    assert output.read_bytes() == before


def test_a_broken_file_beside_its_measurement_is_no_measurement(path):
    path.with_name("M001_bg.rtdc").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(99))
    path.with_name("M002_bg.rtdc").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(99))
    runs = choose_runs([path.parent])
    # of the other one nobody knows what it is
    assert [run.source.name for run in runs] == ["M001.rtdc", "M002_bg.rtdc"]


def test_in_a_folder_of_measurements_that_cannot_be_told(tmp_path):
    empty = tmp_path / "M001_bg.rtdc"
    empty.touch()
    assert is_unfinished(empty)
    assert not is_unfinished(tmp_path)
    assert not is_unfinished(Path("gone.rtdc"))


@pytest.mark.skipif(os.name == "nt", reason="no file is open twice there")
def test_in_place_while_this_program_has_it_open(path):
    before = path.read_bytes()
    with h5py.File(path) as held, BackgroundSparseMed(path, path, **SETTINGS) as job:
        with pytest.raises(
            OSError, match=r"M001\.rtdc: is open elsewhere in this program: close the"
        ):
            job.process()
        assert path.read_bytes() == before
        held.close()
        job.process()
    with h5py.File(path, "a") as h5:
        h5["events/userdef1"] = np.zeros(200)
        found = compute_background(path, **SETTINGS)  # reading goes on
    assert len(found) == 200
