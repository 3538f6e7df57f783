"""The whole method on one page: from frames to a background image for each of them."""

import logging
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sparsemed.frames.arrays import PickedFrames
from sparsemed.frames.opening import open_frames
from sparsemed.frames.source import FrameSource
from sparsemed.hdf5.entries import Policy, check_policy
from sparsemed.kernels.cores import check_num_cpus
from sparsemed.method.cleansing import cleanse
from sparsemed.method.offsets import band_means, offsets
from sparsemed.method.scan import pick, scan
from sparsemed.method.time_axis import (
    assign_frames,
    require_axis,
    step_times,
    time_axis,
    window_starts,
)
from sparsemed.parameters import Parameters
from sparsemed.progress import Progress, following, ignore
from sparsemed.quality import Finding, assess, take_sample
from sparsemed.rtdc.measurement import Measurement, naming_damage
from sparsemed.rtdc.output import write_background

if TYPE_CHECKING:
    from matplotlib.figure import Figure

logger = logging.getLogger(__name__)


def compute_background(
    images: Any,
    time: ArrayLike | None = None,
    *,
    frame_rate: float | None = None,
    kernel_size: int = 200,
    split_time: float = 1.0,
    thresh_cleansing: float = 0,
    frac_cleansing: float = 0.8,
    offset_correction: bool = True,
    num_cpus: int | None = None,
    progress: Progress | bool | None = None,
    basins: Policy = "any",
) -> "SparseBackground":
    """Compute a background image for every frame.

    Every `split_time` seconds the median of `kernel_size` frames makes one
    background image; images that still show cells are dropped; each frame is
    given one of those that are left, and a brightness offset.

    Parameters
    ----------
    images : array-like of shape (N, H, W), or str or path
        Frames: a NumPy, Dask or Zarr array, an ``h5py.Dataset``, or anything
        with ``shape``, ``dtype`` and slicing; or the path of a measurement
        (``.rtdc``). uint8 or uint16; floats if every value is whole and from 0
        to 255. An array that is stored in blocks is read block by block, each
        block once.
    time : array-like, shape (N,), seconds, optional
        Time of each frame. For a measurement the default is its own time axis;
        for an array it is a guess from the number of frames, which is logged.
    frame_rate : float, Hz, optional
        Rate of the camera. It counts only where the time is unknown. As measurements hold
        only frames with events, they are taken to last 1.5 times as long as
        their frames; for gapless frames give ``time=numpy.arange(N) / rate``.
    kernel_size : int
        Frames in the window that a background image is the median of.
    split_time : float, seconds
        Time from one background image to the next.
    thresh_cleansing : float
        Divides the cleansing threshold: larger values drop more background
        images. 0 keeps the fixed fraction `frac_cleansing`.
    frac_cleansing : float
        Fraction of the background images to keep; 1 keeps all.
    offset_correction : bool
        Whether to compute a brightness offset for each frame.
    num_cpus : int, optional
        Largest number of threads. Default: all cores available.
    progress : True or callable, optional
        True shows a bar, in a terminal or a notebook. A callable gets the
        fraction done, a float: first 0, last 1, at most 20 a second.
    basins : {"any", "same-folder", "off"}
        Which other files a measurement may make the program open. Its *basins* refer
        to other files, and so may links, external storage and virtual datasets in it.
        ``"any"``: those files may be anywhere, as results of dcnum, ChipStream and
        sparsemed refer to measurements anywhere. ``"same-folder"``: they must lie
        directly in the folder of the measurement, once symbolic links are resolved.
        ``"off"``: no other file is opened. In any case they must be regular files (no
        pipes, no devices) and are not changed. Choose ``"same-folder"`` or ``"off"``
        for files from people you do not trust.

    Returns
    -------
    SparseBackground

    Raises
    ------
    ValueError
        If there are no frames, or their number changes while they are read; if
        a time axis does not fit them or is not finite; if a parameter is out
        of its range; or if the images are in a file that `basins` does not allow.
    TypeError
        If the images are no array, or of a dtype that cannot be used, or if
        `progress` is none of the above.
    OSError
        If a measurement cannot be read.

    Examples
    --------
    >>> import numpy as np
    >>> import sparsemed
    >>> images = np.full((100, 40, 60), 90, dtype=np.uint8)
    >>> images[50:] += 8  # someone turned up the lamp
    >>> background = sparsemed.compute_background(
    ...     images, time=np.arange(100) / 10, kernel_size=10, frac_cleansing=1)
    >>> background
    SparseBackground(100 frames of 40 × 60, 10 of 10 background images kept)
    >>> int(background[20][0, 0]), int(background[80][0, 0])
    (90, 98)
    """
    parameters = Parameters(
        kernel_size, split_time, thresh_cleansing, frac_cleansing, offset_correction
    )
    num_cpus = check_num_cpus(num_cpus)
    check_policy(basins)
    if not isinstance(images, (str, PathLike)):
        frames = open_frames(images, num_cpus)
        axis = time_axis(frames.shape[0], time=time, frame_rate=frame_rate)
        with following(progress, frames.shape[0]) as report:
            return compute(frames, axis, parameters, num_cpus, report)
    with Measurement(images, basins) as measurement:
        frames = measurement_frames(measurement, num_cpus)
        if time is None:
            axis = measurement_time(measurement, frame_rate)
        else:
            axis = time_axis(frames.shape[0], time=time)
        with following(progress, frames.shape[0]) as report:
            background = compute(
                frames, axis, parameters, num_cpus, report, measurement.path, basins
            )
            measurement.check_unchanged()
        return background


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


