"""Reports on many measurements: which pages they go to, and how one is made."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sparsemed.hdf5.file_access import Policy
from sparsemed.jobs.runs import check_folder
from sparsemed.jobs.selection import check_distinct, check_paths, choose_files, goes_to_file

if TYPE_CHECKING:
    from sparsemed.quality import Finding

PAGE_SUFFIXES = (".html", ".htm")
"""Endings that make the output of a report a file; all else is a folder."""


class Page(NamedTuple):
    """A measurement, or its result, and the page of its report.

    What takes long to import is imported for that.

    Attributes
    ----------
    source, output : Path
    folder_is_made : bool
        Whether the folder of the page is one for pages, to be made if need be.
    """

    source: Path
    output: Path
    folder_is_made: bool = False

    def write(
        self, wanted: dict[str, Any], num_cpus: int | None, basins: Policy, has_bar: bool
    ) -> "tuple[Finding, ...]":
        """Compute the background anew, with what is stored but for what is wanted, and report it.

        Raises
        ------
        OSError, ValueError, TypeError, ImportError
            If it cannot be computed, or the page cannot be written; the latter is found out first.
        """
        from sparsemed.background import compute_background
        from sparsemed.report import check_report, write_report
        from sparsemed.rtdc.stored_backgrounds import stored_parameters

        check_folder(self.output, is_made=self.folder_is_made)
        if self.folder_is_made:
            self.output.parent.mkdir(parents=True, exist_ok=True)
        check_report(self.output)
        parameters = stored_parameters(self.source, basins) | wanted
        background = compute_background(
            self.source, num_cpus=num_cpus, progress=has_bar, basins=basins, **parameters
        )
        return write_report(background, self.output)


def choose_pages(
    paths: Sequence[Path], *, recursive: bool = False, output: Path | None = None
) -> list[Page]:
    """Return the measurements and results that files and folders stand for, each with its page.

    Parameters
    ----------
    paths, recursive
        See `sparsemed.jobs.selection.choose_files`. Of a measurement and a result beside it, the
        result is taken, which has the parameters that count.
    output : Path, optional
        The page (by its ending, or if there is one) or folder for pages. Default: next to each
        file, with ``_report.html``.

    Raises
    ------
    FileNotFoundError, ValueError
        As of `sparsemed.jobs.selection.choose_runs`.
    """
    to_file = output is not None and (output.is_file() or goes_to_file(output, PAGE_SUFFIXES))
    if len(paths) > 1:  # one that is missing fails by itself
        check_paths(paths)
    pages = []
    for source, within in choose_files(paths, "backgrounds", recursive=recursive):
        name = f"{source.stem}_report.html"
        if output is None:
            pages.append(Page(source, source.with_name(name)))
        elif to_file:
            pages.append(Page(source, output))
        else:
            pages.append(Page(source, output / within.with_name(name), folder_is_made=True))
    check_distinct((page.source, page.output) for page in pages)
    return pages
