"""The command ``sparsemed compute``: options in, a line or JSON object a measurement out."""

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sparsemed.cli.messages import Failure, Mistake, is_terminal, log_lines, one_line_errors
from sparsemed.cli.options import (
    PARAMETER_HELP,
    PathType,
    Settable,
    basins_option,
    num_cpus_option,
    parse_settings,
    paths_argument,
    read_stack_options,
    recursive_option,
    settings_option,
    stack_options,
)
from sparsemed.cli.results import Ending, Followed, show_result

if TYPE_CHECKING:
    from sparsemed.hdf5.file_access import Policy
    from sparsemed.jobs.file_result import FileResult
    from sparsemed.jobs.summary import Summary
    from sparsemed.storage.places import AnyPath

COMPUTE_HELP = f"""{PARAMETER_HELP}
\b
Examples:
  sparsemed compute in.rtdc                    writes in_bg.rtdc
  sparsemed compute in.rtdc -o out.rtdc        writes out.rtdc
  sparsemed compute in.rtdc --in-place         writes into in.rtdc
  sparsemed compute *.rtdc -k split_time=0.5   each next to its measurement
  sparsemed compute -r data -o results         all below data, into results
  sparsemed compute -r data --dry-run          only says what it would do
  sparsemed compute -r data --summary night    and the page night/index.html
  sparsemed compute -r data --dask local       several at a time, here
  sparsemed compute https://host/in.rtdc       from a server, to here
  sparsemed compute film.tif -o background.tif --fps 30
                                               of a stack of images, to a TIFF
  sparsemed compute *.tif -o results --fps 30  each stack, into results

\b
Exit status:
  0    all is done
  1    some measurements failed, the others are done; or a folder is read-only
  2    the command line makes no sense; nothing is done
  130  stopped with Ctrl-C; what is done is whole, the rest untouched
  143  the same, by the signal TERM (and 129 by HUP)
"""


