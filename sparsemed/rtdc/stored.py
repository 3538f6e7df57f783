"""Backgrounds that a measurement holds already."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from os import PathLike
from typing import Any

from sparsemed.hdf5.entries import Attributes, as_text
from sparsemed.hdf5.reach import Policy
from sparsemed.parameters import Parameters
from sparsemed.rtdc.events import Feature
from sparsemed.rtdc.measurement import Measurement, unless_wrong
from sparsemed.rtdc.pipeline_id import from_ppid


@dataclass(frozen=True)
class StoredBackground:
    """Background images that a measurement holds, or finds in a basin.

    Attributes
    ----------
    source, dataset, mapped
        As in `Images`.
    count : int
        Number of images in the dataset.
    ppid, generation : str or None
        Pipeline identifier and pipeline generation that it was written with.
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
    """Find background images, and for each the offsets that were written along with it."""
    images, offsets = (_everywhere(measurement, name) for name in ("image_bg", "bg_off"))
    for feature in images:
        attributes = Attributes(feature.dataset)
        names = ("background", "generation")
        ppid, generation = (attributes.get(f"dcnum ppid {name}") for name in names)
        file = feature.dataset.file.filename
        of_it = [each.label for each in offsets if each.dataset.file.filename == file]
        yield StoredBackground(
            source=measurement.source_of(feature),
            dataset=feature.label,
            mapped=feature.mapping is not None,
            count=int(feature.dataset.shape[0]),
            ppid=None if ppid is None else as_text(ppid),
            generation=None if generation is None else as_text(generation),
            offsets=of_it[0] if of_it else None,
        )


def _everywhere(measurement: Measurement, name: str) -> list[Feature]:
    """Return a feature from every place that has it; what is wrong with a basin is told there."""
    found = [unless_wrong(partial(measurement.own, name), [])]
    for basin in measurement.basins:
        found.append(unless_wrong(partial(measurement.from_basin, basin, name), []))
    return [feature for feature in found if feature is not None]


def stored_parameters(path: str | PathLike[str], basins: Policy = "any") -> dict[str, Any]:
    """Return the parameters of the background that a measurement holds, or the defaults.

    Parameters
    ----------
    path : str or path
        The measurement.
    basins : str
        Which other files it may lead to; see `sparsemed.compute_background`.

    Returns
    -------
    dict
        Names and values of `sparsemed.parameters.Parameters`; those of the default
        if there is no background, or one of another method.

    Raises
    ------
    OSError, ValueError
        If the measurement cannot be read.
    """
    with Measurement(path, basins) as measurement:
        ppid = stored_ppid(measurement)
    with suppress(ValueError):
        if ppid is not None:
            return from_ppid(ppid)
    return asdict(Parameters())


def stored_ppid(measurement: Measurement) -> str | None:
    """Return the PPID of the background that a measurement holds; None without one."""
    stored = measurement.feature("image_bg")
    if stored is None:
        return None
    own = Attributes(stored.dataset).get("dcnum ppid background")
    ppid = measurement.metadata.get("pipeline:dcnum background") if own is None else own
    return None if ppid is None else as_text(ppid)
