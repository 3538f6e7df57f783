"""Frames and time axis of a measurement, for the method."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsemed.frames.opening import open_frames
from sparsemed.frames.parts import PartFrames
from sparsemed.frames.picked import PickedFrames
from sparsemed.frames.source import FrameOpener, FrameSource
from sparsemed.frames.stores import OTHER_FILE
from sparsemed.method.time_axis import require_axis, time_axis
from sparsemed.rtdc.events import Feature
from sparsemed.rtdc.identity import is_same
from sparsemed.rtdc.measurement import Measurement
from sparsemed.storage.identity import Identity
from sparsemed.warned import keeping_warnings, warn


def measurement_frames(measurement: Measurement, num_cpus: int) -> FrameSource:
    """Return the frames of a measurement: its images, or the frames that a mapping selects."""
    image = measurement.image
    count = frame_count(measurement)
    with measurement.reading():
        frames = open_frames(image.dataset, num_cpus, image.label)
        if image.mapping is not None:
            return PickedFrames(frames, image.mapping[:count])
        if not measurement.is_watched:
            warn(
                f"{measurement.path}: its server sends neither a strong ETag nor the time of the "
                "last change; a change of the file during reading would go unnoticed"
            )
        if measurement.is_live:
            warn(
                f"{measurement.path}: another program records into it, or died while recording; "
                f"only the first {count} frames, which are complete, are used"
            )
        return frames if count == len(image) else PickedFrames(frames, np.arange(count))


def measurement_part(
    measurement: Measurement, identity: Identity, begin: int, end: int
) -> FrameOpener:
    """Return an opener of some frames of a measurement, by its absolute path."""
    return partial(_open_part, measurement.opener(), identity, begin, end)


@contextmanager
def _open_part(
    opener: Callable[[], Measurement], identity: Identity, begin: int, end: int, num_cpus: int
) -> Iterator[FrameSource]:
    # The program that sent the task has already warned about the file.
    with keeping_warnings(tell=_say_nothing), opener() as measurement:
        frames = measurement_frames(measurement, num_cpus)
        if frames.shape[0] < end or not is_same(measurement, identity):
            raise ValueError(OTHER_FILE.format(identity.path))
        yield PartFrames(frames, begin, end)
        measurement.access.check_unchanged()


def _say_nothing(text: str) -> None:
    """Ignore a warning."""


def measurement_time(measurement: Measurement, frame_rate: float | None = None) -> NDArray[Any]:
    """Return the time axis of a measurement: from its times, frame numbers or frame rate.

    A given `frame_rate` replaces that of the measurement.
    """
    count = frame_count(measurement)
    with measurement.reading():
        if (time := measurement.feature("time")) is not None:
            require_axis(_shape(measurement, time, count), time.dtype, count, time.label)
            return time_axis(count, time=time.read()[:count], label=time.label)
        rate = measurement.frame_rate if frame_rate is None else frame_rate
        frame = measurement.feature("frame") if rate is not None else None
        if frame is not None:
            require_axis(_shape(measurement, frame, count), frame.dtype, count, frame.label)
            axis = frame.read()[:count]
            return time_axis(count, frame=axis, frame_rate=rate, label=frame.label)
        return time_axis(count, frame_rate=rate)


def frame_count(measurement: Measurement) -> int:
    """Return the number of frames; of a recording in progress, of complete frames."""
    count = len(measurement.image)
    if measurement.is_live:
        features = [measurement.feature(name) for name in ("time", "frame")]
        count = min([count, *(len(each) for each in features if each is not None)])
    return count


def _shape(measurement: Measurement, feature: Feature, count: int) -> tuple[int, ...]:
    """Return the shape of a feature; of a recording in progress, for complete frames."""
    return (count, *feature.shape[1:]) if measurement.is_live else feature.shape
