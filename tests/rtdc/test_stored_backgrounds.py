"""Backgrounds that were stored are loaded, and are what they were as far as files tell."""

import re
import shutil

import h5py
import numpy as np
import pytest
from matplotlib.text import Text
from parity.oracle import dcnum_background

import sparsemed
from sparsemed import compute_background, load
from sparsemed.demo import make_measurement
from sparsemed.method.repeated import RepeatedImages
from sparsemed.parameters import Parameters
from sparsemed.quality import overall
from sparsemed.report.facts import read_facts
from sparsemed.rtdc.basins import file_record, store_record

SETTINGS = {"kernel_size": 60, "split_time": 0.5}


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """Return a measurement; do not write to it."""
    path = tmp_path_factory.mktemp("stored") / "raw.rtdc"
    make_measurement(path, count=1000)
    return path


@pytest.fixture(scope="module")
def computed(raw):
    return compute_background(raw, **SETTINGS)


def check(found, computed):
    """Check what a file keeps, and that the rest is said to be unknown."""
    for name in ("images", "frame_index", "offsets", "time"):
        expected = getattr(computed, name)
        np.testing.assert_array_equal(getattr(found, name), expected, strict=True, err_msg=name)
    assert found.parameters == computed.parameters
    assert type(found) is sparsemed.SparseBackground
    assert found.is_loaded
    assert not computed.is_loaded
    assert found.series is found.images
    assert found.kept.all()
    assert len(found.kept) == len(found.score) == len(found.step_times) == len(found.images)
    assert np.isnan(found.score).all()
    assert repr(found).endswith(f", {len(found.images)} background images kept)")


def check_steps(found, computed):
    taken = computed.step_times[computed.kept]
    assert len(taken) < len(computed.step_times)
    np.testing.assert_array_equal(found.step_times[:-1], taken[:-1])


@pytest.mark.parametrize("way", ["new file", "in place", "dcnum", "dcnum in place"])
def test_a_result_is_loaded(raw, computed, tmp_path, way):
    path = tmp_path / "result.rtdc"
    if "in place" in way:
        shutil.copyfile(raw, path)
    if "dcnum" in way:
        with dcnum_background(path if "in place" in way else raw, path, **SETTINGS) as job:
            job.process()
    else:
        computed.save(path, in_place="in place" in way)
    found = load(path)
    check(found, computed)
    check_steps(found, computed)
    assert found.source == path
    with h5py.File(raw) as h5:
        frames = h5["events/image"][40:60]
    left = found.subtract(frames, 40)
    np.testing.assert_array_equal(left, computed.subtract(frames, 40), strict=True)
    # all that judges is the same but for what dropped images tell
    judged, expected = ({f.key: f for f in each.quality()} for each in (found, computed))
    assert set(expected) - set(judged) == {"dropped"}
    assert {key for key in judged if judged[key] != expected[key]} <= {"drift"}
    assert overall(list(judged.values())) == "good"


def test_what_was_loaded_is_described_and_saved(raw, computed, tmp_path):
    computed.save(tmp_path / "result.rtdc")
    found = load(tmp_path / "result.rtdc")
    rows = dict(read_facts(found, None).rows)
    ppid = "sparsemed:k=60^s=0.5^t=0^f=0.8^o=1"
    assert rows["Background in the file"] == f"{ppid}: the one on this page"
    assert rows["Images from"] == f"{raw}: events/image"
    assert f"{len(found.images)} kept</td>" in found._repr_html_()
    found.save(tmp_path / "again.rtdc")
    check(load(tmp_path / "again.rtdc"), computed)


def check_page(page, found):
    for words in (
        "as the file keeps it: without the images that cleansing dropped",
        f"{len(found.images)} background images kept",
        f"Image 1 of {len(found.images)}, at 0 s</figcaption>",
    ):
        assert words in page
    for words in ("nan", "Cleansing score", "Background images dropped"):
        assert not re.search(rf"\b{words}\b", re.sub('base64,[^"]*', "", page))


