"""A server on this machine that hands out objects by ranges, slowly or badly if it is told to.

Also a program: ``python -m benchmarks.serving FILE DELAY RATE`` prints an address under which the
file is to be had, with that many seconds added to each request and that many bytes a second in all
(0: as fast as it can). For each line that it reads it prints, as JSON, the requests since the last
one: when each began and ended, and the bytes from and to.
"""

import contextlib
import email.utils
import json
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from sparsemed.storage import connections


@dataclass
class Served:
    """An object on the server.

    Attributes
    ----------
    data : bytes
    etag, modified : str or None
        What its headers say.
    fault : callable, optional
        ``fault(request)`` returns True if it has answered by itself.
    requests : list of Request
        Those that came.
    """

    data: bytes
    etag: str | None = '"one"'
    modified: str | None = "Mon, 02 Mar 2026 10:00:00 GMT"
    fault: Callable[["Request"], bool] | None = None
    requests: list["Request"] = field(default_factory=list)

    @property
    def received(self) -> int:
        """Bytes that were asked for."""
        return sum(request.stop - request.begin for request in self.requests)


@dataclass
class Request:
    """A request for an object, and how it is answered."""

    served: Served
    handler: BaseHTTPRequestHandler
    number: int
    begin: int
    stop: int
    query: str
    headers: Any
    came: float = 0.0
    went: float = 0.0

    def send(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        """Answer with anything. A header that is None is left out."""
        handler = self.handler
        handler.send_response(status)
        told = {"Content-Length": str(len(body)), **headers}
        for name, value in told.items():
            if value is not None:
                handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)

    @property
    def about(self) -> dict[str, str]:
        """The headers of a good answer."""
        size = len(self.served.data)
        found = {"Content-Range": f"bytes {self.begin}-{self.stop - 1}/{size}"}
        if self.served.etag is not None:
            found["ETag"] = self.served.etag
        if self.served.modified is not None:
            found["Last-Modified"] = self.served.modified
        return found

    @property
    def body(self) -> bytes:
        """The body of a good answer."""
        return self.served.data[self.begin : self.stop]

    def hang_up(self) -> None:
        """End the connection."""
        self.handler.close_connection = True


class Server:
    """The server.

    Attributes
    ----------
    objects : dict of str to Served
        By their paths, decoded.
    delay : float
        Seconds before each answer.
    rate : float or None
        Bytes a second that all answers together may take.
    """

    def __init__(self, family: int | None = None, context: Any = None) -> None:
        self.objects: dict[str, Served] = {}
        self.pages: dict[str, Callable[[Request], None]] = {}
        self.delay = 0.0
        self.rate: float | None = None
        self.is_over = threading.Event()
        self._turn = threading.Lock()
        self._free_at = 0.0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = 64 * 1024

            def do_GET(self) -> None:
                outer._answer(self)

            def do_HEAD(self) -> None:
                self.send_error(405)

            def log_message(self, *args: Any) -> None:
                pass

        class _Http(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False
            request_queue_size = 64

            def handle_error(self, *args: Any) -> None:
                pass

        if family is not None:
            _Http.address_family = family
        host = "127.0.0.1" if family is None else "::1"
        self._http = _Http((host, 0), Handler)
        self.scheme = "http"
        if context is not None:
            self._http.socket = context.wrap_socket(self._http.socket, server_side=True)
            self.scheme = "https"
        self.port = self._http.server_address[1]
        self.host = host if family is None else f"[{host}]"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop."""
        self.is_over.set()
        self._http.shutdown()
        self._http.server_close()

    def url(self, path: str) -> str:
        """Return the address of an object."""
        return f"{self.scheme}://{self.host}:{self.port}{path}"

    def put(self, path: str, data: bytes, **more: Any) -> Served:
        """Hand out an object from now on."""
        self.objects[path] = Served(data, **more)
        return self.objects[path]

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        came = time.monotonic()
        parts = urlsplit(handler.path)
        path = unquote(parts.path)
        if self.delay:
            time.sleep(self.delay)
        served = self.objects.get(path)
        if served is None:
            page = Request(Served(b""), handler, 0, 0, 0, parts.query, handler.headers)
            if path in self.pages:
                self.pages[path](page)
            else:
                page.send(404, {})
            handler.wfile.flush()
            return
        size = len(served.data)
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", handler.headers.get("Range", ""))
        begin, stop = (int(asked[1]), min(int(asked[2]) + 1, size)) if asked else (0, size)
        request = Request(
            served, handler, len(served.requests) + 1, begin, stop, parts.query, handler.headers
        )
        request.came = came
        served.requests.append(request)
        with contextlib.suppress(OSError):
            if served.fault is None or not served.fault(request):
                self._answer_well(request)
            handler.wfile.flush()
        request.went = time.monotonic()

    def _answer_well(self, request: Request) -> None:
        wanted = request.headers.get("If-Match")
        if wanted is not None and wanted != request.served.etag:
            request.send(412, {})
        elif request.headers.get("Range") is None:
            self._send_all(request, 200, {**request.about, "Content-Range": None})
        elif request.begin >= len(request.served.data):
            request.send(416, {"Content-Range": f"bytes */{len(request.served.data)}"})
        else:
            self._send_all(request, 206, request.about)

    def _send_all(self, request: Request, status: int, about: dict[str, Any]) -> None:
        if self.rate:
            self._trickle(request, status, about)
        else:
            request.send(status, about, request.body)

    def _trickle(self, request: Request, status: int, about: dict[str, Any]) -> None:
        """Answer at the rate of the line, which all connections share."""
        handler, body = request.handler, request.body
        handler.send_response(status)
        for name, value in {**about, "Content-Length": str(len(body))}.items():
            if value is not None:
                handler.send_header(name, value)
        handler.end_headers()
        step = 64 * 1024
        for first in range(0, len(body), step):
            piece = body[first : first + step]
            with self._turn:
                begin = max(self._free_at, time.monotonic())
                self._free_at = begin + len(piece) / self.rate
                free = self._free_at
            if (wait := free - time.monotonic()) > 0:
                time.sleep(wait)
            handler.wfile.write(piece)


@contextlib.contextmanager
def serving(**more: Any) -> Iterator[Server]:
    """Run a server for a while."""
    server = Server(**more)
    try:
        yield server
    finally:
        server.close()
        connections.hang_up()


def http_date(seconds: float) -> str:
    """Return a time, in seconds since the epoch, as headers tell it."""
    return email.utils.formatdate(seconds, usegmt=True)


MOST_NAMES = 100
"""Under how many names the program hands its file out."""


def main() -> None:
    served_file, delay, rate = sys.argv[1:]
    with serving() as server:
        served = server.put("/measurement.rtdc", Path(served_file).read_bytes())
        for number in range(1, MOST_NAMES):  # for those who remember what they have read
            server.objects[f"/measurement-{number}.rtdc"] = served
        server.delay, server.rate = float(delay), float(rate) or None
        print(server.url("/measurement.rtdc"), flush=True)
        for _ in sys.stdin:
            done = [(each.came, each.went, each.begin, each.stop) for each in served.requests]
            served.requests.clear()
            print(json.dumps(done), flush=True)


if __name__ == "__main__":
    main()
