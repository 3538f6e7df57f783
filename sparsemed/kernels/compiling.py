"""Kernels compiled by Numba, and kept on disk where that can be.

Of processes that need the same kernel at once, one compiles it; the others wait, and load what it
has kept. As Numba numbers the files of its cache, and an index says which is which, processes
that compile at once could also mix up their files. And a cache that cannot be read or written is
an error of the program to Numba, but no more than a loss of time here.
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
import numpy.ma  # as Numba would on the first call, in the midst of which somebody may fork
import portalocker
from numba import jit, njit
from numba.core.caching import FunctionCache
from numba.core.compiler_lock import global_compiler_lock
from numba.core.runtime import rtsys

from sparsemed.progress import holding_up

logger = logging.getLogger(__name__)

Kernel = Callable[..., Any]
"""What works on arrays, and does not hold Python's lock."""

PATIENCE = 60
"""Seconds to wait for another process that compiles."""

COUNT = "NUMBA_NUM_THREADS"
"""The variable by which a user may say how many threads Numba is to have."""

_njit: Any = njit  # whose declaration does not know all of its options

_LEAN = {"nogil": True, "no_cfunc_wrapper": True}
_PART = _LEAN | {"no_cpython_wrapper": True}
"""Options that spare Numba the ways in that nobody takes."""

_uncached: dict[Any, Any] = {}

_seconds = 0.0


def kernel(function: Kernel) -> Any:
    """Let Numba compile a function that Python calls, or load what was compiled earlier."""
    compiled = _njit(**_LEAN)(function)
    if not numba.config.DISABLE_JIT:  # type: ignore[attr-defined]
        with suppress(RuntimeError):  # there is no folder to keep it in
            compiled._cache = _Kept(function)
    return compiled


def part(function: Kernel) -> Any:
    """Let Numba compile a function that kernels call, and nobody else."""
    return _njit(**_PART)(function)


class _Kept(FunctionCache):  # type: ignore[misc,unused-ignore]
    """What was compiled earlier, loaded without all that it takes to compile.

    Numba itself first imports whatever it might have to compile, and SciPy's linear algebra:
    half a second, for code that is there. If there is none, it does so when it compiles.
    """

    def __init__(self, function: Kernel) -> None:
        super().__init__(function)
        self._turn: portalocker.Lock | None = None

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return the code for a signature, or None; called with the compiler's lock held.

        None means that it is to be compiled, and that it is this process's turn.
        """
        code = self._load(sig, target_context)
        if code is None:
            self._take_turn()
            code = self._load(sig, target_context)  # another one may just have compiled it
            if code is None:
                logger.info("Compiling %s %s", self._name, sig)
            else:
                self.end_turn()
        return code

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep the code for a signature, and let others load it."""
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
        # where nothing can be written, or files cannot be locked, it goes without
        with suppress(portalocker.LockException, OSError):
            turn.acquire()
            self._turn = turn

    def _load(self, sig: Any, target_context: Any) -> Any:
        if not hasattr(self, "_load_overload"):  # a Numba to come
            return super().load_overload(sig, target_context)
        rtsys.initialize(target_context)  # arrays that kernels make need memory
        with self._guard_against_spurious_io_errors():
            return self._load_overload(sig, target_context)
        return None  # the cache could not be read, which was guarded against


def ready(kernel: Any, *examples: Any) -> Kernel:
    """Return a kernel that can be called at once, whatever is wrong with the cache.

    Parameters
    ----------
    kernel : callable
        What `kernel` has decorated.
    *examples
        Arguments of the types that it will be called with.
    """
    global _seconds
    if numba.config.DISABLE_JIT:  # type: ignore[attr-defined]
        return functools.partial(_run_by_python, kernel)
    types = tuple(numba.typeof(example) for example in examples)
    is_kept = isinstance(kernel._cache, _Kept)
    where = "once on this machine" if is_kept else "as in each process"
    with global_compiler_lock:
        if not is_kept:
            _warn_of_no_cache()
        began = perf_counter()
        try:
            with holding_up(f"compiling, {where}"), _thread_count_as_it_is():
                return _compile(kernel, types)
        finally:
            if is_kept:
                kernel._cache.end_turn()
            _seconds += perf_counter() - began


def seconds_compiling() -> float:
    """Return how long kernels were compiled, waited for and loaded, in this process so far."""
    return _seconds


def _compile(kernel: Any, types: tuple[Any, ...]) -> Kernel:
    if kernel not in _uncached:
        try:
            kernel.compile(types)
        except MemoryError:
            raise
        except Exception as reason:  # a damaged cache can raise anything
            logger.warning(
                "Compiled kernels cannot be loaded from, or kept in, %s (%s): %s; if this "
                "stays, delete that folder",
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
        "Compiled kernels cannot be kept anywhere, so that each process spends seconds to compile "
        "them: set NUMBA_CACHE_DIR to a folder that can be written"
    )


def _run_by_python(kernel: Kernel, *args: Any) -> Any:
    with np.errstate(over="ignore"):  # compiled integers wrap without a word
        return kernel(*args)


@contextmanager
def _thread_count_as_it_is() -> Iterator[None]:
    """Let the environment ask for as many threads as Numba has, once it has them.

    Numba reads the environment again whenever it compiles, and refuses to if another number is
    wanted by then. ChipStream sets one when it is imported, which may be late.
    """
    found, has = os.environ.get(COUNT), _started_threads()
    if has is None or _wanted_threads() == has:
        yield
        return
    os.environ[COUNT] = put = str(has)
    try:
        yield
    finally:
        if os.environ.get(COUNT) == put:  # not if somebody has changed it
            if found is None:
                del os.environ[COUNT]
            else:
                os.environ[COUNT] = found


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


if hasattr(os, "register_at_fork"):
    # A child has none of the threads that may have been compiling, but what they hold.
    os.register_at_fork(
        before=global_compiler_lock.acquire,
        after_in_parent=global_compiler_lock.release,
        after_in_child=global_compiler_lock.release,
    )
