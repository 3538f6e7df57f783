"""A recording is followed to its end, whatever that is, and written as if computed afterwards."""

import os
import re
import shutil
import signal
import subprocess
import sys
import threading

import h5py
import numpy as np
import pytest
from jobs.recorder import HEIGHT, WIDTH, Recorder, frames_of

import sparsemed
from sparsemed import compute_files, load
from sparsemed.jobs import watch as watch_module
from sparsemed.quality.sample import sample_numbers
from sparsemed.rtdc.pipeline_id import to_ppid

SOME = {"kernel_size": 20, "split_time": 0.5}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "in.rtdc"


@pytest.fixture
def recorder(path):
    recorder = Recorder(path)
    yield recorder
    if recorder.process.returncode is None:
        recorder.kill()


@pytest.fixture(autouse=True)
def quickly(monkeypatch):
    monkeypatch.setattr(watch_module, "PAUSE", 0.01)
    monkeypatch.setattr(watch_module, "SHOWN", 0.0)
    monkeypatch.setattr(watch_module, "TROUBLE", 0.3)


def assert_as_computed(path, output, basins="any", **parameters):
    """Check that a result is the one of `sparsemed compute`, whole and to the bit."""
    expected = output.with_name("expected.rtdc")
    (computed,) = compute_files(path, output=expected, basins=basins, **parameters)
    assert computed.status == "done", computed
    found = {}
    for name in (output, expected):
        with h5py.File(name) as h5:
            found[name] = {"": dict(h5.attrs)}
            h5.visititems(lambda at, each, to=found[name]: to.update({at: contents(each)}))
    assert {"logs/sparsemed-verdict", "basin_events/image_bg"} < set(found[output])
    np.testing.assert_equal(found[output], found[expected])


def contents(entry):
    """Return attributes and data of a group or dataset."""
    return dict(entry.attrs), entry[()] if isinstance(entry, h5py.Dataset) else None


def record(recorder, count, clock="time"):
    recorder(f"image {count}", f"{clock} {count}", "flush")


@pytest.mark.parametrize("clock", ["time", "frame"])
def test_from_the_first_frame_to_the_last(path, recorder, clock, tmp_path):
    recorder(f"begin swmr {clock}", "flush")
    states = sparsemed.watch(path, **SOME)
    seen = []
    for _ in range(4):
        record(recorder, 50, clock)  # half a second
        seen.append(next(states))
    recorder("image 17", f"{clock} 17", "close")
    *_, last = states
    assert [state.frames for state in seen] == [50, 100, 150, 200]
    assert [state.images for state in seen] == [1, 2, 3, 4]
    assert [state.image_time for state in seen] == [0, 0.5, 1, 1.5]
    assert all(state.status == "recording" and state.output is None for state in seen)
    assert all(state.rate > 0 for state in seen)
    np.testing.assert_array_equal(seen[3].image, last.background.series[3])
    assert (last.status, last.frames, last.images) == ("closed", 217, 5)
    assert last.duration == pytest.approx(2.16)
    assert last.verdict == sparsemed.quality.overall(last.background.quality())
    assert last.output == tmp_path / "in_bg.rtdc"
    assert last.background.source == path
    assert_as_computed(path, last.output, **SOME)


def test_a_recording_is_followed_where_it_was_when_one_works_elsewhere_meanwhile(
    path, recorder, tmp_path, monkeypatch
):
    (tmp_path / "b").mkdir()
    monkeypatch.chdir(tmp_path)
    recorder("begin swmr time", "flush")
    record(recorder, 100)
    states = sparsemed.watch("in.rtdc", "out", page="live", **SOME)
    next(states)
    monkeypatch.chdir("b")
    recorder("image 20", "time 20", "close")
    *_, last = states
    assert last.background.source == path
    assert "The recording is over" in (tmp_path / "live" / "index.html").read_text("utf-8")
    assert_as_computed(path, tmp_path / "out" / "in_bg.rtdc", **SOME)
    assert os.listdir() == []


