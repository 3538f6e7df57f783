import contextlib
import dataclasses
import json
import logging
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from unittest import mock

import click.testing
import h5py
import numpy as np
import pytest
import tifffile
from parity.compare import differences_of_runs
from patience import PATIENCE

import sparsemed
from sparsemed.cli import main
from sparsemed.cli.info import _rows_of
from sparsemed.cli.results import Ending, span
from sparsemed.hdf5.journal import pack
from sparsemed.hdf5.opening import open_untouched
from sparsemed.install_hint import how_to_install
from sparsemed.jobs.file_result import FileResult
from sparsemed.printable import printable
from sparsemed.quality import Finding
from sparsemed.rtdc.basins import file_record, store_record
from sparsemed.rtdc.info import info
from sparsemed.storage import disk


def invoke(*arguments):
    return click.testing.CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "in.rtdc"
    images = np.random.default_rng(0).integers(50, 90, size=(40, 24, 16), dtype=np.uint8)
    with h5py.File(path, "w") as h5:
        h5["events/image"] = images
        h5["events/time"] = np.arange(40.0)
    return path


def ppid(path):
    with h5py.File(path) as h5:
        return h5["basin_events/image_bg"].attrs["dcnum ppid background"]


def test_the_result_is_next_to_the_measurement(path):
    before = path.read_bytes()
    for _ in range(2):  # the second time, the result is replaced
        result = invoke("compute", path, "--redo")
        assert result.exit_code == 0, result.output
        output = path.with_name("in_bg.rtdc")
        assert re.fullmatch(
            rf"{path}: 40 frames, 39 windows, 39 kept, [0-9.]+ s, [0-9]+ MB/s -> {output}; "
            "(good|look here: .*|cannot tell: .*)\n",
            result.stdout,
        )
        assert "Warning: " in result.stderr
        assert f"{path}: kernel_size 200 is more than the 40 frames" in result.stderr
        assert ppid(output) == "sparsemed:k=200^s=1^t=0^f=0.8^o=1"
        assert path.read_bytes() == before
        assert sorted(os.listdir(path.parent)) == ["in.rtdc", "in_bg.rtdc"]


def test_parameters(path, tmp_path):
    settings = ["-k", "kernel_size=10", "-k", "split_time=1.5", "-k", "thresh_cleansing = 2"]
    settings += ["-k", "frac_cleansing=1", "-k", "offset_correction=no", "--num-cpus", 1]
    result = invoke("compute", path, "-o", tmp_path / "out.rtdc", *settings)
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    assert ppid(tmp_path / "out.rtdc") == "sparsemed:k=10^s=1.5^t=2^f=1^o=0"


def test_the_end_says_verdicts_and_time_of_several_unless_only_errors_are_wanted(path):
    shutil.copy(path, path.with_name("too.rtdc"))
    options = ["compute", path.parent, "-k", "kernel_size=9"]
    assert re.fullmatch(r"2 measurements in [0-9.]+ s: (2|1 .*, 1) .*\n", invoke(*options).stderr)
    assert invoke(*options, "--quiet").output == ""
    assert invoke(*options, "--dry-run").stderr == ""
    assert invoke("compute", path, "-k", "kernel_size=9").stderr == ""


def test_long_times_are_in_minutes_and_hours():
    assert [span(seconds) for seconds in (0.26, 59.9, 60, 3599, 3600, 36061)] == [
        "0.3 s",
        "59.9 s",
        "1 min 0 s",
        "59 min 59 s",
        "1 h 0 min",
        "10 h 1 min",
    ]


@pytest.mark.parametrize("options", [[], ["-o", "{folder}"], ["-o", "{folder}/x.rtdc"]])
def test_a_folder_that_is_read_only_is_not_the_end(path, monkeypatch, options):
    monkeypatch.setattr(disk, "can_create_in", lambda _: False)  # root may write everywhere
    options = [option.format(folder=path.parent) for option in options]
    result = invoke("compute", path, *options)
    assert result.exit_code == 1
    assert result.stderr.endswith(": the folder is read-only; choose another output with -o\n")


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (["compute", "{path}", "--summary", "{folder}"], "--summary"),
        (["compute", "{path}", "--summary", "{folder}/new/one"], "--summary"),
        (["demo", "--out", "{folder}/new"], "--out"),
    ],
)
def test_an_overview_and_the_demo_name_the_option_that_leads_elsewhere(
    path, monkeypatch, arguments, option
):
    monkeypatch.setattr(disk, "can_create_in", lambda _: False)  # root may write everywhere
    result = invoke(*(each.format(path=path, folder=path.parent) for each in arguments))
    assert result.exit_code == 1
    assert re.fullmatch(
        rf"Error: {re.escape(str(path.parent))}: the folder is read-only; "
        rf"choose another folder with {option}\n",
        result.output,
    )
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("command", ["compute", "info", "report", "watch", "recover"])
def test_a_slip_in_a_name_is_answered_with_the_name_that_is_there(path, command):
    result = invoke(command, path.with_suffix(".rtd"))
    assert "in.rtd: there is no such file" in result.stderr
    assert f"; did you mean {path}?" in result.stderr


