"""The command ``sparsemed``."""

import json
import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

import sparsemed
from sparsemed.cli.stopping import Stoppable
from sparsemed.printable import printable

if TYPE_CHECKING:
    from sparsemed.hdf5.entries import Policy
    from sparsemed.jobs.selection import Run
    from sparsemed.parameters import Parameters
    from sparsemed.rtdc.info import Info

# What takes long to import is imported where it is used: help and completion must come at once.

PARAMETER_HELP = """\b
Parameters (-k KEY=VALUE):
  kernel_size        frames in the window of the median      [200]
  split_time         seconds between background images       [1.0]
  thresh_cleansing   larger drops more background images     [0]
  frac_cleansing     fraction of them to keep                [0.8]
  offset_correction  a brightness offset for each frame      [true]
"""

COMPUTE_HELP = f"""{PARAMETER_HELP}
\b
Examples:
  sparsemed compute in.rtdc                    writes in_bg.rtdc
  sparsemed compute in.rtdc -o out.rtdc        writes out.rtdc
  sparsemed compute in.rtdc --in-place         writes into in.rtdc
  sparsemed compute *.rtdc -k split_time=0.5   each next to its measurement
  sparsemed compute -r data -o results         all below data, into results
  sparsemed compute -r data --dry-run          only says what it would do

\b
Exit status:
  0    all is done
  1    some measurements failed; the others are done
  2    the command line makes no sense; nothing is done
  130  stopped with Ctrl-C; what is done is whole, the rest untouched
  143  the same, by the signal TERM (and 129 by HUP)
"""

