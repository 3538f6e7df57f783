import os
import shutil
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest
from faults.watching import Watch, can_watch

from sparsemed import BackgroundSparseMed, compute_files
from sparsemed.jobs.pages import Page, choose_pages
from sparsemed.jobs.runs import Run
from sparsemed.jobs.selection import _folders, check_paths, choose_files, choose_runs, goes_to_file
from sparsemed.rtdc.basins import file_record, internal_record, store_record


def measure(path, group="events"):
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as h5:
        h5.create_group("events")
        h5[f"{group}/image"] = np.ones((9, 4, 6), np.uint8)
    return path


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Return a folder with two measurements, and one in a folder within it."""
    monkeypatch.chdir(tmp_path)
    for name in ("b.rtdc", "A.RTDC", "deep/er/c.rtdc"):
        measure(Path("data", name))
    return Path("data")


def test_results_go_next_to_the_measurements(data):
    assert choose_runs([data, measure(Path("x.h5"))]) == [
        Run(data / "A.RTDC", data / "A_bg.RTDC"),
        Run(data / "b.rtdc", data / "b_bg.rtdc"),
        Run(Path("x.h5"), Path("x_bg.h5")),
    ]


def test_a_folder_of_results_is_like_that_of_the_measurements(data):
    runs = choose_runs([data], recursive=True, output=Path("out"))
    assert [run.source for run in runs] == [
        data / "A.RTDC",
        data / "b.rtdc",
        data / "deep" / "er" / "c.rtdc",
    ]
    assert [run.output.as_posix() for run in runs] == [
        "out/A_bg.RTDC",
        "out/b_bg.rtdc",
        "out/deep/er/c_bg.rtdc",
    ]
    assert all(run.folder_is_made for run in runs)


def test_an_output_is_a_file_or_folder_by_its_name(data):
    source = data / "b.rtdc"
    for name in ("x.rtdc", "x.h5", "x.HDF5"):
        assert choose_runs([source], output=Path(name)) == [Run(source, Path(name))]
    for name in ("x", "x.2026"):
        (run,) = choose_runs([source], output=Path(name))
        assert run.output == Path(name, "b_bg.rtdc")


def test_in_place(data):
    assert choose_runs([data], in_place=True) == [
        Run(data / name, data / name, in_place=True) for name in ("A.RTDC", "b.rtdc")
    ]


def test_each_measurement_is_taken_once(data):
    (data / "link.rtdc").symlink_to("b.rtdc")
    runs = choose_runs([data / "b.rtdc", data])
    assert [run.source.name for run in runs] == ["b.rtdc", "A.RTDC"]


def test_what_is_left_out_of_a_folder(data, caplog):
    with BackgroundSparseMed(data / "b.rtdc", data / "b_bg.rtdc") as job:
        job.process()
    measure(data / "raw_bg.rtdc")  # a measurement, whatever its name
    measure(data / ".hidden.rtdc")
    measure(data / "b.hdf5")
    with h5py.File(data / "empty.rtdc", "w") as h5:
        h5.create_group("events")
    with h5py.File(data / "lost.rtdc", "w") as h5:  # fails later, so that it is noticed
        h5.create_group("events")
        store_record(h5, file_record("raw", None, ["gone.rtdc"], None, None), {})
    (data / "broken.rtdc").write_text("fails later, too")
    caplog.set_level("INFO")
    names = [run.source.name for run in choose_runs([data])]
    assert names == ["A.RTDC", "b.rtdc", "broken.rtdc", "lost.rtdc", "raw_bg.rtdc"]
    assert f"{data / 'b_bg.rtdc'}: skipped, it is the result of an earlier run" in caplog.messages
    assert f"skipped 1 (without images): {data / 'empty.rtdc'}" in caplog.messages


def test_a_result_is_skipped_even_if_it_is_named(data, caplog):
    with BackgroundSparseMed(data / "b.rtdc", data / "b_bg.rtdc") as job:
        job.process()
    caplog.clear()
    assert choose_runs(sorted(data.glob("b*"))) == [Run(data / "b.rtdc", data / "b_bg.rtdc")]
    assert caplog.messages == [f"{data / 'b_bg.rtdc'}: skipped, it is the result of an earlier run"]
    with pytest.raises(ValueError, match=r"b_bg\.rtdc: no measurement there"):
        choose_runs([data / "b_bg.rtdc"])


@pytest.mark.parametrize("group", ["events", "basin_events"])
def test_an_output_with_images_is_not_touched(data, group):
    output = measure(Path("precious.rtdc"), group)
    (run,) = choose_runs([data / "b.rtdc"], output=output)
    with pytest.raises(ValueError, match=r"precious\.rtdc: holds images of its own"):
        run.check()
    Run(output, output, in_place=True).check()
    Run(output, Path("new.rtdc")).check()


@pytest.mark.parametrize(
    ("paths", "options", "message"),
    [
        (["data", "gone"], {}, "gone: there is no such file or folder"),
        (["data", "data"], {}, "data: is given twice"),
        (["data/deep"], {}, "deep: 1 measurement lies within its folders; add --recursive"),
        (
            ["data"],
            {"output": Path("x.rtdc")},
            r"x\.rtdc: is the output of data.A\.RTDC and of .*; give a f",
        ),
        (
            ["data"],
            {"output": Path("x"), "in_place": True},
            "--output and --in-place exclude each other",
        ),
    ],
)
def test_what_makes_no_sense(data, paths, options, message):
    with pytest.raises((OSError, ValueError), match=message):
        choose_runs([Path(path) for path in paths], **options)


def test_two_results_of_the_same_name(data):
    measure(Path("other", "b.rtdc"))
    with pytest.raises(ValueError, match=r"of data.b\.rtdc and of other.b\.rtdc; run them one"):
        choose_runs([data, Path("other")], output=Path("out"))


def lead_elsewhere(path, group, target="elsewhere.rtdc"):
    """Write a file whose group is in another file, where there may be images."""
    with h5py.File(path, "w") as h5:
        h5.create_group("events")
        if group in h5:
            del h5[group]
        h5[group] = h5py.ExternalLink(target, "/events")
        store_record(h5, internal_record("b", "", ["image"], "basinmap0"), {})
    return path


@pytest.mark.parametrize("group", ["events", "basin_events"])
@pytest.mark.parametrize("target", ["elsewhere.rtdc", "gone.rtdc"])
def test_images_may_be_where_a_group_leads(data, group, target):
    """Such a file is no result to be skipped, and no output to be written to."""
    measure(data / "elsewhere.rtdc")
    path = lead_elsewhere(data / "far_bg.rtdc", group, target)
    assert choose_runs([path]) == [Run(path, data / "far_bg_bg.rtdc")]
    assert Run(path, data / "far_bg_bg.rtdc") in choose_runs([data])
    before = path.read_bytes()
    (run,) = choose_runs([data / "b.rtdc"], output=path)
    with pytest.raises(ValueError, match=r"far_bg\.rtdc: holds images of its own"):
        run.check()
    assert path.read_bytes() == before


@pytest.mark.skipif(not can_watch(), reason="only Linux says who opens what")
@pytest.mark.parametrize("name", ["events", "basin_events", "events/image"])
def test_what_a_file_is_shows_without_the_files_it_leads_to(data, name):
    other = measure(data.parent / "elsewhere.rtdc")
    for path in ("far.rtdc", "far_bg.rtdc"):
        with h5py.File(data / path, "w") as h5:
            if name != "events":
                h5.create_group("events")
            h5[name] = h5py.ExternalLink("../elsewhere.rtdc", f"/{name}")
            store_record(h5, internal_record("b", "", ["image"], "basinmap0"), {})
    with Watch(other) as watch:
        runs = choose_runs([data])
        with pytest.raises(ValueError, match="holds images of its own"):
            Run(data / "b.rtdc", data / "far.rtdc").check()
        assert not watch.opened
    assert {data / "far.rtdc", data / "far_bg.rtdc"} <= {run.source for run in runs}


def test_two_results_that_a_link_makes_one(data):
    """By a link to a folder, and by one to a file."""
    Path("out/deep").mkdir(parents=True)
    Path("out/also").symlink_to("deep")
    for folder in ("deep", "also"):
        measure(Path("more", folder, "x.rtdc"))
    before = sorted(Path("out").rglob("*"))
    with pytest.raises(ValueError, match=r"x_bg\.rtdc: is the output of more.also.* and of more.d"):
        choose_runs([Path("more")], recursive=True, output=Path("out"))
    Path("data", "b_bg.rtdc").symlink_to("A_bg.RTDC")
    with pytest.raises(ValueError, match=r"b_bg\.rtdc: is the output of data.A.* and of data.b"):
        choose_runs([data])
    assert sorted(Path("out").rglob("*")) == before


# Files, whatever they are for ---------------------------------------------------------------------


def names(chosen):
    return [path.name for path, _ in chosen]


@pytest.fixture
def mixed(data):
    """Add to the folder a result, one whose measurement is gone, ChipStream's, and no images."""
    for name in ("b", "gone"):
        measure(data / f"{name}.rtdc")
        with BackgroundSparseMed(data / f"{name}.rtdc", data / f"{name}_bg.rtdc") as job:
            job.process()
    (data / "gone.rtdc").unlink()
    for name in ("a_dcn", "no images"):
        with h5py.File(data / f"{name}.rtdc", "w") as h5:
            h5.create_group("events")
    return data


