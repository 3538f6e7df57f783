"""The interface of a place in a network, and the connection to its host."""

import http.client
import re
import socket
import ssl
from typing import NamedTuple, Protocol

from sparsemed.storage import connections
from sparsemed.storage.answers import PassingError, refusal_of_proxy
from sparsemed.storage.connections import Calls, Guard, lend
from sparsemed.storage.urls import Url


class Way(NamedTuple):
    """The request for an object.

    Attributes
    ----------
    url : Url
        It may hold a signature.
    token : str or None
        Value of the header ``Authorization``.
    until : float
        Seconds since the epoch at which it expires.
    """

    url: Url
    token: str | None = None
    until: float = float("inf")


class Record(NamedTuple):
    """How readers of a result find an object: the format of the basin, and an address."""

    format: str
    url: str


class Place(Protocol):
    """The place of an object; it can be pickled."""

    @property
    def shown(self) -> str:
        """Name in messages, without login and signature."""

    @property
    def key(self) -> str:
        """Key, equal for the same object; it may hold a signature."""

    @property
    def file_name(self) -> str:
        """Name of the object, without its path."""

    @property
    def record(self) -> Record | None:
        """How readers of a result find it; None if they would need a secret."""

    @property
    def is_renewed(self) -> bool:
        """Whether `way` returns another link later on."""

    def way(self, calls: Calls, /) -> Way:
        """Return the request for the object; this may need requests of its own.

        Raises
        ------
        OSError
            If these fail.
        """


def call(
    place: Place, url: Url, guard: Guard, calls: Calls
) -> tuple[http.client.HTTPConnection, bool]:
    """Return a connection for an object, and whether it was used before; see `lend`.

    Raises
    ------
    PassingError
        If it fails for a temporary reason.
    OSError
        If it fails; the message names the object and says what to do.
    """
    try:
        return lend(url, guard, calls)
    except connections.ForbiddenHostError:
        why = f"leads to {url.host}, which is not followed, as it is no public host"
    except ssl.SSLCertVerificationError:
        why = (
            f"the certificate of {url.host} is not trusted; if it comes from an authority of your "
            "own, set SSL_CERT_FILE to the certificate of that authority"
        )
    except connections.SettingError as error:
        why = str(error)
    except (OSError, http.client.HTTPException) as error:
        found = _TUNNEL.match(str(error))
        if found is None:
            raise PassingError(cause(error)) from None
        why = refusal_of_proxy(int(found[1]))
    raise OSError(f"{place.shown}: {why}")


_TUNNEL = re.compile(r"Tunnel connection failed: (4\d\d)")
"""The error of Python on a refusal by a proxy; the rest of it comes from the proxy."""


def cause(error: Exception) -> str:
    """Return the cause of an error, without its message."""
    if isinstance(error, socket.gaierror):
        return "its host is unknown, or there is no network"
    if isinstance(error, TimeoutError):
        return "the server does not answer"
    if isinstance(error, ConnectionRefusedError):
        return "the host refuses connections"
    if isinstance(error, (ConnectionError, http.client.RemoteDisconnected)):
        return "the server hangs up"
    if isinstance(error, http.client.IncompleteRead):
        return "the answer ends before its end"
    if isinstance(error, ssl.SSLError):
        return "no secure connection can be made"
    if isinstance(error, OSError) and "Tunnel" in str(error):
        return "the proxy refuses it"
    return f"reading fails ({type(error).__name__})"