def test_where_it_cannot_be_told_the_line_says_why(path):
    result = invoke("compute", path, "-k", "kernel_size=20")
    assert re.search(r"; cannot tell: .* so that nothing can be compared: ", result.stdout)


def test_files_of_other_kinds_are_not_made_folders(path):
    result = invoke("compute", path, "-o", path.with_name("out.tif"))
    assert result.exit_code == 2
    assert "out.tif: the name must end in .rtdc, .h5, .hdf5, not in .tif" in result.stderr
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("size", [0, 5000])
@pytest.mark.parametrize("command", ["compute", "info", "report"])
def test_empty_and_truncated_files_are_called_that(path, command, size):
    whole = path.stat().st_size
    os.truncate(path, size)
    result = invoke(command, path)
    assert result.exit_code == 1
    what = f"cannot be read as an HDF5 file: it is truncated (5,000 of {whole:,} bytes are there)"
    what = what if size else "cannot be read as an HDF5 file: it is empty (0 bytes)"
    assert f"{path}: {what}; copy it again" in result.stderr


def test_info_of_a_folder_takes_all_that_is_in_it(path):
    assert invoke("compute", path, "-q").exit_code == 0
    (path.parent / "deep").mkdir()
    (path.parent / "deep" / "broken.rtdc").write_text("no HDF5")
    result = invoke("info", path.parent)
    assert result.exit_code == 0
    said = [line for line in result.output.splitlines() if line.startswith("measurement")]
    assert [line.split()[1] for line in said] == [f"{path}", f"{path.with_name('in_bg.rtdc')}"]
    result = invoke("info", "-r", path.parent, "--json")
    assert result.exit_code == 1
    assert len(result.stdout.splitlines()) == 3
    *_, failed, which = result.stderr.splitlines()
    assert failed == "1 of 3 files failed:"
    assert which == f"  {path.parent / 'deep' / 'broken.rtdc'}"


@pytest.mark.parametrize("option", ["--quiet", "--verbose"])
def test_a_command_leaves_the_logger_as_it_was(path, option):
    logger = logging.getLogger("sparsemed")
    before = logger.level, list(logger.handlers)
    assert invoke("compute", path, option).exit_code == 0
    assert (logger.level, logger.handlers) == before


def test_in_place(path):
    assert invoke("compute", path, "--in-place").exit_code == 0
    assert ppid(path)
    assert os.listdir(path.parent) == [path.name]


def test_folders_and_files_with_one_that_fails(path, tmp_path):
    folder = tmp_path / "data"
    (folder / "deep").mkdir(parents=True)
    shutil.copy(path, folder / "a.rtdc")
    shutil.copy(path, folder / "deep" / "c.rtdc")
    (folder / "b.rtdc").write_text("broken")
    results = tmp_path / "results"
    result = invoke("compute", "-r", folder, path, "-o", results, "-k", "kernel_size=9")
    assert result.exit_code == 1
    lines = [line.partition(";")[0] for line in result.stdout.splitlines()]
    assert [line.rpartition(" -> ")[2] for line in lines] == [
        f"{results / name}" for name in ("a_bg.rtdc", "deep/c_bg.rtdc", "in_bg.rtdc")
    ]
    error, failed, which, last = result.stderr.splitlines()
    assert error.startswith(f"Error: {folder / 'b.rtdc'}: cannot be read as an HDF5 file")
    assert failed == "1 of 4 measurements failed:"
    assert which == f"  {folder / 'b.rtdc'}"
    assert re.fullmatch(r"4 measurements in [0-9.]+ s: (3 .*|1 .*, 2 .*), 1 failed", last)
    assert ppid(results / "deep" / "c_bg.rtdc") == "sparsemed:k=9^s=1^t=0^f=0.8^o=1"


def test_json(path, tmp_path):
    (tmp_path / "z.rtdc").write_text("broken")
    result = invoke("compute", tmp_path, "--json", "-k", "kernel_size=9", "-q")
    assert result.exit_code == 1
    done, failed = map(json.loads, result.stdout.splitlines())
    assert done.pop("seconds") > 0
    assert done.pop("megabytes_per_second") > 0
    findings = done.pop("findings")
    assert {finding["verdict"] for finding in findings} >= {done.pop("verdict")}
    assert all(set(finding) == set(Finding._fields) for finding in findings)
    assert done == {
        "input": f"{path}",
        "output": f"{tmp_path / 'in_bg.rtdc'}",
        "status": "done",
        "frames": 40,
        "height": 24,
        "width": 16,
        "windows": 39,
        "kept": 31,
        "ppid": "sparsemed:k=9^s=1^t=0^f=0.8^o=1",
        "replaces": None,
        "warnings": [],
    }
    assert failed["status"] == "failed"
    assert failed["input"] == f"{tmp_path / 'z.rtdc'}"
    assert failed["error"] in result.stderr


