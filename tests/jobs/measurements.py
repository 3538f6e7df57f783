"""Small measurements, made quickly."""

import h5py
import numpy as np


def measure(path, count=24, seed=0, identifier="M"):
    """Make a measurement of few small frames and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    images = np.random.default_rng(seed).integers(50, 90, size=(count, 24, 16), dtype=np.uint8)
    with h5py.File(path, "w") as h5:
        h5["events/image"] = images
        h5["events/time"] = np.arange(count, dtype=float)
        if identifier is not None:
            h5.attrs["experiment:run identifier"] = f"{identifier}-{seed}"
    return path
