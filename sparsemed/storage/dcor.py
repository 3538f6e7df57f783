"""Measurements on DCOR, which tells the place of a resource in its object store.

For private resources, it sends links that expire, in exchange for a token.
"""

import http.client
import json
import os
import re
import sys
import time
from contextlib import suppress
from typing import Any, NamedTuple

from sparsemed.storage import connections
from sparsemed.storage.answers import REDIRECTIONS, PassingError
from sparsemed.storage.connections import Calls
from sparsemed.storage.place import Record, Way, call
from sparsemed.storage.urls import Url, parse_url, redirected

TOKEN_VARIABLE = "DCOR_API_TOKEN"
"""Environment variable of a token; tokens of dclab in this process are used, too."""

DCOR = "https://dcor.mpl.mpg.de/"
"""The default instance of dclab."""

_UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_PAGE = re.compile(rf"(.*)/dataset/[^/]+/resource/({_UUID})(?:/.*)?")
_QUERY = re.compile(rf"id=({_UUID})")
_SERVICE = "/api/3/action/dcserv"

_MOST_LED = 3  # redirections

_MOST_ANSWERED = 4 * 1024**2  # bytes; a list of a few links


def dcor_resource(url: Url) -> tuple[Url, str] | None:
    """Return the address of DCOR and the identifier in an address; None for other addresses.

    Examples
    --------
    >>> page = "https://dcor.mpl.mpg.de/dataset/d/resource/b1404eb5-f661-4920-be79-5ff4e85915d5"
    >>> dcor_resource(parse_url(page))[0].shown
    'https://dcor.mpl.mpg.de/'
    """
    if found := _PAGE.fullmatch(url.path):
        is_file = url.path.endswith((".rtdc", ".h5", ".hdf5"))  # a file as on any server
        return None if is_file else (url._replace(path=f"{found[1]}/", query=""), found[2])
    found = _QUERY.fullmatch(url.query.partition("&")[0])
    if found and url.path.endswith(_SERVICE):
        base = url.path.removesuffix(_SERVICE)
        return url._replace(path=f"{base}/", query=""), found[1]
    return None


class DcorPlace(NamedTuple):
    """A resource on DCOR.

    Attributes
    ----------
    host : Url
    identifier : str
    has_token : bool
        Whether known tokens are sent to it.
    """

    host: Url
    identifier: str
    has_token: bool = True

    @property
    def shown(self) -> str:
        """The address, which dclab takes, too."""
        return f"{self.host.shown.rstrip('/')}{_SERVICE}?id={self.identifier}"

    @property
    def key(self) -> str:
        """The same."""
        return self.shown

    @property
    def file_name(self) -> str:
        """Name for a copy."""
        return f"{self.identifier}.rtdc"

    @property
    def is_renewed(self) -> bool:
        """True: links expire, and there are new ones."""
        return True

    def way(self, calls: Calls) -> Way:
        """Ask DCOR for a link.

        Raises
        ------
        OSError
            If it sends none.
        """
        found = self._ask(calls)
        for basin in found:
            urls = basin.get("urls")
            if str(basin.get("name")).startswith("resource") and urls:
                # by the clock of the server, which may differ
                lasts = (basin.get("time_expiration") or 0) - (basin.get("time_request") or 0)
                until = time.time() + lasts if basin.get("perishable") else float("inf")
                return Way(parse_url(str(urls[0])), until=until)
        raise OSError(f"{self.shown}: DCOR does not tell where the measurement is")

    @property
    def record(self) -> Record:
        """How readers find it: a public one by its own address, a private one through DCOR."""
        url = self.way(Calls()).url
        return Record("dcor", self.shown) if url.query else Record("http", url.shown)

    def _ask(self, calls: Calls) -> list[dict[str, Any]]:
        """Return the basins that DCOR lists, tried without and with each known token."""
        url = self._service
        status = 0
        for token in (None, *(_tokens() if self.has_token else ())):
            status, location, body = self._get(url, token, calls)
            for _ in range(_MOST_LED):
                if status in REDIRECTIONS and location:
                    url = self._led(url, location)
                    status, location, body = self._get(url, token, calls)
            if status == 200:
                try:
                    answer = json.loads(body)
                    if answer["success"]:
                        return [each for each in answer["result"] if isinstance(each, dict)]
                except (ValueError, KeyError, TypeError):
                    raise OSError(
                        f"{self.shown}: the server does not answer as DCOR does"
                    ) from None
        if status in (401, 403):
            raise PermissionError(
                f"{self.shown}: may not be read; it is private or does not exist: set "
                f"{TOKEN_VARIABLE} to your token, or give it to dclab"
            )
        if status == 404:
            raise FileNotFoundError(f"{self.shown}: DCOR has no such resource; check the address")
        raise OSError(f"{self.shown}: DCOR answers {status}; check the address")

    @property
    def _service(self) -> Url:
        path = f"{self.host.path.rstrip('/')}{_SERVICE}"
        query = f"id={self.identifier}&version=2&query=basins"
        return self.host._replace(path=path, query=query)

    def _led(self, url: Url, location: str) -> Url:
        """Return where a redirection leads: on the same host, and not from https to http.

        Raises
        ------
        OSError
            If it leads elsewhere.
        """
        with suppress(ValueError):
            found = redirected(url, location)
            if found.host == url.host and found.scheme in ("https", url.scheme):
                return found
            raise OSError(
                f"{self.shown}: leads to {found.shown}, which is not followed; check the address"
            )
        raise OSError(f"{self.shown}: leads to an address that is none; check the address")

    def _get(self, url: Url, token: str | None, calls: Calls) -> tuple[int, str | None, bytes]:
        """Return status, place of a redirection, and body of an answer."""
        headers = {"User-Agent": connections.USER_AGENT, "Accept": "application/json"}
        if token is not None:
            headers["Authorization"] = token
        for pause in (0.25, 0.5, 1.0, 2.0, 0.0):
            with suppress(PassingError):
                connection, _ = call(self, url, lambda _: True, calls)
                target, more = url.target, {}
                if connections.is_proxied(url):
                    target, more = url.whole, connections.proxy_headers(url)
                try:
                    connection.request("GET", target, headers=headers | more)
                    response = connection.getresponse()
                    if response.status < 500 and response.status != 429:
                        location = response.headers["Location"]
                        return response.status, location, response.read(_MOST_ANSWERED)
                except (OSError, http.client.HTTPException):
                    pass
                finally:
                    calls.done(connection)
                    connection.close()
            calls.rest(pause)
            if calls.is_over:
                raise OSError(f"{self.shown}: reading was ended")
        raise OSError(f"{self.shown}: DCOR does not answer; run again later")


def _tokens() -> list[str]:
    """Return the known tokens: from the environment, and from dclab."""
    found = [os.environ.get(TOKEN_VARIABLE, "")]
    if (api := sys.modules.get("dclab.rtdc_dataset.fmt_dcor.api")) is not None:
        found += list(getattr(api.APIHandler, "api_keys", ()))
    return [token for token in dict.fromkeys(found) if token]
