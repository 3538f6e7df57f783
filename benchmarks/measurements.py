"""Real measurements, and larger ones made from their frames.

dcnum's source distribution carries a few real measurements for its tests. They
are fetched once from the package index and kept in a folder of the user's
cache (or the one that ``SPARSEMED_CACHE`` names).
"""

import functools
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np

DCNUM = "dcnum==0.31.0"

ARCHIVES = {
    "2023": "fmt-hdf5_cytoshot_full-features_2023.zip",
    "2024": "fmt-hdf5_cytoshot_full-features_2024.zip",
    "legacy": "fmt-hdf5_cytoshot_full-features_legacy_allev_2023.zip",
    "variable-length-logs": "fmt-hdf5_shapein_raw-with-variable-length-logs.zip",
    "empty": "fmt-hdf5_shapein_empty.zip",
}
"""The real measurements by name, and the archives that hold them."""

COMPRESSION = {
    "zstd": dict(hdf5plugin.Zstd(clevel=5)),
    "gzip": {"compression": "gzip", "compression_opts": 4},
    "gzip 1": {"compression": "gzip", "compression_opts": 1},
    "lzf": {"compression": "lzf"},
    "no filter": {},
}


class NotAvailableError(RuntimeError):
    """The real measurements are not in the cache and cannot be fetched."""


def cache_folder() -> Path:
    """Return the folder that holds what was fetched or generated."""
    default = Path.home() / ".cache" / "sparsemed"
    folder = Path(os.environ.get("SPARSEMED_CACHE", default))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def real_measurement(name: str) -> Path:
    """Return the path of a real measurement; it is shared, so copy before you write.

    Raises
    ------
    NotAvailableError
        If it has to be fetched and cannot be.
    """
    folder = cache_folder() / DCNUM.replace("==", "-")
    if not folder.exists() and (problem := _fetch(folder)):
        raise NotAvailableError(problem)
    return folder / f"{name}.rtdc"


@functools.cache  # what takes minutes in vain is tried once
def _fetch(folder: Path) -> str:
    """Fetch all real measurements into `folder`, which appears only when it is complete.

    Returns why that failed, or nothing.
    """
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--no-binary", ":all:", "--dest", scratch, DCNUM]
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=180)
        except (OSError, subprocess.SubprocessError) as error:
            detail = getattr(error, "stderr", b"") or b""
            return (
                f"the real measurements in the source distribution of {DCNUM} could not be "
                f"fetched: {error} {detail.decode(errors='replace').strip()[-300:]}"
            )
        (sdist,) = Path(scratch).glob("*.tar.gz")
        with tarfile.open(sdist) as tar:
            tar.extractall(scratch, filter="data")
        complete = Path(scratch) / "complete"
        complete.mkdir()
        for name, archive in ARCHIVES.items():
            (path,) = Path(scratch).glob(f"*/tests/data/{archive}")
            with zipfile.ZipFile(path) as packed:
                (member,) = [m for m in packed.namelist() if m.endswith(".rtdc")]
                with packed.open(member) as source, (complete / f"{name}.rtdc").open("wb") as copy:
                    shutil.copyfileobj(source, copy)
        try:
            complete.rename(folder)
        except OSError:
            if not folder.exists():  # no other process was faster
                raise
    return ""


SHAPE = (80, 400)
"""Height and width of the real frames."""

CHUNK = (32, *SHAPE)
"""Frames that are stored together, as Shape-In does it."""


def generated_measurement(
    count: int,
    frames_per_second: float,
    compression: str = "zstd",
    *,
    shape: tuple[int, int] = SHAPE,
    chunk: tuple[int, int, int] | None = CHUNK,
) -> Path:
    """Return the path of a measurement made by `generate_measurement`; made if it is not there.

    Parameters
    ----------
    count, frames_per_second, compression, shape, chunk
        As for `generate_measurement`.
    """
    words = [f"generated-{count}-{frames_per_second:g}-{compression.replace(' ', '-')}"]
    if shape != SHAPE:
        words.append("of-{}x{}".format(*shape))
    if chunk != CHUNK:
        words.append("contiguous" if chunk is None else "in-{}x{}x{}".format(*chunk))
    path = cache_folder() / f"{'-'.join(words)}.rtdc"
    if not path.exists():
        print(f"generating {path.name} …", file=sys.stderr)
        generate_measurement(path, count, frames_per_second, compression, shape=shape, chunk=chunk)
    return path


def generate_measurement(
    path: Path,
    count: int,
    frames_per_second: float,
    compression: str = "zstd",
    seed: int = 0,
    *,
    shape: tuple[int, int] = SHAPE,
    chunk: tuple[int, int, int] | None = CHUNK,
) -> None:
    """Write a measurement of any length, made from the frames of a real one.

    Each frame is a real frame of 80 × 400 pixels, or a part of one, drawn at random, under a
    flickering lamp, with fresh noise of one grey value, so that it neither
    repeats nor compresses better than a real one.

    Parameters
    ----------
    path : Path
        The file; it appears only when it is complete.
    count : int
        Number of frames.
    frames_per_second : float, Hz
        Frames that are kept per second of the measurement.
    compression : str
        A key of COMPRESSION. Where there is one, there are checksums, too.
    seed : int
        Seed of the random numbers.
    shape : (int, int)
        Height and width of the frames, no more than SHAPE.
    chunk : (int, int, int), optional
        Frames, height and width of a chunk. None stores the frames in one piece.
    """
    rng = np.random.default_rng(seed)
    with h5py.File(real_measurement("2023"), "r") as h5:
        real = h5["events/image"][:, : shape[0], : shape[1]].astype(np.int16)
        attributes = dict(h5.attrs)
    noise = rng.integers(-1, 2, size=(64, *real.shape[1:]), dtype=np.int16)
    how = dict(COMPRESSION[compression])
    if chunk is not None:
        how |= {"chunks": (min(chunk[0], count), *chunk[1:]), "fletcher32": bool(how)}
    part = path.with_suffix(".part")
    with h5py.File(part, "w", libver="latest") as h5:
        h5.attrs.update(attributes)
        h5.attrs["experiment:event count"] = count
        h5["events/time"] = np.arange(count) / frames_per_second
        h5["events/frame"] = np.arange(1, count + 1, dtype=np.uint64)
        dataset = h5.create_dataset("events/image", (count, *shape), np.uint8, **how)
        step = 32 * (SHAPE[0] * SHAPE[1] // (shape[0] * shape[1]))
        for start in range(0, count, step):
            size = min(step, count - start)
            lamp = np.rint(rng.normal(0, 1.5, size=(size, 1, 1))).astype(np.int16)
            frames = real[rng.integers(len(real), size=size)] + lamp
            frames += np.roll(noise, rng.integers(400), axis=2)[rng.integers(64, size=size)]
            dataset[start : start + size] = np.clip(frames, 0, 255).astype(np.uint8)
    part.rename(path)
