import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("image_stack", "the darkest pixel is in frame 500"),
        ("drop_in", "sparsemed:k=200^s=0.5^t=0"),
        (
            "dask_zarr",
            "the darkest pixel is in frame 700\nthe right half has the same background\n",
        ),
    ],
)
def test_examples_run(tmp_path, name, says):
    run = subprocess.run(
        [sys.executable, EXAMPLES / f"{name}.py"],
        cwd=tmp_path, capture_output=True, text=True, check=True, encoding="utf-8",
    )  # fmt: skip
    assert says in run.stdout


def test_each_example_is_run():
    names = {"image_stack", "drop_in", "dask_zarr"}
    assert {path.stem for path in EXAMPLES.glob("*.py")} == names
