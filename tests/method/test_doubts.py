"""What frames are taken for is doubted if they look otherwise: order of axes, rows for offsets."""

import numpy as np
import pytest
import zarr

from sparsemed import BackgroundSparseMed, compute_background
from sparsemed.frames.arrays import ArrayFrames
from sparsemed.method.doubts import axis_of_time, looked_at

HEIGHT, WIDTH, COUNT = 60, 80, 120


def images(kind, light="steady", cells=0, seed=0):
    """Return a recording, frames first: what the image shows, how it is lit, how much passes."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    base = {
        "texture": rng.uniform(60, 120, (HEIGHT, WIDTH)),
        "waves": 90 + 15 * np.sin(x / 9) * np.cos(y / 7) + 8 * np.sin(y / 3),
        "slope": 60 + 0.5 * x + 0.4 * y,
        "walls": np.where((y < 20) | (y > 45), 70.0, 100.0),
        "flat": np.full((HEIGHT, WIDTH), 100.0),
    }[kind]
    lamp = {
        "steady": np.ones(COUNT),
        "flickers": rng.normal(1, 0.08, COUNT),
        "bleaches": np.linspace(1, 0.6, COUNT),
    }[light]
    recorded = base * lamp[:, np.newaxis, np.newaxis] + rng.normal(0, 2, (COUNT, HEIGHT, WIDTH))
    for frame in recorded:
        for _ in range(cells):
            top, left = rng.integers(0, HEIGHT - 15), rng.integers(0, WIDTH - 15)
            frame[top : top + 15, left : left + 15] -= 40
    return np.clip(recorded.round(), 0, 255).astype(np.uint8)


def axis_of(recorded):
    sample = looked_at(ArrayFrames(recorded))
    sample.read_all()
    return axis_of_time(sample.kept)


KINDS = ["texture", "waves", "slope", "walls", "flat"]


@pytest.mark.parametrize("cells", [0, 2])
@pytest.mark.parametrize("light", ["steady", "flickers", "bleaches"])
@pytest.mark.parametrize("kind", KINDS)
def test_frames_that_come_first_are_never_doubted(kind, light, cells):
    recorded = images(kind, light, cells)
    assert axis_of(recorded) != "last"
    assert axis_of(recorded.swapaxes(1, 2)) != "last"


@pytest.mark.parametrize("cells", [0, 2])
@pytest.mark.parametrize(
    ("kind", "light"),
    [
        ("texture", "steady"),
        ("texture", "flickers"),
        ("texture", "bleaches"),
        ("waves", "steady"),
        ("slope", "steady"),
    ],
)
def test_frames_that_come_last_are_noticed(kind, light, cells):
    recorded = images(kind, light, cells)
    assert axis_of(np.moveaxis(recorded, 0, -1)) == "last"
    assert axis_of(np.moveaxis(recorded.swapaxes(1, 2), 0, -1)) == "last"


def test_noise_tells_nothing():
    noise = np.random.default_rng(0).integers(0, 255, (60, 40, 50), np.uint8)
    assert axis_of(noise) is None
    assert axis_of(noise[:, :5]) is None


@pytest.mark.parametrize("shape", [(240, 320, 250), (256, 256, 220), (128, 160, 50)])
def test_the_order_is_told_by_the_content_and_not_by_the_numbers(tmp_path, warned, shape):
    height, width, count = shape
    rng = np.random.default_rng(0)
    last = rng.uniform(60, 120, (height, width, 1)) + rng.normal(0, 2, shape)
    last = last.astype(np.uint8)
    found = compute_background(last, frame_rate=50, kernel_size=20)
    (text,) = warned()
    assert text == found.warnings[0]
    assert f"are {height} frames of {width} × {count}" in text
    assert text.endswith("hand over numpy.moveaxis(frames, -1, 0)")
    compute_background(np.moveaxis(last, -1, 0), frame_rate=50, kernel_size=20)
    array = zarr.create_array(tmp_path / "a.zarr", data=last, chunks=(32, 64, 50))
    compute_background(array, frame_rate=50, kernel_size=20)
    with BackgroundSparseMed(last, tmp_path / "out.h5", kernel_size=20) as job:
        job.process()
    assert sum("numpy.moveaxis" in each for each in warned()) == 3
    assert any("numpy.moveaxis" in each for each in job.background.warnings)


def test_offsets_from_rows_where_something_passes_are_told_at_once(warned):
    recorded = np.concatenate([images("waves", cells=0, seed=seed) for seed in range(3)])
    compute_background(recorded, frame_rate=50, kernel_size=60)
    assert not warned()
    rng = np.random.default_rng(5)
    for frame in recorded:
        left = rng.integers(0, WIDTH - 20)
        frame[:30, left : left + 20] -= 40
    found = compute_background(recorded, frame_rate=50, kernel_size=60)
    (text,) = warned()
    assert text.startswith("Offsets are wrong by more than 2 grey values in ")
    assert "the first 20 rows" in text
    assert text in found.warnings
    compute_background(recorded, frame_rate=50, kernel_size=60, offset_correction=False)
    turned = recorded[:, ::-1]
    compute_background(turned, frame_rate=50, kernel_size=60, offset_rows=25)
    assert len(warned()) == 1


def test_what_workers_have_read_is_looked_at_here(tmp_path, warned):
    last = np.moveaxis(images("texture"), 0, -1)
    for array in (last, zarr.create_array(tmp_path / "a.zarr", data=last, chunks=(9, 80, 120))):
        compute_background(array, frame_rate=50, kernel_size=20, ranges=3)
    assert sum("numpy.moveaxis" in text for text in warned()) == 2


def test_no_frame_that_windows_leave_out_is_read_to_be_looked_at():
    recorded = np.concatenate([images("waves", seed=seed) for seed in range(5)])
    read = []

    class Lazy:
        shape, dtype = recorded.shape, recorded.dtype

        def __getitem__(self, frames):
            read.extend(range(*frames.indices(len(recorded))))
            return recorded[frames]

    compute_background(
        Lazy(), frame_rate=10, kernel_size=10, split_time=30, offset_correction=False
    )
    assert sorted(set(read)) == [*range(10), *range(300, 310)]


def test_a_lamp_that_flickers_is_what_offsets_are_for(warned):
    rng = np.random.default_rng(0)
    recorded = images("waves").astype(np.int16) + rng.integers(-9, 9, (COUNT, 1, 1), np.int16)
    compute_background(recorded.astype(np.uint8), frame_rate=50, kernel_size=60)
    assert not warned()