def test_what_is_taken_of_a_folder_depends_on_what_is_wanted(mixed):
    assert names(choose_files([mixed], "measurements")) == ["A.RTDC", "b.rtdc"]
    assert names(choose_files([mixed], "backgrounds")) == ["A.RTDC", "b_bg.rtdc", "gone_bg.rtdc"]
    everything = ["A.RTDC", "a_dcn.rtdc", "b.rtdc", "b_bg.rtdc", "gone_bg.rtdc", "no images.rtdc"]
    assert names(choose_files([mixed], "all")) == everything
    found = choose_files([mixed], "all", recursive=True)
    assert names(found) == [*everything, "c.rtdc"]
    assert found[-1].within == Path("deep", "er", "c.rtdc")


def test_a_result_that_is_named_is_taken_unless_measurements_are_wanted(mixed):
    result = mixed / "b_bg.rtdc"
    both = [mixed / "b.rtdc", result]
    assert names(choose_files(both, "all")) == ["b.rtdc", "b_bg.rtdc"]
    assert names(choose_files(both, "backgrounds")) == ["b_bg.rtdc"]
    with pytest.raises(ValueError, match="no measurement there"):
        choose_files([result], "measurements")
    with pytest.raises(ValueError, match=r"deep: 1 measurement lies within .* --recursive"):
        choose_files([mixed / "deep"], "all")


