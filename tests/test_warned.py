"""What is odd about a background: said once by Python, and kept."""

import json
import logging
import threading
import warnings

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from patience import PATIENCE

import sparsemed
from sparsemed import BackgroundSparseMed, BackgroundWarning, compute_background
from sparsemed.cli import main
from sparsemed.dcnum import BackgroundSparseMed as WithinDcnum
from sparsemed.report import write_report
from sparsemed.warned import keeping_warnings, warn

IMAGES = np.random.default_rng(0).integers(80, 120, (60, 40, 30), dtype=np.uint8)
JOINED = np.tile(np.arange(30) / 10, 2)  # two recordings of 3 s
FALLS = (
    "time falls at frame 30, from 2.9 s to 0 s. If two recordings were joined there, compute them "
    "one by one; otherwise frames get backgrounds of the other recording, as these are assigned by "
    "time."
)


@pytest.fixture
def joined(tmp_path):
    path = tmp_path / "joined.rtdc"
    with h5py.File(path, "w") as h5:
        h5["events/image"] = IMAGES
        h5["events/time"] = JOINED
    return path


def test_a_result_keeps_what_was_warned_of(warned):
    background = compute_background(IMAGES, JOINED, kernel_size=9)
    assert background.warnings == tuple(warned()) == (FALLS,)
    again = compute_background(IMAGES, np.arange(60) / 10, kernel_size=9)
    assert again.warnings == ()
    assert warned() == [FALLS]


def test_a_warning_points_to_who_called():
    with pytest.warns(BackgroundWarning) as found:
        compute_background(IMAGES, JOINED, kernel_size=9)
    assert [each.filename for each in found] == [__file__]


def test_a_warning_can_be_an_error_and_then_comes_before_the_work():
    fractions = []
    with warnings.catch_warnings():
        warnings.simplefilter("error", BackgroundWarning)
        with pytest.raises(BackgroundWarning, match="time falls at frame 30"):
            compute_background(IMAGES, JOINED, kernel_size=9, progress=fractions.append)
    assert fractions == []


def test_nothing_is_logged_that_is_a_warning(joined, tmp_path, caplog):
    with BackgroundSparseMed(joined, tmp_path / "out.rtdc", kernel_size=9) as job:
        job.process()
    assert len(job.warnings) == 1
    assert "time falls" not in caplog.text


def test_a_job_says_each_thing_once(joined, tmp_path, warned):
    with BackgroundSparseMed(joined, tmp_path / "out.rtdc", kernel_size=9) as job:
        job.process_approach()
        job.process()
    assert job.warnings == job.background.warnings == tuple(warned()) == (f"{joined}: {FALLS}",)


def test_within_dcnum_it_is_logged(joined, tmp_path, warned, caplog):
    with WithinDcnum(joined, tmp_path / "out.rtdc", kernel_size=9) as job:
        job.process()
    assert job.background.warnings == (f"{joined}: {FALLS}",)
    assert warned() == []
    told = [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]
    assert told == [f"{joined}: {FALLS}"]


def test_threads_do_not_hear_each_other():
    begun, done = threading.Event(), threading.Event()
    with keeping_warnings(tell=lambda _: None) as ours:

        def work():
            with keeping_warnings(tell=lambda _: None) as theirs:
                warn("theirs")
                begun.set()
                done.wait(PATIENCE)
            assert theirs == ["theirs"]

        thread = threading.Thread(target=work)
        thread.start()
        begun.wait(PATIENCE)
        warn("ours")
        done.set()
        thread.join()
    assert ours == ["ours"]


@pytest.mark.parametrize("option", ["--json", "--quiet", None])
def test_commands_say_it_in_a_line(joined, option):
    words = ["compute", str(joined), "-k", "kernel_size=9", *([option] if option else [])]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0
    lines = done.stderr.splitlines()
    assert lines == ([] if option == "--quiet" else [f"Warning: {joined}: {FALLS}"])
    if option == "--json":
        assert json.loads(done.stdout)["warnings"] == [f"{joined}: {FALLS}"]


def test_what_failed_and_what_is_planned_tell_it_too(joined, tmp_path):
    with h5py.File(tmp_path / "broken.rtdc", "w") as h5:
        h5["events/image"] = IMAGES.astype("f4") / 7
    done = CliRunner().invoke(main, ["compute", "--json", str(tmp_path)])
    broken, whole = (json.loads(line) for line in done.stdout.splitlines())
    assert broken["status"] == "failed"
    assert [text[:16] for text in broken["warnings"]] == [
        "The times are un",
        "kernel_size 200 ",
    ]
    assert any("time falls" in text for text in whole["warnings"])
    planned = CliRunner().invoke(main, ["compute", "--json", "-n", "--redo", str(joined)])
    assert any("time falls" in text for text in json.loads(planned.stdout)["warnings"])


def test_what_is_not_copied_is_told_once(joined):
    with h5py.File(joined, "a") as h5:
        for name in ("logs/first", "logs/other"):
            h5[name] = np.array([h5["events"].ref], h5py.ref_dtype)
    done = CliRunner().invoke(main, ["compute", "--json", str(joined)])
    told = json.loads(done.stdout)["warnings"]
    parts = ["time falls", "kernel_size 200", "logs/first is not", "logs/other is not"]
    for part, text in zip(parts, told, strict=True):
        assert part in text
    assert len(done.stderr.splitlines()) == 4


def test_pages_and_tables_show_it(tmp_path):
    time = JOINED.copy()
    background = compute_background(IMAGES, time, kernel_size=9)
    write_report(background, tmp_path / "page.html", IMAGES)
    page = (tmp_path / "page.html").read_text("utf-8")
    assert f'<section id="warnings"><h2>Warnings</h2>\n<ul><li>{FALLS}</li></ul>' in page
    assert f">{FALLS}</td>" in background._repr_html_()
    turned = compute_background(IMAGES, np.arange(60)[::-1] / 10, kernel_size=9)
    assert "60 of 40 × 30, 5.9 s" in turned._repr_html_()
    plain = compute_background(IMAGES, np.arange(60) / 10, kernel_size=9)
    write_report(plain, tmp_path / "page.html", IMAGES)
    assert 'id="warnings"' not in (tmp_path / "page.html").read_text("utf-8")
    assert "warning" not in plain._repr_html_()


def test_other_warnings_are_shown_as_ever(joined, monkeypatch):
    def odd(self):
        warnings.warn("of somebody else", DeprecationWarning, stacklevel=1)

    monkeypatch.setattr("sparsemed.jobs.runs.Run.check", odd)
    with pytest.warns(DeprecationWarning, match="of somebody else"):
        done = CliRunner().invoke(main, ["compute", "--json", str(joined)])
    assert not any("somebody" in text for text in json.loads(done.stdout)["warnings"])


def test_a_good_measurement_is_nothing_to_warn_of(tmp_path):
    from sparsemed.demo import make_measurement

    make_measurement(tmp_path / "demo.rtdc")
    assert compute_background(tmp_path / "demo.rtdc").warnings == ()
    assert sparsemed.BackgroundWarning is BackgroundWarning


def test_what_is_said_again_is_told_once():
    told, kept = [], ["of an earlier call"]
    with keeping_warnings(kept, tell=told.append):
        for text in ("odd", "of an earlier call", "odd", "odder"):
            warn(text)
    assert told == ["odd", "odder"]
    assert kept == ["of an earlier call", "odd", "odder"]
