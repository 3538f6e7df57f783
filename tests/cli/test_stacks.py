"""Stacks on the command line: background images as TIFF or Zarr, frames less them, facts, pages."""

import json
import os
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import h5py
import numpy as np
import pytest
import tifffile
import zarr
from click.testing import CliRunner

from sparsemed import compute_background, compute_files, load
from sparsemed.cli import main
from sparsemed.demo import make_measurement
from sparsemed.frames.stacks.writing import read_notes
from sparsemed.jobs.choosing import _result_name
from sparsemed.jobs.stack_runs import write_images
from sparsemed.quality import overall

RNG = np.random.default_rng(0)
SCENE = RNG.integers(60, 120, (40, 64))
FRAMES = np.clip(SCENE + RNG.normal(0, 2, (300, 40, 64)), 0, 255).astype(np.uint8)
KEYS = ("-k", "kernel_size=20")


@pytest.fixture
def stack(tmp_path):
    tifffile.imwrite(tmp_path / "film.tif", FRAMES, metadata={"axes": "TYX"})
    return tmp_path / "film.tif"


def run(*args, status=0):
    result = CliRunner().invoke(main, [str(arg) for arg in args])
    assert result.exit_code == status, result.output
    return result


def expected():
    return compute_background(FRAMES, frame_rate=50, kernel_size=20)


def test_a_stack_makes_a_tiff_that_imagej_reads(stack, tmp_path):
    out, left = tmp_path / "background.tif", tmp_path / "frames.tif"
    result = run("compute", stack, "-o", out, "--subtracted", left, "--fps", 50, *KEYS)
    assert f"{stack}: 300 frames, 6 windows, 5 kept" in result.stdout
    assert f"-> {out}; " in result.stdout
    background = expected()
    with tifffile.TiffFile(out) as file:
        assert file.is_imagej
        assert file.series[0].axes == "TYX"
        np.testing.assert_array_equal(file.asarray(), background.images, strict=True)
        assert len(file.imagej_metadata["Labels"]) == 5
    notes = read_notes(out)
    np.testing.assert_array_equal(notes["times"], background.step_times[background.kept])
    firsts = [int(np.argmax(background.frame_index == image)) for image in range(5)]
    assert notes["first_frames"] == firsts
    assert notes["parameters"]["kernel_size"] == 20
    assert notes["pipeline"] == "sparsemed:k=20^s=1^t=0^f=0.8^o=1"
    assert (notes["stack"], notes["frames"]) == (str(stack), 300)
    assert notes["seconds"] == background.time[-1]
    with tifffile.TiffFile(left) as file:
        assert file.is_imagej
        differences = background.subtract(FRAMES)
        np.testing.assert_array_equal(file.asarray(), differences.astype(np.float32), strict=True)


def test_what_imagej_cannot_read_is_a_bigtiff_with_the_same_notes(stack, tmp_path, monkeypatch):
    out, left = tmp_path / "background.tif", tmp_path / "frames.tif"
    monkeypatch.setattr("sparsemed.frames.stacks.writing.MOST_OF_IMAGEJ", 4 * FRAMES.size)
    monkeypatch.setattr("sparsemed.jobs.stack_runs.PIECE_BYTES", 4 * FRAMES[:7].size)
    run("compute", stack, "-o", out, "--subtracted", left, "--fps", 50, *KEYS)
    with tifffile.TiffFile(out) as small, tifffile.TiffFile(left) as large:
        assert (small.is_imagej, small.is_bigtiff) == (True, False)
        assert (large.is_imagej, large.is_bigtiff) == (False, True)
        differences = expected().subtract(FRAMES).astype(np.float32)
        np.testing.assert_array_equal(large.asarray(), differences, strict=True)
    assert read_notes(left)["what"] == "frames less their background"


