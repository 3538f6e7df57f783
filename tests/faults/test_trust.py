"""What a file may make the program open, run, show or give away."""

import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import click.testing
import h5py
import numpy as np
import pytest
from dcnum.read import HDF5Data
from faults.watching import Watch, can_watch
from h5py import h5a, h5d, h5s, h5t
from patience import PATIENCE

from sparsemed import BackgroundSparseMed, compute_background
from sparsemed.cli import main
from sparsemed.hdf5.commit import changed_file
from sparsemed.rtdc.basins import file_record, internal_record, read_basins, store_record
from sparsemed.rtdc.info import info
from sparsemed.rtdc.measurement import Measurement
from sparsemed.storage import disk

IMAGES = np.arange(30 * 22 * 6, dtype=np.uint8).reshape(30, 22, 6)
SECRET = b"root:x:0:0:secret\n"


def write_raw(path):
    with h5py.File(path, "w") as h5:
        h5["events/image"] = IMAGES
        h5["events/time"] = np.arange(30.0)
        h5["basin_events/image"] = IMAGES
        h5.attrs["experiment:run identifier"] = "me"
    path.with_suffix(".raw").write_bytes(IMAGES.tobytes())
    return path


# Ways that lead to another file. Each gets a file that has events, and the path of the other one.


def by_basin(h5, other):
    store_record(h5, file_record("b", None, [str(other)], None, None), {})


def by_link(h5, other):
    h5["events/image"] = h5py.ExternalLink(str(other), "/events/image")


def by_link_to_a_group(h5, other):
    del h5["events"]
    h5["events"] = h5py.ExternalLink(str(other), "events")


def by_soft_link_to_a_link(h5, other):
    h5["away"] = h5py.ExternalLink(str(other), "/")
    h5["events/image"] = h5py.SoftLink("/away/events/image")


def by_internal_basin(h5, other):
    h5["basin_events"] = h5py.ExternalLink(str(other), "/basin_events")
    record = internal_record("b", "", ["image"], "basinmap0")
    store_record(h5, {**record, "mapping": None}, {})


def by_mapping(h5, other):
    h5["basin_events/image"] = IMAGES
    h5["events/basinmap0"] = h5py.ExternalLink(str(other), "/events/index")
    store_record(h5, internal_record("b", "", ["image"], "basinmap0"), {})
    if other.resolve().suffix == ".rtdc" and other.exists():
        with h5py.File(other, "a") as theirs:
            theirs["events/index"] = np.arange(30)


def by_storage(h5, other):
    raw = other.with_suffix(".raw") if other.suffix == ".rtdc" else other
    h5["events"].create_dataset(
        "image", shape=IMAGES.shape, dtype="u1", external=[(str(raw), 0, IMAGES.size)]
    )


def by_virtual_dataset(h5, other, **growth):
    layout = h5py.VirtualLayout(IMAGES.shape, "u1", **growth)
    source = h5py.VirtualSource(str(other), "events/image", IMAGES.shape, "u1", **growth)
    every = slice(None) if not growth else slice(0, h5s.UNLIMITED)
    layout[every] = source[every]
    h5["events"].create_virtual_dataset("image", layout)


def by_growing_virtual_dataset(h5, other):
    by_virtual_dataset(h5, other, maxshape=(None, 22, 6))  # HDF5 opens it to tell the shape


WAYS = [
    by_basin,
    by_link,
    by_link_to_a_group,
    by_soft_link_to_a_link,
    by_internal_basin,
    by_mapping,
    by_storage,
    by_virtual_dataset,
    by_growing_virtual_dataset,
]
way_out = pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)


def write_leading(path, way, other):
    with h5py.File(path, "w") as h5:
        h5.create_group("events")
        way(h5, other)
    return path


def read_image(path, basins):
    with Measurement(path, basins) as measurement:
        return measurement.image.read()


@pytest.fixture
def places(tmp_path):
    """Return the folder of a measurement, and for three places a file that it may lead to."""
    home = tmp_path / "home"
    for folder in (home, home / "below", tmp_path / "away"):
        folder.mkdir()
    return home, {
        "beside": write_raw(home / "raw.rtdc"),
        "below": write_raw(home / "below" / "raw.rtdc"),
        "away": write_raw(tmp_path / "away" / "raw.rtdc"),
    }


@way_out
@pytest.mark.parametrize("place", ["beside", "below", "away"])
@pytest.mark.parametrize("basins", ["off", "same-folder", "any"])
def test_what_each_policy_opens(places, way, place, basins):
    home, others = places
    path = write_leading(home / "in.rtdc", way, others[place])
    if place != "beside":  # it would be found by its name
        others["beside"].unlink()
    if basins == "any" or (basins == "same-folder" and place == "beside"):
        np.testing.assert_array_equal(read_image(path, basins), IMAGES)
        return
    with pytest.raises(ValueError, match=f"which basins='{basins}' does not follow") as error:
        read_image(path, basins)
    assert error.match(r"in\.rtdc: .*raw\.r")  # both files


