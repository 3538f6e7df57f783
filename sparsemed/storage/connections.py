"""Connections to hosts in a network, kept for the next request.

HDF5 reads through this module while it holds a lock for which Python's garbage collection may wait,
in any thread. So this module uses no locks.
"""

import base64
import encodings.idna  # noqa: F401  (needed to look up names, and never to be loaded late)
import http.client
import ipaddress
import os
import socket
import ssl
import time
import traceback
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from sparsemed.storage.urls import Url
from sparsemed.version import __version__

CONNECT_SECONDS = 5.0
"""Longest time to connect to a host."""

SILENCE_SECONDS = 30.0
"""Longest time without a byte."""

_KEPT_SECONDS = 15.0  # hosts hang up on idle connections, many after 60 s, some after 20

_MOST_KEPT = 32

CA_VARIABLES = ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
"""Variables of further trusted authorities; Python itself reads SSL_CERT_FILE."""

_TRUSTED = ("SSL_CERT_FILE", "SSL_CERT_DIR", *CA_VARIABLES)

Guard = Callable[[str], bool]
"""Tells whether a host may be used, by its address (IPv4 or IPv6) as text."""

_idle: dict[tuple[str, str, int], deque[tuple[float, http.client.HTTPConnection]]] = {}


class ForbiddenHostError(OSError):
    """A host that may not be used."""


class SettingError(Exception):
    """An environment variable has an invalid value; the message names it."""


class Calls:
    """Connections in use, so that another thread can end them.

    Attributes
    ----------
    is_over : bool
        Whether they were ended.
    """

    def __init__(self) -> None:
        self.is_over = False
        self._connections: set[http.client.HTTPConnection] = set()

    def begin(self, connection: http.client.HTTPConnection) -> None:
        """Note that a connection is in use."""
        self._connections.add(connection)

    def done(self, connection: http.client.HTTPConnection) -> None:
        """Note that a connection is no longer in use."""
        self._connections.discard(connection)

    def end(self) -> None:
        """End all connections in use; threads that wait for them get an OSError."""
        self.is_over = True
        for connection in list(self._connections):
            sock = connection.sock
            if sock is not None:  # it has begun, and not ended by itself
                with suppress(OSError):
                    # that of an SSLSocket would remove the object with which the other thread reads
                    socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def rest(self, seconds: float) -> None:
        """Wait, at most until the connections are ended."""
        until = time.monotonic() + seconds
        while not self.is_over and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, 0.1))


def lend(url: Url, guard: Guard, calls: Calls) -> tuple[http.client.HTTPConnection, bool]:
    """Return a connection to the host of an address, and whether it was used before.

    It is added to `calls` until `Calls.done`.

    Raises
    ------
    ForbiddenHostError
        If the guard refuses all addresses of the host.
    OSError
        If the host cannot be reached.
    """
    kept = _idle.get((url.scheme, url.host, url.port))
    while kept:
        try:
            since, connection = kept.pop()
        except IndexError:  # another thread was faster
            break
        if time.monotonic() - since < _KEPT_SECONDS and guard(_asked(url, connection)):
            calls.begin(connection)
            return connection, True
        connection.close()
    return _connect(url, guard, calls), False


def give_back(url: Url, connection: http.client.HTTPConnection) -> None:
    """Keep a connection for the next request, after its answer was read completely."""
    kept = _idle.setdefault((url.scheme, url.host, url.port), deque())
    if len(kept) < _MOST_KEPT:
        kept.append((time.monotonic(), connection))
    else:
        connection.close()


def hang_up() -> None:
    """Close all idle connections."""
    for kept in list(_idle.values()):
        while kept:
            try:
                kept.pop()[1].close()
            except IndexError:
                break


if hasattr(os, "register_at_fork"):  # a connection belongs to one process
    os.register_at_fork(after_in_child=hang_up)


def _peer(connection: http.client.HTTPConnection) -> str:
    """Return the address that a connection leads to."""
    try:
        return str(connection.sock.getpeername()[0])
    except OSError:  # it is broken; the next request reports it
        return ""


def leads_to_public(url: Url, connection: http.client.HTTPConnection) -> bool:
    """Return whether a connection for an address leads to a public host."""
    return is_public(_asked(url, connection))


def _asked(url: Url, connection: http.client.HTTPConnection) -> str:
    """Return the address to which a connection leads; behind a proxy, as far as it is known."""
    return _peer(connection) if _proxy(url) is None else _literal(url.host)


def is_public(address: str) -> bool:
    """Return whether an address, IPv4 or IPv6, is public."""
    return bool(_ip(address).is_global)


def is_of_a_network(address: str) -> bool:
    """Return whether an address is not link-local, as services of cloud machines are."""
    return not _ip(address).is_link_local


