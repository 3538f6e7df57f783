"""Reads backgrounds that a measurement already has."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sparsemed.frames.opening import open_frames
from sparsemed.frames.source import Batch
from sparsemed.hdf5.entries import Attributes, as_text
from sparsemed.kernels.cores import available_cores
from sparsemed.method.assignment import find_steps
from sparsemed.method.offsets import BAND_ROWS
from sparsemed.method.repeated import repeat
from sparsemed.method.result import Background
from sparsemed.method.time_axis import require_axis, time_axis
from sparsemed.parameters import Parameters
from sparsemed.rtdc.events import Feature
from sparsemed.rtdc.frames import measurement_time
from sparsemed.rtdc.identity import identify, stored_digest
from sparsemed.rtdc.measurement import Measurement, unless_wrong
from sparsemed.rtdc.output import ROWS_ATTRIBUTE
from sparsemed.rtdc.pipeline_id import from_ppid
from sparsemed.storage.identity import Identity
from sparsemed.warned import warn


@dataclass(frozen=True)
class StoredBackground:
    """Background images in a measurement or in one of its basins.

    Attributes
    ----------
    source, dataset, mapped
        See `Images`.
    count : int
        Number of images in the dataset.
    ppid, generation : str or None
        Its pipeline identifier and pipeline generation.
    offsets : str or None
        File and dataset of the brightness offsets (``bg_off``) that belong to it.
    """

    source: str
    dataset: str
    mapped: bool
    count: int
    ppid: str | None
    generation: str | None
    offsets: str | None


def stored_backgrounds(measurement: Measurement) -> Iterator[StoredBackground]:
    """Yield all background images, each with the offsets that belong to it."""
    images, offsets = (_everywhere(measurement, name) for name in ("image_bg", "bg_off"))
    for feature in images:
        attributes = Attributes(feature.dataset)
        names = ("background", "generation")
        ppid, generation = (attributes.get(f"dcnum ppid {name}") for name in names)
        of_it = [each.label for each in offsets if each.key == feature.key]
        yield StoredBackground(
            source=measurement.source_of(feature),
            dataset=feature.label,
            mapped=feature.mapping is not None,
            count=int(feature.dataset.shape[0]),
            ppid=None if ppid is None else as_text(ppid),
            generation=None if generation is None else as_text(generation),
            offsets=of_it[0] if of_it else None,
        )


def read_background(measurement: Measurement, time: ArrayLike | None) -> Background:
    """Return the background in a measurement, as far as a file keeps it.

    Parameters
    ----------
    measurement : Measurement
    time : array-like, shape (N,), seconds, or None
        Time of each frame. Default: the time axis of the measurement.

    Raises
    ------
    OSError, ValueError
        If there is no background, if it is of another method, or if it cannot be read.
    """
    path = measurement.path
    feature = measurement.feature("image_bg")
    if feature is None:
        raise ValueError(
            f"{path}: holds no background; compute one: sparsemed.compute_background({str(path)!r})"
        )
    parameters = _parameters(measurement)
    with measurement.reading():
        images, frame_index = _read_images(feature)
        offsets, offset_rows = None, BAND_ROWS
        if parameters.offset_correction:
            offsets, offset_rows = _read_offsets(measurement, feature, len(frame_index))
    has_frames, axis = _frames_and_time(measurement, time, len(frame_index))
    steps = find_steps(axis, frame_index, len(images), float(parameters.split_time))
    return Background.of_images(
        images,
        frame_index,
        offsets,
        axis,
        **({} if steps is None else {"step_times": steps}),
        parameters=parameters,
        offset_rows=offset_rows,
        identity=_identity(measurement, feature, len(frame_index)) if has_frames else None,
        basins=measurement.access.policy,
    )


def _identity(measurement: Measurement, images: Feature, count: int) -> Identity | None:
    """Return the identity of the frames; None if the images were computed from other frames."""
    identity = identify(measurement, count)
    recorded = stored_digest(images)
    if recorded in (None, identity.digest):
        return identity
    warn(
        f"{measurement.path}: its background was computed from other frames or times, so results "
        "that need frames are left out; compute it again"
    )
    return None


def _parameters(measurement: Measurement) -> Parameters:
    ppid = stored_ppid(measurement)
    try:
        if ppid is None:
            raise ValueError("it has no pipeline identifier")
        return Parameters(**from_ppid(ppid))
    except ValueError as error:
        raise ValueError(
            f"{measurement.path}: its background is of another method or of unknown origin "
            f"({error}); compute it anew: "
            f"sparsemed.compute_background({str(measurement.path)!r})"
        ) from error


def _read_images(feature: Feature) -> tuple[Any, NDArray[np.int64]]:
    """Return background images, and for each frame the index of its image.

    Equal consecutive images are held once: after an export, each frame may have its own copy.
    """
    frames = open_frames(feature.dataset, available_cores(), feature.label)
    count = frames.shape[0]
    distinct: list[NDArray[Any]] = []
    index = np.empty(count, np.int64)
    starts, height = range(0, count, frames.batch), frames.shape[1]
    batches = [Batch(start, min(start + frames.batch, count), height) for start in starts]
    with frames.reading(batches) as read:
        for start, stop, _ in batches:
            images = np.empty((stop - start, *frames.shape[1:]), frames.dtype)
            read(start, stop, images)
            for number, image in enumerate(images, start):
                if not distinct or not np.array_equal(image, distinct[-1]):
                    distinct.append(image.copy())
                index[number] = len(distinct) - 1
    if feature.mapping is None:
        return np.stack(distinct), index
    return repeat(np.stack(distinct), index), feature.mapping


def _read_offsets(
    measurement: Measurement, images: Feature, count: int
) -> tuple[NDArray[np.float64] | None, int]:
    """Return the offsets that belong to images, and the number of their rows."""
    for each in _everywhere(measurement, "bg_off"):
        if each.key == images.key:
            require_axis(each.shape, each.dtype, count, each.label)
            rows = Attributes(each.dataset).get(ROWS_ATTRIBUTE)
            return each.read().astype(np.float64), BAND_ROWS if rows is None else int(rows)
    warn(f"{measurement.path}: has a background without its offsets (bg_off)")
    return None, BAND_ROWS


def _frames_and_time(
    measurement: Measurement, time: ArrayLike | None, count: int
) -> tuple[bool, NDArray[Any]]:
    """Return whether the frames can be read, and the time of each frame."""
    path = measurement.path
    try:
        frames = len(measurement.image)
    except (OSError, ValueError) as error:
        warn(f"Results that need frames are left out: {error}")
        feature = unless_wrong(partial(measurement.feature, "time"), []) if time is None else None
        return False, time_axis(count, time=time if feature is None else feature.read())
    if frames != count:
        raise ValueError(
            f"{path}: has {frames} images, but a background of {count}; compute it again"
        )
    return True, measurement_time(measurement) if time is None else time_axis(count, time=time)


def _everywhere(measurement: Measurement, name: str) -> list[Feature]:
    """Return a feature from every place that has it; failures of basins are ignored."""
    found = [unless_wrong(partial(measurement.own, name), [])]
    for basin in measurement.basins:
        found.append(unless_wrong(partial(measurement.from_basin, basin, name), []))
    return [feature for feature in found if feature is not None]


def stored_parameters(measurement: Measurement) -> dict[str, Any]:
    """Return the parameters of the background in a measurement, or the defaults.

    Parameters
    ----------
    measurement : Measurement

    Returns
    -------
    dict
        Names and values of `sparsemed.parameters.Parameters`; the defaults if there
        is no background, or one of another method.

    Raises
    ------
    OSError, ValueError
        If the measurement cannot be read.
    """
    ppid = stored_ppid(measurement)
    with suppress(ValueError):
        if ppid is not None:
            return from_ppid(ppid)
    return asdict(Parameters())


def stored_ppid(measurement: Measurement) -> str | None:
    """Return the PPID of the background in a measurement, or None."""
    stored = measurement.feature("image_bg")
    if stored is None:
        return None
    own = Attributes(stored.dataset).get("dcnum ppid background")
    ppid = measurement.metadata.get("pipeline:dcnum background") if own is None else own
    return None if ppid is None else as_text(ppid)