def test_a_recording_that_is_over_is_computed(path, recorder, tmp_path):
    recorder("begin swmr time", "image 300", "time 300", "close")
    output = tmp_path / "results"
    more = {"thresh_cleansing": 0.3, "frac_cleansing": 0.5, "basins": "same-folder"}
    *_, last = sparsemed.watch(path, output, **more, **SOME)
    assert last.background.basins == "same-folder"
    assert last.output == output / "in_bg.rtdc"
    assert last.findings
    np.testing.assert_equal(load(last.output).findings, last.findings)  # where NaN equals NaN
    assert_as_computed(path, last.output, **more, **SOME)


def test_it_is_judged_in_the_end_by_the_frames_that_compute_takes(path, recorder, monkeypatch):
    samples = []

    def judge(background, sample):
        samples.append(sample)
        return assess(background, sample)

    assess = watch_module.assess
    monkeypatch.setattr(watch_module, "assess", judge)
    recorder("begin swmr time", "image 300", "time 300", "close")
    list(sparsemed.watch(path, **SOME))
    ((numbers, frames),) = samples
    np.testing.assert_array_equal(numbers, sample_numbers(300, HEIGHT, WIDTH))
    np.testing.assert_array_equal(frames, frames_of(numbers))


@pytest.mark.parametrize("is_killed", [True, False], ids=["killed", "paused"])
def test_when_nothing_comes_for_long_what_was_flushed_is_taken(path, recorder, tmp_path, is_killed):
    recorder("begin swmr time", "flush")
    record(recorder, 120)
    recorder("image 30", "time 30")
    if is_killed:
        recorder.kill()
    *_, last = sparsemed.watch(path, patience=0.3, page=tmp_path / "live", **SOME)
    assert (last.status, last.frames) == ("silent", 120)
    assert "No frame came for 0.3 s, as of" in (tmp_path / "live" / "index.html").read_text("utf-8")
    assert len(load(last.output)) == 120
    if is_killed:
        assert_as_computed(path, last.output, **SOME)


class Clock:
    """A clock that goes on by what is slept, and by what a test adds; to judge takes a second."""

    now = busy = 0.0

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds

    def thread_time(self):
        self.busy += 1
        return self.busy


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(watch_module, "time", clock)
    return clock


def test_patience_begins_anew_with_each_frame(path, recorder, clock, monkeypatch):
    monkeypatch.setattr(watch_module, "PAUSE", 5)
    recorder("begin swmr time", "flush")
    states = sparsemed.watch(path, patience=30, **SOME)
    for _ in range(2):
        record(recorder, 50)
        clock.now += 20
        next(states)
    came = clock.now
    (last,) = states  # as nothing is new until then
    assert last.status == "silent"
    assert clock.now - came == 30


def test_rates_are_since_the_state_before_and_to_judge_takes_a_tenth_of_the_time(
    path, recorder, clock, monkeypatch
):
    judged = []

    def judge(live):
        judged.append(len(live))
        clock.now += 1
        return quality(live)

    quality = watch_module.LiveBackground.quality
    monkeypatch.setattr(watch_module.LiveBackground, "quality", judge)
    recorder("begin swmr time", "flush")
    states = sparsemed.watch(path, **SOME)
    rates = []
    for seconds in (2, 4, 5):
        record(recorder, 50)
        clock.now += seconds
        rates.append(next(states).rate)
    assert rates == [25, 10, 10]
    assert judged == [50, 150]  # to judge takes a second, so it is done each 10 seconds
    states.close()


def test_a_writer_that_never_flushes(path, recorder, tmp_path):
    recorder("begin swmr time", "flush", "image 3", "time 3")
    with pytest.raises(OSError, match=r"in\.rtdc: no frame came within 0.3 s; .* flush"):
        list(sparsemed.watch(path, patience=0.3))
    recorder.kill()
    with pytest.raises(OSError, match="no frame came"):
        list(sparsemed.watch(path, patience=0.3))
    assert os.listdir(tmp_path) == ["in.rtdc"]


def test_no_frames_at_all(path, recorder, tmp_path):
    recorder("begin swmr time", "close")
    with pytest.raises(ValueError, match=r"in\.rtdc: there are no frames"):
        list(sparsemed.watch(path))
    assert os.listdir(tmp_path) == ["in.rtdc"]


