"""The command ``sparsemed demo``: make, compute, check, judge, draw."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sparsemed.cli.messages import one_line_errors
from sparsemed.cli.options import PathType
from sparsemed.cli.stopping import Stoppable
from sparsemed.install_hint import how_to_install

if TYPE_CHECKING:
    from sparsemed.result import SparseBackground


@click.command(cls=Stoppable, short_help="Show what it does, on made-up data.")
@click.option(
    "--out",
    "folder",
    type=PathType(file_okay=False),
    default=Path("sparsemed-demo"),
    show_default=True,
    help="Folder for the files of the demo.",
)
@click.option(
    "--case",
    type=click.Choice(["plain", "cells", "flicker"]),
    default="plain",
    show_default=True,
    help="A good measurement, one with slow cells, or one with an unsteady lamp.",
)
def demo(folder: Path, case: str) -> None:
    """Make a small measurement, compute its background, check it, judge it, and draw it.

    Nothing is downloaded. Files of an earlier demo are replaced, other measurements are not.
    """
    with one_line_errors():
        _run_demo(folder, case)


def _run_demo(folder: Path, case: str) -> None:
    from sparsemed.demo import check_replaceable, differences_from_definition, make_measurement
    from sparsemed.jobs.job import BackgroundSparseMed
    from sparsemed.quality import overall
    from sparsemed.storage import disk

    disk.make_folder(folder, "choose another folder with --out")
    name = "demo" if case == "plain" else f"demo-{case}"
    measurement = folder / f"{name}.rtdc"
    output = folder / f"{name}_bg.rtdc"
    picture = folder / f"{name}.png"
    for path in (measurement, output):
        check_replaceable(path)
    for path in (measurement, output, picture):
        path.unlink(missing_ok=True)

    click.echo("Making a measurement …")
    make_measurement(measurement, case=case)
    click.echo("Computing its background (the first time also compiles, a few seconds) …")
    seconds = []
    for _ in range(2):
        began = time.perf_counter()
        with BackgroundSparseMed(measurement, output) as job:
            job.process()
        seconds.append(time.perf_counter() - began)
    result = job.background
    assert result is not None
    click.echo("Checking it against the definition …")
    wrong = differences_from_definition(result, measurement)

    size = measurement.stat().st_size / 1e6
    rows = [
        ("measurement", f"{measurement} ({len(result)} frames, {size:.0f} MB)"),
        ("background", f"{output}"),
        ("pipeline identifier", job.get_ppid()),
        ("background images", f"{len(result.series)}, of which {len(result.images)} were kept"),
        ("time", f"{seconds[1]:.2f} s (first time {seconds[0]:.2f} s)"),
        ("differences from the definition", f"{wrong}"),
        ("picture", _draw_demo(result, picture)),
    ]
    width = max(len(title) for title, _ in rows)
    click.echo("\n".join(["", *(f"{title:<{width}}  {text}" for title, text in rows), ""]))
    findings = result.quality()
    for finding in findings:
        if not finding.is_good:
            click.echo(f"{finding}")
    if overall(findings) == "good":
        click.echo(f"The background is good by all {len(findings)} quality numbers.")
    if wrong:
        raise ValueError("the background differs from its definition; please report this")


def _draw_demo(result: "SparseBackground", picture: Path) -> str:
    """Save the figure; return its path, or why there is none."""
    try:
        result.plot().savefig(picture, dpi=150)
    except ImportError:
        return f"skipped; matplotlib is missing: {how_to_install('matplotlib')}"
    return str(picture)
