"""Whole runs of ChipStream, with its own background and with sparsemed's, and what of them it is.

Whole processes run in turn. The background step is timed by the records that ChipStream's runner
logs when the step begins and ends; neither program is touched.
"""

import tempfile
from pathlib import Path
from typing import Any

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

CONTENDERS = ("dcnum", "sparsemed")

RATES = (1000, 50)
"""Frames per second: where cells are many, and where they are rare."""

FEW = 300
"""Frames of a measurement that warms up."""


def run_chipstream(name: str, measurement: Path, scratch: Path) -> dict[str, float]:
    """Run ChipStream with a contender's background; return seconds of all, and of that step."""
    click.echo(f"ChipStream, {measurement.stem}, {name}", err=True)
    program = scratch / "run_chipstream.py"
    program.write_text(PROGRAM)
    output = scratch / "output.rtdc"
    run = run_program(program, name, measurement, output)
    output.unlink()
    return {"whole": run.seconds, "background": run.inside}


def measure(frames: int, rounds: int) -> list[dict[str, Any]]:
    """Run the whole part, on measurements of so many frames."""
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for name in CONTENDERS:  # compiles what may have to be, and fills caches
            run_chipstream(name, generated_measurement(FEW, RATES[0]), Path(folder))
        for rate in RATES:
            measurement = generated_measurement(frames, rate)
            seconds: dict[str, dict[str, list[float]]] = {name: {} for name in CONTENDERS}
            for _ in range(rounds):
                for name in CONTENDERS:
                    run = run_chipstream(name, measurement, Path(folder))
                    for what, taken in run.items():
                        seconds[name].setdefault(what, []).append(taken)
            results.append(
                {"frames": frames, "rate": rate, "compression": "zstd", "seconds": seconds}
            )
    return results
