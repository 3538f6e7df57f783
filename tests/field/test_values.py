"""Values that are not there: masked blocks, and frames that nobody ever wrote."""

import json

import click.testing
import dask.array as da
import h5py
import numpy as np
import pytest
import xarray
import zarr
from zarr.storage import MemoryStore

import sparsemed
from sparsemed import compute_background
from sparsemed.cli import main
from sparsemed.demo import make_measurement
from sparsemed.frames.hdf5_layout import unwritten_spans
from sparsemed.frames.source import join_spans, spans_in_words

COUNT = 600
IMAGES = np.random.default_rng(0).integers(90, 110, (COUNT, 40, 64), np.uint8)
TIME = np.arange(COUNT) / 100
SETTINGS = {"time": TIME, "kernel_size": 50}


def masked_blocks():
    return da.ma.masked_greater(da.from_array(IMAGES, chunks=(50, -1, -1)), 105)


@pytest.mark.parametrize(
    "images",
    [
        masked_blocks,
        lambda: masked_blocks().rechunk((70, 20, 32)),
        lambda: np.ma.masked_greater(IMAGES, 105),
    ],
    ids=["Dask", "Dask, tiles", "NumPy"],
)
def test_masked_values_are_refused_wherever_they_hide(images):
    with pytest.raises(ValueError, match=r"some values of frames 0 to \d+ are masked"):
        compute_background(images(), **SETTINGS)


def test_the_median_of_a_stack_refuses_masks_of_dask():
    with pytest.raises(ValueError, match="stack: some values are masked"):
        sparsemed.median_image(masked_blocks()[:20])
    image = sparsemed.median_image(da.from_array(IMAGES[:20], chunks=(3, -1, -1)))
    np.testing.assert_array_equal(image, sparsemed.median_image(IMAGES[:20]))


def test_masked_times_are_refused():
    time = np.ma.masked_equal(TIME, TIME[7])
    with pytest.raises(ValueError, match=r"^time: is masked at frame 7; each frame needs"):
        compute_background(IMAGES, time=time)
    known = np.ma.masked_equal(TIME, -1)
    found = compute_background(IMAGES, time=known, kernel_size=50)
    np.testing.assert_array_equal(found.series, compute_background(IMAGES, **SETTINGS).series)


def test_xarray_makes_nan_of_what_is_masked_and_that_is_refused():
    images = xarray.DataArray(masked_blocks(), dims=("t", "y", "x"))
    with pytest.raises(TypeError, match=r"frame 0 holds nan; .* must be whole numbers"):
        compute_background(images, **SETTINGS)


def test_a_masked_array_of_which_nothing_is_masked_is_taken():
    images = da.ma.masked_greater(da.from_array(IMAGES, chunks=(50, -1, -1)), 250)
    found = compute_background(images, **SETTINGS)
    np.testing.assert_array_equal(found.series, compute_background(IMAGES, **SETTINGS).series)


def write_some(path, written, **options):
    """Write a measurement of which only some frames were ever written."""
    with h5py.File(path, "w") as h5:
        dataset = h5.create_dataset("events/image", IMAGES.shape, "u1", **options)
        for start, stop in written:
            dataset[start:stop] = IMAGES[start:stop]
        h5["events/time"] = TIME
    return path


LAYOUTS = {
    "gzip": {"chunks": (25, 40, 64), "compression": "gzip"},
    "tiles": {"chunks": (25, 20, 16), "fletcher32": True},
    "growing": {"chunks": (25, 40, 64), "maxshape": (None, 40, 64)},
    "by HDF5": {"chunks": (25, 40, 64), "scaleoffset": 0},
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("written", "missing"),
    [
        ([(0, 350)], [(350, 600)]),
        ([(0, 100), (125, 600)], [(100, 125)]),
        ([(0, 10), (590, 600)], [(25, 575)]),  # the rest of a chunk counts as written
        ([], [(0, 600)]),
        ([(0, 600)], []),
    ],
)
def test_frames_that_were_never_written(tmp_path, layout, written, missing):
    path = write_some(tmp_path / "in.rtdc", written, **LAYOUTS[layout])
    background = compute_background(path, kernel_size=50)
    assert list(background.unwritten) == missing
    with h5py.File(path) as h5:
        images = h5["events/image"][:]
        assert unwritten_spans(h5["events/image"]) == missing
    expected = compute_background(images, **SETTINGS)
    np.testing.assert_array_equal(background.series, expected.series)
    assert expected.unwritten == ()  # an array does not tell
    finding = {each.key: each for each in background.quality()}.get("unwritten")
    if not missing:
        assert finding is None
        assert background.warnings == ()
        return
    (text,) = background.warnings
    assert f"in.rtdc: frames {spans_in_words(missing)} were never written" in text
    count = sum(stop - start for start, stop in missing)
    assert not finding.is_good
    assert finding.value == count / COUNT
    assert finding.text.startswith(f"{count} of 600")


