"""Colours and sizes that all pictures share."""

from io import BytesIO
from typing import Any

from matplotlib.figure import Figure

BLUE = "#0072B2"

ORANGE = "#E69F00"

VERMILION = "#D55E00"

WIDTH = 8.0
"""Width of all pictures in inches."""

COURSE_HEIGHT = 2.1
"""Height of a picture of something over time in inches."""

GREY_VALUES = "grey values"

TIME = "time (s)"

TEXT: dict[str, Any] = {"fontsize": 9}

SMALL: dict[str, Any] = {"fontsize": 8}


class Picture(Figure):
    """A figure that a notebook shows, though pyplot does not know it."""

    def _repr_png_(self) -> bytes:
        file = BytesIO()
        self.savefig(file, format="png")
        return file.getvalue()
