"""What a server's answer says, and whether it is what was asked for.

A wrong answer that passes for data yields garbage, or worse, plausible pixels. So status, range,
length, encoding and version of each are looked at before a byte counts.
"""

import email.utils
import re
import time
from email.message import Message
from typing import NamedTuple

MOST_WAITED = 120.0
"""Seconds for which a server may ask to be left alone."""

_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
_EMPTY = re.compile(r"bytes \*/0")

_MAY_PASS = {408, 425, 429}


class PassingError(Exception):
    """A fault that may pass; the message goes on after the name of the object.

    Attributes
    ----------
    pause : float
        Seconds that the server asks for.
    """

    def __init__(self, text: str, pause: float = 0.0) -> None:
        super().__init__(text)
        self.pause = pause


class RefusedError(Exception):
    """The object may not be read, or not any more; a link may have expired."""


class GoneError(Exception):
    """There is no such object."""


class ChangedError(Exception):
    """The object is not the one that was read before."""


class Version(NamedTuple):
    """What tells one state of an object from another.

    Attributes
    ----------
    size : int
        Its bytes.
    etag : str or None
        A strong one. Weak ones may stay while bytes change.
    modified : str or None
        When it was changed last, as the server says it.
    """

    size: int
    etag: str | None
    modified: str | None

    @property
    def is_known(self) -> bool:
        """Whether a change that keeps the size would be noticed."""
        return self.etag is not None or self.modified is not None

    def is_same(self, other: "Version") -> bool:
        """Whether two answers are of the same state, as far as both tell."""
        if self.size != other.size:
            return False
        if self.etag is not None and other.etag is not None:
            return self.etag == other.etag
        if self.modified is not None and other.modified is not None:
            return self.modified == other.modified
        return self.is_known == other.is_known  # who told before and now does not is another


class Part(NamedTuple):
    """Which bytes an answer has, of which version."""

    begin: int
    stop: int
    version: Version


def check_status(status: int, headers: Message, was_read: bool) -> None:
    """Check that an answer brings what was asked for, or at least all of it.

    Parameters
    ----------
    status : int
        206 for a range, 200 for all.
    headers : Message
        Those of the answer.
    was_read : bool
        Whether parts of the object were read before.

    Raises
    ------
    PassingError, RefusedError, GoneError, ChangedError
        If it is another status; the message says what to do.
    OSError
        If there is no hope.
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
        raise OSError(
            "the server refuses to hand out parts of it (416); download it and use the copy"
        )
    if status == 407:
        raise OSError(refusal_of_proxy(status))
    if region := headers.get("x-amz-bucket-region"):
        raise OSError(f"lies in another region; set AWS_REGION={region[:40]} and run again")
    raise OSError(f"the server answers {status}, which is no answer to a request for data")


def refusal_of_proxy(status: int) -> str:
    """Say what to do if a proxy lets nothing pass."""
    if status == 407:
        return (
            "the proxy asks who you are (407); put name and password into the variable that names "
            "the proxy, as http://name:password@host:port"
        )
    return (
        f"the proxy does not let it pass ({status}); if the host can be reached without the proxy, "
        "name it in no_proxy"
    )


def check_part(headers: Message, begin: int, stop: int) -> Part:
    """Return what an answer of status 206 has, which must be what was asked for.

    Parameters
    ----------
    headers : Message
        Those of the answer.
    begin, stop : int
        What was asked for; an object may end before.

    Raises
    ------
    OSError
        If it is something else.
    """
    _check_encoding(headers)
    said = headers.get("Content-Range")
    if said is None:
        raise OSError("the server does not say which part it sent (no Content-Range)")
    found = _RANGE.fullmatch(said.strip())
    if found is None:
        raise OSError("the server does not say which part of how many bytes it sent")
    first, last, size = map(int, found.groups())
    if first != begin or last + 1 != min(stop, size):
        raise OSError(
            f"the server sent the bytes {first} to {last}, where {begin} to "
            f"{min(stop, size) - 1} were asked for"
        )
    length = headers.get("Content-Length")
    if length is not None and length.strip() != str(last + 1 - first):
        raise OSError(f"the server sent {length[:20]} bytes, where it had announced {said[:60]}")
    return Part(first, last + 1, _version(headers, size))


def check_whole(headers: Message, most: int) -> Version:
    """Return the version of an object that a server sends as a whole, if it is small enough.

    Raises
    ------
    OSError
        If it has more bytes than `most`, or if the server does not say how many.
    """
    _check_encoding(headers)
    length = headers.get("Content-Length", "")
    if not length.isdigit() or int(length) > most:
        raise OSError(
            "the server hands out whole files only, and no parts of them (it answers 200 to a "
            f"request for a range); that is done up to {most // 2**20} MiB: download it and use "
            "the copy"
        )
    return _version(headers, int(length))


def _check_encoding(headers: Message) -> None:
    encoding = headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise OSError(
            f"the server sends it compressed ({encoding[:20]}), though that was not asked for; "
            "download it and use the copy"
        )


def _version(headers: Message, size: int) -> Version:
    etag = headers.get("ETag", "").strip()
    is_strong = len(etag) > 2 and etag[0] == etag[-1] == '"'
    return Version(size, etag if is_strong else None, headers.get("Last-Modified"))


def _retry_after(headers: Message) -> float:
    """Return the seconds that a server asks to wait, told as a number or as a date."""
    said = headers.get("Retry-After", "").strip()
    if said.isdigit():
        return float(said)
    date = email.utils.parsedate_tz(said)
    return 0.0 if date is None else max(0.0, email.utils.mktime_tz(date) - time.time())
