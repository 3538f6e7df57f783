"""A part of the frames: as a source of its own, and sent to where the work is done."""

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

from sparsemed.frames.arrays import has_labels
from sparsemed.frames.choice import Choice
from sparsemed.frames.chunks import ChunkFrames
from sparsemed.frames.dask_blocks import is_dask
from sparsemed.frames.layout import Layout
from sparsemed.frames.opening import open_frames
from sparsemed.frames.picked import PickedFrames
from sparsemed.frames.sampled import SampledFrames
from sparsemed.frames.source import Batch, FrameOpener, FrameSource, Read, Spans
from sparsemed.frames.stacks import open_stack, states_of_stack
from sparsemed.kernels.cores import check_num_cpus
from sparsemed.storage.identity import States
from sparsemed.storage.stored import Opener, file_state, require_state

OTHER_FILE = (
    "{}: is another file where the work is done than where it was asked for; all workers must see "
    "the same files under the same paths"
)


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
        """Those of them that nobody ever wrote."""
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
    """Return what opens some frames elsewhere that are read from chunks; None if these are not.

    Where their chunks are, and how their bytes are opened, is all that is sent: nobody has to open
    the file with HDF5 and to list its chunks again.
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


def array_part(images: Any, frames: FrameSource, begin: int, end: int) -> FrameOpener:
    """Return what opens some frames of an array elsewhere, with no more than they need.

    Frames in memory travel. Of a Dask array its graph does, as far as these frames need it; of
    other arrays, whatever they are when they are pickled: for Zarr, where the store is. An HDF5
    dataset is found anew by the name of its file, if that is open for reading only.
    """
    if isinstance(images, h5py.Dataset) and _can_be_opened_again(images):
        if (sent := chunks_part(frames, begin, end)) is not None:
            return sent
        place = os.path.abspath(images.file.filename)
        return partial(_open_dataset, place, file_state(Path(place)), images.name, begin, end)
    if isinstance(images, (np.ndarray, h5py.Dataset)) or has_labels(images) or is_dask(images):
        part = images[begin:end]
        part = part.data if has_labels(part) else part
        if is_dask(part):
            part = _without_the_rest(part)
        # Errors count frames from here on.
        return partial(_open_array, part, 0, end - begin, f"frames[{begin}:{end}]")
    return partial(_open_array, images, begin, end, "frames")


def stack_part(path: Path, states: States, choice: Choice, begin: int, end: int) -> FrameOpener:
    """Return what opens some frames of a stack elsewhere, by its absolute path."""
    return partial(_open_stack, path, states, choice, begin, end)


@contextmanager
def _open_chunks(
    layout: Layout,
    opener: Opener,
    label: str,
    picks: NDArray[np.int64] | None,
    begin: int,
    end: int,
    num_cpus: int | None,
) -> Iterator[FrameSource]:
    stored = opener()
    state = stored.state
    frames = ChunkFrames(layout, stored, check_num_cpus(num_cpus), label)
    yield PartFrames(frames, begin, end) if picks is None else PickedFrames(frames, picks)
    require_state(stored, state)


@contextmanager
def _open_stack(
    path: Path, states: States, choice: Choice, begin: int, end: int, num_cpus: int | None
) -> Iterator[FrameSource]:
    cores = check_num_cpus(num_cpus)
    if states_of_stack(path) != states:
        raise ValueError(OTHER_FILE.format(path))
    with open_stack(path, cores, choice) as images:
        yield PartFrames(open_frames(images, cores, str(path), np.uint16), begin, end)


@contextmanager
def _open_array(
    images: Any, begin: int, end: int, label: str, num_cpus: int | None
) -> Iterator[FrameSource]:
    yield PartFrames(open_frames(images, check_num_cpus(num_cpus), label, np.uint16), begin, end)


@contextmanager
def _open_dataset(
    path: str,
    state: tuple[int, ...],
    name: str,
    begin: int,
    end: int,
    num_cpus: int | None,
) -> Iterator[FrameSource]:
    if file_state(Path(path)) != state:
        raise ValueError(OTHER_FILE.format(path))
    with h5py.File(path, "r") as h5:
        yield PartFrames(
            open_frames(h5[name], check_num_cpus(num_cpus), floats=np.uint16), begin, end
        )


def _can_be_opened_again(dataset: h5py.Dataset) -> bool:
    """Whether the dataset is in a file that others can open while it is open here.

    Its name may be relative to another working folder, or be that of another file by now.
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
        return part.compute()  # workers have its blocks, but no task can ask for them
    return dask.optimize(part)[0]
