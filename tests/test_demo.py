import dataclasses
import functools
import re
import sys

import click.testing
import dclab
import h5py
import matplotlib.image
import numpy as np
import pytest

from sparsemed import compute_background
from sparsemed.cli import main
from sparsemed.demo import check_replaceable, differences_from_definition, make_measurement


@pytest.fixture(scope="module")
def measurement(tmp_path_factory):
    path = tmp_path_factory.mktemp("demo") / "demo.rtdc"
    make_measurement(path, count=300)
    return path


def test_the_measurement_has_walls_cells_and_flicker(measurement):
    with dclab.new_dataset(measurement) as data:
        images = np.asarray(data["image"][:]).astype(float)
    assert images.shape == (300, 80, 320)
    typical = np.median(images, axis=0)
    assert typical[19:22].mean() < typical[35:45].mean() - 30  # the edge of a wall is dark
    walls = images[:, :15].mean(axis=(1, 2))
    assert np.count_nonzero(abs(walls - np.median(walls)) > 2) > 3  # the lamp flickers
    cells = (images - typical).min(axis=(1, 2))
    assert (cells < -25).all()  # each event shows a cell


def test_there_are_slow_cells_and_an_unsteady_lamp(tmp_path):
    images = {}
    for case in ("plain", "cells", "flicker"):
        make_measurement(tmp_path / f"{case}.rtdc", count=400, case=case)
        with dclab.new_dataset(tmp_path / f"{case}.rtdc") as data:
            images[case] = np.asarray(data["image"][:]).astype(float)
    # the median of 200 frames is of an empty channel, or still shows dark rims of cells
    empty = np.median(images["plain"], axis=0)
    left = np.median(images["cells"][:200], axis=0) - empty
    assert (left < -20).sum() > 100
    assert (np.median(images["plain"][:200], axis=0) - empty).min() > -5
    walls = {case: frames[:, :15].mean(axis=(1, 2)) for case, frames in images.items()}
    assert np.ptp(np.quantile(walls["plain"], [0.1, 0.9])) < 1
    assert np.ptp(np.quantile(walls["flicker"], [0.1, 0.9])) > 15
    with pytest.raises(ValueError, match="case must be one of plain, cells, flicker, got 'x'"):
        make_measurement(tmp_path / "x.rtdc", case="x")


def test_a_made_up_measurement_may_be_of_a_single_frame(tmp_path):
    make_measurement(tmp_path / "short.rtdc", count=1)
    with h5py.File(tmp_path / "short.rtdc") as h5:
        assert h5["events/image"].shape == (1, 80, 320)


def test_the_seed_makes_the_measurement(tmp_path):
    images = []
    for number, seed in enumerate((1, 1, 2)):
        make_measurement(tmp_path / f"{number}.rtdc", count=2, seed=seed)
        with h5py.File(tmp_path / f"{number}.rtdc") as h5:
            images.append(h5["events/image"][:])
    np.testing.assert_array_equal(images[0], images[1])
    assert not np.array_equal(images[0], images[2])


@pytest.mark.slow
def test_the_command_says_what_is_wrong_and_what_to_change(tmp_path):
    said = {}
    for case in ("cells", "flicker"):
        arguments = ["demo", "--out", str(tmp_path), "--case", case]
        result = click.testing.CliRunner().invoke(main, arguments)
        assert result.exit_code == 0, result.output
        said[case] = result.output
    assert re.search("look here: Streaks in the background.*\n.*kernel_size=500", said["cells"])
    assert re.search("look here: Brightness left.*\n.*steady the lamp", said["flicker"])
    assert (tmp_path / "demo-flicker.png").exists()


def test_the_check_finds_each_kind_of_fault(measurement):
    result = compute_background(measurement, kernel_size=50, split_time=0.5)
    assert differences_from_definition(result, measurement) == 0
    for name in ("series", "frame_index", "offsets"):
        array = getattr(result, name)
        array.flat[7] += 1
        assert differences_from_definition(result, measurement) == 1
        array.flat[7] -= 1


def test_the_check_finds_that_an_image_is_missing_or_too_much(measurement):
    result = compute_background(measurement, kernel_size=50, split_time=0.5)
    for series in (result.series[:-1], np.concatenate([result.series, result.series[:1]])):
        odd = dataclasses.replace(result, series=series)
        assert differences_from_definition(odd, measurement) == 1