@pytest.mark.parametrize(
    ("arguments", "output", "change"),
    [
        ([], "in_bg.rtdc", "new file"),
        (["--in-place"], "in.rtdc", "into the measurement itself"),
        (["-o", "{folder}/old.h5"], "old.h5", "into the existing file"),
        (["-o", "{folder}/results"], "results/in_bg.rtdc", "new file"),
    ],
)
def test_dry_run_does_nothing(path, arguments, output, change):
    with h5py.File(path.with_name("old.h5"), "w") as h5:
        h5.create_group("events")
    before = {each: each.read_bytes() for each in path.parent.iterdir()}
    arguments = [a.format(folder=path.parent) for a in arguments]
    options = [path, *arguments, "--dry-run", "-k", "kernel_size=7"]
    result = invoke("compute", *options)
    assert result.exit_code == 0, result.output
    assert result.output == (
        "pipeline identifier: sparsemed:k=7^s=1^t=0^f=0.8^o=1\n"
        f"{path}: 40 frames of 24 × 16, 39 windows of 7 frames "
        f"-> {path.parent / output} ({change})\n"
    )
    plan = json.loads(invoke("compute", *options, "--json").stdout)
    assert (plan["status"], plan["ppid"]) == ("planned", "sparsemed:k=7^s=1^t=0^f=0.8^o=1")
    assert {each: each.read_bytes() for each in path.parent.iterdir()} == before


@pytest.mark.parametrize("way", ["another measurement", "another number", "images of its own"])
def test_dry_run_refuses_what_the_run_refuses(path, way):
    output = path.with_name("out.rtdc")
    with h5py.File(path, "a") as ours, h5py.File(output, "w") as theirs:
        ours.attrs["experiment:run identifier"] = "me"
        theirs.attrs["experiment:run identifier"] = "you" if way == "another measurement" else "me"
        theirs["events/deform"] = np.zeros(39 if way == "another number" else 40)
        if way == "images of its own":
            theirs["events/image"] = ours["events/image"][:]
    before = output.read_bytes()
    run, dry = (invoke("compute", path, "-o", output, *options) for options in ([], ["-nq"]))
    assert (run.exit_code, dry.exit_code) == (1, 1)
    assert f"{output}: " in run.stderr
    assert dry.stderr == run.stderr
    assert output.read_bytes() == before
    assert sorted(os.listdir(path.parent)) == ["in.rtdc", "out.rtdc"]


def test_dry_run_finds_what_would_fail(path):
    missing = path.parent / "gone" / "out.rtdc"
    result = invoke("compute", path, "-o", missing, "-n")
    assert result.exit_code == 1
    assert "out.rtdc: the folder does not exist" in result.stderr
    (path.parent / "notes").write_text("precious")
    for output in ("notes", "notes/deep/er"):
        result = invoke("compute", path, "-o", path.parent / output, "-n")
        assert result.exit_code == 1
        assert f"{path.parent / 'notes'}: is no folder" in result.stderr


def test_the_plan_is_what_is_done(path):
    with h5py.File(path, "a") as h5:
        h5["events/time"][:] = 3.0
    planned = json.loads(invoke("compute", path, "-n", "--json", "-q").stdout)
    done = json.loads(invoke("compute", path, "--json", "-q").stdout)
    assert (planned["windows"], planned["frames_per_window"]) == (1, 40)
    same = ("input", "output", "frames", "height", "width", "windows", "ppid")
    assert [planned[name] for name in same] == [done[name] for name in same]


def test_quiet_and_verbose(path):
    quiet = invoke("compute", path, "--quiet")
    assert (quiet.exit_code, quiet.output) == (0, "")
    verbose = invoke("compute", path, "--verbose", "--redo")
    assert f"Info: {path}: Cleansing keeps 39 of 39 background images" in verbose.stderr
    assert logging.getLogger("sparsemed").handlers == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{in}", "-k", "kernel_size"], "-k kernel_size: expected KEY=VALUE"),
        (["{in}", "-k", "kernel_sie=3"], "'kernel_sie'; did you mean 'kernel_size'?"),
        (["{in}", "-k", "kernel_size=3.5"], "kernel_size: cannot read '3.5' as a whole number"),
        (["{in}", "-k", "split_time=0,5"], "'0,5' as a number; the decimal mark is a point: 0.5"),
        (["{in}", "-k", "offset_correction=maybe"], "cannot read 'maybe' as true or false"),
        (["{in}", "--num-cpus", "-1"], "got -1; leave it out for all cores"),
        (["{in}", "-k", "split_time=0"], "split_time must be a number above 0"),
        (["{in}", "--num-cpus", "0"], "num_cpus must be a whole number from 1 up"),
        (["{in}", "-q", "-v"], "--quiet and --verbose exclude each other"),
        (["{in}", "--in-place", "-o", "out.rtdc"], "--output and --in-place exclude each other"),
        (["{folder}/gone.rtdc"], "gone.rtdc: there is no such file"),
        (["{in}", "{folder}/out.rtdc"], "--output says where results go"),
        (["{in}", "{in}"], "is given twice; to add the background to the measurement itself"),
    ],
)
def test_mistakes_are_one_line_and_nothing_is_done(path, arguments, message):
    check_error(path, arguments, message, status=2)


