"""Colours and sizes of all figures."""

from io import BytesIO
from typing import Any

from matplotlib.figure import Figure

BLUE = "#0072B2"

ORANGE = "#E69F00"

VERMILION = "#D55E00"

WIDTH = 8.0
"""Width of all figures in inches."""

NARROW = 4.2
"""Width in inches of a figure for a phone; letters have the same size."""

COURSE_HEIGHT = 2.1
"""Height of a figure over time in inches."""

GREY_VALUES = "grey values"

TIME = "time (s)"

TEXT: dict[str, Any] = {"fontsize": 9}

SMALL: dict[str, Any] = {"fontsize": 8}


class Picture(Figure):
    """A figure that notebooks show without pyplot."""

    def _repr_png_(self) -> bytes:
        file = BytesIO()
        self.savefig(file, format="png")
        return file.getvalue()