def test_to_subtract_frames_are_read_by_as_many_threads_as_given(stack, tmp_path, monkeypatch):
    given = set()

    class Noting(ThreadPoolExecutor):
        def map(self, *args):
            given.add(self._max_workers)
            return super().map(*args)

    monkeypatch.setattr("sparsemed.frames.stacks.tiff.ThreadPoolExecutor", Noting)
    tifffile.imwrite(stack, FRAMES, compression="zlib")
    out, left = tmp_path / "background.tif", tmp_path / "frames.tif"
    words = ("compute", stack, "-o", out, "--subtracted", left, "--num-cpus", 3, "--fps", 50)
    run(*words, *KEYS)
    assert given - {1} == {3}  # a sample is read by one thread


def test_images_that_are_left_out_have_no_time_in_the_result(tmp_path):
    frames = FRAMES.copy()
    frames[:20] //= 2
    background = compute_background(frames, frame_rate=50, kernel_size=20)
    assert not background.kept[0]
    write_images(tmp_path / "a.tif", background, ())
    times = background.step_times[background.kept]
    np.testing.assert_array_equal(read_notes(tmp_path / "a.tif")["times"], times)


def test_a_zarr_makes_a_zarr(tmp_path, monkeypatch):
    monkeypatch.setattr("sparsemed.jobs.stack_runs.PIECE_BYTES", 4 * FRAMES[:7].size)
    path, out, left = (tmp_path / name for name in ("film.zarr", "background.zarr", "left.zarr"))
    zarr.create_array(path, data=FRAMES, chunks=(300, 16, 16))
    for _ in range(2):  # an earlier result is replaced
        run("compute", path, "-o", out, "--subtracted", left, "--fps", 50, *KEYS)
    background = expected()
    np.testing.assert_array_equal(zarr.open(out, mode="r")[:], background.images, strict=True)
    differences = background.subtract(FRAMES).astype(np.float32)
    np.testing.assert_array_equal(zarr.open(left, mode="r")[:], differences, strict=True)
    assert read_notes(out)["what"] == "background images"
    assert sorted(each.name for each in tmp_path.iterdir()) == [
        "background.zarr",
        "film.zarr",
        "left.zarr",
    ]


def test_hdf5_can_be_written_and_read(stack, tmp_path):
    out = tmp_path / "background.h5"
    said = run("compute", stack, "-o", out, "--fps", 50, *KEYS).stdout
    background = load(out, np.arange(300) / 50)
    np.testing.assert_array_equal(background.images, expected().images)
    found = expected().quality(FRAMES, try_cures=False)
    np.testing.assert_equal(background.findings, found)  # where NaN equals NaN
    assert f"-> {out}; {overall(found)}" in said
    run("compute", out, "-o", tmp_path / "no.tif", "--dataset", "basin_events/image_bg", "--fps", 1)
    dataset = tmp_path / "raw.h5"
    with h5py.File(dataset, "w") as h5:
        h5["t0/raw"] = FRAMES
    again = tmp_path / "again.tif"
    run("compute", dataset, "--dataset", "t0/raw", "-o", again, "--fps", 50, *KEYS)
    np.testing.assert_array_equal(tifffile.imread(again), expected().images)


@pytest.mark.parametrize("words", [["compute"], ["compute", "-n"], ["report"], ["info"]])
def test_a_dataset_elsewhere_is_opened_only_if_that_is_allowed(tmp_path, words):
    (tmp_path / "away").mkdir()
    with h5py.File(tmp_path / "away" / "raw.h5", "w") as h5:
        h5["film"] = FRAMES
    with h5py.File(tmp_path / "stack.h5", "w") as h5:
        h5["film"] = h5py.ExternalLink("away/raw.h5", "/film")
    output = tmp_path / ("page.html" if words == ["report"] else "out.tif")
    out = [] if words == ["info"] else ["-o", output]
    options = ("--dataset", "film", "--fps", 50, *out)
    result = run(*words, tmp_path / "stack.h5", *options, "--basins", "off", status=1)
    assert "which basins='off' does not follow" in result.stderr
    run(*words, tmp_path / "stack.h5", *options)


