"""Frames that arrive during the recording: which windows are final, and their median images.

Steps, windows, medians and brightness are those of `windows`, `kernels` and `offsets`, as in a
scan. In addition, this module tells when later frames can no longer change a window.

*Steps.* As time does not decrease, the steps up to the last frame do not change.

*Windows.* A window begins with the frame nearest to its step; of equally near ones, with the
first. After a frame at the step or later, no following frame can be nearer. The window is final
when it has all its frames. If the recording ends before, it is the last frames of the recording.

*Frames held.* The last `kernel_size` frames, and those from the first one that may be as near to a
future step as the last one. A step at the time of the last frame may be a future one: NumPy rounds
the number of steps in the precision of times.
"""

from bisect import bisect_right
from io import FileIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsemed.frames.source import MOST_FRAMES
from sparsemed.kernels.median import load_kernels, median_images
from sparsemed.method.offsets import band_means
from sparsemed.method.scan import Scan, of_steps
from sparsemed.method.time_axis import require_axis
from sparsemed.method.windows import MOST_STEPS, nearest_to, require_few_steps, step_times

PIECE_BYTES = 16 * 1024**2
"""Bytes of frames that are taken at once; more are taken piece by piece."""

HELD_BYTES = 1024**3
"""Largest bytes of held frames, if time stands still."""