@pytest.mark.skipif(not can_watch(), reason="only Linux says who opens what")
@way_out
@pytest.mark.parametrize("place", ["beside", "away", "by a link"])
@pytest.mark.parametrize("basins", ["off", "same-folder", "any"])
def test_what_is_refused_is_not_opened_to_find_that_out(places, way, place, basins):
    home, others = places
    other = others["beside" if place == "beside" else "away"]
    if place != "beside":  # it would be found by its name
        others["beside"].unlink()
    if place == "by a link":
        for suffix in (".rtdc", ".raw"):
            (home / f"inside{suffix}").symlink_to(other.with_suffix(suffix))
    named = home / "inside.rtdc" if place == "by a link" else other
    path = write_leading(home / "in.rtdc", way, named)
    is_allowed = basins == "any" or (basins, place) == ("same-folder", "beside")
    with Watch(other, other.with_suffix(".raw")) as watch:
        problems_of(path, basins)
        with nullcontext() if is_allowed else pytest.raises(ValueError, match="does not follow"):
            read_image(path, basins)
        assert watch.opened == is_allowed


@way_out
def test_symbolic_links_do_not_widen_the_folder(places, way):
    home, others = places
    for suffix in (".rtdc", ".raw"):
        (home / f"inside{suffix}").symlink_to(others["away"].with_suffix(suffix))
    path = write_leading(home / "in.rtdc", way, home / "inside.rtdc")
    with pytest.raises(ValueError, match="which basins='same-folder' does not follow"):
        read_image(path, "same-folder")
    np.testing.assert_array_equal(read_image(path, "any"), IMAGES)


def test_the_folder_is_that_of_the_real_measurement(places, tmp_path):
    home, others = places
    write_leading(home / "in.rtdc", by_basin, others["beside"])
    (tmp_path / "link.rtdc").symlink_to(home / "in.rtdc")
    np.testing.assert_array_equal(read_image(tmp_path / "link.rtdc", "same-folder"), IMAGES)


def test_paths_that_climb(places):
    home, others = places
    others["beside"].unlink()  # it would be found by its name
    for climbing in ("../away/raw.rtdc", "below/../../away/raw.rtdc"):
        path = write_leading(home / "in.rtdc", by_basin, climbing)
        np.testing.assert_array_equal(read_image(path, "any"), IMAGES)
        with pytest.raises(ValueError, match="'same-folder' does not follow"):
            read_image(path, "same-folder")
    write_raw(others["beside"])
    path = write_leading(home / "in.rtdc", by_basin, "below/../raw.rtdc")
    np.testing.assert_array_equal(read_image(path, "same-folder"), IMAGES)


def test_another_path_of_a_basin_may_do(places):
    home, others = places
    paths = [str(others["away"]), others["beside"].name]
    with h5py.File(home / "in.rtdc", "w") as h5:
        h5.create_group("events")
        store_record(h5, file_record("b", None, paths, None, None), {})
    with Measurement(home / "in.rtdc", "same-folder") as measurement:
        assert measurement.image.dataset.file.filename == str(others["beside"])


def test_every_entrance_takes_the_policy(places, tmp_path):
    home, others = places
    path, output = write_leading(home / "in.rtdc", by_basin, others["away"]), tmp_path / "out.rtdc"
    message = (
        f"{path}: has no dataset 'events/image'; basin 'b' leads to '{others['away']}', "
        "which basins='off' does not follow"
    )
    for use in (compute_background, partial(BackgroundSparseMed, output_path=output)):
        with pytest.raises(ValueError, match="does not follow") as error:
            use(path, basins="off")
        assert str(error.value) == message
    assert info(path, basins="off").problems == (message,)
    page = tmp_path / "page.html"
    for command in (["compute", "-o", output], ["compute", "-nq"], ["report", "-o", page]):
        done = invoke(*command, path, "--basins", "off")
        assert (done.exit_code, done.output) == (1, f"Error: {message}\n")
    assert message in invoke("info", path, "--basins", "off").output
    assert message not in invoke("info", path, "--basins", "any").output
    assert not output.exists()
    assert not page.exists()


def test_a_background_keeps_the_policy(places):
    home, others = places
    path = write_leading(home / "in.rtdc", by_basin, others["beside"])
    background = compute_background(path, kernel_size=5, basins="same-folder")
    assert background.quality()
    others["beside"].rename(home.parent / "gone.rtdc")
    others["beside"].symlink_to(home.parent / "gone.rtdc")
    with pytest.raises(ValueError, match="basins='same-folder' does not follow"):
        background.quality()


