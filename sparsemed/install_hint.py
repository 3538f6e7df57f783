"""What to say where a package is missing that not everybody needs."""

import importlib.util
import shlex
import subprocess
import sys


def how_to_install(*packages: str) -> str:
    """Return the command by which whoever runs this program gets packages.

    It names the Python that runs, and not sparsemed, which came from who knows where: so it is
    right in any environment, of pip, conda, pipx or uv.

    Parameters
    ----------
    *packages : str
        What pip is to install.

    Examples
    --------
    >>> how_to_install("matplotlib")  # doctest: +ELLIPSIS
    '... pip install ...matplotlib'
    """
    if getattr(sys, "frozen", False):
        return f"this application came without it; whoever made it can add {' and '.join(packages)}"
    command = [sys.executable, "-m", "pip", "install", *packages]
    if not importlib.util.find_spec("pip"):  # an environment of uv's
        command = ["uv", "pip", "install", "--python", sys.executable, *packages]
    return subprocess.list2cmdline(command) if sys.platform == "win32" else shlex.join(command)
