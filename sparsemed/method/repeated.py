"""Images of which many are equal, each kept once.

After a pause of a day, tens of thousands of steps have the same window. Their images would take
gigabytes, although only a few differ.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin
from numpy.typing import NDArray

SMALL_BYTES = 64 * 1024**2
"""Bytes up to which repeated images are held as a NumPy array."""

PIECE_BYTES = 8 * 1024**2
"""Bytes of images that are copied in one call; signals wait until it returns."""


class RepeatedImages(NDArrayOperatorsMixin):
    """Images of which many are equal: used like an array, with less memory.

    Slices and selected images are NumPy arrays, as are the results of all other operations.

    Parameters
    ----------
    distinct : ndarray, shape (D, H, W)
        The images, each once.
    index : ndarray of int, shape (M,)
        For each image, its number in `distinct`.
    """

    def __init__(self, distinct: NDArray[Any], index: NDArray[np.intp]) -> None:
        self.distinct = distinct
        self.index = index
        self.shape = (len(index), *distinct.shape[1:])
        self.dtype = distinct.dtype
        self.ndim = distinct.ndim
        self.itemsize = distinct.itemsize

    def __len__(self) -> int:
        return len(self.index)

    def __repr__(self) -> str:
        return f"RepeatedImages({self.shape}, {self.dtype}, of which {len(self.distinct)} differ)"

    def __getitem__(self, key: Any) -> NDArray[Any]:
        images, *within = key if isinstance(key, tuple) else (key,)
        if images is Ellipsis or images is None:
            found: NDArray[Any] = np.asarray(self)[key]
            return found
        # Parts of images are taken first, so that whole images are not repeated for them.
        parts = self.distinct[(slice(None), *within)]
        chosen: NDArray[Any] = parts[self.index[images]]
        return chosen

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("RepeatedImages: an array of these images can only be a copy")
        return np.asarray(_picked(self.distinct, self.index), dtype)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        arrays = [np.asarray(each) if isinstance(each, RepeatedImages) else each for each in inputs]
        return getattr(ufunc, method)(*arrays, **kwargs)

    def __getattr__(self, name: str) -> Any:
        weight = len(self) * self.distinct[0].nbytes / 1e9 if name != "distinct" else 0
        raise AttributeError(
            f"RepeatedImages has no {name!r}; numpy.asarray() makes an array of {weight:.2g} GB, "
            "'distinct' has the different images"
        )


def pick(images: Any, index: NDArray[np.intp]) -> Any:
    """Return ``images[index]``; as `RepeatedImages` if much is repeated or mapped."""
    if isinstance(images, np.memmap):
        return repeat(images, index)
    if isinstance(images, RepeatedImages):
        return repeat(images.distinct, images.index[index])
    return _picked(images, index)


def repeat(distinct: NDArray[Any], index: NDArray[np.intp]) -> Any:
    """Return ``distinct[index]``; as an array if it is small and not mapped from a file."""
    if isinstance(distinct, np.memmap):
        return RepeatedImages(distinct, index)
    if len(index) <= 2 * len(distinct) or len(index) * distinct[0].nbytes <= SMALL_BYTES:
        return _picked(distinct, index)
    return RepeatedImages(distinct, index)


def apart(images: Any) -> tuple[NDArray[Any], Any]:
    """Return the different images, and the index that makes all images from them."""
    if isinstance(images, RepeatedImages):
        return images.distinct, images.index
    return images, slice(None)


def each(images: Any, measure: Callable[[NDArray[Any]], NDArray[Any]]) -> NDArray[Any]:
    """Apply a function of a stack to images; it is computed once for equal images."""
    distinct, index = apart(images)
    measured: NDArray[Any] = measure(distinct)[index]
    return measured


def _picked(images: NDArray[Any], index: NDArray[np.intp]) -> NDArray[Any]:
    """Return ``images[index]``, copied piece by piece, as it may have gigabytes."""
    picked = np.empty((len(index), *images.shape[1:]), images.dtype)
    piece = max(1, PIECE_BYTES // max(1, images[0].nbytes))
    for start in range(0, len(index), piece):
        picked[start : start + piece] = images[index[start : start + piece]]
    return picked
