"""Messages of commands: one-line errors, and log lines above the bar."""

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import click

from sparsemed.printable import printable
from sparsemed.warned import BackgroundWarning


class Failure(click.ClickException):
    """A command that failed: one line, and exit status 1."""

    exit_code = 1

    def format_message(self) -> str:  # noqa: D102 (click's)
        return printable(self.message)


class Mistake(Failure):
    """A command that makes no sense or cannot begin: one line, and exit status 2."""

    exit_code = 2


@contextmanager
def one_line_errors(kind: type[Failure] = Failure) -> Iterator[None]:
    """Show an error of input, output or installation as one line, not a traceback."""
    try:
        yield
    except BrokenPipeError:  # nobody reads the output any more; click ends the command
        raise
    except (OSError, ValueError, TypeError, MemoryError, ImportError) as error:
        if isinstance(error, PermissionError):  # the command line does make sense
            kind = Failure
        raise kind(" ".join(str(error).split()) or repr(error)) from error


@contextmanager
def log_lines(level: int, about: Any | None = None) -> Iterator["LogLines"]:
    """Show log records of at least a level, and warnings, as lines that name their file."""
    logger = logging.getLogger("sparsemed")
    before = logger.level
    handler = LogLines(about)
    logger.addHandler(handler)
    logger.setLevel(level)
    with warnings.catch_warnings():
        warnings.simplefilter("always", BackgroundWarning)
        show_other = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
            if not issubclass(category, BackgroundWarning):
                show_other(message, category, *where, **more)
                return
            if level <= logging.WARNING:
                handler.say("Warning", str(message))

        warnings.showwarning = show
        try:
            yield handler
        finally:
            logger.setLevel(before)
            logger.removeHandler(handler)


def is_terminal() -> bool:
    """Return whether stderr is a terminal. After ``2>&-`` there is no stderr."""
    return sys.stderr is not None and sys.stderr.isatty()


class LogLines(logging.Handler):
    """Writes to the terminal, above the bar if there is one.

    Attributes
    ----------
    about : Path or None
        The file that begins each line which does not name it.
    """

    def __init__(self, about: Any | None) -> None:
        super().__init__()
        self.about = about

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        self.say(record.levelname.capitalize(), record.getMessage())

    def say(self, kind: str, message: str) -> None:
        """Write one line of that kind."""
        from tqdm import tqdm

        if sys.stderr is None:
            return
        if self.about is not None and str(self.about) not in message:
            message = f"{self.about}: {message}"
        line = printable(f"{kind}: {message}")
        with suppress(OSError):  # a measurement does not fail because nobody can be warned
            tqdm.write(line, file=sys.stderr)