@click.command(cls=Settable, epilog=COMPUTE_HELP)
@paths_argument
@click.option(
    "-o",
    "--output",
    type=PathType(),
    help="Where results go: a file that ends in .rtdc, .h5 or .hdf5, "
    "or a folder, which is made if it is missing. Other endings are refused. "
    "For a stack: a file that ends in .tif, .zarr, .rtdc or .h5, or a folder.",
)
@click.option("--in-place", is_flag=True, help="Write results into the measurements.")
@recursive_option
@settings_option
@num_cpus_option
@basins_option
@stack_options
@click.option(
    "--subtracted",
    metavar="FILE",
    type=PathType(),
    help="Stacks: write the frames minus their background, float32, to a .tif or .zarr.",
)
@click.option("--redo", is_flag=True, help="Also compute measurements that are up to date.")
@click.option(
    "--dask",
    metavar="WHERE",
    help="Compute on Dask workers: local, tcp://HOST:PORT of a scheduler, or a scheduler file.",
)
@click.option("--shard", metavar="I/N", help="Take part I of N, for N jobs that have no scheduler.")
@click.option(
    "--summary",
    "summary_folder",
    metavar="FOLDER",
    type=PathType(file_okay=False),
    help="Write an overview into FOLDER: index.html, summary.csv, summary.json.",
)
@click.option("-n", "--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object for each measurement.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors (and JSON).")
@click.option("-v", "--verbose", is_flag=True, help="Also print log messages.")
def compute(
    paths: "tuple[AnyPath, ...]",
    output: Path | None,
    in_place: bool,
    recursive: bool,
    settings: tuple[str, ...],
    num_cpus: int | None,
    basins: "Policy",
    redo: bool,
    dask: str | None,
    shard: str | None,
    summary_folder: Path | None,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
    fps: float | None,
    subtracted: Path | None,
    **choice: Any,
) -> None:
    """Compute the backgrounds of measurements.

    Each PATH is a measurement, a folder of measurements (*.rtdc that hold images,
    themselves or through basins), or the address of a measurement in a network:
    https://..., s3://bucket/key, or a resource on DCOR. Results of earlier runs are
    skipped: files *_bg.rtdc without images of their own.

    The result is a new file next to each measurement, with _bg added to its name;
    --output and --in-place change that. If the file exists, the background is added
    to it and replaces an earlier one. A file that holds images of its own changes
    only with --in-place. A file that belongs to another measurement is refused:
    remove it first. Files change wholly or not at all.

    Prints a line for each measurement. MB/s count its uncompressed frames, and
    no time to compile. The line ends with the verdict on the background: good, look
    here, or cannot tell; `sparsemed report` shows why. A terminal shows a bar. After
    several measurements, a summary names those that failed, the verdicts and the time.

    A PATH may also be a stack of images: TIFF, Zarr, a video, or a folder or pattern
    of single images. Its background images go to a TIFF that ImageJ reads, or to
    Zarr, with times and parameters; an earlier result is replaced. Results of
    several stacks go to a folder, as TIFFs.

    A measurement is up to date if a complete result with these parameters exists
    and is not older than it. Such measurements are skipped, so the same command again
    goes on where it stopped. --redo computes them, too.
    """
    with ExitStack() as stack:
        with one_line_errors(Mistake):
            if quiet and verbose:
                raise ValueError("--quiet and --verbose exclude each other")
            from sparsemed.executors.dask_client import dask_client
            from sparsemed.jobs.choosing import choose_any_runs
            from sparsemed.jobs.options import RunOptions
            from sparsemed.jobs.shards import read_shard, take_shard
            from sparsemed.jobs.stack_runs import kind_of
            from sparsemed.jobs.summary import Summary
            from sparsemed.parameters import Parameters

            parameters = Parameters(**parse_settings(settings))
            has_summary = summary_folder is not None
            options = RunOptions(
                parameters, num_cpus, basins, redo, dry_run, thumbnails=has_summary
            )
            part = None if shard is None else read_shard(shard)
            level = logging.ERROR if quiet else logging.INFO if verbose else logging.WARNING
            log = stack.enter_context(log_lines(level))
            of_stack = read_stack_options(fps, subtracted, **choice)
            runs = choose_any_runs(
                paths, of_stack, recursive=recursive, output=output, in_place=in_place
            )
            if part is not None:
                runs = take_shard(runs, part)
            client = summary = None
            if dask is not None and not dry_run:
                client = stack.enter_context(dask_client(dask, num_cpus))
            if summary_folder is not None and not dry_run:
                summary = Summary(summary_folder, runs, options.ppid, part)
        if dry_run and not as_json and not quiet:
            click.echo(f"pipeline identifier: {options.ppid}")
        has_bar = is_terminal() and not quiet
        show = partial(show_result, json=as_json, quiet=quiet, beside_bar=has_bar)
        followed = Followed(runs, options, client, log, has_bar)
        ending = Ending(kind_of(runs))
        is_well = _show_all(followed, show, summary, ending)
        if left := len(runs) - ending.count:
            text = f"{left} of {len(runs)} {ending.what} are not done; repeat the command to go on"
            click.echo(text, err=True)
        ending.show(with_verdicts=not (quiet or dry_run))
    if ending.failed or not is_well:
        click.get_current_context().exit(1)


def _show_all(
    results: "Iterable[FileResult]",
    show: "Callable[[FileResult], None]",
    summary: "Summary | None",
    ending: Ending,
) -> bool:
    """Show each result as it comes; return False if an error cut them short."""
    try:
        with one_line_errors(), _finishing(summary):
            for result in results:
                show(result)
                ending.add(result)
                if summary is not None:
                    summary.add(result)
    except Failure as failure:  # no more workers, or no room for the summary
        failure.show()
        return False
    return True


@contextmanager
def _finishing(summary: "Summary | None") -> Iterator[None]:
    """Finish a summary, also after an error."""
    try:
        yield
    finally:
        if summary is not None:
            summary.finish()
