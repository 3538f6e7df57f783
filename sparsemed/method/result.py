"""The result of the method: a background image for each frame, and how it was computed."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self, SupportsIndex, overload

import numpy as np
from numpy.typing import NDArray

from sparsemed.frames.arrays import has_labels
from sparsemed.method.offsets import BAND_ROWS
from sparsemed.method.seen import Seen
from sparsemed.parameters import Parameters
from sparsemed.storage.identity import Identity
from sparsemed.storage.places import AnyPath

Frames = SupportsIndex | slice | Sequence[int] | Sequence[bool] | NDArray[Any]
"""Selected frames: one, a slice, numbers, or a mask."""

PIECE_BYTES = 8 * 1024**2
"""Bytes of frames that are subtracted at once, so that little memory is needed."""


@dataclass(frozen=True, eq=False, repr=False)
class Background:
    """A background image for each of N frames, and how it was computed.

    ``background[i]`` is the background image of frame ``i``; ``background[i:j]`` and
    ``background[[3, 5]]`` are those of several frames. If NumPy subtracts these from frames,
    differences wrap around: use `subtract`, or ``frames - background`` for all frames at once.

    Attributes
    ----------
    images : ndarray, shape (M', H, W), dtype of the frames
        The background images that cleansing kept. Like `series`, it may be a `RepeatedImages`.
    frame_index : ndarray of int64, shape (N,)
        For each frame, its background image in `images`.
    offsets : ndarray of float64, shape (N,), or None
        Brightness offset of each frame, in grey values. Image plus offset is
        the background of a frame under a flickering lamp.
    time : ndarray, shape (N,), seconds
        Time of each frame; the first is at 0.
    series : ndarray, shape (M, H, W)
        All background images, before cleansing. If most of them are equal, as after a long pause,
        and would take more than 64 MiB, it is a `RepeatedImages`: it is used like an array, and
        ``numpy.asarray`` makes an array from it. Files keep no dropped images: of a loaded
        background, it is `images`.
    step_times : ndarray, shape (M,), seconds
        Time of each image of `series`; NaN if a file does not have it.
    kept : ndarray of bool, shape (M,)
        Which images of `series` cleansing kept.
    score : ndarray of float64, shape (M,)
        Score of each image of `series`; large where cells are left. NaN if the background was
        loaded.
    threshold : float
        Images with a score up to this are kept; infinite if cleansing was off. NaN if the
        background was loaded.
    parameters : Parameters
        The parameters of the method.
    unwritten : tuple of (int, int)
        Spans of frames that were never written, as after an interrupted acquisition: first
        frame, and the one after the last, of each. They are used as read, mostly black.
    warnings : tuple of str
        Texts of the `sparsemed.BackgroundWarning` given while the background was computed.
    offset_rows : int
        Number of rows at the top of a frame from which `offsets` are computed. Default: 20.
    identity : Identity or None
        The file of the frames, as it was when they were read; None for an array.
    source : Path, RemotePath or None
        The measurement of the frames; absolute.
    basins : {"any", "network", "same-folder", "off"}
        Which other files it may lead to, when it is read again; see `compute_background`.
    stack : Path or None
        The stack of the frames; absolute.
    seen : Seen or None
        Some pixels of the frames of an array or stack, by which these are recognized.
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
    seen: Seen | None = None

    @classmethod
    def of_images(
        cls,
        images: NDArray[Any],
        frame_index: NDArray[np.int64],
        offsets: NDArray[np.float64] | None,
        time: NDArray[Any],
        **more: Any,
    ) -> Self:
        """Return a background with unknown values as after loading; see the attributes."""
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
        """``(N, H, W)``, the shape of the frames."""
        return (len(self), *self.images.shape[1:])

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of the background images."""
        dtype: np.dtype[Any] = self.images.dtype
        return dtype

    @property
    def nbytes(self) -> int:
        """Bytes of an array with an image for each frame; `images` holds each image once."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def source(self) -> AnyPath | None:
        """The measurement of the frames."""
        return self.origin if self.identity and self.identity.kind == "measurement" else None

    @property
    def stack(self) -> Path | None:
        """The stack of the frames."""
        is_stack = self.identity is not None and self.identity.kind == "stack"
        return self.origin if is_stack and isinstance(self.origin, Path) else None

    @property
    def is_loaded(self) -> bool:
        """Whether it was loaded from a file, which has neither scores nor dropped images."""
        return math.isnan(self.threshold)

    @property
    def origin(self) -> AnyPath | None:
        """The file of the frames: `source` or `stack`; None for an array."""
        return self.identity.path if self.identity else None

    @property
    def fate(self) -> str:
        """Number of kept background images, in words."""
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

    # Otherwise NumPy would convert the background to an array, and differences would wrap around.
    __array_ufunc__ = None

    def __rsub__(self, frames: Any) -> Any:
        shape = np.shape(frames)
        expected = (len(self), *self.images.shape[1:])
        if shape != expected:
            raise ValueError(
                f"frames - background takes all frames, of shape {expected}, got {shape}; "
                "for some frames, use background.subtract(frames, start)"
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
        """Return frames minus their background.

        To save the result as a TIFF for ImageJ, use ``tifffile.imwrite("corrected.tif",
        result.astype("float32"), imagej=True, metadata={"axes": "TYX"})``; for a whole stack in a
        file, use ``sparsemed compute STACK -o background.tif --subtracted corrected.tif``.

        Parameters
        ----------
        frames : array-like, shape (n, H, W) or (H, W)
            Some frames, or one.
        start : int, or slice, or array of int or bool, optional
            Number of the first of consecutive frames, or the numbers of all frames. Default: 0
            for several frames; a single frame needs its number.
        out : ndarray, optional
            Array for the result, of the shape of `frames`; it may be float32, too.

        Returns
        -------
        ndarray or DataArray, of the shape of `frames`
            Signed differences: float64 with offsets, otherwise int16 for uint8
            and int32 for uint16 frames. It is `out`, if given; otherwise a DataArray if
            `frames` is one.

        Raises
        ------
        ValueError
            If `frames` or `out` has another shape or length, or if consecutive frames are
            beyond the frames of this background.
        IndexError
            If numbers of frames are out of range.
        TypeError
            If `out` is no NumPy array, or cannot hold the differences.

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
        """Return the numbers of these frames."""
        count = len(frames) if frames.ndim == 3 else 1
        if start is None:
            if frames.ndim == 2:
                raise ValueError(
                    "frames: a single frame needs its number, as in background.subtract(frame, 7)"
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
    """Return the array for differences, after a check that it can hold them."""
    if not isinstance(out, np.ndarray):
        raise TypeError(f"out: must be a NumPy array, got {type(out).__name__}")
    if out.shape != shape:
        raise ValueError(f"out: shape must be {shape} as that of frames, got {out.shape}")
    if not np.can_cast(exact, out.dtype, "safe") and out.dtype != np.float32:
        raise TypeError(f"out: dtype {out.dtype} cannot hold differences of dtype {exact}")
    return out
