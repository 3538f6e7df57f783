from dataclasses import asdict

import h5py
import hdf5plugin
import numpy as np
import pytest

from sparsemed import BackgroundSparseMed, compute_background
from sparsemed.demo import make_measurement
from sparsemed.parameters import Parameters
from sparsemed.rtdc.basins import file_record, internal_record, store_record
from sparsemed.rtdc.info import BasinFacts, info
from sparsemed.rtdc.measurement import Measurement
from sparsemed.rtdc.stored_backgrounds import stored_parameters


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "in.rtdc"
    make_measurement(path, count=90)
    return path


def test_a_raw_measurement(path):
    facts = info(path)
    assert (facts.path, facts.size) == (str(path), path.stat().st_size)
    images = facts.images
    assert (images.source, images.dataset) == ("this file", f"{path}: events/image")
    assert (images.count, images.height, images.width, images.dtype) == (90, 80, 320, "uint8")
    assert images.chunks == (40, 80, 320)
    assert images.filters == ("zstd 5", "fletcher32")
    assert 0 < images.stored_bytes < facts.size
    assert (images.mapped, images.obstacle) == (False, None)
    with h5py.File(path) as h5:
        span = h5["events/time"][-1] - h5["events/time"][0]
    assert (facts.time.origin, facts.time.span, facts.time.ascends) == ("time", span, True)
    assert facts.time.frame_rate == 2000
    assert (facts.backgrounds, facts.basins, facts.problems) == ((), (), ())


def test_a_result(path, tmp_path):
    with BackgroundSparseMed(path, tmp_path / "out.rtdc", kernel_size=9) as job:
        job.process()
    facts = info(tmp_path / "out.rtdc")
    assert facts.images.source == "file basin"
    assert facts.images.dataset == f"{path}: events/image"
    (background,) = facts.backgrounds
    assert (background.source, background.mapped) == ("internal basin", True)
    assert background.ppid == job.get_ppid()
    assert background.generation == "13"
    assert background.count == len(job.background.images)
    assert background.offsets == f"{tmp_path / 'out.rtdc'}: events/bg_off"
    inner, outer = facts.basins
    assert (inner.kind, inner.features, inner.mapping) == ("internal", ("image_bg",), "basinmap0")
    assert (outer.kind, outer.target, outer.problem) == ("file", str(path), None)
    assert facts.problems == ()


def test_offsets_belong_to_the_background_in_the_same_file(path, tmp_path):
    with h5py.File(path, "a") as h5:
        h5["events/image_bg"] = h5["events/image"]
        h5["events/bg_off"] = np.zeros(90)
    background = compute_background(path, kernel_size=9, offset_correction=False)
    background.save(tmp_path / "out.rtdc")
    new, old = info(tmp_path / "out.rtdc").backgrounds
    assert (new.source, new.offsets) == ("internal basin", None)
    assert (old.source, old.offsets) == ("file basin", f"{path}: events/bg_off")


@pytest.mark.parametrize(
    ("removed", "rate", "origin"),
    [
        ([], "keep", "time"),
        (["time"], "keep", "frame"),
        (["time", "frame"], "keep", "frame rate"),
        (["time"], None, "guess"),
    ],
)
def test_where_the_time_comes_from(path, removed, rate, origin):
    with h5py.File(path, "a") as h5:
        for name in removed:
            del h5["events"][name]
        if rate is None:
            del h5.attrs["imaging:frame rate"]
    facts = info(path)
    assert facts.time.origin == origin
    with BackgroundSparseMed(path, path.with_name("out.rtdc")) as job:
        assert facts.time.span == job.duration
    spans = {"frame": 89 / 2000, "frame rate": 90 / 2000 * 1.5, "guess": 90 / 2400}
    assert facts.time.span == pytest.approx(spans.get(origin, facts.time.span))


def test_a_time_that_falls(path):
    with h5py.File(path, "a") as h5:
        h5["events/time"][5] = -1
    assert not info(path).time.ascends


@pytest.mark.parametrize(
    ("options", "filters", "obstacle"),
    [
        ({"chunks": (9, 8, 7), "compression": 4, "shuffle": True}, ("shuffle", "gzip 4"), None),
        ({"chunks": (9, 8, 7), "compression": "lzf"}, ("lzf",), None),
        ({}, (), None),
        (
            {"chunks": (9, 8, 7), **hdf5plugin.Bitshuffle()},
            ("bitshuffle",),
            "of its filters, those of number [32008] are not known here",
        ),
        ({"chunks": (9, 8, 7), "dtype": "f4"}, (), "its dtype is float32"),
    ],
)
def test_chunks_filters_and_the_fast_path(tmp_path, options, filters, obstacle):
    with h5py.File(tmp_path / "in.rtdc", "w") as h5:
        h5.create_dataset("events/image", data=np.ones((20, 16, 24), "u1"), **options)
    images = info(tmp_path / "in.rtdc").images
    assert (images.filters, images.obstacle) == (filters, obstacle)
    assert images.chunks == options.get("chunks")


