"""Parts of the frames, which can be sent to workers."""

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from sparsemed.frames.arrays import ArrayFrames, has_labels
from sparsemed.frames.choice import Choice, PickedAxes
from sparsemed.frames.chunks import ChunkFrames
from sparsemed.frames.dask_blocks import is_dask
from sparsemed.frames.gaps import Gaps
from sparsemed.frames.layout import Layout
from sparsemed.frames.opening import open_frames
from sparsemed.frames.picked import PickedFrames
from sparsemed.frames.sampled import SampledFrames
from sparsemed.frames.source import Batch, FrameOpener, FrameSource, Read, Spans
from sparsemed.frames.stacks import open_stack, states_of_stack
from sparsemed.frames.stores import (
    OTHER_FILE,
    absolute_spec,
    is_of_tensorstore,
    make_absolute,
    open_spec,
    require_store,
    stores_behind,
)
from sparsemed.storage.identity import States
from sparsemed.storage.stored import Opener, file_state, require_state


class PartFrames:
    """Some consecutive frames of another source.

    Parameters
    ----------
    source : FrameSource
    begin, end : int
        The first frame, and the one after the last; better at multiples of its `block`.
    """

    def __init__(self, source: FrameSource, begin: int, end: int) -> None:
        self.source = source
        self.begin = begin
        self.end = end
        self.shape = (end - begin, *source.shape[1:])
        self.dtype = source.dtype
        self.block = source.block if begin % source.block == 0 else 1
        self.row_block = source.row_block
        self.batch = source.batch
        self.threads = source.threads

    @property
    def unwritten(self) -> Spans:
        """Frames that were never written."""
        return [
            (max(start, self.begin) - self.begin, min(stop, self.end) - self.begin)
            for start, stop in self.source.unwritten
            if start < self.end and stop > self.begin
        ]

    def interrupt(self) -> None:
        """End reads that are under way; see `FrameSource`."""
        self.source.interrupt()

    @contextmanager
    def reading(self, wanted: Iterable[Batch] = ()) -> Iterator[Read]:
        """Provide the function that reads; see `FrameSource`."""
        shifted = (
            Batch(self.begin + batch.start, self.begin + batch.stop, batch.rows) for batch in wanted
        )
        with self.source.reading(shifted) as read:

            def read_part(start: int, stop: int, out: NDArray[Any]) -> None:
                read(self.begin + start, self.begin + stop, out)

            yield read_part


def chunks_part(frames: FrameSource, begin: int, end: int) -> FrameOpener | None:
    """Return an opener of some frames that are read from chunks, or None if they are not.

    Only the places of the chunks are sent, and how to open the file: the worker need not list
    chunks with HDF5 again.
    """
    if isinstance(frames, SampledFrames):
        frames = frames.source
    if isinstance(frames, PickedFrames):
        picks = frames.picks[begin:end]
        chunks, first, last = frames.source, int(picks.min()), int(picks.max()) + 1
    else:
        chunks, picks, first, last = frames, None, begin, end
    if not isinstance(chunks, ChunkFrames):
        return None
    layout, opener = chunks.layout.part(first, last), chunks.stored.opener()
    return partial(_open_chunks, layout, opener, chunks.label, picks, begin, end)


def array_part(array: Any, frames: FrameSource, begin: int, end: int) -> FrameOpener:
    """Return an opener of some frames of an array, as small as possible.

    It holds the frames of a NumPy array, and the graph of a Dask array as far as these frames need
    it. Other arrays are pickled; a Zarr or TensorStore array then holds the path of its store,
    which is made absolute. An HDF5 dataset is opened again by the path of its file, if the file is
    open for reading only.
    """
    if isinstance(array, h5py.Dataset) and _can_be_opened_again(array):
        if (sent := chunks_part(frames, begin, end)) is not None:
            return sent
        place = os.path.abspath(array.file.filename)
        return partial(_open_dataset, place, file_state(Path(place)), array.name, begin, end)
    source = frames.source if isinstance(frames, SampledFrames) else frames
    gaps = source.gaps if isinstance(source, ArrayFrames) else None
    inner = array.array if isinstance(array, PickedAxes) else array
    if isinstance(inner, (np.ndarray, h5py.Dataset)) or has_labels(array) or is_dask(array):
        part = array[begin:end]
        part = part.data if has_labels(part) else part
        if is_dask(part):
            part = _without_the_rest(part)
        # Errors of the worker number frames from `begin`.
        gaps = gaps and gaps.part(begin)
        return partial(_open_array, part, gaps, 0, end - begin, f"frames[{begin}:{end}]")
    if is_of_tensorstore(inner):
        if (spec := absolute_spec(inner)) is not None:
            return partial(_open_tensorstore, spec, array.shape, gaps, begin, end)
        part = np.asarray(array[begin:end])  # it is in memory
        gaps = gaps and gaps.part(begin)
        return partial(_open_array, part, gaps, 0, end - begin, f"frames[{begin}:{end}]")
    make_absolute(inner)
    return partial(_open_array, array, gaps, begin, end, "frames")


