"""The command ``sparsemed recover``: undo an interrupted change."""

import logging
from pathlib import Path

import click

from sparsemed.cli.messages import Mistake, one_line_errors
from sparsemed.cli.options import PathType
from sparsemed.cli.results import Ending, for_each
from sparsemed.cli.stopping import Stoppable
from sparsemed.printable import printable


@click.command(cls=Stoppable)
@click.argument("paths", metavar="FILE...", nargs=-1, required=True, type=PathType())
def recover(paths: tuple[Path, ...]) -> None:
    """Undo interrupted changes of files.

    A program that is killed while it patches a FILE leaves a journal beside it,
    FILE.sparsemed-journal. This command restores the old state from it. All other
    commands do the same with each file that they open. Use this one before other
    programs open the file. The exit status is 1 if a file is missing or cannot be restored.
    """
    with one_line_errors(Mistake):
        from sparsemed.hdf5 import journal
        from sparsemed.storage import disk

    def undo(path: Path) -> tuple[str, str]:
        restored = journal.recover(path)
        if not path.exists():
            raise disk.no_such_file(path)
        if not path.is_file():
            raise FileNotFoundError(f"{path}: is not a file")
        standing = "restored" if restored else "nothing to undo"
        return standing, printable(f"{path}: {standing}")

    ending = Ending("files")
    for_each(paths, undo, ending, logging.WARNING)
    ending.exit_if_failed()