def test_mapped_images_and_several_backgrounds(tmp_path):
    """Of two backgrounds, the first in the list is the one that readers take."""
    path = tmp_path / "in.rtdc"
    with h5py.File(path, "w") as h5:
        h5["events/basinmap0"] = np.arange(12) // 2
        h5["events/image_bg"] = np.ones((12, 4, 6), "u1")
        h5["basin_events/image"] = np.ones((6, 4, 6), "u1")
        h5["basin_events/image_bg"] = np.ones((6, 4, 6), "u1")
        h5["basin_events/image_bg"].attrs["dcnum ppid background"] = b"romed:b=5"
        record = internal_record("frames", "", ["image", "image_bg"], "basinmap0")
        store_record(h5, record, {})
    facts = info(path)
    assert (facts.images.source, facts.images.mapped) == ("internal basin", True)
    assert facts.images.count == 12
    first, second = facts.backgrounds
    assert (first.source, first.mapped, first.count, first.ppid) == ("this file", False, 12, None)
    assert (second.source, second.mapped, second.count) == ("internal basin", True, 6)
    assert (second.ppid, second.offsets) == ("romed:b=5", None)


def test_basins_that_lead_nowhere(tmp_path):
    path = tmp_path / "in.rtdc"
    make_measurement(tmp_path / "other.rtdc", count=40)
    with h5py.File(path, "w") as h5:
        h5.create_group("events")
        store_record(h5, file_record("a", None, ["gone.rtdc"], None, None), {})
        store_record(h5, file_record("b", None, ["other.rtdc"], ["image"], "not this"), {})
        store_record(h5, {"name": "c", "type": "remote", "urls": ["https://far.example/a"]}, {})
        store_record(h5, {"name": "e", "type": "ftp"}, {})
        store_record(h5, internal_record("d", "", ["image_bg"], "basinmap3"), {})
    facts = info(path)
    inner, gone, other, remote, unknown = facts.basins
    assert inner.problem == "its mapping events/basinmap3 is missing"
    assert (gone.target, gone.problem) == ("gone.rtdc", "there is no such file")
    assert "which is another measurement: expected identifier 'not this'" in other.problem
    assert remote.target == "https://far.example/a"
    assert remote.problem.startswith("is at 'far.example', and is not followed; choose basins='net")
    assert unknown.problem == "basins of this type are unknown, and not followed"
    assert facts.images is None
    assert facts.time is None
    (problem,) = facts.problems
    assert "expected identifier 'not this'" in problem
    assert "basin 'c' is at 'far.example', and is not followed" in problem
    assert "these basins were not found: 'gone.rtdc'" in problem


def test_a_basin_that_leaves_its_features_open_is_tried(tmp_path):
    make_measurement(tmp_path / "other.rtdc", count=40)
    with h5py.File(tmp_path / "in.rtdc", "w") as h5:
        h5.create_group("events")
        store_record(h5, file_record("b", None, ["other.rtdc"], None, "not this"), {})
    (basin,) = info(tmp_path / "in.rtdc").basins
    assert basin.features is None
    assert "expected identifier 'not this'" in basin.problem


@pytest.mark.parametrize("basins", ["any", "off"])
def test_a_mapping_that_leads_nowhere_is_a_problem_of_its_basin(tmp_path, basins):
    path = tmp_path / "in.rtdc"
    with h5py.File(path, "w") as h5:
        h5["events/image"] = np.ones((4, 4, 6), "u1")
        h5["events/basinmap0"] = h5py.ExternalLink("gone.rtdc", "/x")
        store_record(h5, internal_record("b", "", ["mask"], "basinmap0"), {})
    facts = info(path, basins)
    assert facts.images.count == 4
    assert facts.problems == ()
    (basin,) = facts.basins
    reason = "which does not exist" if basins == "any" else "which basins='off' does not follow"
    assert basin.problem.endswith(f"leads to {path.with_name('gone.rtdc')}, {reason}")


@pytest.mark.parametrize(
    ("image", "time", "problem"),
    [
        (None, None, "has no dataset 'events/image'"),
        (np.zeros((4, 4), "u1"), None, r"shape must be \(N, H, W\), got \(4, 4\)"),
        (np.zeros((0, 4, 4), "u1"), None, "there are no frames"),
        (np.zeros((4, 4, 4), "i4"), None, "frames of dtype int32 are not supported"),
        (np.zeros((4, 4, 4), "u1"), [0, 1, np.nan, 3], "is nan at frame 2; it must be finite"),
    ],
)
def test_why_there_can_be_no_background(tmp_path, image, time, problem):
    path = tmp_path / "in.rtdc"
    with h5py.File(path, "w") as h5:
        h5.create_group("events")
        if image is not None:
            h5["events/image"] = image
        if time is not None:
            h5["events/time"] = time
    facts = info(path)
    (told,) = facts.problems
    assert path.name in told
    with pytest.raises((OSError, ValueError, TypeError), match=problem) as error:
        BackgroundSparseMed(path, tmp_path / "out.rtdc")
    assert str(error.value) == told


