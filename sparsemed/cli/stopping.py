"""Commands that end soon and cleanly at a signal."""

import os
import signal
import sys
import threading
from contextlib import suppress
from types import FrameType
from typing import Any

import click


class _Stopped(BaseException):
    """A signal asked to stop. Not a KeyboardInterrupt, which Click handles itself."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(number)
        self.number = number


STOPS = {"SIGINT": "Interrupted", "SIGTERM": "Terminated", "SIGHUP": "Hung up"}
"""Signals that stop a command, and what it prints then."""


class Stoppable(click.Command):
    """A command that ends at a signal with one line, and the exit status that shells use."""

    def invoke(self, ctx: click.Context) -> Any:  # noqa: D102 (click's)
        if threading.current_thread() is not threading.main_thread():  # no handlers run here
            return super().invoke(ctx)
        with _Stopping() as stopping:
            try:
                return super().invoke(ctx)
            except _Stopped as stopped:
                stopping.is_heard.set()
                number = stopped.number
            # Only now are all files closed that the traceback held open.
            _say_stopped(number)
        return ctx.exit(128 + number)


def _say_stopped(number: signal.Signals) -> None:
    with suppress(OSError):  # the terminal may be gone; the exit status says it, too
        click.echo(f"{STOPS[number.name]}: no file is half written", err=True)


class _Stopping:
    """Raises `_Stopped` at a signal, and again until it is caught.

    Nothing is raised while a `_Stopped` propagates, so that cleaning up is not disturbed. An
    exception raised within ``__del__`` or another callback is lost; this is why it is raised again.
    Numba crashes if it is interrupted while it compiles, which comes before any writing; there the
    process exits at once. Signals that were ignored stay ignored.

    Attributes
    ----------
    is_heard : threading.Event
        Set when `_Stopped` was caught.
    """

    def __enter__(self) -> "_Stopping":
        self.is_heard = threading.Event()
        self._first: signal.Signals | None = None
        self._again: threading.Thread | None = None
        self._show, sys.unraisablehook = sys.unraisablehook, self._show_unless_stopped
        self._former: dict[signal.Signals, Any] = {}
        for name in STOPS:
            number = getattr(signal, name, None)  # Windows has fewer
            if number is not None and signal.getsignal(number) != signal.SIG_IGN:
                self._former[number] = signal.signal(number, self._stop)
        return self

    def __exit__(self, *error: object) -> None:
        self.is_heard.set()
        if self._again is not None:
            self._again.join()
        for number, handler in self._former.items():
            signal.signal(number, handler)
        sys.unraisablehook = self._show

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if self._first is None:
            self._first = signal.Signals(number)
            self._again = threading.Thread(target=self._repeat, args=[number], daemon=True)
            self._again.start()
        elif self._again is None or not self._again.is_alive():
            return  # the first signal is being handled
        error = sys.exception()
        while error is not None:
            if isinstance(error, _Stopped):
                return
            error = error.__context__
        while frame is not None:
            if frame.f_globals.get("__name__", "").startswith(("numba.", "llvmlite.")):
                _say_stopped(self._first)
                os._exit(128 + self._first)
            frame = frame.f_back
        if not self.is_heard.is_set():
            raise _Stopped(self._first)

    def _repeat(self, number: int) -> None:
        main = threading.main_thread().ident
        while not self.is_heard.wait(0.05):
            if main is not None and hasattr(signal, "pthread_kill"):
                signal.pthread_kill(main, number)  # wakes it, if it is waiting
            else:
                signal.raise_signal(number)

    def _show_unless_stopped(self, lost: "sys.UnraisableHookArgs") -> None:
        if self._first is None:  # otherwise it comes from code that was cut short
            self._show(lost)