def test_a_result_of_an_array_takes_its_time(tmp_path):
    rng = np.random.default_rng(0)
    images = (rng.integers(60, 120, (44, 50)) + rng.normal(0, 1, (400, 44, 50))).astype(np.uint8)
    computed = compute_background(images, frame_rate=50, kernel_size=20, offset_rows=7)
    computed.save(tmp_path / "result.rtdc")
    found = load(tmp_path / "result.rtdc", computed.time)
    check(found, computed)
    check_steps(found, computed)
    assert (found.source, found.offset_rows) == (None, 7)
    assert [f.verdict for f in found.quality(images)] == [
        f.verdict for f in computed.quality(images) if f.key != "dropped"
    ]
    found.report(tmp_path / "page.html", images)
    check_page((tmp_path / "page.html").read_text("utf-8"), found)
    guessed = load(tmp_path / "result.rtdc")
    gone, no_time = guessed.warnings
    assert gone.startswith("Results that need frames are left out")
    assert no_time.startswith("The times are unknown")
    assert np.isnan(guessed.step_times).all()
    check_unknown(guessed, images)


def check_unknown(found, images):
    findings = {finding.key: finding for finding in found.quality(images)}
    assert not {"dropped", "drift", "streaks", "change"} & set(findings)
    assert overall(list(findings.values())) != "good"
    assert findings["windows"].verdict == "cannot tell"
    assert "does not tell from which frames" in findings["windows"].advice
    assert "left" in findings
    assert "time unknown" in found._repr_html_()
    texts = {text.get_text() for text in found.plot(images).findobj(Text)}
    assert "the file has neither scores nor dropped images" in texts
    assert "time unknown" in texts


def test_some_frames_of_a_measurement_tell_no_windows(raw, computed, tmp_path):
    computed.save(tmp_path / "result.rtdc")
    chosen = np.sort(np.random.default_rng(0).choice(1000, 300, replace=False))
    part = tmp_path / "part.rtdc"
    with h5py.File(raw) as source, h5py.File(part, "w") as h5:
        # as an export has it: an image for each frame
        h5["events/image"] = source["events/image"][:][chosen]
        h5["events/time"] = source["events/time"][:][chosen]
        h5["events/image_bg"] = computed[chosen]
        h5["events/bg_off"] = computed.offsets[chosen]
        h5.attrs["pipeline:dcnum background"] = "sparsemed:k=60^s=0.5^t=0^f=0.8^o=1"
    found = load(part)
    np.testing.assert_array_equal(found[:], computed[chosen])
    assert len(found.images) == len(np.unique(computed.frame_index[chosen]))
    np.testing.assert_array_equal(found.offsets, computed.offsets[chosen])
    assert np.isnan(found.step_times).all()
    found = {finding.key: finding for finding in found.quality()}
    assert found["windows"].verdict == "cannot tell"


def test_equal_images_are_held_once(tmp_path, monkeypatch):
    monkeypatch.setattr("sparsemed.method.repeated.SMALL_BYTES", 0)
    images = np.random.default_rng(0).integers(0, 255, (60, 24, 9), np.uint8)
    time = np.r_[np.arange(30) / 10, 60 + np.arange(30) / 10]
    computed = compute_background(images, time, kernel_size=9, frac_cleansing=1)
    assert isinstance(computed.images, RepeatedImages)
    computed.save(tmp_path / "result.rtdc")
    found = load(tmp_path / "result.rtdc", time)
    assert isinstance(found.images, RepeatedImages)
    np.testing.assert_array_equal(found[:], computed[:])


def test_frames_that_have_gone_are_told_and_all_else_is_there(raw, tmp_path, warned):
    shutil.copyfile(raw, tmp_path / "raw.rtdc")
    computed = compute_background(tmp_path / "raw.rtdc", **SETTINGS)
    computed.save(tmp_path / "result.rtdc")
    (tmp_path / "raw.rtdc").unlink()
    found = load(tmp_path / "result.rtdc", computed.time)
    (gone,) = warned()
    assert "raw.rtdc" in gone
    assert found.warnings == (gone,)
    check(found, computed)
    check_steps(found, computed)
    assert found.source is None
    assert overall(found.quality()) == "cannot tell"
    off = load(tmp_path / "result.rtdc", computed.time, basins="off")
    assert (off.basins, off.source) == ("off", None)


