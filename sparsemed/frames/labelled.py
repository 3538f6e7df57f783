"""Labels of arrays: which axis is time, and when each frame was recorded."""

from typing import Any

import numpy as np

from sparsemed.frames.arrays import has_labels
from sparsemed.frames.choice import ANY, NAMES, Choice, name_axes, pick_frames
from sparsemed.warned import warn

SECONDS = {"s": 1.0, "sec": 1.0, "second": 1.0, "seconds": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6}
"""Units of time by their names in arrays, in seconds."""


def as_frames(array: Any, choice: Choice = ANY, label: str = "frames") -> Any:
    """Return an array with axes in the order (N, H, W), by their names if it has some.

    Parameters
    ----------
    array : array-like
        An xarray.DataArray; any other array is returned as it is.
    choice : Choice
        Its channel and position.
    label : str
        Name of the array in errors.

    Raises
    ------
    ValueError
        If its axes have names and none of them is time, if there are several channels or the like
        and none is chosen, or if something is chosen from an array without names.
    """
    if not has_labels(array) or not set(name_axes(array.dims)) & set(NAMES):
        choice.only(label)
        return array
    frames = pick_frames(array.dims, array.shape, choice, label, label)
    single = {
        dim: entry
        for dim, entry in zip(array.dims, frames.entries, strict=True)
        if not isinstance(entry, slice)
    }
    picked = array.isel(single) if single else array
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
    unit = SECONDS.get(str(coordinate.attrs.get("units", "")).strip().lower())
    values = np.asarray(coordinate)
    if values.dtype.kind in "mMO":
        return values, None
    if values.dtype.kind == "f" and (unit is not None or "units" not in coordinate.attrs):
        return values if unit in (None, 1.0) else values * unit, None
    if values.dtype.kind in "iu" and unit is not None:
        return values * unit, None
    warn(
        f"The coordinate {name!r} of the array is not used, as it has no unit of time; if it is "
        f"in seconds, hand over time=frames[{name!r}]"
    )
    return None, None
