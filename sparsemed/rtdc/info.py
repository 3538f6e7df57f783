"""Facts about a measurement file: its images, time, backgrounds and basins."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import h5py
import numpy as np

from sparsemed.frames.codecs import CODECS
from sparsemed.frames.filters import NAMES
from sparsemed.frames.hdf5_layout import filters_of, why_hdf5_reads
from sparsemed.hdf5.file_access import Policy
from sparsemed.method.time_axis import GUESSED_FRAME_RATE, STRETCH
from sparsemed.rtdc.basins import Basin
from sparsemed.rtdc.events import Failure, Feature
from sparsemed.rtdc.frames import measurement_frames, measurement_time
from sparsemed.rtdc.measurement import Measurement, unless_wrong
from sparsemed.rtdc.stored_backgrounds import StoredBackground, stored_backgrounds
from sparsemed.rtdc.verdicts import Row, read_verdict
from sparsemed.storage.places import FileName, shown_url


@dataclass(frozen=True)
class Images:
    """The images of a measurement.

    Attributes
    ----------
    source : str
        ``"this file"``, ``"internal basin"`` or ``"file basin"``.
    dataset : str
        File and dataset.
    mapped : bool
        Whether the mapping of a basin selects frames of the dataset.
    count, height, width : int
        Number of frames, and their shape.
    dtype : str
        Dtype as stored.
    chunks : tuple of int, or None
        Shape of the chunks; None if the dataset is not chunked.
    filters : tuple of str
        Filters in the order in which they were applied.
    stored_bytes : int
        Bytes of the dataset in its file.
    obstacle : str or None
        Why HDF5 itself must read the frames; None if the fast path applies.
    """

    source: str
    dataset: str
    mapped: bool
    count: int
    height: int
    width: int
    dtype: str
    chunks: tuple[int, ...] | None
    filters: tuple[str, ...]
    stored_bytes: int
    obstacle: str | None


@dataclass(frozen=True)
class Time:
    """The time axis of a measurement.

    Attributes
    ----------
    origin : str
        ``"time"``: times are stored; ``"frame"``: frame numbers divided by the
        frame rate; ``"frame rate"``: an estimate from number and rate of the
        frames; ``"guess"``: nothing is known.
    text : str
        The same in words.
    frame_rate : float or None
        Rate of the camera in Hz, if the file has it.
    span : float
        Seconds from the first frame to the last.
    ascends : bool
        Whether times never decrease.
    """

    origin: str
    text: str
    frame_rate: float | None
    span: float
    ascends: bool


@dataclass(frozen=True)
class BasinFacts:
    """A basin record, and whether its file can be opened.

    Attributes
    ----------
    name, kind : str
        Name and type.
    features : tuple of str, or None
        Its features; None if the record does not tell.
    mapping : str or None
        Feature with its mapping.
    target : str
        The file or group that it leads to.
    problem : str or None
        Why it cannot be used, if so.
    """

    name: str
    kind: str
    features: tuple[str, ...] | None
    mapping: str | None
    target: str
    problem: str | None


@dataclass(frozen=True)
class Info:
    """The content of a measurement file.

    Attributes
    ----------
    path : str
        The file.
    size : int
        Bytes of the file.
    images : Images or None
        None if no images are found.
    time : Time or None
        None if there are no images, or no time axis that fits them.
    backgrounds : tuple of StoredBackground
        In the order of search: readers use the first.
    basins : tuple of BasinFacts
        In the order of search.
    findings : tuple of Row
        Stored verdict on the first background; see `sparsemed.rtdc.verdicts.read_verdict`.
    problems : tuple of str
        Why no background can be computed; empty if it can.
    """

    path: str
    size: int
    images: Images | None
    time: Time | None
    backgrounds: tuple[StoredBackground, ...]
    basins: tuple[BasinFacts, ...]
    findings: tuple[Row, ...]
    problems: tuple[str, ...]


def info(path: FileName, basins: Policy = "any") -> Info:
    """Return the content of a measurement file.

    Parameters
    ----------
    path : str or path
        The file.
    basins : str
        Which other files it may lead to: ``"off"``, ``"same-folder"``, ``"any"`` or ``"network"``;
        see `sparsemed.compute_background`.

    Raises
    ------
    OSError, ValueError
        If it cannot be opened as a measurement. Other problems are part of the result.
    """
    with Measurement(path, basins) as measurement:
        problems: list[str] = []
        with measurement.reading():
            image = unless_wrong(lambda: measurement.image, problems)
            images = time = None
            if image is not None and len(image.shape) == 3:
                images = unless_wrong(partial(_images, measurement, image), problems)
            if image is not None and not problems:
                # find what computing would refuse
                unless_wrong(partial(measurement_frames, measurement, 1), problems)
            if images is not None and images.count:
                time = unless_wrong(partial(_time, measurement), problems)
            return Info(
                path=str(measurement.path),
                size=measurement.size,
                images=images,
                time=time,
                backgrounds=tuple(stored_backgrounds(measurement)),
                basins=tuple(_basin(measurement, basin) for basin in measurement.basins),
                findings=unless_wrong(partial(read_verdict, measurement), []) or (),
                problems=tuple(problems),
            )


def _images(measurement: Measurement, image: Feature) -> Images:
    count, height, width = image.shape
    return Images(
        source=measurement.source_of(image),
        dataset=image.label,
        mapped=image.mapping is not None,
        count=count,
        height=height,
        width=width,
        dtype=str(image.dtype),
        chunks=image.dataset.chunks,
        filters=tuple(_filter_names(image.dataset)),
        stored_bytes=int(image.dataset.id.get_storage_size()),
        obstacle=why_hdf5_reads(image.dataset),
    )


def _filter_names(dataset: h5py.Dataset) -> Iterator[str]:
    for number, values, name in filters_of(dataset):
        codec = CODECS.get(number)
        known = NAMES.get(number) or f"{number} ({name})"
        yield f"{known} {values[0]}" if codec and codec.has_level and values else known


def _time(measurement: Measurement) -> Time:
    """Describe the time axis that `measurement_time` chooses."""
    axis = measurement_time(measurement)
    rate = measurement.frame_rate
    if (time := measurement.feature("time")) is not None:
        origin, text = "time", f"stored times ({time.label})"
    elif rate is None:
        origin = "guess"
        text = f"a guess: {GUESSED_FRAME_RATE / STRETCH:.0f} frames per second"
    elif (frame := measurement.feature("frame")) is not None:
        origin, text = "frame", f"frame numbers ({frame.label}) and the frame rate"
    else:
        origin = "frame rate"
        text = f"an estimate: the number of frames by the frame rate, times {STRETCH}"
    return Time(
        origin=origin,
        text=text,
        frame_rate=_number(rate),
        span=float(axis[-1] - axis[0]),
        ascends=bool(np.all(axis[1:] >= axis[:-1])),
    )


def _number(value: Any) -> float | None:
    """Return an attribute as a number, if it is one."""
    try:
        return float(np.asarray(value).item())
    except (TypeError, ValueError):
        return None


def _basin(measurement: Measurement, basin: Basin) -> BasinFacts:
    problems: list[str] = []
    target = ", ".join(str(path) for path in basin.paths)
    if basin.is_remote:
        target = ", ".join(map(shown_url, basin.urls))
    if basin.is_file or basin.is_remote:
        led_to = measurement.events.lead(basin)
        if isinstance(led_to, Failure):
            is_gone = led_to.kind == "gone"
            problems.append("there is no such file" if is_gone else led_to.reason.lstrip(": "))
        else:
            target = led_to.name
    elif not basin.is_internal:
        problems.append("basins of this type are unknown, and not followed")
    if basin.mapping is not None:
        mapping = unless_wrong(partial(measurement.own, basin.mapping), problems)
        if mapping is None and not problems:
            problems.append(f"its mapping events/{basin.mapping} is missing")
    if not problems:
        for name in basin.features or ["image"]:
            if not problems:
                unless_wrong(partial(measurement.from_basin, basin, name), problems)
    return BasinFacts(
        name=basin.name,
        kind=str(basin.record.get("type")),
        features=None if basin.features is None else tuple(map(str, basin.features)),
        mapping=basin.mapping,
        target=target,
        problem=problems[0] if problems else None,
    )
