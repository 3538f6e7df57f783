"""Compute the background of a path or an array; the result can be judged, shown and saved."""

from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

import numpy as np
from numpy.typing import ArrayLike

from sparsemed.frames.arrays import holds_floats
from sparsemed.frames.labelled import as_frames, own_times
from sparsemed.frames.opening import open_frames
from sparsemed.frames.parts import array_part, stack_part
from sparsemed.frames.stacks import open_stack, require_readable, stack_kind
from sparsemed.hdf5.file_access import Policy, check_policy
from sparsemed.install_hint import how_to_install
from sparsemed.kernels.cores import check_num_cpus
from sparsemed.method.compute import compute, plan
from sparsemed.method.narrowing import narrowing
from sparsemed.method.offsets import BAND_ROWS, check_offset_rows
from sparsemed.method.ranges import scanning
from sparsemed.method.result import Background
from sparsemed.method.time_axis import array_time, time_axis
from sparsemed.parameters import Parameters
from sparsemed.progress import Progress, following
from sparsemed.quality import assess
from sparsemed.quality.finding import Finding
from sparsemed.quality.sample import take_sample
from sparsemed.report import write_report
from sparsemed.report.notebook import html_table
from sparsemed.rtdc.inputs import measurement_frames, measurement_part, measurement_time
from sparsemed.rtdc.measurement import Measurement
from sparsemed.rtdc.output import write_background
from sparsemed.warned import keeping_warnings

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from distributed import Client
    from matplotlib.figure import Figure


