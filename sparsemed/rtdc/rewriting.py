"""Checks that a file holds only what a run writes, so that another run may write it anew."""

import re
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from sparsemed.hdf5.entries import Attributes, as_text, entry, subgroup
from sparsemed.hdf5.opening import open_restored, opened
from sparsemed.rtdc.basins import Basin, read_basins
from sparsemed.rtdc.metadata import attribute_as_copied, data_as_copied
from sparsemed.rtdc.references import references
from sparsemed.rtdc.unfinished import is_unfinished
from sparsemed.rtdc.verdicts import VERDICT
from sparsemed.storage import disk
from sparsemed.storage.places import AnyPath

_COUNT = "experiment:event count"
"""Attribute with the number of frames."""

_TOPICS = ("logs", "tables")
_OURS = re.compile(r"(Created by )?sparsemed \d")


def can_be_rewritten(path: Path, source: AnyPath | None) -> bool:
    """Return whether nothing is lost if a result is written anew.

    The file may be unfinished. Otherwise it may hold a background with its verdict, copies from
    the measurement, and the reference that sparsemed wrote; the result of an array, only the
    first. Anything else was added by the user: a feature, a log, an attribute.

    Parameters
    ----------
    path : Path
        The result.
    source : Path, optional
        The measurement; None if the background is that of an array.
    """
    if is_unfinished(path):
        return True
    if not disk.can_be_replaced(path):
        return False
    try:
        with ExitStack() as stack:
            h5 = stack.enter_context(open_restored(path))
            measurement = None
            if source is not None:
                measurement = stack.enter_context(opened(source))
            return _has_only_a_background(h5, measurement) and _has_only_copies(h5, measurement)
    except (OSError, ValueError, TypeError, KeyError, RuntimeError):  # an odd file is left alone
        return False


def _has_only_a_background(h5: h5py.File, measurement: h5py.File | None) -> bool:
    """Whether a file has only the features and basins that a new one would have."""
    groups = {name: group for name in h5 if (group := subgroup(h5, name)) is not None}
    events, inside = (set(groups.get(name) or ()) for name in ("events", "basin_events"))
    theirs = [] if measurement is None else read_basins(measurement)
    ours = read_basins(h5)
    own = [
        basin
        for basin in references(ours, theirs)
        if _OURS.match(str(basin.record.get("description")))
    ]
    taken_over = [_essence(basin) for basin in theirs]
    return (
        set(h5) == set(groups) <= {"events", "basin_events", "basins", *_TOPICS}
        and not any(group.attrs for group in groups.values())
        and not h5.userblock_size
        and events <= {"bg_off", *(basin.mapping for basin in ours)}
        and inside == {"image_bg"}
        and "dcnum ppid background" in groups["basin_events"]["image_bg"].attrs
        and bool(own) == (measurement is not None)
        and all(
            basin.features == ["image_bg"]
            if basin.is_internal
            else basin in own or _essence(basin) in taken_over
            for basin in ours
        )
    )


def _essence(basin: Basin) -> dict[str, Any]:
    """Return the values that a basin shares with its copy, whose mapping may have another name."""
    kept = ("type", "name", "description", "paths", "urls", "features", "identifier")
    return {name: basin.record.get(name) for name in kept} | {"mapped": basin.mapping is not None}


def _has_only_copies(h5: h5py.File, measurement: h5py.File | None) -> bool:
    """Whether all attributes, logs and tables of a file are those of its measurement."""
    kept = [f"{topic}/{name}" for topic in _TOPICS for name in subgroup(h5, topic) or ()]
    if measurement is None:
        return not h5.attrs and set(kept) <= set(VERDICT)
    for name in h5.attrs:
        if name not in measurement.attrs:
            return False
        if name == _COUNT:  # grows with a recording
            continue
        if not _same(Attributes(h5)[name], attribute_as_copied(measurement, name)):
            return False
    for name in kept:
        if name in VERDICT:
            continue
        copy, original = (entry(each, name) for each in (h5, measurement))
        if not (isinstance(copy, h5py.Dataset) and isinstance(original, h5py.Dataset)):
            return False
        if not _same(copy[()], data_as_copied(original)) or not _same_notes(copy, original):
            return False
    return True


def _same_notes(copy: h5py.Dataset, original: h5py.Dataset) -> bool:
    """Whether a log has the attributes of the original, except for the recorded writer."""
    ours, theirs = dict(Attributes(copy)), dict(Attributes(original))
    if original.ndim:
        said = as_text(ours.pop("software", "")).split(" | ")
        before = as_text(theirs.pop("software", ""))
        if said[:-1] != (before.split(" | ") if before else []) or not _OURS.match(said[-1]):
            return False
    return ours.keys() == theirs.keys() and all(_same(ours[name], theirs[name]) for name in ours)


def _same(one: Any, other: Any) -> bool:
    one, other = np.asarray(one), np.asarray(other)
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    if one.dtype.hasobject:
        return bool(one.tolist() == other.tolist())
    return bool(one.tobytes() == other.tobytes())  # where NaN equals NaN