def test_what_is_there_already_is_replaced_only_if_it_is_ours(stack, tmp_path):
    out = tmp_path / "background.tif"
    tifffile.imwrite(out, FRAMES[:5])
    before = out.read_bytes()
    result = run("compute", stack, "-o", out, "--fps", 50, status=1)
    assert "background.tif: exists and is no result of sparsemed" in result.stderr
    assert out.read_bytes() == before
    result = run("compute", stack, "-o", tmp_path / "b.tif", "--subtracted", out, status=1)
    assert "background.tif: exists and is no result of sparsemed" in result.stderr
    assert not (tmp_path / "b.tif").exists()
    folder = tmp_path / "folder.zarr"
    folder.mkdir()
    (folder / "mine.txt").touch()
    result = run("compute", stack, "-o", folder, "--fps", 50, status=1)
    assert "folder.zarr: exists and is no result of sparsemed" in result.stderr
    assert os.listdir(folder) == ["mine.txt"]
    out.unlink()
    for keys in (KEYS, ("-k", "kernel_size=30")):
        run("compute", stack, "-o", out, "--fps", 50, *keys)
    assert read_notes(out)["parameters"]["kernel_size"] == 30


@pytest.mark.parametrize(
    ("args", "text"),
    [
        ([], "is a stack (TIFF), not a measurement; name a file for its background, such as -o fi"),
        (
            ["-o", "out.png"],
            "out.png: the name must end in .tif, .tiff, .zarr, .rtdc, .h5, .hdf5, not in .png",
        ),
        (["--in-place"], "only measurements can be changed --in-place"),
        (["film_2.tif", "-o", "a.tif"], "a.tif: is the output of film.tif and of film_2.tif"),
        (["-o", "film.tif"], "is the stack itself, which is not changed"),
        (["-o", "x/../film.tif"], "is the stack itself, which is not changed"),
        (["-o", "a.tif", "--subtracted", "film.tif"], "is the stack itself, which is not changed"),
        (["-o", "a.tif", "--subtracted", "a.tif"], "--output and --subtracted name the same file"),
        (["-o", "a.tif", "--subtracted", "x/../a.tif"], "name the same file"),
        (["film_2.tif"], "name a folder for the backgrounds of stacks, such as -o backgrounds"),
        (["film_2.tif", "-o", "a", "--subtracted", "b.tif"], "names one file, for 2 stacks"),
    ],
)
def test_what_makes_no_sense_is_said(stack, monkeypatch, args, text):
    monkeypatch.chdir(stack.parent)
    tifffile.imwrite("film_2.tif", FRAMES)
    assert text in run("compute", "film.tif", *args, status=2).stderr
    assert sorted(os.listdir()) == ["film.tif", "film_2.tif"]


@pytest.fixture
def stacks(tmp_path, monkeypatch):
    """Two stacks and a measurement, in the working folder."""
    monkeypatch.chdir(tmp_path)
    tifffile.imwrite("film_1.tif", FRAMES, metadata={"axes": "TYX"})
    zarr.create_array("film.2.ome.zarr", data=255 - FRAMES, chunks=(100, 40, 64))
    make_measurement("in.rtdc", count=300)
    return "film_1.tif", "film.2.ome.zarr", "in.rtdc"


def test_several_stacks_and_measurements_go_to_a_folder(stacks):
    command = ("compute", *stacks, "-o", "out", "--fps", 50, *KEYS, "--summary", "night")
    run(*command, "--dry-run")
    assert not os.path.exists("out")
    text = run(*command)
    assert "3 stacks and measurements in" in text.stderr
    np.testing.assert_array_equal(tifffile.imread("out/film_1_bg.tif"), expected().images)
    other = compute_background(255 - FRAMES, frame_rate=50, kernel_size=20)
    np.testing.assert_array_equal(tifffile.imread("out/film.2_bg.tif"), other.images)
    assert sorted(os.listdir("out")) == ["film.2_bg.tif", "film_1_bg.tif", "in_bg.rtdc"]
    with open("night/summary.json", "rb") as file:
        rows = json.load(file)["measurements"]
    assert [row["status"] for row in rows] == ["done"] * 3
    assert all(row["thumbnail"].startswith("data:image/jpeg;base64,") for row in rows)
    assert run(*command).stdout.count(": up to date, 300 frames") == 3


