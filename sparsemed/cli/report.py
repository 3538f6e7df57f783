"""The command ``sparsemed report``: compute anew, write pages."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sparsemed.cli.ending import Ending
from sparsemed.cli.messages import Failure, Mistake, is_terminal, log_lines, one_line_errors
from sparsemed.cli.options import (
    PARAMETER_HELP,
    PathType,
    Settable,
    basins_option,
    parse_settings,
)
from sparsemed.printable import printable

if TYPE_CHECKING:
    from sparsemed.hdf5.file_access import Policy
    from sparsemed.jobs.pages import Page


@click.command(
    cls=Settable, epilog=PARAMETER_HELP, short_help="Show on a page whether a background is good."
)
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=PathType())
@click.option(
    "-o",
    "--output",
    type=PathType(),
    help="Where pages go: a file, if it ends in .html or .htm, otherwise a folder, which is "
    "made.  [next to each file, with _report.html]",
)
@click.option("-r", "--recursive", is_flag=True, help="Take folders within folders, too.")
@click.option("-k", "settings", metavar="KEY=VALUE", multiple=True, help="Set a parameter.")
@click.option("--num-cpus", type=int, help="Largest number of threads.  [all cores available]")
@basins_option
def report(
    paths: tuple[Path, ...],
    output: Path | None,
    recursive: bool,
    settings: tuple[str, ...],
    num_cpus: int | None,
    basins: "Policy",
) -> None:
    """Show on HTML pages whether the backgrounds of measurements are good.

    Each PATH is a measurement, its result, or a folder of these. Of a measurement
    and a result beside it (*_bg.rtdc), the result is taken.

    The background is computed for the page, and the file stays as it is. Parameters
    are those of the background that the file holds, if there is one, but for what -k
    sets. A page is one file, which can be sent and needs no network.

    The exit status is 1 if some failed; the others are done.
    """
    with one_line_errors(Mistake):
        wanted = parse_settings(settings)
        from sparsemed.jobs.pages import choose_pages

        with log_lines(logging.WARNING):
            pages = choose_pages(paths, recursive=recursive, output=output)
    ending = Ending("pages")
    for page in pages:
        try:
            with one_line_errors(), log_lines(logging.WARNING, page.source):
                verdict = _write(page, wanted, num_cpus, basins)
        except Failure as failure:
            failure.show()
            ending.failed.append(failure.message)
            if isinstance(failure.__cause__, ImportError):  # it would be the same of all others
                break
        else:
            ending.verdicts[verdict] += 1
    ending.show(with_verdicts=True)
    if ending.failed:
        click.get_current_context().exit(1)


def _write(page: "Page", wanted: dict[str, object], num_cpus: int | None, basins: "Policy") -> str:
    """Write a page, say what is on it, and return the verdict."""
    from sparsemed.quality import overall

    findings = page.write(wanted, num_cpus, basins, is_terminal())
    verdict = overall(findings)
    click.echo(printable(f"{page.output}: {verdict}"))
    for finding in findings:
        if not finding.is_good:
            click.echo(f"{finding}")
    return verdict
