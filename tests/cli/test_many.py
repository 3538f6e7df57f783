"""Folders, nights and clusters, as the command line has them."""

import json
import logging
import os
import re
import shutil
import subprocess
import sys
import warnings

import click.testing
import h5py
import numpy as np
import pytest
from jobs.measurements import measure

from sparsemed import compute_background
from sparsemed.cli import main


def invoke(*arguments):
    return click.testing.CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def data(tmp_path):
    """Return a folder of three, one of which is broken."""
    for name in ("a", "c"):
        measure(tmp_path / "data" / f"{name}.rtdc", seed=ord(name))
    (tmp_path / "data" / "b.rtdc").write_text("broken")
    return tmp_path / "data"


def compute(*arguments):
    return invoke("compute", *arguments, "-k", "kernel_size=7")


def statuses(*arguments):
    return [
        json.loads(line)["status"] for line in compute(*arguments, "--json").stdout.splitlines()
    ]


def test_the_same_command_again_does_what_is_left(data):
    assert statuses(data) == ["done", "failed", "done"]
    shutil.copy2(data / "a.rtdc", data / "b.rtdc")
    (data / "c_bg.rtdc").unlink()
    assert statuses(data) == ["skipped", "done", "done"]
    before = {path: path.stat().st_mtime_ns for path in data.iterdir()}
    result = compute(data)
    assert result.exit_code == 0
    line, verdict = result.stdout.splitlines()[0].split("; ")
    assert line == f"{data / 'a.rtdc'}: up to date, 24 frames, 19 kept -> {data / 'a_bg.rtdc'}"
    computed = compute(data / "a.rtdc", "-o", data.parent / "again.rtdc").stdout
    assert computed.splitlines()[0].endswith(f"; {verdict}")
    assert {path: path.stat().st_mtime_ns for path in data.iterdir()} == before
    assert statuses(data, "-k", "split_time=2") == ["done"] * 3
    assert statuses(data, "-k", "split_time=2", "--redo") == ["done"] * 3
    assert statuses(data, "-k", "split_time=2", "-n") == ["skipped"] * 3
    assert statuses(data, "-k", "split_time=2", "-n", "--redo") == ["planned"] * 3


def test_in_place_the_same_command_again_changes_nothing(data):
    (data / "b.rtdc").unlink()
    assert statuses(data, "--in-place") == ["done", "done"]
    before = (data / "a.rtdc").read_bytes()
    assert statuses(data, "--in-place") == ["skipped", "skipped"]
    assert (data / "a.rtdc").read_bytes() == before


def test_those_that_failed_are_listed_at_the_end(data):
    (data / "d.rtdc").write_text("broken, too")
    result = compute(data)
    assert result.exit_code == 1
    errors = result.stderr.splitlines()
    assert errors[2] == "2 of 4 measurements failed:"
    assert errors[3:5] == [f"  {data / 'b.rtdc'}", f"  {data / 'd.rtdc'}"]
    for error, name in zip(errors[:2], errors[3:5], strict=True):
        assert error.startswith(f"Error: {name.strip()}: cannot be read")
    assert re.fullmatch("4 measurements in [0-9.]+ s: 2 .*, 2 failed", errors[5])
    assert len(errors) == 6
    again = compute(data).stderr.splitlines()
    assert re.fullmatch("4 measurements in [0-9.]+ s: 2 up to date, 2 failed", again[-1])


def test_a_summary_beside_the_run(data, tmp_path):
    assert compute(data, "--summary", tmp_path / "night").exit_code == 1
    assert sorted(os.listdir(tmp_path / "night")) == ["index.html", "summary.csv", "summary.json"]
    page = (tmp_path / "night" / "index.html").read_text("utf-8")
    assert "All are done" in page
    assert page.count("data:image/jpeg") == 2
    compute(data, "--summary", tmp_path / "other", "--dry-run")
    assert not (tmp_path / "other").exists()


def test_a_summary_that_cannot_be_written_is_said_in_the_end(data, tmp_path, monkeypatch):
    from sparsemed.storage import disk

    written, replace = [], disk.replace

    def fill_up(path, content):
        if len(written) == 3:  # the first state fits
            raise OSError(28, f"{path}: could not be written (No space left on device)")
        replace(path, content)
        written.append(path)

    monkeypatch.setattr(disk, "replace", fill_up)
    (data / "b.rtdc").unlink()
    result = compute(data, "--summary", tmp_path / "night")
    assert result.exit_code == 1
    assert "summary.csv: could not be written" in result.stderr
    assert len(result.stdout.splitlines()) == 2
    assert "are left" not in result.stderr


