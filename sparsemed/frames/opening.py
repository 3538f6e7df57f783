"""Chooses the reader of frames."""

import logging
from typing import Any

import h5py
import numpy as np

from sparsemed.frames.arrays import ArrayFrames
from sparsemed.frames.chunks import ChunkFrames
from sparsemed.frames.filters import require_filters
from sparsemed.frames.hdf5_layout import UnsuitableError, past_hdf5, unwritten_spans
from sparsemed.frames.source import FrameSource
from sparsemed.frames.stores import gaps_of

logger = logging.getLogger(__name__)


def open_frames(
    array: Any, num_cpus: int, label: str = "frames", floats: type[np.unsignedinteger] = np.uint8
) -> FrameSource:
    """Return the frames of an array-like; those of an HDF5 dataset past HDF5 if possible.

    Parameters
    ----------
    array : array-like, shape (N, H, W)
    num_cpus : int
        Threads that read and decode.
    label : str
        Name of the frames in errors.
    floats : dtype
        The dtype in which floating-point frames are computed, uint8 or uint16.

    Raises
    ------
    TypeError, ValueError
        See `ArrayFrames`.
    OSError
        If a filter of the frames is not installed.
    """
    frames = ArrayFrames(array, label, floats)
    if not isinstance(array, h5py.Dataset):
        frames.gaps = gaps_of(frames.array)
        return frames
    frames.unwritten = unwritten_spans(array)
    try:
        layout, stored = past_hdf5(array)
    except UnsuitableError as reason:
        logger.info("%s is read by HDF5: %s", label, reason)
        require_filters(array, label)
        return frames
    return ChunkFrames(layout, stored, num_cpus, label)
