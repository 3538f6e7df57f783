import copy
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from patience import PATIENCE

EXAMPLES = Path(__file__).parent.parent / "examples"

SAYS = {
    "image_stack.py": "the darkest pixel is in frame 500",
    "live.py": "at 13.1 s: look here",
    "drop_in.py": "sparsemed:k=200^s=0.5^t=0",
    "dask_zarr.py": ("the darkest pixel is in frame 700\nthe right half has the same background\n"),
    "dcnum_job.py": "INFO sparsemed.BackgroundSparseMed: This is sparsemed",
    "chipstream.sh": "Background ID:\tsparsemed:k=200^s=0.5^t=0",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SAYS)
def test_examples_run(tmp_path, name):
    program = sys.executable
    if name.endswith(".sh"):
        program = shutil.which("sh") or pytest.skip("there is no shell")
    commands = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
    run = subprocess.run(
        [program, EXAMPLES / name],
        env=os.environ | {"PATH": commands},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        encoding="utf-8",
    )
    assert SAYS[name] in run.stdout


def test_each_example_is_run():
    files = {path.name for path in EXAMPLES.iterdir() if path.is_file()}
    assert files == {*SAYS, *NOTEBOOKS, "object_store.py"}


def test_stacks_are_read_from_an_object_store(tmp_path, object_store):
    """With the store of the tests, as nothing leaves this machine."""
    run = subprocess.run(
        [sys.executable, EXAMPLES / "object_store.py", "s3://cells"],
        env=os.environ | object_store,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        encoding="utf-8",
    )
    assert "the darkest pixel is in frame 300" in run.stdout
    assert "the TIFF file has the same background" in run.stdout


NOTEBOOKS = ("quickstart.ipynb", "live.ipynb")


@pytest.mark.slow
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_is_short_and_stored_with_what_it_gives(tmp_path, name):
    stored = nbformat.read(EXAMPLES / name, as_version=4)
    assert len(stored.cells) < 10
    again = copy.deepcopy(stored)
    NotebookClient(
        again, resources={"metadata": {"path": str(tmp_path)}}, timeout=int(PATIENCE)
    ).execute()
    for before, after in zip(stored.cells, again.cells, strict=True):
        assert contents(before) == contents(after)
    shown = [kind for cell in stored.cells for output in contents(cell) for kind in output]
    assert {"text/html", "image/png", "text"} <= set(shown)


@pytest.mark.slow
def test_a_notebook_says_while_it_compiles_that_it_does(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "empty"))
    cells = [
        "from sparsemed import progress; progress.HELD_UP = 0  # however fast the machine is",
        "import numpy as np, sparsemed\n"
        "images = np.random.default_rng(0).integers(9, 99, (300, 40, 60), np.uint8)\n"
        "sparsemed.compute_background(images, frame_rate=30);",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(each) for each in cells])
    seen = []
    client = NotebookClient(notebook, timeout=int(PATIENCE))
    process = client.process_message

    def watch(message, *where):
        seen.append(message["content"].get("data", {}).get("text/plain"))
        return process(message, *where)

    client.process_message = watch
    client.execute()
    assert "sparsemed: compiling, once on this machine" in seen
    assert "compiling" not in str(notebook.cells[1].outputs)
    assert contents(notebook.cells[1]) == []


def contents(cell):
    """Return what a cell gave, but for the bytes of pictures."""
    found: list[dict] = []
    for output in cell.get("outputs", []):
        if output.output_type == "stream" and found and "text" in found[-1]:
            found[-1]["text"] += output.text  # it comes in pieces
            continue
        kinds = {"text": output.text} if output.output_type == "stream" else dict(output.data)
        if not any(kinds.values()):  # was said while kernels were compiled, and taken away
            continue
        without = {kind: re.sub('base64,[^"]*', "", text) for kind, text in kinds.items()}
        found.append(without | ({"image/png": ""} if "image/png" in kinds else {}))
    return found