@pytest.mark.parametrize("command", ["compute", "report"])
@pytest.mark.parametrize(
    ("option", "meant"),
    [
        (["--kernel-size", "9"], "Parameters are set with -k: -k kernel_size=VALUE"),
        (["--split_tme=9"], "Parameters are set with -k: -k split_time=VALUE"),
        (["--num-cpu", "9"], "Did you mean '--num-cpus'?"),
        (["--xyz", "9"], "No such option '--xyz'."),
    ],
)
def test_a_slip_in_an_option_is_answered_with_what_is_meant(path, command, option, meant):
    result = invoke(command, path, *option)
    assert result.exit_code == 2
    said = result.stderr.splitlines()[-1]
    marks = str.maketrans("", "", "':.")  # versions of click set them differently
    assert said.translate(marks).endswith(meant.translate(marks))
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize(
    "arguments",
    [
        ["compute", ""],
        ["compute", "in.rtdc", ""],
        ["compute", "", "--in-place"],
        ["compute", "in.rtdc", "-o", ""],
        ["info", ""],
        ["report", ""],
        ["report", "in.rtdc", "-o", ""],
        ["recover", ""],
        ["demo", "--out", ""],
    ],
    ids=" ".join,
)
def test_an_empty_path_is_not_the_current_folder(path, arguments, monkeypatch):
    """It is what a shell makes of "$file" where there is no such variable."""
    monkeypatch.chdir(path.parent)
    before = path.read_bytes()
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert result.stderr.endswith("the path is empty; the current folder is '.'\n")
    assert path.read_bytes() == before
    assert os.listdir() == [path.name]


@pytest.mark.skipif(os.name == "nt", reason="permissions")
def test_a_file_that_may_not_be_read_does_not_stop_the_others(path, monkeypatch):
    """Click asks the system beforehand, and would take it for a mistake in the command line."""
    locked = path.with_name("locked.rtdc")
    shutil.copy(path, locked)

    def access(file, mode, real=os.access, **options):
        return os.path.basename(file) != locked.name and real(file, mode, **options)

    def open_unless_locked(file):
        if os.path.basename(file) == locked.name:
            raise PermissionError(f"{file}: may not be read")
        return open_untouched(file)

    monkeypatch.setattr(os, "access", access)  # root may read all
    monkeypatch.setattr("sparsemed.hdf5.opening.open_untouched", open_unless_locked)
    for command in (["compute", "-k", "kernel_size=9"], ["info"]):
        result = invoke(*command, locked, path)
        assert result.exit_code == 1
        assert f"Error: {locked}: may not be read" in result.stderr.splitlines()
        assert f"{path}" in result.stdout
    assert invoke("recover", locked, path).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{in}", "-k", "split_time=1e-12"], "split_time 1e-12 s is too small"),
        (["{in}", "-o", "{folder}/gone/out.rtdc"], "out.rtdc: the folder does not exist"),
        (["{in}", "-o", "{in}"], "in.rtdc: holds images of its own, and is not changed"),
        (["{in}", "-o", "{in}/results"], "in.rtdc: is no folder; an output without the ending of"),
    ],
)
def test_failures_are_one_line_and_change_nothing(path, arguments, message):
    check_error(path, arguments, message, status=1)


def check_error(path, arguments, message, status):
    before = path.read_bytes()
    arguments = [a.format(**{"in": path, "folder": path.parent}) for a in arguments]
    result = invoke("compute", "-k", "kernel_size=9", *arguments)
    assert result.exit_code == status
    assert result.output.startswith("Error: ")
    assert message in result.output
    assert result.output.count("\n") == 1
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize(
    ("name", "contents", "message"),
    [
        ("events/image", np.zeros((0, 4, 4), np.uint8), "events/image: there are no frames"),
        ("events/image", np.zeros((4, 4), np.uint8), "events/image: shape must be"),
        ("events/image", np.zeros((4, 4, 4), np.int32), "frames of dtype int32 are not supported"),
        ("events/deform", np.zeros(4), "has no dataset 'events/image'"),
        ("image", np.zeros(4), "has no group 'events'"),
    ],
)
def test_measurements_that_cannot_be_used(tmp_path, name, contents, message):
    path = tmp_path / "in.rtdc"
    with h5py.File(path, "w") as h5:
        h5[name] = contents
    result = invoke("compute", path)
    assert result.exit_code == 1
    assert message in result.output
    assert str(path) in result.output
    assert result.output.count("\n") == 1
    assert os.listdir(tmp_path) == [path.name]


def test_version_and_help():
    assert sparsemed.__version__ in invoke("--version").output
    for command in ("compute", "info", "recover", "demo", "chipstream"):
        assert f"  {command} " in invoke("--help").output
    for arguments in (["-h"], ["compute", "-h"], ["info", "-h"], ["demo", "-h"]):
        result = invoke(*arguments)
        assert result.exit_code == 0
        assert "Usage: " in result.output
        assert max(map(len, result.output.splitlines())) <= 80
    parameters = sparsemed.BackgroundSparseMed.check_user_kwargs.__kwdefaults__
    for name in parameters:
        assert name in invoke("compute", "-h").output


