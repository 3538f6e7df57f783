"""What is told of a run."""

from time import perf_counter

import pytest

from sparsemed.demo import make_measurement
from sparsemed.jobs.runs import Run
from sparsemed.kernels import compiling
from sparsemed.parameters import Parameters


def test_megabytes_per_second_do_not_count_what_compiling_took(tmp_path, monkeypatch):
    path = tmp_path / "in.rtdc"
    make_measurement(path)
    monkeypatch.setattr(compiling, "seconds_compiling", lambda: perf_counter() / 2)
    row = Run(path, tmp_path / "out.rtdc").compute(Parameters(), "same-folder")
    size = row["frames"] * row["height"] * row["width"]
    assert row["megabytes_per_second"] == pytest.approx(size / (row["seconds"] / 2) / 1e6, rel=0.05)
