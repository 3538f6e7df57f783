"""A measurement that another program records in SWMR mode, polled for new frames.

HDF5 reads all, and each poll opens the file anew, which takes a millisecond: otherwise each length
would have to be refreshed, and the file may be closed, opened again or replaced meanwhile. Chunks
move in the file while they grow, so they cannot be read past HDF5.
"""

from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sparsemed.hdf5.file_access import Policy
from sparsemed.hdf5.opening import is_recorded
from sparsemed.method.time_axis import frame_times
from sparsemed.rtdc.events import Feature
from sparsemed.rtdc.frames import frame_count, measurement_time
from sparsemed.rtdc.identity import identify
from sparsemed.rtdc.measurement import Measurement
from sparsemed.storage.identity import Identity

LOOK_BYTES = 8 * 1024**2
"""Bytes of frames that one poll reads."""


class _Last(NamedTuple):
    """The last frame read, by which the next poll recognizes the recording."""

    frame: NDArray[Any]
    time: Any


class GrowingMeasurement:
    """The frames of a growing measurement, and their times.

    Parameters
    ----------
    path : str or path
        The file.
    basins : str
        Which other files it may lead to; see `Measurement`.

    Attributes
    ----------
    path : Path
    shape : (int, int)
        Height and width of the frames.
    dtype : dtype
        Native dtype of the frames.
    available : int
        Number of frames in the file when it was first opened.
    count : int
        Number of frames read so far.
    time : ndarray, shape (N,), or None
        The time axis, after the file was closed and all of it was read.

    Raises
    ------
    OSError
        If the file cannot be read, or if another program writes into it without SWMR mode.
    ValueError
        If it has no images, or no times.
    TypeError
        If the images are not of uint8 or uint16.
    """

    def __init__(self, path: str | PathLike[str], basins: Policy = "any") -> None:
        self.path = Path(path)
        self.count = 0
        self.time: NDArray[Any] | None = None
        self._basins: Policy = basins
        self._last: _Last | None = None
        self._size = 0  # of the file
        with self._open() as measurement:
            image = measurement.image
            if len(image.shape) != 3 or image.dtype.kind != "u" or image.dtype.itemsize > 2:
                raise TypeError(
                    f"{image.label}: has dtype {image.dtype} and shape {image.shape}, and cannot "
                    "be followed; frames must be grey images of uint8 or uint16"
                )
            height, width = image.shape[1:]
            self.shape = (int(height), int(width))
            self.dtype = image.dtype.newbyteorder("=")
            self._identifier = measurement.events.identifier
            _clock(measurement)
            self.available = frame_count(measurement)

    def poll(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Read new frames that have all features, and their times; of many, the first ones.

        Returns
        -------
        frames : ndarray, shape (n, H, W)
            n = 0 if there are no new frames.
        times : ndarray, shape (n,), seconds

        Raises
        ------
        OSError
            If it cannot be read, maybe only at this moment.
        ValueError
            If it is another recording now.
        """
        self._require_whole_file()
        with self._open() as measurement, measurement.reading():
            is_live = measurement.is_live
            image, (clock, rate) = measurement.image, _clock(measurement)
            count = frame_count(measurement)
            if measurement.events.identifier != self._identifier or image.shape[1:] != self.shape:
                raise self._replaced()
            at_once = max(
                1, LOOK_BYTES // max(1, self.shape[0] * self.shape[1] * self.dtype.itemsize)
            )
            begin = self.count if self._last is None else self.count - 1
            stop = min(count, self.count + at_once)
            if stop < self.count:
                raise ValueError(
                    f"{self.path}: has become shorter while it was watched: {self.count} frames "
                    f"were read, {stop} are there"
                )
            frames, times = image[begin:stop], _times(clock, rate, begin, stop)
            if not is_live and stop == count:
                self.time = measurement_time(measurement) if count else np.empty(0)
        if self._last is not None:
            if times[0] != self._last.time or not np.array_equal(frames[0], self._last.frame):
                raise self._replaced()
            frames, times = frames[1:], times[1:]
        if len(frames):
            self.count = stop
            self._last = _Last(frames[-1], times[-1])
        return frames, times

    def identity(self) -> Identity:
        """Return the identity of the measurement, for the frames that were read.

        Raises
        ------
        OSError, ValueError
            If it cannot be read.
        """
        with self._open() as measurement:
            return identify(measurement, self.count)

    def pick(self, numbers: NDArray[np.intp]) -> NDArray[Any]:
        """Read some of the frames that were read before, by ascending numbers.

        Raises
        ------
        OSError, ValueError
            If they cannot be read.
        """
        with self._open() as measurement, measurement.reading():
            return measurement.image[numbers]

    def _require_whole_file(self) -> None:
        """Check that a recorded file has not become shorter: HDF5 would retry reads forever.

        Closing the file may cut it, which is no error.
        """
        size = self.path.stat().st_size
        if size < self._size and is_recorded(self.path):
            raise OSError(
                f"{self.path}: has become shorter while it was watched ({size:,} of {self._size:,} "
                "bytes are there)"
            )
        self._size = size

    def _open(self) -> Measurement:
        try:
            return Measurement(self.path, self._basins)
        except OSError as error:
            cause = error.__cause__
            if isinstance(cause, BlockingIOError) or "consistency flags" in str(cause):
                raise OSError(
                    f"{self.path}: another program writes into it without SWMR mode, or died while "
                    "writing; record in SWMR mode, or compute the background after the file is "
                    "closed"
                ) from error
            raise

    def _replaced(self) -> ValueError:
        return ValueError(
            f"{self.path}: is another recording than before; it was replaced while it was watched"
        )


def _clock(measurement: Measurement) -> tuple[Feature, Any]:
    """Return the feature of times, and the frame rate to divide it by, or None."""
    if (time := measurement.feature("time")) is not None:
        return time, None
    rate = measurement.frame_rate
    frame = None if rate is None else measurement.feature("frame")
    if frame is None:
        raise ValueError(
            f"{measurement.path}: has neither a feature 'time', nor a feature 'frame' and a frame "
            "rate; without them, times can only be guessed after the end of the recording"
        )
    return frame, rate


def _times(clock: Feature, rate: Any, begin: int, stop: int) -> NDArray[Any]:
    values = clock[begin:stop]
    return values if rate is None else frame_times(values, stop - begin, rate, clock.label)
