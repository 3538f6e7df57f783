"""Text that comes from files, made safe to show.

A file name, a log or a name within a file may hold what drives a terminal (escape sequences),
breaks lines or turns the direction of writing.
"""

LONGEST = 200
"""Characters of a text from a file that an error quotes."""


def printable(text: object) -> str:
    r"""Return text on one line, with all that cannot be seen written as Python does.

    Parameters
    ----------
    text : object
        Shown as ``str`` has it.

    Examples
    --------
    >>> print(printable("cells 5 µm\n\x1b]0;owned\x07"))
    cells 5 µm\n\x1b]0;owned\x07
    """
    shown = str(text)
    if shown.isprintable():  # as nearly all is
        return shown
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in shown
    )


def quoted(text: object) -> str:
    r"""Return text in quotes, as `printable` has it, and cut if it is long.

    Examples
    --------
    >>> print(quoted("a\rb"))
    'a\rb'
    """
    shown = printable(str(text)[: LONGEST + 1])
    return f"'{shown}'" if len(shown) <= LONGEST else f"'{shown[:LONGEST]}…'"
