"""One HTML page on a background: whether it is good, and how it looks. Needs matplotlib.

The page is a single file that loads nothing. It is put together from `report.html` (a
`string.Template`), `report.css` and `report.js`; all text passes through `_text`, so that nothing
a measurement holds can become markup, and none of it gets into the script. Should that fail, the
page's content security policy still runs no other script.
"""

import base64
import contextlib
import hashlib
import io
import logging
import math
import os
import platform
import secrets
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from html import escape
from importlib.metadata import PackageNotFoundError, version
from os import PathLike
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from sparsemed import __version__
from sparsemed.background import SparseBackground
from sparsemed.hdf5.entries import Attributes, Policy
from sparsemed.parameters import Parameters
from sparsemed.printable import printable
from sparsemed.quality import Finding, Sample, assess, take_sample
from sparsemed.rtdc.measurement import Measurement
from sparsemed.rtdc.pipeline_id import from_ppid, to_ppid

if TYPE_CHECKING:
    from matplotlib.figure import Figure

logger = logging.getLogger(__name__)

# Bounds of what the page shows, so that it stays below some 4 MB for any measurement.
_SERIES = 60  # images of the series
_FRAMES = 10  # frames before and after
_PIXELS = 100_000  # of one image; larger ones are shrunk
_SERIES_PIXELS = 1_800_000  # of all images of the series together
_FRAMES_PIXELS = 900_000  # of all frames together
_VALUE_LENGTH = 300  # characters of one value of the metadata

_DOTS_PER_INCH = 150


def write_report(
    background: SparseBackground, path: str | PathLike[str], images: Any = None
) -> None:
    """Write an HTML page that shows whether a background is good.

    The page is one file, needs no network, and works on a phone and in print.

    Parameters
    ----------
    background : SparseBackground
    path : str or path
        The page. It changes wholly or not at all; an earlier page is replaced,
        but no other file.
    images : array-like, shape (N, H, W), optional
        The frames that the background was computed from. Default: those of the
        measurement `background.source`. Without either, the page has no frames.

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
    >>> images = np.full((100, 40, 60), 90, dtype=np.uint8)
    >>> background = sparsemed.compute_background(images, time=np.arange(100) / 10)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_report(background, f"{folder}/report.html", images)
    """
    path = Path(path)
    check_report(path)
    sample = take_sample(background, images)
    facts = _read_facts(background, sample)
    page = _page(background, sample, facts)
    _write(path, page.encode("utf-8", errors="replace"))


