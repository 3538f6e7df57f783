"""Checks the answers of servers.

A wrong answer used as data gives garbage or, worse, plausible pixels. So status, range, length,
encoding and version of each answer are checked before its bytes are used.
"""

import email.utils
import re
import time
from email.message import Message
from typing import NamedTuple

MOST_WAITED = 120.0
"""Longest pause in seconds that a server may request."""

REDIRECTIONS = {301, 302, 303, 307, 308}
"""Statuses of answers that lead to another address."""

_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
_EMPTY = re.compile(r"bytes \*/0")

_MAY_PASS = {408, 425, 429}


class PassingError(Exception):
    """A temporary fault; the message follows the name of the object.

    Attributes
    ----------
    pause : float
        Pause in seconds that the server requests.
    """

    def __init__(self, text: str, pause: float = 0.0) -> None:
        super().__init__(text)
        self.pause = pause


class RefusedError(Exception):
    """The object may not be read, or not any more; a link may have expired."""


class GoneError(Exception):
    """There is no such object."""


class ChangedError(Exception):
    """The object has changed since it was read before."""


class Version(NamedTuple):
    """The version of an object.

    Attributes
    ----------
    size : int
        Bytes of the object.
    etag : str or None
        A strong ETag. Weak ones may stay while bytes change.
    modified : str or None
        Time of the last change, as sent by the server.
    """

    size: int
    etag: str | None
    modified: str | None

    @property
    def is_known(self) -> bool:
        """Whether a change that keeps the size would be noticed."""
        return self.etag is not None or self.modified is not None

    def is_same(self, other: "Version") -> bool:
        """Whether two answers are of the same version, as far as both tell."""
        if self.size != other.size:
            return False
        if self.etag is not None and other.etag is not None:
            return self.etag == other.etag
        if self.modified is not None and other.modified is not None:
            return self.modified == other.modified
        return self.is_known == other.is_known  # a version that is no longer sent is another one


class Part(NamedTuple):
    """The range of bytes in an answer, and the version of the object."""

    begin: int
    stop: int
    version: Version


def check_status(status: int, headers: Message, was_read: bool) -> None:
    """Check that an answer has the requested range, or the whole object.

    Parameters
    ----------
    status : int
        206 for a range, 200 for the whole object.
    headers : Message
        Headers of the answer.
    was_read : bool
        Whether parts of the object were read before.

    Raises
    ------
    PassingError, RefusedError, GoneError, ChangedError
        If it is another status; the message says what to do.
    OSError
        If the status is a permanent error.
    """
    if status in (200, 206):
        return
    if status in _MAY_PASS or status >= 500:
        raise PassingError(f"the server answers {status}", _retry_after(headers))
    if status in (401, 403):
        raise RefusedError(
            f"may not be read any more (the server answers {status}): the link has expired, or "
            "the permission ended; get a new link and run again"
            if was_read
            else f"may not be read (the server answers {status}): it needs a login or a token, or "
            "the link has expired"
        )
    if status in (404, 410):
        raise GoneError(
            f"is gone (the server answers {status}): it was moved or removed while it was read"
            if was_read
            else f"there is no such file on the server (it answers {status}); check the address"
        )
    if status == 412 or (status == 416 and was_read):
        raise ChangedError
    if status == 416:
        if _EMPTY.fullmatch(headers.get("Content-Range", "")):
            raise OSError("is empty (0 bytes)")
        raise OSError("the server refuses to send parts of it (416); download it and use the copy")
    if status == 407:
        raise OSError(refusal_of_proxy(status))
    if region := headers.get("x-amz-bucket-region"):
        raise OSError(f"lies in another region; set AWS_REGION={region[:40]} and run again")
    raise OSError(f"the server answers {status} to a request for data; check the address")


def refusal_of_proxy(status: int) -> str:
    """Return what to do if a proxy refuses a request."""
    if status == 407:
        return (
            "the proxy asks for a login (407); add name and password to the variable of the proxy, "
            "as http://name:password@host:port"
        )
    return (
        f"the proxy refuses it ({status}); if the host can be reached without the proxy, add it "
        "to no_proxy"
    )


def check_part(headers: Message, begin: int, stop: int) -> Part:
    """Return the part in an answer of status 206, after a check that it was requested.

    Parameters
    ----------
    headers : Message
        Headers of the answer.
    begin, stop : int
        The requested range; the object may end before.

    Raises
    ------
    OSError
        If it is another range.
    """
    _check_encoding(headers)
    said = headers.get("Content-Range")
    if said is None:
        raise OSError("the server does not tell which part it sent (no Content-Range)")
    found = _RANGE.fullmatch(said.strip())
    if found is None:
        raise OSError("the server does not tell which part of how many bytes it sent")
    first, last, size = map(int, found.groups())
    if first != begin or last + 1 != min(stop, size):
        raise OSError(
            f"the server sent bytes {first} to {last}, but {begin} to {min(stop, size) - 1} were "
            "requested"
        )
    length = headers.get("Content-Length")
    if length is not None and length.strip() != str(last + 1 - first):
        raise OSError(f"the server sends {length[:20]} bytes, but announces {said[:60]}")
    return Part(first, last + 1, _version(headers, size))


def check_whole(headers: Message, most: int) -> Version:
    """Return the version of an object that a server sends as a whole, if it is small enough.

    Raises
    ------
    OSError
        If it has more bytes than `most`, or the server does not tell its size.
    """
    _check_encoding(headers)
    length = headers.get("Content-Length", "")
    if not length.isdigit() or int(length) > most:
        raise OSError(
            "the server sends no parts of files (it answers 200 to a request for a range), which "
            f"works only up to {most // 2**20} MiB; download it and use the copy"
        )
    return _version(headers, int(length))


def _check_encoding(headers: Message) -> None:
    encoding = headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise OSError(
            f"the server sends it compressed ({encoding[:20]}) without being asked; download it "
            "and use the copy"
        )


def _version(headers: Message, size: int) -> Version:
    etag = headers.get("ETag", "").strip()
    is_strong = len(etag) > 2 and etag[0] == etag[-1] == '"'
    return Version(size, etag if is_strong else None, headers.get("Last-Modified"))


def _retry_after(headers: Message) -> float:
    """Return the pause in seconds that a server requests, as a number or a date."""
    said = headers.get("Retry-After", "").strip()
    if said.isdigit():
        return float(said)
    date = email.utils.parsedate_tz(said)
    return 0.0 if date is None else max(0.0, email.utils.mktime_tz(date) - time.time())