@pytest.mark.parametrize("images", [IMAGES, "in.rtdc"])
def test_other_policies_are_refused(images, tmp_path):
    for use in (compute_background, partial(BackgroundSparseMed, output_path=tmp_path / "o.h5")):
        message = "basins must be one of 'off', 'same-folder', 'any', 'network', got 'on'"
        with pytest.raises(ValueError, match=message):
            use(images, basins="on")


# What is no file to read ------------------------------------------------------------------------


@pytest.fixture
def no_wait():
    """Fail, rather than wait forever, when something opens a pipe."""
    if not hasattr(signal, "SIGALRM"):
        pytest.skip("pipes and signals of POSIX")

    def give_up(*_):
        raise AssertionError("something waited for a pipe")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(int(PATIENCE))
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def problems_of(path, basins="any"):
    try:
        return " ".join(info(path, basins).problems)
    except (OSError, ValueError) as error:
        return str(error)


@way_out
@pytest.mark.parametrize("kind", ["pipe", "socket", "folder", "device", "system"])
def test_only_regular_files_are_opened(tmp_path, no_wait, way, kind):
    other = tmp_path / "other"
    with socket.socket(socket.AF_UNIX) as listening:
        if kind == "pipe":
            os.mkfifo(other)
        elif kind == "socket":
            listening.bind(str(other))
        elif kind == "folder":
            other.mkdir()
        else:
            target = Path({"device": "/dev/zero", "system": "/proc/self/environ"}[kind])
            if not target.exists():
                pytest.skip(f"there is no {target}")
            other.symlink_to(target)
        path = write_leading(tmp_path / "in.rtdc", way, other)
        problems = problems_of(path)
        assert "in.rtdc: " in problems
        assert "which is no regular file" in problems
        assert other.name in problems
        for basins in ("off", "same-folder"):
            assert "does not follow" in problems_of(path, basins) or basins != "off"
        assert compute(path).exit_code == 1
        assert sorted(os.listdir(tmp_path)) == ["in.rtdc", "other"]


def compute(path):
    return invoke("compute", path, "-o", path.with_name("out.rtdc"))


def invoke(*arguments):
    return click.testing.CliRunner().invoke(main, [str(argument) for argument in arguments])


@way_out
def test_what_is_not_there(tmp_path, way):
    path = write_leading(tmp_path / "in.rtdc", way, tmp_path / "gone.rtdc")
    problems = problems_of(path)
    assert "in.rtdc: " in problems
    assert "gone.r" in problems
    assert "not found" in problems or "which does not exist" in problems


