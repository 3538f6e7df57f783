"""Follows a recording while it is written, and writes its background at the end."""

import logging
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from sparsemed.hdf5.file_access import Policy
from sparsemed.jobs.options import RunOptions
from sparsemed.jobs.selection import check_paths, choose_runs
from sparsemed.live import LiveBackground
from sparsemed.method.offsets import band_means
from sparsemed.parameters import Parameters
from sparsemed.quality import Finding, Sample, assess, overall
from sparsemed.quality.sample import sample_numbers
from sparsemed.report.live_page import LivePage, LiveState
from sparsemed.result import SparseBackground
from sparsemed.rtdc.growing import GrowingMeasurement
from sparsemed.rtdc.output import check_output

logger = logging.getLogger(__name__)

PAUSE = 0.2
"""Seconds between two polls without new frames. NFS and SMB do not notify of changes."""

SHOWN = 1.0
"""Seconds between two states, at least."""

TROUBLE = 3.0
"""Seconds for which an unreadable file is tried again, as it may be changing at this moment."""

STOPPED = "Watching was stopped"

Found = TypeVar("Found")

Status = Literal["recording", "closed", "silent", "stopped"]


@dataclass(frozen=True)
class Watched:
    """The state of a recording.

    Attributes
    ----------
    status : str
        ``"recording"``, or at the end ``"closed"``, or ``"silent"``: no frame came for long, for
        example because the recording program died.
    frames : int
        Number of frames so far.
    duration : float, seconds
        Time of the newest frame; the first is at 0.
    rate : float
        Frames per second since the last state.
    images : int
        Number of final background images; at the end, all before cleansing.
    image : ndarray, shape (H, W), or None
        The newest background image.
    image_time : float, seconds
        Its time; NaN without an image.
    findings : tuple of Finding
        The latest quality numbers; see `SparseBackground.quality`.
    background : SparseBackground or None
        The background, at the end.
    output : Path or None
        The file of the background, at the end.
    """

    status: Status
    frames: int
    duration: float
    rate: float
    images: int
    image: NDArray[Any] | None
    image_time: float
    findings: tuple[Finding, ...]
    background: SparseBackground | None = None
    output: Path | None = None

    @property
    def verdict(self) -> str:
        """The verdict on the background as a whole."""
        return overall(self.findings)


def watch(
    path: str | PathLike[str],
    output: str | PathLike[str] | None = None,
    *,
    kernel_size: int = 200,
    split_time: float = 1.0,
    thresh_cleansing: float = 0,
    frac_cleansing: float = 0.8,
    offset_correction: bool = True,
    patience: float = 30.0,
    keep: bool = False,
    page: str | PathLike[str] | None = None,
    num_cpus: int | None = None,
    basins: Policy = "any",
) -> Generator[Watched, None, None]:
    """Follow a measurement while another program records it, and write its background.

    Parameters
    ----------
    path : str or path
        The measurement, to which the program writes in SWMR mode.
    output : str or path, optional
        The file, or the folder, for the result. Default: next to the measurement, with ``_bg``
        added to its name.
    kernel_size, split_time, thresh_cleansing, frac_cleansing, offset_correction
        See `compute_background`.
    patience : float, seconds
        Time without a frame after which the recording counts as over.
    keep : bool
        Whether to write the background of all frames so far if watching is stopped.
    page : str or path, optional
        A folder, made if it is missing, for a page ``index.html`` with the newest image,
        brightness and verdicts. The page is updated with each state; browsers reload it.
    num_cpus, basins
        See `compute_background`.

    Yields
    ------
    Watched
        At each new background image, at most one a second; and at the end, after the result is
        written. The result is the same file as that of `sparsemed compute`.

    Raises
    ------
    OSError
        If the measurement cannot be read, or its writer does not use SWMR mode; if no frame came
        within `patience`; if the result cannot be written; or if the page cannot be created.
    ValueError, TypeError
        If a parameter is out of its range; if the measurement has no images or times that can
        be followed; if it is replaced or cut while it is watched; or if its times decrease.

    Examples
    --------
    >>> for state in sparsemed.watch("recording.rtdc"):  # doctest: +SKIP
    ...     print(state.frames, state.image_time, state.verdict)
    """
    parameters = Parameters(
        kernel_size, split_time, thresh_cleansing, frac_cleansing, offset_correction
    )
    options = RunOptions(parameters, num_cpus, basins)
    if isinstance(patience, bool) or not 0 < patience < np.inf:
        raise ValueError(f"patience must be a number above 0 (seconds), got {patience!r}")
    folder = None if page is None else Path(page)
    result = None if output is None else Path(output)
    return _Watching(Path(path), result, folder, options, patience, keep).states()


