"""An object in a network, requested by ranges; temporary faults are retried.

Messages of libraries may hold signatures and tokens, so none is passed on.
"""

import http.client
import ssl
import time
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, NoReturn

from sparsemed.storage import connections
from sparsemed.storage.answers import (
    MOST_WAITED,
    REDIRECTIONS,
    ChangedError,
    GoneError,
    PassingError,
    RefusedError,
    Version,
    check_part,
    check_status,
    check_whole,
)
from sparsemed.storage.connections import Calls, Guard, basic, give_back, is_public
from sparsemed.storage.place import Place, Way, call, cause
from sparsemed.storage.urls import redirected

MOST_WHOLE = 64 * 1024**2
"""Largest bytes of an object that is fetched whole if its server sends no parts."""

REQUESTS = 16
"""Number of requests at once."""

TRIES = 5
"""Number of tries, if faults are temporary."""

PAUSES = (0.25, 0.5, 1.0, 2.0)
"""Seconds before each further try, unless the server requests more."""

_MOST_TURNS = 8  # redirections, and connections that were idle for too long, for one request

_EARLY = 30.0  # seconds before it expires at which a link is renewed


class _TurnError(Exception):
    """Repeat the request at once: it was redirected, or the connection was idle for too long."""


class _Sent(NamedTuple):
    """A request without its answer."""

    way: Way
    connection: http.client.HTTPConnection
    was_used: bool


