"""Have the kernel say which files are opened, by whomever: HDF5 opens some past Python."""

import ctypes
import os
import platform

OPENED = 0x20


def can_watch():
    """Whether this system tells who opens what."""
    return platform.system() == "Linux"


class Watch:
    """Files that nobody should open.

    Parameters
    ----------
    *paths : path
        The files; from now on, each opening is noted.
    """

    def __init__(self, *paths):
        libc = ctypes.CDLL(None, use_errno=True)
        self._queue = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        for path in paths:
            if libc.inotify_add_watch(self._queue, os.fsencode(path), OPENED) < 0:
                raise OSError(ctypes.get_errno(), f"{path}: cannot be watched")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self._queue)

    @property
    def opened(self):
        """Whether one of the files was opened since the last time."""
        try:
            return bool(os.read(self._queue, 65536))
        except BlockingIOError:
            return False
