"""Follows a basin: finds, checks and opens its file.

`OPENERS` has a function for each format of basins.
"""

from collections.abc import Iterator
from pathlib import Path

from sparsemed.hdf5.entries import Attributes
from sparsemed.hdf5.file_access import MISSING
from sparsemed.hdf5.opening import bytes_behind, is_elsewhere
from sparsemed.printable import printable, quoted
from sparsemed.rtdc.basins import Basin, known_identifiers
from sparsemed.rtdc.events import KINDS, Events, Failure, Follow
from sparsemed.rtdc.search import as_spelled, places_of
from sparsemed.storage import connections
from sparsemed.storage.connections import Guard
from sparsemed.storage.place import Place
from sparsemed.storage.places import basin_place
from sparsemed.storage.ranged import RangedBytes

DEEPEST = 16
"""Largest number of files that are followed one after the other, through basins of basins."""


def follow(events: Events, basin: Basin) -> Events | Failure:
    """Return the events of the file that a basin leads to, or why there are none."""
    usual = "http" if basin.is_remote else "hdf5"
    return OPENERS.get(basin.format or usual, OPENERS[usual])(events, basin)


def follow_file(events: Events, basin: Basin) -> Events | Failure:
    """Open the first of the possible files of a basin that is the right measurement."""
    access = events.access
    shown = ", ".join(quoted(path) for path in basin.paths[:1])
    if access.policy == "off":  # not even its existence is checked
        reason = f" leads to {shown}, which basins='off' does not follow"
        return Failure(basin, reason, "not followed")
    if is_elsewhere(events.h5):  # a file from a network must not choose what is read here
        reason = f" leads from a network to {shown} on this machine, and is not followed"
        return Failure(basin, reason, "not followed")
    failures: list[Failure] = []
    for path in _places(events, basin):
        refusal = access.refusal(path)
        if refusal == MISSING:
            continue
        if refusal is not None:
            reason = f" leads to {quoted(path)}, {refusal}"
            failures.append(Failure(basin, reason, "not followed"))
            continue
        found = _open(events, basin, path)
        if isinstance(found, Events):
            return found
        failures.append(found)
    if not failures:
        return Failure(basin, f" leads to {shown or 'no file'}, {MISSING}", "gone")
    return _all_in_one(basin, failures)


def follow_remote(events: Events, basin: Basin) -> Events | Failure:
    """Open the first of the addresses of a basin that is the right measurement."""
    access = events.access
    if access.policy != "network":  # without a request
        return _not_followed(events, basin)
    failures: list[Failure] = []
    for url in basin.urls:
        try:
            place = basin_place(url, basin.format)
        except ValueError as error:
            failures.append(Failure(basin, f": {error}", "wrong"))
            continue
        found = _open(events, basin, place)
        if isinstance(found, Events):
            return found
        failures.append(found)
    if not failures:
        return Failure(basin, " leads to no address", "gone")
    return _all_in_one(basin, failures)


def _not_followed(events: Events, basin: Basin) -> Failure:
    """Return the failure of a basin in a network that the policy forbids to open."""
    hosts = ", ".join(map(quoted, basin.hosts)) or "a network"
    name = Path(events.name).name
    reason = (
        f" is at {hosts}, and is not followed; choose basins='network', or download it beside "
        f"{name}"
    )
    return Failure(basin, reason, "not followed")


OPENERS: dict[str, Follow] = {
    "hdf5": follow_file,
    "http": follow_remote,
    "s3": follow_remote,
    "dcor": follow_remote,
}
"""By format of a basin, the function that opens its file or returns a failure."""


def _places(events: Events, basin: Basin) -> Iterator[Path]:
    """Yield the possible files of a basin: as spelled on the disk, or else as recorded."""
    access = events.access
    for place in places_of(basin.paths, events.folder, access.here):
        spelled = None
        if access.refusal(place) == MISSING and access.policy in ("any", "network"):
            spelled = as_spelled(place)
        yield spelled or place


def _open(events: Events, basin: Basin, place: Path | Place) -> Events | Failure:
    """Open one of the places of a basin, unless it leads in a circle or too far."""
    if isinstance(place, Path):
        name, shown, key = printable(place), quoted(place), str(place.resolve())
    else:
        name, shown, key = place.shown, place.shown, place.key
    if key in events.way:
        return Failure(basin, f" leads back to {shown}", "not followed")
    if len(events.way) > DEEPEST:
        return Failure(basin, f" leads through more than {DEEPEST} files", "wrong")
    try:
        if isinstance(place, Path):
            h5 = events.access.open(place)
        else:
            h5 = events.access.open_stored(RangedBytes(place, guard=_guard(events)))
        found = known_identifiers(Attributes(h5))
        if not _is_meant(events, basin, found):
            expected = basin.identifier if basin.identifier is not None else events.identifier
            return Failure(
                basin,
                f" leads to {name}, which is another measurement: "
                f"expected identifier {quoted(expected)}, "
                f"found {quoted(next(iter(found), None))}",
                "wrong",
            )
        return Events(h5, events.access, follow, events.way)
    except OSError as error:
        return Failure(basin, f": {error}", "unreadable")
    except ValueError as error:
        separator = " " if str(error).startswith("leads to") else ": "  # from `FileAccess`
        return Failure(basin, f"{separator}{error}", "wrong")
    except (KeyError, RuntimeError) as error:
        reason = f": {name}: is damaged, or no RT-DC file ({error})"
        return Failure(basin, reason, "unreadable")


def _guard(events: Events) -> Guard:
    """Return the check of hosts that a file may lead to.

    A file on a public host may lead to public hosts only, so that its author cannot choose
    requests in this network. No file may lead to services of this machine.
    """
    stored = bytes_behind(events.h5)
    is_public = isinstance(stored, RangedBytes) and stored.is_public
    return connections.is_public if is_public else connections.is_of_a_network


def _is_meant(events: Events, basin: Basin, found: list[str]) -> bool:
    """Whether a file with these identifiers is the one that a basin refers to.

    Without an identifier in the record, the file must have ours; of a mapped basin, ours must
    begin with the file's. A file without one is accepted.
    """
    if basin.identifier is not None:
        return basin.identifier in found
    own = events.identifiers
    if not found or not own:
        return True
    if basin.mapping is None:
        return not set(own).isdisjoint(found)
    return any(identifier.startswith(tuple(found)) for identifier in own)


def _all_in_one(basin: Basin, failures: list[Failure]) -> Failure:
    """Return one failure with the reasons of several, of the worst of their kinds."""
    reasons = dict.fromkeys(failure.reason for failure in failures)
    worst = max(failures, key=lambda failure: KINDS.index(failure.kind))
    return Failure(basin, ", and".join(list(reasons)[:5]), worst.kind)
