"""The page, section by section."""

import base64
import contextlib
import hashlib
import platform
from collections.abc import Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from sparsemed.method.result import Background
from sparsemed.parameters import Parameters
from sparsemed.quality.finding import CANNOT_TELL, GOOD, LOOK_HERE, Finding, overall
from sparsemed.quality.view import View
from sparsemed.report.commands import compute_command, in_words, report_command
from sparsemed.report.facts import Facts
from sparsemed.report.markup import escaped, seconds, section, table
from sparsemed.report.slides import opens_at, pictures_section, series_section, worst_section
from sparsemed.report.tries import Try, as_text, with_another
from sparsemed.report.tries import in_words as tries_in_words
from sparsemed.rtdc.pipeline_id import parse_value, to_ppid
from sparsemed.storage.places import AnyPath
from sparsemed.version import __version__


def make_page(
    view: View,
    facts: Facts,
    found: tuple[Finding, ...],
    at: Path,
    tries: Sequence[Try] = (),
) -> str:
    """Return the page as text.

    Parameters
    ----------
    view, facts, found
    at : Path
        The folder of the page, in which its commands work.
    tries : sequence of Try
        Earlier tries for this measurement.
    """
    background, sample = view.background, view.sample
    folder = Path(__file__).parent
    style, script, template = (
        (folder / f"page.{kind}").read_text(encoding="utf-8") for kind in ("css", "js", "html")
    )
    findings = sorted(found, key=lambda finding: _ORDER.index(finding.verdict))
    source = background.source
    name = "array of images" if background.origin is None else background.origin.name
    sections = [
        worst_section(view),
        _warnings(background),
        findings_section(findings, source, at),
        series_section(background, opens_at(view)),
        pictures_section(background, sample),
        _parameters(background, facts, at),
        _measurement(background, facts),
        _versions(),
    ]
    now = Try(about(background, facts), in_words(background.parameters), overall(found))
    made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return Template(template).substitute(
        generator=escaped(f"sparsemed {__version__}"),
        policy=(
            "default-src 'none'; img-src data:; "
            f"style-src '{digest(style)}'; script-src '{digest(script)}'"
        ),
        title=escaped(f"{name} – background"),
        style=style,
        script=script,
        kind="Background of the images" if source is None else "Background of the measurement",
        name=escaped(name),
        headline=headline(findings, _advised(view, facts, at)),
        tries=escaped(as_text(with_another(tries, now))),
        tried=_tried(tries, now),
        summary=escaped(_summary(background)),
        ppid=escaped(to_ppid(background.parameters)),
        sections="\n".join(sections),
        footer=escaped(f"Made by sparsemed {__version__} on {made}. One file; it loads nothing."),
    )


_ORDER = (LOOK_HERE, CANNOT_TELL, GOOD)

_SIGN = {LOOK_HERE: "▲ look here", CANNOT_TELL: "? cannot tell", GOOD: "✓ good"}


def _advised(view: View, facts: Facts, at: Path) -> str:
    """Return the command that computes the background with the settings that helped in trials."""
    if view.cure is None or not view.cure.settings:
        return ""
    settings = [each.partition("=") for each in view.cure.settings.split(", ")]
    values: dict[str, Any] = {name: parse_value(name, text) for name, _, text in settings}
    return _command(view.background, replace(view.background.parameters, **values), facts, at)


def _command(background: Background, parameters: Parameters, facts: Facts, at: Path) -> str:
    """Return the command that writes a background to a file; empty without a measurement."""
    source, file = background.source, facts.images_file
    if source is None or file is None or background.is_loaded:
        return ""
    return compute_command(parameters, file, None if file == source else source, at)


def headline(findings: list[Finding], command: str = "") -> str:
    """Return the verdict, the findings that are not good, and what to do."""
    verdict = overall(findings)
    poor = [finding for finding in findings if not finding.is_good]
    if verdict == GOOD:
        return (
            '<div class="headline good" id="headline"><strong class="verdict">✓ Good</strong>'
            f"All {len(findings)} numbers are as they should be.</div>"
        )
    sign, _, words = _SIGN[verdict].partition(" ")
    say = f"{len(poor)} of {len(findings)} numbers call{'s' * (len(poor) == 1)} for a look:"
    if verdict == CANNOT_TELL:
        say = "Whether this background is good cannot be told:"
    listed = "".join(
        f"<li>{escaped(f.title)}: {escaped(f.advice if f.verdict == CANNOT_TELL else f.text)}</li>"
        for f in poor
    )
    listed += "".join(
        f'<li class="do"><b>What to do:</b> {escaped(f.advice)}</li>'
        for f in poor
        if f.verdict == LOOK_HERE and not f.advice.startswith("See “")
    )
    if command:
        listed += f'<li class="do"><code>{escaped(command)}</code></li>'
    return (
        f'<div class="headline look" id="headline"><strong class="verdict">{sign} '
        f"{words.capitalize()}</strong>{say}<ul>{listed}</ul></div>"
    )


def _summary(background: Background) -> str:
    _, height, width = background.images.shape
    duration = seconds(np.ptp(background.time))
    return (
        f"{len(background):,} frames of {height} × {width} pixels in {duration}; {background.fate}."
    )