class GrowingSeries:
    """The median images of a recording in progress.

    Its state changes in single steps, so that a signal between any two leaves it consistent.
    Kernels are loaded when it is made.

    Parameters
    ----------
    shape : (int, int)
        Height and width of the frames.
    dtype : dtype
        dtype of the frames: native uint8 or uint16.
    kernel_size : int
        Frames in a window.
    split_time : float, seconds
        Time from one step to the next.
    band_rows : int or None
        Number of rows for the brightness of frames; None: no brightness.
    num_cpus : int
        Largest number of threads.
    file : unbuffered binary file, optional
        An empty file for the median images. Default: memory.

    Raises
    ------
    ValueError
        If a window does not fit into memory.

    Attributes
    ----------
    latest : ndarray, shape (H, W), or None
        The median image of the newest final window. It is replaced, never changed.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        dtype: np.dtype[Any],
        kernel_size: int,
        split_time: float,
        band_rows: int | None,
        num_cpus: int,
        file: FileIO | None = None,
    ) -> None:
        self.shape = shape
        self.dtype = dtype
        self._length = int(kernel_size)
        self._split_time = split_time
        self._band_rows = band_rows
        self._num_cpus = num_cpus
        # Rounding may make times equally near to a step if they differ by no more than this.
        self._blur = np.spacing(2.0 * MOST_STEPS * float(split_time))
        self._late = 0.0  # share of the time by which a step may be found too late
        frame_bytes = shape[0] * shape[1] * dtype.itemsize
        self._most_held = max(4 * self._length, HELD_BYTES // frame_bytes)
        size = self._length + max(1, PIECE_BYTES // frame_bytes)
        try:
            self._ring = np.empty((size, *shape), dtype)  # frame i is in row i % size
        except (MemoryError, ValueError) as error:  # NumPy has no sizes beyond 64 bits
            gigabytes = self._length * frame_bytes / 1e9
            raise ValueError(
                f"kernel_size={kernel_size} makes windows of {gigabytes:.3g} GB, which do not fit "
                f"into memory ({error}); use a smaller kernel_size"
            ) from error
        load_kernels(dtype)  # now, as frames would have to wait for it later
        self._begin = 0  # the first held frame
        self._log = bytearray()  # time and brightness of each frame: grows without copies
        self._entry = np.dtype([("time", np.float64)])
        self._first: Any = None  # time of the first frame, as given
        self._last: Any = None
        self._starts: list[int] = []  # first frame of the window of each step so far
        self._place: dict[int, int] = {}  # by first frame of a window: place of its median
        self._medians = _Kept(shape, dtype, file)
        self.latest: NDArray[Any] | None = None

    def __len__(self) -> int:
        return len(self._log) // self._entry.itemsize

    @property
    def final(self) -> int:
        """Number of steps with a final median image."""
        last = next(reversed(self._place), None)
        return 0 if last is None else bisect_right(self._starts, last)

    @property
    def duration(self) -> float:
        """Time of the newest frame, in seconds; 0 without any."""
        return float(self._entries(len(self) - 1)["time"][0]) if len(self) else 0.0

    @property
    def time(self) -> NDArray[Any]:
        """Time of each frame, shape (N,), in seconds; the first is at 0."""
        axis = np.ascontiguousarray(self._entries()["time"])
        if axis.dtype.kind == "i" and len(axis) and axis[-1] <= np.iinfo(self._first.dtype).max:
            return axis.astype(self._first.dtype.newbyteorder("="))
        return axis

    def median(self, step: int) -> NDArray[Any]:
        """Return the median image of a final step."""
        return self._medians.image(self._place[self._starts[step]])

    def push(self, frames: Any, times: Any) -> int:
        """Take frames, and compute the medians of all windows that become final.

        Parameters
        ----------
        frames : array-like, shape (n, H, W)
            They are copied.
        times : array-like, shape (n,), seconds
            Time of each frame, with any zero.

        Returns
        -------
        int
            Number of steps that have become final.

        Raises
        ------
        TypeError, ValueError
            If frames or times do not fit to the earlier ones; then no frame is taken.
        """
        frames = self._checked_frames(frames)
        if not len(frames):
            return 0
        raw, axis = self._checked_times(times, len(frames))
        self._require_room(axis)
        if not len(self):
            self._first = raw[0]
            brightness = [] if self._band_rows is None else [("brightness", np.float64)]
            self._entry = np.dtype([("time", axis.dtype), *brightness])
            if axis.dtype.kind == "f":  # NumPy counts steps in the precision of times
                self._late = 4 * float(np.finfo(axis.dtype).eps)
        before = self.final
        done = 0
        while done < len(frames):
            if len(self) - self._begin == len(self._ring):
                self._enlarge()
            done += self._take(frames[done:], axis[done:])
            self._last = raw[done - 1]
            self._find_windows()
            self._compute()
            self._let_go()
        return self.final - before

    def found(self, starts: NDArray[np.intp], length: int) -> Scan:
        """Return the same as a scan of all frames so far.

        Parameters
        ----------
        starts : ndarray of int, shape (M,)
            First frame of each window, planned from all times so far.
        length : int
            Frames in a window.
        """
        final = self.final
        if starts[:final].tolist() != self._starts[:final]:
            raise RuntimeError(
                "final windows differ from those of the whole time axis; please report this"
            )
        distinct, window_of_step = np.unique(starts, return_inverse=True)
        known = len(self._place)
        rest = distinct[known:].tolist()
        medians = self._medians.series(known, self._select(rest, length) if rest else None)
        means = None
        if self._band_rows is not None:
            means = np.ascontiguousarray(self._entries()["brightness"])
        return Scan(of_steps(medians, window_of_step), means, [])

    def let_go_all(self) -> None:
        """Release the frames and the file; after that, nothing can be pushed or found."""
        self._ring = np.empty((0, *self.shape), self.dtype)
        self._medians.close(len(self._place))

    def _entries(self, begin: int = 0) -> NDArray[Any]:
        """Return time and brightness of frames, as a copy: a buffer in use could not grow."""
        return np.frombuffer(self._log[begin * self._entry.itemsize :], self._entry)

    def _checked_frames(self, frames: Any) -> NDArray[Any]:
        if np.ma.is_masked(frames):
            raise ValueError(
                "frames: some values are masked, but a median leaves none out; fill them with "
                "frames.filled(value)"
            )
        array = np.asarray(frames)
        if array.ndim != 3 or array.shape[1:] != self.shape:
            height, width = self.shape
            hint = "; for a single frame, give frame[numpy.newaxis]" if array.ndim == 2 else ""
            raise ValueError(
                f"frames: shape must be (n, {height}, {width}), got {array.shape}{hint}"
            )
        if array.dtype.newbyteorder("=") != self.dtype:
            raise TypeError(f"frames: dtype must be {self.dtype}, got {array.dtype}")
        if len(self) + len(array) > MOST_FRAMES:
            raise ValueError(f"frames: there can be no more than {MOST_FRAMES:,}")
        return array

    def _checked_times(self, times: Any, count: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return times as given, and relative to the first frame of the recording."""
        if np.ma.is_masked(times):
            raise ValueError("times: some are masked; each frame needs its time")
        raw = np.asarray(times)
        require_axis(raw.shape, raw.dtype, count, "times")
        first, number = (raw[0], 0) if not len(self) else (self._first, len(self))
        if number and np.result_type(raw, first) != first.dtype:
            raise TypeError(
                f"times: have dtype {raw.dtype}, but those of earlier frames have {first.dtype}; "
                "give all times in the same dtype"
            )
        if not (finite := np.isfinite(raw)).all():
            at = int(np.argmin(finite))
            raise ValueError(f"times: is {raw[at]} at frame {number + at}; it must be finite")
        before = np.concatenate([[self._last] if number else raw[:1], raw[:-1]])
        if (falling := raw < before).any():
            at = int(np.argmax(falling))
            raise ValueError(
                f"times: fall at frame {number + at}, from {before[at]} s to {raw[at]} s; "
                "after a restart, begin a new recording"
            )
        with np.errstate(over="ignore", invalid="ignore"):
            if first.dtype.kind in "iu":  # differences may exceed the dtype; see `time_axis`
                axis = (raw.astype(np.uint64) - np.uint64(int(first) % 2**64)).view(np.int64)
            else:
                axis = raw.astype(first.dtype.newbyteorder("="), copy=False) - first
        if not 0 <= axis[0] <= axis[-1] < np.inf:
            raise ValueError(f"times: their span exceeds {axis.dtype}; use a wider dtype")
        require_few_steps(axis[-1], self._split_time, "times")
        return raw, axis

    def _require_room(self, axis: NDArray[Any]) -> None:
        """Check that the frames to hold do not exceed the limit."""
        if len(self) - self._begin + len(axis) <= self._most_held:
            return
        if len(self):
            axis = np.concatenate([self._entries(self._begin)["time"], axis])
        equal = np.arange(1, len(axis) + 1) - np.searchsorted(axis, self._as_near(axis))
        if at := int(np.argmax(equal > self._most_held)):  # never the first
            raise ValueError(
                f"times: {equal[at]:,} frames up to frame {self._begin + at} have the same time, "
                f"{axis[at]} s after the first; at most {self._most_held:,} can be held until "
                "time goes on. Does the clock of the camera stand still?"
            )

    def _as_near(self, time: Any) -> Any:
        """Return the time from which on frames may be as near to a future step as at this time."""
        return np.float64(time) * (1 - self._late) - self._blur

    def _take(self, frames: NDArray[Any], axis: NDArray[Any]) -> int:
        """Copy as many frames as fit, and return their number."""
        size, number = len(self._ring), len(self)
        row = number % size
        count = min(len(frames), size - row, size - (number - self._begin))
        frames, axis = frames[:count], axis[:count]
        self._ring[row : row + count] = frames
        entries = np.empty(count, self._entry)
        entries["time"] = axis
        if self._band_rows is not None:
            entries["brightness"] = band_means(frames, self._band_rows)
        self._log += entries.tobytes()
        return count

    def _enlarge(self) -> None:
        """Enlarge the ring for frames that are held while time stands still."""
        held = np.arange(self._begin, len(self))
        ring = np.empty((2 * len(self._ring), *self.shape), self.dtype)
        ring[held % len(ring)] = self._ring[held % len(self._ring)]
        self._ring = ring

    def _find_windows(self) -> None:
        """Find the windows of the steps that time has passed."""
        known = len(self._starts)
        last = self._entries(len(self) - 1)["time"][0]
        # There is no further step up to here, however it is rounded.
        if last <= 0 or float(last) < known * float(self._split_time) * (1 - 1e-9):
            return
        steps = step_times(np.array([0, last], last.dtype), self._split_time)[known:]
        steps = steps[steps <= last]
        if len(steps):
            held = np.ascontiguousarray(self._entries(self._begin)["time"])
            self._starts += (self._begin + nearest_to(held, steps)).tolist()

    def _compute(self) -> None:
        """Compute the medians of all complete windows."""
        final = self.final
        complete = bisect_right(self._starts, len(self) - self._length)
        starts = list(dict.fromkeys(self._starts[final:complete]))
        if not starts:
            return
        for start, median in zip(starts, self._select(starts, self._length), strict=True):
            number = len(self._place)
            self.latest = self._medians.put(number, median)
            self._place[start] = number

    def _select(self, starts: list[int], length: int) -> NDArray[Any]:
        """Return the median image of each of these windows."""
        medians = np.empty((1 + len(starts), *self.shape), self.dtype)
        of_window = np.array([-length, *(start - self._begin for start in starts)])
        done = 0
        if self.latest is not None:
            medians[0] = self.latest  # a good first guess for the next one
            done = 1
        rows = np.arange(self._begin, len(self)) % len(self._ring)
        skip = 1 - done
        median_images(
            self._ring, rows, of_window[skip:], length, medians[skip:], self._num_cpus, done
        )
        return medians[1:]

    def _let_go(self) -> None:
        """Release the frames that no future window can contain."""
        held = self._entries(self._begin)["time"]
        tied = self._begin + int(np.searchsorted(held, self._as_near(held[-1])))
        self._begin = max(self._begin, min(len(self) - self._length, tied))