@pytest.mark.skipif(sys.platform != "linux", reason="these names are Linux's")
@pytest.mark.parametrize("name", ["/dev/stdin", "/proc/self/fd/0"])
def test_standard_input_is_not_read(tmp_path, name):
    path = write_leading(tmp_path / "in.rtdc", by_basin, name)
    code = "import sys; from sparsemed.rtdc.info import info; print(*info(sys.argv[1]).problems)"
    with subprocess.Popen(
        [sys.executable, "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        try:
            process.wait(PATIENCE)
            assert b"which is no regular file" in process.stdout.read()
        finally:
            process.kill()


@pytest.mark.parametrize(
    "name",
    [
        "http://localhost:9/x.rtdc",
        "s3://bucket/x.rtdc",
        "dcor://x",
        "file:///proc/self/environ",
        "~/raw.rtdc",
        "$HOME/raw.rtdc",
        "${HOME}/raw.rtdc",
        "%HOME%\\raw.rtdc",
        "nul\0.rtdc",
        "x" * 5000,
        "raw.rtdc\n",
        "",
        "\ud800.rtdc",
    ],
)
def test_a_path_is_nothing_but_a_path(places, monkeypatch, name):
    home, others = places
    monkeypatch.setenv("HOME", str(home))
    home = others["below"].parent
    others["below"].unlink()  # it would be found by its name
    record = file_record("b", None, [name, 3, None, [name]], None, None)
    with h5py.File(home / "in.rtdc", "w") as h5:
        h5.create_group("events")
        store_record(h5, record, {})
    with (
        Measurement(home / "in.rtdc") as measurement,
        pytest.raises(ValueError, match=r"has no dataset 'events/image'; .*(not found|no regular)"),
    ):
        _ = measurement.image


# Circles, depth, and a lot of everything --------------------------------------------------------


@pytest.mark.parametrize("place", ["beside", "away"])
def test_basins_of_basins_are_followed_as_far_as_the_policy_goes(places, place):
    home, others = places
    write_leading(home / "middle.rtdc", by_basin, others[place])
    path = write_leading(home / "in.rtdc", by_basin, "middle.rtdc")
    if place == "away":
        others["beside"].unlink()  # it would be found by its name
        with pytest.raises(ValueError, match="which basins='same-folder' does not follow"):
            read_image(path, "same-folder")
    else:
        np.testing.assert_array_equal(read_image(path, "same-folder"), IMAGES)
    np.testing.assert_array_equal(read_image(path, "any"), IMAGES)
    with pytest.raises(ValueError, match="which basins='off' does not follow"):
        read_image(path, "off")


@pytest.mark.parametrize("count", [3, 17, 30])
def test_a_chain_of_basins(tmp_path, count):
    write_raw(tmp_path / "0.rtdc")
    for number in range(1, count):
        write_leading(tmp_path / f"{number}.rtdc", by_basin, f"{number - 1}.rtdc")
    path = tmp_path / f"{count - 1}.rtdc"
    if count <= 17:
        np.testing.assert_array_equal(read_image(path, "any"), IMAGES)
    else:
        assert "leads through more than 16 files" in problems_of(path)


def test_basins_in_a_circle(tmp_path):
    for ours, theirs in (("self", "self"), ("a", "b"), ("b", "a")):
        write_leading(tmp_path / f"{ours}.rtdc", by_basin, f"{theirs}.rtdc")
    for name in ("self", "a"):
        problems = problems_of(tmp_path / f"{name}.rtdc")
        assert "has no dataset 'events/image'; basin 'b' leads back to '" in problems


def test_files_that_all_lead_to_each_other(tmp_path, monkeypatch):
    """There are more ways through them than anybody could follow: each file is asked once."""
    looks = []

    def look(h5):
        looks.append(h5)
        return read_basins(h5)

    monkeypatch.setattr("sparsemed.rtdc.events.read_basins", look)
    for number in range(12):
        with h5py.File(tmp_path / f"{number}.rtdc", "w") as h5:
            h5.create_group("events")
            for other in range(12):
                store_record(h5, file_record(f"{other}", None, [f"{other}.rtdc"], None, None), {})
    with pytest.raises(ValueError, match="has no dataset 'events/image'"):
        read_image(tmp_path / "0.rtdc", "any")
    assert len(looks) <= 12 * 12
    with h5py.File(tmp_path / "11.rtdc", "a") as h5:
        h5["events/image"] = IMAGES
    np.testing.assert_array_equal(read_image(tmp_path / "0.rtdc", "any"), IMAGES)


@pytest.mark.parametrize("reach", ["one file", "two files"])
def test_links_in_a_circle(tmp_path, reach):
    path, other = tmp_path / "in.rtdc", tmp_path / "other.rtdc"
    for ours, theirs in ((path, other), (other, path)):
        with h5py.File(ours, "w") as h5:
            h5.create_group("events")
            link = h5py.SoftLink("image") if reach == "one file" else None
            h5["events/image"] = link or h5py.ExternalLink(theirs.name, "/events/image")
    assert "events/image: leads through more than 16 links" in problems_of(path)


def test_a_chain_of_links_as_long_as_hdf5_takes_it(tmp_path):
    for length in (16, 17):
        with h5py.File(tmp_path / "in.rtdc", "w") as h5:
            h5["events/link0"] = IMAGES
            for number in range(length - 1):
                h5[f"events/link{number + 1}"] = h5py.SoftLink(f"link{number}")
            h5["events/image"] = h5py.SoftLink(f"/events/./link{length - 1}")
            with nullcontext() if length == 16 else pytest.raises(RuntimeError, match="many links"):
                h5["events/image"]
        assert ("more than 16 links" in problems_of(tmp_path / "in.rtdc")) == (length == 17)


def test_a_virtual_dataset_of_itself(tmp_path):
    for source in (".", "in.rtdc"):
        layout = h5py.VirtualLayout(IMAGES.shape, "u1")
        layout[:] = h5py.VirtualSource(source, "events/image", IMAGES.shape, "u1")
        with h5py.File(tmp_path / "in.rtdc", "w") as h5:
            h5.create_group("events").create_virtual_dataset("image", layout)
        problems = problems_of(tmp_path / "in.rtdc")
        assert "missing or no dataset" in problems or "more than 16 virtual datasets" in problems


@pytest.mark.parametrize("count", [1, 150])
def test_a_virtual_dataset_of_many_files_with_odd_names(tmp_path, count):
    layout = h5py.VirtualLayout((count, 22, 6), "u1")
    for number in range(count):
        with h5py.File(tmp_path / f"50% of {number}.h5", "w") as h5:
            h5["x"] = np.full((1, 22, 6), number, np.uint8)
        layout[number] = h5py.VirtualSource(f"50%% of {number}.h5", "x", (1, 22, 6), "u1")[0]
    with h5py.File(tmp_path / "in.rtdc", "w") as h5:
        h5.create_group("events").create_virtual_dataset("image", layout)
    with Measurement(tmp_path / "in.rtdc", "same-folder") as measurement:
        assert measurement.image[:, 0, 0].tolist() == [*range(count)]


@pytest.mark.parametrize("way", [by_link, by_virtual_dataset])
def test_others_lie_beside_the_measurement_that_a_symbolic_link_leads_to(tmp_path, way):
    (tmp_path / "real").mkdir()
    (tmp_path / "links").mkdir()
    write_raw(tmp_path / "real" / "raw.rtdc")
    write_leading(tmp_path / "real" / "in.rtdc", way, "raw.rtdc")
    (tmp_path / "links" / "in.rtdc").symlink_to("../real/in.rtdc")
    for basins in ("any", "same-folder"):
        np.testing.assert_array_equal(read_image(tmp_path / "links" / "in.rtdc", basins), IMAGES)


def test_a_virtual_dataset_of_files_without_number(tmp_path):
    layout = h5py.VirtualLayout((30, 22, 6), "u1", maxshape=(None, 22, 6))
    source = h5py.VirtualSource("part%b.rtdc", "x", (1, 22, 6), "u1")
    layout[0 : h5s.UNLIMITED : 1] = source
    with h5py.File(tmp_path / "in.rtdc", "w") as h5:
        h5.create_group("events").create_virtual_dataset("image", layout)
    assert "too many sources" in problems_of(tmp_path / "in.rtdc")


def test_a_virtual_dataset_within_the_file(tmp_path):
    layout = h5py.VirtualLayout(IMAGES.shape, "u1")
    for frame in range(30):
        layout[frame] = h5py.VirtualSource(".", f"parts/{frame}", (22, 6), "u1")
    with h5py.File(tmp_path / "in.rtdc", "w") as h5:
        for frame in range(30):
            h5[f"parts/{frame}"] = IMAGES[frame]
        h5.create_group("events").create_virtual_dataset("image", layout)
    np.testing.assert_array_equal(read_image(tmp_path / "in.rtdc", "off"), IMAGES)


def test_many_paths_and_many_basins(tmp_path):
    path = tmp_path / "in.rtdc"
    with h5py.File(path, "w") as h5:
        h5.create_group("events")
        for number in range(299):
            paths = [f"gone{number}-{each}.rtdc" for each in range(100)]
            store_record(h5, file_record(f"b{number}", None, paths, None, None), {})
    problems = problems_of(path)
    assert "these basins were not found: 'gone" in problems
    assert len(problems) < 500
    many = file_record("b", None, ["gone.rtdc"] * 101, None, None)
    with h5py.File(path, "a") as h5:
        store_record(h5, many, {})
    assert "is not a basin record: its paths is '" in problems_of(path)
    with h5py.File(path, "a") as h5:
        del h5["basins"]
        for number in range(301):
            h5[f"basins/{number}"] = [b"{}"]
    assert "has 301 basins, more than 300" in problems_of(path)


def test_many_files(tmp_path, monkeypatch):
    monkeypatch.setattr("sparsemed.hdf5.file_access.MOST_FILES", 250)
    for number in range(251):
        write_leading(tmp_path / f"{number}.rtdc", lambda *_: None, None)
    with h5py.File(tmp_path / "in.rtdc", "w") as h5:
        h5.create_group("events")
        for number in range(251):
            store_record(h5, file_record(f"{number}", None, [f"{number}.rtdc"], None, None), {})
    assert "and to more than 250 files in all" in problems_of(tmp_path / "in.rtdc")


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "",
        "[" * 100_000,
        '{"a":' * 100_000,
        "3",
        "NaN",
        '"x"',
        '{"name": 1' + "0" * 5000 + "}",
        '{"name": 1e999}',
        '{"name": NaN}',
        '{"name": ["x"]}',
        '{"paths": {"0": "x"}}',
        '{"mapping": 3}',
        '{"identifier": {}}',
        '{"type": []}',
        '{"features": "image"}',
        '{"description": "' + "x" * 2**20 + '"}',
    ],
)
def test_records_that_are_none(tmp_path, text):
    with h5py.File(tmp_path / "in.rtdc", "w") as h5:
        h5["events/image"] = IMAGES
        h5["basins/evil"] = np.array([text.encode() or b" "])
    for result in (invoke("info", tmp_path / "in.rtdc"), compute(tmp_path / "in.rtdc")):
        assert result.exit_code == 1
        assert result.output.startswith(f"Error: {tmp_path}/in.rtdc: basins/evil is not ")
        assert result.output.count("\n") == 1
        assert len(result.output) < 1000


