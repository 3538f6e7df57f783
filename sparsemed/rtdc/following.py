"""Where a basin leads: the file that it means, found, checked and opened.

How that is done depends on the format of the basin; `OPENERS` has one way for each.
"""

from collections.abc import Iterator
from pathlib import Path

from sparsemed.hdf5.entries import Attributes
from sparsemed.hdf5.file_access import MISSING
from sparsemed.printable import printable, quoted
from sparsemed.rtdc.basins import Basin, known_identifiers
from sparsemed.rtdc.events import KINDS, Events, Failure, Follow
from sparsemed.rtdc.search import as_spelled, places_of

DEEPEST = 16
"""Basins of basins that are followed, from one file to the next."""


def follow(events: Events, basin: Basin) -> Events | Failure:
    """Return the events of the file that a basin leads to, or why there are none."""
    usual = "http" if basin.is_remote else "hdf5"
    return OPENERS.get(basin.format or usual, OPENERS[usual])(events, basin)


def follow_file(events: Events, basin: Basin) -> Events | Failure:
    """Open the first file that a basin may mean and that is the right measurement."""
    access = events.access
    shown = ", ".join(quoted(path) for path in basin.paths[:1])
    if access.policy == "off":  # without as much as a look
        reason = f" leads to {shown}, which basins='off' does not follow"
        return Failure(basin, reason, "not followed")
    failures: list[Failure] = []
    for path in _places(events, basin):
        refusal = access.refusal(path)
        if refusal == MISSING:
            continue
        if refusal is not None:
            reason = f" leads to {quoted(path)}, {refusal}"
            failures.append(Failure(basin, reason, "not followed"))
        elif str(path.resolve()) in events.way:
            failures.append(Failure(basin, f" leads back to {quoted(path)}", "not followed"))
        elif len(events.way) > DEEPEST:
            reason = f" leads through more than {DEEPEST} files"
            failures.append(Failure(basin, reason, "wrong"))
        else:
            found = _open(events, basin, path)
            if isinstance(found, Events):
                return found
            failures.append(found)
    if not failures:
        return Failure(basin, f" leads to {shown or 'no file'}, {MISSING}", "gone")
    reasons = dict.fromkeys(failure.reason for failure in failures)
    worst = max(failures, key=lambda failure: KINDS.index(failure.kind))
    return Failure(basin, ", and".join(list(reasons)[:5]), worst.kind)


def not_downloaded(events: Events, basin: Basin) -> Failure:
    """Say where in a network a basin is."""
    hosts = ", ".join(map(quoted, basin.hosts)) or "a network"
    reason = f" is at {hosts}, and is not downloaded; download it, and put it beside"
    return Failure(basin, f"{reason} {Path(events.name).name}", "not followed")


OPENERS: dict[str, Follow] = {
    "hdf5": follow_file,
    "http": not_downloaded,
    "s3": not_downloaded,
    "dcor": not_downloaded,
}
"""By the format of a basin, what opens the file that it leads to, or says why there is none."""


def _places(events: Events, basin: Basin) -> Iterator[Path]:
    """Yield the files that a basin may mean; those that are not there as they are recorded."""
    access = events.access
    for place in places_of(basin.paths, events.folder, access.here):
        spelled = None
        if access.refusal(place) == MISSING and access.policy == "any":
            spelled = as_spelled(place)
        yield spelled or place


def _open(events: Events, basin: Basin, path: Path) -> Events | Failure:
    try:
        h5 = events.access.open(path)
        found = known_identifiers(Attributes(h5))
        if not _is_meant(events, basin, found):
            expected = basin.identifier if basin.identifier is not None else events.identifier
            return Failure(
                basin,
                f" leads to {printable(path)}, which is another measurement: "
                f"expected identifier {quoted(expected)}, "
                f"found {quoted(next(iter(found), None))}",
                "wrong",
            )
        return Events(h5, events.access, follow, events.way)
    except OSError as error:
        return Failure(basin, f": {error}", "unreadable")
    except ValueError as error:
        separator = " " if str(error).startswith("leads to") else ": "  # `FileAccess` goes on
        return Failure(basin, f"{separator}{error}", "wrong")
    except (KeyError, RuntimeError) as error:
        reason = f": {quoted(path)}: is damaged, or no RT-DC file ({error})"
        return Failure(basin, reason, "unreadable")


def _is_meant(events: Events, basin: Basin, found: list[str]) -> bool:
    """Whether a file that is known by these identifiers is the one that a basin means.

    Where the record does not say which, it is the measurement of the file that has the basin; what
    is mapped is part of one, whose identifier then begins with that one's. Who has none may be
    anyone.
    """
    if basin.identifier is not None:
        return basin.identifier in found
    own = events.identifiers
    if not found or not own:
        return True
    if basin.mapping is None:
        return not set(own).isdisjoint(found)
    return any(identifier.startswith(tuple(found)) for identifier in own)