def test_parts_together_do_all_of_it(data):
    parts = [statuses(data, "--shard", f"{number}/2") for number in (1, 2)]
    assert sorted(status for part in parts for status in part) == ["done", "done", "failed"]
    assert statuses(data) == ["skipped", "failed", "skipped"]
    empty = compute(data, "--shard", "9/9")
    assert (empty.exit_code, empty.output) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{data}/none"], "there is no such file or folder"),
        (["{data}/empty"], "no measurement there"),
        (["-r", "{data}", "-o", "{data}/results"], "lies in the folder"),
        (["{data}/a.rtdc", "{data}/c.rtdc", "-o", "{data}/x.rtdc"], "is the output of"),
        (["{data}", "--shard", "5/4"], "--shard 5/4: expected I/N"),
        (["{data}", "--dask", "{data}/gone.json"], "gone.json: there is no such file"),
        (["{data}", "--dask", "nonsense://x"], "no scheduler answers there"),
        (["{data}", "--summary", "{data}/a.rtdc"], "is a file"),
        (["{data}", "--summary", "{data}/a.rtdc/x"], "is no folder"),
    ],
)
def test_mistakes_are_one_line_and_nothing_is_written(data, arguments, message):
    (data / "empty").mkdir()
    before = {path: path.stat().st_mtime_ns for path in data.rglob("*")}
    result = compute(*(argument.format(data=data) for argument in arguments))
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert result.stdout == ""
    assert {path: path.stat().st_mtime_ns for path in data.rglob("*")} == before


def test_without_dask_there_is_a_line_that_says_so(data):
    code = "import sys; sys.modules['distributed'] = None; from sparsemed.cli import main; main()"
    command = [sys.executable, "-c", code, "compute", str(data), "--dask", "local"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("Error: --dask needs dask.distributed (")
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_workers_of_ones_own(data):
    command = [sys.executable, "-m", "sparsemed", "compute", data, "--dask", "local", "--json"]
    done = subprocess.run(
        [str(word) for word in [*command, "-k", "kernel_size=7", "--num-cpus", 2]],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert sorted(json.loads(line)["status"] for line in done.stdout.splitlines()) == [
        "done",
        "done",
        "failed",
    ]
    first, last, again, _ = done.stderr.splitlines()
    assert again == f"  {data / 'b.rtdc'}"
    assert first.startswith(f"Error: {data / 'b.rtdc'}: ")
    assert last == "1 of 3 measurements failed:"
    for name in "ac":
        with h5py.File(data / f"{name}_bg.rtdc") as h5:
            expected = compute_background(data / f"{name}.rtdc", kernel_size=7)
            np.testing.assert_array_equal(h5["basin_events/image_bg"], expected.images)
            np.testing.assert_array_equal(h5["events/bg_off"], expected.offsets)


@pytest.mark.slow
def test_workers_of_another_version_are_refused(data, monkeypatch):
    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr("sparsemed.executors.dask_cluster.__version__", "0.0.1")
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0"
    ) as cluster:
        result = compute(data, "--dask", cluster.scheduler_address)
    assert result.exit_code == 2
    assert "has sparsemed 0.1.0, but 0.0.1 is needed" in result.stderr
    assert sorted(os.listdir(data)) == ["a.rtdc", "b.rtdc", "c.rtdc"]


def test_a_summary_tells_how_far_a_run_came_that_was_stopped(data, tmp_path, monkeypatch):
    from sparsemed.jobs.runs import Run

    compute_one, computed = Run.compute, []

    def stop(self, *arguments, **options):
        if computed:
            raise KeyboardInterrupt
        computed.append(self)
        return compute_one(self, *arguments, **options)

    monkeypatch.setattr(Run, "compute", stop)
    shutil.copy2(data / "a.rtdc", data / "b.rtdc")
    result = compute(data, "--summary", tmp_path / "night")
    assert result.exit_code in (1, 130)
    listed = json.loads((tmp_path / "night" / "summary.json").read_text())["measurements"]
    assert [row["status"] for row in listed] == ["done", "waiting", "waiting"]
    page = (tmp_path / "night" / "index.html").read_text("utf-8")
    assert "1 of 3 are done. Repeat the command" in page


def test_what_is_missing_for_a_page_is_said_once_and_not_for_each(data, monkeypatch):
    from sparsemed.jobs.pages import Page

    asked = []

    def write(page, *_):
        asked.append(page)
        raise ImportError("a report needs matplotlib")

    monkeypatch.setattr(Page, "write", write)
    result = invoke("report", data)
    assert result.exit_code == 1
    assert len(asked) == 1
    assert result.stderr.count("a report needs matplotlib") <= 2  # where it failed, and in the end


def test_what_is_said_between_two_measurements_is_about_none(data, monkeypatch, capsys):
    """As by Dask, or by what tells of the summary."""
    from sparsemed.jobs.summary import Summary

    def add(self, result):
        logging.getLogger("sparsemed.jobs.summary").warning("the disk is nearly full")

    monkeypatch.setattr(Summary, "add", add)
    (data / "b.rtdc").unlink()
    result = compute(data, "--summary", data / "night")
    lines = [line for line in result.stderr.splitlines() if "nearly full" in line]
    assert lines == ["Warning: the disk is nearly full"] * 2


def test_warnings_of_others_are_left_to_python(monkeypatch):
    from sparsemed.cli.messages import log_lines

    shown = []
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        monkeypatch.setattr(warnings, "showwarning", lambda *about, **_: shown.append(about[:2]))
        with log_lines(logging.WARNING):
            warnings.warn("of NumPy", DeprecationWarning, stacklevel=1)
    ((message, category),) = shown
    assert (str(message), category) == ("of NumPy", DeprecationWarning)
