"""Compiles kernels with Numba, and caches them on disk if possible.

If several processes need the same kernel, one compiles it, and the others wait and load it. This
also protects the cache: Numba numbers its files and keeps an index of them, which processes that
compile at the same time could mix up. For Numba, an unreadable or read-only cache is an error;
here it only costs time.
"""

import functools
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import perf_counter
from typing import Any

import numba
import numpy as np
import numpy.ma  # Numba would import it at the first call, during which the process may fork
import portalocker
from numba import jit, njit
from numba.core.caching import FunctionCache
from numba.core.compiler_lock import global_compiler_lock
from numba.core.runtime import rtsys

from sparsemed.progress import holding_up

logger = logging.getLogger(__name__)

Kernel = Callable[..., Any]
"""A function on arrays that releases Python's lock."""

PATIENCE = 60
"""Seconds to wait for another process that compiles."""

COUNT = "NUMBA_NUM_THREADS"
"""The environment variable with the number of threads of Numba."""

_njit: Any = njit  # its type declaration lacks some options

_LEAN = {"nogil": True, "no_cfunc_wrapper": True}
_PART = _LEAN | {"no_cpython_wrapper": True}
"""Options that leave out wrappers which are not needed."""

_uncached: dict[Any, Any] = {}

_seconds = 0.0


def kernel(function: Kernel) -> Any:
    """Compile a function that Python calls, or load it from the cache."""
    compiled = _njit(**_LEAN)(function)
    if not numba.config.DISABLE_JIT:  # type: ignore[attr-defined]
        with suppress(RuntimeError):  # there is no folder for the cache
            compiled._cache = _KernelCache(function)
    return compiled


def part(function: Kernel) -> Any:
    """Compile a function that only kernels call."""
    return _njit(**_PART)(function)


class _KernelCache(FunctionCache):  # type: ignore[misc,unused-ignore]
    """The cache of a kernel, loaded without the imports that compiling needs.

    Numba first imports everything that code may need, and linear algebra of SciPy, which takes half
    a second. Here this happens only if the kernel has to be compiled.
    """

    def __init__(self, function: Kernel) -> None:
        super().__init__(function)
        self._turn: portalocker.Lock | None = None

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return the code for a signature; the caller holds the compiler lock.

        None: this process has to compile it, and others wait.
        """
        code = self._load(sig, target_context)
        if code is None:
            self._take_turn()
            code = self._load(sig, target_context)  # another process may have just compiled it
            if code is None:
                logger.info("Compiling %s %s", self._name, sig)
            else:
                self.end_turn()
        return code

    def save_overload(self, sig: Any, data: Any) -> None:
        """Store the code for a signature, and let other processes load it."""
        try:
            super().save_overload(sig, data)
        finally:
            self.end_turn()

    def end_turn(self) -> None:
        """Let other processes compile."""
        if self._turn is not None:
            self._turn.release()
            self._turn = None

    def _take_turn(self) -> None:
        turn = portalocker.Lock(
            Path(self.cache_path) / "sparsemed.lock", timeout=PATIENCE, check_interval=0.1
        )
        # without a lock, if nothing can be written or files cannot be locked
        with suppress(portalocker.LockException, OSError):
            turn.acquire()
            self._turn = turn

    def _load(self, sig: Any, target_context: Any) -> Any:
        if not hasattr(self, "_load_overload"):  # a future version of Numba
            return super().load_overload(sig, target_context)
        rtsys.initialize(target_context)  # kernels may allocate arrays
        with self._guard_against_spurious_io_errors():
            return self._load_overload(sig, target_context)
        return None  # the cache could not be read


def ready(kernel: Any, *examples: Any) -> Kernel:
    """Return a compiled kernel, whatever the state of the cache.

    Parameters
    ----------
    kernel : callable
        A function decorated by `kernel`.
    *examples
        Arguments of the types of later calls.
    """
    global _seconds
    if numba.config.DISABLE_JIT:  # type: ignore[attr-defined]
        return functools.partial(_run_by_python, kernel)
    types = tuple(numba.typeof(example) for example in examples)
    is_cached = isinstance(kernel._cache, _KernelCache)
    where = "once on this machine" if is_cached else "as in each process"
    with global_compiler_lock:
        if not is_cached:
            _warn_of_no_cache()
        began = perf_counter()
        try:
            with holding_up(f"compiling, {where}"), _thread_count_as_it_is():
                return _compile(kernel, types)
        finally:
            if is_cached:
                kernel._cache.end_turn()
            _seconds += perf_counter() - began


def seconds_compiling() -> float:
    """Return the seconds that this process has spent on compiling, awaiting and loading kernels."""
    return _seconds


def _compile(kernel: Any, types: tuple[Any, ...]) -> Kernel:
    if kernel not in _uncached:
        try:
            kernel.compile(types)
        except MemoryError:
            raise
        except Exception as reason:  # a damaged cache can raise anything
            logger.warning(
                "Compiled kernels cannot be loaded from or stored in %s (%s): %s; if this happens "
                "again, delete that folder",
                kernel.stats.cache_path,
                type(reason).__name__,
                reason,
            )
            _uncached[kernel] = jit(**kernel.targetoptions)(kernel.py_func)
        else:
            return kernel  # type: ignore[no-any-return]
    _uncached[kernel].compile(types)
    return _uncached[kernel]  # type: ignore[no-any-return]


@functools.cache
def _warn_of_no_cache() -> None:
    logger.warning(
        "Compiled kernels cannot be cached, so each process spends seconds on compiling them: set "
        "NUMBA_CACHE_DIR to a writable folder"
    )


def _run_by_python(kernel: Kernel, *args: Any) -> Any:
    with np.errstate(over="ignore"):  # compiled integers wrap silently
        return kernel(*args)


@contextmanager
def _thread_count_as_it_is() -> Iterator[None]:
    """Set the number of threads in the environment to that of Numba, once its threads run.

    Numba reads the environment whenever it compiles, and fails if the number has changed.
    ChipStream sets the number when it is imported, which may be late.
    """
    found, has = os.environ.get(COUNT), _started_threads()
    if has is None or _wanted_threads() == has:
        yield
        return
    os.environ[COUNT] = put = str(has)
    try:
        yield
    finally:
        if os.environ.get(COUNT) == put:  # unless it was changed meanwhile
            if found is None:
                del os.environ[COUNT]
            else:
                os.environ[COUNT] = found


def _started_threads() -> int | None:
    try:
        numba.threading_layer()  # type: ignore[attr-defined]
    except ValueError:  # no threads yet: Numba takes the number it finds
        return None
    return int(numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]


def _wanted_threads() -> int:
    """Return the number of threads that Numba reads from the environment."""
    try:
        return int(os.environ[COUNT])
    except (KeyError, ValueError):
        return int(numba.config.NUMBA_DEFAULT_NUM_THREADS)  # type: ignore[attr-defined]


if hasattr(os, "register_at_fork"):
    # A child process lacks a thread that was compiling, but would inherit its lock.
    os.register_at_fork(
        before=global_compiler_lock.acquire,
        after_in_parent=global_compiler_lock.release,
        after_in_child=global_compiler_lock.release,
    )
