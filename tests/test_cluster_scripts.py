"""The scripts for clusters on the page on many measurements run, with bash in place of a queue."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from jobs.measurements import measure
from patience import PATIENCE

PAGE = Path(__file__).parent.parent / "docs" / "many.md"

BLOCKS = re.findall(r"^```(?:bash|py)\n(.*?)^```", PAGE.read_text("utf-8"), re.M | re.S)

pytestmark = pytest.mark.skipif(shutil.which("bash") is None or os.name == "nt", reason="no bash")


def block(word):
    """Return the script on the page in which a word is."""
    (found,) = (text for text in BLOCKS if word in text)
    return found


@pytest.fixture
def queue(tmp_path):
    """Return a function that runs a script as a queue would, in a folder with measurements."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("sparsemed", "dask"):  # those of this environment, wherever they are installed
        (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" -m {name} "$@"\n')
    (programs / "srun").write_text('#!/bin/sh\nexec "$@"\n')
    for program in programs.iterdir():
        program.chmod(0o755)
    for number in range(4):
        measure(tmp_path / "data" / f"M{number}.rtdc", count=20 + number, seed=number)

    def run(script, **variables):
        environment = {**os.environ, **variables, "SLURM_CPUS_PER_TASK": "1"}
        environment["PATH"] = f"{programs}:{environment['PATH']}"
        return subprocess.run(
            ["bash", "-c", script],
            cwd=tmp_path,
            env=environment,
            check=True,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )

    return run


def summary(folder):
    listed = json.loads((folder / "overview" / "summary.json").read_text())["measurements"]
    return [row["status"] for row in listed], [bool(row.get("verdict")) for row in listed]


def test_an_array_of_jobs_and_one_that_brings_them_together(queue, tmp_path):
    script = block("--array=1-8").replace("/8", "/2")  # with two jobs
    for number in "12":
        queue(script, SLURM_ARRAY_TASK_ID=number)
    assert len(list((tmp_path / "results").iterdir())) == 4
    queue(block("--job-name=overview"))
    assert summary(tmp_path) == (["skipped"] * 4, [True] * 4)


@pytest.mark.slow
def test_a_job_with_a_scheduler_and_workers(queue, tmp_path):
    pytest.importorskip("distributed")
    done = queue(block("--ntasks=4"))
    assert len(done.stdout.splitlines()) == 4
    assert summary(tmp_path) == (["done"] * 4, [True] * 4)


def test_snakemake(queue, tmp_path):
    if shutil.which("snakemake") is None:
        pytest.skip("snakemake is not installed")
    (tmp_path / "Snakefile").write_text(block("rule all"))
    queue("snakemake --cores 2")
    assert len(list((tmp_path / "results").iterdir())) == 4


SBATCH = """#!/bin/bash
# keeps the script, as queues do, and hands it to bash, which goes on in the background
kept=$(mktemp) && cp "${@: -1}" "$kept"
bash "$kept" > job.log 2>&1 &
echo "Submitted batch job $!"
"""


def test_dask_jobqueue(queue, tmp_path):
    pytest.importorskip("dask_jobqueue")
    for name, text in (("sbatch", SBATCH), ("scancel", '#!/bin/sh\nkill "$@"\n')):
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    (tmp_path / "run.py").write_text(block("SLURMCluster").replace("jobs=4", "jobs=1"))
    done = queue(f'"{sys.executable}" run.py')
    assert len(done.stdout.splitlines()) == 4
    assert len(list((tmp_path / "results").iterdir())) == 4
