"""Measurements of every kind that occurs, small and at random."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
from dcnum.write import HDF5Writer, create_with_basins

LAYOUTS = {
    # filters, frames in a chunk, and into how many parts rows and columns are split
    "zstd": (dict(hdf5plugin.Zstd(clevel=5)), 7, 1),
    "gzip": ({"compression": "gzip"}, 1000, 1),
    "lzf": ({"compression": "lzf", "shuffle": True}, 10, 1),
    "tiled": ({"compression": "gzip"}, 5, 2),
    "contiguous": ({}, None, 1),
}
TIMES = ("time", "float32", "unsorted", "integer", "frame", "rate", "none")
WAYS = ("new", "in place", "other", "basin", "relative basin", "mapped", "internal", "array")


@dataclass
class Case:
    """One comparison: what to compute, and where from and to."""

    description: str
    shape: tuple[int, int, int]
    way: str
    layout: str
    time: str
    settings: dict[str, Any]
    compress: bool
    seed: int


def draw_case(seed: int) -> Case:
    """Draw a case; the kinds are gone through in turn, the rest is left to chance."""
    rng = np.random.default_rng(seed)
    way = WAYS[seed % len(WAYS)]
    layout = list(LAYOUTS)[seed // 2 % len(LAYOUTS)]
    time = "none" if way == "array" else TIMES[seed // 3 % len(TIMES)]
    count = int(rng.choice([2, 3, 17, 60, 250, int(rng.integers(2, 1001))]))
    shape = (count, int(rng.integers(3, 81)), int(rng.integers(1, 31)))
    steps = rng.uniform(1, 30)
    duration = {"none": count / 2400, "rate": count / 2000, "integer": 3.0 * count}.get(time, 10.0)
    settings = {
        "kernel_size": int(rng.choice([1, 2, 5, 20, 199, 200, 5000, rng.integers(1, 5001)])),
        "split_time": float(f"{duration / steps:.3g}"),
        "thresh_cleansing": float(rng.choice([0, 0, 0.01, 0.3, 1, 4, 100])),
        "frac_cleansing": float(rng.choice([0.8, 0.8, 0.5, 0.05, 0.99, 1])),
        # dcnum cannot compute offsets of mapped images: it fails with an IndexError
        "offset_correction": way not in ("mapped", "internal") and bool(rng.random() < 0.75),
    }
    compress = bool(rng.random() < 0.8)
    description = f"{shape} {way}, {layout}, time: {time}, {settings}, compress={compress}"
    return Case(description, shape, way, layout, time, settings, compress, seed)


def make_images(rng: np.random.Generator, shape: tuple[int, int, int]) -> np.ndarray:
    """Frames with a structured background, flicker, and now and then a streak of cells."""
    count, height, width = shape
    images = rng.integers(60, 160, size=(1, height, width)) + rng.integers(-4, 5, size=shape)
    images += rng.integers(-6, 7, size=(count, 1, 1))
    for _ in range(rng.integers(0, 4)):
        start, row = rng.integers(count), rng.integers(height)
        images[start : start + count // 4, row : row + 5, : width // 2] -= 50
    return np.clip(images, 0, 255).astype(np.uint8)


def make_inputs(case: Case, folder: Path) -> tuple[Any, Any]:
    """Write the input of a case; return dcnum's and ours, which are equal."""
    rng = np.random.default_rng([case.seed, 1])
    images = make_images(rng, case.shape)
    if case.way == "array":
        return images, images.astype(float) if case.seed % 3 else images
    folder.mkdir()
    path = folder / "measurement.rtdc"
    raw = folder / "raw.rtdc"
    direct = case.way in ("new", "in place", "other")
    with h5py.File(path if direct else raw, "w") as h5:
        write_metadata(h5, rng, case)
        if case.way in ("mapped", "internal"):
            pool = make_images(rng, (case.shape[0] // 2 + 1, *case.shape[1:]))
            write_images(h5, pool, case.layout)
        else:
            write_images(h5, images, case.layout)
            write_time(h5, rng, case)
    if case.way == "basin":
        create_with_basins(path, [raw])
    elif case.way == "relative basin":
        create_with_basins(path, [["nowhere/raw.rtdc", "raw.rtdc"]])
    elif not direct:
        mapping = rng.integers(case.shape[0] // 2 + 1, size=case.shape[0])
        if case.seed % 3:
            mapping = np.sort(mapping)
        with HDF5Writer(path, mode="w") as writer:
            write_metadata(writer.h5, rng, case)
            write_time(writer.h5, rng, case)
            if case.way == "mapped":
                writer.store_basin("frames", paths=[raw], features=["image"], mapping=mapping)
            else:
                with h5py.File(raw) as h5:
                    pool = h5["events/image"][:]
                writer.store_basin("frames", internal_data={"image": pool}, mapping=mapping)
    if case.way == "in place" or (case.seed // 8 % 2 and case.way != "new"):
        return _copies(path)
    return path, path


def make_outputs(case: Case, tmp_path: Path, inputs: tuple[Any, Any]) -> tuple[Path, Path]:
    """Return dcnum's output path and ours; the files exist if the case wants them to."""
    if case.way != "array" and inputs[0] != inputs[1]:
        return inputs
    outputs = tmp_path / "dcnum.rtdc", tmp_path / "ours.rtdc"
    if case.way == "other":
        rng = np.random.default_rng([case.seed, 2])
        with h5py.File(outputs[0], "w", libver="latest") as h5:
            h5.attrs["experiment:sample"] = "something else"
            h5["events/deform"] = rng.random(case.shape[0])
            if case.seed % 3:
                h5["events/image_bg"] = make_images(rng, case.shape)
                h5["events/basinmap0"] = np.arange(case.shape[0])
            if case.seed % 2:
                h5["events/bg_off"] = rng.random(case.shape[0])
        shutil.copy(*outputs)
    return outputs


def write_images(h5: h5py.File, images: np.ndarray, layout: str) -> None:
    """Write the images in one of the LAYOUTS."""
    filters, frames, parts = LAYOUTS[layout]
    count, height, width = images.shape
    chunks = None
    if frames is not None:
        chunks = (min(frames, count), -(-height // parts), -(-width // parts))
    h5.create_dataset("events/image", data=images, chunks=chunks, **filters)


def _copies(path: Path) -> tuple[Path, Path]:
    """For work in place: one folder for each."""
    paths = []
    for name in ("dcnum", "ours"):
        folder = path.parent.with_name(name)
        shutil.copytree(path.parent, folder)
        paths.append(folder / path.name)
    return paths[0], paths[1]


def write_metadata(h5: h5py.File, rng: np.random.Generator, case: Case) -> None:
    """Write attributes, logs and tables as they occur in measurements."""
    h5.attrs["experiment:event count"] = case.shape[0]
    h5.attrs["experiment:sample"] = np.bytes_("bytes")
    h5.attrs["experiment:date"] = "2024-05-02"
    h5.attrs["experiment:time"] = "14:59:41"
    h5.attrs["setup:identifier"] = "ZMD"
    if case.seed % 2:
        h5.attrs["experiment:run identifier"] = f"run-{case.seed}"
    if case.time in ("frame", "rate"):
        h5.attrs["imaging:frame rate"] = 2000.0 if case.seed % 4 else np.int64(2000)
    text = h5py.string_dtype()
    h5.create_dataset("logs/variable", data=["a line", "a longer line, µ"], dtype=text)
    h5.create_dataset("logs/fixed", data=np.array([b"one", b"two"]))
    h5["logs/fixed"].attrs["software"] = "ShapeIn 2"
    h5.create_dataset("logs/none", shape=(0,), maxshape=(None,), dtype=text)
    table = np.zeros(5, dtype=[("brightness", float), ("focus", np.float32)])
    table["brightness"] = rng.random(5)
    h5["tables/monitor"] = table


def write_time(h5: h5py.File, rng: np.random.Generator, case: Case) -> None:
    """Write what the case knows about time, so that the last frame is not the first in time."""
    count = case.shape[0]
    moments = np.cumsum(rng.exponential(10 / count, size=count)) + 100
    if case.seed % 5 == 0:
        moments = np.round(moments, 1)
        moments[-1] += 0.1
    if case.time in ("time", "float32"):
        h5["events/time"] = moments.astype(float if case.time == "time" else np.float32)
    elif case.time == "unsorted":
        moments[:-1] = rng.permutation(moments[:-1])
        h5["events/time"] = moments
    elif case.time == "integer":
        h5["events/time"] = np.arange(count) * 3
    if case.time == "frame":
        dtype = [np.uint64, np.int32, np.float32][case.seed % 3]
        h5["events/frame"] = (np.cumsum(rng.integers(1, 40000 // count, size=count))).astype(dtype)
