"""Advice on how to install an optional package."""

import importlib.util
import shlex
import subprocess
import sys


def how_to_install(*packages: str) -> str:
    """Return the command that installs packages for the running Python.

    It names this Python and only these packages, not an extra of sparsemed. So it is right in any
    environment of pip, conda, pipx or uv.

    Parameters
    ----------
    *packages : str
        Requirements for pip.

    Examples
    --------
    >>> how_to_install("matplotlib")  # doctest: +ELLIPSIS
    '... pip install ...matplotlib'
    """
    if getattr(sys, "frozen", False):
        return f"this application lacks it; its makers can add {' and '.join(packages)}"
    command = [sys.executable, "-m", "pip", "install", *packages]
    if not importlib.util.find_spec("pip"):  # an environment of uv
        command = ["uv", "pip", "install", "--python", sys.executable, *packages]
    return subprocess.list2cmdline(command) if sys.platform == "win32" else shlex.join(command)