class RemoteObject:
    """An object in a network, whose bytes can be fetched by several threads at once.

    Parameters
    ----------
    place : Place
        Place of the object.
    version : Version, optional
        The version that it must have. Default: its version at the first request.
    guard : callable, optional
        Which hosts may be used, by their addresses, also after redirections.

    Attributes
    ----------
    version : Version or None
        The version in the first answer.
    whole : bytes or None
        The whole object, if the server sends no parts.
    is_public : bool
        Whether its host is public, after the first request.
    """

    def __init__(
        self, place: Place, version: Version | None = None, guard: Guard | None = None
    ) -> None:
        self.place = place
        self.version = version
        self.guard = guard
        self.whole: bytes | None = None
        self._was_read = False
        self._way: Way | None = None
        self._is_led = False  # by a redirection
        self.is_public = False  # then it does not lead to hosts that are not
        self._calls = Calls()
        self._failure: OSError | None = None

    def __str__(self) -> str:
        return self.place.shown

    def fetch(self, begin: int, buffer: memoryview, tried: int = 0) -> int:
        """Fill a buffer from an offset on, with several tries if necessary.

        Parameters
        ----------
        begin : int
            The offset.
        buffer : memoryview
        tried : int
            Number of tries so far.

        Returns
        -------
        int
            Number of bytes, fewer than requested if the object ends.

        Raises
        ------
        OSError
            If it fails; the message names the object and says what to do.
        """
        number, turns = tried, 0
        was_renewed = False
        while True:
            try:
                return self._receive(self._send(begin, begin + len(buffer)), begin, buffer)
            except _TurnError:
                turns += 1
                if turns > _MOST_TURNS:
                    self._fail(OSError(f"{self}: the server redirects too often"))
            except (RefusedError, GoneError) as error:
                self._renew(error, was_renewed)
                was_renewed = True
            except PassingError as error:
                number += 1
                self._rest(number, error)

    def fetch_all(self, parts: Iterable[tuple[int, memoryview]]) -> None:
        """Fill several buffers, each from its offset on, by requests that are sent together.

        It takes one round trip, and no thread. No range may reach beyond the end.
        """
        sent: deque[tuple[int, memoryview, _Sent | PassingError]] = deque()
        again: list[tuple[int, memoryview, PassingError | None]] = []
        try:
            for begin, buffer in parts:
                try:
                    sent.append((begin, buffer, self._send(begin, begin + len(buffer))))
                except PassingError as error:
                    sent.append((begin, buffer, error))
            while sent:
                begin, buffer, asked = sent.popleft()
                try:
                    if isinstance(asked, PassingError):
                        raise asked
                    self._receive(asked, begin, buffer)
                except PassingError as error:
                    again.append((begin, buffer, error))
                except (RefusedError, GoneError) as error:
                    self._renew(error)
                    again.append((begin, buffer, None))
                except _TurnError:
                    again.append((begin, buffer, None))
        finally:
            for _, _, asked in sent:  # their answers are not needed any more
                if isinstance(asked, _Sent):
                    self._drop(asked.connection)
        for begin, buffer, failed in again:
            if failed is not None:
                self._rest(1, failed)
            self.fetch(begin, buffer, tried=0 if failed is None else 1)

    def close(self) -> None:
        """End current requests; threads that wait for them get an OSError."""
        self._calls.end()

    def _rest(self, number: int, error: PassingError) -> None:
        """Wait before the next try, if there is one."""
        if number == TRIES:
            self._fail(OSError(f"{self}: {error}, {TRIES} times; run again later"))
        if error.pause > MOST_WAITED:
            self._fail(
                OSError(f"{self}: {error} and asks to wait for {error.pause:.0f} s; run again then")
            )
        self._calls.rest(max(PAUSES[number - 1], error.pause))

    def _check_going_on(self) -> None:
        if self._failure is not None:
            raise type(self._failure)(str(self._failure))
        if self._calls.is_over:
            raise OSError(f"{self}: reading was ended")

    def _fail(self, failure: OSError) -> NoReturn:
        """Raise an error, now and at each further request for the object."""
        self._failure = self._failure or failure
        raise failure from None

    def _renew(self, refusal: RefusedError | GoneError, was_renewed: bool = False) -> None:
        """Make the next request use a new link, if there can be one; otherwise fail."""
        if was_renewed or not (self._is_led or self.place.is_renewed):
            kind = PermissionError if isinstance(refusal, RefusedError) else FileNotFoundError
            self._fail(kind(f"{self}: {refusal}"))
        self._way, self._is_led = None, False

    def _send(self, begin: int, stop: int) -> _Sent:
        """Send the request for a range, without waiting for the answer."""
        self._check_going_on()
        way = self._way
        if way is None or way.until - _EARLY < time.time():
            way = self._way = self.place.way(self._calls)
            self._is_led = False
        headers = {
            "Host": way.url.netloc,
            "User-Agent": connections.USER_AGENT,
            "Accept": "*/*",
            "Accept-Encoding": "identity",
            "Range": f"bytes={begin}-{stop - 1}",
        }
        if self.version is not None and self.version.etag is not None:
            headers["If-Match"] = self.version.etag
        if way.token is not None:
            headers["Authorization"] = way.token
        elif way.url.login:
            headers["Authorization"] = basic(way.url.login)
        try:
            connection, was_used = call(self.place, way.url, self._may_ask, self._calls)
        except OSError as error:
            self._fail(error)
        target = way.url.target
        if connections.is_proxied(way.url):
            target = way.url.whole
            headers |= connections.proxy_headers(way.url)
        try:
            if not self._is_led:
                self.is_public = self.is_public or connections.leads_to_public(way.url, connection)
            connection.request("GET", target, headers=headers)
        except (OSError, http.client.HTTPException) as error:
            self._drop(connection)
            if was_used and not self._calls.is_over:
                return self._send(begin, stop)  # ends, as there are few used connections
            raise PassingError(cause(error)) from None
        except BaseException:
            self._drop(connection)
            raise
        return _Sent(way, connection, was_used)

    def _may_ask(self, address: str) -> bool:
        if self.is_public and not is_public(address):
            return False
        return self.guard is None or self.guard(address)

    def _receive(self, sent: _Sent, begin: int, buffer: memoryview) -> int:
        """Check and receive the answer, and return its number of bytes."""
        is_reusable = False
        response: http.client.HTTPResponse | None = None
        try:
            response = sent.connection.getresponse()
            if response.status in REDIRECTIONS and response.headers["Location"] is not None:
                self._follow(sent.way, response.headers["Location"])
            check_status(response.status, response.headers, self._was_read)
            if response.status == 200:
                return self._receive_whole(response, begin, buffer)
            part = check_part(response.headers, begin, begin + len(buffer))
            self._check_version(part.version)
            count = part.stop - begin
            _fill(response, buffer[:count])
            is_reusable = response.isclosed() and not response.will_close
            self._was_read = True
            return count
        except ChangedError:
            self._fail(OSError(f"{self}: {_CHANGED}"))
        except http.client.HTTPException as error:
            self._check_going_on()
            if sent.was_used and isinstance(error, http.client.BadStatusLine):
                raise _TurnError from None  # it was idle for too long, and the server hung up
            raise PassingError(cause(error)) from None
        except (ConnectionError, TimeoutError, ssl.SSLError) as error:
            self._check_going_on()
            if sent.was_used and isinstance(error, ConnectionError):
                raise _TurnError from None
            raise PassingError(cause(error)) from None
        except OSError as error:
            if error is self._failure:
                raise
            self._check_going_on()
            if error.errno is not None:  # an error of the system
                raise PassingError(cause(error)) from None
            self._fail(OSError(f"{self}: {error}"))
        finally:
            self._calls.done(sent.connection)
            if is_reusable:
                give_back(sent.way.url, sent.connection)
            else:
                if response is not None:  # it may own the connection
                    response.close()
                sent.connection.close()

    def _receive_whole(
        self, response: http.client.HTTPResponse, begin: int, buffer: memoryview
    ) -> int:
        """Receive a whole small object, whose server sends no parts."""
        version = check_whole(response.headers, MOST_WHOLE)
        self._check_version(version)
        found = bytearray(version.size)
        _fill(response, memoryview(found))
        self.whole = bytes(found)
        return self.copy_whole(begin, buffer)

    def copy_whole(self, begin: int, buffer: memoryview) -> int:
        """Fill a buffer from the object that was fetched as a whole."""
        found = (self.whole or b"")[begin : begin + len(buffer)]
        buffer[: len(found)] = found
        return len(found)

    def _check_version(self, version: Version) -> None:
        if self.version is None:
            self.version = version
        elif not self.version.is_same(version):
            raise ChangedError

    def _follow(self, way: Way, location: str) -> NoReturn:
        """Follow a redirection: repeat the request at its address."""
        try:
            url = redirected(way.url, location)
        except ValueError:
            self._fail(OSError(f"{self}: leads to an address that is no file in a network"))
        if way.url.scheme == "https" and url.scheme != "https":
            self._fail(OSError(f"{self}: leads from https to http, which is not followed"))
        is_same = (url.host, url.port) == (way.url.host, way.url.port)
        self._way, self._is_led = Way(url, way.token if is_same else None, way.until), True
        raise _TurnError

    def _drop(self, connection: http.client.HTTPConnection) -> None:
        self._calls.done(connection)
        connection.close()


