"""Signals stop the command: soon, cleanly, and with the exit status of shells."""

import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
from contextlib import suppress

import click.testing
import h5py
import numpy as np
import pytest
from faults.commands import commands
from patience import PATIENCE

import sparsemed
from benchmarks.measurements import NotAvailableError, generate_measurement
from sparsemed import BackgroundSparseMed
from sparsemed.cli.stopping import Stoppable
from sparsemed.kernels import median

if os.name == "nt":
    pytest.skip("signals of POSIX", allow_module_level=True)

SAID = {signal.SIGINT: "Interrupted", signal.SIGTERM: "Terminated", signal.SIGHUP: "Hung up"}


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    with commands(tmp_path_factory.mktemp("commands")) as command:
        yield command


def make_measurement(folder, count):
    """Make a measurement of which each frame starts a window, with ``split_time=0.02``."""
    path = folder / "whole" / "in.rtdc"
    path.parent.mkdir()
    try:
        generate_measurement(path, count, 50)
    except NotAvailableError as reason:
        pytest.skip(f"{reason}")
    return path


def count_of_images(path):
    with h5py.File(path) as h5:
        return len(h5["basin_events/image_bg"]) if "basin_events" in h5 else 0


@pytest.mark.parametrize(
    ("kind", "count", "moments"),
    [
        ("in place", 300, 5),
        ("several files", 300, 5),
        *(
            pytest.param(kind, 6000, 60, marks=pytest.mark.soak)
            for kind in ("new file", "in place", "several files")
        ),
    ],
)
def test_at_any_moment(command, tmp_path, kind, count, moments):
    whole = make_measurement(tmp_path, count)
    folder = tmp_path / "folder"
    folder.mkdir()
    names = ["a.rtdc", "b.rtdc"] if kind == "several files" else ["a.rtdc"]
    results = names if kind == "in place" else [name.replace(".", "_bg.") for name in names]
    for name in names:
        shutil.copy(whole, folder / name)
    before = whole.read_bytes()
    arguments = ["compute", folder, "-k", "split_time=0.02", "--quiet"]
    if kind == "in place":
        arguments += ["--in-place"]

    def clear():
        for name in results:
            if kind == "in place":
                shutil.copy(whole, folder / name)
            else:
                (folder / name).unlink(missing_ok=True)

    began = time.monotonic()
    command.start(*arguments)
    ended = command.wait()
    assert ended[:3] == (0, "", "")
    duration = ended.when - began
    images = {count_of_images(folder / name) for name in results}
    rng = random.Random(0)
    delays, heeded = [], 0
    for number in range(20 * moments):
        if number >= moments and heeded:
            break
        moment = number % moments
        clear()
        wait = (moment + rng.random()) / moments * 1.05 * duration
        sign = list(SAID)[number % 3]
        began = time.monotonic()
        child = command.start(*arguments)
        time.sleep(wait)
        sent = time.monotonic()
        with suppress(ProcessLookupError):  # it has ended
            os.kill(child, sign)
        ended = command.wait()
        case = f"{sign.name} after {wait:.4f} s of {duration:.2f} s: {ended}"
        if ended.status == 0:  # the machine may have less to do than before
            duration = ended.when - began
        if sent < ended.when and ended.status != 0:
            delays.append(ended.when - sent)
            # Before the handler is there, and after it is gone, signals do what they always do.
            is_done = [
                (folder / name).exists() and count_of_images(folder / name) > 0 for name in results
            ]
            is_outside = all(is_done) or not any(is_done)
            if not (ended.status == -sign and ended.err == "" and is_outside):
                heeded += 1
                assert ended.status == 128 + sign, case
                assert ended.err == f"{SAID[sign]}: no file is half written\n", case
        there = sorted(entry.name for entry in folder.iterdir())
        done = [name for name in results if name in there and count_of_images(folder / name)]
        assert there == sorted({*names, *done}), case
        for name in done:
            assert {count_of_images(folder / name)} == images, case
        for name in set(names) - set(done):
            assert (folder / name).read_bytes() == before, case
    assert heeded
    assert statistics.median(delays) < duration + 5
    print(
        f"{kind}, {duration:.2f} s: {len(delays)} signals, from signal to end "
        f"{statistics.median(delays):.3f} s (median), {max(delays):.3f} s (longest)"
    )


def test_signals_that_follow_do_not_disturb(command, tmp_path):
    path = make_measurement(tmp_path, 300)
    before = path.read_bytes()
    rng = random.Random(0)
    for moment in range(4):
        child = command.start("compute", path, "--in-place", "-k", "split_time=0.02", "-q")
        time.sleep(0.05 + 0.1 * moment)
        numbers = [rng.choice(list(SAID)) for _ in range(3)]
        for number in numbers:
            with suppress(ProcessLookupError):
                os.kill(child, number)
            time.sleep(0.004 * rng.random())
        ended = command.wait()
        if ended.status > 0:
            assert ended.status in [128 + number for number in numbers], (numbers, ended)
            assert ended.err.startswith(f"{SAID[ended.status - 128]}: "), (numbers, ended)
        assert [entry.name for entry in path.parent.iterdir()] == ["in.rtdc"], (numbers, ended)
        if not count_of_images(path):
            assert path.read_bytes() == before, (numbers, ended)
        else:
            path.write_bytes(before)


