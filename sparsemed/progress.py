"""How far long work has come: a bar of tqdm's, or whatever the caller does with a fraction."""

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
"""Seconds between two reports; the last one never waits, and so is the twentieth in a second."""

HELD_UP = 1.0
"""Seconds after which it is said what holds up the work."""

_bars: list[Any] = []


@contextmanager
def following(
    progress: Progress | bool | None, count: int, unit: str = " frames"
) -> Iterator[Progress]:
    """Provide the function to which work tells how far it has come, as often as it likes.

    Of these fractions, no more than 20 a second are passed on. The first one
    passed on is always 0, and the last one 1, when the work has succeeded.

    Parameters
    ----------
    progress : callable, bool or None
        Where fractions are passed on to. True stands for a bar of tqdm's, which
        suits a terminal or a notebook, whichever this is. None and False: nowhere.
    count : int
        Number of frames, for the bar.
    unit : str
        What is counted, if not frames.

    Raises
    ------
    TypeError
        If `progress` is none of these.

    Examples
    --------
    >>> with following(print, count=1000) as report:
    ...     for number in range(1000):
    ...         report(number / 1000)
    0.0
    1.0
    """
    if progress is None or progress is False:
        yield ignore
    elif progress is True:
        with bar(count, unit=unit) as shown, following(shown, count) as report:
            yield report
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
    """Show a bar of tqdm's with frames per second and the time that remains.

    Parameters
    ----------
    count : int
        Number of frames.
    text : str or callable, optional
        What stands before the bar; a callable is asked for it again and again.
    keep : bool
        Whether the bar stays when the work is over.
    unit : str
        What is counted, if not frames.
    """
    if sys.stderr is None:  # an application with windows alone, or after 2>&-
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
    """Say what holds up the work, if that takes more than a second.

    It is said behind the bars that are shown, which do not count the time; where there are none,
    in a line, if somebody watches: in a terminal or a notebook. The line goes away in the end.
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
    with suppress(RuntimeError):  # no more threads are to be had
        timer.start()
    try:
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
    """Show a line in a terminal or a notebook; return what takes it away."""
    if _is_notebook():
        from IPython import display  # a notebook has it

        show: Any = display.display  # whose declaration has no types
        cell = show(_in_cell(text), raw=True, display_id=True)
        return lambda: cell.update(_in_cell(""), raw=True)
    print(text, end="", file=sys.stderr, flush=True)
    return lambda: print(f"\r{' ' * len(text)}\r", end="", file=sys.stderr, flush=True)


def _in_cell(text: str) -> dict[str, str]:
    return {"text/plain": text, "text/html": text}


def _is_watched() -> bool:
    """Whether somebody may read a line, and did not ask for silence; a pool's worker is mute."""
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
    """Take a report that nobody asked for."""


def _paced(progress: Progress) -> Progress:
    """Return a function that passes on what comes a while after the last, but neither end."""
    last = perf_counter()

    def report(fraction: float) -> None:
        nonlocal last
        now = perf_counter()
        if now - last >= PAUSE and 0 < fraction < 1:
            last = now
            progress(fraction)

    return report
