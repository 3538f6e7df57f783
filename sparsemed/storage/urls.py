"""Addresses in a network: read as people write them, and shown without secrets."""

import ipaddress
import re
from typing import NamedTuple
from urllib.parse import quote, unquote, urljoin

_SPLIT = re.compile(r"(?i)\s*(https?)://([^/?]*)([^?]*)(?:\?(.*))?\s*", re.DOTALL)
_LOOSE_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_PORTS = {"http": 80, "https": 443}

_KEPT = "/:@!$&'()*+,;=~-._%"  # what a path may hold as it is; what is encoded stays so


class Url(NamedTuple):
    """An address, each part as it is sent.

    Attributes
    ----------
    scheme : str
        ``"http"`` or ``"https"``.
    host : str
        In lower case; of IPv6, without brackets.
    port : int
    path : str
        From its slash on.
    query : str
        What follows the question mark; it may hold a signature.
    login : str
        Name and password, with a colon between; or nothing.
    """

    scheme: str
    host: str
    port: int
    path: str
    query: str = ""
    login: str = ""

    @property
    def netloc(self) -> str:
        """Host, and the port where it is not the usual one."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def target(self) -> str:
        """What is asked for on the host."""
        return f"{self.path}?{self.query}" if self.query else self.path

    @property
    def shown(self) -> str:
        """The address without login and query: what messages and results may tell."""
        return f"{self.scheme}://{self.netloc}{self.path}"

    @property
    def whole(self) -> str:
        """The address with its query, which may hold a signature, but without login."""
        return f"{self.scheme}://{self.netloc}{self.target}"

    @property
    def name(self) -> str:
        """Last part of the path, decoded: what the file is called."""
        return unquote(self.path.rpartition("/")[2])


def parse_url(text: str) -> Url:
    """Return the parts of an address, encoded where it was not.

    A ``#`` counts as part of the name, as a measurement has no parts that a browser could jump to.

    Raises
    ------
    ValueError
        If it is no address of a file. The message tells no query.

    Examples
    --------
    >>> parse_url("HTTPS://Data.Example.org/raw data/grün 50%.rtdc").shown
    'https://data.example.org/raw%20data/gr%C3%BCn%2050%25.rtdc'
    """
    found = _SPLIT.fullmatch(text)
    if found is None:
        raise ValueError(f"{text.partition('?')[0]!r} is no address like https://host/path")
    scheme, authority, path, query = (part or "" for part in found.groups())
    login, _, place = authority.rpartition("@")
    scheme = scheme.lower()
    host, port = _host_and_port(place, scheme)
    path = quote(_LOOSE_PERCENT.sub("%25", path), safe=_KEPT) or "/"
    query = quote(_LOOSE_PERCENT.sub("%25", query), safe=_KEPT + "?")
    return Url(scheme, host, port, path, query.rstrip(), unquote(login))


def _host_and_port(place: str, scheme: str) -> tuple[str, int]:
    found = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]\s]+)(?::(\d+))?", place)
    try:
        if found is None:
            raise ValueError
        host = found[1].strip("[]").lower()
        if not host.isascii():
            host = host.encode("idna").decode()
        port = int(found[2] or _PORTS[scheme])
        if ":" in host:
            ipaddress.IPv6Address(host)
        if not 0 < port < 65536:
            raise ValueError
    except ValueError as error:  # which an encoding may raise, too
        raise ValueError(f"{place!r} is no name of a host") from error
    return host, port


def redirected(url: Url, location: str) -> Url:
    """Return where an answer leads to; a login goes along only to the same host.

    Raises
    ------
    ValueError
        If that is no address of a file in a network, such as ``file:``.
    """
    found = parse_url(urljoin(url.whole, location))
    is_same = (found.scheme, found.host, found.port) == (url.scheme, url.host, url.port)
    return found._replace(login=url.login if is_same else "")
