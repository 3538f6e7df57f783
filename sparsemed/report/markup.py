"""Makes safe text, tables and sections of the page."""

from collections.abc import Iterable
from html import escape

from sparsemed.hdf5.entries import as_text
from sparsemed.printable import printable

_VALUE_LENGTH = 300  # characters of one value of the metadata


def section(name: str, title: str, content: str) -> str:
    """Return a section with a heading; the content is markup."""
    return f'<section id="{name}"><h2>{title}</h2>\n{content}</section>'


def remark(text: str) -> str:
    """Return a paragraph in small print."""
    return f'<p class="note">{escaped(text)}</p>'


def table(rows: Iterable[tuple[str, object]]) -> str:
    """Return a table of names and values."""
    lines = [
        f'<tr><th scope="row">{escaped(shown(name)).replace(":", ":<wbr>")}</th>'
        f"<td>{escaped(shown(value))}</td></tr>"
        for name, value in rows
    ]
    return f"<table><tbody>{''.join(lines)}</tbody></table>"


def shown(value: object) -> str:
    """Return metadata as text, cut if it is long."""
    text = as_text(value)
    return text if len(text) <= _VALUE_LENGTH else f"{text[:_VALUE_LENGTH]}…"


def escaped(value: object) -> str:
    """Return text that is safe in the page, in attributes too."""
    return escape(printable(value), quote=True)


def seconds(value: float) -> str:
    """Return a time as text."""
    return f"{value:.1f} s" if value >= 10 else f"{value:.3g} s"