def test_what_is_no_measurement(tmp_path):
    (tmp_path / "notes.txt").write_text("precious")
    with pytest.raises(OSError, match=r"notes\.txt: cannot be read as an HDF5 file"):
        info(tmp_path / "notes.txt")
    with pytest.raises(FileNotFoundError, match=r"gone\.rtdc: there is no such file"):
        info(tmp_path / "gone.rtdc")


@pytest.mark.parametrize(
    ("removed", "rate", "text"),
    [
        ([], 2000.0, "stored times ({path}: events/time)"),
        (["time"], 2000.0, "frame numbers ({path}: events/frame) and the frame rate"),
        (
            ["time", "frame"],
            2000.0,
            "an estimate: the number of frames by the frame rate, times 1.5",
        ),
        (["time"], None, "a guess: 2400 frames per second"),
        ([], "fast", "stored times ({path}: events/time)"),
    ],
)
def test_where_the_time_comes_from_in_words(path, removed, rate, text):
    with h5py.File(path, "a") as h5:
        for name in removed:
            del h5["events"][name]
        del h5.attrs["imaging:frame rate"]
        if rate is not None:
            h5.attrs["imaging:frame rate"] = rate
    time = info(path).time
    assert time.text == text.format(path=path)
    assert time.frame_rate == (None if rate == "fast" else rate)


def test_a_time_that_stands_still_does_not_fall(path):
    with h5py.File(path, "a") as h5:
        h5["events/time"][5] = h5["events/time"][4]
    assert info(path).time.ascends


def test_filters_that_have_no_name_here_are_shown_as_the_file_names_them(tmp_path):
    with h5py.File(tmp_path / "in.rtdc", "w") as h5:
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((9, 8, 7))
        plist.set_filter(321, h5py.h5z.FLAG_OPTIONAL, (5,))
        plist.set_scaleoffset(h5py.h5z.SO_INT, 0)
        space = h5py.h5s.create_simple((20, 16, 24))
        group = h5.create_group("events").id
        h5py.h5d.create(group, b"image", h5py.h5t.NATIVE_UINT8, space, plist)
    images = info(tmp_path / "in.rtdc").images
    assert images.filters[0].startswith("321 (")
    assert images.filters[1:] == ("scaleoffset",)
    assert images.stored_bytes == 0


def test_a_basin_is_told_with_all_that_its_record_says(path, tmp_path):
    with h5py.File(tmp_path / "out.rtdc", "w") as h5:
        h5["events/basinmap4"] = np.arange(3)
        h5["events/basinmap5"] = [0, 90, 1]
        h5["basin_events/image_bg"] = np.ones((3, 4, 6), "u1")
        store_record(h5, internal_record("a", "", ["image_bg"], "basinmap4"), {})
        for number, mapping in ((4, "basinmap4"), (5, "basinmap5")):
            record = file_record(f"{number}", None, ["gone.rtdc", str(path)], ["image"], None)
            store_record(h5, record | {"mapping": mapping}, {})
        store_record(h5, {"name": "r", "type": "remote", "urls": ["s3://a", "s3://b"]}, {})
        store_record(h5, {"name": "s", "type": "remote"}, {})
    facts = {basin.name: basin for basin in info(tmp_path / "out.rtdc").basins}
    assert facts["a"] == BasinFacts(
        "a", "internal", ("image_bg",), "basinmap4", "basin_events", None
    )
    assert facts["4"] == BasinFacts("4", "file", ("image",), "basinmap4", str(path), None)
    assert facts["5"].target == str(path)
    assert "events/basinmap5 maps to entries 0 to 90, but" in facts["5"].problem
    assert (facts["r"].target, facts["s"].target) == ("s3://a, s3://b", "")


def parameters_in(path):
    with Measurement(path) as measurement:
        return stored_parameters(measurement)


def test_what_is_stored_is_known_by_the_pipeline_that_is_written_at_it(path):
    ours = "sparsemed:k=50^s=0.5^t=0^f=0.8^o=0"
    assert parameters_in(path) == asdict(Parameters())
    with h5py.File(path, "a") as h5:
        h5.attrs["pipeline:dcnum background"] = ours
    assert parameters_in(path) == asdict(Parameters())  # of what is not there any more
    with h5py.File(path, "a") as h5:
        h5["events/image_bg"] = h5["events/image"]
        h5["events/image_bg"].attrs["dcnum ppid generation"] = 13
    wanted = Parameters(kernel_size=50, split_time=0.5, offset_correction=False)
    assert parameters_in(path) == asdict(wanted)
    (background,) = info(path).backgrounds
    assert (background.source, background.dataset) == ("this file", f"{path}: events/image_bg")
    assert (background.ppid, background.generation, background.count) == (None, "13", 90)
    for ppid, expected in [(ours.replace("50", "60"), 60), ("romed:b=100", 200), (b"\xff", 200)]:
        with h5py.File(path, "a") as h5:
            h5["events/image_bg"].attrs["dcnum ppid background"] = ppid
        assert parameters_in(path)["kernel_size"] == expected
        if isinstance(ppid, str):
            assert info(path).backgrounds[0].ppid == ppid
