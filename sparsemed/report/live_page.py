"""A small page on a recording in progress, which a browser reloads by itself."""

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from string import Template
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sparsemed.quality.finding import Finding
from sparsemed.report.markup import escaped, remark, section, table
from sparsemed.report.page import digest, findings_section, headline
from sparsemed.report.pictures import grey_picture, shrinkage, shrunk_note
from sparsemed.storage import disk
from sparsemed.version import __version__

AGAIN = 1
"""Seconds after which a browser reloads the page."""

POINTS = 400
"""Largest number of points in the curve of brightness."""

_MARK = b", live"
"""Bytes near the beginning of such a page, and of no other."""


class LiveState(NamedTuple):
    """The content of the page.

    Attributes
    ----------
    facts : sequence of (str, str)
        Names and values.
    image : ndarray, shape (H, W), or None
        The newest background image.
    brightness : ndarray, shape (n, 2)
        Time and brightness of each background image.
    findings : tuple of Finding
    end : str
        Why the page no longer changes, as the beginning of a sentence; empty while it does.
    """

    facts: Sequence[tuple[str, str]]
    image: NDArray[Any] | None
    brightness: NDArray[np.float64]
    findings: tuple[Finding, ...]
    end: str


class LivePage:
    """The page ``index.html`` in a folder, which is made if it is missing.

    Parameters
    ----------
    folder : Path
    name : str
        Name of the recording.

    Raises
    ------
    OSError
        If the folder is read-only, or has another file of that name.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._path = folder / "index.html"
        self._name = name
        if os.path.lexists(self._path) and _MARK not in self._path.read_bytes()[:1000]:
            raise FileExistsError(
                f"{self._path}: is no page on a recording, and is not replaced; choose another "
                "folder"
            )
        disk.make_folder(folder, "choose another folder with --page")

    def write(self, state: LiveState) -> None:
        """Replace the page as a whole.

        Raises
        ------
        OSError
            If it cannot be written.
        """
        page = make_live_page(self._name, state)
        disk.replace(self._path, page.encode())


def make_live_page(name: str, state: LiveState) -> str:
    """Return the page as text."""
    folder = Path(__file__).parent
    style, script, template = (
        (folder / name).read_text(encoding="utf-8") for name in ("page.css", "live.js", "live.html")
    )
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    goes_on = f"As of {now}. The recording goes on; this page reloads itself."
    findings = list(state.findings)
    sections = [_image(state), _brightness(state.brightness), findings_section(findings)]
    return Template(template).substitute(
        generator=escaped(f"sparsemed {__version__}"),
        policy=(
            "default-src 'none'; img-src data:; "
            f"style-src '{digest(style)}'; script-src '{digest(script)}'"
        ),
        refresh="" if state.end else f'<meta http-equiv="refresh" content="{AGAIN}">\n',
        title=escaped(f"{name} – live background"),
        style=style,
        script=script,
        name=escaped(name),
        headline=headline(findings) if findings else "",
        state=escaped(f"{state.end}, as of {now}." if state.end else goes_on),
        sections="\n".join([*sections, section("facts", "Recording", table(state.facts))]),
        footer=escaped(f"Made by sparsemed {__version__}. One file; it loads nothing."),
    )


def _image(state: LiveState) -> str:
    """Return the section with the newest image, black at its darkest, white at its brightest."""
    if state.image is None:
        return section("image", "Newest background image", remark("There is none yet."))
    shrink = shrinkage(state.image[np.newaxis])
    low, high = float(state.image.min()), float(state.image.max())
    picture = grey_picture(state.image, low, max(high, low + 1), shrink, "Background image")
    said = f"At {state.brightness[-1, 0]:.1f} s.{shrunk_note(shrink)}"
    shown = f'<div class="pictures">{picture}</div>{remark(said)}'
    return section("image", "Newest background image", shown)


def _brightness(points: NDArray[np.float64]) -> str:
    """Return the section with the brightness of the first rows of each background image."""
    if len(points) < 2:
        return ""
    some = points[np.unique(np.linspace(0, len(points) - 1, POINTS).round().astype(int))]
    times, values = some.T
    low, high = float(values.min()), float(values.max())
    middle, reach = (low + high) / 2, max(high - low, 2.0) * 0.6  # so that noise looks small
    x = 10 + 780 * (times - times[0]) / max(times[-1] - times[0], 1e-9)
    y = 90 - 80 * (values - middle) / reach
    line = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
    curve = (
        '<svg viewBox="0 0 800 180" role="img" width="100%" aria-label="Brightness over time">'
        f'<polyline points="{line}" fill="none" stroke="currentColor" stroke-width="2"/></svg>'
    )
    said = (
        f"Mean of the first rows of each background image, from {times[0]:.1f} s to "
        f"{times[-1]:.1f} s: {low:.1f} to {high:.1f} grey values, now {values[-1]:.1f}."
    )
    return section("brightness", "Brightness", f"{curve}{remark(said)}")
