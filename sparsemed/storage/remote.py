"""An object in a network, asked for by ranges; faults pass, or end with a line of our own.

Messages of libraries may hold signatures and tokens, so none of them is passed on.
"""

import http.client
import re
import socket
import ssl
import time
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, NoReturn, Protocol

from sparsemed.storage import connections
from sparsemed.storage.answers import (
    MOST_WAITED,
    ChangedError,
    GoneError,
    PassingError,
    RefusedError,
    Version,
    check_part,
    check_status,
    check_whole,
    refusal_of_proxy,
)
from sparsemed.storage.connections import Calls, Guard, basic, give_back, is_public, lend
from sparsemed.storage.urls import Url, redirected

MOST_WHOLE = 64 * 1024**2
"""Bytes of an object that is fetched whole if its server hands out no parts."""

REQUESTS = 16
"""Requests that are under way at once."""

TRIES = 5
"""How often something is asked for, if faults may pass."""

PAUSES = (0.25, 0.5, 1.0, 2.0)
"""Seconds before each further try, unless the server asks for more."""

_MOST_TURNS = 8  # redirections, and connections that were idle for too long, for one request

_EARLY = 30.0  # seconds before its end at which a link is renewed


class Way(NamedTuple):
    """How an object is asked for.

    Attributes
    ----------
    url : Url
        It may hold a signature.
    token : str or None
        What the header ``Authorization`` holds.
    until : float
        Seconds since the epoch up to which that works.
    """

    url: Url
    token: str | None = None
    until: float = float("inf")


class Record(NamedTuple):
    """How readers of a result find an object again: dclab's format, and an address."""

    format: str
    url: str


class Place(Protocol):
    """Where an object is; it can be pickled."""

    @property
    def shown(self) -> str:
        """What messages call it: no login, no signature."""

    @property
    def key(self) -> str:
        """What is the same for the same object; it may hold a signature."""

    @property
    def file_name(self) -> str:
        """What the object is called, without the way there."""

    @property
    def record(self) -> Record | None:
        """How readers of a result find it; None if they would need a secret."""

    @property
    def is_renewed(self) -> bool:
        """Whether `way` returns another link later on."""

    def way(self, calls: Calls, /) -> Way:
        """Return how it is asked for, be it by calls to who knows.

        Raises
        ------
        OSError
            If nobody tells.
        """


def call(
    place: Place, url: Url, guard: Guard, calls: Calls
) -> tuple[http.client.HTTPConnection, bool]:
    """Return a connection on the way to an object, and whether it was used before; see `lend`.

    Raises
    ------
    PassingError
        If there is none, but may be later.
    OSError
        If there is none; the message names the object and says what to do.
    """
    try:
        return lend(url, guard, calls)
    except connections.ForbiddenHostError:
        why = f"leads to {url.host}, which is not followed: that is no host that anybody can reach"
    except ssl.SSLCertVerificationError:
        why = (
            f"nobody who is trusted here vouches for {url.host}; if its certificate is of an "
            "authority of your own, name that in SSL_CERT_FILE"
        )
    except connections.SettingError as error:
        why = str(error)
    except (OSError, http.client.HTTPException) as error:
        found = _TUNNEL.match(str(error))
        if found is None:
            raise PassingError(_why(error)) from None
        why = refusal_of_proxy(int(found[1]))
    raise OSError(f"{place.shown}: {why}")


class _TurnError(Exception):
    """Ask again at once: there is another way, or the connection had been idle for too long."""


class _Sent(NamedTuple):
    """A request whose answer is to come."""

    way: Way
    connection: http.client.HTTPConnection
    was_used: bool


