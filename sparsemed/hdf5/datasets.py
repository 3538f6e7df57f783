"""New datasets: in chunks, with a checksum, compressed, written piece by piece."""

from collections.abc import Mapping
from typing import Any

import h5py
import hdf5plugin
import numpy as np
from numpy.typing import NDArray

from sparsemed.hdf5.signals import let_signals_in

CHUNK_BYTES = 1024**2
"""Bytes of a chunk in new datasets."""

PIECE_BYTES = 8 * 1024**2
"""Bytes that HDF5 compresses in one call; signals wait until it returns."""


def store(h5: h5py.File, name: str, data: NDArray[Any], filters: Mapping[str, Any]) -> h5py.Dataset:
    """Write a dataset in chunks of about CHUNK_BYTES, extendable along the frames."""
    item = data.shape[1:]
    per_chunk = CHUNK_BYTES // (int(np.prod(item)) * data.dtype.itemsize)
    dataset = h5.create_dataset(
        name,
        shape=data.shape,
        dtype=data.dtype,
        maxshape=(None, *item),
        chunks=(min(1000, max(10, per_chunk)), *item),
        **filters,
    )
    if len(item) == 2:
        dataset.attrs["CLASS"] = np.bytes_("IMAGE")
        dataset.attrs["IMAGE_VERSION"] = np.bytes_("1.2")
        dataset.attrs["IMAGE_SUBCLASS"] = np.bytes_("IMAGE_GRAYSCALE")
    length = dataset.chunks[0]
    piece = length * max(1, PIECE_BYTES // (length * data[0].nbytes)) if len(data) else 1
    for start in range(0, len(data), piece):
        dataset[start : start + piece] = data[start : start + piece]
        let_signals_in()
    return dataset


def storage_options(compress: bool) -> dict[str, Any]:
    """Return the filters of new datasets: a checksum, and compression if wanted."""
    zstd = dict(hdf5plugin.Zstd(clevel=5)) if compress else {}
    return {**zstd, "fletcher32": True}
