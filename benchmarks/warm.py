"""dcnum, sparsemed and the decode floor, in turn in one process that has imported all of them.

A program of its own: ``python warm.py measurement.rtdc rounds parameters``; the parameters are
those of dcnum's class, as JSON. It prints, as JSON, the seconds of each contender in each round,
after one that warms up. This is what a further measurement costs in a process that handles many.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from decode_floor import decode_all


def contenders(
    measurement: Path, folder: Path, parameters: dict[str, Any]
) -> dict[str, Callable[[], None]]:
    """Return what to time, by name; what is written goes into the folder."""
    from dcnum.feat.feat_background.bg_sparse_median import BackgroundSparseMed as Theirs

    from sparsemed import BackgroundSparseMed as Ours

    def run(job_class: type, output: Path) -> None:
        output.unlink(missing_ok=True)
        with job_class(measurement, output, **parameters) as job:
            job.process()

    return {
        "dcnum": lambda: run(Theirs, folder / "dcnum.rtdc"),
        "sparsemed": lambda: run(Ours, folder / "sparsemed.rtdc"),
        "decode floor": lambda: decode_all(measurement),
    }


def main() -> None:
    seconds: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        timed = contenders(Path(sys.argv[1]), Path(folder), json.loads(sys.argv[3]))
        for number in range(int(sys.argv[2]) + 1):
            for name, contender in timed.items():
                began = time.perf_counter()
                contender()
                if number:
                    seconds.setdefault(name, []).append(time.perf_counter() - began)
    print(json.dumps(seconds))


if __name__ == "__main__":  # dcnum's processes import this file, too
    main()
