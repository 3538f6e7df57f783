"""Time dcnum and sparsemed on the same measurement, as whole processes, in turn.

``python -m benchmarks`` prints the median time of each, and the median of the
ratios of the pairs: times vary from minute to minute on a busy machine, but
both of a pair see the same minute.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
import h5py
import hdf5plugin  # noqa: F401  (lets HDF5 read Zstandard)
import numpy as np

from benchmarks.measurements import cache_folder, generate_measurement

CONTENDERS = {
    "dcnum": "dcnum.feat.feat_background.bg_sparse_median",
    "sparsemed": "sparsemed",
}

PROGRAM = """
import sys
from {module} import BackgroundSparseMed
if __name__ == "__main__":
    with BackgroundSparseMed(sys.argv[1], sys.argv[2]) as job:
        job.process()
"""


def run_once(name: str, measurement: Path, folder: Path) -> tuple[float, Path]:
    """Run a contender in a process of its own; return the seconds it took and its output."""
    program = folder / f"run_{name}.py"  # "dcnum.py" would hide dcnum
    program.write_text(PROGRAM.format(module=CONTENDERS[name]))
    output = folder / f"{name}.rtdc"
    output.unlink(missing_ok=True)
    began = time.perf_counter()
    subprocess.run([sys.executable, program, measurement, output], check=True)
    return time.perf_counter() - began, output


def same_background(one: Path, other: Path) -> bool:
    """Whether two files hold the same background, bit for bit."""
    with h5py.File(one) as a, h5py.File(other) as b:
        return all(
            np.array_equal(a[name][:], b[name][:])
            for name in ("basin_events/image_bg", "events/basinmap0", "events/bg_off")
        )


@click.command()
@click.option("--frames", default=20_000, show_default=True, help="Frames of the measurement.")
@click.option("--rate", default=1000.0, show_default=True, help="Frames per second.")
@click.option("--repeats", default=5, show_default=True, help="Runs of each contender.")
def main(frames: int, rate: float, repeats: int) -> None:
    """Time dcnum and sparsemed side by side on a measurement made of real frames."""
    measurement = cache_folder() / f"generated-{frames}-{rate:g}.rtdc"
    if not measurement.exists():
        click.echo(f"Generating {measurement} …")
        generate_measurement(measurement, frames, rate)
    seconds: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    with tempfile.TemporaryDirectory() as scratch:
        for repeat in range(repeats + 1):
            outputs = {}
            for name, taken in seconds.items():
                elapsed, outputs[name] = run_once(name, measurement, Path(scratch))
                if repeat:  # the first round warms up caches, of files and of compiled code
                    taken.append(elapsed)
            if not same_background(*outputs.values()):
                raise click.ClickException("the backgrounds differ")
    for name, taken in seconds.items():
        click.echo(f"{name:<10} {statistics.median(taken):6.2f} s  (best {min(taken):.2f} s)")
    ratios = [a / b for a, b in zip(*seconds.values(), strict=True)]
    click.echo(f"sparsemed is {statistics.median(ratios):.1f} times as fast; same bits")


if __name__ == "__main__":
    main()
