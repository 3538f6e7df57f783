"""How the documentation is built: ``sphinx-build -W docs build/docs``."""

import inspect
import re
import sys
import tempfile
from pathlib import Path

import click
from sphinx.application import Sphinx
from sphinx.errors import SphinxError

import sparsemed
import sparsemed.cli
from sparsemed import demo
from sparsemed.quality import cells, change, lamp, light, noise, question

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

project = "sparsemed"
author = "The sparsemed maintainers"
copyright = f"2026, {author}"
version = release = sparsemed.__version__

extensions = ["sphinx.ext.autodoc", "numpydoc", "myst_parser"]
exclude_patterns = ["made", "drawn", "tables", "templates", "static"]
default_role = "py:obj"

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the text says it, in words
numpydoc_show_class_members = False  # api.md lists them

myst_heading_anchors = 3

html_theme = "pydata_sphinx_theme"
html_title = f"sparsemed {version}"
html_theme_options = {
    "navbar_center": [],
    "navbar_end": ["theme-switcher"],
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "show_prev_next": True,
}
html_sidebars = {"**": ["pages.html"]}
templates_path = ["templates"]
html_static_path = ["static"]
html_css_files = ["page.css"]
html_show_sourcelink = False
html_copy_source = False


def describe_commands(folder: Path) -> None:
    """Write what the commands say about themselves, as one page to be included."""
    group = sparsemed.cli.main
    context = click.Context(
        group, info_name="sparsemed", terminal_width=80, **group.context_settings
    )
    helps = {"sparsemed": group.get_help(context)}
    for name in group.list_commands(context):
        if name != "chipstream":  # hands all its arguments on
            command = click.Context(group.commands[name], context, name)
            helps[command.command_path] = command.command.get_help(command)
    page = [f"## {title}\n\n```text\n{text}\n```\n" for title, text in helps.items()]
    (folder / "commands.md").write_text("\n".join(page), encoding="utf-8")


def describe_findings(folder: Path) -> None:
    """Write what each finding is, with its formula, and what it says of the demo measurements."""
    found = {}
    for case in demo.CASES:
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / f"{case}.rtdc"
            demo.make_measurement(path, case=case)
            background = sparsemed.compute_background(path)
            found[case] = background.quality()
            background.plot().savefig(folder / f"plot-{case}.png", dpi=150)
    titles = {finding.key: finding.title for case in found.values() for finding in case}

    def formula(key: str) -> str:
        name = {"windows": "enough", "left": "what_is_left"}.get(key, key)
        rooms = (question, light, lamp, cells, change, noise)
        (finds,) = {vars(room)[name] for room in rooms if callable(vars(room).get(name))}
        text = re.sub(
            r"`(\w+)`",
            lambda name: f"*{titles[name[1]]}*" if name[1] in titles else name[0],
            inspect.getdoc(finds),
        )
        return re.sub(r"(?<!`)`(\w+)`(?!`)", r"`~sparsemed.quality.\1`", text)

    page = []
    for key, title in titles.items():
        rows = [
            f"| {case} | {finding.text} | **{finding.verdict}**{': ' * (not finding.is_good)}"
            f"{finding.advice} |"
            for case, findings in found.items()
            for finding in findings
            if finding.key == key
        ]
        page += [
            f"### {title}",
            f"```{{eval-rst}}\n{formula(key)}\n```",
            "\n".join(["| measurement | number | verdict |", "| --- | --- | --- |", *rows]),
        ]
    (folder / "findings.md").write_text("\n\n".join(page), encoding="utf-8")


PUBLIC = [f"sparsemed.{name}" for name in sparsemed.__all__ if name[0] != "_"]
PUBLIC += ["sparsemed.dcnum.register", "sparsemed.dcnum.unregister"]


def as_built(_: object, __: str, source: list[str]) -> None:
    """Make of a page what is to be built; as it lies there, it can be read on a forge.

    What a comment that begins with ``when built:`` has is shown, what is marked ``on a forge`` is
    not, pictures are those just drawn, and public names are links.
    """
    text = re.sub(r"<!-- on a forge -->.*?<!-- end -->", "", source[0], flags=re.S)
    text = re.sub(r"^<!-- when built:\n(.*?)\n-->$", r"\1", text, flags=re.S | re.M)
    text = text.replace("](drawn/", "](made/")
    names = "|".join(map(re.escape, PUBLIC))
    source[0] = re.sub(rf"(?<!`)`({names})`(?!`)", r"{py:obj}`\1`", text)


def make_parts(_: object) -> None:
    """Make what the pages include: pictures, help of the commands, and findings."""
    from pictures import check_drawn, save_pictures
    from rooms import draw_rooms

    folder = HERE / "made"
    folder.mkdir(exist_ok=True)
    describe_commands(folder)
    describe_findings(folder)
    save_pictures(folder)
    check_drawn(folder)
    draw_rooms().savefig(folder / "rooms.png", dpi=190)


def check_pages(app: Sphinx, error: Exception | None) -> None:
    """Fail if a page loads anything from outside."""
    outside = re.compile(r'(src|<link[^>]* href)="(https?:)?//')
    pages = Path(app.outdir).rglob("*.html")
    if not error and (bad := [str(p) for p in pages if outside.search(p.read_text("utf-8"))]):
        raise SphinxError(f"these pages load something from outside: {', '.join(bad)}")


def setup(app: Sphinx) -> None:
    """Have the parts made before the pages are read, and the pages checked in the end."""
    app.connect("builder-inited", make_parts)
    app.connect("source-read", as_built)
    app.connect("build-finished", check_pages)
