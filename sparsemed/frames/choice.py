"""Named axes: which one is time, and which entry of each other axis is chosen."""

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from sparsemed.frames.shapes import COLOUR_ADVICE, COLOURS, what_fits
from sparsemed.warned import warn

NAMES = {
    "time": ("t", "time", "times", "frame", "frames", "timepoint", "event", "events"),
    "y": ("y", "row", "rows", "height"),
    "x": ("x", "col", "cols", "column", "columns", "width"),
    "z": ("z", "plane", "planes", "slice", "slices", "depth", "lev"),
    "channel": ("c", "ch", "channel", "channels", "wavelength", "s", "sample", "band", "rgb"),
    "position": ("p", "r", "pos", "position", "positions", "fov", "field", "site", "tile"),
}
"""Names of axes: letters as in microscopy, and words."""

_CALLED = {name: axis for axis, names in NAMES.items() for name in names}


class Choice(NamedTuple):
    """Which of several stacks in one file to take; None if there is only one.

    Attributes
    ----------
    series : int or None
        Number of a series of images in a TIFF or OME-Zarr.
    channel : int or None
        Number of a channel, or of a colour.
    position : int or None
        Number of a position of the stage.
    dataset : str or None
        Name of an array in a Zarr group, or of a dataset in an HDF5 file.
    """

    series: int | None = None
    channel: int | None = None
    position: int | None = None
    dataset: str | None = None

    def only(self, label: str, *names: str) -> None:
        """Check that nothing else than these names is chosen.

        Raises
        ------
        ValueError
            If something else is chosen.
        """
        for name, value in self._asdict().items():
            if value is not None and name not in names:
                raise ValueError(
                    f"{label}: has no {name} to choose, but {name}={value} is given; leave it out"
                )


ANY = Choice()
"""Nothing is chosen."""


class Frames(NamedTuple):
    """How images of several named axes become frames.

    Attributes
    ----------
    entries : tuple of int or slice
        The index of each axis: a full slice for three axes, one entry for the others.
    order : tuple of int
        Places of number, height and width among these three axes.
    """

    entries: tuple[int | slice, ...]
    order: tuple[int, int, int]

    def read_from(self, array: Any) -> "Any":
        """Return the frames of any array, read when they are sliced."""
        is_plain = self.order == (0, 1, 2) and len(self.entries) == 3
        return array if is_plain else PickedAxes(array, self)

    def of(self, array: Any) -> Any:
        """Return the frames of a NumPy array, without copying."""
        return array[self.entries].transpose(self.order)


def names_of_axes(array: Any) -> list[str] | None:
    """Return the names of the axes of an array, if each has one: of xarray, Zarr or HDF5.

    Zarr 3 has names of dimensions, xarray stores them as an attribute in Zarr 2, and HDF5 has
    labels, or scales with names, as netCDF writes them.
    """
    names: Sequence[Any] | None = None
    if isinstance(array, h5py.Dataset):
        dims = array.dims if array else ()
        names = [dim.label or (PurePosixPath(dim[0].name).name if len(dim) else "") for dim in dims]
    elif (metadata := getattr(array, "metadata", None)) is not None:
        names = getattr(metadata, "dimension_names", None)
        names = names or getattr(array, "attrs", {}).get("_ARRAY_DIMENSIONS")
    elif isinstance(getattr(array, "dims", None), tuple):
        names = array.dims
    return list(map(str, names)) if names and all(names) else None


def name_axes(axes: Sequence[Any]) -> list[str]:
    """Return the kind of each axis by its name; unknown names stay as they are.

    Examples
    --------
    >>> name_axes("TCYX")
    ['time', 'channel', 'y', 'x']
    """
    return [_CALLED.get(str(axis).lower(), str(axis)) for axis in axes]


def pick_frames(
    axes: Sequence[Any], shape: Sequence[int], choice: Choice, label: str, name: str
) -> Frames:
    """Return how images with named axes become frames.

    Time is found by its name. Axes of length 1 are dropped; of each other axis, `choice` names
    the entry to take.

    Parameters
    ----------
    axes : sequence of str
        Name of each axis.
    shape : sequence of int
    choice : Choice
        Its channel and position.
    label : str
        Name of the array in errors.
    name : str
        A Python expression for the array, for advice.

    Raises
    ------
    ValueError
        If no axis is time, if an axis has several entries and none is chosen, or if the chosen
        entry does not exist. The message lists the choices.
    """
    names = name_axes(axes)
    if "y" in names and "x" in names:
        y, x = names.index("y"), names.index("x")
    else:  # unknown names, such as latitude and longitude
        known = set(NAMES) - {"y", "x"}
        spatial = [axis for axis, each in enumerate(names) if each not in known]
        y, x = spatial[-2:] if len(spatial) > 1 else (len(names) - 2, len(names) - 1)
    others = [axis for axis in range(len(names)) if axis not in (y, x)]
    time = _time_of(names, shape, others, label)
    wanted: dict[str, int | None] = {"channel": choice.channel, "position": choice.position}
    index: list[int | slice] = [slice(None)] * len(names)
    left: list[int] = []
    for axis in others:
        if axis == time:
            continue
        chosen = wanted.pop(names[axis], None)
        index[axis] = chosen or 0
        if chosen is None and shape[axis] > 1:
            left.append(axis)
        elif chosen is not None and not 0 <= chosen < shape[axis]:
            raise ValueError(
                f"{label}: there is no {names[axis]}={chosen}; choose from 0 to {shape[axis] - 1}"
            )
    for what, chosen in wanted.items():
        if chosen is not None and what not in names:
            raise ValueError(
                f"{label}: has no {what} to choose, but {what}={chosen} is given; leave it out"
            )
    if time is None or left:
        raise ValueError(_several(names, shape, time, left, (y, x), label, name))
    three = sorted((time, y, x))
    order = (three.index(time), three.index(y), three.index(x))
    return Frames(tuple(index), order)


