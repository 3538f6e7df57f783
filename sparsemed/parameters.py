"""The five parameters of the method, their defaults and their ranges."""

import math
from dataclasses import dataclass
from numbers import Integral

import numpy as np


@dataclass(frozen=True)
class Parameters:
    """The parameters of the method.

    Parameters
    ----------
    kernel_size : int
        Number of frames in the window of which a background image is the median; from 1 up.
    split_time : float
        Seconds from one background image to the next; above 0.
    thresh_cleansing : float
        Divides the cleansing threshold: larger values drop more background
        images. From 0 up; 0 keeps the fixed fraction `frac_cleansing`.
    frac_cleansing : float
        Fraction of the background images that cleansing keeps (a quantile: of few
        images, it may keep one less); above 0, at most 1. With 1, cleansing is off.
    offset_correction : bool
        Whether each frame gets a brightness offset (``bg_off``).

    Raises
    ------
    ValueError
        If a value is of a wrong type or out of its range.

    Examples
    --------
    >>> Parameters(split_time=-1)
    Traceback (most recent call last):
    ...
    ValueError: split_time must be a number above 0 (seconds), got -1
    """

    kernel_size: int = 200
    split_time: float = 1.0
    thresh_cleansing: float = 0
    frac_cleansing: float = 0.8
    offset_correction: bool = True

    def __str__(self) -> str:
        """Return the parameters of windows and cleansing as text."""
        return (
            f"kernel_size={self.kernel_size}, split_time={self.split_time:g}, "
            f"thresh_cleansing={self.thresh_cleansing:g}, frac_cleansing={self.frac_cleansing:g}"
        )

    def __post_init__(self) -> None:
        """Check all values; they are kept as given."""
        _require(
            "kernel_size",
            self.kernel_size,
            _is_whole(self.kernel_size) and self.kernel_size >= 1,
            "a whole number from 1 up (frames)",
        )
        _require(
            "split_time",
            self.split_time,
            _is_finite(self.split_time) and self.split_time > 0,
            "a number above 0 (seconds)",
        )
        _require(
            "thresh_cleansing",
            self.thresh_cleansing,
            _is_finite(self.thresh_cleansing) and self.thresh_cleansing >= 0,
            "a number from 0 up",
        )
        _require(
            "frac_cleansing",
            self.frac_cleansing,
            _is_finite(self.frac_cleansing) and 0 < self.frac_cleansing <= 1,
            "a number above 0 and at most 1",
        )
        _require(
            "offset_correction",
            self.offset_correction,
            isinstance(self.offset_correction, (bool, np.bool_))
            or (_is_whole(self.offset_correction) and self.offset_correction in (0, 1)),
            "True or False",
        )


def _require(name: str, value: object, fine: bool, range_: str) -> None:
    if not fine:
        raise ValueError(f"{name} must be {range_}, got {value!r}")


def _is_whole(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _is_finite(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond all floats
        return False
