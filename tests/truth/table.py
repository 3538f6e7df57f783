"""Writes the table of faults and verdicts: ``python tests/truth/table.py`` from the repository."""

import logging
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "tables" / "verdicts.md"
COLUMNS = ("fault", "strength", "verdict", "error", "after the advice", "error", "steps", "")


def rows_of(text: str) -> list[list[str]]:
    """Return the cells of the rows of a table."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def table(workers: int | None = None) -> str:
    """Return the table, of measurements with seed 0."""
    from truth.following import CASES

    lines = [f"| {' | '.join(COLUMNS)} |", "| --- " * len(COLUMNS) + "|"]
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        lines += pool.map(row_for, CASES)
    return "\n".join(lines) + "\n"


def row_for(case: tuple[str, float]) -> str:
    """Return the row of a fault and its strength."""
    from truth.following import TOLERANCE, follow

    fault, strength = case
    steps = follow(fault, strength)
    first, last = steps[0], steps[-1]
    remark = ""
    if any(step.verdict == "good" and step.error > TOLERANCE for step in steps):
        remark = "false good"
    elif first.verdict == "look here" and first.error <= TOLERANCE:
        remark = "alarm below the limit"
    cells = (
        fault,
        f"{strength:g}",
        first.verdict,
        f"{first.error:.2f}",
        last.verdict,
        f"{last.error:.2f}",
        f"{len(steps) - 1}",
        remark,
    )
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    logging.disable(logging.CRITICAL)
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(table(int(sys.argv[1]) if len(sys.argv) > 1 else None), encoding="utf-8")