MAIN_HELP = """\b
Examples:
  sparsemed demo               show what it does, on made-up data
  sparsemed info in.rtdc       tell what a file holds, and whether it will do
  sparsemed compute in.rtdc    compute its background: writes in_bg.rtdc
  sparsemed compute -r data    the same for all measurements below data
  sparsemed report in.rtdc     see on a page whether it is good
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


class Failure(click.ClickException):
    """What was asked for cannot be done: one line, and exit status 1."""

    exit_code = 1

    def format_message(self) -> str:  # noqa: D102 (click's)
        return printable(self.message)


class Mistake(Failure):
    """It makes no sense, or cannot even begin: one line, and exit status 2."""

    exit_code = 2


@contextmanager
def _one_line_errors(kind: type[Failure] = Failure) -> Iterator[None]:
    """Show what is wrong with input, output or installation as one line, not a traceback."""
    try:
        yield
    except BrokenPipeError:  # nobody reads on; click ends the command
        raise
    except (OSError, ValueError, TypeError, MemoryError, ImportError) as error:
        raise kind(" ".join(str(error).split()) or repr(error)) from error


class _Path(click.Path):
    """A path. Whether it can be read is found out, and said, by who reads it.

    An empty one, as of a shell variable that is not set, would be the current folder.
    """

    def __init__(self, *, file_okay: bool = True) -> None:
        super().__init__(file_okay=file_okay, readable=False, path_type=Path)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Any:
        if value == "":
            self.fail("the path is empty; the current folder is '.'", param, ctx)
        return super().convert(value, param, ctx)


_basins = click.option(
    "--basins",
    type=click.Choice(["any", "same-folder", "off"]),
    default="any",
    show_default=True,
    help="Which other files a measurement may lead to, by basins and links.",
)


def _give_up_unwritten(stream: TextIO | None) -> None:
    if stream is None:
        return
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


class _Manual(click.Group):
    """Lists commands in the order in which one needs them, and takes Ctrl-C calmly."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 (click's)
        return list(self.commands)

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Say on one line that output cannot be written; click is silent on closed pipes."""
        try:
            return super().main(*args, **kwargs)
        except OSError as error:
            with suppress(OSError):
                click.echo(f"Error: what is to be shown cannot be written: {error}", err=True)
            sys.exit(1)
        finally:
            # What is left in a buffer would fail again when Python ends, with a status of its own.
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
@click.version_option(sparsemed.__version__, prog_name="sparsemed")
def main() -> None:
    """Background images for imaging cytometry (RT-DC) measurements.

    The background of a frame is the median of the frames around it, as the
    method "sparse median" of dcnum computes it. It is written to a new file
    that refers to the measurement; the measurement itself stays as it is.
    """


@main.command(cls=Stoppable, epilog=COMPUTE_HELP)
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=_Path())
@click.option(
    "-o",
    "--output",
    type=_Path(),
    help="Where results go: a file, if it ends in .rtdc, .h5 or .hdf5, "
    "otherwise a folder, which is made.",
)
@click.option("--in-place", is_flag=True, help="Write into the measurements themselves.")
@click.option("-r", "--recursive", is_flag=True, help="Take folders within folders, too.")
@click.option("-k", "settings", metavar="KEY=VALUE", multiple=True, help="Set a parameter.")
@click.option("--num-cpus", type=int, help="Largest number of threads.  [all cores available]")
@_basins
@click.option("-n", "--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object a measurement.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors (and JSON).")
@click.option("-v", "--verbose", is_flag=True, help="Print what is going on, too.")
def compute(
    paths: tuple[Path, ...],
    output: Path | None,
    in_place: bool,
    recursive: bool,
    settings: tuple[str, ...],
    num_cpus: int | None,
    basins: "Policy",
    dry_run: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Compute the backgrounds of measurements.

    Each PATH is a measurement, or a folder of measurements (*.rtdc that hold
    images, themselves or through basins). Results of earlier runs are skipped:
    files *_bg.rtdc without images of their own.

    The result is a new file next to each measurement, with _bg added to its
    name, unless --output or --in-place says otherwise. If that file exists, the
    background is added to it, in place of an earlier one; but a file that holds
    images of its own changes only with --in-place. Files change wholly or not
    at all.

    Prints a line for each measurement; MB/s are those of its frames,
    uncompressed. A bar shows the progress if this is a terminal.
    """
    with _one_line_errors(Mistake):
        if quiet and verbose:
            raise ValueError("there can be only one of --quiet and --verbose")
        from sparsemed.jobs.selection import choose_runs
        from sparsemed.kernels.cores import check_num_cpus
        from sparsemed.parameters import Parameters
        from sparsemed.rtdc.pipeline_id import to_ppid

        parameters = Parameters(**_parse_settings(settings))
        num_cpus = check_num_cpus(num_cpus)
        level = logging.ERROR if quiet else logging.INFO if verbose else logging.WARNING
        with _log_lines(level):
            runs = choose_runs(paths, recursive=recursive, output=output, in_place=in_place)

    show_bar = _is_terminal() and not quiet
    if dry_run and not as_json and not quiet:
        click.echo(f"pipeline identifier: {to_ppid(asdict(parameters))}")
    failed = 0
    for number, run in enumerate(runs, 1):
        name = run.source.name if len(runs) == 1 else f"{number}/{len(runs)} {run.source.name}"
        row = {"input": str(run.source), "output": str(run.output)}
        try:
            with _one_line_errors(), _log_lines(level, run.source):
                run.check()
                if dry_run:
                    row |= _plan(run, parameters, basins)
                else:
                    text = printable(name) if show_bar else None
                    row |= _compute(run, parameters, num_cpus, basins, text)
                row["ppid"] = to_ppid(asdict(parameters))
        except Failure as failure:
            failed += 1
            message = failure.message
            if row["input"] not in message:
                message = f"{row['input']}: {message}"
            Failure(message).show()
            row |= {"status": "failed", "error": message}
        if as_json:
            click.echo(json.dumps(row))
        elif "error" not in row and not quiet:
            click.echo(printable((PLAN if dry_run else SUMMARY).format(**row)))
    if failed:
        if len(runs) > 1:
            click.echo(f"{failed} of {len(runs)} measurements failed", err=True)
        click.get_current_context().exit(1)


@main.command(cls=Stoppable, name="info")
@click.argument("paths", metavar="FILE...", nargs=-1, required=True, type=_Path())
@_basins
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object a file.")
def tell(paths: tuple[Path, ...], basins: "Policy", as_json: bool) -> None:
    """Tell what measurement files hold.

    Where the images and the time axis come from, which backgrounds there are,
    and whether the frames can be read on the fast path: past HDF5, by all cores.
    The exit status is 1 if a file cannot be opened as a measurement.
    """
    with _one_line_errors(Mistake):
        from sparsemed.rtdc.info import info
    failed = False
    for number, path in enumerate(paths):
        try:
            with _one_line_errors(), _log_lines(logging.ERROR):
                facts = info(path, basins)
        except Failure as failure:
            failed = True
            failure.show()
            if as_json:
                click.echo(json.dumps({"path": str(path), "error": failure.message}))
            continue
        if as_json:
            click.echo(json.dumps(asdict(facts)))
        else:
            rows = list(_rows_of(facts))
            width = max(len(title) for title, _ in rows)
            lines = [printable(f"{title:<{width}}  {text}".rstrip()) for title, text in rows]
            click.echo("\n".join([*([""] if number else []), *lines]))
    if failed:
        click.get_current_context().exit(1)