def test_examples_of_the_help_are_understood(path, monkeypatch):
    monkeypatch.chdir(path.parent)
    (path.parent / "data").mkdir()
    shutil.copy(path, "data")
    said = invoke("compute", "--help").output
    examples = re.findall(r"^ +sparsemed (compute .*?)   ", said, re.MULTILINE)
    assert len(examples) >= 6
    for example in examples:
        if "://" in example:  # nothing leaves this machine
            continue
        arguments = example.replace("*", "in").split()
        result = invoke(*arguments, "--dry-run")
        assert result.exit_code == 0, result.output
        assert "-> " in result.output


def test_info_in_words_and_for_machines(path):
    assert invoke("compute", path, "-q").exit_code == 0
    output = path.with_name("in_bg.rtdc")
    result = invoke("info", path, output)
    assert result.exit_code == 0, result.output
    raw, computed = result.output.split("\n\n")
    assert "images       40 frames of 24 × 16 pixels, uint8\n             this file: events/" in raw
    assert "fast path    yes" in raw
    assert "time         39.000 s from first to last frame" in raw
    assert "background   none" in raw
    assert f"file basin: {path}: events/image" in computed
    assert "sparsemed:k=200^s=1^t=0^f=0.8^o=1, 39 images, with offsets" in computed
    lines = invoke("info", "--json", path, output).output.splitlines()
    assert [json.loads(line)["path"] for line in lines] == [f"{path}", f"{output}"]
    assert json.loads(lines[1])["backgrounds"][0]["count"] == 39
    assert json.loads(lines[0])["verdict"] is None
    assert json.loads(lines[0])["findings"] == []


def test_info_says_what_was_found_of_a_result(path):
    background = sparsemed.compute_background(path)
    output = path.with_name("in_bg.rtdc")
    poor = Finding("left", "What is left", 3.0, "3 grey values", "look here", "…", "Wait.")
    fine = Finding("change", "Change", float("nan"), "none", "good", "…", "")
    background.save(output, findings=[fine, poor])
    said = invoke("info", output).output
    assert (
        "verdict      look here\n"
        "             look here: What is left: 3 grey values\n"
        "               → Wait.\n"
        "basin "
    ) in said
    told = json.loads(invoke("info", "--json", output).output)
    assert told["verdict"] == "look here"
    assert told["findings"] == [fine._replace(value=None)._asdict(), poor._asdict()]
    background.save(output, findings=[fine])
    assert re.search(r"\nverdict +good\nbasin ", invoke("info", output).output)
    facts = info(output)
    two = dataclasses.replace(facts, backgrounds=2 * facts.backgrounds)
    titles = [title for title, _ in _rows_of(two, "good", [fine])]
    assert titles.index("verdict") < titles.index("hidden background")
    assert titles.count("verdict") == 1  # it is of the background that counts
    background.save(output)
    assert "verdict" not in invoke("info", output).output


def test_each_line_of_info(tmp_path, monkeypatch):
    """Two files, of which the first has all that can be told, and the second nothing."""
    monkeypatch.chdir(tmp_path)
    images = np.random.default_rng(0).integers(0, 4096, (1200, 30, 20), np.uint16)
    with h5py.File("raw.rtdc", "w") as h5:
        h5.create_dataset(
            "events/image",
            data=images,
            chunks=(100, 30, 20),
            compression=4,
            shuffle=True,
        )
        h5["events/image_bg"] = images
        h5["events/bg_off"] = np.zeros(1200)
        h5.attrs["imaging:frame rate"] = 2000.0
    with h5py.File("in.rtdc", "w") as h5:
        h5["events/basinmap2"] = np.arange(1200) // 2
        h5["events/time"] = np.r_[np.arange(1199) * 2.0, 2390]
        h5["events/image_bg"] = images
        h5["events/image_bg"].attrs["dcnum ppid background"] = "romed:b=5"
        h5.attrs["imaging:frame rate"] = 2000.0
        record = file_record("a\x1bb", None, ["raw.rtdc"], ["image", "image_bg", "bg_off"], None)
        store_record(h5, record | {"mapping": "basinmap2"}, {})
        store_record(h5, {"name": "c", "type": "ftp"}, {})
    with h5py.File("z.rtdc", "w") as h5:
        h5.create_group("events")
    with h5py.File("raw.rtdc") as h5:
        stored = h5["events/image"].id.get_storage_size() / 1e6
    size, raw = os.path.getsize("in.rtdc") / 1e6, "raw.rtdc"
    result = invoke("info", "in.rtdc", "z.rtdc")
    assert result.exit_code == 0, result.output
    assert result.output == (
        f"measurement        in.rtdc ({size:.1f} MB)\n"
        "images             1,200 frames of 30 × 20 pixels, uint16\n"
        f"                   file basin, mapped: {raw}: events/image\n"
        f"stored as          chunks of 100 × 30 × 20, shuffle, gzip 4, {stored:.1f} MB\n"
        "fast path          yes\n"
        "time               2,390.000 s from first to last frame\n"
        "                   from stored times (events/time)\n"
        "                   falls between some frames\n"
        "frame rate         2000 Hz\n"
        "background         romed:b=5, 1,200 images, without offsets\n"
        "                   this file: events/image_bg\n"
        "hidden background  unknown pipeline, 1,200 images, with offsets\n"
        f"                   file basin, mapped: {raw}: events/image_bg\n"
        "basin              'a\\x1bb' (file): image, image_bg, bg_off, mapped by basinmap2\n"
        f"                   {raw}\n"
        "basin              'c' (ftp): all its features\n"
        "                   basins of this type are unknown, and not followed\n"
        "\n"
        "measurement  z.rtdc (0.0 MB)\n"
        "images       none\n"
        "background   none\n"
        "problem      z.rtdc: has no dataset 'events/image'\n"
    )


