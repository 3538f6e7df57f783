"""How the documentation is built: ``sphinx-build -W docs build/docs``."""

import sys
from pathlib import Path

import click

import sparsemed
import sparsemed.cli

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

project = "sparsemed"
author = "The sparsemed maintainers"
copyright = f"2026, {author}"
version = release = sparsemed.__version__

extensions = ["sphinx.ext.autodoc", "numpydoc", "myst_parser"]
exclude_patterns = ["made"]
default_role = "py:obj"
nitpicky = False  # names in single backticks may be parameters, which lead nowhere

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the text says it, in words
numpydoc_show_class_members = False  # api.rst lists them

myst_heading_anchors = 3
suppress_warnings = []

html_theme = "pydata_sphinx_theme"
html_title = f"sparsemed {version}"
html_theme_options = {
    "navbar_end": ["theme-switcher"],
    "header_links_before_dropdown": 8,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "show_prev_next": True,
}
html_sidebars = {"**": []}
html_show_sourcelink = False
html_copy_source = False


def describe_commands(folder: Path) -> None:
    """Write what the commands say about themselves, as one page to be included."""
    group = sparsemed.cli.main
    context = click.Context(group, info_name="sparsemed", terminal_width=80, max_content_width=80)
    parts = [group.get_help(context)]
    parts += [
        command.get_help(click.Context(command, context, name))
        for name, command in sorted(group.commands.items())
        if name != "chipstream"  # hands all its arguments on
    ]
    names = ["sparsemed", *(f"sparsemed {name}" for name in sorted(group.commands))]
    names = [name for name in names if name != "sparsemed chipstream"]
    page = [f"## {name}\n\n```text\n{text}\n```\n" for name, text in zip(names, parts, strict=True)]
    (folder / "commands.md").write_text("\n".join(page), encoding="utf-8")


def make_parts(_: object) -> None:
    """Make what the pages include: the pictures, and the help of the commands."""
    from pictures import save_pictures

    folder = HERE / "made"
    folder.mkdir(exist_ok=True)
    describe_commands(folder)
    save_pictures(folder)


def setup(app: object) -> None:
    """Have the parts made before the pages are read."""
    app.connect("builder-inited", make_parts)