@pytest.mark.parametrize(
    ("name", "result"),
    [
        ("film.ome.tif", "film_bg.tif"),
        ("film.ome.zarr", "film_bg.tif"),
        ("film.zarr.zip", "film_bg.tif"),
        ("film.ome.zarr.zip", "film_bg.tif"),
        ("2026.01.31", "2026.01.31_bg.tif"),
        ("img_*.png", "img_bg.tif"),
        ("*.png", "stack_bg.tif"),
    ],
)
def test_results_are_named_like_their_stacks(tmp_path, name, result):
    path = tmp_path / name
    if path.suffix in (".zarr", ".31"):
        path.mkdir()
    assert _result_name(path) == result


def test_results_among_stacks_are_no_stacks(stacks):
    run("compute", *stacks[:2], "-o", ".", "--fps", 50, *KEYS)
    found = [name for name in os.listdir() if name.endswith(".tif")]
    assert sorted(found) == ["film.2_bg.tif", "film_1.tif", "film_1_bg.tif"]
    assert run("compute", *sorted(found), "-o", ".", "--fps", 50, *KEYS).stdout.count("\n") == 1
    tifffile.imwrite("mine_bg.tif", FRAMES, metadata={"axes": "TYX"})
    run("compute", "mine_bg.tif", "film_1_bg.tif", "-o", "mine", "--fps", 50, *KEYS)
    assert os.listdir("mine") == ["mine_bg_bg.tif"]
    text = run("compute", "film.2_bg.tif", "film_1_bg.tif", "-o", "out", status=2).stderr
    assert "film.2_bg.tif and all others are results of earlier runs; give the stacks" in text
    run("compute", "film_1_bg.tif", "-o", "out", "--fps", 1)  # alone, it is meant
    assert os.listdir("out") == ["film_1_bg_bg.tif"]


def written(path):
    """Return what changes when a file is written; another time changes when it is read."""
    state = os.stat(path)
    return state.st_ino, state.st_mtime_ns


@pytest.mark.parametrize(
    "change", ["frames", "rate", "parameter", "result", "choice", "nothing", "redo", "subtracted"]
)
def test_a_stack_is_computed_again_if_anything_changes(stacks, change):
    path, options = stacks[0], {"frame_rate": 50, "kernel_size": 20}
    (first,) = compute_files(path, "out", **options)
    before = written(first.output)
    if change == "frames":
        tifffile.imwrite(path, FRAMES[::-1], metadata={"axes": "TYX"})
    elif change == "result":
        tifffile.imwrite(first.output, FRAMES[0], description="{}")
        os.truncate(first.output, 0)
    elif change == "subtracted":
        run("compute", path, "-o", "out", "--fps", 50, "--subtracted", "left.tif", *KEYS)
        assert os.path.exists("left.tif")
        run("compute", path, "-o", "left.tif", "--fps", 50, *KEYS)  # it holds no background
        np.testing.assert_array_equal(tifffile.imread("left.tif"), expected().images)
        return
    changed = {
        "rate": {"frame_rate": 25},
        "parameter": {"kernel_size": 21},
        "choice": {"series": 0},
        "redo": {"redo": True},
    }
    (again,) = compute_files(path, "out", **{**options, **changed.get(change, {})})
    assert again.status == ("skipped" if change == "nothing" else "done")
    assert (written(first.output) == before) is (change == "nothing")
    if change == "nothing":
        assert again.verdict == first.verdict
        assert (again.frames, again.height, again.width, again.kept) == (300, 40, 64, 5)