def check_report(path: str | PathLike[str]) -> None:
    """Check that a report can be written: with the packages there are, and under this name.

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
            f'a report needs matplotlib ({error}): pip install "sparsemed[plot]"'
        ) from error
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path}: the folder does not exist; create it first")
    if not os.access(path.parent, os.W_OK):
        raise PermissionError(f"{path}: the folder is read-only")
    if path.is_dir():
        raise IsADirectoryError(f"{path}: is a folder; give the name of a file in it")
    if path.exists():
        # a mistyped name must not cost a measurement
        with open(path, "rb") as file:
            start = file.read(512).lstrip().lower()
        if start and not start.startswith((b"<!doctype html", b"<html")):
            raise FileExistsError(f"{path}: is no HTML page and is not replaced; give another name")


def stored_parameters(path: str | PathLike[str], basins: Policy = "any") -> dict[str, Any]:
    """Return the parameters of the background that a measurement holds, or the defaults.

    Parameters
    ----------
    path : str or path
        The measurement.
    basins : str
        Which other files it may lead to; see `sparsemed.compute_background`.

    Returns
    -------
    dict
        Names and values of `sparsemed.parameters.Parameters`; those of the default
        if there is no background, or one of another method.

    Raises
    ------
    OSError, ValueError
        If the measurement cannot be read.
    """
    with Measurement(path, basins) as measurement:
        ppid = _stored_ppid(measurement)
    with contextlib.suppress(ValueError):
        if ppid is not None:
            return from_ppid(ppid)
    return asdict(Parameters())


def _stored_ppid(measurement: Measurement) -> str | None:
    """Return the PPID of the background that a measurement holds; None without one."""
    stored = measurement.feature("image_bg")
    if stored is None:
        return None
    own = Attributes(stored.dataset).get("dcnum ppid background")
    ppid = measurement.metadata.get("pipeline:dcnum background") if own is None else own
    return None if ppid is None else _plain(ppid)


@dataclass(frozen=True)
class _Facts:
    """What the page says about a measurement, as rows of name and value."""

    rows: list[tuple[str, object]] = field(default_factory=list)
    metadata: list[tuple[str, object]] = field(default_factory=list)


def _read_facts(background: SparseBackground, sample: Sample | None) -> _Facts:
    if background.source is None:
        return _Facts()
    try:
        with Measurement(background.source, background.basins) as measurement:
            rows: list[tuple[str, object]] = [
                ("File", background.source),
                ("Size of the file", f"{background.source.stat().st_size / 1e6:.1f} MB"),
            ]
            image = measurement.image
            if image.mapping is not None or Path(image.dataset.file.filename) != background.source:
                rows.append(("Images from", image.label))
            rate = measurement.frame_rate
            if rate is not None:
                rows.append(("Frame rate", f"{_plain(rate)} Hz"))
            stored = _compare_stored(measurement, background, sample)
            rows.append(("Background in the file", stored))
            return _Facts(rows, sorted(measurement.metadata.items()))
    except OSError as error:
        logger.warning("The report says nothing about the measurement: %s", error)
        return _Facts([("File", f"{background.source} (could not be read any more)")])


def _compare_stored(
    measurement: Measurement, background: SparseBackground, sample: Sample | None
) -> str:
    """Say whether the background that the measurement holds is the one that is shown."""
    stored = measurement.feature("image_bg")
    if stored is None:
        return "none; the one on this page was computed for it"
    ppid = _stored_ppid(measurement)
    name = "without PPID" if ppid is None else ppid
    if ppid != to_ppid(asdict(background.parameters)):
        return f"{name}: other parameters than those of this page, which were used anew"
    if sample is None or stored.shape != (len(background), *background.images.shape[1:]):
        return f"{name}: computed anew for this page"
    # one at a time: a mapping may lead far apart
    equal = sum(
        np.array_equal(stored[number : number + 1][0], background[number])
        for number in sample.numbers.tolist()
    )
    count = len(sample.numbers)
    if equal == count:
        return f"{name}: computed anew for this page, and equal in all {count} frames compared"
    return (
        f"{name}: computed anew for this page, and different in {count - equal} of {count} frames"
    )


# The page ---------------------------------------------------------------------------------------


def _page(background: SparseBackground, sample: Sample | None, facts: _Facts) -> str:
    folder = Path(__file__).parent
    style, script, template = (
        (folder / f"page.{kind}").read_text(encoding="utf-8") for kind in ("css", "js", "html")
    )
    findings = sorted(assess(background, sample), key=lambda finding: finding.is_good)
    source = background.source
    name = "array of images" if source is None else source.name
    sections = [
        _findings(findings, source),
        _series(background),
        _frames(background, sample),
        _pictures(background, sample),
        _parameters(background, source),
        _measurement(background, facts),
        _versions(),
    ]
    made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return Template(template).substitute(
        generator=_text(f"sparsemed {__version__}"),
        policy=(
            "default-src 'none'; img-src data:; "
            f"style-src '{_digest(style)}'; script-src '{_digest(script)}'"
        ),
        title=_text(f"{name} – background"),
        style=style,
        script=script,
        name=_text(name),
        headline=_headline(findings),
        summary=_text(_summary(background)),
        ppid=_text(to_ppid(asdict(background.parameters))),
        sections="\n".join(sections),
        footer=_text(f"Made by sparsemed {__version__} on {made}. One file; it loads nothing."),
    )


def _headline(findings: list[Finding]) -> str:
    poor = [finding for finding in findings if not finding.is_good]
    if not poor:
        return (
            '<div class="headline good" id="headline"><strong class="verdict">✓ Good</strong>'
            f"All {len(findings)} numbers are as they should be.</div>"
        )
    listed = "".join(f"<li>{_text(f.title)}: {_text(f.text)}</li>" for f in poor)
    return (
        '<div class="headline look" id="headline"><strong class="verdict">▲ Look here</strong>'
        f"{len(poor)} of {len(findings)} numbers call for a look:<ul>{listed}</ul></div>"
    )


def _summary(background: SparseBackground) -> str:
    _, height, width = background.images.shape
    duration = _seconds(background.time[-1])
    return (
        f"{len(background):,} frames of {height} × {width} pixels in {duration}; "
        f"{len(background.images):,} of {len(background.series):,} background images kept."
    )


def _findings(findings: list[Finding], source: Path | None) -> str:
    poor = "".join(
        f'<li class="look"><h3><span class="verdict">▲ look here</span> {_text(finding.title)}</h3>'
        f'<p class="value">{_text(finding.text)}</p>'
        f'<p class="explanation">{_text(finding.explanation)}</p>'
        f'<p class="advice"><b>What to do:</b> {_text(finding.advice)}</p></li>'
        for finding in findings
        if not finding.is_good
    )
    good = "".join(
        f'<li class="good"><details><summary><span class="verdict">✓ good</span> '
        f"<b>{_text(finding.title)}</b><br>{_text(finding.text)}</summary>"
        f'<p class="explanation">{_text(finding.explanation)}</p></details></li>'
        for finding in findings
        if finding.is_good
    )
    hint = ""
    if source is not None and any(not finding.is_good for finding in findings):
        command = f"sparsemed report {shlex.quote(source.name)} -k kernel_size=… -o try.html"
        hint = (
            '<p class="note">A change of parameters is quickly tried; compare its page with this '
            f"one: <code>{_text(command)}</code></p>"
        )
    return _section("numbers", "Numbers", f'<ul class="cards">{poor}{good}</ul>{hint}')


def _series(background: SparseBackground) -> str:
    series = background.series
    shrink = _shrinkage(series)
    numbers = _spread(len(series), min(_SERIES, _SERIES_PIXELS * shrink**2 // series[0].size))
    low, high = _grey_range(series[numbers])
    slides = []
    for number in numbers.tolist():
        fate = "kept" if background.kept[number] else "✕ dropped"
        score = background.score[number]
        caption = (
            f"Image {number + 1} of {len(series)}, at {_seconds(background.step_times[number])}: "
            f"{fate} (score {score:.3g}"
        )
        limit = background.threshold
        caption += f", threshold {limit:.3g})" if math.isfinite(limit) else "; all are kept)"
        picture = _img(series[number], low, high, shrink, f"Background image {number + 1}, {fate}")
        slides.append(_slide(picture, caption, dropped=not background.kept[number]))
    shown = "" if len(numbers) == len(series) else f" {len(numbers)} of {len(series)} are shown."
    note = (
        f"The background over time, before cleansing.{shown} Dropped images have a dashed frame; "
        "each mark below the slider is an image, and long marks are dropped ones. "
        f"Black is {low:.4g}, white is {high:.4g}.{_shrunk(shrink)}"
    )
    viewer = _viewer("series", "Background image", slides, _ticks(background.kept))
    return _section("series-section", "Background series", f"{_note(note)}{viewer}")


def _frames(background: SparseBackground, sample: Sample | None) -> str:
    if sample is None:
        note = "There are no frames to show: neither images nor a measurement were given."
        return _section("frames-section", "Frames before and after", _note(note))
    shrink = _shrinkage(sample.images)
    count = min(_FRAMES, _FRAMES_PIXELS * shrink**2 // (3 * sample.images[0].size))
    chosen = _spread(len(sample.numbers), count)
    numbers, raw = sample.numbers[chosen], sample.images[chosen]
    below = background[numbers]
    corrected = raw.astype(np.float64) - below
    if background.offsets is not None:
        corrected -= background.offsets[numbers, np.newaxis, np.newaxis]
    low, high = _grey_range(np.concatenate([raw, below]))
    reach = max(1.0, float(np.quantile(np.abs(corrected), 0.999)))
    slides = []
    for place, number in enumerate(numbers.tolist()):
        caption = f"Frame {number}, at {_seconds(background.time[number])}"
        if background.offsets is not None:
            offset = f"{background.offsets[number]:+.2f}".replace("-", "−")
            caption += f": brightness offset {offset}"
        shots = [
            ("raw", _img(raw[place], low, high, shrink, f"Frame {number}, raw")),
            ("background", _img(below[place], low, high, shrink, f"Background of frame {number}")),
            (
                "corrected",
                _img(corrected[place], -reach, reach, shrink, f"Frame {number} less background"),
            ),
        ]
        content = "".join(
            f'<span class="shot"><span>{word}</span>{picture}</span>' for word, picture in shots
        )
        slides.append(_slide(content, caption))
    note = (
        "A good background is even where there is no cell once it is subtracted: grey all over "
        f"in the corrected frame. Raw and background: black is {low:.4g}, white is {high:.4g}. "
        f"Corrected: black is −{reach:.3g}, grey is 0, white is +{reach:.3g}.{_shrunk(shrink)}"
    )
    viewer = _viewer("frames", "Frame", slides, "")
    return _section("frames-section", "Frames before and after", f"{_note(note)}{viewer}")


def _pictures(background: SparseBackground, sample: Sample | None) -> str:
    # their titles are within the pictures
    figures = "".join(
        f'<div class="wide" tabindex="0" role="region" aria-label="{_text(label)}">'
        f"{_figure(figure, label)}</div>"
        for label, figure in _panels(background, sample)
    )
    return _section("pictures", "Pictures", f'<div class="pictures">{figures}</div>')


def _panels(background: SparseBackground, sample: Sample | None) -> Iterator[tuple[str, "Figure"]]:
    from sparsemed import plotting

    count, dropped = len(background.kept), int(np.count_nonzero(~background.kept))
    yield (
        f"Background images in the order of time: {count}, of which {dropped} are dropped",
        plotting.plot_series(background),
    )
    yield (
        f"Cleansing score of each background image, and the threshold, {background.threshold:.3g}",
        plotting.plot_score(background),
    )
    if background.offsets is not None:
        low, high = background.offsets.min(), background.offsets.max()
        yield (
            f"Brightness offset of each frame over time, from {low:.3g} to {high:.3g} grey values",
            plotting.plot_offsets(background),
        )
    if sample is not None:
        yield (
            "Noise of the channel wall over time, before and after the background is subtracted",
            plotting.plot_noise(background, sample),
        )


_MEANING = {
    "kernel_size": "frames in the window that a background image is the median of",
    "split_time": "seconds from one background image to the next",
    "thresh_cleansing": "larger values drop more background images; 0 keeps a fixed fraction",
    "frac_cleansing": "fraction of the background images to keep",
    "offset_correction": "whether each frame gets a brightness offset",
}


def _parameters(background: SparseBackground, source: Path | None) -> str:
    rows = []
    for entry in fields(Parameters):
        value = getattr(background.parameters, entry.name)
        usual = "default" if value == entry.default else f"default: {entry.default}"
        rows.append(
            f'<tr><th scope="row"><code>{entry.name}</code><br>{_text(_MEANING[entry.name])}</th>'
            f'<td><b>{_text(value)}</b> <span class="note">({_text(usual)})</span></td></tr>'
        )
    table = f'<table class="parameters"><tbody>{"".join(rows)}</tbody></table>'
    command = ""
    if source is not None:
        command = (
            f"<p>To write it to a file: <code>{_text(_command(background, source))}</code></p>"
        )
    return _section("parameters", "Parameters", f"{table}{command}")


def _command(background: SparseBackground, source: Path) -> str:
    changed = [
        f"-k {entry.name}={getattr(background.parameters, entry.name)}"
        for entry in fields(Parameters)
        if getattr(background.parameters, entry.name) != entry.default
    ]
    return " ".join(["sparsemed compute", shlex.quote(source.name), *changed])


def _measurement(background: SparseBackground, facts: _Facts) -> str:
    count, height, width = background.series.shape
    duration = float(background.time[-1])
    rows = [
        *facts.rows,
        ("Frames", f"{len(background):,}"),
        ("Image size", f"{height} × {width} pixels (height × width), {background.images.dtype}"),
        ("Duration", _seconds(duration)),
        ("Frames per second", f"{len(background) / duration:.4g}" if duration > 0 else "unknown"),
        ("Background images", f"{count:,}, of which {len(background.images):,} are kept"),
    ]
    metadata = ""
    if facts.metadata:
        metadata = (
            f"<details><summary>Metadata of the file ({len(facts.metadata)})</summary>"
            f"{_table(facts.metadata)}</details>"
        )
    return _section("measurement", "Measurement", f"{_table(rows)}{metadata}")


def _versions() -> str:
    rows: list[tuple[str, object]] = [("sparsemed", __version__)]
    for package in ("numpy", "numba", "h5py", "hdf5plugin", "imagecodecs", "matplotlib"):
        with contextlib.suppress(PackageNotFoundError):
            rows.append((package, version(package)))
    rows += [
        ("Python", platform.python_version()),
        ("System", f"{platform.system()} {platform.machine()}"),
    ]
    return _section("versions", "Versions", _table(rows))


# Its parts --------------------------------------------------------------------------------------


def _section(name: str, title: str, content: str) -> str:
    return f'<section id="{name}"><h2>{title}</h2>\n{content}</section>'


def _note(text: str) -> str:
    return f'<p class="note">{_text(text)}</p>'


def _table(rows: Iterable[tuple[str, object]]) -> str:
    lines = [
        f'<tr><th scope="row">{_text(_plain(name)).replace(":", ":<wbr>")}</th>'
        f"<td>{_text(_plain(value))}</td></tr>"
        for name, value in rows
    ]
    return f"<table><tbody>{''.join(lines)}</tbody></table>"


def _viewer(name: str, what: str, slides: list[str], below: str) -> str:
    """Return slides with a slider; what JavaScript needs is hidden until it runs."""
    return (
        f'<div class="viewer" id="{name}">'
        f'<ol class="strip" tabindex="0" aria-label="{what}s">{"".join(slides)}</ol>'
        '<div class="controls" hidden>'
        f'<button type="button" value="-1" aria-label="{what} before">◀</button>'
        f'<span class="track"><input type="range" min="0" max="{len(slides) - 1}" value="0" '
        f'autocomplete="off" aria-label="{what}">{below}</span>'
        f'<button type="button" value="1" aria-label="{what} after">▶</button></div></div>'
    )


def _slide(content: str, caption: str, *, dropped: bool = False) -> str:
    kind = "slide dropped" if dropped else "slide"
    return (
        f'<li class="{kind}"><figure>{content}<figcaption>{_text(caption)}</figcaption>'
        "</figure></li>"
    )


def _ticks(kept: NDArray[np.bool_]) -> str:
    """Draw a mark for each image of the series; those of dropped ones are long."""
    last = max(1, len(kept) - 1)
    lines = {True: "", False: ""}
    for number, is_kept in enumerate(kept.tolist()):
        lines[is_kept] += f"M{1000 * number / last:.4g} 0v{5 if is_kept else 16}"
    width = max(1.0, min(5.0, 400 / len(kept)))
    paths = "".join(
        f'<path class="{name}" d="{lines[is_kept]}" stroke-width="{width:.2g}"/>'
        for name, is_kept in (("kept", True), ("dropped", False))
        if lines[is_kept]
    )
    return (
        '<svg class="ticks" viewBox="-3 0 1006 16" preserveAspectRatio="none" '
        f'aria-hidden="true">{paths}</svg>'
    )


def _img(image: NDArray[Any], low: float, high: float, shrink: int, label: str) -> str:
    """Return an image in 8-bit grey, from black at `low` to white at `high`."""
    small = _shrunken(image, shrink)
    grey = np.clip(np.rint((small - low) * (255 / (high - low))), 0, 255).astype(np.uint8)
    height, width = grey.shape
    return _png(bytes(imagecodecs.png_encode(grey, level=9)), width, height, label)


def _figure(figure: "Figure", label: str) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DOTS_PER_INCH, facecolor="white")
    width, height = (round(inches * _DOTS_PER_INCH) for inches in figure.get_size_inches())
    return _png(buffer.getvalue(), width, height, label)


def _png(data: bytes, width: int, height: int, label: str) -> str:
    encoded = base64.b64encode(data).decode()
    return (
        f'<img src="data:image/png;base64,{encoded}" width="{width}" height="{height}" '
        f'alt="{_text(label)}">'
    )


def _shrinkage(images: NDArray[Any]) -> int:
    """Return how many pixels of a side become one, so that an image is not too large."""
    return math.ceil(math.sqrt(images[0].size / _PIXELS))


def _shrunken(image: NDArray[Any], factor: int) -> NDArray[np.float64]:
    """Return the means of squares of `factor` pixels a side; what is left at the end is cut."""
    height, width = (max(1, length // factor) for length in image.shape)
    cut = image[: height * factor, : width * factor].astype(np.float64)
    down, across = cut.shape[0] // height, cut.shape[1] // width
    means: NDArray[np.float64] = cut.reshape(height, down, width, across).mean(axis=(1, 3))
    return means


def _shrunk(factor: int) -> str:
    return f" Images are shown at 1/{factor} of their size." if factor > 1 else ""


def _grey_range(images: NDArray[Any]) -> tuple[float, float]:
    """Return the grey values that become black and white: few pixels are beyond."""
    low, high = (float(value) for value in np.quantile(images, [0.001, 0.999]))
    return low, max(high, low + 1)


def _spread(length: int, count: int) -> NDArray[np.intp]:
    """Return at most `count` indices (but one) from 0 to ``length - 1``, evenly spaced."""
    places = np.linspace(0, length - 1, max(1, min(length, count)))
    return np.unique(places.round().astype(np.intp))


def _seconds(value: float) -> str:
    return f"{value:.1f} s" if value >= 10 else f"{value:.3g} s"


def _plain(value: object) -> str:
    """Return metadata as text, at a length that can be read."""
    text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    return text if len(text) <= _VALUE_LENGTH else f"{text[:_VALUE_LENGTH]}…"


def _text(value: object) -> str:
    """Return text that is safe in the page, in attributes too."""
    return escape(printable(value), quote=True)


def _digest(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def _write(path: Path, content: bytes) -> None:
    """Write a file wholly or not at all."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        reason = error.strerror or error
        raise type(error)(
            f"{path}: could not be written ({reason}); make room or choose another folder"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
