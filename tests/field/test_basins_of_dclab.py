"""Files that dclab makes, wherever they are moved: the images that dclab finds are found."""

import shutil
from pathlib import Path

import dclab
import dclab.cli
import numpy as np
import pytest
from dclab import RTDCWriter
from dcnum.logic import DCNumJobRunner, DCNumPipelineJob
from rings import combined

from sparsemed import BackgroundSparseMed, compute_background
from sparsemed.rtdc.measurement import Measurement

COUNT, HEIGHT, WIDTH = 120, 24, 30


def write_raw(path, seed=0, time="12:00:00"):
    """Write a measurement as a device does."""
    rng = np.random.default_rng(seed)
    images = rng.integers(90, 110, (COUNT, HEIGHT, WIDTH), np.uint8)
    mask = np.zeros((COUNT, HEIGHT, WIDTH), bool)
    mask[:, 8:15, 9:20] = True
    path.parent.mkdir(parents=True, exist_ok=True)
    with RTDCWriter(path, mode="reset") as writer:
        writer.store_metadata(
            {
                "experiment": {"date": "2026-01-02", "time": time, "sample": "s", "run index": 1},
                "imaging": {
                    "frame rate": 500.0,
                    "pixel size": 0.34,
                    "roi size x": WIDTH,
                    "roi size y": HEIGHT,
                },
                "setup": {
                    "identifier": "ZMD-1",
                    "channel width": 20.0,
                    "chip region": "channel",
                    "flow rate": 0.04,
                    "medium": "CellCarrierB",
                },
            }
        )
        writer.store_feature("image", images)
        writer.store_feature("mask", mask)
        writer.store_feature("time", np.arange(COUNT) / 100)
        writer.store_feature("frame", np.arange(1, COUNT + 1))
        writer.store_feature("deform", rng.random(COUNT))
        writer.store_feature("area_um", 20 + rng.random(COUNT))
        writer.store_feature("bright_avg", 90 + rng.random(COUNT))
    return path


def chosen(data):
    """Filter a dataset: leave out some frames at the beginning and in between."""
    data.filter.manual[:30] = False
    data.filter.manual[50:57] = False
    data.apply_filter()
    return data


def export(raw, path, filtered, features=("deform",)):
    with dclab.new_dataset(raw) as data:
        chosen(data) if filtered else None
        data.export.hdf5(path, features=list(features), filtered=filtered, basins=True)


def export_of_a_child(raw, path):
    with dclab.new_dataset(raw) as data:
        child = dclab.new_dataset(chosen(data))
        child.filter.manual[:5] = False
        child.apply_filter()
        child.export.hdf5(path, features=["deform"], filtered=True, basins=True)


def split(raw, path):
    parts = path.parent / "parts"
    parts.mkdir()
    dclab.cli.split(path_in=raw, path_out=parts, split_events=50)
    shutil.move(sorted(parts.iterdir())[1], path)


def join(raw, path):
    other = write_raw(path.with_name("other.rtdc"), seed=1, time="12:10:00")
    dclab.cli.join(paths_in=[raw, other], path_out=path)


def result(raw, path):
    with BackgroundSparseMed(raw, path, kernel_size=20, split_time=0.2) as job:
        job.process()


def export_of_a_result(raw, path, **options):
    result(raw, path.with_name("result.rtdc"))
    export(path.with_name("result.rtdc"), path, **options)


def result_of_an_export(raw, path):
    export(raw, path.with_name("export.rtdc"), filtered=True)
    result(path.with_name("export.rtdc"), path)


