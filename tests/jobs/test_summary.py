import csv
import json
import math
import os
import re
import shutil
import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from jobs.measurements import measure

from sparsemed import load
from sparsemed.jobs import summary as module
from sparsemed.jobs.carrying_out import carry_out
from sparsemed.jobs.file_result import FileResult
from sparsemed.jobs.options import RunOptions
from sparsemed.jobs.selection import choose_runs
from sparsemed.jobs.shards import Shard, take_shard
from sparsemed.jobs.summary import COLUMNS, Summary
from sparsemed.parameters import Parameters
from sparsemed.quality.finding import GOOD, Finding
from sparsemed.storage import disk

ORDER = RunOptions(Parameters(kernel_size=7), thumbnails=True)


@pytest.fixture
def data(tmp_path):
    for name in ("a", "b", "c"):
        measure(tmp_path / "data" / f"{name}.rtdc", seed=ord(name))
    (tmp_path / "data" / "b.rtdc").write_text("broken")
    return tmp_path / "data"


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "night" / "overview"


def run_all(data, folder, shard=None, count=None):
    """Write a summary of runs, as far as they get."""
    runs = choose_runs([data])
    runs = runs if shard is None else take_shard(runs, shard)
    summary = Summary(folder, runs, ORDER.ppid, shard)
    for run in runs[:count]:
        summary.add(carry_out(run, ORDER))
    summary.finish()


def read(folder, part=""):
    with open(folder / f"summary{part}.csv", newline="", encoding="utf-8-sig") as file:
        table = list(csv.DictReader(file))
    listed = json.loads((folder / f"summary{part}.json").read_text())["measurements"]
    return table, listed, (folder / f"index{part}.html").read_text("utf-8")


def test_there_is_a_row_a_measurement_with_all_that_is_known(data, folder):
    run_all(data, folder)
    table, listed, page = read(folder)
    assert [row["status"] for row in table] == ["done", "failed", "done"]
    assert tuple(table[0])[: len(COLUMNS)] == COLUMNS
    first = table[0]
    assert (first["input"], first["output"]) == (str(data / "a.rtdc"), str(data / "a_bg.rtdc"))
    assert first["ppid"] == ORDER.ppid
    assert (first["frames"], first["kept"], first["error"]) == ("24", f"{listed[0]['kept']}", "")
    assert float(first["seconds"]) > 0
    assert float(first["megabytes_per_second"]) > 0
    quality = listed[0]["quality"]
    assert len(quality) >= 2
    for key, number in quality.items():
        assert float(first[f"{key} value"]) == pytest.approx(number["value"])
        assert first[f"{key} verdict"] == number["verdict"]
    assert table[1]["error"].startswith(f"{data / 'b.rtdc'}: ")
    assert listed[0]["thumbnail"].startswith("data:image/jpeg;base64,")
    assert [row["status"] for row in listed] == ["done", "failed", "done"]
    assert page.count('<tr class="') == 3
    assert "All are done" in page
    assert sorted(os.listdir(folder)) == ["index.html", "summary.csv", "summary.json"]


class Clock:
    """The time, which passes when somebody says so, and with each file that is written."""

    def __init__(self, monkeypatch, seconds_to_write=0.0):
        self.now, self.written, self.is_full = 1000.0, [], False
        self.seconds_to_write = seconds_to_write
        replace = disk.replace

        def take_time(path, content):
            self.written.append(path.name)
            self.now += self.seconds_to_write
            if self.is_full:
                raise OSError(28, f"{path}: could not be written (No space left on device)")
            replace(path, content)

        monkeypatch.setattr(disk, "replace", take_time)
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: self.now))


def made_up(run, **facts):
    return FileResult(run.source, run.output, "done", ORDER.ppid, **facts)


FILES = ["summary.csv", "summary.json", "index.html"]


def test_it_grows_while_the_run_goes_on(data, folder, monkeypatch):
    clock = Clock(monkeypatch)
    runs = choose_runs([data])
    summary = Summary(folder, runs, ORDER.ppid)
    for count, run in enumerate(runs):
        table, listed, page = read(folder)
        assert [row["status"] == "waiting" for row in table] == [i >= count for i in range(3)]
        assert len(listed) == 3
        assert f"{count} of 3 are done" in page
        assert "The run goes on" in page
        clock.now += 2
        summary.add(carry_out(run, ORDER))


