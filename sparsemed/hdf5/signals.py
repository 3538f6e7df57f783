"""Keeps signal handlers from running inside HDF5."""

import contextlib
import signal
import threading
from collections import deque
from collections.abc import Iterator
from types import FrameType
from typing import Any

from sparsemed.hdf5.fileobj import FileObject
from sparsemed.hdf5.overlay import Overlay

_put_off: deque[int] = deque()  # also used by the threads of timers

_OVERLAY_CODE = {
    method.__code__
    for kind in (FileObject, Overlay)
    for method in vars(kind).values()
    if callable(method)
}


@contextlib.contextmanager
def signals_put_off() -> Iterator[None]:
    """Let no signal handler, such as that of Ctrl-C, run while HDF5 works.

    An exception in a method of the overlay, or while h5py frees an object, goes to HDF5: it is lost
    or crashes the process. So the signal is sent again a little later.
    """
    if threading.current_thread() is not threading.main_thread():  # no handlers run here
        yield
        return
    found = {number: signal.getsignal(number) for number in signal.valid_signals()}
    handlers: dict[int, Any] = {number: value for number, value in found.items() if callable(value)}

    timers: list[threading.Timer] = []

    def handle(number: int, frame: FrameType | None) -> None:
        caller = frame
        while caller is not None:
            module = caller.f_globals.get("__name__", "")
            if caller.f_code in _OVERLAY_CODE or module.startswith("h5py."):
                _put_off.append(number)
                timer = threading.Timer(0.01, let_signals_in)
                timer.start()
                timers.append(timer)
                return
            caller = caller.f_back
        handlers[number](number, frame)

    try:
        for number in handlers:
            signal.signal(number, handle)
        yield
    finally:
        for number, handler in handlers.items():
            if signal.getsignal(number) is handle:
                signal.signal(number, handler)
        for timer in timers:
            timer.cancel()
            timer.join()
        let_signals_in()


def let_signals_in() -> None:
    """Send signals again that were put off. To be called between long calls of HDF5."""
    while True:
        try:
            number = _put_off.popleft()
        except IndexError:
            return
        signal.raise_signal(number)
