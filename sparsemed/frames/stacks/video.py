"""Videos, frame by frame, by PyAV: in grey, as the decoder gives it."""

from collections import deque
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsemed.frames.choice import ANY, Choice
from sparsemed.frames.stacks.foreign import by_its_begin
from sparsemed.frames.stacks.library import naming, require
from sparsemed.warned import warn

SUFFIXES = (
    ".3gp",
    ".asf",
    ".avi",
    ".flv",
    ".m2ts",
    ".m4v",
    ".mkv",
    ".mov",
    ".mp4",
    ".mpeg",
    ".mpg",
    ".mts",
    ".mxf",
    ".ogv",
    ".ts",
    ".webm",
    ".wmv",
    ".y4m",
)
"""Endings of files that are read as videos."""


def is_video(path: Path) -> bool:
    """Whether this is a file with the name of a video."""
    return path.suffix.lower() in SUFFIXES and path.is_file()


@contextmanager
def open_video(path: Path, choice: Choice) -> Iterator[Any]:
    """Provide the frames of a video as an array, of which little is held."""
    library = require("av", path, "videos")
    choice.only(str(path), "series", "channel")
    if (what := by_its_begin(path)) is not None:
        raise ValueError(f"{path}: {what}")
    with closing(VideoFrames(path, library, choice)) as frames:
        yield frames


