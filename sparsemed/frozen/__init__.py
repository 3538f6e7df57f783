"""Support for applications that are frozen by PyInstaller.

PyInstaller calls `folder` to find the hook, which lists imports that it cannot see.

May import: __init__ (the hook, for the table of public names).
"""

import os


def folder() -> list[str]:
    """Return the folder of hooks; PyInstaller finds this function by an entry point.

    Returns
    -------
    list of str
        This folder.
    """
    return [os.path.dirname(__file__)]