def test_stacks_are_computed_by_workers_wherever_these_work(stacks):
    with ProcessPoolExecutor(1, initializer=os.chdir, initargs=("/",)) as pool:
        results = list(compute_files(stacks, "out", executor=pool, frame_rate=50, kernel_size=20))
    assert {str(each.input) for each in results} == set(stacks)
    assert [each.error for each in results] == [None] * 3
    np.testing.assert_array_equal(tifffile.imread("out/film_1_bg.tif"), expected().images)


def test_the_frames_of_a_single_stack_are_read_by_workers(stack, tmp_path):
    tasks = []

    class Noting(ThreadPoolExecutor):
        def submit(self, *task):
            tasks.append(task)
            return super().submit(*task)

    with Noting(2) as pool:
        out = tmp_path / "background.tif"
        (found,) = compute_files(stack, out, executor=pool, frame_rate=50, kernel_size=20)
    assert (found.error, bool(tasks)) == (None, True)
    np.testing.assert_array_equal(tifffile.imread(out), expected().images)


def test_options_of_stacks_need_a_stack(stacks):
    with pytest.raises(ValueError, match=r"frame_rate \(--fps\): for stacks of images only"):
        compute_files("in.rtdc", frame_rate=50)


def test_options_of_stacks_are_not_for_measurements(tmp_path):
    (tmp_path / "in.rtdc").write_bytes(b"\x89HDF\r\n\x1a\n")
    for command in ("compute", "report", "info"):
        result = run(command, tmp_path / "in.rtdc", "--fps", 3, "--channel", 1, status=2)
        assert "frame_rate (--fps), channel: for stacks of images only" in result.stderr


def test_a_folder_of_images_below_measurements_is_none(tmp_path):
    for number in range(20):
        tifffile.imwrite(tmp_path / f"plot_{number}.tif", FRAMES[number])
    assert "no measurement there" in run("compute", "-r", tmp_path, status=2).stderr
    assert "is a stack (folder of images)" in run("compute", tmp_path, status=2).stderr
    out = tmp_path / "out.h5"
    run("compute", tmp_path, "-o", out, "--fps", 10, *KEYS)
    run("compute", tmp_path / "plot_*.tif", "-o", out, "--fps", 10, *KEYS)


def test_a_folder_of_what_is_not_read_says_what_it_is(tmp_path):
    n5 = tmp_path / "stack.n5"
    n5.mkdir()
    assert "stack.n5: is not read by sparsemed, as it" in run("compute", n5, status=2).stderr
    (tmp_path / "M1_data.tdms").write_bytes(b"TDSm" + bytes(9))
    text = run("compute", tmp_path, status=2).stderr
    assert "no measurement there (*.rtdc); M1_data.tdms is not read by sparsemed, as it" in text
    link = tmp_path / "link.rtdc"
    link.symlink_to("nowhere.rtdc")
    text = run("compute", link, "-o", tmp_path / "out.rtdc", status=1).stderr
    assert "link.rtdc: is a link to a missing file, nowhere.rtdc" in text


def test_a_dry_run_and_json(stack, tmp_path):
    out = tmp_path / "background.tif"
    result = run("compute", stack, "-o", out, "--fps", 50, "-n", *KEYS)
    assert "300 frames of 40 × 64, 6 windows of 20 frames" in result.stdout
    assert not out.exists()
    row = json.loads(run("compute", stack, "-o", out, "--fps", 50, "--json", *KEYS).stdout)
    assert (row["status"], row["frames"], row["kept"], row["output"]) == ("done", 300, 5, str(out))


def test_info_tells_what_a_stack_is(stack, tmp_path):
    text = run("info", stack).stdout
    assert f"stack   {stack} (TIFF, 0.8 MB)" in text
    assert "300 frames of 40 × 64 pixels, uint8" in text
    assert "unknown; set the frame rate with --fps" in text
    assert "2.990 s from first to last frame" in run("info", stack, "--fps", 100).stdout
    row = json.loads(run("info", "--json", stack).stdout)
    assert (row["kind"], row["count"], row["frame_rate"]) == ("TIFF", 300, None)
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(12):
        tifffile.imwrite(folder / f"img_{number}.tif", FRAMES[number])
    assert "in natural order, from img_0.tif to img_11.tif" in run("info", folder).stdout


