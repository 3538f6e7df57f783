"""Frames of anything that has a shape, a dtype and slicing."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from mmap import mmap
from numbers import Integral
from os import PathLike
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from sparsemed.frames.choice import is_of_zarr
from sparsemed.frames.dask_blocks import DaskBlocks, is_dask
from sparsemed.frames.gaps import Gaps
from sparsemed.frames.shapes import is_one_in_colour, what_fits
from sparsemed.frames.source import MOST_FRAMES, Batch, Read, Spans, join_spans
from sparsemed.hdf5.opening import bytes_behind, raise_failure
from sparsemed.storage.stored import StoredBytes

BATCH_BYTES = 8 * 1024**2
"""Weight of the frames that are read at once."""


class ArrayFrames:
    """The frames of an array-like: NumPy, memmap, HDF5, Zarr, Dask and the like.

    An array in blocks is read in whole blocks, each once if reading goes forward: at a time, as
    many as fit into `BATCH_BYTES`, at least one. No others are held.

    Parameters
    ----------
    array : array-like, shape (N, H, W)
        uint8 and uint16 are taken as they are; int16 as uint16, if no value is negative;
        floating-point frames as `floats`, if every value is whole and fits.
    label : str
        Name of the frames in errors.
    floats : dtype
        uint8 or uint16.

    Raises
    ------
    TypeError
        If the dtype is none of these, or `array` is no array.
    ValueError
        If the frames are not of rank 3, if there are none, if their number is unknown, or if
        their file is closed.
    """

    def __init__(
        self, array: Any, label: str = "frames", floats: type[np.unsignedinteger] = np.uint8
    ) -> None:
        if isinstance(array, h5py.Dataset) and not array:
            raise ValueError(f"{label}: the file of the dataset is closed; keep it open meanwhile")
        if hasattr(array, "data_vars"):
            names = ", ".join(map(repr, array.data_vars))
            raise TypeError(
                f"{label}: is a Dataset of several arrays ({names}); hand over one of them, such "
                f"as {_written(array, label)}[{next(iter(array.data_vars), 'NAME')!r}]"
            )
        if not all(hasattr(array, name) for name in ("shape", "__getitem__")):
            raise TypeError(
                f"{label}: expected an array of shape (N, H, W), got {type(array).__name__}"
                f"{_how_to_stack(array)}"
            )
        shape = tuple(array.shape or ())
        hint = what_fits(shape, _written(array, label))
        if len(shape) != 3:
            raise ValueError(f"{label}: shape must be (N, H, W), got {shape}{hint}")
        if is_one_in_colour(shape):
            raise ValueError(f"{label}: the shape {shape} is that of one image in colour{hint}")
        if 0 in shape:
            raise ValueError(f"{label}: there are no frames; the shape is {shape}")
        if not all(isinstance(length, Integral) for length in shape):
            raise ValueError(
                f"{label}: the shape {shape} is unknown; "
                "compute it first, for Dask with frames.compute_chunk_sizes()"
            )
        if shape[0] > MOST_FRAMES:
            raise ValueError(
                f"{label}: the shape is {shape}; there can be no more than {MOST_FRAMES} frames"
            )
        if unwrap := _how_to_unwrap(array):
            raise TypeError(
                f"{label}: is a tensor or the like ({type(array).__module__}), not a NumPy "
                f"array; hand over {_written(array, label)}{unwrap}"
            )
        if has_labels(array) and array.chunks:
            array = array.data  # a Dask array
        self.array = array
        self.label = label
        self._stored = bytes_behind(array) if isinstance(array, h5py.Dataset) else None
        self._file_size = _size_of_file(array, self._stored)
        self._size = 0 if self._file_size is None else self._file_size()
        count, height, width = shape
        self.shape = (int(count), int(height), int(width))
        # dcnum's mapped datasets have no dtype
        stored = array.dtype if hasattr(array, "dtype") else np.asarray(array[:1]).dtype
        self.dtype = _frame_dtype(stored, label, floats)
        self._edges = block_edges(array, 0, self.shape[0])
        self.unwritten: Spans = []
        self.gaps: Gaps | None = None
        at_once = max(1, BATCH_BYTES // (height * width * self.dtype.itemsize))
        lengths = np.diff(self._edges)
        # Blocks larger than a batch, or cut by one, are kept and returned piecewise.
        is_regular = (lengths[:-1] == lengths[0]).all() and lengths[-1] <= lengths[0] <= at_once
        self.block = int(lengths[0]) if is_regular else 1
        # Irregular blocks are held for the next batch, which may need all their rows.
        self.row_block = _row_block(array, self.shape[1]) if is_regular else self.shape[1]
        self.batch = at_once // self.block * self.block
        self.threads = 1

    def interrupt(self) -> None:
        """End reads of HDF5 that wait for a network; other reads end by themselves."""
        if self._stored is not None:
            self._stored.interrupt()

    @contextmanager
    def reading(self, _: Iterable[Batch] = ()) -> Iterator[Read]:
        """Provide the function that reads; see `FrameSource`.

        Raises
        ------
        ValueError
            If the shape of the array has changed meanwhile.
        """
        held = _Held(DaskBlocks(self.array).read if is_dask(self.array) else self._slice)
        yield partial(self._read, held)
        self._require_whole_file("some frames may be wrong")
        if tuple(self.array.shape) != self.shape:
            raise ValueError(
                f"{self.label}: the shape was {self.shape} and is {tuple(self.array.shape)} now; "
                "the frames must not change while they are read"
            )

    def _read(self, held: "_Held", start: int, stop: int, out: NDArray[Any]) -> None:
        at, rows = start, out.shape[1]
        while at < stop:
            if not 0 <= at - held.begin < len(held.frames) or held.frames.shape[1] < rows:
                held.frames = ()  # first, so that two blocks are never held
                held.begin, end = self._whole_blocks(at, stop)
                held.frames = self._frames(held.load, held.begin, end, rows)
            end = min(stop, held.begin + len(held.frames))
            self._convert(
                held.frames[at - held.begin : end - held.begin, :rows],
                at,
                out[at - start : end - start],
            )
            at = end

    def _whole_blocks(self, at: int, stop: int) -> tuple[int, int]:
        """Return begin and end of the blocks to read now: the first is that of frame `at`."""
        first = int(np.searchsorted(self._edges, at, side="right")) - 1
        heavy = int(np.searchsorted(self._edges, self._edges[first] + self.batch, side="right"))
        needed = int(np.searchsorted(self._edges, stop))
        last = max(first + 1, min(heavy - 1, needed))
        return int(self._edges[first]), int(self._edges[last])

    def _require_whole_file(self, otherwise: str) -> None:
        """Check that the file behind the array is as long as it was.

        Missing bytes would be read as zeros. If the file is mapped into memory and cut during the
        read itself, the system ends the process.
        """
        if self._file_size is not None and self._file_size() < self._size:
            raise OSError(f"{self.label}: {otherwise}, the file has become shorter")

    def _slice(self, start: int, stop: int, rows: int) -> Any:
        is_whole = rows == self.shape[1]
        part = self.array[start:stop] if is_whole else self.array[start:stop, :rows]
        return part.data if has_labels(part) else part

    def _frames(self, load: "_Load", start: int, stop: int, rows: int) -> NDArray[Any]:
        """Load whole blocks of frames, with at least so many rows."""
        rows = min(self.shape[1], -(-rows // self.row_block) * self.row_block)
        self._require_whole_file(f"frames {start} to {stop - 1} cannot be read")
        try:
            part = load(start, stop, rows)
            frames = np.asarray(part)
            if isinstance(self.array, h5py.Dataset):
                raise_failure(self.array)
        except OSError as error:
            raise OSError(
                f"{self.label}: frames {start} to {stop - 1} cannot be read ({error})"
            ) from error
        except Exception as error:
            # a codec of Zarr and a Dask task may raise anything
            if is_of_zarr(self.array) and not isinstance(error, MemoryError):
                raise OSError(
                    f"{self.label}: frames {start} to {stop - 1} cannot be read ({error}); is a "
                    "chunk damaged?"
                ) from error
            error.add_note(f"{self.label}: frames {start} to {stop - 1} were being read")
            raise
        if self.gaps is not None:
            self.unwritten = join_spans([*self.unwritten, *self.gaps.find(frames, start)])
        if frames.shape != (stop - start, rows, self.shape[2]):
            raise ValueError(
                f"{self.label}: frames {start} to {stop - 1} came in the shape {frames.shape}; "
                "the frames must not change while they are read"
            )
        if np.ma.is_masked(part):
            raise ValueError(
                f"{self.label}: some values of frames {start} to {stop - 1} are masked, but a "
                "median leaves none out; fill them with frames.filled(value)"
            )
        return frames

    def _convert(self, frames: NDArray[Any], start: int, out: NDArray[Any]) -> None:
        if frames.dtype.newbyteorder("=") != self.dtype:
            self._require_fit(frames, start)
        np.copyto(out, frames, casting="unsafe")

    def _require_fit(self, frames: NDArray[Any], start: int) -> None:
        largest = np.iinfo(self.dtype).max
        # Half floats have no such number but infinity.
        values = frames.astype(np.float32) if frames.dtype == np.float16 else frames
        fits = (values >= 0) & (values <= largest) & (values == np.floor(values))
        if not fits.all():
            where = np.unravel_index(int(np.argmin(fits)), frames.shape)
            raise TypeError(
                f"{self.label}: frame {start + int(where[0])} holds {frames[where]}; "
                f"frames of dtype {frames.dtype} must be whole numbers from 0 to {largest} "
                "(scale and round them, then convert with .astype(numpy.uint8) or numpy.uint16)"
            )


class _Held:
    """The blocks read last, and the function that reads them."""

    def __init__(self, load: "_Load") -> None:
        self.load = load
        self.begin = 0
        self.frames: Any = ()


_Load = Callable[[int, int, int], Any]
"""``load(start, stop, rows)`` returns so many rows of these frames."""


def _frame_dtype(stored: Any, label: str, floats: type[np.unsignedinteger]) -> np.dtype[Any]:
    """Return the native dtype in which frames of a dtype are computed."""
    stored = getattr(stored, "numpy_dtype", stored)  # TensorStore has dtypes of its own
    try:
        dtype: np.dtype[Any] = np.dtype(stored)
        if dtype.kind == "u" and dtype.itemsize <= 2:
            return dtype.newbyteorder("=")
        if dtype.kind == "i" and dtype.itemsize == 2:  # as cameras of 12 bits are often stored
            return np.dtype(np.uint16)
        if dtype.kind == "f":
            return np.dtype(floats)
    except TypeError:  # the dtype of some other library
        dtype = stored
    raise TypeError(
        f"{label}: frames of dtype {dtype} are not supported; "
        "convert them with .astype(numpy.uint8) or .astype(numpy.uint16) if their values fit"
    )


def holds_floats(array: Any) -> bool:
    """Whether values are floating-point numbers."""
    dtype = getattr(array, "dtype", None)
    return getattr(getattr(dtype, "numpy_dtype", dtype), "kind", None) == "f"


def block_edges(array: Any, axis: int, count: int) -> NDArray[np.int64]:
    """Return the edges of blocks along an axis: where each begins, and where the last ends.

    They follow from ``chunks``, which holds one length for all blocks (HDF5, Zarr), or the length
    of each (Dask). Without ``chunks``, each whole frame is a block.
    """
    try:
        chunks = getattr(array, "chunks", None)
    except NotImplementedError:  # Zarr, where chunks are not all of the same shape
        chunks = None
    along = chunks[axis] if isinstance(chunks, tuple) and chunks else 1 if axis == 0 else count
    if isinstance(along, tuple):
        edges = np.unique(np.cumsum([0, *along]))  # some may be empty
        if edges[-1] == count:
            return edges
    length = int(along) if isinstance(along, Integral) else 1 if axis == 0 else count
    return np.append(np.arange(0, count, length), count)


def _row_block(array: Any, height: int) -> int:
    """Return how many rows of a frame are stored together; all, if that is unknown."""
    if isinstance(array, np.ndarray):
        return 1
    lengths = np.diff(block_edges(array, 1, height))
    is_regular = (lengths[:-1] == lengths[0]).all() and lengths[-1] <= lengths[0]
    return int(lengths[0]) if is_regular else height


def has_labels(array: Any) -> bool:
    """Whether an array is an xarray.DataArray."""
    # of the type, as the attribute of a DataArray that is not loaded would load it
    return isinstance(getattr(array, "dims", None), tuple) and hasattr(type(array), "data")


def _size_of_file(array: Any, stored: StoredBytes | None) -> Callable[[], int] | None:
    """Return a function that gives the size of the file behind an array, or None without a file."""
    if stored is not None:
        return lambda: stored.size
    first, base = None, array
    while isinstance(base, np.ndarray):
        first, base = base, base.base
    return base.size if isinstance(first, np.memmap) and isinstance(base, mmap) else None


def _written(array: Any, label: str) -> str:
    """Return a Python expression for the array."""
    if isinstance(array, h5py.Dataset):
        return f"h5py.File({array.file.filename!r})[{array.name!r}]"
    return label if label.isidentifier() else "frames"


def _how_to_unwrap(array: Any) -> str:
    """Return the call that turns a tensor of another library into a NumPy array, or nothing."""
    if hasattr(array, "detach"):
        return ".detach().cpu().numpy()"
    if hasattr(array, "__cuda_array_interface__"):
        return ".get()"
    return ".numpy()" if callable(getattr(array, "numpy", None)) else ""


def _are_names(array: Sequence[Any]) -> bool:
    return all(isinstance(each, (str, PathLike)) for each in array)


def _how_to_stack(array: Any) -> str:
    """Return advice on how a sequence of images becomes one array, or nothing."""
    if isinstance(array, Mapping) or not isinstance(array, Iterable):
        return ""
    if isinstance(array, Sequence) and array and _are_names(array):
        return "; of single images, hand over the folder, or a pattern such as 'folder/img_*.tif'"
    some = "list(frames)" if isinstance(array, Iterator) else "frames"
    return f"; make one array of it with numpy.stack({some})"
