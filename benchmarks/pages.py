"""How tables come into pages: between two lines that are comments."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.tables import chipstream_table, stacks_table, table


class Block(NamedTuple):
    """A table of some parts, and the name that it has between markers in pages."""

    title: str
    parts: tuple[str, ...]
    table: Callable[[dict[str, Any]], str]

    @property
    def begin(self) -> str:
        """The line before it."""
        return f"<!-- {self.title} -->"

    @property
    def end(self) -> str:
        """The line after it."""
        return f"<!-- end of {self.title} -->"


BLOCKS = (
    Block("benchmark table", ("end-to-end", "layouts", "kernel"), table),
    Block("table of stacks", ("stacks",), stacks_table),
    Block("table of ChipStream", ("chipstream",), chipstream_table),
)


def write_blocks(page: Path, results: dict[str, Any]) -> None:
    """Write the tables into a Markdown file, those that it has markers for, between them.

    Tables of parts without results stay as they are.

    Raises
    ------
    ValueError
        If the file holds no markers, or not both of a table, once each and in order.
    """
    text = Path(page).read_text(encoding="utf-8")
    found = [block for block in BLOCKS if block.begin in text or block.end in text]
    for block in found or BLOCKS[:1]:
        before, begin, rest = text.partition(block.begin)
        _, end, after = rest.partition(block.end)
        if not (begin and end) or text.count(begin) > 1 or text.count(end) > 1:
            raise ValueError(
                f"{Path(page).name}: the table goes between a line '{block.begin}' and a line "
                f"'{block.end}'; put both into the file, once and in this order"
            )
        if all(part in results for part in block.parts):
            text = f"{before}{begin}\n\n{block.table(results)}\n\n{end}{after}"
    Path(page).write_text(text, encoding="utf-8")
