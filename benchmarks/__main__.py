"""``python -m benchmarks``: measure, and write results, figure and table."""

import json
import platform
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import click
import numpy as np

import sparsemed
from benchmarks import (
    chipstream,
    end_to_end,
    growth,
    kernel,
    layouts,
    live,
    pinned,
    remote,
    stacks,
    verdict,
)
from benchmarks.figure import draw
from benchmarks.pages import BLOCKS, write_blocks
from sparsemed.kernels.cores import available_cores

RESULTS = Path(__file__).resolve().parent / "results"

MEASURE: dict[str, Callable[..., Any]] = {
    "end-to-end": end_to_end.measure,
    "layouts": layouts.measure,
    "kernel": kernel.measure,
    "growth": growth.measure,
    "pinned": pinned.measure,
    "live": live.measure,
    "remote": remote.measure,
    "stacks": stacks.measure,
    "chipstream": chipstream.measure,
    "verdict": verdict.measure,
}

DRAWN = ("end-to-end", "kernel", "growth")
"""The parts that the figure shows."""

LONG = ("stacks", "chipstream")
"""The parts that are left out where all are asked for to be quick."""

FULL: dict[str, dict[str, Any]] = {
    "end-to-end": {"frames": 20_000, "many": 100_000, "rounds": 5, "rounds_many": 3},
    "layouts": {"share": 1, "rounds": 3},
    "kernel": {"frames": 20_000, "rounds": 15},
    "pinned": {"frames": 20_000, "rounds": 5},
    "growth": {"frames": 20_000, "counts": (1_000, 3_000, 10_000, 30_000, 100_000), "rounds": 3},
    "live": {
        "frames": 60_000,
        "portions": (1, 20, 100),
        "split_times": (1.0, 0.1),
        "hour": live.HOUR,
        "rounds": 5,
    },
    "remote": {"frames": 8_000, "dclab_frames": 320, "rounds": 3},
    "stacks": {"frames": 20_000, "side": 512, "rounds": 3},
    "chipstream": {"frames": 4_000, "rounds": 4},
    "verdict": {"frames": 20_000, "side": 1024, "rounds": 9},
}

QUICK: dict[str, dict[str, Any]] = {
    "end-to-end": {"frames": 4_000, "many": 8_000, "rounds": 1, "rounds_many": 1},
    "layouts": {"share": 0.05, "rounds": 1},
    "kernel": {"frames": 4_000, "rounds": 3},
    "pinned": {"frames": 4_000, "rounds": 1},
    "growth": {"frames": 4_000, "counts": (1_000, 2_000, 4_000, 8_000), "rounds": 1},
    "live": {
        "frames": 6_000,
        "portions": (1, 20, 100),
        "split_times": (1.0, 0.1),
        "hour": 60_000,
        "rounds": 1,
    },
    "remote": {"frames": 1_000, "dclab_frames": 32, "rounds": 1},
    "stacks": {"frames": 4_000, "side": 64, "rounds": 1},
    "chipstream": {"frames": 300, "rounds": 1},
    "verdict": {"frames": 4_000, "side": 256, "rounds": 1},
}

PACKAGES = (
    "dcnum",
    "numpy",
    "numba",
    "h5py",
    "imagecodecs",
    "bottleneck",
    "opencv-python-headless",
    "dask",
    "chipstream",
    "torch",
)


def machine_name() -> str:
    """Return a short name of the kind of machine; it says nothing of whose it is."""
    return f"{platform.system()}-{platform.machine()}-{available_cores()}-cores".lower()


def processor() -> dict[str, str]:
    """Return the processor's name, and the widest of its instructions that NumPy makes use of."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    found = np.show_config("dicts")["SIMD Extensions"]
    return {
        "name": names[0] if names else platform.processor() or platform.machine(),
        "instructions": [*found["baseline"], *found.get("found", ())][-1],
    }


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that take part, where installed."""
    found = {"python": platform.python_version(), "sparsemed": sparsemed.__version__}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


@click.command()
@click.argument("part", type=click.Choice([*MEASURE, "all"]), default="all")
@click.option(
    "--quick",
    is_flag=True,
    help=f"Small measurements, few rounds: minutes at most. Of all, {' and '.join(LONG)} are left "
    "out.",
)
@click.option("--name", default=None, help="Name of the results. [default: kind of the machine]")
@click.option(
    "--readme",
    "pages",
    type=Path,
    multiple=True,
    help="Write tables into this file, between their markers; more than once for several.",
)
def main(part: str, quick: bool, name: str | None, pages: tuple[Path, ...]) -> None:
    """Measure one PART, or all; write it into benchmarks/results.

    Results of the other parts, from earlier runs under the same name, are kept.
    """
    name = (name or machine_name()) + ("-quick" if quick else "")
    path = RESULTS / f"{name}.json"
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    results |= {"machine": name, "cores": available_cores(), "versions": versions()}
    results["processor"] = processor()
    sizes = QUICK if quick else FULL
    every = [each for each in MEASURE if not (quick and each in LONG)]
    for each in every if part == "all" else (part,):
        results[each] = MEASURE[each](**sizes[each])
        RESULTS.mkdir(exist_ok=True)
        path.write_text(json.dumps(results, indent=1) + "\n")
    if all(each in results for each in DRAWN):
        draw(results, path.with_suffix(".png"))
    for block in BLOCKS:
        if missing := [each for each in block.parts if each not in results]:
            click.echo(f"no {block.title} yet; still to run: {', '.join(missing)}", err=True)
        else:
            click.echo(block.table(results) + "\n")
    for page in pages:
        write_blocks(page, results)


if __name__ == "__main__":
    main()