def test_what_is_passed_over_is_counted_and_named_once(data, caplog):
    for number in range(7):
        with h5py.File(data / f"empty {number}.rtdc", "w") as h5:
            h5.create_group("events")
    (data / "soft.rtdc").symlink_to("b.rtdc")
    os.link(data / "b.rtdc", data / "hard.rtdc")
    (data / ".A.rtdc").write_text("of another system")
    assert names(choose_files([data, data / "b.rtdc"], "measurements")) == ["A.RTDC", "b.rtdc"]
    empty = ", ".join(f"{data / f'empty {number}.rtdc'}" for number in range(5))
    other = f"{data / 'hard.rtdc'}, {data / 'soft.rtdc'}"
    assert caplog.messages == [
        f"{data}: 1 measurement lies within its folders; add --recursive for these",
        f"skipped 7 (without images): {empty} and 2 more",
        f"skipped 1 (hidden): {data / '.A.rtdc'}",
        f"skipped 2 (other names of chosen files): {other}",
    ]


def test_outputs_that_end_like_other_files_are_refused(tmp_path):
    for name in ("x.tif", "x.npy", "x.Zarr", "x.html"):
        with pytest.raises(ValueError, match=rf"{name}: the name must end in \.rtdc, \.h5, not"):
            goes_to_file(tmp_path / name, (".rtdc", ".h5"))
    (tmp_path / "x.tif").mkdir()
    for name in ("x.tif", "x", "x.2026", ".x"):
        assert not goes_to_file(tmp_path / name, (".rtdc",))
    assert goes_to_file(tmp_path / "x.RTDC", (".rtdc",))
    assert sorted(tmp_path.iterdir()) == [tmp_path / "x.tif"]


# Pages ----------------------------------------------------------------------------------------


def test_pages_go_next_to_the_files_or_into_a_folder(mixed):
    beside = Page(mixed / "b_bg.rtdc", mixed / "b_bg_report.html")
    assert choose_pages([mixed / "b.rtdc"]) == choose_pages([mixed / "b_bg.rtdc"]) == [beside]
    alone = Page(mixed / "A.RTDC", mixed / "A_report.html")
    assert choose_pages([mixed / "A.RTDC"]) == [alone]
    pages = choose_pages([mixed], recursive=True, output=Path("reports"))
    assert [page.output.as_posix() for page in pages] == [
        "reports/A_report.html",
        "reports/b_bg_report.html",
        "reports/gone_bg_report.html",
        "reports/deep/er/c_report.html",
    ]
    assert all(page.folder_is_made for page in pages)
    source = mixed / "b.rtdc"
    for name in ("x.html", "x.HTM"):
        assert choose_pages([source], output=Path(name)) == [Page(mixed / "b_bg.rtdc", Path(name))]
    Path("notes").touch()  # one that is there is a file, and may be refused as such
    assert choose_pages([source], output=Path("notes")) == [
        Page(mixed / "b_bg.rtdc", Path("notes"))
    ]


