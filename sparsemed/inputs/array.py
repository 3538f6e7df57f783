"""Frames in an array: NumPy, Dask, Zarr, an HDF5 dataset, or any other array-like."""

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sparsemed.frames.arrays import holds_floats
from sparsemed.frames.dask_blocks import is_dask
from sparsemed.frames.labelled import as_frames, own_times
from sparsemed.frames.opening import open_frames
from sparsemed.frames.parts import array_part
from sparsemed.frames.sampled import SampledFrames
from sparsemed.frames.source import FrameOpener
from sparsemed.frames.tiles import tiles_of
from sparsemed.inputs.given import Input, Options
from sparsemed.lazy import lazy_property
from sparsemed.method.compute import Plan
from sparsemed.method.doubts import doubt, looked_at
from sparsemed.method.narrowing import narrowing
from sparsemed.method.result import Background
from sparsemed.method.scan import Scanning
from sparsemed.method.seen import Seen, seen_of
from sparsemed.method.time_axis import array_time
from sparsemed.storage.identity import Identity


class ArrayInput(Input):
    """An array of frames.

    Parameters
    ----------
    given : array-like, shape (N, H, W)
    options : Options
    """

    def __init__(self, given: Any, options: Options) -> None:
        super().__init__(options)
        self._data = self._in_order(given)

    def _in_order(self, array: Any) -> Any:
        """Return an array with axes in the order (N, H, W)."""
        return as_frames(array, self.options.choice, self.label or "frames")

    @property
    def data(self) -> Any:
        """The array, with axes in the order (N, H, W)."""
        return self._data

    @lazy_property
    def frames(self) -> SampledFrames:
        """The frames; some of them are kept for `review`."""
        label = self.label or "frames"
        return looked_at(open_frames(self.data, self.num_cpus, label, self.options.floats))

    @lazy_property
    def time(self) -> NDArray[Any]:
        """Time of each frame, of shape (N,), in seconds; the first is 0."""
        return array_time(self.frames.shape, *self._known)

    @lazy_property
    def _known(self) -> tuple[ArrayLike | None, float | None]:
        """Times and frame rate: those given, or else those of the array."""
        if self.options.time is None and self.options.frame_rate is None:
            return own_times(self.data)
        return self.options.time, self.options.frame_rate

    def pick(self, numbers: NDArray[np.intp]) -> NDArray[Any]:
        """Return some frames, by their numbers, ascending; of long blocks, each is read once."""
        if not (tiles := tiles_of(self.frames)):
            return super().pick(numbers)
        picked = np.empty((len(numbers), *self.frames.shape[1:]), self.frames.dtype)
        for rows, columns, tile in tiles:
            with tile.reading() as read:
                for place, number in enumerate(numbers.tolist()):
                    read(number, number + 1, picked[place : place + 1, rows, columns])
        return picked

    @property
    def seen(self) -> Seen | None:
        """Some pixels of the frames kept for `review`, if these were read."""
        return seen_of(self.frames)

    def open_part(self, begin: int, end: int) -> FrameOpener:
        """Return an opener of some frames, which can be pickled."""
        return array_part(self.data, self.frames, begin, end)

    def scanning(self, executor: Any, ranges: int | None) -> Scanning:
        """Return the scan; floating-point frames are kept in 8 bits if their values fit."""
        passing = super().scanning(executor, ranges)
        return narrowing(passing) if holds_floats(self.data) else passing

    def check(self, planned: Plan) -> None:
        """Do nothing: an array takes all parameters."""

    def review(self, found: Background, planned: Plan) -> None:
        """Warn if axes seem to be in another order, or offsets to be wrong."""
        sample = self.frames
        if not (sample.read.any() or is_dask(self.data) or tiles_of(sample)):
            sample.read_all()  # workers read the frames; Dask blocks and tiles would cost too much
        has_times = self._known[0] is not None
        kernel_size = 0 if has_times else int(planned.parameters.kernel_size)
        doubt(found, sample, kernel_size, self.label)

    def check_unchanged(self) -> None:
        """Do nothing: the reader of an array checks it."""

    def require_same(self, identity: Identity) -> None:
        """Do nothing: arrays have no identity."""

    def reopened(self) -> Self:
        """Return this input: an array is never closed."""
        return self

    def close(self) -> None:
        """Do nothing: the array belongs to the caller."""
