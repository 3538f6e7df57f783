"""Labels of arrays: which axis is time, and when each frame was recorded."""

from typing import Any

import numpy as np

from sparsemed.frames.arrays import has_labels
from sparsemed.frames.choice import ANY, NAMES, Choice, name_axes, names_of_axes, pick_frames
from sparsemed.frames.stores import from_zero
from sparsemed.warned import warn

SECONDS = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1.0),
    **dict.fromkeys(("ms", "msec", "millisecond", "milliseconds"), 1e-3),
    **dict.fromkeys(("us", "µs", "μs", "microsecond", "microseconds"), 1e-6),
    **dict.fromkeys(("ns", "nanosecond", "nanoseconds"), 1e-9),
    **dict.fromkeys(("min", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hr", "hour", "hours"), 3600.0),
}
"""Units of time by their names in arrays, in seconds."""


def as_frames(
    array: Any, choice: Choice = ANY, label: str = "frames", name: str | None = None
) -> Any:
    """Return an array with axes in the order (N, H, W), by their names if it has some.

    Parameters
    ----------
    array : array-like
        One of xarray, Zarr or HDF5, if it names its axes; any other array is returned as it is.
    choice : Choice
        Its channel and position.
    label : str
        Name of the array in errors.
    name : str, optional
        A Python expression for the array, for advice. Default: its label.

    Raises
    ------
    ValueError
        If its axes have names and none of them is time, if there are several channels or the like
        and none is chosen, or if something is chosen from an array without names.
    """
    choice.only(label, "channel", "position")
    names = names_of_axes(array)
    if names is None or not set(name_axes(names)) & set(NAMES):
        choice.only(label)
        return from_zero(array)
    frames = pick_frames(names, array.shape, choice, label, name or label)
    if not has_labels(array):
        return frames.read_from(array)
    single = {
        dim: entry
        for dim, entry in zip(array.dims, frames.entries, strict=True)
        if not isinstance(entry, slice)
    }
    picked = array.isel(single) if single else array
    if frames.order == (0, 1, 2):
        return picked  # xarray would load all to transpose it
    return picked.transpose(*(picked.dims[axis] for axis in frames.order))


def own_times(array: Any) -> tuple[Any, float | None]:
    """Return the times or the rate (Hz) that an array of frames has; None for an unknown one.

    A video has a rate, or times if the rate is not constant. A DataArray has times if the
    coordinate of its first axis holds dates, differences of dates, or numbers with a unit of time
    or with decimal places. Whole numbers may just count frames: they are not used, and a warning
    says how to hand them over.
    """
    if not has_labels(array):
        return getattr(array, "times", None), getattr(array, "frame_rate", None)
    name = array.dims[0]
    if name_axes([name]) != ["time"] or name not in array.coords:
        return None, None
    coordinate = array.coords[name]
    text = str(coordinate.attrs.get("units", ""))
    unit = SECONDS.get(text.partition(" since ")[0].strip().lower())
    values = np.asarray(coordinate)
    if values.dtype.kind in "mMO":
        return values, None
    if values.dtype.kind == "f" and (unit is not None or "units" not in coordinate.attrs):
        return values if unit in (None, 1.0) else values * unit, None
    if values.dtype.kind in "iu" and unit is not None:
        return values * unit, None
    why = f"{text!r} is no unit of time" if text else "it has no unit of time"
    warn(
        f"The coordinate {name!r} of the array is not used, as {why}; if it is in seconds, hand "
        f"over time=frames[{name!r}]"
    )
    return None, None