def stack_part(path: Path, states: States, choice: Choice, begin: int, end: int) -> FrameOpener:
    """Return an opener of some frames of a stack, by its absolute path."""
    return partial(_open_stack, path, states, choice, begin, end)


@contextmanager
def _open_chunks(
    layout: Layout,
    opener: Opener,
    label: str,
    picks: NDArray[np.int64] | None,
    begin: int,
    end: int,
    num_cpus: int,
) -> Iterator[FrameSource]:
    stored = opener()
    state = stored.state
    frames = ChunkFrames(layout, stored, num_cpus, label)
    yield PartFrames(frames, begin, end) if picks is None else PickedFrames(frames, picks)
    require_state(stored, state)


@contextmanager
def _open_stack(
    path: Path, states: States, choice: Choice, begin: int, end: int, num_cpus: int
) -> Iterator[FrameSource]:
    if states_of_stack(path, choice) != states:
        raise ValueError(OTHER_FILE.format(path))
    with open_stack(path, num_cpus, choice) as array:
        yield PartFrames(open_frames(array, num_cpus, str(path), np.uint16), begin, end)


@contextmanager
def _open_array(
    array: Any,
    gaps: Gaps | None,
    begin: int,
    end: int,
    label: str,
    num_cpus: int,  # noqa: ARG001
) -> Iterator[FrameSource]:
    for store in stores_behind(array):
        require_store(store)
    frames = ArrayFrames(array, label, np.uint16)
    frames.gaps = gaps
    yield PartFrames(frames, begin, end)


@contextmanager
def _open_tensorstore(
    spec: Any,
    shape: tuple[int, ...],
    gaps: Gaps | None,
    begin: int,
    end: int,
    num_cpus: int,
) -> Iterator[FrameSource]:
    with _open_array(open_spec(spec, shape), gaps, begin, end, "frames", num_cpus) as frames:
        yield frames


@contextmanager
def _open_dataset(
    path: str,
    state: tuple[int, ...],
    name: str,
    begin: int,
    end: int,
    num_cpus: int,
) -> Iterator[FrameSource]:
    if file_state(Path(path)) != state:
        raise ValueError(OTHER_FILE.format(path))
    with h5py.File(path, "r") as h5:
        yield PartFrames(open_frames(h5[name], num_cpus, floats=np.uint16), begin, end)


def _can_be_opened_again(dataset: h5py.Dataset) -> bool:
    """Whether others can open the file of a dataset while it is open here.

    Its path may be relative to a former working folder, or may name another file by now.
    """
    file = dataset.file
    if file.mode != "r" or file.driver not in ("sec2", "stdio", "windows"):
        return False
    if os.name != "posix" or file.driver != "sec2":
        return os.path.isabs(file.filename)
    try:
        return os.path.samestat(os.stat(file.filename), os.fstat(file.id.get_vfd_handle()))
    except OSError:
        return False


def _without_the_rest(part: Any) -> Any:
    """Return a Dask array without the blocks that it does not use."""
    import dask

    distributed = sys.modules.get("distributed")
    if distributed is not None and distributed.futures_of(part):
        return part.compute()  # workers hold its blocks, but a task cannot request them
    part = dask.optimize(part)[0]
    for store in stores_behind(part):
        if isinstance(store, h5py.Dataset):
            return part.compute()  # an open file cannot be sent
        make_absolute(store)
    return part
