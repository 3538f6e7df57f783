"""What docs/pipelines.md says to those who call sparsemed from their programs."""

import ast
import logging
import os
import re
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pytest

import sparsemed
from sparsemed import BackgroundSparseMed, BackgroundWarning, compute_background

ROOT = Path(sparsemed.__file__).parent
PAGE = (ROOT.parent / "docs" / "pipelines.md").read_text("utf-8")
IMAGES = np.random.default_rng(0).integers(80, 120, (300, 40, 60), dtype=np.uint8)
TIME = np.arange(300) / 20


@pytest.fixture
def path(tmp_path):
    with h5py.File(tmp_path / "in.rtdc", "w") as h5:
        h5.create_dataset("events/image", data=IMAGES, chunks=(50, 40, 60))
        h5["events/time"] = TIME
    return tmp_path / "in.rtdc"


class CancelledError(Exception):
    pass


@pytest.mark.parametrize("at", [0.0, 0.3, 0.98])
@pytest.mark.parametrize("output", ["in.rtdc", "out.rtdc"])
@pytest.mark.parametrize("kind", [CancelledError, KeyboardInterrupt])
def test_raising_cancels(path, monkeypatch, at, output, kind):
    monkeypatch.setattr("sparsemed.progress.PAUSE", 0)  # so that there is time in between
    before, error, callers = path.read_bytes(), kind("by the user"), set()

    def stop(fraction):
        callers.add(threading.current_thread())
        if fraction >= at:
            raise error

    with (
        pytest.raises(kind) as raised,
        BackgroundSparseMed(path, path.with_name(output), kernel_size=50) as job,
    ):
        job.process(stop)
    assert raised.value is error
    assert callers == {threading.current_thread()}
    assert not [each for each in threading.enumerate() if each.name.startswith("sparsemed-")]
    assert os.listdir(path.parent) == [path.name]
    assert path.read_bytes() == before


def test_one_means_that_it_is_written(path):
    def stop(fraction):
        if fraction == 1:
            raise CancelledError

    with (
        pytest.raises(CancelledError),
        BackgroundSparseMed(path, path.with_name("out.rtdc"), kernel_size=50) as job,
    ):
        job.process(stop)
    assert path.with_name("out.rtdc").exists()


def test_the_table_of_loggers_is_that_of_the_program():
    rows = re.findall(r"^\| `(sparsemed\.[\w.]+)` \| ([A-Z]+) \|", PAGE, re.M)
    found = set()
    for file in ROOT.rglob("*.py"):
        name = ".".join(file.relative_to(ROOT.parent).with_suffix("").parts)
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            said, level = ast.unparse(node.func.value), node.func.attr.upper()
            if said in ("logger", "self.logger") and level in logging.getLevelNamesMapping():
                jobs = "sparsemed.BackgroundSparseMed"  # where the logger is the job's
                found.add((jobs if said.startswith("self") else name, level))
    within_dcnum = {("sparsemed.BackgroundSparseMed", "WARNING")}
    assert set(rows) == found - within_dcnum


def test_warnings_can_go_to_a_log(caplog):
    logging.captureWarnings(True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", BackgroundWarning)
            # pytest keeps what is shown, so that it must be shown anew
            warnings.showwarning = logging._showwarning
            compute_background(IMAGES, TIME, kernel_size=301)
    finally:
        logging.captureWarnings(False)
    assert "kernel_size 301 is more than the 300 frames" in caplog.text


def test_nothing_but_frames_time_and_parameters_counts(tmp_path, path):
    first = compute_background(IMAGES, TIME, kernel_size=50, num_cpus=1)
    whole = {name: getattr(first, name) for name in ("series", "images", "offsets", "score")}
    others = [
        compute_background(IMAGES, TIME, kernel_size=50, num_cpus=3),
        compute_background(np.asfortranarray(IMAGES), TIME, kernel_size=50),
        compute_background(path, kernel_size=50, num_cpus=2),
    ]
    with ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(compute_background, path, kernel_size=50) for _ in range(2)]
        others += [call.result() for call in calls]
    for other in others:
        for name, expected in whole.items():
            np.testing.assert_array_equal(getattr(other, name), expected, strict=True)


@pytest.mark.parametrize(
    ("work", "kind"),
    [
        (lambda path: compute_background(path, kernel_size=0), ValueError),
        (lambda _: compute_background(IMAGES.astype("i4"), TIME), TypeError),
        (lambda path: compute_background(path.with_name("gone.rtdc")), FileNotFoundError),
        (lambda path: compute_background(path).save(path.parent / "gone" / "x.rtdc"), OSError),
    ],
)
def test_exceptions_are_of_the_kind_that_is_said(path, work, kind):
    with pytest.raises(kind) as raised:
        work(path)
    assert "\n" not in str(raised.value)
    assert f"`{kind.__name__}`" in PAGE


def test_no_handlers_and_no_levels_are_set(path, tmp_path):
    def state():
        known = logging.Logger.manager.loggerDict.values()
        ours = [e for e in known if isinstance(e, logging.Logger) and e.name.startswith("spars")]
        return {each.name: (each.level, tuple(each.handlers)) for each in ours}

    with BackgroundSparseMed(path, tmp_path / "out.rtdc", kernel_size=50) as job:
        job.process()
    assert set(state().values()) == {(logging.NOTSET, ())}