def test_ignored_signals_remain_ignored(command, tmp_path):
    path = make_measurement(tmp_path, 100)
    child = command.start("compute", path, "-q", ignored=["SIGINT", "SIGHUP"])
    for number in [signal.SIGINT, signal.SIGHUP] * 3:
        time.sleep(0.02)
        with suppress(ProcessLookupError):
            os.kill(child, number)
    assert command.wait()[:3] == (0, "", "")
    assert count_of_images(path.with_name("in_bg.rtdc"))


def test_what_is_raised_where_nobody_listens_is_raised_again():
    """Such as in ``__del__``: Python prints what is raised there, and goes on."""

    class Deaf:
        def __del__(self):
            signal.raise_signal(signal.SIGTERM)

    former = [signal.getsignal(number) for number in SAID], sys.unraisablehook

    @click.command(cls=Stoppable)
    def deaf():
        Deaf()
        for _ in range(1000):
            time.sleep(0.01)

    result = click.testing.CliRunner().invoke(deaf)
    assert result.exit_code == 143
    assert result.stderr == "Terminated: no file is half written\n"
    assert ([signal.getsignal(number) for number in SAID], sys.unraisablehook) == former


def test_the_library_leaves_handlers_alone(tmp_path):
    path = make_measurement(tmp_path, 100)
    before = [signal.getsignal(number) for number in SAID]
    found = []

    def look(fraction):
        found.append([signal.getsignal(number) for number in SAID])

    with BackgroundSparseMed(path, tmp_path / "out.rtdc") as job:
        job.process(look)
    found.append([signal.getsignal(number) for number in SAID])
    assert all(each == before for each in found)


@pytest.mark.parametrize("ending", ["2>&-", "| head -0"])
def test_nobody_reads_what_is_said(tmp_path, ending):
    path = make_measurement(tmp_path, 100)
    command = f'"{sys.executable}" -m sparsemed compute "{path}" {ending}'
    if "|" in ending:
        command += "; exit ${PIPESTATUS[0]}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=PATIENCE)
    assert "Traceback" not in done.stderr
    assert "ignored" not in done.stderr
    assert done.returncode == (1 if "PIPESTATUS" in command else 0)
    assert count_of_images(path.with_name("in_bg.rtdc"))


SECOND_SIGNAL = """
import os, signal, threading, click
from sparsemed.cli.stopping import Stoppable
start = threading.Thread.start


def start_late(thread):  # the second signal comes while the first is being heeded
    os.kill(os.getpid(), signal.SIGTERM)
    start(thread)


@click.command(cls=Stoppable)
def main():
    threading.Thread.start = start_late
    os.kill(os.getpid(), signal.SIGTERM)
    signal.pause()


main()
"""


def test_two_signals_at_once():
    run = subprocess.run(
        [sys.executable, "-c", SECOND_SIGNAL], capture_output=True, text=True, timeout=PATIENCE
    )
    assert (run.returncode, run.stderr) == (143, "Terminated: no file is half written\n")


class TimeIsUpError(Exception):
    pass


def test_what_a_handler_raises_during_the_kernel_arrives(monkeypatch):
    share_out, waiting = median.share_out, []

    def share_out_and_ring(work, *how):
        """Have the kernel take its first part; the alarm comes while it takes others."""

        def work_and_ring(begin, end):
            if waiting and threading.current_thread() is threading.main_thread():
                signal.setitimer(signal.ITIMER_REAL, waiting.pop())
            work(begin, end)

        share_out(work_and_ring, *how)

    def ring(*_):
        raise TimeIsUpError

    images = np.random.default_rng(1).integers(0, 255, (3200, 200, 200), np.uint8)
    sparsemed.median_image(images[:9])
    monkeypatch.setattr(median, "share_out", share_out_and_ring)

    def compute_again_and_again():
        for _ in range(1000):
            sparsemed.median_image(images)

    before = signal.signal(signal.SIGALRM, ring)
    try:
        for milliseconds in range(1, 6):
            waiting.append(milliseconds / 1000)
            with pytest.raises(TimeIsUpError):
                compute_again_and_again()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_no_signal_is_sent_after_a_change_of_a_file(tmp_path):
    """Signals that were put off come before the former handlers do, or with them."""
    code = """
import os, signal, sys, time
import h5py
from sparsemed.hdf5 import commit, overlay, signals

heard = []
signal.signal(signal.SIGUSR1, lambda *_: heard.append(1))
write = overlay.Overlay.write


def write_with_signal(self, data):
    os.kill(os.getpid(), signal.SIGUSR1)
    return write(self, data)


overlay.Overlay.write = write_with_signal
signals._OVERLAY_CODE.add(write_with_signal.__code__)
with commit.new_file(sys.argv[1]) as h5:
    h5["a"] = range(9)
assert heard
before = len(heard)
time.sleep(0.05)
assert len(heard) == before
"""
    # Some programs run code that is of no module.
    start = "import sys; exec(sys.argv.pop(1), {})"
    run = subprocess.run(
        [sys.executable, "-c", start, code, tmp_path / "a.h5"],
        capture_output=True,
        timeout=PATIENCE,
    )
    assert run.returncode == 0, run.stderr.decode()