def compute(
    frames: FrameSource,
    time: NDArray[Any],
    parameters: Parameters,
    num_cpus: int | None = None,
    report: Progress = ignore,
    source: Path | None = None,
    basins: Policy = "any",
) -> "SparseBackground":
    """Compute a background from frames and their time axis: the method itself."""
    steps = step_times(time, parameters.split_time, str(source or "time"))
    length = window_length(parameters.kernel_size, time)
    starts = window_starts(time, steps, length)

    report(0.0)
    try:
        series, frame_means = scan(
            frames,
            starts,
            length,
            with_bands=bool(parameters.offset_correction),
            num_cpus=num_cpus,
            report=report,
        )
    except MemoryError as error:
        count, height, width = frames.shape
        raise ValueError(
            f"{source or 'images'}: {count} frames of {height} × {width} pixels do not fit into "
            f"memory with windows of {length} frames and {len(steps)} background images ({error}); "
            "take a smaller kernel_size or a larger split_time"
        ) from error
    kept, score, threshold = cleanse(series, parameters.thresh_cleansing, parameters.frac_cleansing)
    images = series if kept.all() else pick(series, np.flatnonzero(kept))
    frame_index = assign_frames(time, steps[kept], parameters.split_time)
    bg_off = None
    if frame_means is not None:
        bg_off = offsets(frame_means, band_means(images), frame_index)
    report(1.0)
    return SparseBackground(
        images=images,
        frame_index=frame_index,
        offsets=bg_off,
        time=time,
        series=series,
        step_times=steps,
        kept=kept,
        score=score,
        threshold=threshold,
        parameters=parameters,
        source=source,
        basins=basins,
    )


def window_length(kernel_size: int, time: NDArray[Any]) -> int:
    """Return the frames in a window: `kernel_size`, or all where they are fewer or span no time."""
    count = len(time)
    if time[-1] <= time[0]:
        logger.warning("The time axis spans no time; all frames make one background image")
        return count
    if kernel_size > count:
        logger.warning(
            "kernel_size %d is more than the %d frames there are: all are used", kernel_size, count
        )
    return min(int(kernel_size), count)  # NumPy's small integers overflow in what is made of it


