"""What the method yields: a background image for each frame, and how it came about."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self, SupportsIndex, overload

import numpy as np
from numpy.typing import NDArray

from sparsemed.frames.arrays import has_labels
from sparsemed.method.offsets import BAND_ROWS
from sparsemed.parameters import Parameters
from sparsemed.storage.identity import Identity
from sparsemed.storage.places import AnyPath

Frames = SupportsIndex | slice | Sequence[int] | Sequence[bool] | NDArray[Any]
"""Which frames are meant: one, a slice, numbers, or a mask."""

PIECE_BYTES = 8 * 1024**2
"""Weight of the frames that are subtracted at once, so that little is held beside the result."""


@dataclass(frozen=True, eq=False, repr=False)
class Background:
    """A background image for each of N frames, and how it came about.

    ``background[i]`` is the background image of frame ``i``; ``background[i:j]`` and
    ``background[[3, 5]]`` are those of several frames. Where NumPy subtracts them from frames,
    differences wrap around: take `subtract`, or ``frames - background`` for all frames at once.

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
        array, and of which ``numpy.asarray`` makes one. Files do not keep those that were
        dropped: of a background that was loaded it is `images`.
    step_times : ndarray, shape (M,), seconds
        Time of each image of `series`. NaN where a file does not tell.
    kept : ndarray of bool, shape (M,)
        Which images of `series` cleansing kept.
    score : ndarray of float64, shape (M,)
        Score of each image of `series`; large where cells are left. NaN of a background that was
        loaded.
    threshold : float
        Images with a score up to this are kept; infinite when cleansing was off. NaN of a
        background that was loaded.
    parameters : Parameters
        What the background was computed with.
    unwritten : tuple of (int, int)
        Stretches of frames that nobody ever wrote, as when an acquisition stopped: the first
        frame, and the one after the last, of each. They count as they are read, mostly black.
    warnings : tuple of str
        What `sparsemed.BackgroundWarning` said while the background was computed.
    offset_rows : int
        First rows of a frame, from which `offsets` are taken: 20, unless others were chosen.
    identity : Identity or None
        Which file the frames are from, as it was when they were read; None for an array.
    source : Path, RemotePath or None
        The measurement that the frames are from; absolute.
    basins : {"any", "network", "same-folder", "off"}
        Which other files it may lead to, when it is read again; see `compute_background`.
    stack : Path or None
        The TIFF or Zarr stack that the frames are from; absolute.
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
    offset_rows: int = BAND_ROWS
    identity: Identity | None = None
    basins: Literal["off", "same-folder", "any", "network"] = "any"

    @classmethod
    def of_images(
        cls,
        images: NDArray[Any],
        frame_index: NDArray[np.int64],
        offsets: NDArray[np.float64] | None,
        time: NDArray[Any],
        **more: Any,
    ) -> Self:
        """Return a background of which no more is known than a file tells; see the attributes."""
        count = len(images)
        unknown: dict[str, Any] = {
            "series": images,
            "step_times": np.full(count, np.nan),
            "kept": np.ones(count, bool),
            "score": np.full(count, np.nan),
            "threshold": math.nan,
        }
        return cls(images, frame_index, offsets, time, **(unknown | more))

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(N, H, W)``: that of the frames, each of which has its background image."""
        return (len(self), *self.images.shape[1:])

    @property
    def dtype(self) -> np.dtype[Any]:
        """That of the background images."""
        dtype: np.dtype[Any] = self.images.dtype
        return dtype

    @property
    def nbytes(self) -> int:
        """What an array of an image for every frame would weigh; `images` hold each but once."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def source(self) -> AnyPath | None:
        """The measurement that the frames are from."""
        return self.origin if self.identity and self.identity.kind == "measurement" else None

    @property
    def stack(self) -> Path | None:
        """The stack that the frames are from."""
        is_stack = self.identity is not None and self.identity.kind == "stack"
        return self.origin if is_stack and isinstance(self.origin, Path) else None

    @property
    def is_loaded(self) -> bool:
        """Whether it is from a file, which tells neither scores nor what was dropped."""
        return math.isnan(self.threshold)

    @property
    def origin(self) -> AnyPath | None:
        """The file that the frames are from: `source` or `stack`; None for an array."""
        return self.identity.path if self.identity else None

    @property
    def fate(self) -> str:
        """How many background images were kept, in words."""
        if self.is_loaded:
            return f"{len(self.images):,} background images kept"
        return f"{len(self.images):,} of {len(self.series):,} background images kept"

    def __len__(self) -> int:
        return len(self.frame_index)

    def __getitem__(self, frames: Frames) -> NDArray[Any]:
        chosen: NDArray[Any] = self.images[self.frame_index[frames]]
        return chosen

    def __iter__(self) -> Iterator[NDArray[Any]]:
        for image in self.frame_index.tolist():
            yield self.images[image]

    # NumPy would make an array of the background images, and differences that wrap around.
    __array_ufunc__ = None

    def __rsub__(self, frames: Any) -> Any:
        shape = np.shape(frames)
        expected = (len(self), *self.images.shape[1:])
        if shape != expected:
            raise ValueError(
                f"frames - background takes all frames, of shape {expected}, got {shape}; "
                "for some of them say which they are: background.subtract(frames, start)"
            )
        return self.subtract(frames)

    def __repr__(self) -> str:
        _, height, width = self.images.shape
        return f"{type(self).__name__}({len(self)} frames of {height} × {width}, {self.fate})"

    @overload
    def subtract(
        self,
        frames: NDArray[Any],
        start: Frames | None = None,
        *,
        out: NDArray[Any] | None = None,
    ) -> NDArray[Any]: ...

    @overload
    def subtract(
        self, frames: Any, start: Frames | None = None, *, out: NDArray[Any] | None = None
    ) -> Any: ...

    def subtract(
        self,
        frames: Any,
        start: Frames | None = None,
        *,
        out: NDArray[Any] | None = None,
    ) -> Any:
        """Return frames less their background.

        As a TIFF that ImageJ reads, the result is saved by ``tifffile.imwrite("corrected.tif",
        result.astype("float32"), imagej=True, metadata={"axes": "TYX"})``; that of a whole stack in
        a file by ``sparsemed compute STACK -o background.tif --subtracted corrected.tif``.

        Parameters
        ----------
        frames : array-like, shape (n, H, W) or (H, W)
            Some frames, or one.
        start : int, or slice, or array of int or bool, optional
            Number of the first of consecutive frames; or which frames they are. Default: the
            first of the measurement; of a single frame, the number must be given.
        out : ndarray, optional
            Where the result goes, of the shape of `frames`; it can be float32, too.

        Returns
        -------
        ndarray, or what xarray makes of it, of the shape of `frames`
            Signed differences: float64 with offsets, otherwise int16 for uint8
            and int32 for uint16 frames. Of a DataArray, a DataArray; otherwise `out`, if it
            was given.

        Raises
        ------
        ValueError
            If the frames are of another shape or number, or `out` is; or if consecutive ones
            are beyond the frames of this background.
        IndexError
            If numbers of frames are.
        TypeError
            If `out` is no array of NumPy's, or cannot hold the differences.

        Examples
        --------
        >>> import numpy as np
        >>> import sparsemed
        >>> images = np.full((10, 40, 60), 90, dtype=np.uint8)
        >>> images[3, 20, 30] = 70  # a very small cell
        >>> background = sparsemed.compute_background(images, offset_correction=False)
        >>> int(background.subtract(images[3:5], start=3).min())
        -20
        >>> int(background.subtract(images[3], 3).min())
        -20
        >>> int(background.subtract(images[[1, 3]], [1, 3])[1].min())
        -20
        """
        given = np.asarray(frames)
        height, width = self.images.shape[1:]
        if given.ndim not in (2, 3) or given.shape[-2:] != (height, width):
            raise ValueError(
                f"frames: shape must be (n, {height}, {width}) or ({height}, {width}), "
                f"got {given.shape}"
            )
        numbers = self._numbers(given, start)
        signed = np.result_type(given.dtype, self.images.dtype, np.int16)
        exact = signed if self.offsets is None else np.result_type(signed, np.float64)
        if out is None:
            difference: NDArray[Any] = np.empty(given.shape, exact)
        else:
            difference = _checked(out, given.shape, exact)
        stack = given.reshape(-1, height, width)
        into = difference if difference.ndim == 3 else difference[np.newaxis]
        piece = max(1, PIECE_BYTES // max(1, height * width))
        for first in range(0, len(stack), piece):
            part = slice(first, first + piece)
            below = self[numbers[part]]
            np.subtract(stack[part], below, out=into[part], dtype=signed, casting="same_kind")
            if self.offsets is not None:
                into[part] -= self.offsets[numbers[part], np.newaxis, np.newaxis]
        if out is None and has_labels(frames):
            return frames.copy(data=difference)
        return difference

    def _numbers(self, frames: NDArray[Any], start: Frames | None) -> NDArray[np.intp]:
        """Return which frames these are."""
        count = len(frames) if frames.ndim == 3 else 1
        if start is None:
            if frames.ndim == 2:
                raise ValueError(
                    "frames: is a single frame; say which it is: background.subtract(frame, 7)"
                )
            start = 0
        if isinstance(start, (int, np.integer)):
            first = int(start)
            if not 0 <= first <= first + count <= len(self):
                stop = first + count
                raise ValueError(f"frames {first} to {stop} are not within the {len(self)} frames")
            return np.arange(first, first + count)
        numbers = np.atleast_1d(np.arange(len(self))[start])
        if numbers.shape != (count,):
            raise ValueError(f"start: names {numbers.size} frames, but frames has {count}")
        return numbers


def _checked(out: NDArray[Any], shape: tuple[int, ...], exact: np.dtype[Any]) -> NDArray[Any]:
    """Return where differences go, if it can hold them."""
    if not isinstance(out, np.ndarray):
        raise TypeError(f"out: must be a NumPy array, got {type(out).__name__}")
    if out.shape != shape:
        raise ValueError(f"out: shape must be {shape} as that of frames, got {out.shape}")
    if not np.can_cast(exact, out.dtype, "safe") and out.dtype != np.float32:
        raise TypeError(f"out: of dtype {out.dtype} cannot hold differences of dtype {exact}")
    return out
