import os
import shutil
import subprocess
import sys

import click.testing
import h5py
import numpy as np
import pytest
from parity.compare import differences_of_runs

import sparsemed
from sparsemed.cli import main


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


def test_without_out_the_result_is_next_to_the_measurement(path):
    before = path.read_bytes()
    result = invoke("compute", path)
    assert result.exit_code == 0, result.output
    output = path.with_name("in_bg.rtdc")
    assert f"{output}: SparseBackground(40 frames of 24 × 16" in result.output
    assert ppid(output) == "sparsemed:k=200^s=1^t=0^f=0.8^o=1"
    assert path.read_bytes() == before


def test_parameters(path, tmp_path):
    settings = ["-k", "kernel_size=10", "-k", "split_time=0.5", "-k", "thresh_cleansing = 2"]
    settings += ["-k", "frac_cleansing=1", "-k", "offset_correction=no", "--num-cpus", 1]
    result = invoke("compute", path, tmp_path / "out.rtdc", *settings)
    assert result.exit_code == 0, result.output
    assert ppid(tmp_path / "out.rtdc") == "sparsemed:k=10^s=0.5^t=2^f=1^o=0"


def test_in_place(path):
    assert invoke("compute", path, path).exit_code == 0
    assert ppid(path)
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compute", "{in}", "-k", "kernel_size"], "-k kernel_size: expected KEY=VALUE"),
        (["compute", "{in}", "-k", "kernel=3"], "unknown parameter 'kernel'; known are"),
        (["compute", "{in}", "-k", "kernel_size=3.5"], "kernel_size: cannot read '3.5' as int"),
        (["compute", "{in}", "-k", "offset_correction=maybe"], "cannot read 'maybe' as bool"),
        (["compute", "{in}", "-k", "split_time=0"], "split_time must be a number above 0"),
        (["compute", "{in}", "-k", "split_time=1e-12"], "split_time 1e-12 s is too small"),
        (["compute", "{in}", "--num-cpus", "0"], "num_cpus must be a whole number from 1 up"),
        (["compute", "{folder}/gone.rtdc"], "gone.rtdc: there is no such file"),
        (["compute", "{folder}"], "is not a file"),
        (["compute", "."], "has an empty name"),
        (["compute", "{in}", "{folder}/gone/out.rtdc"], "out.rtdc: the folder does not exist"),
    ],
)
def test_errors_are_one_line_and_change_nothing(path, arguments, message):
    before = path.read_bytes()
    result = invoke(*(a.format(**{"in": path, "folder": path.parent}) for a in arguments))
    assert result.exit_code == 2
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
        ("events/image", np.zeros((4, 4, 4), np.int32), "images of dtype int32 are not supported"),
        ("events/deform", np.zeros(4), "has no dataset 'events/image'"),
        ("image", np.zeros(4), "has no group 'events'"),
    ],
)
def test_measurements_that_cannot_be_used(tmp_path, name, contents, message):
    path = tmp_path / "in.rtdc"
    with h5py.File(path, "w") as h5:
        h5[name] = contents
    result = invoke("compute", path)
    assert result.exit_code == 2
    assert message in result.output
    assert str(path) in result.output
    assert result.output.count("\n") == 1
    assert os.listdir(tmp_path) == [path.name]


def test_version_and_help():
    assert sparsemed.__version__ in invoke("--version").output
    for arguments in (["-h"], ["compute", "-h"], ["demo", "-h"]):
        result = invoke(*arguments)
        assert result.exit_code == 0
        assert "Usage: " in result.output
    parameters = sparsemed.BackgroundSparseMed.check_user_kwargs.__kwdefaults__
    for name in parameters:
        assert name in invoke("compute", "-h").output


# ChipStream: in processes of its own, as it sets environment variables for its workers ----------

OURS = (sys.executable, "-m", "sparsemed", "chipstream")
THEIRS = (shutil.which("chipstream-cli", path=os.path.dirname(sys.executable)),)


def run(command, *arguments):
    command = [*command, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=300)


def test_chipstream_gives_the_same(measurement, tmp_path):
    """With worker processes, in recursive mode, and with a parameter of the background."""
    (tmp_path / "in" / "deep").mkdir(parents=True)
    shutil.copy(measurement, tmp_path / "in" / "deep")
    said, outputs = [], []
    for name, command in (("theirs", THEIRS), ("ours", OURS)):
        options = ["-r", "-kb", "kernel_size=20", "--num-cpus", 2, "--verbose"]
        done = run(command, *options, tmp_path / "in", tmp_path / name)
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


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--help"], 0),
        (["--version"], 0),
        ([], 2),
        (["gone.rtdc"], 2),
        (["--", "--help"], 2),
        (["."], 1),
        (["in.rtdc", "-kb", "kernel=5"], 1),
    ],
    ids=str,
)
def test_chipstream_takes_arguments_as_they_are(path, monkeypatch, arguments, code):
    monkeypatch.chdir(path.parent)
    ours, theirs = run(OURS, *arguments), run(THEIRS, *arguments)
    assert (ours.returncode, ours.stdout) == (code, theirs.stdout)
    assert theirs.returncode == code
    assert ours.stderr.splitlines()[-1:] == theirs.stderr.splitlines()[-1:]


def test_ctrl_c_during_the_background_in_chipstream(measurement, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(f"""
import os, signal, sys, time
from unittest import mock

def press_ctrl_c(*arguments):
    time.sleep(1)  # ChipStream looks at the progress from time to time
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)

if __name__ == "__main__":
    from sparsemed.cli import main
    with mock.patch("sparsemed.median.median_images", press_ctrl_c):
        main(["chipstream", {os.fspath(measurement)!r}, "out/out.rtdc"])
""")
    done = subprocess.run(
        [sys.executable, program], cwd=tmp_path, capture_output=True, text=True, timeout=50
    )
    assert done.returncode == 1
    assert "Aborted!" in done.stderr
    assert "(background)" in done.stdout
    assert os.listdir(tmp_path / "out") == ["out.log"]


@pytest.mark.parametrize("missing", ["chipstream", "dcnum"])
def test_chipstream_that_is_not_installed(missing):
    code = f"""
import sys

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
    assert done.stderr == f'Error: {what}: pip install "sparsemed[chipstream]"\n'
