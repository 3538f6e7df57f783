"""What is told of a run."""

from time import perf_counter

import numpy as np
import pytest

from sparsemed.demo import make_measurement
from sparsemed.jobs.options import RunOptions
from sparsemed.jobs.runs import Run
from sparsemed.jobs.stack_runs import StackOptions, StackRun
from sparsemed.kernels import compiling
from sparsemed.parameters import Parameters


@pytest.mark.parametrize("kind", ["measurement", "stack"])
def test_megabytes_per_second_do_not_count_what_compiling_took(tmp_path, monkeypatch, kind):
    if kind == "measurement":
        make_measurement(tmp_path / "in.rtdc")
        run = Run(tmp_path / "in.rtdc", tmp_path / "out.rtdc")
    else:
        tifffile = pytest.importorskip("tifffile")
        frames = np.random.default_rng(0).integers(80, 99, (300, 40, 60)).astype(np.uint8)
        tifffile.imwrite(tmp_path / "in.tif", frames)
        run = StackRun(tmp_path / "in.tif", tmp_path / "out.tif", StackOptions(frame_rate=30.0))
    monkeypatch.setattr(compiling, "seconds_compiling", lambda: perf_counter() / 2)
    row = run.compute(RunOptions(Parameters()))
    size = row["frames"] * row["height"] * row["width"]
    assert row["megabytes_per_second"] == pytest.approx(size / (row["seconds"] / 2) / 1e6, rel=0.05)