def test_a_plain_writer_is_waited_for_a_moment_and_then_refused(path, recorder, clock):
    recorder("begin plain time", "image 50", "time 50", "flush")
    with pytest.raises(OSError, match=r"in\.rtdc: another program writes into it without"):
        sparsemed.watch(path)
    assert clock.now == pytest.approx(0.3, abs=2 * watch_module.PAUSE)


def test_trouble_that_passes_is_sat_out(path, recorder, tmp_path, monkeypatch):
    monkeypatch.setattr(watch_module, "TROUBLE", 20)
    recorder("begin swmr time", "flush")
    record(recorder, 50)
    states = sparsemed.watch(path, **SOME)
    next(states)
    recorder("close")
    os.rename(path, tmp_path / "away")
    threading.Timer(0.3, os.rename, (tmp_path / "away", path)).start()
    *_, last = states
    assert last.frames == 50


def test_trouble_at_the_very_end_is_sat_out_too(path, recorder, monkeypatch):
    monkeypatch.setattr(watch_module, "TROUBLE", 20)
    recorder("begin swmr time", "image 50", "time 50", "close")
    failures = [OSError("locked by a program that adds to it"), OSError("still locked")]

    def busy(read):
        def reading(self, *args):
            if failures:
                raise failures.pop()
            return read(self, *args)

        return reading

    for name in ("identity", "pick"):
        read = getattr(watch_module.GrowingMeasurement, name)
        monkeypatch.setattr(watch_module.GrowingMeasurement, name, busy(read))
    *_, last = sparsemed.watch(path, **SOME)
    assert not failures
    assert_as_computed(path, last.output, **SOME)


@pytest.mark.parametrize("how", ["removed", "replaced", "cut"])
def test_what_is_no_recording_any_more(path, recorder, tmp_path, how):
    recorder("begin swmr time", "flush")
    record(recorder, 100)
    states = sparsemed.watch(path, page=tmp_path / "live", **SOME)
    next(states)
    what = {"removed": "No such file", "replaced": "another recording", "cut": "become shorter"}
    if how == "removed":
        os.remove(path)
    elif how == "cut":
        os.truncate(path, 3000)
    else:
        shutil.copyfile(path, tmp_path / "other")
        other = Recorder(tmp_path / "other")
        other("begin swmr frame", "image 120", "frame 120", "close")
        other.end()
        os.replace(tmp_path / "other", path)
    with pytest.raises(
        (OSError, ValueError), match=rf"in\.rtdc.*{what[how]}|{what[how]}.*in\.rtdc"
    ):
        list(states)
    assert not (tmp_path / "in_bg.rtdc").exists()
    shown = (tmp_path / "live" / "index.html").read_text("utf-8")
    assert re.search(rf"Watching has failed \(.*{what[how]}", shown)
    assert 'http-equiv="refresh"' not in shown


def test_times_that_change_afterwards_are_an_error(path, recorder, tmp_path):
    recorder("begin swmr time", "flush")
    record(recorder, 100)
    states = sparsemed.watch(path, **SOME)
    next(states)
    recorder("close")
    with h5py.File(path, "r+") as h5:
        h5["events/time"][50] += 0.001
    with pytest.raises(ValueError, match=r"in\.rtdc: times of earlier frames have changed"):
        list(states)
    assert not (tmp_path / "in_bg.rtdc").exists()


def test_times_that_fall_name_the_file(path, recorder):
    recorder("begin swmr time", "image 50", "time 50", "close")
    with h5py.File(path, "r+") as h5:
        h5["events/time"][40] = 0
    with pytest.raises(
        ValueError, match=r"in\.rtdc: times: fall at frame 40, from 5.89 s to 0.0 s"
    ):
        list(sparsemed.watch(path))


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("how", ["closed", "interrupted"])
def test_who_stops_has_what_is_there_if_it_is_to_be_kept(
    path, recorder, tmp_path, monkeypatch, caplog, how, keep
):
    recorder("begin swmr time", "flush")
    record(recorder, 120)
    states = sparsemed.watch(path, keep=keep, page=tmp_path / "live", **SOME)
    next(states)
    if how == "closed":
        states.close()
    else:
        monkeypatch.setattr(watch_module.time, "sleep", interrupt)
        with pytest.raises(KeyboardInterrupt):
            next(states)
    assert (tmp_path / "in_bg.rtdc").exists() == keep
    shown = (tmp_path / "live" / "index.html").read_text("utf-8")
    assert 'http-equiv="refresh"' not in shown
    assert ("Watching was stopped, as of" in shown) == keep
    assert ("Watching was stopped, and nothing was written, as of" in shown) == (not keep)
    if keep:
        assert len(load(tmp_path / "in_bg.rtdc")) == 120
        assert load(tmp_path / "in_bg.rtdc").findings
        assert "the background of the first 120 frames is in" in caplog.text