@main.command(
    cls=Stoppable, epilog=PARAMETER_HELP, short_help="Show on a page whether a background is good."
)
@click.argument("path", metavar="FILE", type=_Path())
@click.option(
    "-o",
    "--output",
    "page",
    metavar="PAGE",
    type=_Path(),
    help="The page.  [next to FILE, with _report.html]",
)
@click.option("-k", "settings", metavar="KEY=VALUE", multiple=True, help="Set a parameter.")
@click.option("--num-cpus", type=int, help="Largest number of threads.  [all cores available]")
@_basins
def report(
    path: Path,
    page: Path | None,
    settings: tuple[str, ...],
    num_cpus: int | None,
    basins: "Policy",
) -> None:
    """Show on an HTML page whether the background of the measurement FILE is good.

    The background is computed for the page, and FILE stays as it is. Parameters
    are those of the background that FILE holds, if there is one, but for what -k
    sets. The page is one file, which can be sent and needs no network.
    """
    with _one_line_errors(Mistake):
        wanted = _parse_settings(settings)
    with _one_line_errors(), _log_lines(logging.WARNING, path):
        if page is None:
            page = path.with_name(f"{path.stem}_report.html")
        from sparsemed.background import compute_background
        from sparsemed.report import check_report, stored_parameters, write_report

        check_report(page)
        parameters = stored_parameters(path, basins) | wanted
        background = compute_background(
            path,
            num_cpus=num_cpus,
            progress=_is_terminal() or None,
            basins=basins,
            **parameters,
        )
        write_report(background, page)
    click.echo(printable(f"{page}: {background}"))


@main.command(cls=Stoppable, name="recover")
@click.argument("paths", metavar="FILE...", nargs=-1, required=True, type=_Path())
def undo(paths: tuple[Path, ...]) -> None:
    """Undo interrupted changes of files.

    A program that is killed while it patches a FILE leaves a journal beside it,
    FILE.sparsemed-journal. The old state is restored from that. All commands do
    so with the files they open; this one is for a file that other programs are
    to open first. The exit status is 1 if a file is missing or cannot be restored.
    """
    with _one_line_errors(Mistake):
        from sparsemed.hdf5.commit import recover
    failed = False
    for path in paths:
        try:
            with _one_line_errors():
                restored = recover(path)
                if not path.is_file():
                    what = "is not a file" if path.exists() else "there is no such file"
                    raise FileNotFoundError(f"{path}: {what}")
        except Failure as failure:
            failed = True
            failure.show()
        else:
            click.echo(printable(f"{path}: {'restored' if restored else 'nothing to undo'}"))
    if failed:
        click.get_current_context().exit(1)


@main.command(cls=Stoppable, short_help="Show what it does, on made-up data.")
@click.option(
    "--out",
    "folder",
    type=_Path(file_okay=False),
    default=Path("sparsemed-demo"),
    show_default=True,
    help="Folder for the files that are made.",
)
@click.option(
    "--case",
    type=click.Choice(["plain", "cells", "flicker"]),
    default="plain",
    show_default=True,
    help="A good measurement, one with slow cells, or one with an unsteady lamp.",
)
def demo(folder: Path, case: str) -> None:
    """Make a small measurement, compute its background, check it, judge it, and draw it.

    Nothing is downloaded. Files of an earlier demo are replaced, other measurements are not.
    """
    with _one_line_errors():
        _run_demo(folder, case)


