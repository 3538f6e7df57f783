"""A result refers to its measurement and to no other; a further run renews that, or is refused."""

import os
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from dcnum.write import create_with_basins

from sparsemed import BackgroundSparseMed, compute_background
from sparsemed.rtdc.basins import Basin, file_record, read_basins, store_record
from sparsemed.rtdc.measurement import Measurement
from sparsemed.rtdc.references import is_same_file, references
from sparsemed.rtdc.search import recorded_names, recorded_places


def measure(path, level=50, identifier=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as h5:
        h5["events/image"] = np.full((9, 8, 6), level, np.uint8)
        h5["events/time"] = np.arange(9.0)
        if identifier is not None:
            h5.attrs["experiment:run identifier"] = identifier
    return path


def save(source, output, **options):
    compute_background(source, kernel_size=3, **options).save(output, in_place=source == output)


def run_job(source, output, **options):
    with BackgroundSparseMed(source, output, kernel_size=3, **options) as job:
        job.process()


def paths_in(output):
    with h5py.File(output) as h5:
        return [basin.paths for basin in read_basins(h5) if basin.is_file]


def levels(output):
    """Return the grey value of the images that a result leads to, and of their background."""
    with Measurement(output) as measurement:
        names = ("image", "image_bg")
        return [int(measurement.feature(name).read().max()) for name in names]


@pytest.fixture
def raw(tmp_path):
    return measure(tmp_path / "data" / "a.rtdc")


@pytest.fixture
def output(tmp_path):
    (tmp_path / "results").mkdir()
    return tmp_path / "results" / "x.rtdc"


def add_feature(output):
    """Add to a result, so that it is not written again."""
    with h5py.File(output, "a") as h5:
        h5["events/deform"] = np.zeros(9)


def test_which_writer_records_which_paths(raw, output, monkeypatch):
    monkeypatch.chdir(raw.parent)
    save("a.rtdc", output)
    assert paths_in(output) == [[str(raw), "../data/a.rtdc"]]
    output.unlink()
    run_job("a.rtdc", output)  # dcnum's class has one path, and so has ours
    assert paths_in(output) == [[str(raw)]]
    run_job("a.rtdc", "b.rtdc")
    assert paths_in("b.rtdc") == [["a.rtdc"]]


@pytest.mark.skipif(os.name == "nt", reason="links")
def test_paths_of_links_keep_their_names(raw, output, tmp_path):
    """As those of git-annex, whose files have names that nobody knows."""
    (tmp_path / "linked.rtdc").symlink_to(raw)
    (tmp_path / "folder").symlink_to(output.parent)
    save(tmp_path / "linked.rtdc", tmp_path / "folder" / "x.rtdc")
    assert paths_in(output) == [[str(tmp_path / "linked.rtdc"), "../linked.rtdc"]]
    assert levels(tmp_path / "folder" / "x.rtdc") == levels(output) == [50, 50]


# The same measurement ---------------------------------------------------------------------------


@pytest.mark.parametrize("grown", [False, True])
@pytest.mark.parametrize("identifier", [None, "me"])
@pytest.mark.parametrize("renamed", [False, True])
def test_a_reference_to_a_measurement_that_was_moved_is_renewed(
    raw, output, tmp_path, grown, identifier, renamed
):
    measure(raw, identifier=identifier)
    save(raw, output)
    if grown:
        add_feature(output)
    moved = tmp_path / "moved" / ("b.rtdc" if renamed else "a.rtdc")
    moved.parent.mkdir()
    raw.rename(moved)
    if renamed and identifier is None:
        before = output.read_bytes()
        with pytest.raises(ValueError, match=r"x\.rtdc: belongs to '.*a\.rtdc', which is missing"):
            save(moved, output)
        assert output.read_bytes() == before
        return
    save(moved, output)
    assert paths_in(output) == [[str(moved), f"../moved/{moved.name}"]]
    assert levels(output) == [50, 50]
    with h5py.File(output) as h5:
        assert ("deform" in h5["events"]) is grown
        assert "replaced by sparsemed" not in h5


def test_a_copied_folder_is_that_of_the_copy(raw, output, tmp_path):
    """The absolute path leads to the original, the other one to the copy."""
    save(raw, output)
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("data", "results"):
        shutil.copytree(tmp_path / name, copy / name)
    save(copy / "data" / "a.rtdc", copy / "results" / "x.rtdc")
    expected = [str(copy / "data" / "a.rtdc"), "../data/a.rtdc"]
    assert paths_in(copy / "results" / "x.rtdc") == [expected]


def test_another_name_of_the_same_file(raw, output, tmp_path):
    save(raw, output)
    os.link(raw, tmp_path / "b.rtdc")
    save(tmp_path / "b.rtdc", output)
    assert paths_in(output) == [[str(tmp_path / "b.rtdc"), "../b.rtdc"]]


def test_results_of_dcnum_and_of_former_versions_are_renewed(raw, output):
    create_with_basins(output, [raw])
    save(raw, output)
    assert paths_in(output) == [[str(raw), "../data/a.rtdc"]]


def test_the_class_leaves_references_in_files_that_have_more(raw, output, tmp_path):
    run_job(raw, output)
    add_feature(output)
    former = paths_in(output)
    raw.rename(tmp_path / "a.rtdc")
    run_job(tmp_path / "a.rtdc", output)
    assert paths_in(output) == former


def test_other_references_stay(raw, output, tmp_path):
    """Of those that dcnum wrote into one file, the one to the measurement is renewed."""
    with h5py.File(tmp_path / "features.rtdc", "w") as h5:
        h5["events/deform"] = np.zeros(9)
    create_with_basins(output, [raw, tmp_path / "features.rtdc"])
    moved = raw.rename(tmp_path / "a.rtdc")
    save(moved, output)
    assert sorted(paths_in(output)) == sorted(
        [[str(moved), "../a.rtdc"], [str(tmp_path / "features.rtdc")]]
    )


@pytest.mark.parametrize("moved", [False, True])
def test_a_measurement_whose_images_are_elsewhere(raw, output, tmp_path, moved):
    """Its own reference, which the result takes over, says nothing about whose result that is."""
    middle = tmp_path / "middle" / "in.rtdc"
    middle.parent.mkdir()
    create_with_basins(middle, [raw])
    save(middle, output)
    if moved:
        middle.parent.rename(tmp_path / "else")
        middle = tmp_path / "else" / "in.rtdc"
    before = paths_in(output)
    add_feature(output)
    save(middle, output)
    assert [str(middle), f"../{middle.parent.name}/in.rtdc"] in paths_in(output)
    assert len(paths_in(output)) == len(before) == 2
    assert levels(output) == [50, 50]


def test_a_file_without_references_gets_none(raw, output):
    with h5py.File(output, "w") as h5:
        h5["events/deform"] = np.zeros(9)
    save(raw, output)
    assert paths_in(output) == []


def test_a_measurement_changes_only_if_that_is_said(raw):
    before = raw.read_bytes()
    with pytest.raises(ValueError, match=r"holds images of its own, .* with in_place=True$"):
        compute_background(raw, kernel_size=3).save(raw)
    assert raw.read_bytes() == before


def test_the_measurement_itself_is_no_result(raw):
    save(raw, raw)
    save(raw, raw)
    assert paths_in(raw) == []


# Another measurement ----------------------------------------------------------------------------


@pytest.mark.parametrize("grown", [False, True])
@pytest.mark.parametrize("write", [save, run_job])
@pytest.mark.parametrize("identifier", [None, "equal"])
@pytest.mark.parametrize("name", ["data/b.rtdc", "other/a.rtdc", "results/a.rtdc"])
def test_the_result_of_another_measurement_is_refused(
    raw, output, tmp_path, write, identifier, name, grown
):
    measure(raw, identifier=identifier)
    other = measure(tmp_path / name, level=90, identifier=identifier)
    write(raw, output)
    if grown:
        add_feature(output)
    before = output.read_bytes()
    with pytest.raises(ValueError, match=r"x\.rtdc: belongs to '.*a\.rtdc', which is another"):
        write(other, output)
    assert output.read_bytes() == before
    output.unlink()  # as the error says
    write(other, output)
    assert levels(output) == [90, 90]


def test_an_export_that_leads_elsewhere_is_refused(raw, output, tmp_path):
    with h5py.File(output, "w") as h5:
        h5["events/deform"] = np.zeros(9)
        store_record(h5, file_record("Exported data", None, [f"{raw}"], None, None), {})
    save(raw, output)
    with pytest.raises(ValueError, match="another file than"):
        save(measure(tmp_path / "b.rtdc"), output)


def test_without_a_look_what_is_written_counts(raw, output, tmp_path):
    save(raw, output, basins="off")
    save(raw, output, basins="off")
    with pytest.raises(ValueError, match="belongs to"):
        save(measure(tmp_path / "b.rtdc"), output, basins="off")
    # nobody looks whether the other is still there, and so it may have been moved
    save(measure(tmp_path / "a.rtdc"), output, basins="off")


# Whether two are one ----------------------------------------------------------------------------


def test_files_are_the_same_by_name_where_numbers_do_not_last(raw, tmp_path, monkeypatch):
    monkeypatch.setattr(os.path, "samefile", lambda *_: False)
    monkeypatch.chdir(raw.parent)
    assert is_same_file(raw, Path("../data/a.rtdc"))
    assert not is_same_file(raw, measure(tmp_path / "a.rtdc"))
    assert not is_same_file(tmp_path / "gone", tmp_path / "gone")
    assert not is_same_file(Path("a\0b"), raw)


def test_recorded_places_and_names():
    paths = ["../raw/a.rtdc", 3, r"..\raw\b.rtdc"]
    places = [place.as_posix() for place in recorded_places(paths, Path("here"))]
    assert places == ["here/../raw/a.rtdc", r"here/..\raw\b.rtdc", "here/../raw/b.rtdc"]
    assert set(recorded_names(paths)) >= {"a.rtdc", "b.rtdc"}


@pytest.mark.parametrize("name", ["name", "paths", "identifier"])
def test_a_record_that_the_measurement_has_itself_is_no_reference_to_it(name):
    record = {"type": "file", "name": "n", "paths": ["p"], "identifier": "i"}
    taken_over = Basin("1", record | {"description": "copied"})
    own = Basin("2", record | {name: ["q"] if name == "paths" else "other"})
    assert references([taken_over, own], [Basin("3", record)]) == [own]