def _ip(address: str) -> Any:
    found: Any = ipaddress.ip_address(address.partition("%")[0] or "0.0.0.0")
    return getattr(found, "ipv4_mapped", None) or found


def _connect(url: Url, guard: Guard, calls: Calls) -> http.client.HTTPConnection:
    proxy = _proxy(url)
    if proxy is None:
        connection: Any = http.client.HTTPConnection(url.host, url.port)
    else:
        if not guard(_literal(url.host)):
            raise ForbiddenHostError(url.host)
        guard = lambda _: True  # noqa: E731  (the user has chosen the proxy)
        connection = http.client.HTTPConnection(proxy.hostname, proxy.port or 8080)
        if url.scheme == "https":
            connection.set_tunnel(url.host, url.port, proxy_headers(url))
    connection._create_connection = lambda *_: _reach(connection, guard, calls)
    calls.begin(connection)
    try:
        connection.connect()
        if url.scheme == "https":
            context = _context(tuple((name, os.environ.get(name)) for name in _TRUSTED))
            connection.sock = context.wrap_socket(
                connection.sock, server_hostname=url.host, do_handshake_on_connect=False
            )
            connection.sock.do_handshake()  # only now, so that `Calls.end` can end it
        connection.sock.settimeout(SILENCE_SECONDS)
        if calls.is_over:  # `Calls.end` came before the socket was connected
            raise OSError("reading was ended")
    except BaseException as error:
        calls.done(connection)
        connection.close()
        traceback.clear_frames(error.__traceback__)  # old Pythons leave a proxy's answer open there
        raise
    found: http.client.HTTPConnection = connection
    return found


def _reach(connection: http.client.HTTPConnection, guard: Guard, calls: Calls) -> socket.socket:
    """Connect to the first address of a host that is allowed and answers."""
    failure: OSError = ForbiddenHostError(connection.host)
    places = socket.getaddrinfo(connection.host, connection.port, 0, socket.SOCK_STREAM)
    for family, kind, protocol, _, place in places:
        if not guard(str(place[0])):
            continue
        connection.sock = found = socket.socket(family, kind, protocol)
        try:
            if calls.is_over:  # `Calls.end` came before there was a socket, as a name was looked up
                raise OSError("reading was ended")
            found.settimeout(CONNECT_SECONDS)
            found.connect(place)
            return found
        except OSError as error:
            found.close()
            failure = error
    raise failure


def _literal(host: str) -> str:
    """Return a host as an address; a name, which only a proxy looks up, counts as public."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return "127.0.0.1" if host == "localhost" or host.endswith(".localhost") else "1.1.1.1"


def _proxy(url: Url) -> Any:
    """Return the proxy for an address from the usual variables, or None.

    Raises
    ------
    SettingError
        If a variable has an invalid value.
    """
    known = getproxies()
    kind = url.scheme if url.scheme in known else "all"
    found = known.get(kind)
    if not found or proxy_bypass(url.host):
        return None
    with suppress(ValueError):
        proxy = urlsplit(found if "://" in found else f"http://{found}")
        if proxy.scheme.startswith("socks"):
            raise SettingError(
                f"{kind}_proxy is a SOCKS proxy, which is not supported; set {url.scheme}_proxy to "
                f"an HTTP proxy (http://host:port), add {url.host} to no_proxy if it can be "
                "reached without, or download the file"
            )
        if proxy.scheme == "http" and proxy.hostname and proxy.port != 0:
            return proxy
    raise SettingError(f"{kind}_proxy must be a proxy like http://host:port")


def is_proxied(url: Url) -> bool:
    """Return whether requests go to a proxy with the whole address."""
    return url.scheme == "http" and _proxy(url) is not None


def proxy_headers(url: Url) -> dict[str, str]:
    """Return the headers for a proxy."""
    proxy = _proxy(url)
    headers = {"User-Agent": USER_AGENT}
    if proxy is not None and proxy.username:
        login = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
        headers["Proxy-Authorization"] = basic(login)
    return headers


USER_AGENT = f"sparsemed/{__version__}"


def basic(login: str) -> str:
    """Return the value of a header with name and password."""
    return f"Basic {base64.b64encode(login.encode()).decode()}"


@lru_cache
def _context(variables: tuple[tuple[str, str | None], ...]) -> ssl.SSLContext:
    """Return a context with the authorities of the system (or SSL_CERT_FILE) and of variables.

    Raises
    ------
    SettingError
        If the file of a variable has none.
    """
    context = ssl.create_default_context()
    for name, bundle in variables:
        if bundle and name in CA_VARIABLES:
            is_folder = os.path.isdir(bundle)
            try:
                context.load_verify_locations(**{"capath" if is_folder else "cafile": bundle})
            except OSError:
                raise SettingError(
                    f"{name} names {bundle}, which has no readable certificates of authorities"
                ) from None
    return context