@dataclass(frozen=True, eq=False, repr=False)
class SparseBackground:
    """A background image for each of N frames, and how it came about.

    ``background[i]`` is the background image of frame ``i``, and
    ``background[i:j]`` those of several frames.

    Attributes
    ----------
    images : ndarray, shape (M', H, W), dtype of the frames
        The background images that cleansing kept.
    frame_index : ndarray of int64, shape (N,)
        For each frame, its background image in `images`.
    offsets : ndarray of float64, shape (N,), or None
        Brightness offset of each frame, in grey values. Image plus offset is
        the background of a frame under a flickering lamp.
    time : ndarray, shape (N,), seconds
        Time of each frame; the first is at 0.
    series : ndarray, shape (M, H, W)
        All background images, before cleansing.
    step_times : ndarray, shape (M,), seconds
        Time of each image of `series`.
    kept : ndarray of bool, shape (M,)
        Which images of `series` cleansing kept.
    score : ndarray of float64, shape (M,)
        Score of each image of `series`; large where cells are left.
    threshold : float
        Images with a score up to this are kept; infinite when cleansing was off.
    parameters : Parameters
        What the background was computed with.
    source : Path or None
        The measurement that the frames are from.
    basins : str
        Which other files it may lead to, when it is read again; see `compute_background`.
    """

    images: NDArray[Any]
    frame_index: NDArray[np.int64]
    offsets: NDArray[np.float64] | None
    time: NDArray[Any]
    series: NDArray[Any]
    step_times: NDArray[Any]
    kept: NDArray[np.bool_]
    score: NDArray[np.float64]
    threshold: float
    parameters: Parameters = field(default_factory=Parameters)
    source: Path | None = None
    basins: Policy = "any"

    def __len__(self) -> int:
        return len(self.frame_index)

    def __getitem__(self, frames: int | slice | NDArray[Any]) -> NDArray[Any]:
        chosen: NDArray[Any] = self.images[self.frame_index[frames]]
        return chosen

    def __repr__(self) -> str:
        _, height, width = self.images.shape
        return (
            f"SparseBackground({len(self)} frames of {height} × {width}, "
            f"{len(self.images)} of {len(self.series)} background images kept)"
        )

    def subtract(self, images: ArrayLike, start: int = 0) -> NDArray[Any]:
        """Return frames less their background.

        Parameters
        ----------
        images : array-like, shape (n, H, W)
            Consecutive frames.
        start : int
            Number of the first of them.

        Returns
        -------
        ndarray, shape (n, H, W)
            Signed differences: float64 with offsets, otherwise int16 for uint8
            and int32 for uint16 frames.

        Raises
        ------
        ValueError
            If the images are not of shape (n, H, W), or some are beyond the
            frames of this background.

        Examples
        --------
        >>> import numpy as np
        >>> import sparsemed
        >>> images = np.full((10, 40, 60), 90, dtype=np.uint8)
        >>> images[3, 20, 30] = 70  # a very small cell
        >>> background = sparsemed.compute_background(images, offset_correction=False)
        >>> int(background.subtract(images[3:5], start=3).min())
        -20
        """
        frames = np.asarray(images)
        if frames.ndim != 3 or frames.shape[1:] != self.images.shape[1:]:
            height, width = self.images.shape[1:]
            raise ValueError(f"images: shape must be (n, {height}, {width}), got {frames.shape}")
        stop = start + len(frames)
        if not 0 <= start <= stop <= len(self):
            raise ValueError(f"frames {start} to {stop} are not within the {len(self)} frames")
        signed = np.result_type(frames.dtype, self.images.dtype, np.int16)
        difference: NDArray[Any] = frames.astype(signed) - self[start:stop]
        if self.offsets is not None:
            difference = difference - self.offsets[start:stop, np.newaxis, np.newaxis]
        return difference

    def quality(self, images: Any = None) -> tuple[Finding, ...]:
        """Say what is good about this background, and where to look.

        Parameters
        ----------
        images : array-like, shape (N, H, W), optional
            The frames that the background was computed from; a few are compared with it.
            Default: those of the measurement `source`. Without frames, what needs them is
            left out.

        Returns
        -------
        tuple of Finding
            Each has a ``title``, the number in words (``text``), a ``verdict`` (``"good"``
            or ``"look here"``) and, where it is not good, an ``advice``: what to change.
            ``str(finding)`` says it all.

        Raises
        ------
        ValueError
            If the images do not fit the background.

        Examples
        --------
        >>> import numpy as np
        >>> import sparsemed
        >>> images = np.full((400, 40, 60), 90, dtype=np.uint8)
        >>> images[::3] += 8  # the lamp flickers
        >>> background = sparsemed.compute_background(
        ...     images, time=np.arange(400) / 100, offset_correction=False)
        >>> print(background.quality(images)[0])
        look here: Flicker of the lamp: 16 of 48 frames (33 %)
          → The lamp flickers and nothing corrects it: offset_correction=True.
        """
        return assess(self, take_sample(self, images))

    def plot(self, images: Any = None) -> "Figure":
        """Draw a page of pictures: verdicts, series, cleansing, offsets, a frame, and noise.

        Needs matplotlib (``pip install sparsemed[plot]``).

        Parameters
        ----------
        images : array-like, shape (N, H, W), optional
            As for `quality`.

        Returns
        -------
        matplotlib.figure.Figure
            A notebook shows it as the last line of a cell; ``savefig`` writes it to a file.

        Raises
        ------
        ValueError
            If the images do not fit the background.
        ImportError
            If matplotlib is missing.
        """
        try:
            from sparsemed.plotting import plot
        except ModuleNotFoundError as error:
            raise ImportError(f'{error}: pip install "sparsemed[plot]"') from error
        return plot(self, take_sample(self, images))

    def _repr_html_(self) -> str:
        from sparsemed.report.notebook import html_table

        return html_table(self)

    def save(self, path: str | PathLike[str], *, compress: bool = True) -> None:
        """Write the background to a measurement file, as dcnum does.

        The file holds ``image_bg`` and, with offsets, ``bg_off``. A new file
        also refers to the measurement that the frames are from. An existing
        file, which may be that measurement itself, keeps all it has but for
        an earlier background.

        Parameters
        ----------
        path : str or path
            The file. It changes wholly or not at all.
        compress : bool
            Whether to compress the images (Zstandard).

        Raises
        ------
        OSError
            If the file cannot be written.
        ValueError
            If an existing file holds another number of frames.
        """
        write_background(
            path,
            images=self.images,
            frame_index=self.frame_index,
            offsets=self.offsets,
            parameters=self.parameters,
            source=self.source,
            compress=compress,
        )
