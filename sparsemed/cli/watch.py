"""The command ``sparsemed watch``: a line at each new image, and the background at the end."""

import logging
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sparsemed.cli.messages import Mistake, log_lines, one_line_errors
from sparsemed.cli.options import (
    PARAMETER_HELP,
    PathType,
    Settable,
    basins_option,
    num_cpus_option,
    parse_settings,
    settings_option,
)
from sparsemed.printable import printable

if TYPE_CHECKING:
    from sparsemed.hdf5.file_access import Policy
    from sparsemed.jobs.watch import Watched

WATCH_HELP = f"""{PARAMETER_HELP}
\b
Examples:
  sparsemed watch recording.rtdc               writes recording_bg.rtdc at the end
  sparsemed watch recording.rtdc --page live   and shows live/index.html meanwhile

\b
Exit status:
  0    the recording is over, and its background is written
  1    it cannot be followed, or no frame came
  2    the command line makes no sense
  130  stopped with Ctrl-C; with --keep, what was recorded by then is written
"""


@click.command(
    cls=Settable,
    epilog=WATCH_HELP,
    short_help="Follow a recording, and write its background at the end.",
)
@click.argument("path", metavar="RECORDING", type=PathType())
@click.option(
    "-o",
    "--output",
    type=PathType(),
    help="Where the result goes: a file, if it ends in .rtdc, .h5 or .hdf5, otherwise a folder.",
)
@click.option(
    "--patience",
    type=float,
    default=30.0,
    show_default=True,
    help="Seconds without a frame after which the recording counts as over.",
)
@click.option(
    "--keep", is_flag=True, help="When stopped, write the background of all frames so far."
)
@click.option(
    "--page",
    metavar="FOLDER",
    type=PathType(file_okay=False),
    help="Keep a page on the recording in FOLDER: index.html.",
)
@settings_option
@num_cpus_option
@basins_option
def watch(
    path: Path,
    output: Path | None,
    patience: float,
    keep: bool,
    page: Path | None,
    settings: tuple[str, ...],
    num_cpus: int | None,
    basins: "Policy",
) -> None:
    """Follow a measurement while another program records it.

    The program must write in the SWMR mode of HDF5, so that others can read. A line is
    printed at each new background image, at most one a second: frames, frames a second,
    the time of the image, and the verdict so far.

    When the file is closed, the result is written, as by `sparsemed compute`. When no
    frame comes for --patience seconds, as after a crash of that program, the result is
    the background of all frames so far.
    """
    with one_line_errors(Mistake):
        wanted = parse_settings(settings)
        from sparsemed.jobs.options import RunOptions
        from sparsemed.jobs.watch import watch as follow
        from sparsemed.parameters import Parameters

        RunOptions(Parameters(**wanted), num_cpus, basins)  # which checks them
    with one_line_errors(), log_lines(logging.WARNING, path):
        states = follow(
            path,
            output,
            patience=patience,
            keep=keep,
            page=page,
            num_cpus=num_cpus,
            basins=basins,
            **wanted,
        )
        with closing(states):  # so that the result is written before anything is printed
            for state in states:
                click.echo(printable(_line(path, state, patience)))


def _line(path: Path, state: "Watched", patience: float) -> str:
    """Return a line on the state of a recording."""
    poor = [each.title for each in state.findings if each.verdict == state.verdict]
    verdict = "good" if state.verdict == "good" else f"{state.verdict}: {poor[0]}"
    if state.background is None:
        return (
            f"{path}: {state.frames:,} frames, {state.rate:,.0f}/s; newest image at "
            f"{state.image_time:.1f} s; {verdict}"
        )
    end = "closed"
    if state.status == "silent":
        end = f"no frame came for {patience:g} s"
    return (
        f"{path}: {end}; {state.frames:,} frames, {state.images:,} windows, "
        f"{len(state.background.images):,} kept -> {state.output}; {verdict}"
    )