def test_info_of_what_is_no_measurement(path):
    path.with_name("notes.rtdc").write_text("precious")
    result = invoke("info", path.with_name("notes.rtdc"), path, "--json")
    assert result.exit_code == 1
    assert "notes.rtdc: cannot be read as an HDF5 file" in result.stderr
    broken, fine = map(json.loads, result.stdout.splitlines())
    assert "error" in broken
    assert fine["images"]["count"] == 40


def run_in_terminal(*arguments):
    """Run the command with a terminal as stderr; return status, stdout and what it showed."""
    pty, termios = pytest.importorskip("pty"), pytest.importorskip("termios")
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 100))
    command = [sys.executable, "-m", "sparsemed", *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # how Linux says that the terminal is closed
            while part := os.read(ours, 65536):
                shown += part
        os.close(ours)
        said = process.stdout.read().decode()
    return process.returncode, said, shown.decode()


def test_the_bar_is_for_terminals(path):
    status, said, shown = run_in_terminal("compute", path, "-k", "kernel_size=9")
    assert status == 0
    assert "40 frames, 39 windows" in said
    assert "in.rtdc:   0%|" in shown
    assert "40.0/40.0 [" in shown
    assert "frames/s]" in shown
    assert shown.rstrip("\r").endswith(" ")  # the bar is gone
    assert run_in_terminal("compute", path, "--quiet") == (0, "", "")
    frames = np.zeros((60, 40, 60), np.uint8)
    tifffile.imwrite(path.with_name("film.tif"), frames, metadata={"axes": "ZYX"})
    arguments = (path.with_name("film.tif"), "-o", path.with_name("out.tif"), "--fps", "9")
    shown = run_in_terminal("compute", *arguments)[2]
    assert "60.0/60.0 [" in shown
    assert shown.count("(z) is taken as time") == 1
    assert "%|" not in run(OURS[:-1], "compute", path).stderr


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_ctrl_c(path, tmp_path):
    code = """
import os, signal, sys
from unittest import mock
from sparsemed.cli import main

def press_ctrl_c(*arguments):
    os.kill(os.getpid(), signal.SIGINT)

with mock.patch("sparsemed.method.series.median_images", press_ctrl_c):
    main()
"""
    before = path.read_bytes()
    done = run([sys.executable, "-c", code], "compute", path, "--in-place", "-k", "kernel_size=9")
    assert done.returncode == 130
    assert done.stderr == "Interrupted: no file is half written\n"
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [path.name]


needs_full = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")


@needs_full
@pytest.mark.parametrize("arguments", [["--help"], ["info", "in.rtdc"]], ids=" ".join)
def test_output_that_cannot_be_written(path, arguments):
    """Neither a traceback nor, where output is kept in a buffer, what Python says at the end."""
    for unbuffered in ("", "1"):
        with open("/dev/full", "w") as full:
            done = subprocess.run(
                [sys.executable, "-m", "sparsemed", *arguments],
                cwd=path.parent,
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
            )
        said = "Error: the output cannot be written: [Errno 28] No space left on device\n"
        assert (done.returncode, done.stderr) == (1, said)


@needs_full
def test_warnings_that_cannot_be_written(path):
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "sparsemed", "compute", path]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=full, text=True)
    assert done.returncode == 0
    assert "39 kept" in done.stdout


@pytest.mark.skipif(os.name == "nt", reason="pipes of POSIX")
@pytest.mark.parametrize("arguments", [["info", "in.rtdc"], ["demo"]], ids=" ".join)
def test_a_pipe_that_nobody_reads(path, arguments):
    ours, theirs = os.pipe()
    os.close(ours)
    done = subprocess.run(
        [sys.executable, "-m", "sparsemed", *arguments],
        cwd=path.parent,
        stdout=theirs,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": ""},
    )
    os.close(theirs)
    assert (done.returncode, done.stderr) == (1, "")


@needs_full
def test_a_stop_that_cannot_be_said():
    code = """
import os, signal
from unittest import mock
from sparsemed.cli import main

with mock.patch("sparsemed.rtdc.info.info", lambda *_: os.kill(os.getpid(), signal.SIGTERM)):
    main(["info", "in.rtdc"])
"""
    with open("/dev/full", "w") as full:
        assert subprocess.run([sys.executable, "-c", code], stderr=full).returncode == 143


