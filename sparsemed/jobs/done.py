"""Checks whether a result is up to date: it exists, and has the wanted parameters."""

import time
from pathlib import Path
from typing import NamedTuple

from sparsemed.frames.stacks import stack_kind, states_of_stack, writing
from sparsemed.hdf5.entries import Attributes, as_text
from sparsemed.jobs.options import RunOptions
from sparsemed.jobs.runs import Run
from sparsemed.jobs.stack_runs import IMAGES, TO_STACKS, AnyRun, StackRun, origin_of
from sparsemed.parameters import Parameters
from sparsemed.quality.finding import Finding, overall
from sparsemed.report.pictures import thumbnail
from sparsemed.result import stored_findings
from sparsemed.rtdc.events import Feature
from sparsemed.rtdc.identity import digest_of, stored_digest, stored_version, version_of
from sparsemed.rtdc.measurement import Measurement, naming_damage
from sparsemed.rtdc.pipeline_id import GENERATION, to_ppid
from sparsemed.rtdc.references import references, relation
from sparsemed.storage.identity import States
from sparsemed.storage.places import RemotePath, is_remote
from sparsemed.warned import warn


class Stored(NamedTuple):
    """A background that exists already.

    Attributes
    ----------
    frames, height, width, kept : int
        See `FileResult`.
    verdict, findings : str or None, tuple of Finding
        See `FileResult`; they are from the time when it was computed.
    """

    frames: int
    height: int
    width: int
    kept: int
    verdict: str | None = None
    findings: tuple[Finding, ...] = ()


def find_done(run: AnyRun, options: RunOptions) -> Stored | None:
    """Return the background that a run would make if it exists, else None.

    An unreadable result counts as missing; computing it reports the error.
    """
    return _of_stack(run, options) if isinstance(run, StackRun) else _of_measurement(run, options)


def _of_stack(run: StackRun, options: RunOptions) -> Stored | None:
    """Return the background of a stack: a TIFF or Zarr, of these files and with these options.

    Frames less their background have the same notes on their origin, but are no background.
    """
    if run.output.suffix.lower() not in TO_STACKS or run.options.subtracted is not None:
        return None
    if (notes := writing.read_notes(run.output)) is None:
        return None
    try:
        states = _states_of(run, options)
    except (OSError, ValueError):
        return None
    wanted = {"what": IMAGES, "pipeline": options.ppid, **origin_of(states, run.options)}
    if any(notes.get(name) != value for name, value in wanted.items()):
        return None
    return Stored(*(notes[name] for name in ("frames", "height", "width", "kept", "verdict")))


def _states_of(run: StackRun, options: RunOptions) -> States:
    """Return the files that hold a stack: for a dataset, also those to which links lead."""
    if run.options.choice.dataset is None or stack_kind(run.source) is not None:
        return states_of_stack(run.source.absolute(), run.options.choice)
    with run.open(options) as given:
        return () if given.identity is None else given.identity.states


def _of_measurement(run: Run, options: RunOptions) -> Stored | None:
    """Return the background of a measurement.

    The output must be whole, belong to the measurement, have these parameters, and not be older
    than the measurement. If it has a digest, a few frames are read to compare it. For a
    measurement in a network, its version counts instead of times and frames.
    """
    try:
        written = run.output.stat().st_mtime_ns
        with (
            Measurement(run.source, options.basins) as measurement,
            Measurement(run.output, "off") as result,
        ):
            image = measurement.image
            stored = _stored(result, options.parameters, len(image))
            if stored is None or stored[1:3] != image.shape[1:]:
                return None
            if isinstance(run.source, RemotePath):  # no frame is read
                version = version_of(measurement)
                is_same = version is not None and version == _version(result)
                return stored if is_same and _belongs(result, measurement, is_known=True) else None
            digest = _digest(result)
            if digest is not None and digest != digest_of(measurement, len(image)):
                return None
            if not run.in_place:
                files = [run.source, *(() if is_remote(image.key) else (Path(image.key),))]
                newest = max(file.stat().st_mtime_ns for file in files)
                if newest > time.time_ns():
                    _tell_of_clock(run.source, newest)
                if written < newest or not _belongs(
                    result, measurement, is_known=digest is not None
                ):
                    return None
            return stored
    except (OSError, ValueError, TypeError, KeyError, RuntimeError):
        return None


def _tell_of_clock(source: Path, changed: int) -> None:
    """Warn that a measurement was changed in the future, so that no result is newer."""
    ahead = (changed - time.time_ns()) / 1e9
    warn(
        f"{source}: its last change is {ahead:,.0f} s ahead of the clock of this machine, so it "
        "is computed again each time; set the clock, or the time of the file with touch"
    )


def stored_thumbnail(path: Path) -> str | None:
    """Return a thumbnail of the background in a file, if there is one."""
    with Measurement(path, "off") as result, naming_damage(path):
        feature = result.feature("image_bg")
        if feature is None or not len(feature.dataset):
            return None
        return thumbnail(feature.dataset[len(feature.dataset) // 2])


def _stored(result: Measurement, parameters: Parameters, count: int) -> Stored | None:
    """Return the background in a file, if it has so many frames and these parameters."""
    ppid = to_ppid(parameters)
    image = result.feature("image_bg")
    if image is None or len(image) != count or not _is_of(image, ppid):
        return None
    if parameters.offset_correction:
        offsets = result.own("bg_off")
        if offsets is None or len(offsets) != count or not _is_of(offsets, ppid):
            return None
    kept, height, width = image.dataset.shape
    findings = stored_findings(result)
    verdict = overall(findings) if findings else None
    return Stored(count, height, width, kept, verdict, findings)


def _is_of(feature: Feature, ppid: str) -> bool:
    attributes = Attributes(feature.dataset)
    wanted = {"dcnum ppid background": ppid, "dcnum ppid generation": GENERATION}
    return all(as_text(attributes.get(name, "")) == value for name, value in wanted.items())


def _digest(result: Measurement) -> str | None:
    image = result.feature("image_bg")
    return None if image is None else stored_digest(image)


def _version(result: Measurement) -> str | None:
    image = result.feature("image_bg")
    return None if image is None else stored_version(image)


def _belongs(result: Measurement, measurement: Measurement, *, is_known: bool) -> bool:
    """Whether a result refers to its measurement or, without a reference, has its identifier.

    A measurement without identifier and digest (`is_known`) may have replaced another one. If the
    measurement was moved, the result does not count: a new run records the new place.
    """
    identifiers = measurement.events.identifiers
    found = references(result.basins, measurement.basins)
    if not identifiers and not is_known:
        return False
    if not found:
        return not set(identifiers).isdisjoint(result.events.identifiers)
    return any(
        (basin.identifier in identifiers if identifiers else basin.identifier is None)
        and isinstance(result.path, Path)
        and relation(basin, result.path, measurement.path, identifiers, measurement.access.policy)
        == "same"
        for basin in found
    )
