"""Frames of another measurement are no frames of a background; copies and exports are."""

import shutil

import h5py
import numpy as np
import pytest
import tifffile
from jobs.measurements import measure

from sparsemed import compute_background, load

SETTINGS = {"kernel_size": 7}
HEIGHT, WIDTH = 24, 64


def recorded(seed, count=60, noise=2.0, drift=0.0, flicker=0.0):
    """Return frames of a channel that is the same for all seeds, with cells, noise and drift."""
    rng = np.random.default_rng(seed)
    still = np.random.default_rng(99).normal(120, 20, (HEIGHT, WIDTH))
    frames = np.tile(still, (count, 1, 1)) + rng.normal(0, noise, (count, HEIGHT, WIDTH))
    frames += drift * np.linspace(0, 1, count)[:, np.newaxis, np.newaxis]
    frames += flicker * rng.normal(size=(count, 1, 1))
    for frame in frames:
        y, x = rng.integers(4, 16), rng.integers(0, 50)
        frame[y : y + 6, x : x + 8] -= 40
    return frames.clip(0, 255).round().astype(np.uint8)


HOWS = [{}, {"noise": 0.4}, {"noise": 6.0}, {"drift": 20.0}, {"flicker": 8.0}]


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("kind", ["array", "stack", "measurement", "loaded"])
def test_frames_of_another_measurement_are_refused(tmp_path, kind, how):
    given = [recorded(0, **how), recorded(1, **how)]
    if kind == "stack":
        for number, frames in enumerate(given):
            given[number] = tmp_path / f"{number}.tif"
            tifffile.imwrite(given[number], frames, photometric="minisblack")
    elif kind != "array":
        for number, frames in enumerate(given):
            given[number] = tmp_path / f"{number}.rtdc"
            measured(given[number], frames)
    rate = {} if kind in ("measurement", "loaded") else {"frame_rate": 10}
    background = compute_background(given[0], **rate, **SETTINGS)
    if kind == "loaded":
        background.save(tmp_path / "out.rtdc")
        background = load(tmp_path / "out.rtdc")
    for other in (given[1], recorded(1, **how)):
        with pytest.raises(ValueError, match=r"holds other frames than those.*hand over these"):
            background.quality(other)


def test_no_figure_or_page_is_made_with_other_frames(tmp_path):
    background = compute_background(recorded(0), frame_rate=10, **SETTINGS)
    with pytest.raises(ValueError, match="frames: holds other frames than those"):
        background.plot(recorded(1))
    with pytest.raises(ValueError, match="frames: holds other frames than those"):
        background.report(tmp_path / "page.html", recorded(1))
    assert not (tmp_path / "page.html").exists()


def measured(path, frames):
    with h5py.File(path, "w") as h5:
        h5["events/image"] = frames
        h5["events/time"] = np.arange(len(frames)) / 10
        h5["events/frame"] = np.arange(len(frames))
    return path


@pytest.mark.parametrize("how", HOWS)
def test_the_same_frames_are_taken_in_any_form(tmp_path, how):
    import dask.array

    frames = recorded(0, **how)
    path = measured(tmp_path / "in.rtdc", frames)
    shutil.copyfile(path, tmp_path / "copy.rtdc")
    with h5py.File(tmp_path / "export.h5", "w") as h5:  # with other features and metadata
        h5.attrs["experiment:run identifier"] = "export"
        h5["events/image"] = frames
    tifffile.imwrite(tmp_path / "a.tif", frames, photometric="minisblack")
    for background in (
        compute_background(path, **SETTINGS),
        compute_background(frames, frame_rate=10, **SETTINGS),
        compute_background(tmp_path / "a.tif", frame_rate=10, **SETTINGS),
        compute_background(dask.array.from_array(frames, chunks=(7, -1, -1)), frame_rate=10),
    ):
        expected = background.quality(frames, try_cures=False)
        for same in (
            path,
            tmp_path / "copy.rtdc",
            tmp_path / "export.h5",
            tmp_path / "a.tif",
            frames.astype(np.float32),
            dask.array.from_array(frames, chunks=(9, -1, -1)),
        ):
            assert background.quality(same, try_cures=False) == expected


@pytest.mark.parametrize("how", HOWS)
def test_lossy_copies_are_taken(how):
    from io import BytesIO

    from PIL import Image

    def lossy(frame):
        file = BytesIO()
        Image.fromarray(frame).save(file, "jpeg", quality=75)
        return np.asarray(Image.open(file))

    frames = recorded(0, **how)
    background = compute_background(frames, frame_rate=10, **SETTINGS)
    background.quality(np.stack([lossy(frame) for frame in frames]), try_cures=False)
    background.quality(frames // 2, try_cures=False)


def test_frames_are_taken_if_those_of_the_background_are_gone(tmp_path):
    path = measure(tmp_path / "in.rtdc")
    background = compute_background(path, **SETTINGS)
    with h5py.File(path) as h5:
        frames = h5["events/image"][:]
    path.unlink()
    background.quality(frames)
    measure(path, seed=1)
    background.quality(frames)
    with pytest.raises(ValueError, match="was replaced or changed since"):
        background.quality(path)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_frames(count):
    frames = recorded(0, count)
    background = compute_background(frames, frame_rate=10)
    background.quality(frames)
    if count > 1:
        with pytest.raises(ValueError, match="holds other frames"):
            background.quality(recorded(1, count))


def test_frames_that_do_not_change():
    frames = np.full((30, 24, 30), 90, np.uint8)
    background = compute_background(frames, frame_rate=10)
    background.quality(frames)
    with pytest.raises(ValueError, match="holds other frames"):
        background.quality(frames + 9)