def test_who_stops_before_the_first_frame_keeps_nothing(path, recorder, tmp_path, monkeypatch):
    recorder("begin swmr time", "flush")
    states = sparsemed.watch(path, keep=True, page=tmp_path / "live", **SOME)
    monkeypatch.setattr(watch_module.time, "sleep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        next(states)
    assert "stopped, and nothing was written" in (tmp_path / "live" / "index.html").read_text(
        "utf-8"
    )
    assert not (tmp_path / "in_bg.rtdc").exists()


def interrupt(*_, **__):
    raise KeyboardInterrupt


def test_stopped_when_it_was_just_to_be_written(path, recorder, tmp_path, monkeypatch):
    recorder("begin swmr time", "image 120", "time 120", "close")
    save, calls = sparsemed.SparseBackground.save, []

    def stopped_once(*args, **options):
        calls.append(args)
        return (interrupt if len(calls) == 1 else save)(*args, **options)

    monkeypatch.setattr(sparsemed.SparseBackground, "save", stopped_once)
    with pytest.raises(KeyboardInterrupt):
        list(sparsemed.watch(path, keep=True, **SOME))
    assert_as_computed(path, tmp_path / "in_bg.rtdc", **SOME)


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ({"patience": 0}, "patience must be a number above 0"),
        ({"patience": True}, "patience must be"),
        ({"kernel_size": 0}, "kernel_size"),
        ({"basins": "all"}, "basins"),
        ({"num_cpus": 0}, "num_cpus"),
    ],
    ids=str,
)
def test_arguments_are_checked_before_anything_is_watched(path, recorder, arguments, what):
    recorder("begin swmr time", "flush")
    with pytest.raises(ValueError, match=what):
        sparsemed.watch(path, **arguments)


def test_an_output_that_must_not_change_is_refused_at_once(path, recorder, tmp_path):
    recorder("begin swmr time", "flush")
    shutil.copyfile(path, tmp_path / "other.rtdc")
    with pytest.raises(ValueError, match=r"other\.rtdc: holds images of its own"):
        sparsemed.watch(path, tmp_path / "other.rtdc")
    with pytest.raises(FileNotFoundError, match="there is no such file"):
        sparsemed.watch(tmp_path / "missing.rtdc")


def test_a_result_of_the_first_frames_is_replaced_and_any_other_is_refused_at_once(
    path, recorder, tmp_path
):
    recorder("begin swmr time", "flush")
    record(recorder, 120)
    *_, last = sparsemed.watch(path, patience=0.2, **SOME)
    assert last.frames == 120
    shutil.copyfile(last.output, tmp_path / "mine.rtdc")
    with h5py.File(tmp_path / "mine.rtdc", "a") as h5:
        h5["events/deform"] = np.zeros(120)
    record(recorder, 50)
    with pytest.raises(
        ValueError, match=r"mine\.rtdc: events/\w+ has 120 entries, .* another file"
    ):
        sparsemed.watch(path, tmp_path / "mine.rtdc", **SOME)
    states = sparsemed.watch(path, **SOME)
    next(states)
    recorder("image 30", "time 30", "close")
    *_, last = states
    assert last.frames == 200
    assert_as_computed(path, last.output, **SOME)


# The page.


