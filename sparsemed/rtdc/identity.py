"""Identifies a measurement by its content, to recognize it later.

Names are not enough: working folders change, and files are moved, replaced and named alike. Many
measurements have no identifier. So the identity includes a digest of some frames and all times.
"""

import hashlib
from functools import partial

import numpy as np
from numpy.typing import NDArray

from sparsemed.hdf5.entries import Attributes, as_text
from sparsemed.hdf5.opening import bytes_behind
from sparsemed.printable import quoted
from sparsemed.rtdc.events import Feature
from sparsemed.rtdc.measurement import Measurement, unless_wrong
from sparsemed.storage.identity import Identity
from sparsemed.storage.places import RemotePath
from sparsemed.storage.ranged import RangedBytes
from sparsemed.storage.stored import file_state

DIGEST_ATTRIBUTE = "sparsemed digest of frames"
"""Attribute of a result with the digest of its measurement."""

VERSION_ATTRIBUTE = "sparsemed version of measurement"
"""Attribute of a result with the version of its measurement in a network."""

LOOKED_AT = 4
"""Number of frames in a digest, evenly spaced: each costs the decoding of a chunk."""


def identify(measurement: Measurement, count: int) -> Identity:
    """Return the identity of a measurement, for its first `count` frames.

    Raises
    ------
    OSError, ValueError
        If times or frames cannot be read.
    """
    return Identity(
        path=measurement.place,
        given=measurement.path,
        kind="measurement",
        count=count,
        identifier=measurement.events.identifier,
        digest=digest_of(measurement, count),
        states=measurement.access.states,
    )


def digest_of(measurement: Measurement, count: int) -> str:
    """Return a digest of the times of `count` frames, and of a few frames.

    It does not depend on how they are stored: chunks, filters and basins do not count.

    Raises
    ------
    OSError, ValueError
        If they cannot be read.
    """
    image = measurement.image
    digest = hashlib.sha256(repr((count, image.shape[1:])).encode())
    with measurement.reading():
        numbers = np.unique(np.linspace(0, count - 1, LOOKED_AT).astype(int))
        image.fetch_together(numbers)
        for number in numbers.tolist():
            digest.update(_plain(image[number : number + 1]))
        for name in ("time", "frame"):
            axis = unless_wrong(partial(measurement.feature, name), [])
            if axis is not None and axis.dtype.kind in "fiu":
                digest.update(name.encode() + _plain(axis.read()[:count]))
    return digest.hexdigest()


def stored_digest(images: Feature) -> str | None:
    """Return the digest of the measurement, as stored with background images, or None."""
    recorded = Attributes(images.dataset).get(DIGEST_ATTRIBUTE)
    return None if recorded is None else as_text(recorded)


def version_of(measurement: Measurement) -> str | None:
    """Return the version of a measurement in a network; None if its server does not tell one."""
    stored = bytes_behind(measurement.events.h5)
    if not isinstance(stored, RangedBytes) or not stored.version.is_known:
        return None
    return " ".join(map(str, stored.state))


def stored_version(images: Feature) -> str | None:
    """Return the version of the measurement, as stored with background images, or None."""
    recorded = Attributes(images.dataset).get(VERSION_ATTRIBUTE)
    return None if recorded is None else as_text(recorded)


def _plain(values: NDArray[np.generic]) -> bytes:
    """Return values and their dtype as bytes, the same in either byte order."""
    little: NDArray[np.generic] = values.astype(values.dtype.newbyteorder("<"), copy=False)
    data: bytes = little.tobytes()
    return little.dtype.str.encode() + data


def difference(measurement: Measurement, identity: Identity) -> str | None:
    """Return how a measurement differs from an identity, or None if it does not.

    Raises
    ------
    OSError, ValueError
        If its times or frames cannot be read.
    """
    found = measurement.events.identifier
    if found != identity.identifier:
        return f"its identifier was {quoted(identity.identifier)} and is {quoted(found)}"
    if digest_of(measurement, identity.count) != identity.digest:
        return "it holds other frames or times"
    return None


def is_same(measurement: Measurement, identity: Identity) -> bool:
    """Whether a measurement has an identity; see `difference`."""
    return difference(measurement, identity) is None


def require_same(measurement: Measurement, identity: Identity) -> None:
    """Check that a measurement is the one from which frames were read.

    Raises
    ------
    ValueError
        If it is another one now, or holds other frames or times.
    OSError
        If its frames cannot be read any more, and it was changed.
    """
    try:
        differs = difference(measurement, identity)
    except (OSError, ValueError):  # a missing basin is no error if the file itself is unchanged
        if isinstance(identity.path, RemotePath):
            raise
        if file_state(identity.path) != dict(identity.states).get(str(identity.path)):
            raise
        return
    if differs is not None:
        raise ValueError(
            f"{identity.given}: was replaced or changed since its frames were read ({differs}); "
            "put that measurement back, or compute again"
        )
