"""Which stored bytes a name leads to: a file on this machine, or an object in a network."""

import re
from os import PathLike, fspath
from typing import NamedTuple

from sparsemed.storage.dcor import DcorPlace, dcor_resource
from sparsemed.storage.remote import Place, Record, Way
from sparsemed.storage.s3 import parse_s3
from sparsemed.storage.urls import Url, parse_url

_REMOTE = re.compile(r"\s*(https?|s3)://", re.IGNORECASE)


class WebPlace(NamedTuple):
    """An object that a server hands out, at an address."""

    url: Url

    @property
    def shown(self) -> str:
        """The address without login and query."""
        return self.url.shown

    @property
    def key(self) -> str:
        """The whole address."""
        return self.url.whole

    @property
    def file_name(self) -> str:
        """What the object is called."""
        return self.url.name

    @property
    def is_renewed(self) -> bool:
        """Whether there can be another link: not from here."""
        return False

    def way(self) -> Way:
        """Return how it is asked for."""
        return Way(self.url)

    @property
    def record(self) -> Record | None:
        """How others find it; None if its address may hold a secret."""
        return None if self.url.query or self.url.login else Record("http", self.url.shown)


def is_remote(name: object) -> bool:
    """Whether a name is that of an object in a network.

    Examples
    --------
    >>> is_remote("https://data.example.org/M001.rtdc"), is_remote("M001.rtdc")
    (True, False)
    """
    return isinstance(name, str) and bool(_REMOTE.match(name))


def place_of(name: str) -> Place:
    """Return where an object in a network is.

    Raises
    ------
    ValueError
        If the name is none of such an object.
    """
    if name.strip().lower().startswith("s3://"):
        return parse_s3(name)
    url = parse_url(name)
    resource = dcor_resource(url)
    return WebPlace(url) if resource is None else DcorPlace(*resource)


def shown_name(name: str | PathLike[str]) -> str:
    """Return a name as messages and summaries may show it: of an address, without its secrets."""
    return place_of(name).shown if is_remote(name) else fspath(name)  # type: ignore[arg-type]
