"""Axes that have names: which numbers the frames, and what is chosen of the others."""

from collections.abc import Sequence
from typing import Any, NamedTuple

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
"""How axes are called, as microscopes (letters) and people (words) write it."""

_CALLED = {name: axis for axis, names in NAMES.items() for name in names}


class Choice(NamedTuple):
    """Which of several stacks in one file is meant; None where there is but one.

    Attributes
    ----------
    series : int or None
        Number of a series of images, as TIFF has them.
    channel : int or None
        Number of a channel, or of a colour.
    position : int or None
        Number of a position of the stage.
    dataset : str or None
        Name of an array in a group of Zarr's, or of a dataset in an HDF5 file.
    """

    series: int | None = None
    channel: int | None = None
    position: int | None = None
    dataset: str | None = None

    def only(self, label: str, *names: str) -> None:
        """Check that nothing is chosen but what these names say.

        Raises
        ------
        ValueError
            If something is.
        """
        for name, value in self._asdict().items():
            if value is not None and name not in names:
                raise ValueError(f"{label}: has no {name} to choose, but {name}={value} is given")


ANY = Choice()
"""Nothing is chosen, as where there is but one stack."""


class Frames(NamedTuple):
    """How images of several named axes become frames.

    Attributes
    ----------
    entries : tuple of int or slice
        What is taken of each axis: all of it for three axes, one entry for the others.
    order : tuple of int
        Where number, height and width of the frames are among the three that are left.
    """

    entries: tuple[int | slice, ...]
    order: tuple[int, int, int]

    def of(self, images: Any) -> Any:
        """Return the frames of an array of NumPy's kind, without copying."""
        return images[self.entries].transpose(self.order)


def name_axes(axes: Sequence[Any]) -> list[str]:
    """Return what axes are, by their names; those that nobody knows keep theirs.

    Examples
    --------
    >>> name_axes("TCYX")
    ['time', 'channel', 'y', 'x']
    """
    return [_CALLED.get(str(axis).lower(), str(axis)) for axis in axes]


def pick_frames(
    axes: Sequence[Any], shape: Sequence[int], choice: Choice, label: str, name: str
) -> Frames:
    """Say how images whose axes have names become frames.

    Time is found by its name. Axes of length 1 are dropped; of the others, `choice` has to say
    which entry is meant.

    Parameters
    ----------
    axes : sequence of str
        Name of each axis.
    shape : sequence of int
    choice : Choice
        Its channel and position.
    label : str
        What errors call the images.
    name : str
        How one writes the array of these images in Python, for advice.

    Raises
    ------
    ValueError
        If no axis is that of time, if more than one entry of another may be meant, or if there
        is no such entry as was chosen. The message says what there is.
    """
    names = name_axes(axes)
    if "y" in names and "x" in names:
        y, x = names.index("y"), names.index("x")
    else:  # as latitude and longitude, which nobody here knows
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
                f"{label}: {names[axis]}={chosen} is not there; they count from 0 to "
                f"{shape[axis] - 1}"
            )
    for what, chosen in wanted.items():
        if chosen is not None and what not in names:
            raise ValueError(f"{label}: has no {what} to choose, but {what}={chosen} is given")
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
            f"{label}: no axis is called time; that of {shape[long[0]]} planes (z) is taken for "
            "it, as many programs save films like that"
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
    """Say what else there is than frames, how to choose, and what to hand over."""
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
        begin += f"; no axis is called time; if {names[time]} is that"
    sorts = list(dict.fromkeys(names[axis] for axis in left))
    said = "".join(
        f"; say which {each} is meant, {each}=0 to {each}={shape[names.index(each)] - 1}"
        for each in sorts
        if each in ("channel", "position")
    )
    what = " and ".join("plane" if each == "z" else each for each in sorts)
    what = f"one {what}" if what else "it"
    taken = _as_frames(name, len(names), (time, *across))
    return f"{begin}{said}{', or' if said else link} take {what}, such as {taken}"


def _as_frames(name: str, count: int, wanted: tuple[int, int, int]) -> str:
    """Return how one writes the frames of an array of more axes, the first of all others."""
    kept = sorted(wanted)
    taken = name + _written([slice(None) if axis in kept else 0 for axis in range(count)])
    if tuple(kept) == wanted:
        return taken
    return f"numpy.transpose({taken}, {tuple(kept.index(axis) for axis in wanted)})"


def _written(index: Sequence[int | slice]) -> str:
    """Return an index as it is written, without what means all at its end or beginning."""
    single = [axis for axis, entry in enumerate(index) if not isinstance(entry, slice)]
    if not single:
        return ""
    if single == [len(index) - 1]:
        return f"[..., {index[-1]}]"
    entries = index[: max(single) + 1]
    return f"[{', '.join(':' if isinstance(each, slice) else str(each) for each in entries)}]"


class PickedAxes:
    """The frames of an array of more axes, read when they are asked for.

    Parameters
    ----------
    images : array-like
        What has ``shape``, ``dtype``, perhaps ``chunks``, and slicing.
    frames : Frames
        How its axes become those of frames.
    """

    def __init__(self, images: Any, frames: Frames) -> None:
        self.images = images
        self.frames = frames
        kept = [axis for axis, entry in enumerate(frames.entries) if isinstance(entry, slice)]
        self._axes = [kept[place] for place in frames.order]
        self.dtype = images.dtype
        chunks = getattr(images, "chunks", None)
        if isinstance(chunks, tuple):
            self.chunks = tuple(chunks[axis] for axis in self._axes)

    @property
    def shape(self) -> tuple[int, ...]:
        """``(N, H, W)``."""
        return tuple(self.images.shape[axis] for axis in self._axes)

    def __getitem__(self, key: Any) -> NDArray[Any]:
        keys = key if isinstance(key, tuple) else (key,)
        index = list(self.frames.entries)
        for axis, part in zip(self._axes, keys, strict=False):
            index[axis] = part
        frames: NDArray[Any] = np.asanyarray(self.images[tuple(index)])
        return frames.transpose(self.frames.order)
