"""How far tasks have come, as workers of Dask's tell it; other engines have no way to tell."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from sparsemed.engines.dask_cluster import this_worker
from sparsemed.progress import Progress

PAUSE = 0.5
"""Seconds between two messages of a worker."""


@contextmanager
def listening(engine: Any, topic: str, note: Callable[[int, float], None]) -> Iterator[None]:
    """Have noted which part of a task, by its number, is done, where workers can tell."""
    if not hasattr(engine, "subscribe_topic"):
        yield
        return
    engine.subscribe_topic(topic, lambda event: note(*event[1]))
    try:
        yield
    finally:
        with suppress(Exception):  # the scheduler may be gone
            engine.unsubscribe_topic(topic)


def telling(topic: str, number: int) -> Progress | None:
    """Return what tells who listens how far a task has come, where this is a worker of Dask's."""
    worker = this_worker()
    if worker is None:
        return None
    last = time.monotonic()

    def tell(part: float) -> None:
        nonlocal last
        if time.monotonic() - last >= PAUSE:
            last = time.monotonic()
            worker.log_event(topic, [number, part])

    return tell