def test_a_part_of_each_frame_that_was_never_written(tmp_path):
    path = write_some(tmp_path / "in.rtdc", [], **LAYOUTS["tiles"])
    with h5py.File(path, "a") as h5:
        h5["events/image"][:, :20] = IMAGES[:, :20]
    assert compute_background(path, kernel_size=50).unwritten == ((0, COUNT),)


def test_a_contiguous_dataset_that_was_never_written(tmp_path):
    path = write_some(tmp_path / "in.rtdc", [])
    assert compute_background(path, kernel_size=50).unwritten == ((0, COUNT),)
    path = write_some(tmp_path / "in.rtdc", [(0, 3)])  # has room for all of them, full of zeros
    assert compute_background(path, kernel_size=50).unwritten == ()


def test_frames_that_a_mapping_picks_from_unwritten_ones(tmp_path):
    raw = write_some(tmp_path / "raw.rtdc", [(0, 100)], **LAYOUTS["gzip"])
    mapping = np.array([5, 99, 100, 3, 599, 7] * 5)
    record = {
        "name": "raw",
        "type": "file",
        "format": "hdf5",
        "paths": [raw.name],
        "features": ["image"],
        "mapping": "basinmap0",
    }
    with h5py.File(tmp_path / "in.rtdc", "w") as h5:
        h5["events/basinmap0"] = mapping
        lines = json.dumps(record, indent=2).split("\n")
        h5["basins/key"] = np.array(lines, dtype="S100")
    background = compute_background(tmp_path / "in.rtdc", time=np.arange(30) / 10, kernel_size=9)
    missing = {i for start, stop in background.unwritten for i in range(start, stop)}
    assert missing == set(np.flatnonzero(mapping >= 100).tolist())


@pytest.mark.parametrize("chunks", [(25, 40, 64), (30, 20, 32)])
def test_chunks_that_zarr_lacks(chunks):
    images = zarr.create_array(MemoryStore(), shape=IMAGES.shape, chunks=chunks, dtype="u1")
    images[:300] = IMAGES[:300]
    images[450:] = IMAGES[450:]
    background = compute_background(images, **SETTINGS)
    assert background.unwritten == ((300, 450),)
    assert background.warnings[0].startswith("frames: frames 300 to 449 were never written")
    images[300:450] = IMAGES[300:450]
    assert compute_background(images, **SETTINGS).unwritten == ()


def test_chunks_of_zarr_that_are_missing_end_with_the_frames(tmp_path):
    """The last chunk reaches beyond the frames; a chunk may hold but a part of each."""
    array = zarr.create_array(
        tmp_path / "a.zarr", shape=(25, 24, 30), chunks=(10, 24, 15), dtype="u1", fill_value=0
    )
    array[:10] = 7
    array[10:20, :, :15] = 7
    background = compute_background(array, time=np.arange(25.0))
    assert background.unwritten == ((10, 25),)
    array[20:] = 7
    assert compute_background(array, time=np.arange(25.0)).unwritten == ((10, 20),)


def test_the_command_says_it(tmp_path):
    make_measurement(tmp_path / "in.rtdc", count=400)
    with h5py.File(tmp_path / "in.rtdc", "a") as h5:
        h5["events/image"].resize(300, axis=0) if h5["events/image"].maxshape[0] is None else None
        images = h5["events/image"][:]
        del h5["events/image"]
        dataset = h5.create_dataset("events/image", (400, 80, 320), "u1", chunks=(40, 80, 320))
        dataset[:200] = images[:200]
    run = click.testing.CliRunner().invoke(main, ["compute", str(tmp_path / "in.rtdc")])
    assert run.exit_code == 0, run.output
    assert "in.rtdc: frames 200 to 399 were never written" in run.stderr
    run = click.testing.CliRunner().invoke(main, ["report", str(tmp_path / "in.rtdc")])
    assert "Frames that were never written" in (tmp_path / "in_bg_report.html").read_text("utf-8")


def test_spans_in_words():
    assert spans_in_words([(0, 1)]) == "0"
    many = [(i, i + 2) for i in range(0, 60, 10)]
    assert spans_in_words(many) == "0 to 1, 10 to 11, 20 to 21, 30 to 31 and 2 more spans"
    assert join_spans([]) == []
