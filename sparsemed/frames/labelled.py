"""What arrays say of themselves: which axis is that of time, and when each frame was recorded."""

from typing import Any

import numpy as np

from sparsemed.frames.arrays import has_labels
from sparsemed.frames.choice import ANY, NAMES, Choice, name_axes, pick_frames
from sparsemed.warned import warn

SECONDS = {"s": 1.0, "sec": 1.0, "second": 1.0, "seconds": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6}
"""Units of time, as arrays name them, in seconds."""


def as_frames(images: Any, choice: Choice = ANY, label: str = "frames") -> Any:
    """Return an array whose first axis numbers frames, by the names of its axes, if it has some.

    Parameters
    ----------
    images : array-like
        One of xarray's, or any other, which is returned as it is.
    choice : Choice
        Its channel and position.
    label : str
        What errors call the images.

    Raises
    ------
    ValueError
        If its axes have names and none of them is that of time, or if there are several channels
        or the like and none is chosen; or if something is chosen of an array without names.
    """
    if not has_labels(images) or not set(name_axes(images.dims)) & set(NAMES):
        choice.only(label)
        return images
    frames = pick_frames(images.dims, images.shape, choice, label, label)
    single = {
        dim: entry
        for dim, entry in zip(images.dims, frames.entries, strict=True)
        if not isinstance(entry, slice)
    }
    picked = images.isel(single) if single else images
    return picked.transpose(*(picked.dims[axis] for axis in frames.order))


def own_times(images: Any) -> tuple[Any, float | None]:
    """Return the times that frames bring along, or their rate (Hz); None for what is not known.

    A video tells its rate, or the time of each frame where that is not constant. Of xarray's
    arrays the coordinate of the first axis counts, if it holds dates, differences of dates, or
    numbers with a unit of time or with decimal places. Whole numbers may just count the frames:
    of these a warning says how they are handed over.
    """
    if not has_labels(images):
        return getattr(images, "times", None), getattr(images, "frame_rate", None)
    name = images.dims[0]
    if name_axes([name]) != ["time"] or name not in images.coords:
        return None, None
    coordinate = images.coords[name]
    unit = SECONDS.get(str(coordinate.attrs.get("units", "")).strip().lower())
    values = np.asarray(coordinate)
    if values.dtype.kind in "mMO":
        return values, None
    if values.dtype.kind == "f" and (unit is not None or "units" not in coordinate.attrs):
        return values if unit in (None, 1.0) else values * unit, None
    if values.dtype.kind in "iu" and unit is not None:
        return values * unit, None
    warn(
        f"The array has a coordinate {name!r} that is not used, as it is not said to be in "
        f"seconds; if it is, hand over time=frames[{name!r}]"
    )
    return None, None
