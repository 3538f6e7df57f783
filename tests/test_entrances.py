"""What an entrance is given arrives where it counts: each argument, through each entrance."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial

import click.testing
import h5py
import numpy as np
import pytest
from faults.watching import Watch, can_watch
from hdf5.files import files_open

import sparsemed.dcnum
from sparsemed import BackgroundSparseMed, SparseBackground, compute_background, compute_files
from sparsemed.cli import main
from sparsemed.frames.chunks import ChunkFrames
from sparsemed.hdf5.file_access import FileAccess
from sparsemed.jobs import done
from sparsemed.kernels.median import median_images
from sparsemed.report import write_report
from sparsemed.rtdc import output as rtdc_output
from sparsemed.rtdc import references
from sparsemed.rtdc.basins import file_record, store_record
from sparsemed.rtdc.info import info
from sparsemed.rtdc.pipeline_id import to_ppid

IMAGES = np.random.default_rng(0).integers(50, 90, (40, 24, 16), dtype=np.uint8)
PARAMETERS = {
    "kernel_size": 7,
    "split_time": 0.5,
    "thresh_cleansing": 0.25,
    "frac_cleansing": 0.6,
    "offset_correction": False,
}
PPID = "sparsemed:k=7^s=0.5^t=0.25^f=0.6^o=0"


def write_raw(path, time=None):
    with h5py.File(path, "w") as h5:
        h5.create_dataset("events/image", data=IMAGES, chunks=(10, 24, 16))
        h5["events/time"] = np.arange(40.0) if time is None else time
    return path


@pytest.fixture
def path(tmp_path):
    return write_raw(tmp_path / "in.rtdc")


# The entrances. Each takes a measurement, where the result goes, and options.


def job_of(kind, path, output, **options):
    with kind(path, output, **options) as job:
        job.process()
    return job.background


def approach_of(kind, path, output, **options):
    with kind(path, output, **options) as job:
        return job.process_approach()


def plain(path, output, **options):
    return compute_background(path, **options)


def saved(path, output, *, compress=True, **options):
    background = compute_background(path, **options)
    background.save(output, compress=compress)
    return background


def tell(path, output, **options):
    """Tell what a measurement holds; what would be refused is raised."""
    problems = info(path, **options).problems
    if problems:
        raise ValueError(problems[0])


def command(*words, path, output, basins=None, num_cpus=None, **parameters):
    """Run a command, and raise what it says in case of failure; return its lines of JSON."""
    line = [*words, path]
    line += [] if words[0] == "info" else ["-o", output]
    line += [] if words[0] in ("report", "watch") else ["--json"]
    line += [] if basins is None else ["--basins", basins]
    line += [] if num_cpus is None else ["--num-cpus", num_cpus]
    line += [part for name, value in parameters.items() for part in ("-k", f"{name}={value}")]
    done = click.testing.CliRunner().invoke(main, [str(word) for word in line])
    if done.exit_code:
        assert isinstance(done.exception, SystemExit), done.exception
        raise ValueError(done.stderr)
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    if words[0] == "info" and found[0]["problems"]:
        raise ValueError(found[0]["problems"][0])
    return found


def entrance(*words):
    return lambda path, output, **options: command(*words, path=path, output=output, **options)


BACKGROUNDS = {
    "compute_background": plain,
    "save": saved,
    "process": partial(job_of, BackgroundSparseMed),
    "process_approach": partial(approach_of, BackgroundSparseMed),
    "process of dcnum": partial(job_of, sparsemed.dcnum.BackgroundSparseMed),
    "process_approach of dcnum": partial(approach_of, sparsemed.dcnum.BackgroundSparseMed),
}
COMMANDS = {
    "sparsemed compute": entrance("compute"),
    "sparsemed compute --dry-run": entrance("compute", "--dry-run"),
    "sparsemed report": entrance("report"),
    "sparsemed watch": entrance("watch"),
}
TELLERS = {"info": tell, "sparsemed info": entrance("info")}


def through(*groups):
    entrances = {name: each for group in groups for name, each in group.items()}
    return pytest.mark.parametrize("use", entrances.values(), ids=entrances)


def only(entrances, *names):
    return {name: entrances[name] for name in names}


def output_of(use, tmp_path):
    return tmp_path / ("page.html" if use is COMMANDS["sparsemed report"] else "out.rtdc")


@pytest.mark.parametrize(
    ("option", "names"),
    [
        ("basins", {"compute", "report", "watch", "info"}),
        ("num_cpus", {"compute", "report", "watch"}),
        ("settings", {"compute", "report", "watch"}),
    ],
)
def test_no_command_that_has_the_option_is_left_out_here(option, names):
    options = {name: {each.name for each in main.commands[name].params} for name in main.commands}
    assert {name for name in options if option in options[name]} == names


# Parameters, cores, compression, time -----------------------------------------------------------


@through(BACKGROUNDS)
def test_parameters_make_the_background(path, tmp_path, use):
    expected = compute_background(IMAGES, np.arange(40.0), **PARAMETERS)
    found = use(path, tmp_path / "out.rtdc", **PARAMETERS)
    assert to_ppid(asdict(found.parameters)) == PPID
    assert found.offsets is None
    for name in ("series", "kept", "frame_index"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


@through(only(BACKGROUNDS, "save", "process", "process of dcnum"), COMMANDS)
def test_parameters_come_with_the_result(path, tmp_path, use):
    expected = compute_background(IMAGES, np.arange(40.0), **PARAMETERS)
    output = output_of(use, tmp_path)
    rows = use(path, output, **PARAMETERS)
    if use is COMMANDS["sparsemed report"]:
        page = output.read_text(encoding="utf-8")
        assert PPID in page
        assert f"{len(expected.images)} of {len(expected.series)} background images kept" in page
    elif use is COMMANDS["sparsemed compute --dry-run"]:
        (row,) = rows
        assert (row["ppid"], row["frames_per_window"], row["windows"]) == (
            PPID,
            7,
            len(expected.series),
        )
    else:
        with h5py.File(output) as h5:
            assert h5["basin_events/image_bg"].attrs["dcnum ppid background"] == PPID
            np.testing.assert_array_equal(h5["basin_events/image_bg"], expected.images)
            np.testing.assert_array_equal(h5["events/basinmap0"], expected.frame_index)
            assert "bg_off" not in h5["events"]


def note_cores(monkeypatch):
    """Note with how many cores frames are read, and medians computed."""
    reading, computing = set(), set()

    class Noting(ChunkFrames):
        def __init__(self, layout, stored, num_cpus, label):
            reading.add(num_cpus)
            super().__init__(layout, stored, num_cpus, label)

    def compute(frames, rows, starts, length, images, num_cpus, done):
        computing.add(num_cpus)
        median_images(frames, rows, starts, length, images, num_cpus, done)

    monkeypatch.setattr("sparsemed.frames.opening.ChunkFrames", Noting)
    monkeypatch.setattr("sparsemed.frames.parts.ChunkFrames", Noting)
    monkeypatch.setattr("sparsemed.method.series.median_images", compute)
    monkeypatch.setattr("sparsemed.method.growing.median_images", compute)
    return reading, computing


@through(BACKGROUNDS, only(COMMANDS, "sparsemed compute", "sparsemed report"))
def test_reading_and_computing_take_as_many_cores_as_given(path, tmp_path, monkeypatch, use):
    reading, computing = note_cores(monkeypatch)
    monkeypatch.setattr("sparsemed.quality.trying._may_be_cured", lambda *_: True)
    use(path, output_of(use, tmp_path), num_cpus=3, kernel_size=7)
    assert (reading - {1}, computing) == ({3}, {3})  # a sample is read by one core


@pytest.mark.parametrize("judge", ["quality", "report"])
def test_to_judge_takes_as_many_cores_as_given(path, tmp_path, monkeypatch, judge):
    background = compute_background(path, kernel_size=7)
    _, computing = note_cores(monkeypatch)
    monkeypatch.setattr("sparsemed.quality.trying._may_be_cured", lambda *_: True)
    monkeypatch.setattr("sparsemed.report.make_page", lambda *_: "")  # which takes long
    given = [tmp_path / "page.html"] if judge == "report" else []
    getattr(background, judge)(*given, num_cpus=3)
    assert computing == {3}


def test_to_watch_takes_as_many_cores_as_given(path, tmp_path, monkeypatch):
    _, computing = note_cores(monkeypatch)
    COMMANDS["sparsemed watch"](path, tmp_path / "out.rtdc", num_cpus=3, kernel_size=7)
    assert computing == {3}


@pytest.mark.parametrize("kind", [BackgroundSparseMed, sparsemed.dcnum.BackgroundSparseMed, None])
def test_so_they_do_for_a_dataset_of_hdf5(path, tmp_path, monkeypatch, kind):
    reading, computing = note_cores(monkeypatch)
    with h5py.File(path) as h5:
        if kind is None:
            compute_background(h5["events/image"], np.arange(40.0), num_cpus=3, kernel_size=7)
        else:
            job_of(kind, h5["events/image"], tmp_path / "out.rtdc", num_cpus=3, kernel_size=7)
    assert (reading, computing) == ({3}, {3})


@through(BACKGROUNDS, COMMANDS)
def test_no_cores_are_a_mistake_that_nothing_comes_of(path, tmp_path, use):
    with pytest.raises(ValueError, match="num_cpus must be a whole number from 1 up, got 0"):
        use(path, output_of(use, tmp_path), num_cpus=0)
    assert os.listdir(tmp_path) == [path.name]


@through(only(BACKGROUNDS, "save", "process", "process of dcnum"))
@pytest.mark.parametrize("compress", [True, False, None])
def test_images_are_compressed_unless_somebody_says_no(path, tmp_path, use, compress):
    options = {} if compress is None else {"compress": compress}
    use(path, tmp_path / "out.rtdc", kernel_size=7, **options)
    with h5py.File(tmp_path / "out.rtdc") as h5:
        for name in ("basin_events/image_bg", "events/bg_off", "events/basinmap0"):
            plist = h5[name].id.get_create_plist()
            filters = [plist.get_filter(number)[0] for number in range(plist.get_nfilters())]
            assert filters == ([3] if compress is False else [32015, 3])


@pytest.mark.parametrize("rate", [None, 8.0])
@pytest.mark.parametrize("has_frames", [False, True])
def test_the_frame_rate_given_beats_that_of_the_measurement(path, rate, has_frames):
    with h5py.File(path, "a") as h5:
        del h5["events/time"]
        if rate is not None:
            h5.attrs["imaging:frame rate"] = rate
        if has_frames:
            h5["events/frame"] = np.arange(40) * 3
    expected = np.arange(40) * 1.5 if has_frames else np.linspace(0, 30, 40)
    np.testing.assert_array_equal(compute_background(path, frame_rate=2.0).time, expected)
    of_array = compute_background(IMAGES, frame_rate=2.0).time  # which leaves no frames out
    np.testing.assert_array_equal(of_array, np.arange(40) / 2)


def test_the_time_given_beats_all_that_the_measurement_knows(path):
    time = np.arange(40) / 5
    for options in ({}, {"frame_rate": 2.0}):
        np.testing.assert_array_equal(compute_background(path, time, **options).time, time)


def reported(report, path, tmp_path, kind):
    with kind(path, tmp_path / "out.rtdc") as job:
        job.process(report)


@pytest.mark.parametrize(
    "use",
    [
        lambda report, path, _: compute_background(path, progress=report),
        lambda report, *_: compute_background(IMAGES, progress=report),
        partial(reported, kind=BackgroundSparseMed),
        partial(reported, kind=sparsemed.dcnum.BackgroundSparseMed),
    ],
    ids=["path", "array", "process", "process of dcnum"],
)
def test_progress_is_told_from_0_to_1(path, tmp_path, use):
    told = []
    use(told.append, path, tmp_path)
    assert (told[0], told[-1]) == (0, 1)


# Which other files may be opened ----------------------------------------------------------------

watched = pytest.mark.skipif(not can_watch(), reason="only Linux says who opens what")


def by_basin(h5, other):
    store_record(h5, file_record("b", None, [str(other)], None, None), {})


def by_link(h5, other):
    h5["events/image"] = h5py.ExternalLink(str(other), "/events/image")
    h5["events/time"] = np.arange(40.0)


def lead(path, way, other):
    with h5py.File(path, "w") as h5:
        h5.create_group("events")
        way(h5, other)
    return path


@pytest.fixture
def away(tmp_path):
    (tmp_path / "away").mkdir()
    return write_raw(tmp_path / "away" / "raw.rtdc")


@pytest.fixture
def home(tmp_path):
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@watched
@through(BACKGROUNDS, COMMANDS, TELLERS)
@pytest.mark.parametrize("way", [by_basin, by_link])
@pytest.mark.parametrize("basins", ["off", "same-folder"])
def test_a_file_that_is_not_allowed_is_never_opened(home, away, use, way, basins):
    path = lead(home / "in.rtdc", way, away)
    with Watch(away) as watch:
        try:
            use(path, output_of(use, home), basins=basins)
        except ValueError as error:
            message = str(error)
            left_open = files_open()  # while what was raised still holds on to everything
        assert not watch.opened
    assert f"{path}: " in message
    assert f"which basins='{basins}' does not follow" in message
    assert str(path) not in left_open
    assert os.listdir(home) == [path.name]


@watched
@through(
    BACKGROUNDS,
    only(COMMANDS, "sparsemed compute", "sparsemed compute --dry-run", "sparsemed watch"),
    TELLERS,
)
def test_any_file_is_opened_if_nothing_else_is_said(home, away, use):
    path = lead(home / "in.rtdc", by_basin, away)
    with Watch(away) as watch:
        use(path, output_of(use, home))
        assert watch.opened


@watched
@pytest.mark.parametrize("words", [["compute"], ["compute", "--dry-run"], ["compute", "-r"]])
@pytest.mark.parametrize("way", [by_basin, by_link])
def test_to_look_through_a_folder_opens_nothing_outside_of_it(home, away, words, way):
    lead(home / "in.rtdc", way, away)
    lead(home / "in_bg.rtdc", way, away)  # is it a result?
    with Watch(away) as watch:
        with pytest.raises(ValueError, match="does not follow"):
            command(*words, path=home, output=home.parent / "results", basins="off")
        assert not watch.opened
    assert {each.name for each in home.rglob("*") if each.is_file()} == {"in.rtdc", "in_bg.rtdc"}


FACES = {
    "quality": lambda background, _: background.quality(),
    "plot": lambda background, _: background.plot(),
    "write_report": lambda background, folder: write_report(background, folder / "page.html"),
}


@watched
@through(BACKGROUNDS)
@pytest.mark.parametrize("face", FACES.values(), ids=FACES)
def test_a_background_keeps_the_policy_it_was_computed_with(home, away, use, face):
    beside = write_raw(home / "raw.rtdc")
    path = lead(home / "in.rtdc", by_basin, beside)
    background = use(path, home / "out.rtdc", basins="same-folder", kernel_size=7)
    before = sorted(os.listdir(home))
    beside.unlink()
    beside.symlink_to(away)
    with Watch(away) as watch:
        with pytest.raises(ValueError, match="basins='same-folder' does not follow"):
            face(background, home)
        assert not watch.opened
    assert sorted(os.listdir(home)) == before


@watched
def test_to_save_a_background_opens_no_other_file(home, away):
    path = lead(home / "in.rtdc", by_basin, write_raw(home / "raw.rtdc"))
    background = compute_background(path, basins="same-folder", kernel_size=7)
    (home / "raw.rtdc").unlink()
    (home / "raw.rtdc").symlink_to(away)
    with Watch(away) as watch:
        background.save(home / "out.rtdc")
        assert not watch.opened


@watched
@through(only(COMMANDS, "sparsemed report"), TELLERS)
def test_a_background_elsewhere_is_not_looked_at(home, away, use):
    """The images are in the file itself; only a background would lead away."""
    with h5py.File(away, "a") as h5:
        h5["events/image_bg"] = IMAGES
    path = write_raw(home / "in.rtdc")
    with h5py.File(path, "a") as h5:
        store_record(h5, file_record("b", None, [str(away)], ["image_bg"], None), {})
    with Watch(away) as watch:
        use(path, output_of(use, home), basins="off")
        assert not watch.opened
        tell(path, None, basins="any")
        assert watch.opened


# By whatever way: workers, results that are there, backgrounds that are loaded --------------------


def by_workers(use):
    """Return an entrance whose frames are read, in two ranges, by a worker."""

    def through_a_pool(path, output, **options):
        with ThreadPoolExecutor(1) as pool:
            return use(path, output, executor=pool, ranges=2, **options)

    return through_a_pool


def files(path, output, **options):
    (result,) = compute_files(path, output, **options)
    if result.error is not None:
        raise ValueError(result.error)
    return result


def files_by_workers(path, output, **options):
    with ThreadPoolExecutor(1) as pool:
        return files(path, output, executor=pool, **options)


WORKERS = {f"{name}, workers": by_workers(use) for name, use in BACKGROUNDS.items()}
FILES = {"compute_files": files, "compute_files, workers": files_by_workers}


def note_policies(monkeypatch):
    """Note by which policies files are opened, and what they refer to is looked at."""
    noted = []
    open_access, relate = FileAccess.__init__, references.relation

    def open_and_note(access, file, policy):
        noted.append(policy)
        open_access(access, file, policy)

    def relate_and_note(basin, path, source, identifier, policy="any"):
        noted.append(policy)
        return relate(basin, path, source, identifier, policy)

    monkeypatch.setattr(FileAccess, "__init__", open_and_note)
    for module in (references, rtdc_output, done):
        monkeypatch.setattr(module, "relation", relate_and_note)
    return noted


@through(BACKGROUNDS, WORKERS, FILES, COMMANDS, TELLERS)
@pytest.mark.parametrize("is_done", [False, True])
def test_no_file_is_opened_and_no_reference_looked_at_by_another_policy(
    home, monkeypatch, use, is_done
):
    path = lead(home / "in.rtdc", by_basin, write_raw(home / "raw.rtdc"))
    output = output_of(use, home)
    if is_done:
        if output.suffix != ".rtdc":
            return
        files(path, output, kernel_size=7)
    noted = note_policies(monkeypatch)
    options = {} if use in TELLERS.values() else {"kernel_size": 7}
    found = use(path, output, basins="same-folder", **options)
    assert "same-folder" in noted
    assert set(noted) <= {"same-folder", "off"}
    if isinstance(found, SparseBackground):
        del noted[:]
        found.quality()
        assert set(noted) == {"same-folder"}


@pytest.mark.parametrize("basins", ["off", "same-folder", "any"])
def test_a_background_that_is_loaded_keeps_the_policy(home, away, monkeypatch, basins):
    path = lead(home / "in.rtdc", by_basin, write_raw(home / "raw.rtdc"))
    compute_background(path, kernel_size=7).save(home / "out.rtdc")
    noted = note_policies(monkeypatch)
    background = sparsemed.load(home / "out.rtdc", basins=basins)
    assert set(noted) == {basins}
    assert background.basins == basins


@watched
@pytest.mark.parametrize("basins", ["off", "same-folder", "any"])
def test_to_load_a_background_opens_only_what_may_be_opened(home, away, basins):
    compute_background(away, kernel_size=7).save(home / "out.rtdc")
    with Watch(away) as watch:
        sparsemed.load(home / "out.rtdc", basins=basins)
        assert bool(watch.opened) == (basins == "any")


@through(only(WORKERS, "compute_background, workers", "process, workers"), FILES)
def test_workers_take_as_many_cores_as_given(path, tmp_path, monkeypatch, use):
    reading, computing = note_cores(monkeypatch)
    use(path, tmp_path / "out.rtdc", num_cpus=3, kernel_size=7)
    assert (reading, computing) == ({3}, {3})


@pytest.mark.parametrize("kind", ["path", "array"])
def test_workers_share_the_cores_if_nothing_else_is_said(path, monkeypatch, kind):
    monkeypatch.setattr("sparsemed.executors.pool.available_cores", lambda: 8)
    reading, computing = note_cores(monkeypatch)
    with ThreadPoolExecutor(2) as pool:
        how = {"executor": pool, "ranges": 2, "kernel_size": 7}
        if kind == "path":
            compute_background(path, **how)
        else:
            compute_background(IMAGES, np.arange(40.0), **how)
    assert computing == {4}
    assert reading >= ({4} if kind == "path" else set())


@through(FILES, only(COMMANDS, "sparsemed compute"))
def test_what_is_done_is_done_again_only_on_demand(path, tmp_path, use):
    output, statuses = tmp_path / "out.rtdc", []
    again = entrance("compute", "--redo") if use is COMMANDS["sparsemed compute"] else None
    for redo in (False, False, True):
        if again is None:
            statuses.append(use(path, output, kernel_size=7, redo=redo).status)
        else:
            (row,) = (again if redo else use)(path, output, kernel_size=7)
            statuses.append(row["status"])
    assert statuses == ["done", "skipped", "done"]


@through(FILES)
def test_files_get_the_parameters_that_are_given(path, tmp_path, use):
    expected = compute_background(IMAGES, np.arange(40.0), **PARAMETERS)
    assert use(path, tmp_path / "out.rtdc", **PARAMETERS).ppid == PPID
    with h5py.File(tmp_path / "out.rtdc") as h5:
        assert h5["basin_events/image_bg"].attrs["dcnum ppid background"] == PPID
        np.testing.assert_array_equal(h5["basin_events/image_bg"], expected.images)


@through(WORKERS)
def test_workers_get_the_parameters_that_are_given(path, tmp_path, use):
    expected = compute_background(IMAGES, np.arange(40.0), **PARAMETERS)
    found = use(path, tmp_path / "out.rtdc", **PARAMETERS)
    for name in ("series", "images", "kept", "frame_index"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


def test_a_worker_in_another_folder_finds_files_that_are_given_relatively(path, monkeypatch):
    (path.parent / "elsewhere").mkdir()

    class Elsewhere(ThreadPoolExecutor):
        def submit(self, *arguments):
            monkeypatch.chdir(path.parent / "elsewhere")
            try:
                future = super().submit(*arguments)
                future.exception()
                return future
            finally:
                monkeypatch.chdir(path.parent)

    monkeypatch.chdir(path.parent)
    (path.parent / "other.rtdc").write_bytes(path.read_bytes())
    with Elsewhere(1) as pool:
        results = list(compute_files(["in.rtdc", "other.rtdc"], executor=pool, kernel_size=7))
        one = compute_background("in.rtdc", executor=pool, ranges=2, kernel_size=7)
    assert [result.error for result in results] == [None, None]
    assert {str(result.output) for result in results} == {"in_bg.rtdc", "other_bg.rtdc"}
    assert {"in_bg.rtdc", "other_bg.rtdc"} <= set(os.listdir(path.parent))
    assert os.listdir(path.parent / "elsewhere") == []
    np.testing.assert_array_equal(one.series, compute_background(path, kernel_size=7).series)
