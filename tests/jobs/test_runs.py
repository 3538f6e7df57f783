"""What is told of a run, and where it is valid."""

from pathlib import Path

import numpy as np
import pytest

from sparsemed.demo import make_measurement
from sparsemed.jobs import file_result
from sparsemed.jobs.options import RunOptions
from sparsemed.jobs.runs import Run
from sparsemed.jobs.shares import sizes_of
from sparsemed.jobs.stack_runs import StackOptions, StackRun
from sparsemed.kernels import compiling
from sparsemed.parameters import Parameters


class Clock:
    """A clock that goes on by a second with each look."""

    now = 0.0

    def perf_counter(self):
        self.now += 1
        return self.now


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
    clock = Clock()
    monkeypatch.setattr(file_result, "time", clock)
    monkeypatch.setattr(compiling, "seconds_compiling", lambda: clock.now / 2)
    row = run.compute(RunOptions(Parameters()))
    size = row["frames"] * row["height"] * row["width"]
    assert row["megabytes_per_second"] == pytest.approx(size / (row["seconds"] / 2) / 1e6)


@pytest.mark.parametrize("subtracted", [None, "c.tif"])
def test_a_run_with_absolute_paths_is_valid_in_any_folder(tmp_path, monkeypatch, subtracted):
    monkeypatch.chdir(tmp_path)
    options = StackOptions(8.0, subtracted=subtracted and Path(subtracted))
    run = StackRun(Path("a.tif"), Path("b.tif"), options, folder_is_made=True).absolute()
    here = StackOptions(8.0, subtracted=subtracted and tmp_path / subtracted)
    assert run == StackRun(tmp_path / "a.tif", tmp_path / "b.tif", here, folder_is_made=True)
    run = Run(Path("a.rtdc"), Path("b.rtdc")).absolute()
    assert run == Run(tmp_path / "a.rtdc", tmp_path / "b.rtdc")


def test_a_stack_is_as_large_as_all_its_files(tmp_path):
    for number in range(12):
        (tmp_path / f"a_{number}.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100 * number))
    run = StackRun(tmp_path / "a_*.png", tmp_path / "out.tif")
    assert sizes_of([run]) == [12 * 8 + 100 * sum(range(12))]