def test_of_a_key_that_comes_twice_the_last_counts_as_in_dcnum(tmp_path):
    text = '{"type": "file", "name": "b", "paths": ["x"], "paths": ["raw.rtdc"]}'
    write_raw(tmp_path / "raw.rtdc")
    with h5py.File(tmp_path / "in.rtdc", "w") as h5:
        h5.create_group("events")
        h5["basins/twice"] = np.array([text.encode()])
    np.testing.assert_array_equal(read_image(tmp_path / "in.rtdc", "any"), IMAGES)
    with HDF5Data(tmp_path / "in.rtdc") as theirs:
        np.testing.assert_array_equal(theirs.image[:], IMAGES)


# What is written --------------------------------------------------------------------------------


def snapshot(folder):
    files = [each for each in folder.iterdir() if each.is_file()]
    return {each.name: (each.read_bytes(), each.stat().st_mtime_ns) for each in files}


def interrupt(path):
    """Leave a file as a run does that dies before it has removed its journal."""
    if not hasattr(os, "fork"):
        pytest.skip("needs forks")

    def die(*_):
        os._exit(0)

    if (child := os.fork()) == 0:
        disk.remove = die
        with changed_file(path) as h5:
            h5.attrs["new"] = 1
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize("way", [by_basin, by_link, by_virtual_dataset])
def test_what_a_record_leads_to_is_never_changed(places, way):
    home, others = places
    path = write_leading(home / "in.rtdc", way, others["beside"])
    interrupt(others["beside"])
    before = snapshot(home)
    for attempt in (lambda: read_image(path, "any"), lambda: BackgroundSparseMed(path, home / "o")):
        with pytest.raises(OSError, match=r"was interrupted; .*'sparsemed recover .*raw\.rtdc"):
            attempt()
    assert snapshot(home).keys() == {*before}
    assert snapshot(home) == before
    info(others["beside"])  # named by the user, and restored
    assert "raw.rtdc.sparsemed-journal" not in os.listdir(home)
    np.testing.assert_array_equal(read_image(path, "any"), IMAGES)


