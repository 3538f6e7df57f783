"""The background of stacks in an object store: a Zarr array, and a TIFF file.

Usage: ``python object_store.py s3://BUCKET``, a bucket that can be written to; the variables
``AWS_…`` say who you are, and where the store is (``AWS_ENDPOINT_URL``) if it is not Amazon's.
It takes ``pip install obstore zarr tifffile``.

Measurements (``.rtdc``) need none of this: sparsemed takes their addresses.
"""

import io
import sys

import numpy as np
import obstore
import tifffile
import zarr
from obstore.store import from_url
from zarr.storage import ObjectStore

import sparsemed

rng = np.random.default_rng(0)
frames = rng.integers(118, 123, size=(600, 80, 320), dtype=np.uint8)
frames[300, 30:50, 100:120] = 60  # a cell
options = {"time": np.arange(600) / 100, "kernel_size": 100}  # 100 frames per second

# A Zarr array is read chunk by chunk, each chunk once.
store = from_url(f"{sys.argv[1]}/frames.zarr")
stored = zarr.create_array(
    ObjectStore(store), shape=frames.shape, chunks=(100, 80, 320), dtype="uint8", overwrite=True
)
stored[:] = frames
background = sparsemed.compute_background(
    zarr.open_array(ObjectStore(store, read_only=True)), **options
)
corrected = background.subtract(frames[295:305], start=295)
print("the darkest pixel is in frame", 295 + int(corrected.min(axis=(1, 2)).argmin()))


# Of a TIFF file, tifffile makes a Zarr array, whose chunks are read from the store.
class Stored(io.RawIOBase):
    """An object, as a file that is open for reading."""

    def __init__(self, store, name):
        self.store, self.name = store, name
        self.size = obstore.head(store, name)["size"]
        self.place = 0

    def seek(self, offset, whence=io.SEEK_SET):
        """Move to a place."""
        self.place = offset + (0, self.place, self.size)[whence]
        return self.place

    def seekable(self):
        """Say that one can."""
        return True

    def readable(self):
        """Say that it can be read."""
        return True

    def readinto(self, buffer):
        """Fill a buffer from there."""
        end = min(self.place + len(buffer), self.size)
        if end <= self.place:
            return 0
        data = obstore.get_range(self.store, self.name, start=self.place, end=end)
        buffer[: len(data)] = memoryview(data)
        self.place = end
        return len(data)


packed = io.BytesIO()
tifffile.imwrite(packed, frames, photometric="minisblack", compression="zlib")
bucket = from_url(sys.argv[1])
obstore.put(bucket, "frames.tif", packed.getvalue())
with (
    tifffile.TiffFile(io.BufferedReader(Stored(bucket, "frames.tif"), 2**20)) as tiff,
    tiff.aszarr() as view,
):
    again = sparsemed.compute_background(zarr.open_array(view, mode="r"), **options)
same = np.array_equal(again.images, background.images)
print("the TIFF file has", "the same background" if same else "another background")
