import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"

SAYS = {
    "image_stack.py": "the darkest pixel is in frame 500",
    "drop_in.py": "sparsemed:k=200^s=0.5^t=0",
    "dask_zarr.py": ("the darkest pixel is in frame 700\nthe right half has the same background\n"),
    "dcnum_job.py": "INFO sparsemed.BackgroundSparseMed: This is sparsemed",
    "chipstream.sh": "Background ID:\tsparsemed:k=200^s=0.5^t=0",
}


@pytest.mark.parametrize("name", SAYS)
def test_examples_run(tmp_path, name):
    program = sys.executable
    if name.endswith(".sh"):
        program = shutil.which("sh") or pytest.skip("there is no shell")
    commands = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
    run = subprocess.run(
        [program, EXAMPLES / name], env=os.environ | {"PATH": commands},
        cwd=tmp_path, capture_output=True, text=True, check=True, encoding="utf-8",
    )  # fmt: skip
    assert SAYS[name] in run.stdout


def test_each_example_is_run():
    assert {path.name for path in EXAMPLES.iterdir() if path.is_file()} == set(SAYS)