@way_out
def test_the_other_file_is_only_read(places, way, tmp_path):
    home, others = places
    path = write_leading(home / "in.rtdc", way, others["beside"])
    before = snapshot(home)
    with BackgroundSparseMed(path, tmp_path / "out.rtdc", kernel_size=5) as job:
        job.process()
    assert snapshot(home) == before


def test_a_journal_that_is_a_pipe(places, no_wait):
    home, others = places
    os.mkfifo(home / "raw.rtdc.sparsemed-journal")
    with pytest.raises(OSError, match=r"raw\.rtdc: its journal .* is no regular file"):
        info(others["beside"])
    path = write_leading(home / "in.rtdc", by_basin, others["beside"])
    with pytest.raises(OSError, match=r"a change of this file was interrupted"):
        read_image(path, "any")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs other users")
def test_a_journal_planted_by_somebody_else(places):
    """Where all may write but not replace, as in /tmp, a journal could change a file."""
    home, others = places
    path, journal = others["beside"], home / "raw.rtdc.sparsemed-journal"
    interrupt(path)
    before = path.read_bytes()
    os.chown(journal, 65534, -1)
    home.chmod(0o1777)
    with pytest.raises(PermissionError, match=r"raw\.rtdc: its journal .* another user"):
        info(path)
    assert path.read_bytes() == before
    os.chown(path, 65534, -1)  # the owner of the file may change it anyway
    info(path)
    assert not journal.exists()


# What is given away -----------------------------------------------------------------------------


@pytest.fixture
def secret(tmp_path):
    path = tmp_path / "away" / "passwd"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(SECRET)
    with h5py.File(path.with_suffix(".rtdc"), "w") as h5:
        h5["logs/secret"] = [SECRET]
    return path


@pytest.mark.parametrize("topic", ["logs", "tables"])
@pytest.mark.parametrize("kind", ["storage", "link", "group", "virtual"])
def test_results_hold_nothing_of_other_files(tmp_path, secret, topic, kind):
    theirs = secret.with_suffix(".rtdc")
    path = tmp_path / "in.rtdc"
    with h5py.File(path, "w") as h5:
        h5["events/image"] = IMAGES
        if kind == "group":
            h5[topic] = h5py.ExternalLink(str(theirs), "/logs")
        else:
            h5[f"{topic}/own"] = [b"mine"]
            name, dtype = f"{topic}/copied", f"S{len(SECRET)}"
        if kind == "link":
            h5[name] = h5py.ExternalLink(str(theirs), "/logs/secret")
        elif kind == "virtual":
            layout = h5py.VirtualLayout((1,), dtype)
            layout[:] = h5py.VirtualSource(str(theirs), "logs/secret", (1,), dtype)
            h5.create_virtual_dataset(name, layout)
        elif kind != "group":
            where = [(str(secret), 0, len(SECRET))]
            h5.create_dataset(name, shape=(1,), dtype=dtype, external=where)
    for basins in ("off", "any"):
        output = tmp_path / f"{basins}.rtdc"
        with BackgroundSparseMed(path, output, kernel_size=5, basins=basins) as job:
            job.process()
        assert b"secret\n" not in output.read_bytes()
        (warning,) = [text for text in job.warnings if "not copied" in text]
        assert topic in warning
        assert "passwd" in warning
        with h5py.File(output) as h5:
            assert list(h5.get(topic, [])) == ([] if kind == "group" else ["own"])


