"""Turns names into places: a file on this machine, or an object in a network."""

import os
import re
from dataclasses import dataclass
from os import PathLike
from pathlib import Path, PurePath
from typing import NamedTuple

from sparsemed.storage.connections import Calls
from sparsemed.storage.dcor import DCOR, DcorPlace, dcor_resource
from sparsemed.storage.place import Place, Record, Way
from sparsemed.storage.s3 import as_s3, parse_s3
from sparsemed.storage.urls import Url, parse_url

_UNFIT = re.compile(r'[/\\:*?"<>|\x00-\x1f]')
"""Characters that file names cannot have on some system."""

_REMOTE = re.compile(r"\s*(https?|s3)://", re.IGNORECASE)

_ADDRESS = re.compile(r"\s*([a-z][a-z0-9+.-]+)://", re.IGNORECASE)


class WebPlace(NamedTuple):
    """An object on a web server."""

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
        """Name of the object."""
        return self.url.name

    @property
    def is_renewed(self) -> bool:
        """False: there is no other link."""
        return False

    def way(self, _: Calls) -> Way:
        """Return the request for the object."""
        return Way(self.url)

    @property
    def record(self) -> Record | None:
        """How readers find it; None if its address may hold a secret."""
        return None if self.url.query or self.url.login else Record("http", self.url.shown)


@dataclass(frozen=True)
class RemotePath:
    """The name of an object in a network, used like the path of a file.

    It has the methods of `Path` that do not need a file, but is no `Path`, so that it is not
    mistaken for one.

    Attributes
    ----------
    place : Place
    """

    place: Place

    def __str__(self) -> str:
        return self.place.shown

    @property
    def name(self) -> str:
        """A valid file name for a copy or a result."""
        return _UNFIT.sub("_", self.place.file_name)[-200:].lstrip(".") or "object"

    @property
    def stem(self) -> str:
        """The name without its ending."""
        return PurePath(self.name).stem

    @property
    def suffix(self) -> str:
        """Ending of the name."""
        return PurePath(self.name).suffix

    def absolute(self) -> "RemotePath":
        """Return this name: it does not depend on the working folder."""
        return self


AnyPath = Path | RemotePath
"""The name of a measurement: a file on this machine, or an object in a network."""

FileName = str | PathLike[str] | RemotePath
"""The same, as given by users; text may be an address."""


def is_remote(name: object) -> bool:
    """Whether a name is that of an object in a network.

    Examples
    --------
    >>> is_remote("https://data.example.org/M001.rtdc"), is_remote("M001.rtdc")
    (True, False)
    """
    return isinstance(name, RemotePath) or (isinstance(name, str) and bool(_REMOTE.match(name)))


def locate(name: FileName) -> AnyPath:
    """Return the path of a file, or the name of an object in a network.

    A `Path` would turn the two slashes of an address into one.

    Raises
    ------
    ValueError
        If the name is empty, or looks like an address, but is invalid or of another kind.

    Examples
    --------
    >>> str(locate("HTTPS://Data.Example.org/M001.rtdc?signature=secret"))
    'https://data.example.org/M001.rtdc'
    """
    if isinstance(name, RemotePath):
        return name
    if name == "" or (isinstance(name, str) and "\0" in name):  # "" would be the working folder
        raise ValueError(f"{name!r}: is no name of a file")
    if isinstance(name, str) and is_remote(name):
        return RemotePath(place_of(name))
    if isinstance(name, str) and (found := _ADDRESS.match(name)) and not os.path.exists(name):
        raise ValueError(
            f"{name}: addresses of {found[1]}: are not read, only those of https:, http: and s3:; "
            "download the file, or give its path"
        )
    return Path(name)


def place_of(name: str) -> Place:
    """Return the place of an object in a network.

    Raises
    ------
    ValueError
        If the name is no address of an object.
    """
    if name.strip().lower().startswith("s3://"):
        return parse_s3(name)
    url = parse_url(name)
    resource = dcor_resource(url)
    return WebPlace(url) if resource is None else DcorPlace(*resource)


def shown_url(url: str) -> str:
    """Return an address from a file without login and query, so that it may be shown."""
    try:
        return basin_place(url, "dcor").shown
    except ValueError:
        return url.partition("?")[0]


def basin_place(url: str, kind: str | None) -> Place:
    """Return the place of an object to which a file leads.

    The author of the file chose the address. So keys and tokens are not sent to any host: those of
    S3 only to the configured store, those of DCOR only to the default instance of dclab.

    Parameters
    ----------
    url : str
    kind : str or None
        ``"http"``, ``"s3"`` or ``"dcor"``.

    Raises
    ------
    ValueError
        If that is no address of an object, for example ``file:``.
    """
    found = parse_url(url)._replace(login="")
    if kind == "dcor" and (resource := dcor_resource(found)) is not None:
        return DcorPlace(*resource, has_token=resource[0].whole == DCOR)
    if kind == "s3" and (in_store := as_s3(found)) is not None:
        return in_store
    return WebPlace(found)
