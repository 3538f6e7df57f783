"""The command ``sparsemed info``: facts as lines."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sparsemed.cli.messages import Mistake, log_lines, one_line_errors
from sparsemed.cli.options import (
    basins_option,
    paths_argument,
    read_stack_options,
    recursive_option,
    stack_options,
)
from sparsemed.cli.results import Ending, for_each
from sparsemed.cli.stopping import Stoppable
from sparsemed.printable import as_json as to_json
from sparsemed.printable import printable

if TYPE_CHECKING:
    from sparsemed.hdf5.file_access import Policy
    from sparsemed.jobs.stack_info import StackInfo
    from sparsemed.quality import Finding
    from sparsemed.rtdc.info import Info
    from sparsemed.storage.places import AnyPath


@click.command(cls=Stoppable)
@paths_argument
@recursive_option
@basins_option
@stack_options
@click.option(
    "--check", is_flag=True, help="Also open basins in a network (implies --basins network)."
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object for each file.")
def info(
    paths: "tuple[AnyPath, ...]",
    recursive: bool,
    basins: "Policy",
    check: bool,
    as_json: bool,
    fps: float | None,
    **choice: Any,
) -> None:
    """Show what measurement files hold.

    Each PATH is a file, or a folder of files *.rtdc, results included. Shows where
    the images and the time axis come from, which backgrounds there are, and
    whether the frames can be read on the fast path: past HDF5, by all cores.

    A PATH may also be a stack of images; see sparsemed compute.

    The exit status is 1 if a file cannot be opened as a measurement.
    """
    with one_line_errors(Mistake):
        if check and basins not in ("any", "network"):
            raise ValueError(
                f"--check implies --basins network; leave out --basins {basins} or --check"
            )
        from sparsemed.jobs.selection import choose_files
        from sparsemed.jobs.stack_info import stack_info
        from sparsemed.jobs.stack_runs import part_stacks
        from sparsemed.rtdc import info as measurement

        with log_lines(logging.WARNING):
            of_stack = read_stack_options(fps, **choice)
            stacks, rest = part_stacks(paths, of_stack, recursive=recursive)
            chosen = choose_files(rest, "all", recursive=recursive) if rest else []
    ending = Ending("files")

    def tell(path: Path) -> tuple[str, str]:
        is_one = path in stacks
        policy: Policy = "network" if check else basins
        facts: Any = (
            stack_info(path, of_stack, policy) if is_one else measurement.info(path, policy)
        )
        verdict, findings = (None, ()) if is_one else _judged(facts)
        if as_json:
            judged = {"verdict": verdict, "findings": [each._asdict() for each in findings]}
            return "told", to_json(asdict(facts) | ({} if is_one else judged))
        rows = list(_rows_of_stack(facts) if is_one else _rows_of(facts, verdict, findings))
        width = max(len(title) for title, _ in rows)
        lines = [printable(f"{title:<{width}}  {text}".rstrip()) for title, text in rows]
        return "told", "\n".join([*([""] if ending.verdicts else []), *lines])

    def tell_failure(path: Path, message: str) -> str:
        return to_json({"path": str(path), "error": message})

    paths_of_all = [*(path for path, _ in chosen), *stacks]
    for_each(paths_of_all, tell, ending, logging.ERROR, tell_failure if as_json else None)
    ending.show(with_verdicts=False)
    ending.exit_if_failed()


def _rows_of_stack(facts: "StackInfo") -> Iterator[tuple[str, str]]:
    """Yield what `sparsemed info` prints of a stack: titles and texts."""
    yield "stack", f"{facts.path} ({facts.kind}, {_size(facts.size)})"
    count, height, width = facts.count, facts.height, facts.width
    yield "images", f"{count:,} frames of {height} × {width} pixels, {facts.dtype}"
    if facts.files:
        yield "", f"in natural order, from {facts.files[0]} to {facts.files[1]}"
    if facts.frame_rate is not None:
        yield "frame rate", f"{facts.frame_rate:g} Hz"
    if facts.span is None:
        yield "time", "unknown; set the frame rate with --fps"
    else:
        yield "time", f"{facts.span:,.3f} s from first to last frame"


def _rows_of(
    facts: "Info", verdict: str | None, findings: "Sequence[Finding]"
) -> Iterator[tuple[str, str]]:
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
            yield "", "falls between some frames"
        if axis.frame_rate is not None:
            yield "frame rate", f"{axis.frame_rate:g} Hz"
    for number, each in enumerate(facts.backgrounds):
        title = "background" if number == 0 else "hidden background"
        offsets = "with" if each.offsets else "without"
        identifier = each.ppid or "unknown pipeline"
        yield title, f"{identifier}, {each.count:,} images, {offsets} offsets"
        yield "", _place(facts.path, each.source, each.dataset, each.mapped)
        if number == 0 and verdict is not None:
            yield "verdict", verdict
            for finding in findings:
                if not finding.is_good:
                    yield from (("", line) for line in str(finding).splitlines())
    if not facts.backgrounds:
        yield "background", "none"
    for basin in facts.basins:
        features = "all its features" if basin.features is None else ", ".join(basin.features)
        mapped = f", mapped by {basin.mapping}" if basin.mapping else ""
        yield "basin", f"'{basin.name}' ({basin.kind}): {features}{mapped}"
        yield "", ": ".join(filter(None, (basin.target, basin.problem)))
    for problem in facts.problems:
        yield "problem", problem


def _judged(facts: "Info") -> "tuple[str | None, Sequence[Finding]]":
    """Return the verdict that a file holds, and the findings; none if it was not judged."""
    if not facts.findings:
        return None, ()
    from sparsemed.quality import overall
    from sparsemed.result import as_findings

    findings = as_findings(facts.findings)
    return (overall(findings) if findings else None), findings


def _place(path: str, source: str, dataset: str, mapped: bool) -> str:
    within = dataset.removeprefix(f"{path}: ")
    return f"{source}{', mapped' if mapped else ''}: {within}"


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"
