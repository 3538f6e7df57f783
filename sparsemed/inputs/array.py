"""Frames in an array: NumPy's, Dask's, Zarr's, an HDF5 dataset, or anything like these."""

from typing import Any, Self

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
from sparsemed.method.ranges import Scanning
from sparsemed.method.result import Background
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
        self._data = as_frames(given, options.choice, self.label or "frames")

    @property
    def data(self) -> Any:
        """The array, its axes in our order."""
        return self._data

    @lazy_property
    def frames(self) -> SampledFrames:
        """The frames, of which some are kept to be looked at."""
        label = self.label or "frames"
        return looked_at(open_frames(self.data, self.num_cpus, label, self.options.floats))

    @lazy_property
    def time(self) -> NDArray[Any]:
        """Time of each frame, of shape (N,), in seconds; the first is 0."""
        return array_time(self.frames.shape, *self._known)

    @lazy_property
    def _known(self) -> tuple[ArrayLike | None, float | None]:
        """Times and frame rate, as they were given, or else as the array has them."""
        if self.options.time is None and self.options.frame_rate is None:
            return own_times(self.data)
        return self.options.time, self.options.frame_rate

    def open_part(self, begin: int, end: int) -> FrameOpener:
        """Return what opens some of the frames elsewhere."""
        return array_part(self.data, self.frames, begin, end)

    def scanning(self, executor: Any, ranges: int | None, num_cpus: int | None) -> Scanning:
        """Return what passes over the frames, and keeps those of floats in 8 bits if they fit."""
        passing = super().scanning(executor, ranges, num_cpus)
        return narrowing(passing) if holds_floats(self.data) else passing

    def check(self, planned: Plan) -> None:
        """Do nothing: an array takes all parameters."""

    def review(self, found: Background, planned: Plan) -> None:
        """Warn if axes seem to be in another order, or offsets to be wrong."""
        sample = self.frames
        if not (sample.read.any() or is_dask(self.data) or tiles_of(sample)):
            sample.read_all()  # they were read elsewhere; others would be computed or read again
        has_times = self._known[0] is not None
        kernel_size = 0 if has_times else int(planned.parameters.kernel_size)
        doubt(found, sample, kernel_size, self.label)

    def check_unchanged(self) -> None:
        """Do nothing: an array is watched, if at all, by who reads it."""

    def require_same(self, identity: Identity) -> None:
        """Do nothing: nobody can tell arrays apart."""

    def reopened(self) -> Self:
        """Return the same: an array is not closed."""
        return self

    def close(self) -> None:
        """Do nothing: the array is the caller's."""