@pytest.mark.parametrize(
    ("paths", "output", "message"),
    [
        (["data"], "x.html", r"x\.html: is the output of data.A\.RTDC and of data.b"),
        (["data", "more"], "x", r"b_report\.html: is the output of data.b\.rtdc and of more.b"),
        (["data"], "x.pdf", r"x\.pdf: the name must end in \.html, \.htm, not in \.pdf"),
        (["data", "gone"], None, "gone: there is no such file or folder"),
    ],
)
def test_pages_that_make_no_sense(data, paths, output, message):
    measure(Path("more", "b.rtdc"))
    with pytest.raises((OSError, ValueError), match=message):
        choose_pages([Path(path) for path in paths], output=output and Path(output))


def test_folders_that_are_linked_are_searched_each_once(data, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copy(data / "b.rtdc", elsewhere / "far.rtdc")
    (data / "link").symlink_to(elsewhere, target_is_directory=True)
    (data / "other link").symlink_to(elsewhere, target_is_directory=True)
    (data / "circle").symlink_to(data, target_is_directory=True)
    (elsewhere / "back").symlink_to(data, target_is_directory=True)
    for wanted in ("measurements", "all"):
        found = [each.within for each in choose_files([data], wanted, recursive=True)]
        assert found.count(Path("link/far.rtdc")) == 1
        assert len({os.path.realpath(data / each) for each in found}) == len(found)
    searched = [os.path.realpath(folder) for folder, _ in _folders(data, True, [])]
    assert len(set(searched)) == len(searched) == 4
    runs = choose_runs([data], recursive=True, output=tmp_path / "results")
    assert tmp_path / "results" / "link" / "far_bg.rtdc" in [run.output for run in runs]


def test_a_folder_that_cannot_be_listed_fails_by_itself(data, monkeypatch):
    def refuse(real, path="."):
        if os.fspath(path).endswith("deep"):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return real(path)

    for name in ("scandir", "listdir"):
        monkeypatch.setattr(os, name, partial(refuse, getattr(os, name)))
    for wanted in ("measurements", "backgrounds", "all"):
        assert names(choose_files([data], wanted, recursive=True)).count("deep") == 1
        assert "deep" not in names(choose_files([data], wanted))
    results = list(compute_files(data, recursive=True, kernel_size=5))
    assert {each.input.name: each.status for each in results}["deep"] == "failed"
    (error,) = (each.error for each in results if each.input.name == "deep")
    folder = data / "deep"
    assert error == (
        f"{folder}: this folder cannot be listed (Permission denied); nothing in it is read"
    )
    assert [each.input for each in compute_files(data / "deep")] == [data / "deep"]


def test_how_many_measurements_lie_deeper_is_said(data, caplog, monkeypatch):
    for number in range(3):
        (data / "deep" / f"{number}").mkdir()
        (data / "deep" / f"{number}" / "m.rtdc").touch()
        (data / "deep" / f"{number}" / "m_bg.rtdc").touch()
    choose_files([data], "all")
    assert caplog.messages[0].startswith(
        f"{data}: 4 measurements lie within its folders; add --rec"
    )
    monkeypatch.setattr("sparsemed.jobs.selection.MOST_FOLDERS", 3)
    choose_files([data], "all")
    assert "2 or more measurements lie" in caplog.messages[-1]
    caplog.clear()
    choose_files([data], "all", recursive=True)
    assert caplog.messages == []
    said = "deep: 3 or more measurements lie within its folders; add --recursive for these$"
    with pytest.raises(ValueError, match=said):
        choose_files([data / "deep"], "all")
    assert caplog.messages == []


def test_a_slip_in_a_name_is_answered_with_the_name_that_is_there(data):
    with pytest.raises(
        FileNotFoundError, match=r"bb\.rtdc: there is no .*; did you mean .*/b\.rtd"
    ):
        check_paths([data / "bb.rtdc"])
    with pytest.raises(FileNotFoundError, match=r"no such file or folder \(--output"):
        check_paths([data / "quite another.rtdc"])
    with pytest.raises(FileNotFoundError, match=r"no such file or folder \(--output"):
        check_paths([data / "none" / "b.rtdc"])


@pytest.mark.parametrize("output", ["data/results", "./data/results", "data", "other/../data/x"])
def test_results_within_the_folder_that_is_searched_are_found_out_by_any_name(
    tmp_path, monkeypatch, output
):
    measure(tmp_path / "data" / "a.rtdc")
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path)
    for folder in (Path("data"), tmp_path / "data"):
        with pytest.raises(ValueError, match="is searched"):
            choose_runs([folder], recursive=True, output=Path(output) / "deep")
