"""``python -m benchmarks.chipstream``: ChipStream's background step, with sparsemed and without.

Whole ChipStream processes run in turn. The step is timed by the records that
its runner logs when the step begins and ends; neither program is touched.
"""

import statistics
import tempfile
from pathlib import Path

import click

from benchmarks.end_to_end import run_program
from benchmarks.measurements import generated_measurement

PROGRAM = """
import logging, sys

class Stopwatch(logging.Handler):
    def emit(self, record):
        moments[record.getMessage()] = record.created

if __name__ == "__main__":
    moments = {}
    logging.getLogger("dcnum").addHandler(Stopwatch())
    from sparsemed.cli import main
    try:
        if sys.argv[1] == "sparsemed":
            main(["chipstream", *sys.argv[2:]])
        else:
            from chipstream.cli.cli_main import chipstream_cli
            chipstream_cli(sys.argv[2:])
    except SystemExit as end:
        if end.code:
            raise
    began, ended = (moments[f"{what} background computation"] for what in ("Starting", "Finished"))
    print(ended - began)
"""

OPTIONS = ("--limit-events", "200")
"""These limit only what comes after the background step, which is of all frames."""

CONTENDERS = ("ChipStream", "sparsemed")


@click.command()
@click.option("--frames", default=20_000, show_default=True, help="Frames of the measurement.")
@click.option("--rounds", default=5, show_default=True, help="Rounds, after one that warms up.")
def main(frames: int, rounds: int) -> None:
    """Time the background step of ChipStream on a measurement of 1000 frames per second."""
    measurement = generated_measurement(frames, 1000)
    seconds: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "run_chipstream.py"
        program.write_text(PROGRAM)
        output = Path(folder) / "output.rtdc"
        for number in range(rounds + 1):
            for name in CONTENDERS:
                click.echo(f"round {number} of {rounds}, {name}", err=True)
                run = run_program(program, name, measurement, output, *OPTIONS)
                output.unlink()
                if number:  # the first round warms up
                    seconds[name].append(run.inside)
    theirs, ours = seconds.values()
    ratios = [a / b for a, b in zip(theirs, ours, strict=True)]
    click.echo(f"ChipStream's background step on {frames:,} frames, median of {rounds} rounds:")
    click.echo(f"without sparsemed {statistics.median(theirs):.2f} s")
    click.echo(f"with sparsemed    {statistics.median(ours):.2f} s")
    click.echo(f"ratio             {statistics.median(ratios):.1f}× (median of the rounds')")


if __name__ == "__main__":
    main()
