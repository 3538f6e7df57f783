"""The command ``sparsemed recover``: undo an interrupted change."""

from pathlib import Path

import click

from sparsemed.cli.messages import Failure, Mistake, one_line_errors
from sparsemed.cli.options import PathType
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
    failed = False
    for path in paths:
        try:
            with one_line_errors():
                restored = journal.recover(path)
                if not path.is_file():
                    if not path.exists():
                        raise disk.no_such_file(path)
                    raise FileNotFoundError(f"{path}: is not a file")
        except Failure as failure:
            failed = True
            failure.show()
        else:
            click.echo(printable(f"{path}: {'restored' if restored else 'nothing to undo'}"))
    if failed:
        click.get_current_context().exit(1)
