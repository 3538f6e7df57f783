"""The command ``sparsemed report``: compute anew, write the page."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sparsemed.cli.messages import Mistake, is_terminal, log_lines, one_line_errors
from sparsemed.cli.options import PARAMETER_HELP, PathType, basins_option, parse_settings
from sparsemed.cli.stopping import Stoppable
from sparsemed.printable import printable

if TYPE_CHECKING:
    from sparsemed.hdf5.reach import Policy


@click.command(
    cls=Stoppable, epilog=PARAMETER_HELP, short_help="Show on a page whether a background is good."
)
@click.argument("path", metavar="FILE", type=PathType())
@click.option(
    "-o",
    "--output",
    "page",
    metavar="PAGE",
    type=PathType(),
    help="The page.  [next to FILE, with _report.html]",
)
@click.option("-k", "settings", metavar="KEY=VALUE", multiple=True, help="Set a parameter.")
@click.option("--num-cpus", type=int, help="Largest number of threads.  [all cores available]")
@basins_option
def report(
    path: Path,
    page: Path | None,
    settings: tuple[str, ...],
    num_cpus: int | None,
    basins: "Policy",
) -> None:
    """Show on an HTML page whether the background of the measurement FILE is good.

    The background is computed for the page, and FILE stays as it is. Parameters
    are those of the background that FILE holds, if there is one, but for what -k
    sets. The page is one file, which can be sent and needs no network.
    """
    with one_line_errors(Mistake):
        wanted = parse_settings(settings)
    with one_line_errors(), log_lines(logging.WARNING, path):
        if page is None:
            page = path.with_name(f"{path.stem}_report.html")
        from sparsemed.background import compute_background
        from sparsemed.quality import overall
        from sparsemed.report import check_report, write_report
        from sparsemed.rtdc.stored import stored_parameters

        check_report(page)
        parameters = stored_parameters(path, basins) | wanted
        background = compute_background(
            path,
            num_cpus=num_cpus,
            progress=is_terminal() or None,
            basins=basins,
            **parameters,
        )
        findings = write_report(background, page)
    click.echo(printable(f"{page}: {overall(findings)}"))
    for finding in findings:
        if not finding.is_good:
            click.echo(f"{finding}")
