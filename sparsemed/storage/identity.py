"""Which file frames were read from, fixed when they were: names may mean another one later."""

from dataclasses import dataclass
from typing import Any, Literal

from sparsemed.storage.places import AnyPath

States = tuple[tuple[str, tuple[Any, ...]], ...]
"""Names of stored bytes, such as absolute paths, each with their state then."""


@dataclass(frozen=True)
class Identity:
    """Which measurement or stack frames were read from.

    Attributes
    ----------
    path : Path or RemotePath
        The file, absolute: the working folder may change.
    given : Path or RemotePath
        Its name as it was given, for messages.
    kind : {"measurement", "stack"}
        What it is.
    count : int
        Number of frames.
    identifier : str or None
        What tells the measurement from others. None is equal to nothing.
    digest : str or None
        Digest of its times and of some of its frames, by which it is known again.
    choice : object
        Which of several stacks in the file, as its kind of input says that; None for the only one.
    states : tuple of (str, tuple of int)
        All files that were open, and the state of each.
    """

    path: AnyPath
    given: AnyPath
    kind: Literal["measurement", "stack"]
    count: int
    identifier: str | None = None
    digest: str | None = None
    choice: Any = None
    states: States = ()
