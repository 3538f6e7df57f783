"""Used by all kinds of stacks: imports libraries, and lets their errors name the file."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from sparsemed.install_hint import how_to_install


def require(package: str, path: Path, kind: str) -> Any:
    """Return the library that reads a kind of stack.

    Raises
    ------
    ImportError
        If it is missing; the message says how to install it.
    """
    try:
        return import_module(package)
    except ImportError as error:
        raise ImportError(
            f"{path}: reading {kind} needs {package} ({error}): {how_to_install(package)}"
        ) from error


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Turn any error of a library into an OSError that names the file."""
    try:
        yield
    except (MemoryError, KeyboardInterrupt):
        raise
    except Exception as error:
        if str(error).startswith(f"{path}: "):
            raise
        raise OSError(f"{path}: cannot be read ({error})") from error
