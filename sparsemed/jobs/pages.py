"""Reports on many measurements: chooses the pages and makes each."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sparsemed.hdf5.file_access import Policy
from sparsemed.jobs.runs import check_folder
from sparsemed.jobs.selection import check_distinct, check_paths, choose_files, goes_to_file
from sparsemed.jobs.stack_runs import ABOUT_NONE, StackOptions, part_stacks
from sparsemed.storage.places import AnyPath

if TYPE_CHECKING:
    from sparsemed.quality import Finding

PAGE_SUFFIXES = (".html", ".htm")
"""Endings of the output of a report that is a file; any other output is a folder."""


class Page(NamedTuple):
    """A measurement or its result, and the page of its report.

    Slow imports are inside the methods.

    Attributes
    ----------
    source : Path or RemotePath
    output : Path
    folder_is_made : bool
        Whether the folder of the page is made if it is missing.
    stack : StackOptions or None
        Options of a stack of images; None for a measurement.
    """

    source: AnyPath
    output: Path
    folder_is_made: bool = False
    stack: StackOptions | None = None

    def write(
        self, wanted: dict[str, Any], num_cpus: int | None, basins: Policy, has_bar: bool
    ) -> "tuple[Finding, ...]":
        """Compute the background with the stored parameters, changed by `wanted`, and report it.

        Raises
        ------
        OSError, ValueError, TypeError, ImportError
            If the page cannot be written, which is checked first, or the background cannot be
            computed.
        """
        from sparsemed.background import compute_background
        from sparsemed.report import check_report, write_report
        from sparsemed.rtdc.measurement import Measurement
        from sparsemed.rtdc.stored_backgrounds import stored_parameters

        check_folder(self.output, is_made=self.folder_is_made)
        if self.folder_is_made:
            self.output.parent.mkdir(parents=True, exist_ok=True)
        check_report(self.output)
        parameters = wanted
        if self.stack is None:
            with Measurement(self.source, basins) as measurement:
                parameters = stored_parameters(measurement) | wanted
        else:
            parameters |= {"frame_rate": self.stack.frame_rate, **self.stack.choice._asdict()}
        background = compute_background(
            self.source, num_cpus=num_cpus, progress=has_bar, basins=basins, **parameters
        )
        return write_report(background, self.output, num_cpus=num_cpus)


def choose_pages(
    paths: Sequence[AnyPath],
    stack: StackOptions = ABOUT_NONE,
    *,
    recursive: bool = False,
    output: Path | None = None,
) -> list[Page]:
    """Return the measurements and results in files and folders, each with its page.

    Parameters
    ----------
    paths, recursive
        See `sparsemed.jobs.selection.choose_files`. If a measurement has a result beside it, the
        result is taken, as it has the parameters. Stacks must be given by themselves.
    stack : StackOptions
        Options of stacks.
    output : Path, optional
        A page (by its ending, or if the file exists) or a folder for pages. Default: next to each
        file, with ``_report.html``.

    Raises
    ------
    FileNotFoundError, ValueError
        See `sparsemed.jobs.selection.choose_runs`.
    """
    to_file = output is not None and (output.is_file() or goes_to_file(output, PAGE_SUFFIXES))
    if len(paths) > 1:  # a single missing one fails by itself
        check_paths(paths)
    pages = []
    stacks, rest = part_stacks(paths, stack, recursive=recursive)
    chosen = choose_files(rest, "backgrounds", recursive=recursive) if rest else []
    for source, within in [*chosen, *((path, Path(path.name)) for path in stacks)]:
        name = f"{source.stem}_report.html"
        if output is None:
            beside = source.parent if isinstance(source, Path) else Path()
            pages.append(Page(source, beside / name))
        elif to_file:
            pages.append(Page(source, output))
        else:
            pages.append(Page(source, output / within.with_name(name), folder_is_made=True))
    check_distinct((page.source, page.output) for page in pages)
    return [page._replace(stack=stack) if page.source in stacks else page for page in pages]