def sizes(places: Sequence[Place]) -> list[int | OSError]:
    """Return the bytes of objects, or the errors; all are requested at once."""
    objects = [RemoteObject(place) for place in places]
    with ThreadPoolExecutor(REQUESTS) as pool:
        try:
            return list(pool.map(_size, objects))
        except BaseException:  # Ctrl-C
            pool.shutdown(wait=False, cancel_futures=True)
            for each in objects:
                each.close()
            raise


def _size(remote: RemoteObject) -> int | OSError:
    try:
        remote.fetch(0, memoryview(bytearray(1)))
    except OSError as error:
        return error.with_traceback(None)  # the traceback would keep connections open
    assert remote.version is not None  # known after an answer
    return remote.version.size


_CHANGED = (
    "was changed, replaced or removed while it was read; run again when it does not change any more"
)


def _fill(response: http.client.HTTPResponse, buffer: memoryview) -> None:
    """Fill a buffer with the body of an answer, which must have the same length.

    Raises
    ------
    PassingError
        If it has another length.
    """
    done = 0
    while done < len(buffer):
        count = response.readinto(buffer[done:])
        if not count:
            raise PassingError("the answer ends before its end")
        done += count
    if not response.isclosed() and response.read(1):
        raise PassingError("the answer is longer than it should be")