class VideoFrames:
    """The frames of a video as an array for `ArrayFrames`, decoded when sliced.

    A frame in YUV yields its brightness; one in RGB yields the chosen channel, or any if all are
    equal.

    Parameters
    ----------
    path : Path
    av : module
        PyAV.
    choice : Choice
        Its series is the number of one of several videos; its channel, which of the colours red,
        green and blue to take.

    Attributes
    ----------
    frame_rate : float or None
        Frames per second, if constant.
    times : ndarray, shape (N,), seconds, or None
        Time of each frame, if the rate is not constant.
    num_cpus : int
        Threads that decode.
    """

    def __init__(self, path: Path, av: Any, choice: Choice = ANY) -> None:
        self._path = path
        self._place = path.absolute()  # opened anew to jump, wherever one works by then
        self._av = av
        self.num_cpus = 1
        self._series = choice.series
        self._channel = choice.channel
        self._container: Any = None
        self._decoded: Iterator[Any] = iter(())
        self._at = 0
        with naming(path):
            self._stamps, self.frame_rate, self.times = self._survey()
            self.close()
            first = self._next_from(0)
            self.close()  # it was opened for one thread
        self.dtype = first.dtype
        self.shape = (len(self._stamps), *first.shape)

    def close(self) -> None:
        """Close the file."""
        if self._container is not None:
            self._container.close()
            self._container = None

    def __getitem__(self, frames: slice) -> NDArray[Any]:
        start, stop, _ = frames.indices(self.shape[0])
        out = np.empty((max(0, stop - start), *self.shape[1:]), self.dtype)
        for number in range(start, stop):
            try:
                image = self._next_from(number)
            except self._av.FFmpegError as error:
                raise OSError(f"frame {number}: {error}") from error
            if (image.shape, image.dtype) != (self.shape[1:], self.dtype):
                raise OSError(
                    f"frame {number} has shape {image.shape} and dtype {image.dtype}, but frame 0 "
                    f"has {self.shape[1:]} and {self.dtype}"
                )
            out[number - start] = image
        return out

    def _open(self) -> Any:
        """Open the file anew, and return its video."""
        self.close()
        self._container = self._av.open(str(self._place))
        stream = self._chosen(self._container.streams.video)
        stream.thread_type = "AUTO"
        stream.codec_context.thread_count = self.num_cpus
        return stream

    def _chosen(self, streams: Any) -> Any:
        """Return the chosen one of several videos; a cover picture is none."""
        cover = self._av.stream.Disposition.attached_pic
        videos = [stream for stream in streams if not stream.disposition & cover]
        if not videos:
            raise ValueError("there is no video in it")
        number = 0 if self._series is None and len(videos) == 1 else self._series
        if number is None or not 0 <= number < len(videos):
            listed = "; ".join(
                f"{at}: {each.width} × {each.height}" for at, each in enumerate(videos)
            )
            raise ValueError(
                f"{self._path}: holds {len(videos)} videos ({listed}); choose series=0 to "
                f"series={len(videos) - 1}"
            )
        return videos[number]

    def _survey(self) -> tuple[list[int | None], float | None, NDArray[np.float64] | None]:
        """Return the time of each frame in units of the file, and the rate, or times in seconds.

        Nothing is decoded.
        """
        stream = self._open()
        found: list[int | None] = []
        listed = end = 0
        for packet in self._container.demux(stream):
            listed += packet.dts is not None
            if packet.size and not packet.is_discard:
                found.append(packet.pts)
                end = max(end, (packet.pts or 0) + (packet.duration or 0))
        if not found:
            raise ValueError("there are no frames in it")
        rate = None if stream.average_rate is None else float(stream.average_rate)
        if self._container.format.name == "avi" and listed < stream.frames - 1:
            self._tell_cut(f"{stream.frames} frames", f"{listed} of them")
        if None in found or len(set(found)) < len(found):
            if rate is None:
                raise ValueError("it has neither times nor a rate of its frames")
            return [None] * len(found), rate, None
        stamps = sorted(stamp for stamp in found if stamp is not None)
        unit = float(stream.time_base)
        times = (np.array(stamps) - stamps[0]) * unit
        longest = float(np.diff(times).max(initial=unit))
        missing = self._told_length(stream) - end * unit
        if missing > 2 * longest + 1 / (rate or np.inf):
            self._tell_cut(f"{end * unit + missing:.6g} s", f"frames of {end * unit:.6g} s")
        # Times are rounded to the unit of the file, rates are not.
        if rate and np.abs(times - np.arange(len(times)) / rate).max() <= unit:
            return list(stamps), rate, None
        return list(stamps), None, times

    def _told_length(self, stream: Any) -> float:
        """Return when the video ends by a header that is written first, in seconds; or 0.

        In other formats, what is cut off cannot be decoded, or nothing tells how much there was.
        """
        if (text := stream.metadata.get("DURATION")) is not None:  # of Matroska
            hours, minutes, seconds = map(float, text.split(":"))
            return 3600 * hours + 60 * minutes + seconds
        is_flash = self._container.format.name == "flv" and len(self._container.streams) == 1
        length = self._container.duration if is_flash else None
        return 0 if length is None else float(length / self._av.time_base)

    def _tell_cut(self, told: str, found: str) -> None:
        warn(
            f"{self._path}: is cut off: its header tells of {told}, but it holds {found}; copy it "
            "again from its origin"
        )

    def _next_from(self, number: int) -> NDArray[Any]:
        """Return a frame: the next one, or any other, after a jump."""
        if self._container is None or self._at != number:
            self._jump(number)
        try:
            frame = next(self._decoded)
        except StopIteration:
            raise OSError(
                f"frame {number} cannot be decoded, though the file lists {len(self._stamps)}; is "
                "it cut off? 'ffmpeg -i FILE -c:v ffv1 whole.mkv' saves the frames that are whole"
            ) from None
        self._at = number + 1
        if frame.format.has_palette:  # the palette is at the beginning only: no jumps
            self._stamps = [None] * len(self._stamps)
        return self._grey(frame)

    def _jump(self, number: int) -> None:
        """Make a frame the next one to be decoded."""
        stamp = self._stamps[number]
        ahead = number - self._at
        if self._container is None or stamp is not None or ahead < 0:
            stream = self._open()
            if stamp is not None and number:
                self._container.seek(stamp, stream=stream, backward=True)
            self._decoded = self._container.decode(stream)
            ahead = number
        if stamp is None:
            deque(islice(self._decoded, ahead), maxlen=0)
        elif number:
            later = (frame for frame in self._decoded if frame.pts >= stamp)
            self._decoded = chain(islice(later, 1), self._decoded)

    def _grey(self, frame: Any) -> NDArray[Any]:
        """Return a frame in grey."""
        layout = frame.format
        if layout.is_rgb or layout.has_palette:
            deep = layout.components[0].bits > 8 and not layout.has_palette
            colours = frame.to_ndarray(format="rgb48le" if deep else "rgb24")
            if self._channel is not None:
                if not 0 <= self._channel < 3:
                    raise ValueError(
                        f"{self._path}: there is no channel={self._channel}; choose 0, 1 or 2"
                    )
                return np.ascontiguousarray(colours[..., self._channel])
            if (colours[..., :1] != colours).any():
                raise ValueError(
                    f"{self._path}: is in colour; choose channel=0 (red), channel=1 (green) or "
                    "channel=2 (blue)"
                )
            return np.ascontiguousarray(colours[..., 0])
        if self._channel is not None:
            raise ValueError(
                f"{self._path}: has no channel to choose, but channel={self._channel} is given; "
                "leave it out"
            )
        if not layout.is_planar and len(layout.components) > 1:  # brightness among the colours
            frame = frame.reformat(format="yuv422p")
            layout = frame.format
        plane = frame.planes[0]
        deep = layout.components[0].bits > 8
        order = ">" if layout.is_big_endian else "<"
        rows = np.frombuffer(plane, np.dtype(f"{order}u2") if deep else np.uint8)
        rows = rows.reshape(plane.height, -1)[:, : plane.width]
        return rows.astype(np.uint16 if deep else np.uint8)
