"""Frames and time axis of a measurement, as the method takes them."""

from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from sparsemed.frames.opening import open_frames
from sparsemed.frames.picked import PickedFrames
from sparsemed.frames.source import FrameSource
from sparsemed.method.time_axis import require_axis, time_axis
from sparsemed.rtdc.measurement import Measurement, naming_damage

if TYPE_CHECKING:
    pass


def measurement_frames(measurement: Measurement, num_cpus: int) -> FrameSource:
    """Return the frames of a measurement, as its images or their mapping have them."""
    image = measurement.image
    with naming_damage(measurement.path):
        frames = open_frames(image.dataset, num_cpus, image.label)
        return frames if image.mapping is None else PickedFrames(frames, image.mapping)


def measurement_time(measurement: Measurement, frame_rate: float | None = None) -> NDArray[Any]:
    """Return the time axis of a measurement, from the best that it holds.

    A given `frame_rate` stands in for that of the measurement.
    """
    count = len(measurement.image)
    with naming_damage(measurement.path):
        if (time := measurement.feature("time")) is not None:
            require_axis(time.shape, time.dtype, count, time.label)
            return time_axis(count, time=time.read(), label=time.label)
        rate = measurement.frame_rate if frame_rate is None else frame_rate
        frame = measurement.feature("frame") if rate is not None else None
        if frame is not None:
            require_axis(frame.shape, frame.dtype, count, frame.label)
            return time_axis(count, frame=frame.read(), frame_rate=rate, label=frame.label)
        return time_axis(count, frame_rate=rate)