def test_completion_in_bash():
    bash = shutil.which("bash") or pytest.skip("there is no bash")
    script = """
eval "$(_SPARSEMED_COMPLETE=bash_source sparsemed)"
complete -p sparsemed
for words in "sparsemed com" "sparsemed compute --dry"; do
    COMP_WORDS=($words); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); COMPREPLY=()
    _sparsemed_completion sparsemed
    echo "${COMPREPLY[@]}"
done
"""
    commands = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
    done = subprocess.run(
        [bash, "-c", script], env=os.environ | {"PATH": commands}, capture_output=True, text=True
    )
    assert done.stdout.splitlines()[1:] == ["compute", "--dry-run"], done.stderr
    assert "-F _sparsemed_completion sparsemed" in done.stdout


# ChipStream: in processes of its own, as it sets environment variables for its workers ----------


@pytest.mark.parametrize("name", ["in.rtdc", os.fsdecode(b"in\xff.rtdc")])
def test_recover(path, monkeypatch, name):
    """Of three files, one was being changed when the program was killed; one is missing."""
    if sys.platform != "linux" and not name.isprintable():
        pytest.skip("names are text here")
    path = path.rename(path.with_name(name))
    other, missing = path.with_name("other.rtdc"), path.with_name("missing.rtdc")
    shutil.copy(path, other)
    before, at_the_kill = path.read_bytes(), {}

    def remove(journal, real=disk.remove):
        at_the_kill.update({each: each.read_bytes() for each in path.parent.iterdir()})
        real(journal)

    monkeypatch.setattr(disk, "remove", remove)
    assert invoke("compute", path, "--in-place", "-q").exit_code == 0
    for each, content in at_the_kill.items():
        each.write_bytes(content)
    assert len(at_the_kill) == 3
    result = invoke("recover", other, missing, path)
    assert result.exit_code == 1
    assert result.stdout == f"{other}: nothing to undo\n{printable(path)}: restored\n"
    assert result.stderr == f"Error: {missing}: there is no such file\n"
    assert path.read_bytes() == before
    assert sorted(os.listdir(path.parent)) == [name, "other.rtdc"]
    assert invoke("recover", path).exit_code == 0
    assert invoke("recover").exit_code == 2
    assert f"{path.parent}: is not a file" in invoke("recover", path.parent).stderr


def test_recover_what_was_changed_meanwhile(path):
    journal = path.with_name("in.rtdc.sparsemed-journal")
    journal.write_bytes(pack(10, 0, [(0, b"old", b"new")]))
    before = path.read_bytes()
    result = invoke("recover", path)
    assert result.exit_code == 1
    assert f"{path}: was changed after an interrupted change" in result.stderr
    assert (path.read_bytes(), journal.exists()) == (before, True)


OURS = (sys.executable, "-m", "sparsemed", "chipstream")
THEIRS = (shutil.which("chipstream-cli", path=os.path.dirname(sys.executable)),)


def run(command, *arguments):
    command = [*command, *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, encoding="utf-8", timeout=PATIENCE
    )


@pytest.mark.slow
def test_chipstream_gives_the_same(measurement, tmp_path):
    """With worker processes, in recursive mode, and with a parameter of the background."""
    (tmp_path / "in" / "deep").mkdir(parents=True)
    shutil.copy(measurement, tmp_path / "in" / "deep")
    said, outputs = [], []
    for name, command in (("theirs", THEIRS), ("ours", OURS)):
        options = ["-r", "-kb", "kernel_size=20", "--limit-events", 60, "--num-cpus", 2]
        done = run(command, *options, "--verbose", tmp_path / "in", tmp_path / name)
        assert done.returncode == 0, done.stdout + done.stderr
        said.append(
            [line for line in done.stdout.splitlines() if not line.startswith("Processing")]
        )
        outputs.append(tmp_path / name / "deep" / "in_dcn.rtdc")
        assert (f"This is sparsemed {sparsemed.__version__}" in done.stderr) == (name == "ours")
    assert said[0] == said[1]
    assert "Background ID:\tsparsemed:k=20^s=1^t=0^f=0.8^o=1" in said[0]
    with h5py.File(outputs[1]) as h5:
        assert {"mask", "deform", "tex_asm_avg", "bg_off"} <= set(h5["events"])
        assert f"Pipeline hash:\t{h5.attrs['pipeline:dcnum hash']}" in said[0]
    assert differences_of_runs(*outputs) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--help"], 0),
        pytest.param(["--version"], 0, marks=pytest.mark.soak),
        pytest.param([], 2, marks=pytest.mark.soak),
        pytest.param(["gone.rtdc"], 2, marks=pytest.mark.soak),
        (["--", "--help"], 2),
        (["."], 1),
    ],
    ids=str,
)
def test_chipstream_takes_arguments_as_they_are(path, monkeypatch, arguments, code):
    monkeypatch.chdir(path.parent)
    ours, theirs = run(OURS, *arguments), run(THEIRS, *arguments)
    assert ours.returncode == theirs.returncode == code
    named = re.sub(
        "^(Usage: )?chipstream-cli", r"\1sparsemed chipstream", theirs.stdout, flags=re.M
    )
    assert ours.stdout == named
    assert ours.stderr.splitlines()[-1:] == theirs.stderr.splitlines()[-1:]


