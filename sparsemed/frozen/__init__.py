"""Applications in which this package is frozen along with Python, by PyInstaller.

PyInstaller asks for `folder`, and finds there what it cannot see for itself.

May import: __init__ (the hook, for the table of public names).
"""

import os


def folder() -> list[str]:
    """Return where PyInstaller finds its hooks; it knows this function by an entry point.

    Returns
    -------
    list of str
        This folder.
    """
    return [os.path.dirname(__file__)]