def test_without_offsets(raw, tmp_path, warned):
    compute_background(raw, offset_correction=False, **SETTINGS).save(tmp_path / "result.rtdc")
    assert load(tmp_path / "result.rtdc").offsets is None
    assert not warned()
    with h5py.File(tmp_path / "result.rtdc", "a") as h5:
        h5["basin_events/image_bg"].attrs["dcnum ppid background"] = "sparsemed:k=60^s=0.5"
    found = load(tmp_path / "result.rtdc")
    assert found.offsets is None
    (text,) = found.warnings
    assert "has a background without its offsets (bg_off)" in text
    assert load(tmp_path / "result.rtdc").parameters == Parameters(**SETTINGS)


@pytest.mark.parametrize(
    ("ppid", "reason"),
    [
        (None, r"of another method or of unknown origin \(it has no pipeline identifier\); comp"),
        ("rollmed:k=100^b=10000", r"origin \('rollmed:k=100\^b=10000' is not a PPID of the met"),
        ("sparsemed:k=-3", "origin .kernel_size must be a whole number from 1"),
    ],
)
def test_backgrounds_of_other_methods_are_refused(raw, computed, tmp_path, ppid, reason):
    computed.save(tmp_path / "result.rtdc")
    with h5py.File(tmp_path / "result.rtdc", "a") as h5:
        attributes = h5["basin_events/image_bg"].attrs
        del attributes["dcnum ppid background"]
        if ppid is not None:
            attributes["dcnum ppid background"] = ppid
    with pytest.raises(ValueError, match=reason) as caught:
        load(tmp_path / "result.rtdc")
    assert str(caught.value).startswith(f"{tmp_path / 'result.rtdc'}: ")


def test_what_holds_no_background_says_so(raw, tmp_path):
    with pytest.raises(ValueError, match=r"raw\.rtdc: holds no background; compute one: spars"):
        load(raw)
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "missing.rtdc")
    with pytest.raises(ValueError, match="basins must be"):
        load(raw, basins="some")


def test_what_does_not_fit_is_refused(raw, computed, tmp_path):
    path = tmp_path / "result.rtdc"
    computed.save(path)
    with pytest.raises(ValueError, match=r"time: has shape \(7,\), but there are 1000 frames"):
        load(path, np.arange(7))
    with h5py.File(path, "a") as h5:
        h5["events/image"] = np.zeros((7, 80, 320), np.uint8)
    with pytest.raises(ValueError, match="has 7 images, but a background of 1000"):
        load(path)
    with h5py.File(path, "a") as h5:
        del h5["events/bg_off"]
        h5["events/bg_off"] = np.zeros(9)
    with pytest.raises(ValueError, match=r"events/bg_off: has shape \(9,\), but there are 1000"):
        load(path)


def test_offsets_of_another_background_are_not_taken_for_those_of_this_one(
    raw, computed, tmp_path, warned
):
    """Its images are in one file, and offsets of other parameters in another."""
    computed.save(tmp_path / "images.rtdc")
    compute_background(raw, kernel_size=9).save(tmp_path / "offsets.rtdc")
    with h5py.File(tmp_path / "images.rtdc", "a") as h5:
        del h5["events/bg_off"]
    with h5py.File(tmp_path / "both.rtdc", "w") as h5:
        h5.create_group("events")
        for path, features in (
            (tmp_path / "images.rtdc", ["image_bg"]),
            (tmp_path / "offsets.rtdc", ["bg_off"]),
            (raw, ["image", "time"]),
        ):
            store_record(h5, file_record(path.name, None, [str(path)], features, None), {})
    found = load(tmp_path / "both.rtdc")
    np.testing.assert_array_equal(found.images, computed.images)
    assert found.offsets is None
    assert f"{tmp_path / 'both.rtdc'}: has a background without its offsets" in " ".join(warned())
