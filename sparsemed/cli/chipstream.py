"""The command ``sparsemed chipstream`` hands all its arguments to ChipStream."""

from itertools import pairwise

import click

from sparsemed.cli.messages import Mistake, one_line_errors
from sparsemed.cli.options import parse_settings
from sparsemed.install_hint import how_to_install


class _Verbatim(click.Command):
    """A command that takes all its arguments as they are, ``--help`` and ``--`` included."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.args = args
        return args


@click.command(
    cls=_Verbatim, short_help="Run ChipStream with this background.", options_metavar="ARGS…"
)
@click.pass_context
def chipstream(context: click.Context) -> None:
    """Run ChipStream's command line, with sparsemed computing the background.

    All arguments are those of chipstream-cli: sparsemed chipstream --help
    """
    with one_line_errors(Mistake):
        # ChipStream comes before anything that imports Numba: it asks for one thread per
        # process, which Numba must know before it starts any. Decoding frames is not affected.
        try:
            from chipstream.cli.cli_main import chipstream_cli
        except ImportError as error:
            needs = how_to_install("chipstream[cli]", "dcnum==0.31.*")
            raise ImportError(f"ChipStream cannot be imported ({error}): {needs}") from error
        from sparsemed.dcnum import register

        _check_background(context.args)
        register()
    chipstream_cli(context.args, prog_name=context.command_path)


def _check_background(arguments: list[str]) -> None:
    """Refuse wrong parameters of this background; ChipStream would show a traceback.

    Raises
    ------
    ValueError, TypeError
        If a parameter is unknown, or its value is wrong.
    """
    from sparsemed.parameters import Parameters
    from sparsemed.rtdc.pipeline_id import CODE

    given = list(pairwise(arguments))
    if any(name in ("-b", "--background-method") and value != CODE for name, value in given):
        return
    Parameters(**parse_settings(tuple(value for name, value in given if name == "-kb")))
