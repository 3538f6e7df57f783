"""The command ``sparsemed compute``: options in, a line or JSON object a measurement out."""

import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    from sparsemed.hdf5.reach import Policy

COMPUTE_HELP = f"""{PARAMETER_HELP}
\b
Examples:
  sparsemed compute in.rtdc                    writes in_bg.rtdc
  sparsemed compute in.rtdc -o out.rtdc        writes out.rtdc
  sparsemed compute in.rtdc --in-place         writes into in.rtdc
  sparsemed compute *.rtdc -k split_time=0.5   each next to its measurement
  sparsemed compute -r data -o results         all below data, into results
  sparsemed compute -r data --dry-run          only says what it would do

\b
Exit status:
  0    all is done
  1    some measurements failed; the others are done
  2    the command line makes no sense; nothing is done
  130  stopped with Ctrl-C; what is done is whole, the rest untouched
  143  the same, by the signal TERM (and 129 by HUP)
"""

PLAN = (
    "{input}: {frames:,} frames of {height} × {width}, {windows:,} windows "
    "of {window:,} frames -> {output} ({change})"
)

SUMMARY = (
    "{input}: {frames:,} frames, {windows:,} windows, {kept:,} kept, {seconds:.2f} s, "
    "{megabytes_per_second:,.0f} MB/s -> {output}"
)


@click.command(cls=Settable, epilog=COMPUTE_HELP)
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=PathType())
@click.option(
    "-o",
    "--output",
    type=PathType(),
    help="Where results go: a file, if it ends in .rtdc, .h5 or .hdf5, "
    "otherwise a folder, which is made; but not one with another ending.",
)
@click.option("--in-place", is_flag=True, help="Write into the measurements themselves.")
@click.option("-r", "--recursive", is_flag=True, help="Take folders within folders, too.")
@click.option("-k", "settings", metavar="KEY=VALUE", multiple=True, help="Set a parameter.")
@click.option("--num-cpus", type=int, help="Largest number of threads.  [all cores available]")
@basins_option
@click.option("-n", "--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object a measurement.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors (and JSON).")
@click.option("-v", "--verbose", is_flag=True, help="Print what is going on, too.")
def compute(
    paths: tuple[Path, ...],
    output: Path | None,
    in_place: bool,
    recursive: bool,
    settings: tuple[str, ...],
    num_cpus: int | None,
    basins: "Policy",
    dry_run: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Compute the backgrounds of measurements.

    Each PATH is a measurement, or a folder of measurements (*.rtdc that hold
    images, themselves or through basins). Results of earlier runs are skipped:
    files *_bg.rtdc without images of their own.

    The result is a new file next to each measurement, with _bg added to its
    name, unless --output or --in-place says otherwise. If that file exists, the
    background is added to it, in place of an earlier one; but a file that holds
    images of its own changes only with --in-place, and one that belongs to another
    measurement is refused: remove it first. Files change wholly or not at all.

    Prints a line for each measurement; MB/s are those of its frames,
    uncompressed. It ends with the verdict on the background: good, look here,
    or cannot tell; `sparsemed report` shows why. A bar shows the progress if this is a terminal.
    Of several, which failed, the verdicts and the time are said at the end.
    """
    with one_line_errors(Mistake):
        if quiet and verbose:
            raise ValueError("there can be only one of --quiet and --verbose")
        from sparsemed.jobs.selection import choose_runs
        from sparsemed.kernels.cores import check_num_cpus
        from sparsemed.parameters import Parameters
        from sparsemed.rtdc.pipeline_id import CODE, to_ppid

        parameters = Parameters(**parse_settings(settings))
        num_cpus = check_num_cpus(num_cpus)
        level = logging.ERROR if quiet else logging.INFO if verbose else logging.WARNING
        with log_lines(level):
            runs = choose_runs(paths, recursive=recursive, output=output, in_place=in_place)

    show_bar = is_terminal() and not quiet
    if dry_run and not as_json and not quiet:
        click.echo(f"pipeline identifier: {to_ppid(asdict(parameters))}")
    ending = Ending()
    for number, run in enumerate(runs, 1):
        name = run.source.name if len(runs) == 1 else f"{number}/{len(runs)} {run.source.name}"
        row: dict[str, Any] = {"input": str(run.source), "output": str(run.output)}
        warned: list[str] = []
        try:
            with one_line_errors(), log_lines(level, run.source) as warned:
                run.check()
                if dry_run:
                    row |= run.plan(parameters, basins)
                else:
                    text = printable(name) if show_bar else None
                    row |= run.compute(parameters, num_cpus, basins, text)
                row["ppid"] = to_ppid(asdict(parameters))
        except Failure as failure:
            message = failure.message
            if row["input"] not in message:
                message = f"{row['input']}: {message}"
            Failure(message).show()
            ending.failed.append(message)
            row |= {"status": "failed", "error": message}
        else:
            ending.verdicts[row.get("verdict", "planned")] += 1
        row["warnings"] = warned
        if as_json:
            click.echo(json.dumps(row))
        elif "error" not in row and not quiet:
            line = (PLAN if dry_run else SUMMARY).format(**row)
            if not dry_run and row["replaces"] and not row["replaces"].startswith(CODE):
                line += f", in place of {row['replaces']}"
            if not dry_run:
                line += f"; {_verdict(row)}"
            click.echo(printable(line))
    ending.show(with_verdicts=not (quiet or dry_run))
    if ending.failed:
        click.get_current_context().exit(1)


def _verdict(row: dict[str, Any]) -> str:
    """Return the verdict on a background, with what it is about."""
    causes = [each["title"] for each in row["findings"] if each["verdict"] == row["verdict"]]
    return row["verdict"] if row["verdict"] == "good" else f"{row['verdict']}: {causes[0]}"