def test_the_page_is_renewed_and_says_when_it_is_over(path, recorder, tmp_path):
    recorder("begin swmr time", "flush")
    record(recorder, 80)
    states = sparsemed.watch(path, page=tmp_path / "live", **SOME)
    next(states)
    page = tmp_path / "live" / "index.html"
    early = page.read_text("utf-8")
    assert 'http-equiv="refresh"' in early
    assert "The recording goes on" in early
    assert "Frames judged</th><td>80<" in early
    record(recorder, 80)
    next(states)
    later = page.read_text("utf-8")
    assert "<polyline" in later
    assert later != early
    recorder("close")
    list(states)
    last = page.read_text("utf-8")
    assert 'http-equiv="refresh"' not in last
    assert "in_bg.rtdc" in last
    assert "just now" in early
    assert "just now" not in last
    assert os.listdir(tmp_path / "live") == ["index.html"]


def test_a_page_that_cannot_be_written_costs_one_warning_and_nothing_else(
    path, recorder, tmp_path, caplog
):
    recorder("begin swmr time", "flush")
    states = sparsemed.watch(path, page=tmp_path / "live", **SOME)
    warnings = []
    for is_there in (False, False, True, False):
        if is_there:
            (tmp_path / "live").mkdir()
        else:
            shutil.rmtree(tmp_path / "live", ignore_errors=True)
        record(recorder, 60)
        next(states)
        warnings.append(len(caplog.records))
    assert warnings == [1, 1, 1, 2]
    assert "live/index.html" in caplog.text.replace(os.sep, "/")
    recorder("close")
    *_, last = states
    assert last.output.exists()


def test_a_page_of_something_else_is_not_replaced(path, recorder, tmp_path):
    recorder("begin swmr time", "flush")
    (tmp_path / "index.html").write_text("<!doctype html>my home page")
    with pytest.raises(FileExistsError, match=r"index\.html: is no page on a recording"):
        sparsemed.watch(path, page=tmp_path)


# The command, as people run it.


def command(*words):
    return [sys.executable, "-m", "sparsemed", "watch", *map(str, words)]


def test_the_command_prints_a_line_an_image_and_the_end(path, recorder, tmp_path):
    recorder("begin swmr time", "flush")
    words = (path, "-k", "kernel_size=20", "-k", "split_time=0.5", "--page", tmp_path / "live")
    with subprocess.Popen(command(*words), stdout=subprocess.PIPE, text=True) as watching:
        lines = []
        for number in range(2):
            record(recorder, 100)
            lines.append(watching.stdout.readline())
            assert f"in.rtdc: {100 * (number + 1)} frames, " in lines[-1]
        assert "/s; newest image at 0.5 s; " in lines[0]
        recorder("image 30", "time 30", "close")
        *_, last = watching.stdout
    assert watching.returncode == 0
    assert "in.rtdc: closed; 230 frames, 5 windows, 4 kept -> " in last
    assert_as_computed(path, tmp_path / "in_bg.rtdc", **SOME)
    with h5py.File(tmp_path / "in_bg.rtdc") as h5:
        ppid = h5["events/bg_off"].attrs["dcnum ppid background"]
    assert ppid == to_ppid({"kernel_size": 20, "split_time": 0.5})


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
@pytest.mark.parametrize("keep", [False, True])
def test_the_command_is_stopped_by_ctrl_c(path, recorder, tmp_path, keep):
    recorder("begin swmr time", "flush")
    record(recorder, 300)
    with subprocess.Popen(
        command(path, *(["--keep"] if keep else [])),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as watching:
        assert "in.rtdc: 300 frames, " in watching.stdout.readline()
        watching.send_signal(signal.SIGINT)
        said = watching.stderr.read()
    assert watching.returncode == 130
    assert "Interrupted: no file is half written" in said
    assert ("the background of the first 300 frames is in" in said) == keep
    assert (tmp_path / "in_bg.rtdc").exists() == keep
    if keep:
        assert len(load(tmp_path / "in_bg.rtdc")) == 300
    recorder("close")  # the recorder has noticed nothing


def test_the_command_says_in_one_line_what_is_wrong(path, recorder):
    recorder("begin swmr time", "flush")
    run = subprocess.run(command(path, "--patience", "0.3"), capture_output=True, text=True)
    assert run.returncode == 1
    assert run.stderr.startswith("Error: ")
    assert run.stderr.count("\n") == 1
    run = subprocess.run(command(path, "-k", "kernel_size=0"), capture_output=True, text=True)
    assert run.returncode == 2
