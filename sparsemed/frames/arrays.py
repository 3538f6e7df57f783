"""Frames of anything that has a shape, a dtype and slicing."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsemed.frames import FrameSource, Read

BATCH_BYTES = 8 * 1024**2
"""Weight of the frames that are read at once."""


class ArrayFrames:
    """The frames of an array-like: NumPy, memmap, h5py dataset and the like.

    Parameters
    ----------
    images : array-like, shape (N, H, W)
        uint8 and uint16 are taken as they are; floating-point images are taken
        as uint8 if every value is whole and from 0 to 255.
    label : str
        What errors call the images.

    Raises
    ------
    TypeError
        If the dtype is none of these, or `images` is no array.
    ValueError
        If the images are not of rank 3, or there is none.
    """

    def __init__(self, images: Any, label: str = "images") -> None:
        if not all(hasattr(images, name) for name in ("shape", "__getitem__")):
            raise TypeError(
                f"{label}: expected an array of shape (N, H, W), got {type(images).__name__}; "
                "make one array of it, for example with numpy.stack(images)"
            )
        if len(images.shape) != 3:
            raise ValueError(f"{label}: shape must be (N, H, W), got {tuple(images.shape)}")
        if 0 in images.shape:
            raise ValueError(f"{label}: there are no frames; the shape is {tuple(images.shape)}")
        self.images = images
        self.label = label
        count, height, width = images.shape
        self.shape = (int(count), int(height), int(width))
        # dcnum's mapped datasets have no dtype
        stored = images.dtype if hasattr(images, "dtype") else np.asarray(images[:1]).dtype
        self.dtype = _frame_dtype(np.dtype(stored), label)
        self.block = _chunk_length(images)
        frame_bytes = height * width * self.dtype.itemsize
        self.batch = max(1, BATCH_BYTES // frame_bytes // self.block) * self.block
        self.threads = 1

    @contextmanager
    def reading(self) -> Iterator[Read]:
        """Provide the function that reads; see `FrameSource`."""
        yield self._read

    def _read(self, start: int, stop: int, out: NDArray[Any]) -> None:
        try:
            frames = np.asarray(self.images[start:stop])
        except OSError as error:
            raise OSError(
                f"{self.label}: frames {start} to {stop - 1} cannot be read ({error})"
            ) from error
        if frames.dtype.kind == "f":
            self._require_bytes(frames, start)
        np.copyto(out, frames, casting="unsafe")

    def _require_bytes(self, frames: NDArray[Any], start: int) -> None:
        fits = (frames >= 0) & (frames <= 255) & (frames == np.floor(frames))
        if not fits.all():
            where = np.unravel_index(int(np.argmin(fits)), frames.shape)
            raise TypeError(
                f"{self.label}: frame {start + int(where[0])} holds {frames[where]}; "
                f"images of dtype {frames.dtype} must be whole numbers from 0 to 255 "
                "(scale and round them, then convert with .astype(numpy.uint8) or numpy.uint16)"
            )


class PickedFrames:
    """Frames picked from another source, in any order and any number of times.

    Parameters
    ----------
    source : FrameSource
        Where the frames are.
    picks : ndarray of int64, shape (N,)
        For each frame, its index in `source`.

    Raises
    ------
    ValueError
        If nothing is picked.
    """

    def __init__(self, source: FrameSource, picks: NDArray[np.int64]) -> None:
        if not len(picks):
            raise ValueError("there are no frames; the mapping is empty")
        self.source = source
        self.picks = picks
        self.shape = (len(picks), source.shape[1], source.shape[2])
        self.dtype = source.dtype
        self.block = 1
        # Picks of two batches may be of one block, which is read for each of them.
        frame_bytes = self.shape[1] * self.shape[2] * self.dtype.itemsize
        self.batch = max(source.batch, BATCH_BYTES // frame_bytes)
        self.threads = source.threads

    @contextmanager
    def reading(self) -> Iterator[Read]:
        """Provide the function that reads; see `FrameSource`."""
        with self.source.reading() as read:
            yield lambda start, stop, out: self._pick(read, start, stop, out)

    def _pick(self, read: Read, start: int, stop: int, out: NDArray[Any]) -> None:
        picks = self.picks[start:stop]
        order = np.argsort(picks, kind="stable")
        ranked = picks[order]
        done = 0
        # Picks may lie far apart: never hold more than a batch of the source.
        while done < len(ranked):
            first = int(ranked[done])
            batch = first // self.source.batch
            end = int(np.searchsorted(ranked, (batch + 1) * self.source.batch))
            last = int(ranked[end - 1])
            piece = np.empty((last - first + 1, *self.shape[1:]), self.dtype)
            read(first, last + 1, piece)
            out[order[done:end]] = piece[ranked[done:end] - first]
            done = end


def _frame_dtype(dtype: np.dtype[Any], label: str) -> np.dtype[Any]:
    """Return the native dtype in which images of a dtype are computed."""
    if dtype.kind == "u" and dtype.itemsize <= 2:
        return dtype.newbyteorder("=")
    if dtype.kind == "f":
        return np.dtype(np.uint8)
    raise TypeError(
        f"{label}: images of dtype {dtype} are not supported; "
        "convert them with .astype(numpy.uint8) or .astype(numpy.uint16) if their values fit"
    )


def _chunk_length(images: Any) -> int:
    """Frames that are stored together, where the images say so."""
    chunks = getattr(images, "chunks", None)
    return int(chunks[0]) if chunks and isinstance(chunks[0], int) else 1
