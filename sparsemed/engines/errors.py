"""What can go wrong with workers, as opposed to their work."""


class EngineError(OSError):
    """Workers or their scheduler are lost, or they are of another version."""


class LostError(Exception):
    """What a task returned was lost with its worker."""


def too_many_losses(count: int) -> EngineError:
    """Return the error of a task that has cost so many workers their lives."""
    return EngineError(
        f"{count} workers were lost one after the other while they did the same task; have they "
        "enough memory?"
    )


def require_version(who: str, found: str, wanted: str) -> None:
    """Check that a worker has the version of sparsemed that the one has who sends it work.

    Raises
    ------
    EngineError
        If it has another.
    """
    if found != wanted:
        text = f"{who} has sparsemed {found}, but {wanted} is needed; install that there"
        raise EngineError(text)
