"""The identity of the file of frames, fixed when they are read: its name may change its meaning."""

from dataclasses import dataclass
from typing import Any, Literal

from sparsemed.storage.places import AnyPath

States = tuple[tuple[str, tuple[Any, ...]], ...]
"""Names of stored bytes, such as absolute paths, each with its state at that time."""


@dataclass(frozen=True)
class Identity:
    """The identity of a measurement or stack.

    Attributes
    ----------
    path : Path or RemotePath
        Absolute path, as the working folder may change.
    given : Path or RemotePath
        Name as given, for messages.
    kind : {"measurement", "stack"}
        Kind of file.
    count : int
        Number of frames.
    identifier : str or None
        Identifier of the measurement. None is equal to no other.
    digest : str or None
        Digest of its times and of some of its frames.
    choice : object
        The chosen one of several stacks in the file; None for the only one.
    states : tuple of (str, tuple of int)
        All opened files, and the state of each.
    """

    path: AnyPath
    given: AnyPath
    kind: Literal["measurement", "stack"]
    count: int
    identifier: str | None = None
    digest: str | None = None
    choice: Any = None
    states: States = ()