def _warnings(background: Background) -> str:
    """Return the section with the warnings, if there are any."""
    if not background.warnings:
        return ""
    listed = "".join(f"<li>{escaped(text)}</li>" for text in background.warnings)
    return section("warnings", "Warnings", f"<ul>{listed}</ul>")


def about(background: Background, facts: Facts) -> str:
    """Return a key of a measurement, to find earlier tries for it."""
    source = facts.images_file or background.origin
    name = facts.identifier or ("" if source is None else source.name)
    return f"{name}, {len(background)} frames"


def _tried(tries: Sequence[Try], now: Try) -> str:
    text = tries_in_words(tries, now.parameters)
    return f'<p id="tried">Tried before: {escaped(text)}.</p>' if text else ""


def findings_section(
    findings: list[Finding], source: AnyPath | None = None, at: Path | None = None
) -> str:
    """Return the section with the findings; for a measurement, with a command to try others."""
    poor = "".join(
        f'<li class="look"><h3><span class="verdict">{_SIGN[finding.verdict]}</span> '
        f"{escaped(finding.title)}</h3>"
        f'<p class="value">{escaped(finding.text)}</p>'
        f'<p class="explanation">{escaped(finding.explanation)}</p>'
        f'<p class="advice"><b>What to do:</b> {escaped(finding.advice)}</p></li>'
        for finding in findings
        if not finding.is_good
    )
    good = "".join(
        f'<li class="good"><details><summary><span class="verdict">✓ good</span> '
        f"<b>{escaped(finding.title)}</b><br>{escaped(finding.text)}</summary>"
        f'<p class="explanation">{escaped(finding.explanation)}</p></details></li>'
        for finding in findings
        if finding.is_good
    )
    hint = ""
    if source is not None and at is not None and any(not finding.is_good for finding in findings):
        command = report_command(source, at)
        hint = (
            '<p class="note">To compare this page with one on other parameters: '
            f"<code>{escaped(command)}</code></p>"
        )
    return section("numbers", "Numbers", f'<ul class="cards">{poor}{good}</ul>{hint}')


_MEANING = {
    "kernel_size": "frames in the window that a background image is the median of",
    "split_time": "seconds from one background image to the next",
    "thresh_cleansing": "larger values drop more background images; 0 keeps a fixed fraction",
    "frac_cleansing": "fraction of the background images to keep",
    "offset_correction": "whether each frame gets a brightness offset",
}


def _parameters(background: Background, facts: Facts, at: Path) -> str:
    rows = []
    for entry in fields(Parameters):
        value = getattr(background.parameters, entry.name)
        usual = "default" if value == entry.default else f"default: {entry.default}"
        rows.append(
            f'<tr><th scope="row"><code>{entry.name}</code><br>{escaped(_MEANING[entry.name])}</th>'
            f'<td><b>{escaped(value)}</b> <span class="note">({escaped(usual)})</span></td></tr>'
        )
    table = f'<table class="parameters"><tbody>{"".join(rows)}</tbody></table>'
    command = ""
    if line := _command(background, background.parameters, facts, at):
        command = f"<p>To write it to a file: <code>{escaped(line)}</code></p>"
    return section("parameters", "Parameters", f"{table}{command}")


def _measurement(background: Background, facts: Facts) -> str:
    _, height, width = background.series.shape
    images = f"{len(background.series):,}, of which {len(background.images):,} are kept"
    if background.is_loaded:
        images = f"{len(background.images):,}, without those that were dropped"
    rows = [
        *facts.rows,
        ("Frames", f"{len(background):,}"),
        ("Image size", f"{height} × {width} pixels (height × width), {background.images.dtype}"),
        ("Duration", seconds(float(np.ptp(background.time)))),
        ("Frames per second", _frames_per_second(background, facts.camera_rate)),
        ("Background images", images),
    ]
    metadata = ""
    if facts.metadata:
        metadata = (
            f"<details><summary>Metadata of the file ({len(facts.metadata)})</summary>"
            f"{table(facts.metadata)}</details>"
        )
    return section("measurement", "Measurement", f"{table(rows)}{metadata}")


def _frames_per_second(background: Background, camera_rate: float | None) -> str:
    """Return the rate of recorded frames, and that of the camera if it is higher."""
    duration = float(np.ptp(background.time))
    if duration <= 0:
        return "unknown"
    recorded = (len(background) - 1) / duration
    if camera_rate is None or not camera_rate > 1.05 * recorded:
        return _rate(recorded)
    return f"{_rate(recorded)} recorded, of {_rate(camera_rate)} that the camera took"


def _rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _versions() -> str:
    rows: list[tuple[str, object]] = [("sparsemed", __version__)]
    for package in ("numpy", "numba", "h5py", "hdf5plugin", "imagecodecs", "matplotlib"):
        with contextlib.suppress(PackageNotFoundError):
            rows.append((package, version(package)))
    rows += [
        ("Python", platform.python_version()),
        ("System", f"{platform.system()} {platform.machine()}"),
    ]
    return section("versions", "Versions", table(rows))


def digest(text: str) -> str:
    """Return the hash of a style or a script for a content security policy."""
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"
