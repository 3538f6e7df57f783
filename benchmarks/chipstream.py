"""Whole runs of ChipStream, with its own background and with sparsemed's, and what of them it is.

Whole processes run in turn, in the other order in each other round, so that a machine that gets
slower or faster favours neither. The background step is timed by the records that ChipStream's
runner logs when the step begins and ends; neither program is touched. Both have to find the same
cells with the same features, on the same background.
"""

import tempfile
from pathlib import Path
from typing import Any

import click
import h5py
import numpy as np

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

CONTENDERS = ("dcnum", "sparsemed")

RATES = (1000, 50)
"""Frames per second: where cells are many, and where they are rare."""

FEW = 300
"""Frames of a measurement that warms up."""


def run_chipstream(name: str, measurement: Path, output: Path) -> dict[str, float]:
    """Run ChipStream with a contender's background; return seconds of all, and of that step."""
    click.echo(f"ChipStream, {measurement.stem}, {name}", err=True)
    program = output.with_name("run_chipstream.py")
    program.write_text(PROGRAM)
    output.unlink(missing_ok=True)
    run = run_program(program, name, measurement, output)
    return {"whole": run.seconds, "background": run.inside}


def require_same_events(one: Path, other: Path) -> None:
    """Fail if two outputs do not hold the same events, on the same background."""
    with h5py.File(one) as a, h5py.File(other) as b:
        for group in ("events", "basin_events"):
            for name in sorted({*a[group], *b[group]}):
                if not (
                    name in a[group]
                    and name in b[group]
                    and a[group][name].dtype == b[group][name].dtype
                    and np.array_equal(a[group][name], b[group][name], equal_nan=True)
                ):
                    raise click.ClickException(f"the runs of ChipStream differ in {group}/{name}")


def measure(frames: int, rounds: int) -> list[dict[str, Any]]:
    """Run the whole part, on measurements of so many frames."""
    results = []
    with tempfile.TemporaryDirectory() as folder:
        outputs = {name: Path(folder) / f"{name}-output.rtdc" for name in CONTENDERS}
        for name, output in outputs.items():  # compiles what may have to be, and fills caches
            run_chipstream(name, generated_measurement(FEW, RATES[0]), output)
        for rate in RATES:
            measurement = generated_measurement(frames, rate)
            seconds: dict[str, dict[str, list[float]]] = {
                name: {"whole": [], "background": []} for name in CONTENDERS
            }
            for number in range(rounds):
                for name in CONTENDERS[:: -1 if number % 2 else 1]:
                    run = run_chipstream(name, measurement, outputs[name])
                    for what, taken in run.items():
                        seconds[name][what].append(taken)
                require_same_events(*outputs.values())
            results.append(
                {"frames": frames, "rate": rate, "compression": "zstd", "seconds": seconds}
            )
    return results
