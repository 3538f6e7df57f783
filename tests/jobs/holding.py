"""Runs that wait in other processes until they may go on."""

import os
import time
from pathlib import Path

from patience import PATIENCE


def hold(folder):
    """Let runs wait in this process, after they told its number, until they may go."""
    from sparsemed.jobs.runs import Run

    compute = Run.compute

    def wait_first(self, *arguments, **options):
        Path(folder, f"started-{os.getpid()}").touch()
        end = time.monotonic() + PATIENCE
        while not Path(folder, "go").exists() and time.monotonic() < end:
            time.sleep(0.02)
        return compute(self, *arguments, **options)

    Run.compute = wait_first


def started(folder, count):
    """Wait for so many processes, and return their numbers."""
    end = time.monotonic() + PATIENCE
    while len(found := sorted(folder.glob("started-*"))) < count and time.monotonic() < end:
        time.sleep(0.02)
    assert len(found) == count
    return [int(path.name.partition("-")[2]) for path in found]