@pytest.mark.parametrize(("seconds_to_write", "pause"), [(0, 2), (0.1, 6)])
def test_it_takes_no_more_than_a_part_of_the_time(
    data, folder, monkeypatch, seconds_to_write, pause
):
    clock = Clock(monkeypatch, seconds_to_write)
    runs = choose_runs([data])
    summary = Summary(folder, runs, ORDER.ppid)
    assert clock.written == FILES
    clock.now += pause - 0.01
    summary.add(made_up(runs[0]))
    assert clock.written == FILES
    clock.now += 0.02
    summary.add(made_up(runs[1]))
    assert clock.written == 2 * FILES
    summary.finish()
    assert clock.written == 3 * FILES


def test_one_that_was_stopped_says_so(data, folder):
    run_all(data, folder, count=1)
    table, _, page = read(folder)
    assert [row["status"] for row in table] == ["done", "waiting", "waiting"]
    assert re.search("Stopped on .*: 1 of 3 are done. Repeat the command to go on", page)


def test_what_was_done_before_keeps_its_verdict(data, folder, monkeypatch):
    run_all(data, folder)
    before, *_ = read(folder)
    run_all(data, folder)
    after, listed, _ = read(folder)
    assert [row["status"] for row in after] == ["skipped", "failed", "skipped"]
    for name in ("verdict", "seconds", "written", "saturation value"):
        assert after[0][name] == before[0][name] != ""
    assert listed[0]["thumbnail"]
    shutil.rmtree(folder)
    run_all(data, folder)
    table, listed, page = read(folder)
    assert (table[0]["status"], table[0]["verdict"]) == ("skipped", before[0]["verdict"])
    assert float(table[0]["saturation value"]) == float(before[0]["saturation value"])
    assert "not judged" not in page
    assert listed[0]["thumbnail"]  # of the result itself
    monkeypatch.setattr(module, "stored_thumbnail", None)  # and it is not read once more
    run_all(data, folder)
    assert read(folder)[1][0]["thumbnail"] == listed[0]["thumbnail"]


def test_a_verdict_on_what_has_changed_is_forgotten(data, folder):
    run_all(data, folder)
    load(data / "a_bg.rtdc").save(data / "a_bg.rtdc", findings=())
    run_all(data, folder)
    table, _, page = read(folder)
    assert (table[0]["verdict"], table[2]["verdict"] != "") == ("", True)
    assert "not judged" in page


def test_parts_have_files_of_their_own_and_are_brought_together_by_another_run(data, folder):
    for number in (1, 2):
        run_all(data, folder, Shard(number, 2))
    assert len(os.listdir(folder)) == 6
    tables = [read(folder, f"-{number}-of-2")[0] for number in (1, 2)]
    assert sorted(row["status"] for table in tables for row in table) == ["done", "done", "failed"]
    run_all(data, folder)
    table, *_ = read(folder)
    assert [row["status"] for row in table] == ["skipped", "failed", "skipped"]
    assert table[0]["verdict"] != ""


def test_a_report_that_is_there_is_linked(data, folder):
    (data / "a_report.html").write_text("<!doctype html>")
    run_all(data, folder)
    table, _, page = read(folder)
    assert table[0]["report"] == str(data / "a_report.html")
    assert 'href="../../data/a_report.html"' in page
    assert page.count("<a href") == 1


def test_a_full_disk_costs_the_summary_alone_and_is_tried_again_after_a_while(
    data, folder, monkeypatch, caplog
):
    clock = Clock(monkeypatch)
    runs = choose_runs([data])
    summary = Summary(folder, runs, ORDER.ppid)
    before = read(folder)
    clock.is_full = True
    tries = []
    for seconds in (2, 2, 27, 2):
        clock.written.clear()
        clock.now += seconds
        summary.add(made_up(runs[0]))
        tries.append(len(clock.written))
    assert tries == [1, 0, 0, 1]
    with pytest.raises(OSError, match="No space left"):
        summary.finish()
    assert caplog.text.count("No space left") == 2
    assert read(folder) == before
    clock.is_full = False
    summary.finish()
    assert read(folder)[0][0]["status"] == "done"