def compute_background(
    frames: Any,
    time: ArrayLike | None = None,
    *,
    frame_rate: float | None = None,
    kernel_size: int = 200,
    split_time: float = 1.0,
    thresh_cleansing: float = 0,
    frac_cleansing: float = 0.8,
    offset_correction: bool = True,
    offset_rows: int = BAND_ROWS,
    num_cpus: int | None = None,
    progress: Progress | bool | None = None,
    basins: Policy = "any",
    executor: Union["Executor", "Client", None] = None,
    ranges: int | None = None,
) -> "SparseBackground":
    """Compute a background image for every frame.

    Every `split_time` seconds the median of `kernel_size` frames makes one
    background image; images that still show cells are dropped; each frame is
    given one of those that are left, and a brightness offset.

    Parameters
    ----------
    frames : array-like of shape (N, H, W), or str or path
        Frames: a NumPy, Dask or Zarr array, an ``h5py.Dataset``, or anything
        with ``shape``, ``dtype`` and slicing; or the path of a measurement
        (``.rtdc``), or of a TIFF or Zarr stack, which counts as an array
        (``pip install tifffile``, ``zarr``). uint8 or uint16; floats if every value
        is whole and from 0 to 255. An array that is stored in blocks is read block by
        block, each block once.
    time : array-like, shape (N,), seconds, optional
        Time of each frame. For a measurement the default is its own time axis;
        for an array it is a guess from the number of frames, with a warning.
    frame_rate : float, Hz, optional
        Rate of the camera. It counts only where the time is unknown. Frames of an array
        are taken to follow each other without gaps: frame ``i`` at ``i / frame_rate``. A
        measurement holds only frames with events, so it is taken to last 1.5 times as
        long as its frames.
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
    offset_rows : int
        First rows of a frame, from which its offset is taken. Nothing may pass there that is
        no background. It can be chosen for arrays only: results of measurements are known by
        their parameters, and this is none of them.
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
    executor : concurrent.futures.Executor or dask.distributed.Client, optional
        Who passes over the frames, in ranges: processes on this machine, or workers of a
        cluster. Each range reads its own frames and those of its last windows; medians and
        brightness come back, and all else is done here. The result is the same, to the bit.
        Of a file, workers are told the path, under which they must see it; of an array, they
        are sent the frames, or what leads to them (Dask, Zarr). `num_cpus` holds for each
        range; by default it is all threads of a worker of Dask's, or an even share of the
        cores for each process of a pool.
    ranges : int, optional
        How many ranges. Default: what suits size and number of workers. Without an
        `executor` they are done here, one after the other.

    Returns
    -------
    SparseBackground

    Raises
    ------
    ValueError
        If there are no frames, or their number changes while they are read; if
        a time axis does not fit them or is not finite; if a parameter is out
        of its range; or if the frames are in a file that `basins` does not allow.
    TypeError
        If the frames are no array, or of a dtype that cannot be used, or if
        `progress` or `executor` is none of the above.
    OSError
        If a measurement or stack cannot be read, or if workers are lost or have another
        version of sparsemed.
    ImportError
        If a library that reads a stack is missing.

    Warns
    -----
    BackgroundWarning
        If something about frames, time or parameters is odd. The texts are also kept in
        ``background.warnings``.

    Examples
    --------
    >>> import numpy as np
    >>> import sparsemed
    >>> frames = np.full((100, 40, 60), 90, dtype=np.uint8)
    >>> frames[50:] += 8  # someone turned up the lamp
    >>> background = sparsemed.compute_background(
    ...     frames, time=np.arange(100) / 10, kernel_size=10, frac_cleansing=1)
    >>> background
    SparseBackground(100 frames of 40 × 60, 10 of 10 background images kept)
    >>> int(background[20][0, 0]), int(background[80][0, 0])
    (90, 98)
    """
    parameters = Parameters(
        kernel_size, split_time, thresh_cleansing, frac_cleansing, offset_correction
    )
    offset_rows = check_offset_rows(offset_rows)
    cores = check_num_cpus(num_cpus)
    check_policy(basins)
    path = Path(frames) if isinstance(frames, (str, PathLike)) else None
    if path is None or stack_kind(path) is not None:
        label = "frames" if path is None else str(path)
        opened = nullcontext(frames) if path is None else open_stack(path, cores)
        with keeping_warnings() as warned, opened as array:
            array = as_frames(array, label=label)
            if time is None and frame_rate is None:
                time, frame_rate = own_times(array)
            open_part = partial(array_part, array) if path is None else stack_part(path)
            passing = scanning(executor, open_part, ranges, num_cpus)
            source = open_frames(array, cores, label, np.uint16)
            if holds_floats(array):
                passing = narrowing(passing)
            axis = array_time(source.shape, time, frame_rate, int(kernel_size))
            planned = plan(axis, parameters)._replace(offset_rows=offset_rows)
            with following(progress, source.shape[0]) as report:
                found = compute(source, planned, cores, report, passing)
        return presented(found, warned, stack=path)
    require_readable(path)
    if offset_rows != BAND_ROWS:
        raise ValueError(
            f"offset_rows={offset_rows} can be chosen for arrays only: in {path}, no parameter "
            f"would tell these offsets from those of {BAND_ROWS} rows"
        )
    with keeping_warnings() as warned, Measurement(path, basins) as measurement:
        passing = scanning(executor, measurement_part(measurement), ranges, num_cpus)
        source = measurement_frames(measurement, cores)
        if time is None:
            axis = measurement_time(measurement, frame_rate)
        else:
            axis = time_axis(source.shape[0], time=time)
        planned = plan(axis, parameters, str(measurement.path))
        with following(progress, source.shape[0]) as report:
            found = compute(source, planned, cores, report, passing)
            measurement.access.check_unchanged()
        return presented(found, warned, measurement.path, basins)


def presented(
    found: Background,
    warned: list[str],
    source: Path | None = None,
    basins: Policy = "any",
    stack: Path | None = None,
) -> "SparseBackground":
    """Return a background with its faces, what was warned of, and where its frames are from."""
    more = {"warnings": tuple(warned), "source": source, "basins": basins, "stack": stack}
    return SparseBackground(**vars(found) | more)