def test_report_writes_a_page_on_a_stack(stack):
    result = run("report", stack, "--fps", 50, *KEYS)
    page = stack.with_name("film_report.html")
    assert str(page) in result.stdout
    assert "film.tif" in page.read_text("utf-8")


def test_one_of_several_series_is_chosen(tmp_path):
    path, out = tmp_path / "both.ome.tif", tmp_path / "background.tif"
    tifffile.imwrite(path, np.stack([255 - FRAMES, FRAMES]), ome=True, metadata={"axes": "CTYX"})
    result = run("compute", path, "-o", out, "--fps", 50, *KEYS, status=1)
    assert "channel=0 to channel=1" in result.stderr
    run("compute", path, "-o", out, "--fps", 50, "--channel", 1, *KEYS)
    np.testing.assert_array_equal(tifffile.imread(out), expected().images)


@pytest.mark.parametrize("name", ["out.tif", "OUT.TIFF", "out.zarr", "OUT.ZARR"])
def test_an_output_that_was_made_beforehand_is_written(stack, tmp_path, name):
    out = tmp_path / name
    is_zarr = name.lower() == "out.zarr"
    if is_zarr:
        out.mkdir()
    else:
        out.touch()
    run("compute", stack, "-o", out, "--fps", 50, *KEYS)
    images = zarr.open(out, mode="r")[:] if is_zarr else tifffile.imread(out)
    np.testing.assert_array_equal(images, expected().images)


def test_another_stack_is_not_subtracted_from(stack, tmp_path, monkeypatch):
    def written_meanwhile(*args):
        tifffile.imwrite(stack, 255 - FRAMES, metadata={"axes": "TYX"})
        return write_images(*args)

    monkeypatch.setattr("sparsemed.jobs.stack_runs.write_images", written_meanwhile)
    out, left = tmp_path / "background.tif", tmp_path / "left.tif"
    result = run("compute", stack, "-o", out, "--subtracted", left, "--fps", 50, *KEYS, status=1)
    assert "film.tif: was replaced or changed since its frames were read" in result.stderr
    assert not left.exists()


def test_what_is_no_stack_says_why(tmp_path):
    (tmp_path / "few").mkdir()
    for number in range(5):
        tifffile.imwrite(tmp_path / "few" / f"{number}.tif", FRAMES[number])
    png = tmp_path / "img_0.png"
    png.write_bytes(b"\x89PNG\r\n\x1a\n")
    with h5py.File(tmp_path / "stack.h5", "w") as h5:
        h5["film"] = FRAMES
    for path, text in (
        (tmp_path / "few", "holds only 5 images"),
        (tmp_path / "stack.h5", "choose one with dataset='film' or --dataset film"),
        (tmp_path / "none_*.png", "there is no such file or folder"),
        (png, "is a single image; give the folder of all of them, or a pattern such as"),
        ("https://host/film.tif", "stacks of images are read from this machine only"),
    ):
        for options in (("-o", tmp_path / "out.tif"), ("--fps", 10)):
            assert text in run("compute", path, *options, status=2).stderr
        for command in ("info", "report"):
            assert text in run(command, path, "--fps", 10, status=2).stderr


@pytest.mark.parametrize("name", ["notes.csv", "film.mrc"])
def test_files_of_unknown_kinds_are_told_from_damaged_measurements(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"a,b\n1,2\n" * 99)
    text = f"{path}: is neither a measurement (HDF5) nor a stack of images of a known kind"
    assert text in run("compute", path, status=1).stderr
    with pytest.raises(ValueError, match="is neither a measurement"):
        compute_background(path)