class _Kept:
    """Median images, in memory or in a file.

    The file is written rather than mapped into memory: a full disk is then an error, not the end of
    the process. It has no buffer, which would still hold an image that the disk refused.
    """

    def __init__(self, shape: tuple[int, int], dtype: np.dtype[Any], file: FileIO | None) -> None:
        self._shape = shape
        self._dtype = dtype
        self._file = file
        self._images: list[NDArray[Any]] = []

    def put(self, number: int, image: NDArray[Any]) -> NDArray[Any]:
        """Keep an image, and return a read-only copy."""
        copy = image.copy()
        copy.flags.writeable = False
        if self._file is None:
            self._images[number:] = [copy]
        else:
            self._file.seek(number * copy.nbytes)
            left = memoryview(copy.tobytes())
            while left:
                left = left[self._file.write(left) :]
        return copy

    def image(self, number: int) -> NDArray[Any]:
        """Return an image by its number."""
        if self._file is None:
            return self._images[number]
        size = self._shape[0] * self._shape[1] * self._dtype.itemsize
        self._file.seek(number * size)
        return np.frombuffer(self._file.read(size), self._dtype).reshape(self._shape)

    def close(self, count: int) -> None:
        """Close the file, if there is one; so many of its images can still be read."""
        if self._file is not None:
            with self._file:
                self._images = list(self.series(count, None)) if count else []
            self._file = None

    def series(self, count: int, more: NDArray[Any] | None) -> NDArray[Any]:
        """Return the first images, followed by some more, as one array."""
        shape = (count + (0 if more is None else len(more)), *self._shape)
        if self._file is None:
            series = np.empty(shape, self._dtype)
            for number, image in enumerate(self._images[:count]):
                series[number] = image
            if more is not None:
                series[count:] = more
            return series
        for number, image in enumerate(() if more is None else more, count):
            self.put(number, image)
        return np.memmap(self._file, self._dtype, "r", shape=shape)
