"""The background while it is recorded: a made-up camera whose focus drifts."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import h5py
import hdf5plugin  # noqa: F401  (lets HDF5 read the frames)
import numpy as np

import sparsemed
from sparsemed.demo import make_measurement
from sparsemed.quality import overall

RATE = 3000  # frames a second

with TemporaryDirectory() as folder:
    make_measurement(Path(folder, "frames.rtdc"), count=900, seed=3)
    with h5py.File(Path(folder, "frames.rtdc")) as h5:
        sharp = h5["events/image"][:]


def blurred(frames: np.ndarray) -> np.ndarray:
    """Return frames out of focus."""
    return frames // 2 + (np.roll(frames, 1, axis=1) // 4 + np.roll(frames, -1, axis=1) // 4)


def camera(seconds: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield portions of 100 frames and their times; from 12 s on, the focus drifts."""
    focus = {12: blurred(sharp), 15: blurred(blurred(sharp))}
    seen = sharp
    for first in range(0, seconds * RATE, 100):
        seen = focus.get(first // RATE, seen)
        place = first % len(seen)
        yield seen[place : place + 100], np.arange(first, first + 100) / RATE


verdict = ""
with sparsemed.LiveBackground(sharp.shape[1:]) as live:
    for frames, times in camera(seconds=20):
        if not live.push(frames, times):
            continue  # no image has become final
        without = frames[-1].astype(int) - live.image  # the newest frame, less its background
        row, column = np.unravel_index(without.argmin(), without.shape)
        findings = live.quality()
        if overall(findings) != verdict:
            verdict = overall(findings)
            print(f"at {times[-1]:.1f} s: {verdict}; the darkest pixel is at {row}, {column}")
            for finding in findings:
                if not finding.is_good:
                    print(finding)
    background = live.finish()

print(background)