@pytest.mark.skipif(os.name == "nt", reason="names of files are bytes")
def test_names_that_are_not_utf_8_are_written_as_far_as_that_goes(tmp_path, folder):
    path = measure(tmp_path / os.fsdecode(b"a\xff.rtdc"))
    summary = Summary(folder, (runs := choose_runs([path])), ORDER.ppid)
    summary.add(carry_out(runs[0], ORDER))
    summary.finish()
    table, listed, page = read(folder)
    assert table[0]["input"] == f"{tmp_path}/a?.rtdc"
    assert os.fsencode(listed[0]["input"]) == os.fsencode(path)
    assert "a\\udcff.rtdc" in page


def test_a_program_can_read_numbers_that_are_none(data, folder):
    """There is no NaN in JSON, and no infinity."""
    runs = choose_runs([data])
    summary = Summary(folder, runs, ORDER.ppid)
    for run, value in zip(runs, (math.nan, math.inf, 0.5), strict=True):
        summary.add(made_up(run, findings=(Finding("k", "T", value, "t", GOOD, "e", ""),)))
    summary.finish()
    text = (folder / "summary.json").read_text()
    listed = json.loads(text, parse_constant=pytest.fail)["measurements"]
    assert [row["quality"]["k"]["value"] for row in listed] == [None, None, 0.5]


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="Windows has its own zones")
def test_times_are_of_no_zone(data, folder, monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        runs = choose_runs([data])
        carry_out(runs[0], ORDER)
        os.utime(runs[0].output, (0, 86400))
        summary = Summary(folder, runs, ORDER.ppid)
        summary.add(made_up(runs[0]))
        summary.finish()
    finally:
        monkeypatch.undo()
        time.tzset()
    table, _, page = read(folder)
    assert table[0]["written"] == "1970-01-02T00:00:00+00:00"
    now = datetime.strptime(re.search(r"on (\S+ \S+) UTC", page)[1], "%Y-%m-%d %H:%M:%S")
    assert abs(now.replace(tzinfo=UTC) - datetime.now(UTC)) < timedelta(hours=1)


@pytest.mark.parametrize("name", ["index.html", "summary.csv", "summary.json"])
def test_files_of_others_are_not_replaced(data, folder, name):
    folder.mkdir(parents=True)
    (folder / name).write_text("<!doctype html> precious")
    with pytest.raises(FileExistsError, match=f"{name}: is no earlier summary"):
        run_all(data, folder)
    assert os.listdir(folder) == [name]


def test_a_file_is_no_folder(data, folder):
    folder.parent.write_text("precious")
    with pytest.raises(NotADirectoryError, match="is no folder; --summary needs a folder"):
        run_all(data, folder)


def test_a_summary_that_is_broken_is_passed_over(data, folder, caplog):
    run_all(data, folder)
    (folder / "summary.json").write_text('{"sparsemed": "0", "measurements": [3]}')
    run_all(data, folder)
    assert "is no summary, and is ignored" in caplog.text
    assert read(folder)[0][0]["status"] == "skipped"


def test_pages_in_the_folder_of_the_overview_are_linked(data, folder):
    (folder / "data").mkdir(parents=True)
    (folder / "a_bg_report.html").touch()
    (folder / "data" / "a_report.html").touch()
    summary = Summary(folder, choose_runs([data]), ORDER.ppid)
    summary.finish()
    _, listed, page = read(folder)
    links = [row["report"] for row in listed]
    assert links == [str(folder / "data" / "a_report.html"), None, None]
    assert 'href="data/a_report.html"' in page
    (folder / "data" / "a_report.html").unlink()
    summary.finish()
    assert read(folder)[1][0]["report"] == str(folder / "a_bg_report.html")


def test_of_earlier_parts_that_with_a_verdict_counts(tmp_path):
    good, bare, other = {"output": "a", "verdict": "good"}, {"output": "a"}, {"output": "b"}
    for name, rows in (("-1-of-2", [good]), ("", [bare, other])):
        text = json.dumps({"measurements": rows})
        (tmp_path / f"summary{name}.json").write_text(text)
    assert module._read_earlier(tmp_path) == {"a": good, "b": other}
