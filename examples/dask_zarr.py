"""The background of frames in a Zarr array, and of a Dask array that is computed from them.

It takes ``pip install "dask[array]" zarr``.
"""

import tempfile
from pathlib import Path

import dask.array as da
import numpy as np
import zarr

import sparsemed

# Frames of a camera of 12 bits, stored in chunks of 100; they could be larger than memory.
rng = np.random.default_rng(0)
folder = tempfile.TemporaryDirectory()
stored = zarr.create_array(
    Path(folder.name) / "frames.zarr", shape=(2000, 80, 320), chunks=(100, 80, 320), dtype="uint16"
)
for start in range(0, 2000, 100):
    stored[start : start + 100] = rng.integers(1980, 2020, size=(100, 80, 320), dtype="uint16")
stored[700, 30:50, 100:120] = 1500  # a cell

options = {"time": np.arange(2000) / 200, "kernel_size": 100}  # 200 frames per second
background = sparsemed.compute_background(stored, **options)
print(background)

corrected = background.subtract(stored[695:705], start=695)
print("the darkest pixel is in frame", 695 + int(corrected.min(axis=(1, 2)).argmin()))

# Whatever Dask computes will do, too: here, the right half of the frames, upside down. Each block
# is computed once, and goes when its frames have been used.
part = da.from_zarr(stored)[:, ::-1, 160:]
of_part = sparsemed.compute_background(part, **options)
same = np.array_equal(of_part.series, background.series[:, ::-1, 160:])
print("the right half has", "the same background" if same else "another background")

folder.cleanup()