def test_the_command_shows_what_it_did(tmp_path):
    (tmp_path / "out").mkdir()
    for name in ("demo.rtdc", "demo_bg.rtdc", "demo.png"):  # of an earlier time; it is replaced
        (tmp_path / "out" / name).touch()
    result = click.testing.CliRunner().invoke(main, ["demo", "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert re.search(r"differences from the definition +0\n", result.output)
    assert "sparsemed:k=200^s=1^t=0^f=0.8^o=1" in result.output
    assert re.search(r"The background is good by all \d+ quality numbers", result.output)
    assert "look here" not in result.output
    rows = dict(re.findall(r"^([a-z ]+?)  +(\S.*)$", result.output, re.MULTILINE))
    out = tmp_path / "out"
    with h5py.File(out / "demo_bg.rtdc") as h5:
        kept = len(h5["basin_events/image_bg"])
    size = (out / "demo.rtdc").stat().st_size / 1e6
    assert rows.pop("time").endswith(" s)")
    assert rows == {
        "measurement": f"{out / 'demo.rtdc'} (2000 frames, {size:.0f} MB)",
        "background": f"{out / 'demo_bg.rtdc'}",
        "pipeline identifier": "sparsemed:k=200^s=1^t=0^f=0.8^o=1",
        "background images": f"21, of which {kept} were kept",
        "differences from the definition": "0",
        "picture": f"{out / 'demo.png'}",
    }
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "demo.rtdc",
        "demo_bg.rtdc",
        "demo.png",
    }
    picture = matplotlib.image.imread(tmp_path / "out" / "demo.png")
    assert picture.shape[1] >= 1000
    with dclab.new_dataset(tmp_path / "out" / "demo_bg.rtdc") as data:
        corrected = data["image"][50].astype(float) - data["image_bg"][50] - data["bg_off"][50]
    assert abs(corrected[:20].mean()) < 0.5


@pytest.mark.parametrize("name", ["demo.rtdc", "demo_bg.rtdc"])
def test_a_measurement_that_has_the_name_of_the_demo_is_not_replaced(tmp_path, name):
    with h5py.File(tmp_path / name, "w") as h5:
        h5["events/image"] = np.zeros((9, 8, 7), np.uint8)
        h5.attrs["experiment:sample"] = "blood"
    before = (tmp_path / name).read_bytes()
    for content in (before, b"no HDF5"):
        (tmp_path / name).write_bytes(content)
        result = click.testing.CliRunner().invoke(main, ["demo", "--out", str(tmp_path)])
        assert result.exit_code == 1
        assert result.output.startswith(f"Error: {tmp_path / name}: ")
        assert (tmp_path / name).read_bytes() == content
        assert [path.name for path in tmp_path.iterdir()] == [name]


def test_files_of_an_earlier_demo_are_replaced(measurement, tmp_path):
    check_replaceable(measurement)
    compute_background(measurement, kernel_size=9).save(tmp_path / "demo_bg.rtdc")
    check_replaceable(tmp_path / "demo_bg.rtdc")


def test_the_command_fails_if_a_result_is_wrong_and_goes_without_pictures(tmp_path, monkeypatch):
    small = functools.partial(make_measurement, count=60)
    monkeypatch.setattr("sparsemed.demo.make_measurement", small)
    monkeypatch.setattr("sparsemed.demo.differences_from_definition", lambda *_: 3)
    for name in [name for name in sys.modules if name.startswith("sparsemed.plotting")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = click.testing.CliRunner().invoke(main, ["demo", "--out", str(tmp_path / "a" / "b")])
    assert result.exit_code == 1
    assert re.search(r"differences from the definition +3\n", result.stdout)
    missing = "picture +skipped; matplotlib is missing: .*pip install matplotlib\n"
    assert re.search(missing, result.stdout)
    assert result.stderr.endswith(
        "Error: the background differs from its definition; please report this\n"
    )
    assert sorted(path.name for path in (tmp_path / "a" / "b").iterdir()) == [
        "demo.rtdc",
        "demo_bg.rtdc",
    ]


def test_what_a_made_up_measurement_says_of_itself_is_true(measurement):
    with h5py.File(measurement) as h5:
        size = h5["events/image"].shape
        said = {name.partition(":")[2]: value for name, value in h5.attrs.items()}
        assert tuple(said[name] for name in ("event count", "roi size y", "roi size x")) == size
        assert (said["sample"], said["frame rate"]) == ("sparsemed demo", 2000)
        assert h5["events/frame"][:].tolist() == list(range(1, 301))
        steps = np.diff(h5["events/time"][:])
        assert steps.min() > 0
        assert np.mean(steps) == pytest.approx(1 / 100, rel=0.2)
        images = h5["events/image"]
        assert images.chunks == (40, 80, 320)
        typical = np.median(images[:], axis=0)
    # between the walls, that is where the cells are
    moved = (abs(images_of(measurement) - typical) > 25).any(axis=0)
    assert moved[30:50].all(axis=0).mean() > 0.9
    assert not moved[:20].any()
    assert not moved[60:].any()


def images_of(path):
    with h5py.File(path) as h5:
        return h5["events/image"][:].astype(float)


def test_a_folder_of_the_name_of_the_demo_is_not_replaced(tmp_path):
    check_replaceable(tmp_path / "none.rtdc")
    (tmp_path / "demo.rtdc").mkdir()
    with pytest.raises(OSError, match=r"demo\.rtdc: "):
        check_replaceable(tmp_path / "demo.rtdc")