def _time_of(names: list[str], shape: Sequence[int], others: list[int], label: str) -> int | None:
    """Return which axis is that of time."""
    if "time" in names:
        return names.index("time")
    unknown = [axis for axis in others if names[axis] not in NAMES and shape[axis] > 1]
    if len(unknown) == 1:
        return unknown[0]
    long = [axis for axis in others if shape[axis] > 1]
    if not unknown and len(long) == 1 and names[long[0]] == "z":
        warn(
            f"{label}: no axis is named time; the axis of {shape[long[0]]} planes (z) is taken as "
            "time, as many programs save films like that"
        )
        return long[0]
    return None


def _several(
    names: list[str],
    shape: Sequence[int],
    time: int | None,
    left: list[int],
    across: tuple[int, int],
    label: str,
    name: str,
) -> str:
    """Return an error message on images of more axes: how to choose, or what to hand over."""
    named = ", ".join(f"{length} {each}" for each, length in zip(names, shape, strict=True))
    begin = f"{label}: holds images of shape {tuple(shape)} ({named}), and not (N, H, W)"
    link = "," if time is None else ";"
    if time is None:
        if not left:
            return f"{begin}{what_fits((shape[across[0]], shape[across[1]]))}"
        if [(names[axis], shape[axis] in COLOURS) for axis in left] == [("channel", True)]:
            return f"{begin}{COLOUR_ADVICE}"
        if all(names[axis] not in NAMES for axis in left):
            return f"{begin}{what_fits(shape, name)}"
        time, *left = left
        begin += f"; no axis is named time; if {names[time]} is time"
    sorts = list(dict.fromkeys(names[axis] for axis in left))
    said = "".join(
        f"; choose {each}=0 to {each}={shape[names.index(each)] - 1}"
        for each in sorts
        if each in ("channel", "position")
    )
    what = " and ".join("plane" if each == "z" else each for each in sorts)
    what = f"one {what}" if what else "it"
    taken = _as_frames(name, len(names), (time, *across))
    return f"{begin}{said}{', or' if said else link} take {what}, such as {taken}"


def _as_frames(name: str, count: int, wanted: tuple[int, int, int]) -> str:
    """Return a Python expression for the frames of an array of more axes: entry 0 of the others."""
    kept = sorted(wanted)
    taken = name + _written([slice(None) if axis in kept else 0 for axis in range(count)])
    if tuple(kept) == wanted:
        return taken
    return f"numpy.transpose({taken}, {tuple(kept.index(axis) for axis in wanted)})"


def _written(index: Sequence[int | slice]) -> str:
    """Return an index as Python code, without full slices at its end or beginning."""
    single = [axis for axis, entry in enumerate(index) if not isinstance(entry, slice)]
    if not single:
        return ""
    if single == [len(index) - 1]:
        return f"[..., {index[-1]}]"
    entries = index[: max(single) + 1]
    return f"[{', '.join(':' if isinstance(each, slice) else str(each) for each in entries)}]"


class PickedAxes:
    """The frames of an array of more axes, read when they are sliced.

    Parameters
    ----------
    array : array-like
        It has ``shape``, ``dtype``, slicing, and perhaps ``chunks``.
    frames : Frames
        How its axes become those of frames.
    """

    def __init__(self, array: Any, frames: Frames) -> None:
        self.array = array
        self.frames = frames
        kept = [axis for axis, entry in enumerate(frames.entries) if isinstance(entry, slice)]
        self.axes = [kept[place] for place in frames.order]
        self.dtype = array.dtype
        chunks = getattr(array, "chunks", None)
        if isinstance(chunks, tuple):
            self.chunks = tuple(chunks[axis] for axis in self.axes)

    @property
    def shape(self) -> tuple[int, ...]:
        """``(N, H, W)``."""
        return tuple(self.array.shape[axis] for axis in self.axes)

    def __getitem__(self, key: Any) -> NDArray[Any]:
        keys = key if isinstance(key, tuple) else (key,)
        index = list(self.frames.entries)
        for axis, part in zip(self.axes, keys, strict=False):
            index[axis] = part
        frames: NDArray[Any] = np.asanyarray(self.array[tuple(index)])
        return frames.transpose(self.frames.order)


def is_of_zarr(array: Any) -> bool:
    """Whether an array, or the one whose axes were picked, is one of Zarr."""
    inner = array.array if isinstance(array, PickedAxes) else array
    return type(inner).__module__.partition(".")[0] == "zarr" and hasattr(inner, "store")
