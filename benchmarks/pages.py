"""How tables come into pages: between two lines that are comments."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.tables import (
    chipstream_table,
    cores_table,
    live_table,
    remote_table,
    stacks_table,
    summary,
    table,
    verdict_table,
)


class Block(NamedTuple):
    """A table of some parts, and the name that it has between markers in pages."""

    title: str
    parts: tuple[str, ...]
    table: Callable[[dict[str, Any]], str]


BLOCKS = (
    Block("benchmark table", ("end-to-end", "layouts", "kernel"), table),
    Block("table of stacks", ("stacks",), stacks_table),
    Block("table of live", ("live",), live_table),
    Block("table of remote", ("remote",), remote_table),
    Block("table of ChipStream", ("chipstream",), chipstream_table),
    Block("table of cores", ("pinned",), cores_table),
    Block("table of verdicts", ("verdict",), verdict_table),
    Block("benchmark summary", ("end-to-end", "layouts"), summary),
)


def write_blocks(page: Path, results: dict[str, Any]) -> None:
    """Write the tables into a Markdown file, those that it has markers for, between them.

    Tables of parts without results stay as they are.

    Raises
    ------
    ValueError
        If the file holds no markers, or not both of a table, once each and in order.
    """
    found = [
        block
        for block in BLOCKS
        if any(mark in page.read_text("utf-8") for mark in marks(block.title))
    ]
    for block in found or BLOCKS[:1]:
        known = all(part in results for part in block.parts)
        write_block(page, block.title, block.table(results) if known else None)


def marks(title: str) -> tuple[str, str]:
    """Return the lines before and after a table."""
    return f"<!-- {title} -->", f"<!-- end of {title} -->"


def write_block(page: Path, title: str, table: str | None) -> None:
    """Write a table into a Markdown file, between its markers; None leaves what is there.

    Raises
    ------
    ValueError
        If the file does not hold both markers, once each and in order.
    """
    text = page.read_text(encoding="utf-8")
    begin, end = marks(title)
    before, found, rest = text.partition(begin)
    _, is_whole, after = rest.partition(end)
    if not (found and is_whole) or text.count(begin) > 1 or text.count(end) > 1:
        raise ValueError(
            f"{page.name}: the table goes between a line '{begin}' and a line '{end}'; put both "
            "into the file, once and in this order"
        )
    if table is not None:
        page.write_text(f"{before}{begin}\n\n{table}\n\n{end}{after}", encoding="utf-8")
