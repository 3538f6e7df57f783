"""The command ``sparsemed``."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import click

import sparsemed

PARAMETER_HELP = """\b
Parameters (-k KEY=VALUE):
  kernel_size        frames in the window of the median      [200]
  split_time         seconds between background images       [1.0]
  thresh_cleansing   larger drops more background images     [0]
  frac_cleansing     fraction of them to keep                [0.8]
  offset_correction  a brightness offset for each frame      [true]
"""


class Failure(click.ClickException):
    """An error of the user's: one line, and exit status 2."""

    exit_code = 2


@contextmanager
def _one_line_errors() -> Iterator[None]:
    """Show what is wrong with input, output or installation as one line, not a traceback."""
    try:
        yield
    except (OSError, ValueError, TypeError, MemoryError, ImportError) as error:
        raise Failure(" ".join(str(error).split())) from error


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(sparsemed.__version__, prog_name="sparsemed")
def main() -> None:
    r"""Background images for imaging cytometry (RT-DC) measurements.

    \b
    sparsemed demo                        see what it does, on made-up data
    sparsemed compute in.rtdc out.rtdc    compute the background of in.rtdc
    sparsemed chipstream in.rtdc          run ChipStream with this background
    """


@main.command(epilog=PARAMETER_HELP)
@click.argument("input_path", metavar="IN", type=click.Path(path_type=Path))
@click.argument("output_path", metavar="[OUT]", required=False, type=click.Path(path_type=Path))
@click.option("-k", "settings", metavar="KEY=VALUE", multiple=True, help="Set a parameter.")
@click.option("--num-cpus", type=int, help="Largest number of threads.  [all cores available]")
def compute(
    input_path: Path, output_path: Path | None, settings: tuple[str, ...], num_cpus: int | None
) -> None:
    """Compute the background of the measurement IN and write it to OUT.

    Without OUT the result is a new file next to the measurement, with _bg added
    to its name. If OUT exists, the background is added to it; it may be IN
    itself. Either way, the file changes wholly or not at all.
    """
    with _one_line_errors():
        if output_path is None:
            output_path = input_path.with_name(f"{input_path.stem}_bg{input_path.suffix}")
        parameters = _parse_settings(settings)
        from sparsemed.job import BackgroundSparseMed

        began = time.perf_counter()
        with BackgroundSparseMed(input_path, output_path, num_cpus=num_cpus, **parameters) as job:
            job.process()
            result = job.background
    click.echo(f"{output_path}: {result}, {time.perf_counter() - began:.2f} s")


@main.command()
@click.option(
    "--out",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("sparsemed-demo"),
    show_default=True,
    help="Folder for the files that are made.",
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

    Nothing is downloaded. Files of an earlier demo are replaced.
    """
    with _one_line_errors():
        _run_demo(folder, case)


class _Verbatim(click.Command):
    """A command that takes all that follows it as it is, ``--help`` and ``--`` included."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.args = args
        return args


@main.command(cls=_Verbatim, options_metavar="ARGS…")
@click.pass_context
def chipstream(context: click.Context) -> None:
    """Run ChipStream's command line, with sparsemed computing the background.

    All arguments are those of chipstream-cli: sparsemed chipstream --help
    """
    with _one_line_errors():
        # ChipStream comes before anything that imports Numba: it asks for one thread per
        # process, which Numba must know before it starts any. Decoding frames is not affected.
        try:
            from chipstream.cli.cli_main import chipstream_cli
        except ImportError as error:
            raise ImportError(
                f'ChipStream cannot be imported ({error}): pip install "sparsemed[chipstream]"'
            ) from error
        from sparsemed.dcnum import register

        register()
    chipstream_cli(context.args, prog_name="chipstream-cli")


def _run_demo(folder: Path, case: str) -> None:
    from sparsemed.demo import differences_from_definition, make_measurement
    from sparsemed.job import BackgroundSparseMed

    folder.mkdir(parents=True, exist_ok=True)
    name = "demo" if case == "plain" else f"demo-{case}"
    measurement = folder / f"{name}.rtdc"
    output = folder / f"{name}_bg.rtdc"
    picture = folder / f"{name}.png"
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
    if all(finding.is_good for finding in findings):
        click.echo(f"The background is good, by all {len(findings)} numbers that were looked at.")
    if wrong:
        raise ValueError("the background is not what it is defined to be; please report this")


def _draw_demo(result: "sparsemed.SparseBackground", picture: Path) -> str:
    """Save the page of pictures and return its path, or why there is none."""
    try:
        result.plot().savefig(picture, dpi=150)
    except ImportError:
        return 'skipped; matplotlib is missing: pip install "sparsemed[plot]"'
    return str(picture)


def _parse_settings(settings: tuple[str, ...]) -> dict[str, Any]:
    from sparsemed.parameters import Parameters
    from sparsemed.rtdc.pipeline_id import parse_value

    known = ", ".join(field.name for field in fields(Parameters))
    parameters = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise ValueError(f"-k {setting}: expected KEY=VALUE, where KEY is one of {known}")
        parameters[name.strip()] = parse_value(name.strip(), text)
    return parameters
