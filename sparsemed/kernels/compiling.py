"""Kernels compiled by Numba, and kept on disk where that can be.

Numba numbers the files of its cache, and an index says which is which. Processes that compile at
once can thereby mix up their files; so they write one at a time here. And a cache that cannot be
read or written is an error of the program to Numba, but no more than a loss of time here.
"""

import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from traceback import walk_tb
from typing import Any

import numba
import numpy as np
import numpy.ma  # as Numba would on the first call, in the midst of which somebody may fork
import portalocker
from numba import jit, njit
from numba.core.caching import FunctionCache
from numba.core.compiler_lock import global_compiler_lock
from numba.core.event import Listener, install_listener
from numba.core.runtime import rtsys

logger = logging.getLogger(__name__)

PATIENCE = 60
"""Seconds to wait for another process that writes into the cache."""

COUNT = "NUMBA_NUM_THREADS"
"""The variable by which a user may say how many threads Numba is to have."""

_uncached: dict[Any, Any] = {}


def kernel(**options: Any) -> Callable[[Callable[..., None]], Any]:
    """Let Numba compile a function when it is first called, or load what was compiled earlier.

    Parameters
    ----------
    **options
        Those of `numba.njit`.
    """

    def decorate(function: Callable[..., None]) -> Any:
        compiled = njit(**options)(function)
        if not numba.config.DISABLE_JIT:  # type: ignore[attr-defined]
            with suppress(RuntimeError):  # there is no folder to keep it in
                compiled._cache = _Kept(function)
        return compiled

    return decorate


class _Kept(FunctionCache):  # type: ignore[misc,unused-ignore]
    """What was compiled earlier, loaded without all that it takes to compile.

    Numba itself first imports whatever it might have to compile, and SciPy's linear algebra:
    half a second, for code that is there. If there is none, it does so when it compiles.
    """

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return the code for a signature, or None; called with the compiler's lock held."""
        if not hasattr(self, "_load_overload"):  # a Numba to come
            return super().load_overload(sig, target_context)
        rtsys.initialize(target_context)  # arrays that kernels make need memory
        with self._guard_against_spurious_io_errors():
            return self._load_overload(sig, target_context)
        return None  # the cache could not be read, which was guarded against


def call(kernel: Any, *args: Any) -> None:
    """Call a kernel, whatever is wrong with the cache, and whatever the environment has become.

    Parameters
    ----------
    kernel : callable
        What `kernel` has decorated.
    *args
        Its arguments.
    """
    if numba.config.DISABLE_JIT:  # type: ignore[attr-defined]
        with np.errstate(over="ignore"):  # compiled integers wrap without a word
            kernel(*args)
        return
    with (
        _thread_count_as_it_is(),
        _Turns(kernel) as turns,
        install_listener("numba:compile", turns),
    ):
        if kernel not in _uncached:
            try:
                kernel(*args)
                return
            except MemoryError:
                raise
            except Exception as reason:  # a damaged cache can raise anything
                folder = kernel.stats.cache_path
                frames = (frame for frame, _ in walk_tb(reason.__traceback__))
                if not any(f.f_globals.get("__name__") == "numba.core.caching" for f in frames):
                    raise
                logger.warning(
                    "Compiled kernels cannot be loaded from, or kept in, %s (%s): %s; if this "
                    "stays, delete that folder",
                    folder,
                    type(reason).__name__,
                    reason,
                )
            _uncached[kernel] = jit(**kernel.targetoptions)(kernel.py_func)
        _uncached[kernel](*args)


@contextmanager
def _thread_count_as_it_is() -> Iterator[None]:
    """Let the environment ask for as many threads as Numba has, once it has them.

    Numba reads the environment again whenever it compiles, and refuses to if another number is
    wanted by then. ChipStream sets one when it is imported, which may be late. What was there is
    put back when the last of the calls that run at the same time has ended.
    """
    with _environment.turn:
        _environment.calls += 1
        if (has := _started_threads()) is not None and _wanted_threads() != has:
            _environment.found = os.environ.get(COUNT)
            _environment.put = os.environ[COUNT] = str(has)
    try:
        yield
    finally:
        with _environment.turn:
            _environment.calls -= 1
            if _environment.calls == 0:
                _environment.put_back()


class _Environment:
    """What was found in the environment, and what was put there instead."""

    def __init__(self) -> None:
        self.turn = threading.RLock()  # the handler of a signal may call, too
        self.calls = 0
        self.found: str | None = None
        self.put: str | None = None

    def put_back(self) -> None:
        if self.put is not None and os.environ.get(COUNT) == self.put:  # not if somebody changed it
            if self.found is None:
                del os.environ[COUNT]
            else:
                os.environ[COUNT] = self.found
        self.put = None

    def begin_in_child(self) -> None:
        """Put it back for the threads that were calling; a child does not have them."""
        self.put_back()
        self.calls = 0
        self.turn.release()


_environment = _Environment()


def _started_threads() -> int | None:
    try:
        numba.threading_layer()  # type: ignore[attr-defined]
    except ValueError:  # there are none yet: Numba takes what it finds
        return None
    return int(numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]


def _wanted_threads() -> int:
    """Return what Numba makes of the environment."""
    try:
        return int(os.environ[COUNT])
    except (KeyError, ValueError):
        return int(numba.config.NUMBA_DEFAULT_NUM_THREADS)  # type: ignore[attr-defined]


class _Turns(ExitStack, Listener):  # type: ignore[misc,unused-ignore]
    """Notices that this thread compiles a kernel, and lets one process at a time keep the result.

    Numba says that it begins and ends, and then writes. The lock is held until this is left.
    """

    def __init__(self, kernel: Any) -> None:
        super().__init__()
        self.kernel = kernel
        self.thread = threading.get_ident()

    def on_start(self, event: Any) -> None:
        if self._is_meant(event):
            kept = "once a machine"
            if self.kernel.stats.cache_path is None:
                kept = "in each process; set NUMBA_CACHE_DIR to a folder where it can be kept"
            logger.info("Compiling the median kernel; this takes some seconds, %s", kept)

    def on_end(self, event: Any) -> None:
        folder = self.kernel.stats.cache_path
        if self._is_meant(event) and folder is not None:
            lock = portalocker.Lock(Path(folder) / "sparsemed.lock", timeout=PATIENCE)
            # where nothing can be written, or files cannot be locked, it goes without
            with suppress(portalocker.LockException, OSError):
                self.enter_context(lock)

    def _is_meant(self, event: Any) -> bool:
        return event.data["dispatcher"] is self.kernel and self.thread == threading.get_ident()


if hasattr(os, "register_at_fork"):
    # A child has none of the threads that may have been compiling, but what they hold.
    os.register_at_fork(
        before=global_compiler_lock.acquire,
        after_in_parent=global_compiler_lock.release,
        after_in_child=global_compiler_lock.release,
    )
    os.register_at_fork(
        before=_environment.turn.acquire,
        after_in_parent=_environment.turn.release,
        after_in_child=_environment.begin_in_child,
    )