@pytest.mark.parametrize("method", [[], ["-b", "sparsemed"], ["--background-method", "copy"]])
@pytest.mark.parametrize(
    "slip", ["kernel_sie=150", "kernel_size=a", "kernel_size", "kernel_size=0"]
)
def test_chipstream_answers_a_slip_in_a_parameter_as_compute_does(path, method, slip):
    arguments = [path, *method, "-kb", slip]
    with mock.patch("chipstream.cli.cli_main.chipstream_cli") as theirs:
        result = invoke("chipstream", *arguments)
    if "copy" in method:
        theirs.assert_called_once_with([*map(str, arguments)], prog_name="main chipstream")
        return
    theirs.assert_not_called()
    assert result.exit_code == 2
    said = invoke("compute", path, "-k", slip).stderr
    assert "kernel_size" in said
    assert result.stderr == said


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_ctrl_c_during_the_background_in_chipstream(measurement, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(f"""
import os, signal, sys, threading, time
from unittest import mock

is_said = threading.Event()

def say(*words, **how):
    print(*words, **how)
    if "(background)" in "".join(words):
        is_said.set()

def press_ctrl_c(*arguments):
    is_said.wait({PATIENCE})  # ChipStream looks at the progress from time to time
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep({PATIENCE})

if __name__ == "__main__":
    from sparsemed.cli import main
    with (
        mock.patch("sparsemed.kernels.median.median_images", press_ctrl_c),
        mock.patch("chipstream.cli.cli_proc.print", say, create=True),
    ):
        main(["chipstream", {os.fspath(measurement)!r}, "out/out.rtdc"])
""")
    done = subprocess.run(
        [sys.executable, program], cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 1
    assert "Aborted!" in done.stderr
    assert "(background)" in done.stdout
    assert os.listdir(tmp_path / "out") == ["out.log"]


@pytest.mark.parametrize("missing", ["chipstream", "dcnum"])
def test_chipstream_that_is_not_installed(missing):
    code = f"""
import sys
from pathlib import Path
from unittest import mock

class Missing:
    def find_spec(name, *_):
        if name == {missing!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing)
from sparsemed.cli import main
main(["chipstream", "in.rtdc"])
"""
    done = run([sys.executable, "-c", code])
    assert done.returncode == 2
    what = f"ChipStream cannot be imported (No module named '{missing}')"
    needs = how_to_install("chipstream[cli]", "dcnum==0.31.*")
    assert done.stderr == f"Error: {what}: {needs}\n"


@pytest.mark.parametrize("name", ["in.rtdc", "gone.rtdc", "folder of mine"])
def test_a_file_in_place_of_a_command_is_answered_with_compute(path, monkeypatch, name):
    monkeypatch.chdir(path.parent)
    os.mkdir("folder of mine")
    result = invoke(name)
    assert result.exit_code == 2
    assert f"Error: {name} is not a command; to compute its background: sparsemed compute " in (
        result.stderr
    )
    assert shlex.split(result.stderr.splitlines()[-1])[-1] == name
    assert "No such command 'nonsense'" in invoke("nonsense").stderr


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "cp1251", "latin-1:strict"])
def test_what_cannot_be_shown_does_not_end_a_batch(path, encoding):
    names = ["Zürich.rtdc", "測定.rtdc", "η.rtdc"]
    for name in names:
        shutil.copy(path, path.with_name(name))
    path.with_name("ж.rtdc").write_text("broken")
    options = {"cwd": path.parent, "env": {**os.environ, "PYTHONIOENCODING": encoding}}
    command = [sys.executable, "-m", "sparsemed", "compute", ".", "-k", "kernel_size=5"]
    done = subprocess.run([*command, "-v"], capture_output=True, **options)
    assert done.returncode == 1  # for the broken one alone
    assert done.stdout.count(b" -> ") == 4
    assert b"1 of 5 measurements failed" in done.stderr
    done = subprocess.run([*command, "--json"], capture_output=True, **options)
    rows = [json.loads(line) for line in done.stdout.decode("ascii").splitlines()]
    assert {row["input"] for row in rows} == {*names, "ж.rtdc", "in.rtdc"}


def test_json_has_no_nan(path, tmp_path):
    def refuse(name):
        raise AssertionError(name)

    with h5py.File(path, "r+") as h5:
        h5.attrs["imaging:frame rate"] = np.nan
    for command in (["compute", path, "--json"], ["info", path, "--json"]):
        out = invoke(*command).stdout
        assert "NaN" not in out
        for line in out.splitlines():
            json.loads(line, parse_constant=refuse)


def test_a_single_window_is_one(path):
    assert "1 window, 1 kept" in invoke("compute", path, "-k", "split_time=100").stdout
    assert (
        "1 window of 40 frames"
        in invoke("compute", "-n", "--redo", path, "-k", "split_time=99").stdout
    )


def test_the_ending_says_what_took_the_time_besides_computing(capsys):
    ending = Ending()
    for seconds in (1.0, 2.0):
        ending.add(FileResult(Path("in"), Path("out"), "done", "", seconds=seconds, verdict="good"))
    with mock.patch("time.perf_counter", return_value=ending._began + 6):
        ending.show(with_verdicts=True)
    text = "2 measurements in 6.0 s (computing 3.0 s, the rest opening and judging): 2 good\n"
    assert capsys.readouterr().err == text
