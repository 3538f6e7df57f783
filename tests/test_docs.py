"""The code on the pages of the documentation runs; `.ci/run` builds them."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import sparsemed
from benchmarks.serving import serving
from sparsemed.cli import main
from sparsemed.demo import make_measurement

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs").glob("*.md"))
README = ROOT / "README.md"
REMOTE = ROOT / "docs" / "remote.md"


def code_of(page):
    """Return what a reader would run as one program: Python, and the command sparsemed."""
    blocks = re.findall(r"^```(python|console)\n(.*?)^```", page.read_text("utf-8"), re.M | re.S)
    code = ""
    for language, text in blocks:
        if language == "python":
            code += text
        for line in text.splitlines() if language == "console" else []:
            # what runs inside ChipStream is run by tests/test_examples.py
            if line.startswith("$ sparsemed ") and "chipstream" not in line:
                code += f"typed({line[2:].split()})\n"
    return code


TYPED = """
def typed(command):
    import subprocess, sys
    subprocess.run([sys.executable, "-m", *command], check=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "page",
    [README, *(page for page in PAGES if code_of(page) and page != REMOTE)],
    ids=lambda page: page.stem,
)
def test_the_code_on_a_page_runs(tmp_path, page):
    if page == README:  # its first command, after installing
        subprocess.run([sys.executable, "-m", "sparsemed", "demo"], cwd=tmp_path, check=True)
    run(code_of(page), tmp_path)


def run(code, folder):
    program = [sys.executable, "-W", "error", "-c", TYPED + code]
    subprocess.run(program, cwd=folder, check=True)


@pytest.mark.slow
def test_the_code_on_the_page_of_networks_runs(tmp_path, measurement, object_store, monkeypatch):
    """With servers of the tests, as nothing leaves this machine."""
    import boto3

    for name, value in object_store.items():
        monkeypatch.setenv(name, value)
    content = measurement.read_bytes()
    client = boto3.client("s3", endpoint_url=object_store["AWS_ENDPOINT_URL"])
    client.put_object(Bucket="cells", Key="day 1/M001.rtdc", Body=content)
    client.close()
    (tmp_path / "in.rtdc").write_bytes(content)
    with serving() as server:
        server.put("/M001.rtdc", content)
        code = code_of(REMOTE).replace("https://data.example.org/", server.url("/"))
        run(code, tmp_path)
    assert (tmp_path / "M001_bg.rtdc").exists()


APART = ("index", "scaling", "upstream")
"""Pages that other pages lead to."""


def test_the_readme_is_a_screen_and_leads_to_the_documentation():
    text = README.read_text("utf-8")
    assert len(text.splitlines()) <= 115
    targets = re.findall(r"\]\((docs/[^)#]+)", text)
    assert {ROOT / target for target in targets} >= {p for p in PAGES if p.stem not in APART}
    for target in targets:
        assert (ROOT / target).is_file()


def test_each_page_is_in_the_table_of_contents_under_its_kind():
    index = (ROOT / "docs" / "index.md").read_text("utf-8")
    trees = r"^```{toctree}\n:hidden:\n:caption: (.*?)\n\n(.*?)```"
    tree = re.findall(trees, index, re.M | re.S)
    contents = [(kind, pages.split()) for kind, pages in tree]
    listed = [page for _, pages in contents for page in pages]
    assert sorted([*listed, "index"]) == [path.stem for path in PAGES]
    shown = re.split(r"^## (.*)$", index.partition("<!--")[0], flags=re.M)[1:]
    tables = [re.findall(r"\]\((\w+)\.md\) \|$", text, re.M) for text in shown[1::2]]
    assert list(zip(shown[::2], tables, strict=True)) == contents
    assert not list((ROOT / "docs").glob("*.rst"))


def on_a_forge(page):
    """Return a page as a forge shows it, which has no Sphinx and no comments."""
    return re.sub(r"<!--.*?-->", "", page.read_text("utf-8"), flags=re.S)


@pytest.mark.parametrize("page", [*PAGES, *ROOT.glob("*.md")], ids=lambda p: p.stem)
def test_a_page_reads_well_as_it_is(page):
    text = on_a_forge(page)
    assert len(text) > 400
    assert not re.findall(r"^(?:`{3,}|:{3,})\{.*|\{[a-z:]+\}`.*|.*(?:made/|-->).*", text, re.M)
    prose = re.sub(r"^```.*?^```|`[^`\n]*`", "", text, flags=re.M | re.S)
    targets = [*re.findall(r"\]\(([^)\s]+)\)", prose), *re.findall(r'src="([^"]+)"', prose)]
    for target in targets:
        path, _, place = target.partition("#")
        if "://" in target:
            continue
        leads_to = page.parent / path if path else page
        assert leads_to.exists(), target
        assert "/docs/made" not in str(leads_to.resolve()), target
        if place:
            titles = re.findall(r"^#+ (.*)", on_a_forge(leads_to), re.M)
            anchors = {re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in titles}
            assert place in anchors, target


def test_every_command_and_public_name_is_on_its_page():
    commands, python = (on_a_forge(ROOT / "docs" / f"{name}.md") for name in ("commands", "api"))
    assert set(re.findall(r"`sparsemed (\w+)`", commands)) | {"chipstream"} == set(main.commands)
    rows = dict(re.findall(r"^\| `sparsemed\.(\w+)` \|.*\| (.*) \|$", python, re.M))
    built = (ROOT / "docs" / "api.md").read_text("utf-8").partition("<!-- when built:")[2]
    described = set(re.findall(r"^\.\. auto\w+:: (\w+)", built, re.M))
    for name, module in sparsemed._MODULES.items():
        assert f"](../{module.replace('.', '/')}.py)" in rows[name], name
        assert name in described


@pytest.mark.parametrize(("page", "folder"), [("safety", "faults"), ("compatibility", "field")])
def test_the_tests_that_are_said_to_keep_promises_exist(page, folder):
    text = (ROOT / "docs" / f"{page}.md").read_text("utf-8")
    named = set(re.findall(r"`(tests/[\w/.]+)`", text))
    tests = {path.name for path in (ROOT / "tests" / folder).glob("test_*.py")}
    assert tests <= {Path(name).name for name in named}
    for name in named:
        assert (ROOT / name).exists(), name


def test_every_codec_is_said_to_be_read_past_hdf5():
    from sparsemed.frames.codecs import CODECS

    page = (ROOT / "docs" / "compatibility.md").read_text("utf-8")
    (row,) = [line for line in page.splitlines() if "chunks of whole frames or tiles" in line]
    assert all(codec.name in row.lower() for codec in CODECS.values())


@pytest.mark.slow
def test_the_picture_of_the_readme_has_the_words_of_today(tmp_path):
    """If not: python docs/pictures.py."""
    make_measurement(tmp_path / "demo-cells.rtdc", case="cells")
    found = sparsemed.compute_background(tmp_path / "demo-cells.rtdc")
    with Image.open(ROOT / "docs" / "demo-cells.png") as picture:
        assert picture.text["Description"] == "\n".join(map(str, found.quality(try_cures=False)))
