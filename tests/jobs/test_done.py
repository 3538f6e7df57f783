import os
import re
import shutil
import time

import h5py
import numpy as np
import pytest
from jobs.measurements import measure

from sparsemed import BackgroundSparseMed, compute_background
from sparsemed.jobs.done import Stored, find_done
from sparsemed.jobs.options import RunOptions
from sparsemed.jobs.runs import Run
from sparsemed.parameters import Parameters
from sparsemed.rtdc.basins import file_record, store_record

PARAMETERS = Parameters(kernel_size=7)


def compute(path, output, **parameters):
    with BackgroundSparseMed(path, output, **{"kernel_size": 7, **parameters}) as job:
        job.process()


@pytest.fixture
def run(tmp_path):
    """Return a run that is done."""
    path = measure(tmp_path / "data" / "in.rtdc")
    (tmp_path / "out").mkdir()
    compute(path, tmp_path / "out" / "in_bg.rtdc")
    return Run(path, tmp_path / "out" / "in_bg.rtdc")


def done(run, parameters=PARAMETERS, basins="any"):
    return find_done(run, RunOptions(parameters, basins=basins))


def test_what_is_done_is_told_without_many_frames_being_read(tmp_path, monkeypatch):
    run = Run(measure(tmp_path / "in.rtdc", count=300), tmp_path / "out.rtdc")
    compute(*run[:2])
    before = run.output.read_bytes()
    with h5py.File(run.output) as h5:
        kept = len(h5["basin_events/image_bg"])
    read, get = [], h5py.Dataset.__getitem__

    def get_and_note(dataset, key):
        found = get(dataset, key)
        if dataset.ndim == 3:
            read.append(len(found) if np.ndim(found) == 3 else 1)
        return found

    monkeypatch.setattr(h5py.Dataset, "__getitem__", get_and_note)
    monkeypatch.setattr("sparsemed.frames.chunks.ChunkFrames.reading", None)
    assert done(run) == Stored(frames=300, height=24, width=16, kept=kept)
    assert sum(read) < 30
    assert run.output.read_bytes() == before


def test_a_result_without_offsets_is_another(run):
    without = Parameters(kernel_size=7, offset_correction=False)
    assert done(run, without) is None
    compute(run.source, run.output, offset_correction=False)
    assert done(run, without) is not None
    assert done(run) is None


def change(path, act):
    """Change a file, but not its time."""
    before = path.stat()
    with h5py.File(path, "a") as h5:
        act(h5)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def of_another(run):
    change(run.source, lambda h5: h5.attrs.update({"experiment:run identifier": "other"}))


def longer(run):
    def add_one(h5):
        for name in ("image", "time"):
            data = h5[f"events/{name}"][:]
            del h5[f"events/{name}"]
            h5[f"events/{name}"] = np.concatenate([data, data[-1:]])

    change(run.source, add_one)


def of_another_shape(run):
    def shrink(h5):
        data = h5["events/image"][:, :-1]
        del h5["events/image"]
        h5["events/image"] = data

    change(run.source, shrink)


def newer(run):
    os.utime(run.source, ns=(0, run.output.stat().st_mtime_ns + 1))


def cut(run):
    run.output.write_bytes(run.output.read_bytes()[:-100])


def gone(run):
    run.output.unlink()


def without_mapping(run):
    change(run.output, lambda h5: h5.pop("events/basinmap0"))


def without_offsets(run):
    change(run.output, lambda h5: h5.pop("events/bg_off"))


def with_fewer_offsets(run):
    def shorten(h5):
        offsets = h5["events/bg_off"]
        attributes, data = dict(offsets.attrs), offsets[:-1]
        del h5["events/bg_off"]
        h5["events/bg_off"] = data
        h5["events/bg_off"].attrs.update(attributes)

    change(run.output, shorten)


def of_another_generation(run):
    def tell(h5):
        h5["basin_events/image_bg"].attrs["dcnum ppid generation"] = "12"

    change(run.output, tell)


def with_offsets_of_another_background(run):
    def tell(h5):
        h5["events/bg_off"].attrs["dcnum ppid background"] = "sparsemed:k=8^s=1^t=0^f=0.8^o=1"

    change(run.output, tell)


def with_a_background_elsewhere(run):
    """Its own is gone, but it refers to a file that has one."""
    other = run.output.with_name("other.rtdc")
    shutil.copy2(run.output, other)

    def refer(h5):
        del h5["basin_events"]
        store_record(h5, file_record("b", None, [str(other)], ["image_bg"], "M-0"), {})

    change(run.output, refer)


@pytest.mark.parametrize(
    "spoil",
    [
        with_offsets_of_another_background,
        with_a_background_elsewhere,
        of_another,
        longer,
        of_another_shape,
        newer,
        cut,
        gone,
        without_mapping,
        without_offsets,
        with_fewer_offsets,
        of_another_generation,
    ],
)
def test_what_is_not_whole_or_not_of_the_measurement_is_not_done(run, spoil):
    assert done(run) is not None
    spoil(run)
    assert done(run) is None


