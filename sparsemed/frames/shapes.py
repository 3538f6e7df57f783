"""Advice on images whose axes are not number, height and width."""

from collections.abc import Sequence

COLOURS = (3, 4)
"""Lengths of an axis of colours, without and with transparency."""

COLOUR_ADVICE = (
    "; make one array of one channel of many images, such as "
    "numpy.stack([image[..., 0] for image in list_of_images])"
)
"""Advice on a single image in colour."""

LEAST_WIDTH = 100
"""From this length on, both axes before one of colours are height and width of one image."""


def is_one_in_colour(shape: Sequence[int]) -> bool:
    """Whether a shape is that of a single image in colour, rather than of very narrow frames."""
    return len(shape) == 3 and shape[2] in COLOURS and min(shape[:2]) >= LEAST_WIDTH


def what_fits(shape: Sequence[int], name: str = "frames") -> str:
    """Return how to make frames from images of another shape, as the end of a sentence, or nothing.

    Examples
    --------
    >>> what_fits((500, 80, 320, 3))
    '; take one channel, such as frames[..., 0]'
    >>> what_fits((500, 1, 80, 320))
    '; take frames[:, 0]'
    >>> what_fits((2, 500, 1, 80, 320))
    '; take one channel or plane, such as frames[0, :, 0]'
    >>> what_fits((80, 320))
    '; make one array of many images, such as numpy.stack(list_of_images)'
    """
    if len(shape) == 2:
        return "; make one array of many images, such as numpy.stack(list_of_images)"
    if is_one_in_colour(shape):
        return COLOUR_ADVICE
    if len(shape) < 4:
        return ""
    single = [axis for axis, length in enumerate(shape) if length == 1]
    if len(single) >= len(shape) - 3:
        return f"; take {name}[{_first_of(single[: len(shape) - 3], len(shape))}]"
    if len(shape) == 4 and shape[3] <= max(COLOURS):
        return f"; take one channel, such as {name}[..., 0]"
    outer = range(len(shape) - 2)
    longest = max(outer, key=lambda axis: shape[axis])  # there are more frames than channels
    left = [axis for axis in outer if axis != longest]
    return f"; take one channel or plane, such as {name}[{_first_of(left, len(shape))}]"


def frames_last(shape: tuple[int, int, int]) -> str:
    """Return advice on how to make the last axis of images the first."""
    count, height, width = shape
    return (
        f"images of shape {shape} are {count} frames of {height} × {width}; if the last axis "
        "numbers them, hand over numpy.moveaxis(frames, -1, 0)"
    )


def _first_of(axes: Sequence[int], count: int) -> str:
    """Return the index that takes entry 0 of each of these axes."""
    if list(axes) == [count - 1]:
        return "..., 0"
    return ", ".join("0" if axis in axes else ":" for axis in range(max(axes) + 1))