class _Verbatim(click.Command):
    """A command that takes all that follows it as it is, ``--help`` and ``--`` included."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.args = args
        return args


@main.command(
    cls=_Verbatim, short_help="Run ChipStream with this background.", options_metavar="ARGS…"
)
@click.pass_context
def chipstream(context: click.Context) -> None:
    """Run ChipStream's command line, with sparsemed computing the background.

    All arguments are those of chipstream-cli: sparsemed chipstream --help
    """
    with _one_line_errors(Mistake):
        # ChipStream comes before anything that imports Numba: it asks for one thread per
        # process, which Numba must know before it starts any. Decoding frames is not affected.
        try:
            from chipstream.cli.cli_main import chipstream_cli
        except ImportError as error:
            raise ImportError(
                f'ChipStream cannot be imported ({error}): pip install "sparsemed[chipstream]"'
            ) from error
        from sparsemed.dcnum import register

        register()
    chipstream_cli(context.args, prog_name="chipstream-cli")


def _run_demo(folder: Path, case: str) -> None:
    from sparsemed.demo import check_replaceable, differences_from_definition, make_measurement
    from sparsemed.jobs.job import BackgroundSparseMed

    folder.mkdir(parents=True, exist_ok=True)
    name = "demo" if case == "plain" else f"demo-{case}"
    measurement = folder / f"{name}.rtdc"
    output = folder / f"{name}_bg.rtdc"
    picture = folder / f"{name}.png"
    for path in (measurement, output):
        check_replaceable(path)
    for path in (measurement, output, picture):
        path.unlink(missing_ok=True)

    click.echo("Making a measurement …")
    make_measurement(measurement, case=case)
    click.echo("Computing its background (the first time also compiles, a few seconds) …")
    seconds = []
    for _ in range(2):
        began = time.perf_counter()
        with BackgroundSparseMed(measurement, output) as job:
            job.process()
        seconds.append(time.perf_counter() - began)
    result = job.background
    assert result is not None
    click.echo("Checking it against the definition …")
    wrong = differences_from_definition(result, measurement)

    size = measurement.stat().st_size / 1e6
    rows = [
        ("measurement", f"{measurement} ({len(result)} frames, {size:.0f} MB)"),
        ("background", f"{output}"),
        ("pipeline identifier", job.get_ppid()),
        ("background images", f"{len(result.series)}, of which {len(result.images)} were kept"),
        ("time", f"{seconds[1]:.2f} s (first time {seconds[0]:.2f} s)"),
        ("differences from the definition", f"{wrong}"),
        ("picture", _draw_demo(result, picture)),
    ]
    width = max(len(title) for title, _ in rows)
    click.echo("\n".join(["", *(f"{title:<{width}}  {text}" for title, text in rows), ""]))
    findings = result.quality()
    for finding in findings:
        if not finding.is_good:
            click.echo(f"{finding}")
    if all(finding.is_good for finding in findings):
        click.echo(f"The background is good, by all {len(findings)} numbers that were looked at.")
    if wrong:
        raise ValueError("the background is not what it is defined to be; please report this")


def _draw_demo(result: "sparsemed.SparseBackground", picture: Path) -> str:
    """Save the page of pictures and return its path, or why there is none."""
    try:
        result.plot().savefig(picture, dpi=150)
    except ImportError:
        return 'skipped; matplotlib is missing: pip install "sparsemed[plot]"'
    return str(picture)


PLAN = (
    "{input}: {frames:,} frames of {height} × {width}, {windows:,} windows "
    "of {window:,} frames -> {output} ({change})"
)

SUMMARY = (
    "{input}: {frames:,} frames, {windows:,} windows, {kept:,} kept, {seconds:.2f} s, "
    "{megabytes_per_second:,.0f} MB/s -> {output}"
)


def _plan(run: "Run", parameters: "Parameters", basins: "Policy") -> dict[str, Any]:
    """Say what `_compute` would do, after the checks that come before its work."""
    from sparsemed.background import measurement_frames, measurement_time, window_length
    from sparsemed.method.time_axis import step_times
    from sparsemed.rtdc.measurement import Measurement
    from sparsemed.rtdc.output import check_output

    with Measurement(run.source, basins) as measurement:
        frames, height, width = measurement_frames(measurement, 1).shape
        axis = measurement_time(measurement)
    if run.output.parent.is_dir() or not run.folder_is_made:
        check_output(run.output, frames, run.source)
    change = "into the file that is there" if run.output.exists() else "new file"
    if run.in_place:
        change = "into the measurement itself"
    return {
        "status": "planned",
        "frames": frames,
        "height": height,
        "width": width,
        "windows": len(step_times(axis, parameters.split_time)),
        "window": window_length(parameters.kernel_size, axis),
        "change": change,
    }


def _compute(
    run: "Run", parameters: "Parameters", num_cpus: int, basins: "Policy", name: str | None
) -> dict[str, Any]:
    """Compute and write a background, with a bar of that name."""
    from sparsemed.jobs.job import BackgroundSparseMed
    from sparsemed.progress import bar

    if run.folder_is_made:
        run.output.parent.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    job = BackgroundSparseMed(
        run.source, run.output, num_cpus=num_cpus, basins=basins, **asdict(parameters)
    )
    with job, bar(job.image_count, name, keep=False) if name else nullcontext() as progress:
        job.process(progress)
    seconds = time.perf_counter() - began
    result = job.background
    assert result is not None
    height, width = job.image_shape
    size = len(result) * height * width * result.images.itemsize
    return {
        "status": "done",
        "frames": len(result),
        "height": height,
        "width": width,
        "windows": len(result.series),
        "kept": len(result.images),
        "seconds": round(seconds, 3),
        "megabytes_per_second": round(size / seconds / 1e6, 1),
    }


@contextmanager
def _log_lines(level: int, about: Path | None = None) -> Iterator[None]:
    """Show what the package logs from some level on, as lines that say what they are about."""
    logger = logging.getLogger("sparsemed")
    before = logger.level
    handler = _LogLines(about)
    logger.addHandler(handler)
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.setLevel(before)
        logger.removeHandler(handler)


def _is_terminal() -> bool:
    """Whether somebody sees a bar. There is no stderr at all after ``2>&-``."""
    return sys.stderr is not None and sys.stderr.isatty()


class _LogLines(logging.Handler):
    """Writes to the terminal, above the bar if there is one."""

    def __init__(self, about: Path | None) -> None:
        super().__init__()
        self.about = None if about is None else str(about)

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        if sys.stderr is None:
            return
        message = record.getMessage()
        if self.about is not None and self.about not in message:
            message = f"{self.about}: {message}"
        line = printable(f"{record.levelname.capitalize()}: {message}")
        with suppress(OSError):  # a measurement does not fail because nobody can be warned
            tqdm.write(line, file=sys.stderr)


def _rows_of(facts: "Info") -> Iterator[tuple[str, str]]:
    """Yield what `sparsemed info` prints: titles and texts."""
    yield "measurement", f"{facts.path} ({_size(facts.size)})"
    if (images := facts.images) is not None:
        count, height, width = images.count, images.height, images.width
        yield "images", f"{count:,} frames of {height} × {width} pixels, {images.dtype}"
        yield "", _place(facts.path, images.source, images.dataset, images.mapped)
        chunks = "not in chunks"
        if images.chunks is not None:
            chunks = f"chunks of {' × '.join(map(str, images.chunks))}"
        filters = ", ".join(images.filters) or "no filters"
        yield "stored as", f"{chunks}, {filters}, {_size(images.stored_bytes)}"
        slow = f"no, HDF5 has to read the frames: {images.obstacle}"
        yield "fast path", "yes" if images.obstacle is None else slow
    else:
        yield "images", "none"
    if (axis := facts.time) is not None:
        yield "time", f"{axis.span:,.3f} s from first to last frame"
        yield "", f"from {axis.text.replace(f'{facts.path}: ', '')}"
        if not axis.ascends:
            yield "", "it falls from some frames to the next"
        if axis.frame_rate is not None:
            yield "frame rate", f"{axis.frame_rate:g} Hz"
    for number, each in enumerate(facts.backgrounds):
        title = "background" if number == 0 else "hidden background"
        offsets = "with" if each.offsets else "without"
        identifier = each.ppid or "unknown pipeline"
        yield title, f"{identifier}, {each.count:,} images, {offsets} offsets"
        yield "", _place(facts.path, each.source, each.dataset, each.mapped)
    if not facts.backgrounds:
        yield "background", "none"
    for basin in facts.basins:
        features = "whatever it has" if basin.features is None else ", ".join(basin.features)
        mapped = f", mapped by {basin.mapping}" if basin.mapping else ""
        yield "basin", f"'{basin.name}' ({basin.kind}): {features}{mapped}"
        problem = f": {basin.problem}" if basin.problem else ""
        yield "", f"{basin.target}{problem}"
    for problem in facts.problems:
        yield "problem", problem


def _place(path: str, source: str, dataset: str, mapped: bool) -> str:
    within = dataset.removeprefix(f"{path}: ")
    return f"{source}{', mapped' if mapped else ''}: {within}"


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"


def _parse_settings(settings: tuple[str, ...]) -> dict[str, Any]:
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
