"""`BackgroundSparseMed`: the class of dcnum, built on this package."""

import logging
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

import numpy as np

from sparsemed.frames.sampled import SampledFrames
from sparsemed.hdf5.file_access import Policy
from sparsemed.inputs import Input, open_input
from sparsemed.method.compute import compute, plan
from sparsemed.method.result import Background
from sparsemed.parameters import Parameters
from sparsemed.progress import Progress, following, ignore
from sparsemed.quality.sample import Sample, sample_numbers
from sparsemed.result import SparseBackground, presented
from sparsemed.rtdc.output import check_output, write_background
from sparsemed.rtdc.pipeline_id import CODE, from_ppid, to_ppid
from sparsemed.warned import keeping_warnings

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from distributed import Client


class BackgroundSparseMed:
    """Compute the background of a measurement and write it to a file.

    A drop-in replacement for the class of the same name in dcnum 0.31: same
    arguments, same results, same files, but without a pool of processes. As in
    dcnum, a new file refers to the measurement by one path, the one that you give.
    `SparseBackground.save` and the command line record two paths, so that the
    measurement is found after both files were moved.

    Parameters
    ----------
    input_data : str, path or array-like of shape (N, H, W)
        A measurement (``.rtdc``), or its images.
    output_path : str or path
        File for the background: a new one, an existing one, or the measurement
        itself. It changes wholly or not at all.
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
        Whether to write ``bg_off``, the brightness offset of each frame.
    compress : bool
        Whether to compress the data.
    num_cpus : int, optional
        Largest number of threads. Default: all cores available.
    basins : {"any", "network", "same-folder", "off"}
        Which other files the measurement may lead to; see
        `sparsemed.compute_background`. dcnum opens any.
    executor : concurrent.futures.Executor or dask.distributed.Client, optional
        Workers that scan the frames in ranges; see `sparsemed.compute_background`.
    ranges : int, optional
        Number of ranges. Default: it follows from size and number of workers.

    Attributes
    ----------
    kernel_size : int
        Frames in a window: as given, or all frames if there are fewer.
    split_time, thresh_cleansing, frac_cleansing, offset_correction, num_cpus
        As given.
    kwargs : dict
        The parameters in the PPID.
    input_data : h5py.Dataset or array-like
        The images, one for each frame.
    output_path : Path
        File for the background.
    image_count, image_shape : int, tuple of int
        Number and shape ``(H, W)`` of the images.
    time : ndarray, shape (N,), seconds
        Time of each frame; the first is at 0.
    duration : float, seconds
        Time of the last frame.
    step_times : ndarray, shape (M,), seconds
        Times at which background images are computed.
    bg_images : ndarray, shape (M, H, W)
        All background images, before cleansing; zero until they are computed.
    background : SparseBackground or None
        The result, after it was computed.
    sample : Sample or None
        Some of its frames, kept for `sparsemed.quality.assess`.
    warnings : tuple of str
        Warnings so far, about measurement, background and output.
    logger : logging.Logger
        The logger of the class.

    Warns
    -----
    BackgroundWarning
        If something about frames, time, parameters or the output is odd.

    Raises
    ------
    ValueError, TypeError
        If a parameter is out of its range, or images or time cannot be used.
    OSError
        If the input cannot be read or the output could not be written.

    Examples
    --------
    >>> from sparsemed import BackgroundSparseMed
    >>> with BackgroundSparseMed("in.rtdc", "out.rtdc", kernel_size=100) as job:  # doctest: +SKIP
    ...     job.process()
    """

    def __init__(
        self,
        input_data: Any,
        output_path: str | PathLike[str],
        kernel_size: int = 200,
        split_time: float = 1.0,
        thresh_cleansing: float = 0,
        frac_cleansing: float = 0.8,
        offset_correction: bool = True,
        compress: bool = True,
        num_cpus: int | None = None,
        *,
        basins: Policy = "any",
        executor: Union["Executor", "Client", None] = None,
        ranges: int | None = None,
    ) -> None:
        self.logger = logging.getLogger("sparsemed.BackgroundSparseMed")
        self.kwargs: dict[str, Any] = {
            "kernel_size": kernel_size,
            "split_time": split_time,
            "thresh_cleansing": thresh_cleansing,
            "frac_cleansing": frac_cleansing,
            "offset_correction": offset_correction,
        }
        self._parameters = Parameters(**self.kwargs)
        self.output_path = Path(output_path)
        self._output = self.output_path.absolute()  # the working folder may change
        self._compress = compress
        self._progress = 0.0
        self._tell: Progress = ignore
        self._given: Input | None = None
        self.background: SparseBackground | None = None
        self.sample: Sample | None = None
        self._warned: list[str] = []
        try:
            with self._keeping_warnings():
                given = self._given = open_input(
                    input_data, basins=basins, num_cpus=num_cpus, floats=np.uint8
                )
                self.num_cpus = given.num_cpus
                self.input_data = given.data
                self._scan = given.scanning(executor, ranges)
                self._shape = given.frames.shape
                self.time = given.time
                check_output(self.output_path, self.image_count, given.source, basins)
                self._plan = plan(self.time, self._parameters, given.label)
                given.check(self._plan)
            self.step_times = self._plan.steps
            shape = (len(self.step_times), *self.image_shape)
            self.bg_images: Any = np.broadcast_to(np.zeros((), given.frames.dtype), shape)
        except BaseException:
            self._close()
            raise
        self.kernel_size = min(kernel_size, self.image_count)
        self.split_time = split_time
        self.thresh_cleansing = thresh_cleansing
        self.frac_cleansing = frac_cleansing
        self.offset_correction = offset_correction
        self.duration = self.time[-1] - self.time[0]

    def __enter__(self) -> "BackgroundSparseMed":
        return self

    def __exit__(self, *error: Any) -> None:
        self._close()

    @property
    def image_count(self) -> int:
        """Number of images."""
        return self._shape[0]

    @property
    def image_shape(self) -> tuple[int, int]:
        """Shape of an image."""
        return self._shape[1:]

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings so far."""
        return tuple(self._warned)

    @staticmethod
    def check_user_kwargs(
        *,
        kernel_size: int = 200,
        split_time: float = 1.0,
        thresh_cleansing: float = 0,
        frac_cleansing: float = 0.8,
        offset_correction: bool = True,
    ) -> None:
        """Check the parameters of the method, which the class describes.

        Raises
        ------
        ValueError
            If a parameter is of a wrong type or out of its range.
        TypeError
            If a parameter is unknown.
        """
        Parameters(kernel_size, split_time, thresh_cleansing, frac_cleansing, offset_correction)

    @classmethod
    def get_ppid_code(cls) -> str:
        """Return the name of the method within a PPID."""
        return CODE

    @classmethod
    def get_ppid_from_ppkw(cls, kwargs: dict[str, Any]) -> str:
        """Return the pipeline identifier of the given parameters."""
        return to_ppid(kwargs)

    @staticmethod
    def get_ppkw_from_ppid(bg_ppid: str) -> dict[str, Any]:
        """Return the parameters in a pipeline identifier."""
        return from_ppid(bg_ppid)

    def get_ppid(self) -> str:
        """Return the pipeline identifier: method and parameters as one string."""
        return to_ppid(self.kwargs)

    def get_progress(self) -> float:
        """Return the fraction done, from 0 to 1."""
        return self._progress

    def process(self, progress: Progress | bool | None = None) -> None:
        """Compute the background and write it to `output_path`.

        An earlier background in that file is replaced.

        Parameters
        ----------
        progress : True or callable, optional
            See `sparsemed.compute_background`; here, 1 means that the file is written.

        Raises
        ------
        OSError, ValueError, TypeError
            If the images cannot be read or the file cannot be written. The
            file is then unchanged.
        """
        began = time.perf_counter()
        with self._following(progress):
            self._process()
        self.logger.info("Background computed in %.1f s", time.perf_counter() - began)

    @contextmanager
    def _following(self, progress: Progress | bool | None) -> Iterator[None]:
        with following(progress, self.image_count) as self._tell:
            try:
                with self._keeping_warnings():
                    yield
            finally:
                self._tell = ignore

    def _process(self) -> None:
        background = self._compute()
        # The output must not be open while it changes: it may be the
        # measurement itself, or one of its basins.
        given = self._opened()
        self._close()
        try:
            write_background(self._output, background, compress=self._compress, like_dcnum=True)
        finally:
            self._given = given.reopened()
            self.input_data = self._given.data
        self._progress = 1.0

    def process_approach(self, progress: Progress | bool | None = None) -> SparseBackground:
        """Compute the background without writing it.

        Parameters
        ----------
        progress : True or callable, optional
            See `sparsemed.compute_background`.

        Returns
        -------
        SparseBackground
            Also kept as the attribute `background`.
        """
        with self._following(progress):
            return self._compute()

    def _compute(self) -> SparseBackground:
        given = self._opened()
        found = self._pass_over(given)
        given.check_unchanged()
        given.review(found, self._plan)
        found = replace(found, identity=given.identity, basins=given.basins)
        background = presented(found, self._warned)
        self.background = background
        self.bg_images = background.series
        return background

    def _opened(self) -> Input:
        if self._given is None:
            label = self._plan.label or "frames"
            raise ValueError(f"{label}: the job is over and its input closed; make a new job")
        return self._given

    def _keeping_warnings(self) -> AbstractContextManager[list[str]]:
        return keeping_warnings(self._warned)

    def _pass_over(self, given: Input) -> Background:
        """Compute the background of the frames, and keep some frames."""
        frames = SampledFrames(given.frames, sample_numbers(*given.frames.shape))
        found = compute(frames, self._plan, self._note_progress, self._scan)
        if not frames.read.any():  # workers have read them
            frames.read_all()
        self.sample = Sample(frames.numbers[frames.read], frames.kept[frames.read])
        return found

    def _note_progress(self, fraction: float) -> None:
        # The last percent is writing.
        self._progress = 0.99 * fraction
        self._tell(self._progress)

    def _close(self) -> None:
        if self._given is not None:
            given, self._given = self._given, None
            given.close()
