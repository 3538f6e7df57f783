"""What a command says of a measurement: a line, or a JSON object."""

import json
import sys
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import click

from sparsemed.cli.messages import Failure
from sparsemed.printable import printable

if TYPE_CHECKING:
    from sparsemed.jobs.file_result import FileResult

PLAN = (
    "{input}: {frames:,} frames of {height} × {width}, {windows:,} windows "
    "of {frames_per_window:,} frames -> {output} ({change})"
)

DONE = (
    "{input}: {frames:,} frames, {windows:,} windows, {kept:,} kept, {seconds:.2f} s, "
    "{megabytes_per_second:,.0f} MB/s -> {output}"
)

SKIPPED = "{input}: up to date, {frames:,} frames, {kept:,} kept -> {output}"

_LINES = {"planned": PLAN, "done": DONE, "skipped": SKIPPED}


def show_result(result: "FileResult", *, as_json: bool, quiet: bool, beside_bar: bool) -> None:
    """Show what became of a measurement, above the bar if there is one."""
    with _above_bar() if beside_bar else nullcontext():
        if result.error is not None:
            Failure(result.error).show()
        if as_json:
            click.echo(json.dumps(result.as_row()))
        elif result.error is None and not quiet:
            click.echo(printable(line_of(result)))


def line_of(result: "FileResult") -> str:
    """Return a line on a measurement that did not fail."""
    from sparsemed.rtdc.pipeline_id import CODE

    line = _LINES[result.status].format_map(vars(result))
    if result.status == "done":
        if result.replaces and not result.replaces.startswith(CODE):
            line += f", in place of {result.replaces}"
        line += f"; {_verdict(result)}"
    return line


def _verdict(result: "FileResult") -> str:
    """Return the verdict on a background, with what it is about."""
    causes = [each.title for each in result.findings if each.verdict == result.verdict]
    return "good" if result.verdict == "good" else f"{result.verdict}: {causes[0]}"


def _above_bar() -> AbstractContextManager[object]:
    from tqdm import tqdm

    mode: AbstractContextManager[object] = tqdm.external_write_mode(file=sys.stderr)
    return mode
