"""The code on the pages of the documentation runs; `.ci/run` builds them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs").glob("*.md"))


def code_of(page):
    """Return what a reader would run, in order: Python, and the command sparsemed."""
    blocks = re.findall(r"^```(python|console)\n(.*?)^```", page.read_text("utf-8"), re.M | re.S)
    for language, text in blocks:
        if language == "python":
            yield [sys.executable, "-W", "error", "-c"], text
        for line in text.splitlines() if language == "console" else []:
            # what runs inside ChipStream is run by tests/test_examples.py
            if line.startswith("$ sparsemed ") and "chipstream" not in line:
                yield [sys.executable, "-m"], line[2:]


@pytest.mark.parametrize("page", [p for p in PAGES if any(code_of(p))], ids=lambda p: p.stem)
def test_the_code_on_a_page_runs(tmp_path, page):
    before = ""  # each block goes on where the last one ended
    for program, text in code_of(page):
        if program[-1] == "-c":
            before += text
            command = [*program, before]
        else:
            command = [*program, *text.split()]
        subprocess.run(command, cwd=tmp_path, env=os.environ, check=True)


def test_the_readme_leads_to_the_documentation():
    targets = re.findall(r"\]\((docs/[^)#]+)", (ROOT / "README.md").read_text("utf-8"))
    assert targets
    for target in targets:
        assert (ROOT / target).is_file()


def test_each_page_is_in_the_table_of_contents():
    index = (ROOT / "docs" / "index.md").read_text("utf-8")
    listed = index.partition(":hidden:")[2].split()
    pages = {path.stem for path in [*PAGES, ROOT / "docs" / "api.rst"]} - {"index"}
    assert pages == {name for name in listed if name != "```"}


@pytest.mark.parametrize(("page", "folder"), [("safety", "faults"), ("compatibility", "field")])
def test_the_tests_that_are_said_to_keep_promises_exist(page, folder):
    text = (ROOT / "docs" / f"{page}.md").read_text("utf-8")
    named = set(re.findall(r"`(tests/[\w/.]+)`", text))
    tests = {path.name for path in (ROOT / "tests" / folder).glob("test_*.py")}
    assert tests <= {Path(name).name for name in named}
    for name in named:
        assert (ROOT / name).exists(), name
