"""Options that several commands have."""

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from sparsemed.cli.stopping import Stoppable
from sparsemed.storage.places import is_remote, locate

if TYPE_CHECKING:
    from sparsemed.jobs.stack_runs import StackOptions

Command = TypeVar("Command", bound=Callable[..., Any])

PARAMETER_HELP = """\b
Parameters (-k KEY=VALUE):
  kernel_size        frames in the window of the median      [200]
  split_time         seconds between background images       [1.0]
  thresh_cleansing   larger drops more background images     [0]
  frac_cleansing     fraction of them to keep                [0.8]
  offset_correction  a brightness offset for each frame      [true]
"""


class Settable(Stoppable):
    """A command with parameters. Its error on a parameter given as an option tells of -k."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the command line."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            from sparsemed.rtdc.pipeline_id import closest_parameter

            name = closest_parameter(error.option_name, 0.8)
            if name is None:
                raise
            raise click.UsageError(
                f"No such option {error.option_name!r}. Parameters are set with -k: "
                f"-k {name}=VALUE",
                ctx,
            ) from error


class PathType(click.Path):
    """A path. Whether it can be read shows when it is opened.

    An empty path, as from an unset shell variable, is refused: it would be the current folder.
    """

    def __init__(self, *, file_okay: bool = True, can_be_remote: bool = False) -> None:
        self._can_be_remote = can_be_remote
        super().__init__(file_okay=file_okay, readable=False, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Refuse empty paths, and keep addresses whole."""
        if value == "":
            self.fail("the path is empty; the current folder is '.'", param, ctx)
        if is_remote(value) and not self._can_be_remote:
            self.fail("an address in a network cannot be written; name a file on this machine")
        try:
            value = locate(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if is_remote(value):
            return value
        return super().convert(value, param, ctx)


paths_argument = click.argument(
    "paths", metavar="PATH...", nargs=-1, required=True, type=PathType(can_be_remote=True)
)
recursive_option = click.option(
    "-r", "--recursive", is_flag=True, help="Search folders within folders, too."
)
settings_option = click.option(
    "-k", "settings", metavar="KEY=VALUE", multiple=True, help="Set a parameter."
)
num_cpus_option = click.option(
    "--num-cpus", type=int, help="Largest number of threads.  [all cores available]"
)
basins_option = click.option(
    "--basins",
    type=click.Choice(["network", "any", "same-folder", "off"]),
    default="any",
    show_default=True,
    help="Which other files the basins and links of a measurement may lead to; 'network': also "
    "those on other machines.",
)


def stack_options(command: Command) -> Command:
    """Add the options for stacks."""
    for option in reversed(
        (
            click.option("--fps", type=float, help="Stacks: frames per second."),
            click.option("--series", type=int, help="Stacks: which series, counted from 0."),
            click.option("--channel", type=int, help="Stacks: which channel or colour."),
            click.option("--position", type=int, help="Stacks: which position of the stage."),
            click.option(
                "--dataset", metavar="NAME", help="Stacks: which dataset of an HDF5 file or Zarr."
            ),
        )
    ):
        command = option(command)
    return command


def read_stack_options(
    fps: float | None, subtracted: Path | None = None, **choice: Any
) -> "StackOptions":
    """Return the values of the options for stacks."""
    from sparsemed.frames.choice import Choice
    from sparsemed.jobs.stack_runs import StackOptions

    return StackOptions(fps, Choice(**choice), subtracted)


def parse_settings(settings: tuple[str, ...]) -> dict[str, Any]:
    """Return the parameters that were set by ``-k KEY=VALUE``."""
    from sparsemed.parameters import Parameters
    from sparsemed.rtdc.pipeline_id import parse_value

    known = ", ".join(field.name for field in fields(Parameters))
    parameters = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise ValueError(f"-k {setting}: expected KEY=VALUE, where KEY is one of {known}")
        parameters[name.strip()] = parse_value(name.strip(), text)
    return parameters
