"""Compute the background of frames of any kind."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Union

from numpy.typing import ArrayLike

from sparsemed.frames.choice import Choice
from sparsemed.hdf5.file_access import Policy
from sparsemed.inputs import open_input
from sparsemed.keywords import naming_what_is_meant
from sparsemed.method.compute import compute, plan
from sparsemed.method.offsets import BAND_ROWS, check_offset_rows
from sparsemed.parameters import Parameters
from sparsemed.progress import Progress, following
from sparsemed.result import SparseBackground, presented
from sparsemed.warned import keeping_warnings

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from distributed import Client


@naming_what_is_meant
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
    series: int | None = None,
    channel: int | None = None,
    position: int | None = None,
    dataset: str | None = None,
) -> SparseBackground:
    """Compute a background image for every frame.

    Every `split_time` seconds, the median of `kernel_size` frames makes one
    background image. Images that still show cells are dropped. Each frame gets
    one of the images that are kept, and a brightness offset.

    Parameters
    ----------
    frames : array-like of shape (N, H, W), or str or path
        Frames: a NumPy, Dask or Zarr array, an ``h5py.Dataset``, or anything
        with ``shape``, ``dtype`` and slicing; or the path of a measurement (``.rtdc``), or
        its address in a network (``https://…``, ``s3://bucket/key``, a resource on DCOR);
        or the path of a stack: TIFF, Zarr, a video, or a folder or pattern of single
        images (``pip install "sparsemed[stacks,video]"``). Values are uint8 or uint16;
        or int16 or floats, if each value is whole and from 0 to 65535. An array in blocks
        is read block by block, each block once.
    time : array-like, shape (N,), seconds, optional
        Time of each frame; or dates, or differences of dates. Default: the times of the
        measurement, of the video, or of a coordinate of xarray; for other arrays a guess
        from the number of frames, with a warning.
    frame_rate : float, Hz, optional
        Rate of the camera. It is used only if times are unknown, and replaces the rate of a
        video. In an array or stack, frame ``i`` is at ``i / frame_rate``. A measurement
        holds only frames with events; its duration is estimated as 1.5 times that of its
        frames.
    kernel_size : int
        Number of frames in the window of which a background image is the median.
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
        Number of rows at the top of a frame from which its offset is computed. Nothing may
        pass there. For arrays and stacks only: results of measurements are identified by
        their parameters, which do not include this number.
    num_cpus : int, optional
        Largest number of threads. Default: all cores available.
    progress : True or callable, optional
        True shows a bar, in a terminal or a notebook. A callable gets the
        fraction done, a float: first 0, last 1, at most 20 a second.
    basins : {"any", "network", "same-folder", "off"}
        Which other files a measurement may lead to. Its *basins* refer to other files, and
        so may links, external storage and virtual datasets in it. ``"any"``: files
        anywhere on this machine, as results of dcnum, ChipStream and sparsemed need it.
        ``"network"``: also files in a network; with all other values, no content of a file
        causes a request. ``"same-folder"``: files directly in the folder of the
        measurement, after symbolic links are resolved. ``"off"``: no other file. In each
        case, only regular files (no pipes, no devices) are opened, and they are not
        changed. Choose ``"same-folder"`` or ``"off"`` for files from people you do not
        trust.
    executor : concurrent.futures.Executor or dask.distributed.Client, optional
        Workers that scan the frames in ranges: processes on this machine, or a cluster.
        Each range reads its own frames and the rest of its last windows; medians and
        brightness come back, and all else is done in this process. The result is the same,
        to the bit. Workers must see a file under the same path; of an array, they get the
        frames, or a reference to them (Dask, Zarr). `num_cpus` applies to each range; by
        default it is all threads of a Dask worker, or an even share of the cores for each
        process of a pool.
    ranges : int, optional
        Number of ranges. Default: it follows from size and number of workers. Without an
        `executor`, ranges are done in this process, one after the other.

    series, channel, position : int, optional
        Which series of a TIFF or OME-Zarr, which channel or colour, and which position of the
        stage to take, counted from 0, if a stack or an array with named axes has several.
    dataset : str, optional
        Name of a dataset of an HDF5 file that is no measurement, or of an array in a Zarr group.

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
        `progress` or `executor` is of another type.
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
    choice = Choice(series, channel, position, dataset)
    with keeping_warnings() as warned:
        given = open_input(
            frames,
            time=time,
            frame_rate=frame_rate,
            basins=basins,
            num_cpus=num_cpus,
            choice=choice,
        )
        with given:
            scan = given.scanning(executor, ranges)
            source = given.frames
            planned = plan(given.time, parameters, given.label, offset_rows)
            given.check(planned)
            with following(progress, source.shape[0]) as tell:
                found = compute(source, planned, tell, scan)
                given.check_unchanged()
            given.review(found, planned)
            found = replace(found, identity=given.identity, basins=given.basins, seen=given.seen)
    return presented(found, warned)
