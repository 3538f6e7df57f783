"""Addresses in a network: parsed as users write them, and shown without secrets."""

import ipaddress
import re
from typing import NamedTuple
from urllib.parse import quote, unquote, urljoin

_SPLIT = re.compile(r"(?i)\s*(https?)://([^/?]*)([^?]*)(?:\?(.*))?\s*", re.DOTALL)
_LOOSE_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_PORTS = {"http": 80, "https": 443}

_KEPT = "/:@!$&'()*+,;=~-._%"  # characters of a path that are not encoded (again)


class Url(NamedTuple):
    """An address; each part is encoded as it is sent.

    Attributes
    ----------
    scheme : str
        ``"http"`` or ``"https"``.
    host : str
        In lower case; IPv6 without brackets.
    port : int
    path : str
        Path with its leading slash.
    query : str
        Text after the question mark; it may hold a signature.
    login : str
        Name and password with a colon between, or empty.
    """

    scheme: str
    host: str
    port: int
    path: str
    query: str = ""
    login: str = ""

    @property
    def netloc(self) -> str:
        """Host, with the port unless it is the default."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def target(self) -> str:
        """Path and query."""
        return f"{self.path}?{self.query}" if self.query else self.path

    @property
    def shown(self) -> str:
        """The address without login and query, for messages and results."""
        return f"{self.scheme}://{self.netloc}{self.path}"

    @property
    def whole(self) -> str:
        """The address with its query, which may hold a signature, but without login."""
        return f"{self.scheme}://{self.netloc}{self.target}"

    @property
    def name(self) -> str:
        """Name of the file: the last part of the path, decoded."""
        return unquote(self.path.rpartition("/")[2])


def parse_url(text: str) -> Url:
    """Return the parts of an address, encoded if they were not.

    A ``#`` is part of the name, as measurements have no fragments.

    Raises
    ------
    ValueError
        If it is no address of a file. The message does not contain the query.

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
    except ValueError as error:  # also from the encoding
        raise ValueError(f"{place!r} is no name of a host") from error
    return host, port


def redirected(url: Url, location: str) -> Url:
    """Return the address of a redirection; it keeps a login only for the same host.

    Raises
    ------
    ValueError
        If it is no address of a file in a network, for example ``file:``.
    """
    found = parse_url(urljoin(url.whole, location))
    is_same = (found.scheme, found.host, found.port) == (url.scheme, url.host, url.port)
    return found._replace(login=url.login if is_same else "")
