"""What the method yields: a background image for each frame, and how it came about."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sparsemed.parameters import Parameters


@dataclass(frozen=True, eq=False, repr=False)
class Background:
    """A background image for each of N frames, and how it came about.

    ``background[i]`` is the background image of frame ``i``, and
    ``background[i:j]`` those of several frames.

    Attributes
    ----------
    images : ndarray, shape (M', H, W), dtype of the frames
        The background images that cleansing kept. As `series`, it may be a `RepeatedImages`.
    frame_index : ndarray of int64, shape (N,)
        For each frame, its background image in `images`.
    offsets : ndarray of float64, shape (N,), or None
        Brightness offset of each frame, in grey values. Image plus offset is
        the background of a frame under a flickering lamp.
    time : ndarray, shape (N,), seconds
        Time of each frame; the first is at 0.
    series : ndarray, shape (M, H, W)
        All background images, before cleansing. After a long pause, when most of them are equal
        and together would take more than 64 MiB, it is a `RepeatedImages`, which is asked like an
        array, and of which ``numpy.asarray`` makes one.
    step_times : ndarray, shape (M,), seconds
        Time of each image of `series`.
    kept : ndarray of bool, shape (M,)
        Which images of `series` cleansing kept.
    score : ndarray of float64, shape (M,)
        Score of each image of `series`; large where cells are left.
    threshold : float
        Images with a score up to this are kept; infinite when cleansing was off.
    parameters : Parameters
        What the background was computed with.
    unwritten : tuple of (int, int)
        Stretches of frames that nobody ever wrote, as when an acquisition stopped: the first
        frame, and the one after the last, of each. They count as they are read, mostly black.
    warnings : tuple of str
        What `sparsemed.BackgroundWarning` said while the background was computed.
    source : Path or None
        The measurement that the frames are from.
    basins : {"any", "same-folder", "off"}
        Which other files it may lead to, when it is read again; see `compute_background`.
    """

    images: NDArray[Any]
    frame_index: NDArray[np.int64]
    offsets: NDArray[np.float64] | None
    time: NDArray[Any]
    series: NDArray[Any]
    step_times: NDArray[Any]
    kept: NDArray[np.bool_]
    score: NDArray[np.float64]
    threshold: float
    parameters: Parameters = field(default_factory=Parameters)
    unwritten: tuple[tuple[int, int], ...] = ()
    warnings: tuple[str, ...] = ()
    source: Path | None = None
    basins: Literal["off", "same-folder", "any"] = "any"

    def __len__(self) -> int:
        return len(self.frame_index)

    def __getitem__(self, frames: int | slice | NDArray[Any]) -> NDArray[Any]:
        chosen: NDArray[Any] = self.images[self.frame_index[frames]]
        return chosen

    def __repr__(self) -> str:
        _, height, width = self.images.shape
        return (
            f"{type(self).__name__}({len(self)} frames of {height} × {width}, "
            f"{len(self.images)} of {len(self.series)} background images kept)"
        )

    def subtract(self, images: ArrayLike, start: int = 0) -> NDArray[Any]:
        """Return frames less their background.

        Parameters
        ----------
        images : array-like, shape (n, H, W)
            Consecutive frames.
        start : int
            Number of the first of them.

        Returns
        -------
        ndarray, shape (n, H, W)
            Signed differences: float64 with offsets, otherwise int16 for uint8
            and int32 for uint16 frames.

        Raises
        ------
        ValueError
            If the images are not of shape (n, H, W), or some are beyond the
            frames of this background.

        Examples
        --------
        >>> import numpy as np
        >>> import sparsemed
        >>> images = np.full((10, 40, 60), 90, dtype=np.uint8)
        >>> images[3, 20, 30] = 70  # a very small cell
        >>> background = sparsemed.compute_background(images, offset_correction=False)
        >>> int(background.subtract(images[3:5], start=3).min())
        -20
        """
        frames = np.asarray(images)
        if frames.ndim != 3 or frames.shape[1:] != self.images.shape[1:]:
            height, width = self.images.shape[1:]
            raise ValueError(f"images: shape must be (n, {height}, {width}), got {frames.shape}")
        stop = start + len(frames)
        if not 0 <= start <= stop <= len(self):
            raise ValueError(f"frames {start} to {stop} are not within the {len(self)} frames")
        signed = np.result_type(frames.dtype, self.images.dtype, np.int16)
        difference: NDArray[Any] = frames.astype(signed) - self[start:stop]
        if self.offsets is not None:
            difference = difference - self.offsets[start:stop, np.newaxis, np.newaxis]
        return difference
