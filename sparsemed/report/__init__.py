"""An HTML page on a background: its verdict and its pictures. Needs matplotlib.

The page is a single file that needs no network. It is made from `page.html` (a `string.Template`),
`page.css` and `page.js`. All text passes through `escaped`, so that no content of a measurement
becomes markup, and none of it gets into the script. The content security policy of the page also
forbids all other scripts.

May import: plotting, quality, rtdc, method, hdf5, storage.
"""

from os import PathLike
from pathlib import Path
from typing import Any

from sparsemed.install_hint import how_to_install
from sparsemed.method.result import Background
from sparsemed.quality import Finding
from sparsemed.quality.trying import examine
from sparsemed.report.facts import read_facts
from sparsemed.report.page import about, make_page
from sparsemed.report.tries import read_tries
from sparsemed.storage import disk


def write_report(
    background: Background,
    path: str | PathLike[str],
    frames: Any = None,
    num_cpus: int | None = None,
) -> tuple[Finding, ...]:
    """Write an HTML page that shows whether a background is good.

    The page is one file, needs no network, and works on a phone and in print.

    Parameters
    ----------
    background : Background
    path : str or path
        The page. It changes wholly or not at all; an earlier page is replaced,
        but no other file.
    frames : array-like, shape (N, H, W), or str or path, optional
        The frames of the background. Default: those of the file `background.origin`.
        Without either, the page has no frames.
    num_cpus : int, optional
        Largest number of threads to try settings. Default: all available cores.

    Returns
    -------
    tuple of Finding
        The findings on the page; see `sparsemed.quality.assess`.

    Raises
    ------
    ImportError
        If matplotlib is missing.
    FileExistsError
        If there is a file of that name that is no HTML page.
    OSError
        If the page cannot be written, or the measurement cannot be read.
    ValueError
        If the images do not fit the background.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> import sparsemed
    >>> from sparsemed.report import write_report
    >>> frames = np.full((100, 40, 60), 90, dtype=np.uint8)
    >>> background = sparsemed.compute_background(frames, time=np.arange(100) / 10)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     findings = write_report(background, f"{folder}/report.html", frames)
    """
    path = Path(path)
    check_report(path)
    view, findings = examine(background, frames, num_cpus=num_cpus)
    facts = read_facts(background, view.sample)
    earlier = [path]
    if facts.images_file is not None:  # the measurement of a result may have its own page
        earlier.insert(0, path.with_name(f"{facts.images_file.stem}_report.html"))
    tries = read_tries(earlier, about(background, facts))
    page = make_page(view, facts, findings, path.absolute().parent, tries)
    disk.replace(path, page.encode("utf-8", errors="replace"))
    return findings


def check_report(path: str | PathLike[str]) -> None:
    """Check that a report can be written: matplotlib is installed, and the name can be used.

    Raises
    ------
    ImportError
        If matplotlib is missing.
    FileExistsError
        If there is a file of that name that is no HTML page.
    OSError
        If the folder is missing or read-only.
    """
    path = Path(path)
    try:
        import sparsemed.plotting  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"a report needs matplotlib ({error}): {how_to_install('matplotlib')}"
        ) from error
    disk.check_folder(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path}: is a folder; give the name of a file in it")
    if path.exists():
        # a mistyped name must not cost a measurement
        with open(path, "rb") as file:
            start = file.read(512).lstrip().lower()
        if start and not start.startswith((b"<!doctype html", b"<html")):
            raise FileExistsError(
                f"{path}: is no HTML page, and is not replaced; choose another name"
            )
