"""A background that grows with the recording; at the end, it is that of all frames."""

from collections.abc import Callable, Iterable, Iterator
from io import FileIO
from os import PathLike
from pathlib import Path
from random import Random
from tempfile import TemporaryFile
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from sparsemed.kernels.cores import check_num_cpus
from sparsemed.method.compute import conclude, plan
from sparsemed.method.growing import GrowingSeries
from sparsemed.method.offsets import BAND_ROWS, check_offset_rows
from sparsemed.method.result import Background
from sparsemed.parameters import Parameters
from sparsemed.quality import Finding, Sample, assess
from sparsemed.quality.sample import sample_numbers, scattered
from sparsemed.result import SparseBackground, presented
from sparsemed.warned import keeping_warnings

OnImage = Callable[[int, float, NDArray[Any]], None]
"""Called with the number of a background image, its time in seconds, and the image."""


class LiveBackground:
    """The background of a recording in progress: frames are pushed, images come out.

    A background image is final ``kernel_size`` frames after its time. Cleansing, the image of each
    frame, and offsets depend on later frames: `finish` computes them, with the same bits as
    `compute_background` from all frames and times.

    No frame is dropped or queued: `push` returns when its frames are processed, and the recording
    program has to buffer frames that come meanwhile. One thread pushes; any other may read `image`
    at any time. Make it before the recording begins: the first one on a machine compiles kernels,
    in some seconds.

    Parameters
    ----------
    shape : (int, int)
        Height and width of the frames.
    dtype : dtype
        Type of the frames: uint8 or uint16.
    kernel_size, split_time, offset_correction, offset_rows, num_cpus
        See `compute_background`.
    spill : str or path, optional
        A folder for a file with the images, if they exceed the memory. The file has no name, and
        is deleted when neither this object nor its result needs it.
    on_image : callable, optional
        Called as ``on_image(number, time, image)`` for each image, in order, by the thread
        that pushes, after `push` has taken all of its frames. `time` is in seconds from the
        first frame. An exception reaches the caller of `push`; the frames are taken even so,
        and the next `push` calls it for the remaining images.

    Raises
    ------
    ValueError
        If a parameter is out of its range, `shape` is not height and width, or a window does not
        fit into memory.
    TypeError
        If the dtype is neither uint8 nor uint16.
    OSError
        If no file can be made in the folder `spill`.

    Examples
    --------
    >>> import numpy as np
    >>> import sparsemed
    >>> frames = np.full((100, 40, 60), 90, dtype=np.uint8)
    >>> times = np.arange(100) / 10
    >>> with sparsemed.LiveBackground((40, 60), kernel_size=10) as live:
    ...     for start in range(0, 100, 25):
    ...         part = slice(start, start + 25)
    ...         print(live.push(frames[part], times[part]), "images are final")
    ...     background = live.finish()
    2 images are final
    3 images are final
    2 images are final
    3 images are final
    >>> background
    SparseBackground(100 frames of 40 × 60, 10 of 10 background images kept)
    """

    def __init__(
        self,
        shape: tuple[int, int],
        dtype: DTypeLike = "uint8",
        *,
        kernel_size: int = 200,
        split_time: float = 1.0,
        offset_correction: bool = True,
        offset_rows: int = BAND_ROWS,
        num_cpus: int | None = None,
        spill: str | PathLike[str] | None = None,
        on_image: OnImage | None = None,
    ) -> None:
        self._parameters = Parameters(kernel_size, split_time, offset_correction=offset_correction)
        self._offset_rows = check_offset_rows(offset_rows)
        height, width = _checked_shape(shape)
        self._spill = None if spill is None else Path(spill)
        self._series = GrowingSeries(
            (height, width),
            _checked_dtype(dtype),
            kernel_size,
            split_time,
            self._offset_rows if offset_correction else None,
            check_num_cpus(num_cpus),
            None if self._spill is None else _nameless_file(self._spill),
        )
        self._on_image = on_image
        self._told = 0  # number of images given to the callback
        self._sample = _GrowingSample(len(sample_numbers(10**6, height, width)))
        self._end = ""  # the cause of its end
        self._result: Background | None = None

    def __enter__(self) -> "LiveBackground":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Release the frames; no more can be pushed."""
        self._end = self._end or "its with block"
        self._series.let_go_all()

    def __len__(self) -> int:
        return len(self._series)

    def __repr__(self) -> str:
        height, width = self._series.shape
        return (
            f"LiveBackground({len(self):,} frames of {height} × {width} so far, "
            f"{self._series.final:,} background images)"
        )

    @property
    def duration(self) -> float:
        """Time of the newest frame, in seconds; the first is at 0."""
        return self._series.duration

    @property
    def image(self) -> NDArray[Any] | None:
        """The newest background image, shape (H, W), before cleansing; None before the first."""
        return self._series.latest

    @property
    def images(self) -> NDArray[Any]:
        """All background images so far, shape (M, H, W), before cleansing: a copy."""
        series = self._series
        images = np.empty((series.final, *series.shape), series.dtype)
        for number in range(len(images)):
            images[number] = series.median(number)
        return images

    def push(self, frames: ArrayLike, times: ArrayLike) -> int:
        """Take the next frames.

        Parameters
        ----------
        frames : array-like, shape (n, H, W), of the `dtype`
            Any number of frames. They are copied.
        times : array-like, shape (n,), seconds
            Time of each frame, with any fixed zero. Times must not fall.

        Returns
        -------
        int
            Number of background images that have become final.

        Raises
        ------
        ValueError
            If shapes do not fit; if times fall, are not finite, or stand still for more frames
            than can be held; or if the recording was ended. No frame is taken then.
        TypeError
            If the dtype of frames or times has changed.
        OSError
            If the file in `spill` cannot be written. ``len(live)`` tells how many frames were
            taken; make room, and push the others again.
        """
        self._require_going_on()
        frames, times = np.asanyarray(frames), np.asanyarray(times)  # read once, with masks
        number = len(self)
        try:
            final = self._series.push(frames, times)
        except OSError as error:
            raise self._spill_error(error) from error
        finally:
            if taken := len(self) - number:  # maybe fewer, after an error
                self._sample.take(number, np.asarray(frames)[:taken])
        while self._told < self._series.final:
            told = self._told
            self._told += 1
            if self._on_image is not None:
                time = float(told * self._parameters.split_time)
                self._on_image(told, time, self._series.median(told))
        return final

    def follow(self, portions: Iterable[tuple[ArrayLike, ArrayLike]]) -> Iterator[NDArray[Any]]:
        """Push portions one after the other, and yield each image as it becomes final.

        Parameters
        ----------
        portions : iterable of (frames, times)
            See `push`.

        Yields
        ------
        ndarray, shape (H, W)
        """
        for frames, times in portions:
            before = self._series.final
            self.push(frames, times)
            for number in range(before, self._series.final):
                yield self._series.median(number)

    def quality(self) -> tuple[Finding, ...]:
        """Return `SparseBackground.quality` as if the recording ended now.

        It takes a moment and copies all images so far. Call it in the thread that pushes. After
        `finish`, it judges the result.

        Returns
        -------
        tuple of Finding
            Empty if there are no frames yet.
        """
        if not len(self):
            return ()
        background = self._result
        if background is None:
            self._require_going_on()
            with keeping_warnings(tell=_say_nothing):
                background = self._conclude(self._parameters)
        return assess(background, self._sample.so_far())

    def finish(self, thresh_cleansing: float = 0, frac_cleansing: float = 0.8) -> SparseBackground:
        """End the recording, and return the background of all pushed frames.

        Parameters
        ----------
        thresh_cleansing, frac_cleansing : float
            See `compute_background`.

        Returns
        -------
        SparseBackground
            The same bits as from `compute_background` for all frames and times.

        Raises
        ------
        ValueError
            If no frame was pushed, if the recording was ended, or if a parameter is out of its
            range.
        OSError
            If the file in `spill` cannot be written; make room, and call it again.

        Warns
        -----
        BackgroundWarning
            If something about frames, time or parameters is odd.
        """
        self._require_going_on()
        if not len(self):
            raise ValueError("no frame was pushed, so there is no background")
        parameters = Parameters(
            self._parameters.kernel_size,
            self._parameters.split_time,
            thresh_cleansing,
            frac_cleansing,
            self._parameters.offset_correction,
        )
        with keeping_warnings() as warned:
            found = self._conclude(parameters)
        self._end = "finish()"
        self._result = found
        self._series.let_go_all()
        return presented(found, warned)

    def _conclude(self, parameters: Parameters) -> Background:
        planned = plan(self._series.time, parameters)._replace(offset_rows=self._offset_rows)
        try:
            found = self._series.found(planned.starts, planned.length)
        except OSError as error:
            raise self._spill_error(error) from error
        return conclude(planned, found)

    def _spill_error(self, error: OSError) -> OSError:
        """Return an error of the file with the images that names its folder."""
        return OSError(
            f"{self._spill}: the file with the images cannot be written "
            f"({error.strerror}); make room and go on"
        )

    def _require_going_on(self) -> None:
        if self._end:
            raise ValueError(
                f"this background was ended by {self._end}; make another LiveBackground for "
                "another recording"
            )


def _say_nothing(text: str) -> None:
    """Ignore a warning: it is given at the end."""


def _nameless_file(folder: Path) -> FileIO:
    """Return a file that is deleted when it is closed."""
    try:
        return TemporaryFile(dir=folder, buffering=0)
    except OSError as error:
        raise OSError(
            f"{folder}: no file for images can be made there ({error.strerror}); choose another "
            "folder with spill="
        ) from error


class _GrowingSample:
    """One frame of each of equal parts of the recording; two parts become one as it grows.

    The frames are random, but always the same, as those of `sample_numbers`.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._length = 1  # frames of a part
        self._kept: list[tuple[int, NDArray[Any]]] = []  # numbers and frames
        self._next = 0  # number of the frame to keep of the next part
        self._random = Random(0)

    def take(self, number: int, frames: NDArray[Any]) -> None:
        """Keep some of these frames; the first one has this number."""
        while (place := max(0, self._next - number)) < len(frames):
            self._kept.append((number + place, frames[place].copy()))
            if len(self._kept) == 2 * self._count:
                halves = zip(self._kept[::2], self._kept[1::2], strict=True)
                self._kept = [self._random.choice(pair) for pair in halves]
                self._length *= 2
            self._next = len(self._kept) * self._length + self._random.randrange(self._length)

    def so_far(self) -> Sample:
        """Return some of the kept frames; there must be one."""
        numbers, frames = zip(*self._kept, strict=True)
        some = scattered(len(numbers), self._count)
        return Sample(np.array(numbers, np.intp)[some], np.stack([frames[place] for place in some]))


def _checked_shape(shape: Any) -> tuple[int, int]:
    sides = tuple(shape) if np.iterable(shape) else ()
    if len(sides) != 2 or not all(
        isinstance(side, (int, np.integer)) and side > 0 for side in sides
    ):
        raise ValueError(f"shape must be height and width of the frames (pixels), got {shape!r}")
    return int(sides[0]), int(sides[1])


def _checked_dtype(dtype: DTypeLike) -> np.dtype[Any]:
    wanted = np.dtype(dtype).newbyteorder("=")
    if wanted not in (np.uint8, np.uint16):
        raise TypeError(f"dtype must be uint8 or uint16, got {wanted}")
    return wanted