@dataclass(frozen=True, eq=False, repr=False)
class SparseBackground(Background):  # noqa: D101 (it is that of its base)
    __doc__ = Background.__doc__

    def quality(self, frames: Any = None) -> tuple[Finding, ...]:
        """Say what is good about this background, and where to look.

        Parameters
        ----------
        frames : array-like, shape (N, H, W), or str or path, optional
            The frames that the background was computed from; a few are compared with it.
            Default: those of the measurement `source`, or of the `stack`. Without frames,
            what needs them is left out.

        Returns
        -------
        tuple of Finding
            Each has a ``title``, the number in words (``text``), a ``verdict`` (``"good"``,
            ``"look here"`` or ``"cannot tell"``) and, where it is not good, an ``advice``: what
            to change, or that no parameter helps. ``str(finding)`` says it all, and
            `sparsemed.quality.overall` makes one verdict of them.

        Raises
        ------
        ValueError
            If the frames do not fit the background.

        Examples
        --------
        >>> import numpy as np
        >>> import sparsemed
        >>> frames = np.full((400, 40, 60), 90, dtype=np.uint8)
        >>> frames[::3] += 8  # the lamp flickers
        >>> background = sparsemed.compute_background(
        ...     frames, time=np.arange(400) / 100, kernel_size=100, offset_correction=False)
        >>> print(background.quality(frames)[1])
        look here: Flicker of the lamp: 16 of 48 frames (33 %)
          → The lamp flickers and nothing corrects it: offset_correction=True.
        """
        return assess(self, take_sample(self, frames))

    def plot(self, frames: Any = None) -> "Figure":
        """Draw a page of pictures: verdicts, series, cleansing, offsets, a frame, and noise.

        Needs matplotlib; the error says how to install it.

        Parameters
        ----------
        frames : array-like, shape (N, H, W), or str or path, optional
            As for `quality`.

        Returns
        -------
        matplotlib.figure.Figure
            A notebook shows it as the last line of a cell; ``savefig`` writes it to a file.

        Raises
        ------
        ValueError
            If the frames do not fit the background.
        ImportError
            If matplotlib is missing.
        """
        try:
            from sparsemed.plotting import plot
        except ModuleNotFoundError as error:
            raise ImportError(f"{error}: {how_to_install('matplotlib')}") from error
        return plot(self, take_sample(self, frames))

    def report(self, path: str | PathLike[str], frames: Any = None) -> tuple[Finding, ...]:
        """Write an HTML page that shows whether this background is good.

        It is one file that loads nothing from elsewhere. Needs matplotlib.

        Parameters
        ----------
        path : str or path
            The page. An earlier page is replaced, but no other file.
        frames : array-like, shape (N, H, W), or str or path, optional
            As for `quality`.

        Returns
        -------
        tuple of Finding
            What the page says; see `quality`.

        Raises
        ------
        ImportError
            If matplotlib is missing.
        FileExistsError
            If there is a file of that name that is no HTML page.
        OSError
            If the page cannot be written.
        ValueError
            If the frames do not fit the background.
        """
        return write_report(self, path, frames)

    def _repr_html_(self) -> str:
        return html_table(self)

    def save(self, path: str | PathLike[str], *, compress: bool = True) -> None:
        """Write the background to a measurement file, as dcnum does.

        The file holds ``image_bg`` and, with offsets, ``bg_off``. A new file
        also refers to the measurement that the frames are from, by an absolute
        path and by one from its own folder. An existing file, which may be that
        measurement itself, keeps all it has but for an earlier background, and its
        reference is renewed. One that holds nothing but an earlier result is
        written anew.

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
            If an existing file holds another number of frames, or belongs to another
            measurement; or if the name is that of another kind of file, such as ``.npy``.
        """
        self._write(path, compress=compress)

    def _write(
        self, path: str | PathLike[str], *, compress: bool, like_dcnum: bool = False
    ) -> None:
        write_background(
            path,
            images=self.images,
            frame_index=self.frame_index,
            offsets=self.offsets,
            parameters=self.parameters,
            offset_rows=self.offset_rows,
            source=self.source,
            compress=compress,
            basins=self.basins,
            like_dcnum=like_dcnum,
        )