def test_a_result_of_the_same_moment_is_done(run):
    moment = run.output.stat().st_mtime_ns
    os.utime(run.source, ns=(moment, moment))
    assert done(run) is not None


@pytest.mark.parametrize(
    "error",
    [KeyError, RuntimeError, TypeError, ValueError, OSError],
    ids=lambda error: error.__name__,
)
def test_whatever_hdf5_raises_on_a_damaged_result_it_is_not_done(run, monkeypatch, error):
    def fail(*_):
        raise error("by order of the test")

    monkeypatch.setattr("sparsemed.jobs.done._stored", fail)
    assert done(run) is None


@pytest.mark.parametrize("change", [{"kernel_size": 8}, {"split_time": 2}, {"frac_cleansing": 1}])
def test_other_parameters_are_not_done(run, change):
    assert done(run, Parameters(**{"kernel_size": 7, **change})) is None


def test_a_result_that_does_not_find_its_measurement_is_computed_again(run, tmp_path):
    """For only then it finds it again."""
    elsewhere = tmp_path / "elsewhere" / "renamed.rtdc"
    elsewhere.parent.mkdir()
    shutil.move(run.source, elsewhere)
    assert done(Run(elsewhere, run.output)) is None
    compute(elsewhere, run.output)
    assert done(Run(elsewhere, run.output)) is not None


def test_without_an_identifier_the_way_to_the_measurement_counts(tmp_path):
    path = measure(tmp_path / "in.rtdc", identifier=None)
    other = measure(tmp_path / "other.rtdc", identifier=None)
    os.utime(other, ns=(0, 0))
    run = Run(path, tmp_path / "out.rtdc")
    compute_background(path, kernel_size=7).save(run.output)
    assert done(run) is not None
    assert done(Run(other, run.output)) is None


def test_without_identifier_and_digest_nothing_is_known(tmp_path):
    """As of results of dcnum: the measurement may be another by now, of the same name."""
    path = measure(tmp_path / "in.rtdc", identifier=None)
    run = Run(path, tmp_path / "out.rtdc")
    compute(*run[:2])
    assert done(run) is None


def with_other_frames(h5):
    h5["events/image"][-1:] += 1


def with_other_times(h5):
    h5["events/time"][5] += 0.001


@pytest.mark.parametrize("act", [with_other_frames, with_other_times])
@pytest.mark.parametrize("identifier", [None, "M-0"])
@pytest.mark.parametrize("in_place", [False, True])
def test_a_measurement_that_took_the_place_of_another_is_computed(
    tmp_path, act, identifier, in_place
):
    path = measure(tmp_path / "in.rtdc", identifier=identifier)
    run = Run(path, path if in_place else tmp_path / "out.rtdc", in_place)
    compute_background(path, kernel_size=7).save(run.output, in_place=in_place)
    assert done(run) is not None
    change(path, act)
    assert done(run) is None


def test_a_file_of_ones_own_that_leads_nowhere_is_known_by_its_identifier(tmp_path):
    path = measure(tmp_path / "in.rtdc")
    output = tmp_path / "features.rtdc"
    with h5py.File(output, "w") as h5:
        h5["events/deform"] = np.zeros(24)
        h5.attrs["experiment:run identifier"] = "M-0"
    compute(path, output)
    assert done(Run(path, output)) is not None


def test_in_place_the_pipeline_identifier_counts(tmp_path):
    path = measure(tmp_path / "in.rtdc")
    run = Run(path, path, in_place=True)
    assert done(run) is None
    compute(path, path)
    assert done(run) is not None
    assert done(run, Parameters()) is None


def test_images_in_a_basin_may_be_newer(tmp_path):
    raw = measure(tmp_path / "raw.rtdc")
    path = tmp_path / "in.rtdc"
    with h5py.File(path, "w") as h5:
        h5.create_group("events")
        h5.attrs["experiment:run identifier"] = "M-0"
        store_record(h5, file_record("b", None, [str(raw)], None, "M-0"), {})
    run = Run(path, tmp_path / "out.rtdc")
    compute(*run[:2])
    assert done(run) is not None
    assert done(run, basins="off") is None
    os.utime(raw, ns=(0, run.output.stat().st_mtime_ns + 1))
    assert done(run) is None


def test_a_measurement_from_the_future_is_told(run, warned):
    assert done(run) is not None
    assert not any("ahead of the clock" in text for text in warned())
    ahead = time.time() + 3600
    os.utime(run.source, (ahead, ahead))
    assert done(run) is None
    assert re.search(r"in\.rtdc: its last change is 3,(600|5..) s ahead of the clock", warned()[-1])
