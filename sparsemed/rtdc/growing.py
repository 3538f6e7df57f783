"""A measurement that another program records (SWMR), looked at again and again.

All is read by HDF5, and each look opens the file anew: lengths would else have to be refreshed one
by one, chunks move in the file while they grow, and the file may be closed, opened again or
replaced meanwhile. That takes a millisecond.
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
from sparsemed.rtdc.identity import identify
from sparsemed.rtdc.inputs import frame_count, measurement_time
from sparsemed.rtdc.measurement import Measurement
from sparsemed.storage.identity import Identity

LOOK_BYTES = 8 * 1024**2
"""Weight of the frames that are read at one look."""


class _Last(NamedTuple):
    """The frame read last, by which the recording is known at the next look."""

    frame: NDArray[Any]
    time: Any


class GrowingMeasurement:
    """The frames of a measurement as they come, and their times.

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
    count : int
        Frames that were read so far.
    time : ndarray, shape (N,), or None
        Once the file is closed, and all of it was read: the time axis that it has.

    Raises
    ------
    OSError
        If the file cannot be read, or if another program writes into it without letting others
        read meanwhile.
    ValueError
        If it has no images, or nothing that tells times.
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
                    f"{image.label}: of dtype {image.dtype} and shape {image.shape} cannot be "
                    "followed; frames must be grey images of uint8 or uint16"
                )
            height, width = image.shape[1:]
            self.shape = (int(height), int(width))
            self.dtype = image.dtype.newbyteorder("=")
            self._identifier = measurement.events.identifier
            _clock(measurement)

    def poll(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Read the frames that have come, as far as all features go, and their times.

        Of many, the first.

        Returns
        -------
        frames : ndarray, shape (n, H, W)
            None, with n = 0, if there are no more by now.
        times : ndarray, shape (n,), seconds

        Raises
        ------
        OSError
            If it cannot be read, maybe just now.
        ValueError
            If it is not the recording any more that it was.
        """
        self._require_whole_file()
        with self._open() as measurement, measurement.reading():
            is_live = measurement.is_live
            image, (clock, rate) = measurement.image, _clock(measurement)
            count = frame_count(measurement) if is_live else len(image)
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
        """Return which measurement this is, of the frames that were read.

        Raises
        ------
        OSError, ValueError
            If it cannot be read.
        """
        with self._open() as measurement:
            return identify(measurement, self.count)

    def _require_whole_file(self) -> None:
        """Check that a file which is being recorded is as long as it was; closing may cut it.

        HDF5 would wait for what is missing, again and again.
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
                    f"{self.path}: another program writes into it without letting others read "
                    "meanwhile (SWMR), or died while it did; record in that mode, or compute the "
                    "background once the file is closed"
                ) from error
            raise

    def _replaced(self) -> ValueError:
        return ValueError(
            f"{self.path}: is another recording than before; it was replaced while it was watched"
        )


def _clock(measurement: Measurement) -> tuple[Feature, Any]:
    """Return the feature that tells times, and the rate by which it is to be divided, if it is."""
    if (time := measurement.feature("time")) is not None:
        return time, None
    rate = measurement.frame_rate
    frame = None if rate is None else measurement.feature("frame")
    if frame is None:
        raise ValueError(
            f"{measurement.path}: has no feature 'time', nor 'frame' and a frame rate; times are "
            "guessed from the number of frames, which is not known before the end"
        )
    return frame, rate


def _times(clock: Feature, rate: Any, begin: int, stop: int) -> NDArray[Any]:
    values = clock[begin:stop]
    return values if rate is None else frame_times(values, stop - begin, rate, clock.label)
