"""Frames of a measurement: a file in the RT-DC format, with its basins."""

from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from sparsemed.frames.choice import Choice
from sparsemed.frames.parts import chunks_part
from sparsemed.frames.sampled import SampledFrames
from sparsemed.frames.source import FrameOpener, FrameSource
from sparsemed.frames.stacks import require_readable
from sparsemed.inputs.given import Input, Options
from sparsemed.lazy import lazy_property
from sparsemed.method.compute import Plan
from sparsemed.method.offsets import BAND_ROWS
from sparsemed.method.time_axis import time_axis
from sparsemed.rtdc.frames import measurement_frames, measurement_part, measurement_time
from sparsemed.rtdc.identity import identify, require_same
from sparsemed.rtdc.measurement import Measurement
from sparsemed.storage.identity import Identity
from sparsemed.storage.places import FileName, RemotePath, locate


class MeasurementInput(Input):
    """A measurement.

    Parameters
    ----------
    given : str, path or RemotePath
        Path or network address.
    options : Options

    Raises
    ------
    ValueError, OSError
        See `sparsemed.rtdc.measurement.Measurement`.
    """

    def __init__(self, given: FileName, options: Options) -> None:
        super().__init__(options)
        path = locate(given)
        self.label = str(path)
        if isinstance(path, Path):
            require_readable(path)
        options.choice.only(self.label)
        self._measurement = Measurement(path, options.basins)
        self.source = self._measurement.place

    @staticmethod
    def takes(given: Any, choice: Choice) -> bool:  # noqa: ARG004
        """Whether this is a path or an address."""
        return isinstance(given, (str, PathLike, RemotePath))

    @property
    def data(self) -> Any:
        """The images as stored, or through their mapping."""
        image = self._measurement.image
        return image.dataset if image.mapping is None else image

    @lazy_property
    def frames(self) -> FrameSource:
        """The frames."""
        return measurement_frames(self._measurement, self.num_cpus)

    @lazy_property
    def time(self) -> NDArray[Any]:
        """Time of each frame, of shape (N,), in seconds; the first is 0."""
        if self.options.time is None:
            return measurement_time(self._measurement, self.options.frame_rate)
        return time_axis(self.frames.shape[0], time=self.options.time)

    @lazy_property
    def identity(self) -> Identity:
        """The measurement that the frames are from; read at first access."""
        identity = identify(self._measurement, self.frames.shape[0])
        if isinstance(identity.path, RemotePath):
            return identity
        return replace(identity, given=Path(self.label or identity.path))

    def pick(self, numbers: NDArray[np.intp]) -> NDArray[Any]:
        """Return some frames, by their numbers, ascending; from a network they come together."""
        sampled = SampledFrames(self.frames, numbers)
        sampled.read_all()
        return sampled.kept

    def open_part(self, begin: int, end: int) -> FrameOpener:
        """Return an opener of some frames: by the places of their chunks, or by the path."""
        sent = chunks_part(self.frames, begin, end)
        return sent or measurement_part(self._measurement, self.identity, begin, end)

    def check(self, planned: Plan) -> None:
        """Check that offsets are of the usual rows: the PPID would not tell others apart."""
        if planned.offset_rows != BAND_ROWS:
            raise ValueError(
                f"{self.label}: offset_rows={planned.offset_rows} is for arrays only, as no "
                "parameter in the file would tell these offsets from those of "
                f"{BAND_ROWS} rows; leave it out"
            )

    def check_unchanged(self) -> None:
        """Check that no file has changed since it was opened."""
        self._measurement.access.check_unchanged()

    def require_same(self, identity: Identity) -> None:
        """Check that this is the measurement from which frames were read before."""
        require_same(self._measurement, identity)

    def reopened(self) -> Self:
        """Return this measurement, open again."""
        again = type(self)(self._measurement.place, self.options)
        again.label = self.label
        return again

    def close(self) -> None:
        """Close the file and the files of its basins."""
        self._measurement.close()