class RemoteObject:
    """An object in a network, whose bytes can be fetched, by several threads at once.

    Parameters
    ----------
    place : Place
        Where it is.
    version : Version, optional
        What it has to be; by default, what it is at the first request.
    guard : callable, optional
        Which hosts may be asked, by their addresses; those that redirections lead to included.

    Attributes
    ----------
    version : Version or None
        What the first answer told.
    whole : bytes or None
        All of it, if the server hands out no parts.
    is_public : bool
        Whether it is on a host that anybody can reach, as is known once it was asked for.
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
        """Fill a buffer with what begins at an offset, in as many tries as it takes.

        Parameters
        ----------
        begin : int
            The offset.
        buffer : memoryview
        tried : int
            How many tries there were already.

        Returns
        -------
        int
            How many bytes there are: fewer than asked for if the object ends.

        Raises
        ------
        OSError
            If it cannot be had; the message names the object and says what to do.
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
        """Fill several buffers, each from its offset on, by requests that are made together.

        That is one round trip, and takes no thread. None may reach beyond the end.
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
            for _, _, asked in sent:  # whose answers nobody wants any more
                if isinstance(asked, _Sent):
                    self._drop(asked.connection)
        for begin, buffer, failed in again:
            if failed is not None:
                self._rest(1, failed)
            self.fetch(begin, buffer, tried=0 if failed is None else 1)

    def close(self) -> None:
        """End what is under way, in whatever thread: it raises an OSError there."""
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
        """Raise an error, now and whenever the object is asked for again."""
        self._failure = self._failure or failure
        raise failure from None

    def _renew(self, refusal: RefusedError | GoneError, was_renewed: bool = False) -> None:
        """Let the next request ask for another link, if there may be one; or else fail."""
        if was_renewed or not (self._is_led or self.place.is_renewed):
            kind = PermissionError if isinstance(refusal, RefusedError) else FileNotFoundError
            self._fail(kind(f"{self}: {refusal}"))
        self._way, self._is_led = None, False

    def _send(self, begin: int, stop: int) -> _Sent:
        """Ask for a range, without waiting for the answer."""
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
                return self._send(begin, stop)  # there are only so many of these
            raise PassingError(_why(error)) from None
        except BaseException:
            self._drop(connection)
            raise
        return _Sent(way, connection, was_used)

    def _may_ask(self, address: str) -> bool:
        if self.is_public and not is_public(address):
            return False
        return self.guard is None or self.guard(address)

    def _receive(self, sent: _Sent, begin: int, buffer: memoryview) -> int:
        """Receive what was asked for, once it was checked, and return how many bytes it is."""
        is_reusable = False
        response: http.client.HTTPResponse | None = None
        try:
            response = sent.connection.getresponse()
            if response.status in _REDIRECTIONS and response.headers["Location"] is not None:
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
            raise PassingError(_why(error)) from None
        except (ConnectionError, TimeoutError, ssl.SSLError) as error:
            self._check_going_on()
            if sent.was_used and isinstance(error, ConnectionError):
                raise _TurnError from None
            raise PassingError(_why(error)) from None
        except OSError as error:
            if error is self._failure:
                raise
            self._check_going_on()
            if error.errno is not None:  # none of ours
                raise PassingError(_why(error)) from None
            self._fail(OSError(f"{self}: {error}"))
        finally:
            self._calls.done(sent.connection)
            if is_reusable:
                give_back(sent.way.url, sent.connection)
            else:
                if response is not None:  # it owns a connection that was to end with it
                    response.close()
                sent.connection.close()

    def _receive_whole(
        self, response: http.client.HTTPResponse, begin: int, buffer: memoryview
    ) -> int:
        """Receive all of a small object whose server hands out no parts."""
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
        """Take the way that a redirection tells, and ask again."""
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


_TUNNEL = re.compile(r"Tunnel connection failed: (4\d\d)")
"""What Python says of a proxy that will never let it pass; the rest of it is the proxy's."""


def sizes(places: Sequence[Place]) -> list[int | OSError]:
    """Return how many bytes objects have, or why that cannot be told; many are asked at once."""
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
        return error.with_traceback(None)  # which holds on to connections
    assert remote.version is not None  # which an answer tells
    return remote.version.size


_REDIRECTIONS = {301, 302, 303, 307, 308}

_CHANGED = (
    "was changed, replaced or removed while it was read; nothing of it can be used; run again "
    "when that has ended"
)


def _fill(response: http.client.HTTPResponse, buffer: memoryview) -> None:
    """Fill a buffer with the body of an answer, which must be as long.

    Raises
    ------
    PassingError
        If it is cut.
    """
    done = 0
    while done < len(buffer):
        count = response.readinto(buffer[done:])
        if not count:
            raise PassingError("the answer ends before its end")
        done += count
    if not response.isclosed() and response.read(1):
        raise PassingError("the answer is longer than it should be")


def _why(error: Exception) -> str:
    """Say in words of our own what went wrong."""
    if isinstance(error, socket.gaierror):
        return "its host is not known, or there is no network"
    if isinstance(error, TimeoutError):
        return "the server does not answer"
    if isinstance(error, ConnectionRefusedError):
        return "the host takes no connections"
    if isinstance(error, (ConnectionError, http.client.RemoteDisconnected)):
        return "the server hangs up"
    if isinstance(error, http.client.IncompleteRead):
        return "the answer ends before its end"
    if isinstance(error, ssl.SSLError):
        return "no safe connection comes about"
    if isinstance(error, OSError) and "Tunnel" in str(error):
        return "the proxy does not let it pass"
    return f"reading fails ({type(error).__name__})"
