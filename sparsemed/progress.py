"""Progress of long work: a tqdm bar, or a callable that gets the fraction done."""

import logging
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from time import perf_counter
from typing import Any

Progress = Callable[[float], None]
"""Called with a fraction from 0 to 1."""

PAUSE = 1 / 19
"""Least seconds between two reports: with the last one, which never waits, 20 a second."""

HELD_UP = 1.0
"""Seconds after which a message tells what the work waits for."""

_bars: list[Any] = []


@contextmanager
def following(
    progress: Progress | bool | None, count: int, unit: str = " frames"
) -> Iterator[Progress]:
    """Provide a function to which work reports the fraction done, as often as it likes.

    At most 20 fractions a second are passed on. The first one is always 0, and the
    last one 1 if the work succeeds.

    Parameters
    ----------
    progress : callable, bool or None
        Gets the fractions. True: a tqdm bar, in a terminal or a notebook. None and
        False: no progress is shown.
    count : int
        Number of frames, for the bar.
    unit : str
        Unit of `count`.

    Raises
    ------
    TypeError
        If `progress` is none of these.

    Examples
    --------
    >>> with following(print, count=1000) as tell:
    ...     for number in range(1000):
    ...         tell(number / 1000)
    0.0
    1.0
    """
    if progress is None or progress is False:
        yield ignore
    elif progress is True:
        with bar(count, unit=unit) as shown, following(shown, count) as tell:
            yield tell
    elif callable(progress):
        progress(0.0)
        yield _paced(progress)
        progress(1.0)
    else:
        raise TypeError(
            f"progress must be True, None, or a callable that takes a fraction, got {progress!r}"
        )


@contextmanager
def bar(
    count: int,
    text: str | Callable[[], str] | None = None,
    *,
    keep: bool = True,
    unit: str = " frames",
) -> Iterator[Progress]:
    """Show a tqdm bar with frames per second and the remaining time.

    Parameters
    ----------
    count : int
        Number of frames.
    text : str or callable, optional
        Text before the bar; a callable is called at each update.
    keep : bool
        Whether the bar stays after the work.
    unit : str
        Unit of `count`.
    """
    if sys.stderr is None:  # a graphical application, or after 2>&-
        yield ignore
        return
    from tqdm.auto import tqdm  # tells a notebook from a terminal; takes a moment to import

    ask = text if callable(text) else None
    with tqdm(
        total=count,
        desc=text if ask is None else ask(),
        leave=keep,
        unit=unit,
        unit_scale=True,
        mininterval=0,
        miniters=1,
        dynamic_ncols=True,
    ) as shown:

        def show(fraction: float) -> None:
            if ask is not None:
                shown.set_description(ask(), refresh=False)
            shown.update(round(fraction * count) - shown.n)

        _bars.append(shown)
        try:
            yield show
        finally:
            _bars.remove(shown)


@contextmanager
def holding_up(reason: str) -> Iterator[None]:
    """Show why the work waits, if it waits for more than a second.

    The reason is shown behind the bars, which do not count that time. Without a bar, it is shown on
    a line in a terminal or a notebook, which is removed at the end.
    """
    told: list[Any] = []
    lines: list[Callable[[], Any]] = []

    def tell() -> None:
        told.extend(_bars)
        for shown in told:
            shown.set_postfix_str(reason)
        if not told and _is_watched():
            with suppress(ImportError, OSError):
                lines.append(_show_line(f"sparsemed: {reason}"))

    timer = threading.Timer(HELD_UP, tell)
    timer.daemon = True
    try:
        with suppress(RuntimeError):  # no more threads can be started
            timer.start()
        yield
    finally:
        timer.cancel()
        if timer.ident is not None:
            timer.join()
        for shown in told:
            shown.set_postfix_str("", refresh=False)
            shown.unpause()
        for take_away in lines:
            with suppress(OSError):
                take_away()


def _show_line(text: str) -> Callable[[], Any]:
    """Show a line in a terminal or a notebook; return a function that removes it."""
    if _is_notebook():
        from IPython import display  # notebooks have it

        show: Any = display.display  # untyped
        cell = show(_in_cell(text), raw=True, display_id=True)
        return lambda: cell.update(_in_cell(""), raw=True)
    print(text, end="", file=sys.stderr, flush=True)
    return lambda: print(f"\r{' ' * len(text)}\r", end="", file=sys.stderr, flush=True)


def _in_cell(text: str) -> dict[str, str]:
    return {"text/plain": text, "text/html": text}


def _is_watched() -> bool:
    """Whether a line may be shown: in a terminal or notebook, if not silenced, not by a worker."""
    processes = sys.modules.get("multiprocessing.process")
    is_worker = processes is not None and processes.parent_process() is not None
    if (
        sys.stderr is None
        or is_worker
        or not logging.getLogger("sparsemed").isEnabledFor(logging.WARNING)
    ):
        return False
    return sys.stderr.isatty() or _is_notebook()


def _is_notebook() -> bool:
    return type(sys.stderr).__module__.startswith("ipykernel.")


def ignore(fraction: float) -> None:
    """Ignore a fraction."""


def _paced(progress: Progress) -> Progress:
    """Return a function that passes on fractions between 0 and 1, not too often."""
    last = perf_counter()

    def tell(fraction: float) -> None:
        nonlocal last
        now = perf_counter()
        if now - last >= PAUSE and 0 < fraction < 1:
            last = now
            progress(fraction)

    return tell