class _Watching:
    """A watched recording. All that can be checked is checked at the start."""

    def __init__(
        self,
        path: Path,
        output: Path | None,
        page: Path | None,
        options: RunOptions,
        patience: float,
        keep: bool,
    ) -> None:
        self._path, self._options, self._patience, self._keep = path, options, patience, keep
        check_paths((path,))
        # Its program may not yet have switched to SWMR mode; the working folder may change.
        place = path.absolute()
        self._recording = _patiently(lambda: GrowingMeasurement(place, options.basins))
        (self._run,) = choose_runs((path,), output=output)
        self._run.check()
        if self._run.output.exists():
            check_output(self._run.output, self._recording.available, path, options.basins)
        self._output = self._run.output.absolute()
        self._page = None if page is None else LivePage(page.absolute(), path.name)
        self._page_trouble = ""  # the last warning about it
        asked = options.parameters
        self._live = LiveBackground(
            self._recording.shape,
            self._recording.dtype,
            kernel_size=asked.kernel_size,
            split_time=asked.split_time,
            offset_correction=asked.offset_correction,
            num_cpus=options.num_cpus,
            on_image=self._note,
        )
        self._brightness: list[tuple[float, float]] = []  # of each image, with its time
        self._findings: tuple[Finding, ...] = ()
        self._found: SparseBackground | None = None  # at the end
        self._judged = 0  # number of frames behind the findings
        self._judge_at = 0.0  # earlier, judging would cost too much
        self._told_frames = self._told_images = 0
        self._told_at = self._came_at = time.monotonic()

    def states(self) -> Generator[Watched, None, None]:
        """Yield states until the recording is over."""
        with self._live:
            status: Status = "recording"
            try:
                while (status := self._look()) == "recording":
                    if self._has_news:
                        yield self._tell()
                last = self._finish(status)
            except Exception as error:
                self._renew_page(self._state(), f"Watching has failed ({error})")
                raise
            except BaseException:  # Ctrl-C, or the generator was closed
                self._stop()
                raise
            yield last

    @property
    def _has_news(self) -> bool:
        is_due = time.monotonic() - self._told_at >= SHOWN
        return is_due and len(self._brightness) > self._told_images

    def _look(self) -> Status:
        """Take new frames, and return the status."""
        frames, times = _patiently(self._recording.poll)
        now = time.monotonic()
        if len(frames):
            self._came_at = now
            try:
                self._live.push(frames, times)
            except ValueError as error:
                raise ValueError(f"{self._path}: {error}") from error
        if self._recording.time is not None:
            return "closed"
        if not len(frames):
            if now - self._came_at >= self._patience:
                return "silent"
            time.sleep(PAUSE)
        return "recording"

    def _note(self, number: int, at: float, image: NDArray[Any]) -> None:  # noqa: ARG002
        self._brightness.append((at, float(band_means(image[np.newaxis])[0])))

    def _tell(self) -> Watched:
        """Return the current state, and update the page."""
        began = time.monotonic()
        if began >= self._judge_at:
            busy = time.thread_time()
            self._findings, self._judged = self._live.quality(), len(self._live)
            self._judge_at = began + 10 * (time.thread_time() - busy)
        state = self._state(began)
        self._told_at, self._told_frames, self._told_images = began, state.frames, state.images
        self._renew_page(state)
        return state

    def _state(self, now: float | None = None) -> Watched:
        now = time.monotonic() if now is None else now
        return Watched(
            status="recording",
            frames=len(self._live),
            duration=self._live.duration,
            rate=(len(self._live) - self._told_frames) / max(now - self._told_at, 1e-9),
            images=len(self._brightness),
            image=self._live.image,
            image_time=self._brightness[-1][0] if self._brightness else np.nan,
            findings=self._findings,
        )

    def _finish(self, status: Status) -> Watched:
        """Write the background, and return the last state."""
        if not len(self._live):
            if status == "closed":
                raise ValueError(f"{self._path}: there are no frames")
            raise OSError(
                f"{self._path}: no frame came within {self._patience:g} s; does the recording "
                "program flush what it writes?"
            )
        asked = self._options.parameters
        if self._found is None:  # otherwise Ctrl-C came when it was to be written
            self._found = self._live.finish(asked.thresh_cleansing, asked.frac_cleansing)
        found = self._found
        axis = self._recording.time
        if axis is not None and not np.array_equal(axis, found.time):
            raise ValueError(
                f"{self._path}: times of earlier frames have changed while it was watched; compute "
                "the background now that the file is closed"
            )
        identity = _patiently(self._recording.identity)
        background = replace(found, identity=identity, basins=self._options.basins)
        if self._run.folder_is_made:
            self._output.parent.mkdir(parents=True, exist_ok=True)
        # by the same frames as in `compute`
        numbers = sample_numbers(len(background), *self._recording.shape)
        sample = Sample(numbers, _patiently(lambda: self._recording.pick(numbers)))
        self._findings, self._judged = assess(background, sample), len(background)
        background.save(self._output, findings=self._findings)
        state = replace(
            self._state(),
            status=status,
            images=len(background.series),
            background=background,
            output=self._run.output,
        )
        ends = {"closed": "The recording is over", "stopped": STOPPED}
        self._renew_page(state, ends.get(status, f"No frame came for {self._patience:g} s"))
        return state

    def _stop(self) -> None:
        """Write the background of the frames so far, if it is to be kept and there are any."""
        if not self._keep or not len(self._live):
            self._renew_page(self._state(), f"{STOPPED}, and nothing was written")
            return
        self._finish("stopped")
        logger.warning(
            "%s: watching was stopped; the background of the first %d frames is in %s",
            self._path,
            len(self._live),
            self._run.output,
        )

    def _renew_page(self, state: Watched, end: str = "") -> None:
        if self._page is None:
            return
        facts = [
            ("Frames", f"{state.frames:,}"),
            ("Frames judged", f"{self._judged:,}"),
            ("Background images", f"{state.images:,}"),
            ("Duration", f"{state.duration:.1f} s"),
        ]
        if state.output is not None:
            facts.append(("Result", f"{state.output}"))
        elif not end:
            facts.append(("Frames per second, just now", f"{state.rate:,.0f}"))
        points = np.array(self._brightness).reshape(-1, 2)
        try:
            self._page.write(LiveState(facts, state.image, points, state.findings, end))
            self._page_trouble = ""
        except OSError as error:  # the recording is more important
            if str(error) != self._page_trouble:
                logger.warning("%s", error)
            self._page_trouble = str(error)


def _patiently(read: Callable[[], Found]) -> Found:
    """Read a file; if that fails, again for a moment, as the file may be changing."""
    began = time.monotonic()
    while True:
        try:
            return read()
        except OSError:
            if time.monotonic() - began > TROUBLE:
                raise
            time.sleep(PAUSE)
