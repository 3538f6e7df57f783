"""The command ``sparsemed report``: computes backgrounds and writes a page on each."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sparsemed.cli.messages import Mistake, is_terminal, log_lines, one_line_errors
from sparsemed.cli.options import (
    PARAMETER_HELP,
    PathType,
    Settable,
    basins_option,
    num_cpus_option,
    parse_settings,
    paths_argument,
    read_stack_options,
    recursive_option,
    settings_option,
    stack_options,
)
from sparsemed.cli.results import Ending, for_each
from sparsemed.printable import printable

if TYPE_CHECKING:
    from sparsemed.hdf5.file_access import Policy
    from sparsemed.storage.places import AnyPath

REPORT_HELP = f"""{PARAMETER_HELP}
\b
Examples:
  sparsemed report in.rtdc                       writes in_report.html
  sparsemed report in.rtdc -k kernel_size=500    shows what another parameter does
  sparsemed report -r data -o pages              a page for each, in the folder pages

An earlier page of that name is replaced, but no other file.
"""


@click.command(
    cls=Settable, epilog=REPORT_HELP, short_help="Show on a page whether a background is good."
)
@paths_argument
@click.option(
    "-o",
    "--output",
    type=PathType(),
    help="Where pages go: a file, if it ends in .html or .htm, otherwise a folder, which is "
    "made.  [next to each file, with _report.html]",
)
@recursive_option
@settings_option
@num_cpus_option
@basins_option
@stack_options
def report(
    paths: "tuple[AnyPath, ...]",
    output: Path | None,
    recursive: bool,
    settings: tuple[str, ...],
    num_cpus: int | None,
    basins: "Policy",
    fps: float | None,
    **choice: Any,
) -> None:
    """Show on HTML pages whether the backgrounds of measurements are good.

    Each PATH is a measurement, its result, or a folder of these. Where a result
    lies beside a measurement (*_bg.rtdc), the page is about that result.

    The background is computed for the page, and the file stays as it is. Parameters
    are those of the background in the file, if there is one; -k sets others. A page is
    one file. It can be sent, and needs no network.

    A PATH may also be a stack of images; see sparsemed compute.

    The exit status is 1 if a page failed; the others are written.
    """
    with one_line_errors(Mistake):
        wanted = parse_settings(settings)
        from sparsemed.jobs.pages import choose_pages

        with log_lines(logging.WARNING):
            of_stack = read_stack_options(fps, **choice)
            pages = choose_pages(paths, of_stack, recursive=recursive, output=output)
        from sparsemed.quality import overall

    page_of = {page.source: page for page in pages}

    def write(path: "AnyPath") -> tuple[str, str]:
        page = page_of[path]
        findings = page.write(wanted, num_cpus, basins, is_terminal())
        verdict = overall(findings)
        lines = [printable(f"{page.output}: {verdict}")]
        return verdict, "\n".join([*lines, *(f"{each}" for each in findings if not each.is_good)])

    ending = Ending("pages")
    for_each(page_of, write, ending, logging.WARNING)
    ending.show(with_verdicts=True)
    ending.exit_if_failed()
