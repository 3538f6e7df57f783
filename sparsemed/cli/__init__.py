"""The command ``sparsemed``, one file a command.

Slow imports stand where they are used, so that help and completion come at once.

May import: dcnum, demo, jobs, quality, result, rtdc, frames, hdf5, executors, storage.
"""

import io
import os
import shlex
import sys
from contextlib import suppress
from typing import Any, TextIO

import click

from sparsemed.cli.chipstream import chipstream
from sparsemed.cli.compute import compute
from sparsemed.cli.demo import demo
from sparsemed.cli.info import info
from sparsemed.cli.recover import recover
from sparsemed.cli.report import report
from sparsemed.cli.watch import watch
from sparsemed.printable import printable
from sparsemed.version import __version__

MAIN_HELP = """\b
Examples:
  sparsemed demo               show what it does, on made-up data
  sparsemed info in.rtdc       show what a file holds, and how it can be read
  sparsemed compute in.rtdc    compute its background: writes in_bg.rtdc
  sparsemed compute -r data    the same for all measurements below data
  sparsemed report in.rtdc     see on a page whether it is good
  sparsemed watch in.rtdc      follow it while it is recorded
  sparsemed recover in.rtdc    undo a change that was interrupted
  sparsemed chipstream in.rtdc out.rtdc
                               run ChipStream with this background

sparsemed COMMAND --help explains a command.

\b
Completion with the Tab key, for good:
  bash (~/.bashrc)  eval "$(_SPARSEMED_COMPLETE=bash_source sparsemed)"
  zsh (~/.zshrc)    eval "$(_SPARSEMED_COMPLETE=zsh_source sparsemed)"
  fish (~/.config/fish/completions/sparsemed.fish)
                    _SPARSEMED_COMPLETE=fish_source sparsemed | source
"""


def _give_up_unwritten(stream: TextIO | None) -> None:
    if stream is None:
        return
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _show_what_can_be_shown() -> None:
    """Escape characters that a terminal or log file cannot encode, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


class _Manual(click.Group):
    """Lists commands in the order of use, and answers Ctrl-C with one line."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Suggest `sparsemed compute` if a file is given in place of a command."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            name = args[0]
            if not name.lower().endswith(".rtdc") and not os.path.exists(name):
                raise
            raise click.UsageError(
                f"{printable(name)} is not a command; to compute its background: "
                f"sparsemed compute {shlex.quote(name)}",
                ctx,
            ) from error

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 (click's)
        return list(self.commands)

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Report on one line that output cannot be written. Click is silent on closed pipes."""
        _show_what_can_be_shown()
        try:
            return super().main(*args, **kwargs)
        except OSError as error:
            with suppress(OSError):
                click.echo(f"Error: the output cannot be written: {error}", err=True)
            sys.exit(1)
        finally:
            # Text left in a buffer would fail again when Python exits, with another exit status.
            for stream in (sys.stdout, sys.stderr):
                _give_up_unwritten(stream)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo("Interrupted: no file is half written", err=True)
            ctx.exit(130)


@click.group(
    cls=_Manual, context_settings={"help_option_names": ["-h", "--help"]}, epilog=MAIN_HELP
)
@click.version_option(__version__, prog_name="sparsemed")
def main() -> None:
    """Background images for imaging cytometry (RT-DC) measurements.

    The background of a frame is the median of the frames around it, as the
    method "sparse median" of dcnum computes it. It is written to a new file
    that refers to the measurement; the measurement itself stays as it is.
    """


for command in (compute, info, report, watch, recover, demo, chipstream):  # in the order of use
    main.add_command(command)
