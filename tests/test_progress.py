import logging
import subprocess
import sys
import threading
from time import sleep

import numpy as np
import pytest
from patience import PATIENCE

from sparsemed import BackgroundSparseMed, progress
from sparsemed.demo import make_measurement
from sparsemed.progress import bar, following, holding_up


class Clock:
    """A clock that goes on only when it is told to."""

    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("sparsemed.progress.perf_counter", clock)
    return clock


def test_no_more_than_20_reports_in_any_second(clock):
    times, seen = [], []

    def note(fraction):
        times.append(clock.now)
        seen.append(fraction)

    with following(note, 100) as report:
        for number in range(10_001):
            report(number / 10_000)
            clock.now += 0.00037
    assert (seen[0], seen[-1]) == (0, 1)
    assert seen == sorted(set(seen))
    most = max(sum(start <= time < start + 1 for time in times) for start in times)
    assert 15 <= most <= 20
    assert len(seen) > 60  # in 3.7 s, so it did go on


def test_quick_work_reports_its_beginning_and_its_end(clock):
    seen = []
    with following(seen.append, 3) as report:
        for fraction in (0.0, 0.5, 1.0):
            report(fraction)
    assert seen == [0, 1]
    assert {type(fraction) for fraction in seen} == {float}


def test_work_that_fails_never_reports_its_end(clock):
    def work():
        with following(seen.append, 3) as report:
            clock.now += 1
            report(0.5)
            clock.now += 1
            report(1.0)
            raise OSError

    seen = []
    with pytest.raises(OSError):  # noqa: PT011
        work()
    assert seen == [0, 0.5]


@pytest.mark.parametrize("nothing", [None, False])
def test_nobody_asked(nothing, capsys):
    with following(nothing, 3) as report:
        report(0.5)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("wrong", [0, 1, "yes", np.zeros(3)])
def test_what_is_no_progress(wrong):
    with pytest.raises(TypeError, match="progress must be True, None, or a callable"):  # noqa: SIM117
        with following(wrong, 3):
            raise AssertionError


def test_the_bar_shows_frames_a_second_and_the_time_that_remains(clock, capsys):
    with following(True, 2000) as report:
        clock.now += 1
        report(0.25)
        early = capsys.readouterr().err
        clock.now += 1
        report(0.5)
    said = early + capsys.readouterr().err
    assert " 25%|" in early
    assert "500/2.00k [" in early
    assert "frames/s]" in early
    assert "100%|" in said
    assert "2.00k/2.00k [" in said
    assert said.endswith("\n")


def test_a_bar_with_a_text_that_goes_away(capsys):
    with bar(10, "in.rtdc", keep=False) as show:
        show(0.5)
    said = capsys.readouterr().err
    assert "in.rtdc:  50%|" in said
    assert said.rpartition("\r")[0].endswith(" ")  # it was wiped out
    assert not said.endswith("\n")


def test_the_end_of_a_job_is_that_the_output_is_written(tmp_path):
    def note(fraction):
        seen.append((fraction, (tmp_path / "out.rtdc").exists(), job.get_progress()))

    make_measurement(tmp_path / "in.rtdc", count=60)
    seen = []
    with BackgroundSparseMed(tmp_path / "in.rtdc", tmp_path / "out.rtdc") as job:
        job.process(progress=note)
        assert seen[0] == (0, False, 0)
        assert seen[-1] == (1, True, 1)
        reports = len(seen)
        job.process_approach()
    assert len(seen) == reports


def test_tqdm_is_imported_only_for_a_bar():
    code = """
import sys
import threading
from time import sleep
import numpy as np
import sparsemed
images, time = np.zeros((5, 40, 8), np.uint8), np.arange(5.0)
sparsemed.compute_background(images, time, progress=print)
assert "tqdm" not in sys.modules
sparsemed.compute_background(images, time, progress=True)
assert "tqdm" in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "0.0\n1.0\n"
    assert "5.00/5.00 [" in done.stderr
    assert "frames/s]" in done.stderr


# What holds up the work


@pytest.fixture
def soon(monkeypatch):
    monkeypatch.setattr(progress, "HELD_UP", 0.02)


def wait_until_said():
    """Wait for the thread that says what holds up the work."""
    for thread in threading.enumerate():
        if isinstance(thread, threading.Timer):
            thread.join()


@pytest.fixture
def watched(monkeypatch, capsys):
    monkeypatch.setattr(type(sys.stderr), "isatty", lambda _: True)


def test_what_holds_up_the_work_for_long_is_said_in_a_terminal_and_wiped_out(soon, watched, capsys):
    with holding_up("compiling"):
        wait_until_said()
        assert capsys.readouterr().err == "sparsemed: compiling"
    assert capsys.readouterr().err == f"\r{' ' * 20}\r"


def test_what_is_over_soon_is_not_said(watched, capsys, monkeypatch):
    monkeypatch.setattr(progress, "HELD_UP", PATIENCE)
    before = set(threading.enumerate())
    with holding_up("compiling"):
        pass
    assert capsys.readouterr().err == ""
    assert set(threading.enumerate()) <= before


def test_who_is_interrupted_while_the_thread_is_started_is_not_told(
    soon, watched, capsys, monkeypatch
):
    def start(timer):
        threading.Thread.start(timer)
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Timer, "start", start)
    with pytest.raises(KeyboardInterrupt), holding_up("compiling"):
        raise AssertionError
    wait_until_said()
    assert capsys.readouterr().err == ""


def test_what_nobody_would_read_is_not_said(soon, capsys):
    with holding_up("compiling"):
        wait_until_said()
    assert capsys.readouterr().err == ""


def test_who_wants_no_warnings_is_not_told_either(soon, watched, capsys):
    logger = logging.getLogger("sparsemed")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with holding_up("compiling"):
            wait_until_said()
    finally:
        logger.setLevel(before)
    assert capsys.readouterr().err == ""


def test_a_bar_says_what_holds_up_the_work_and_does_not_count_the_time(soon, capsys):
    with bar(100) as show:
        (shown,) = progress._bars
        begun = shown.start_t
        with holding_up("compiling"):
            sleep(0.3)
            wait_until_said()
        assert shown.start_t - begun > 0.25
        show(0.5)
        last = capsys.readouterr().err
        assert "compiling" in last
        show(1)
    assert "compiling" not in capsys.readouterr().err
    assert progress._bars == []


def test_work_goes_on_where_no_thread_can_be_started(monkeypatch):
    def refuse(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with holding_up("compiling"):
        pass