@pytest.mark.parametrize("place", ["basins", "basins/key", "events/basinmap0"])
def test_an_output_that_leads_to_other_files(tmp_path, secret, place):
    path = write_raw(tmp_path / "in.rtdc")
    before = secret.with_suffix(".rtdc").read_bytes()
    with h5py.File(path, "a") as h5:
        h5[place] = h5py.ExternalLink(str(secret.with_suffix(".rtdc")), "/logs")
    result = invoke("compute", "--in-place", path, "-k", "kernel_size=5")
    assert secret.with_suffix(".rtdc").read_bytes() == before
    if place.startswith("basins"):
        assert result.exit_code == 1
        assert f"{path}: {place}" in result.output
    else:
        assert result.exit_code == 0, result.output
        with h5py.File(path) as h5:
            assert h5["events"].get("basinmap0", getlink=True).filename.endswith("passwd.rtdc")
            assert "basinmap1" in h5["events"]


def test_records_in_other_files_are_not_shown(tmp_path, secret):
    path = write_raw(tmp_path / "in.rtdc")
    with h5py.File(path, "a") as h5:
        h5.create_dataset(
            "basins/x",
            shape=(1,),
            dtype=f"S{len(SECRET)}",
            external=[(str(secret), 0, len(SECRET))],
        )
    for result in (invoke("info", path), compute(path), invoke("report", path)):
        assert result.exit_code == 1
        assert "basins/x: its data are in '" in result.output
        assert "root:x" not in result.output


# What is run ------------------------------------------------------------------------------------


def opaque(place, name, tag, *, kind="dataset"):
    """Store eight bytes that h5py takes for what the tag says, such as the address of an object."""
    inner = h5t.create(h5t.OPAQUE, 8)
    inner.set_tag(tag)
    dtype = inner
    if "compound" in kind:
        dtype = h5t.create(h5t.COMPOUND, 8)
        dtype.insert(b"field", 0, inner)
    elif "array" in kind:
        dtype = h5t.array_create(inner, (1,))
    space = h5s.create_simple((2,))
    make = h5a.create if "attribute" in kind else h5d.create
    stored = make(place.id, name.encode(), dtype, space)
    data = np.full(2, 0x4141414141414141).view("V8")
    stored.write(*([] if "attribute" in kind else [h5s.ALL, h5s.ALL]), data, dtype)


def save_hostile(path, name, tag, kind):
    with h5py.File(path, "w") as h5:
        for group in ("events", "basin_events", "logs", "basins"):
            h5.create_group(group)
        if name != "basin_events/image":
            h5["events/image" if name != "events/image" else "events/other"] = IMAGES
        if name == "events/basinmap0":
            h5.move("events/image", "basin_events/image")
            store_record(h5, internal_record("b", "", ["image"], "basinmap0"), {})
        if "attribute" in kind:
            h5["logs/x"] = [b"x"]
            h5["events/image_bg"] = IMAGES
        place, _, last = name.rpartition("/")
        opaque(h5[place or "/"], last, tag, kind=kind)
    return path


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("events/image", "dataset"),
        ("events/image", "compound"),
        ("events/image", "array"),
        ("events/time", "dataset"),
        ("events/basinmap0", "dataset"),
        ("basins/x", "dataset"),
        ("imaging:frame rate", "attribute"),
        ("experiment:run identifier", "attribute compound"),
        ("events/image_bg/dcnum ppid background", "attribute array"),
    ],
)
@pytest.mark.parametrize("tag", [b"NUMPY:|O", b"NUMPY:M8[s],O", b"NUMPY:|S99"])
def test_stored_addresses_are_not_followed(tmp_path, name, kind, tag):
    """Plain h5py reads these as objects that are anywhere in memory, and dies."""
    path = save_hostile(tmp_path / "in.rtdc", name, tag, kind)
    results = [invoke(command, path) for command in ("info", "report", "compute")]
    for result in results:
        assert isinstance(result.exception, SystemExit | None)
    assert "cannot be read safely" in "".join(result.output for result in results)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("logs/x", "dataset"), ("logs/x/software", "attribute"), ("other", "attribute")],
)
def test_stored_addresses_are_not_copied(tmp_path, name, kind):
    path = save_hostile(tmp_path / "in.rtdc", name, b"NUMPY:|O", kind)
    with BackgroundSparseMed(path, tmp_path / "out.rtdc", kernel_size=5) as job:
        job.process()
    assert any("cannot be read safely" in text for text in job.warnings)
    with Measurement(path) as measurement:
        assert len(measurement.image) == 30