MAKERS = {
    "export": lambda raw, path: export(raw, path, filtered=False),
    "filtered export": lambda raw, path: export(raw, path, filtered=True),
    "export of a child": export_of_a_child,
    "export of an export": lambda raw, path: (
        export(raw, path.with_name("export.rtdc"), filtered=True),
        export(path.with_name("export.rtdc"), path, filtered=True),
    ),
    "split": split,
    "join": join,
    "condense": lambda raw, path: dclab.cli.condense(path_in=raw, path_out=path),
    "compress": lambda raw, path: dclab.cli.compress(path_in=raw, path_out=path),
    "repack": lambda raw, path: dclab.cli.repack(path_in=raw, path_out=path),
    "result": result,
    "export of a result": lambda raw, path: export_of_a_result(raw, path, filtered=False),
    "filtered export of a result": lambda raw, path: export_of_a_result(raw, path, filtered=True),
    "result of an export": result_of_an_export,
    "compressed result": lambda raw, path: (
        result(raw, path.with_name("result.rtdc")),
        dclab.cli.compress(path_in=path.with_name("result.rtdc"), path_out=path),
    ),
}


def stays(folder):
    return folder / "made.rtdc"


def moves_alone(folder):
    (folder.parent / "alone").mkdir()
    return Path(shutil.move(folder / "made.rtdc", folder.parent / "alone" / "made.rtdc"))


def moves_with_all(folder):
    return Path(shutil.move(folder, folder.parent / "elsewhere")) / "made.rtdc"


def is_copied_with_all(folder):
    shutil.copytree(folder, folder.parent / "copy")
    return folder.parent / "copy" / "made.rtdc"


def moves_and_all_else_is_gone(folder):
    path = moves_alone(folder)
    shutil.rmtree(folder)
    return path


def found_by_dclab(path, name):
    """Return a feature as dclab has it, or None."""
    with dclab.new_dataset(path) as data:
        return np.asarray(data[name][:]) if name in data else None


def found(path, name):
    with Measurement(path) as measurement:
        feature = measurement.feature(name)
        return None if feature is None else feature[:]


@pytest.mark.filterwarnings("ignore")  # what dclab says of files it makes and of those gone
@pytest.mark.parametrize(
    ("maker", "moved"),
    combined(
        list(MAKERS),
        [stays, moves_alone, moves_with_all, is_copied_with_all, moves_and_all_else_is_gone],
    ),
    ids=lambda value: getattr(value, "__name__", value),
)
def test_what_dclab_finds_is_found(tmp_path, maker, moved):
    folder = tmp_path / "first"
    raw = write_raw(folder / "M001_data.rtdc")
    MAKERS[maker](raw, folder / "made.rtdc")
    path = moved(folder)
    by_dclab = {name: found_by_dclab(path, name) for name in ("image", "time")}
    for name, expected in by_dclab.items():
        if name == "image" and moved is not moves_and_all_else_is_gone and maker != "condense":
            assert expected is not None
        if expected is None:
            assert found(path, name) is None
        else:
            np.testing.assert_array_equal(found(path, name), expected, strict=True)
    if all(feature is not None for feature in by_dclab.values()):
        background = compute_background(path, kernel_size=20, split_time=0.2)
        again = compute_background(
            by_dclab["image"], by_dclab["time"], kernel_size=20, split_time=0.2
        )
        np.testing.assert_array_equal(background.series, again.series)
        np.testing.assert_array_equal(background.frame_index, again.frame_index)


@pytest.mark.slow
@pytest.mark.usefixtures("dcnum_may_compile")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("strategy", ["drain", "tap"])
def test_results_of_chipstream_wherever_they_are(tmp_path, measurement, strategy):
    folder = tmp_path / "first"
    folder.mkdir()
    shutil.copy(measurement, folder / "M001.rtdc")
    job = DCNumPipelineJob(
        path_in=folder / "M001.rtdc",
        path_out=folder / "made.rtdc",
        basin_strategy=strategy,
        debug=True,
        feature_kwargs={"haralick": False},
    )
    with DCNumJobRunner(job) as runner:
        runner.run()
    for moved in (stays, is_copied_with_all, moves_with_all, moves_alone):
        path = moved(folder if folder.exists() else tmp_path / "elsewhere")
        expected = found_by_dclab(path, "image")
        if strategy == "drain" or moved is not moves_alone:
            assert expected is not None
        if expected is None:
            assert found(path, "image") is None
        else:
            np.testing.assert_array_equal(found(path, "image"), expected, strict=True)
