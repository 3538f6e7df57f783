"""A server that answers sparsemed and dclab as DCOR does."""

import json
import time
from urllib.parse import parse_qs

UUID = "b1404eb5-f661-4920-be79-5ff4e85915d5"

PAGE = f"/dataset/some-data/resource/{UUID}"

SERVICE = "/api/3/action/dcserv"


class Dcor:
    """One resource on DCOR, and the store that its object lies in, on one server.

    Parameters
    ----------
    server : Server
    content : bytes
        The object.
    token : str, optional
        What those must show who may read it. Then links are signed, and expire.
    metadata : dict, optional
        What it tells dclab of the measurement.
    lasts : float
        Seconds for which links work, as it says; they do until `expire`.

    Attributes
    ----------
    asked : int
        How often somebody got links.
    """

    def __init__(self, server, content, token=None, metadata=None, lasts=3600.0):
        self.url = server.url("/object")
        self.token = token
        self.lasts = lasts
        self.metadata = metadata
        self.asked = 0
        self._given = set()
        server.pages[SERVICE] = self._answer
        self.served = server.put("/object", content, fault=self._check)

    def _answer(self, page):
        asked = {name: value for name, (value,) in parse_qs(page.query).items()}
        assert (asked["id"], asked["version"]) == (UUID, "2")
        if self.token not in (None, page.headers.get("Authorization")):
            page.send(403, {}, b'{"success": false, "error": {"message": "Access denied"}}')
            return
        results = {"basins": self.basins, "metadata": lambda: self.metadata, "valid": lambda: True}
        answer = {"success": True, "result": results[asked["query"]]()}
        page.send(200, {"Content-Type": "application/json"}, json.dumps(answer).encode())

    def basins(self):
        """Return what it knows of where the measurement is."""
        self.asked += 1
        now = time.time() + 500  # its clock is another
        link = self.url
        if self.token is not None:
            link += f"?sig={self.asked}"
            self._given.add(f"sig={self.asked}")
        return [
            {
                "name": f"{kind}-{UUID[:5]}", "format": "http", "type": "remote",
                "mapping": "same", "perishable": self.token is not None, "urls": [url],
                "time_request": now, "time_expiration": now + self.lasts,
            }
            for kind, url in (("condensed", f"{self.url}_condensed"), ("resource", link))
        ]  # fmt: skip

    def _check(self, request):
        if self.token is None or request.query in self._given:
            return False
        request.send(403, {})
        return True

    def expire(self):
        """Let the links that were given be of no use any more."""
        self._given.clear()