def test_what_harms_nobody_can_be_read(tmp_path):
    """Dates, references and committed types, which h5py reads well."""
    with h5py.File(tmp_path / "in.rtdc", "w") as h5:
        h5["type"] = np.dtype("u1")
        h5.create_dataset("events/image", data=IMAGES, dtype=h5["type"])
        dates = np.arange(30).astype("M8[s]")
        h5.create_dataset("events/dates", data=dates.astype(h5py.opaque_dtype(dates.dtype)))
        h5.attrs["reference"] = h5["events/image"].ref
        h5.attrs["region"] = h5["events/image"].regionref[:3]
        h5["logs/reference"] = np.array([h5["events"].ref], dtype=h5py.ref_dtype)
        h5["logs/type"] = np.dtype("i4")
    with Measurement(tmp_path / "in.rtdc", "off") as measurement:
        np.testing.assert_array_equal(measurement.image.read(), IMAGES)
        assert measurement.feature("dates").read()[3] == np.datetime64(3, "s")
        assert isinstance(measurement.metadata["reference"], h5py.Reference)
    assert compute(tmp_path / "in.rtdc").exit_code == 0


# What is shown ----------------------------------------------------------------------------------

EVIL = "\x1b]0;owned\x07\x1b[2J\r\n{0} %s {input!r} \u202egnp\u2028\x9b31m"


def test_nothing_drives_the_terminal(places, caplog):
    home, _ = places
    path = write_raw(home / f"in{EVIL.replace('/', '')}.rtdc")
    with h5py.File(path, "a") as h5:
        for kind, mapping in (("remote", None), ("file", EVIL), ("file", None), (EVIL, None)):
            record = file_record(EVIL, EVIL, [EVIL, "../away/raw.rtdc"], [EVIL], EVIL, mapping)
            store_record(h5, {**record, "type": kind}, {})
        h5.attrs[EVIL] = EVIL
        h5.attrs["imaging:frame rate"] = 2000.0
        opaque(h5, f"x{EVIL}", b"NUMPY:" + EVIL.encode(), kind="attribute")
        opaque(h5.require_group("logs"), EVIL, b"NUMPY:O")
        h5["tables/" + EVIL] = h5py.ExternalLink(EVIL, EVIL)
        h5["events/image_bg"] = IMAGES
        h5["events/image_bg"].attrs["dcnum ppid background"] = EVIL
    bad = write_leading(home / f"bad{EVIL}.rtdc", by_basin, EVIL)
    (home / f"none{EVIL}.rtdc").write_text(EVIL)
    outputs = [
        invoke("info", path, bad),
        invoke("compute", "-v", home),
        invoke("compute", "-n", home),
        invoke("info", home / f"none{EVIL}.rtdc"),
        invoke("info", "--basins", "off", path, bad),
        invoke("info", home / f"gone{EVIL}"),
        invoke("report", bad),
        invoke("report", path),
    ]
    shown = "".join(result.output for result in outputs)
    assert {each for each in shown if not each.isprintable()} == {"\n"}
    assert r"\x1b]0;owned\x07" in shown
    assert r"\u202egnp\u2028\x9b31m" in shown
    for line in shown.splitlines():
        assert not line.startswith("{0}")
    for result in outputs:
        assert isinstance(result.exception, SystemExit | None), result.exception


def test_no_error_quotes_a_novel(tmp_path):
    novel = "x" * 100_000
    with h5py.File(tmp_path / "in.rtdc", "w") as h5:
        h5.create_group("events")
        store_record(h5, file_record(novel, None, [novel], None, novel), {})
    assert len(problems_of(tmp_path / "in.rtdc", "off")) < 1000
    assert len(problems_of(tmp_path / "in.rtdc")) < 1000


@pytest.mark.parametrize("suffix", [".tif", ".zarr", ".mp4", ".png", ".npy", ".zip", "", ".rtdc"])
def test_a_pipe_is_no_stack_and_no_measurement(tmp_path, no_wait, suffix):
    path = tmp_path / f"pipe{suffix}"
    os.mkfifo(path)
    with pytest.raises((OSError, ValueError), match=re.escape(str(path))):
        compute_background(path)
