"""An HTML page on many measurements, with the verdict on each background.

It is made like the page on a single one: one file that needs no network, whose text passes through
`escaped`, and whose content security policy forbids other scripts.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template

from sparsemed.lazy import lazy_property
from sparsemed.quality.finding import CANNOT_TELL, GOOD, LOOK_HERE
from sparsemed.report.markup import escaped
from sparsemed.report.page import digest
from sparsemed.version import __version__

FAILED = "failed"
NOT_JUDGED = "not judged"
WAITING = "waiting"

MOST_ROWS = 2000
"""Largest number of measurements on a page; `look here` comes first."""

MOST_LETTERS = 300
"""Largest number of letters of a remark."""

_SIGNS = {
    FAILED: "✗ failed",
    LOOK_HERE: "▲ look here",
    CANNOT_TELL: "? cannot tell",
    NOT_JUDGED: "not judged",
    GOOD: "✓ good",
    WAITING: "waiting",
}
"""Verdicts in the order of the page, as they are shown."""

_ORDER = tuple(_SIGNS)

_CLASSES = {
    FAILED: "failed",
    LOOK_HERE: "look",
    CANNOT_TELL: "look",
    GOOD: "good",
    WAITING: "waiting",
}

_COLUMNS = (
    ("", "picture", "Background"),
    ("0", "", "Verdict"),
    ("name", "", "Measurement"),
    ("1", "number", "Frames"),
    ("2", "number", "Images kept"),
    ("3", "number", "Seconds"),
    ("4", "number", "MB/s"),
)


@dataclass(frozen=True)
class Entry:
    """A measurement on the page.

    Attributes
    ----------
    name, folder : str
    verdict : str
        See `sparsemed.quality.overall`; or ``"failed"``, ``"not judged"``, ``"waiting"``.
    remarks : tuple of str
        Why it needs a look.
    numbers : tuple of str
        All findings, good or not.
    link : str or None
        Address of its report.
    thumbnail : str or None
        See `sparsemed.report.pictures.thumbnail`.
    frames, kept, windows : int or None
        Frames; background images after cleansing, and before it.
    seconds, megabytes_per_second : float or None
    """

    name: str
    folder: str
    verdict: str
    remarks: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()
    link: str | None = None
    thumbnail: str | None = None
    frames: int | None = None
    kept: int | None = None
    windows: int | None = None
    seconds: float | None = None
    megabytes_per_second: float | None = None

    @property
    def rank(self) -> int:
        """Place of its verdict in the order of the page."""
        return _ORDER.index(self.verdict)

    @lazy_property
    def row(self) -> str:
        """Its row of the table."""
        share = self.kept / self.windows if self.kept is not None and self.windows else None
        sorted_by = (self.rank, self.frames, share, self.seconds, self.megabytes_per_second)
        values = ",".join("" if value is None else f"{value:.6g}" for value in sorted_by)
        picture = ""
        if self.thumbnail is not None:
            picture = f'<img src="{escaped(self.thumbnail)}" alt="background" loading="lazy">'
        report = "" if self.link is None else f' · <a href="{escaped(self.link)}">report</a>'
        numbers = [
            ("frames", "" if self.frames is None else f"{self.frames:,}"),
            ("kept", "" if share is None else f"{self.kept:,} of {self.windows:,}"),
            ("seconds", "" if self.seconds is None else f"{self.seconds:,.2f}"),
            ("speed", _text(self.megabytes_per_second)),
        ]
        cells = "".join(f'<td class="number {kind}">{text}</td>' for kind, text in numbers)
        return (
            f'<tr class="{_CLASSES.get(self.verdict, "")}" data-v="{values}">'
            f'<td class="picture">{picture}</td><td class="verdict">{_SIGNS[self.verdict]}</td>'
            f'<th scope="row">{escaped(self.name)}<span>{escaped(self.folder)}{report}</span>'
            f"{self._details()}</th>{cells}</tr>"
        )

    def _details(self) -> str:
        remarks = "".join(f"<li>{escaped(_cut(remark))}</li>" for remark in self.remarks[:5])
        details = f'<ul class="remarks">{remarks}</ul>' if remarks else ""
        if self.numbers:
            listed = " · ".join(escaped(_cut(number)) for number in self.numbers)
            details += f"<details><summary>{len(self.numbers)} numbers</summary>{listed}</details>"
        return details


def make_overview(entries: Sequence[Entry], title: str, state: str, ppid: str) -> str:
    """Return the page as text.

    Parameters
    ----------
    entries : sequence of Entry
    title : str
    state : str
        Progress of the run, in a sentence.
    ppid : str
        Pipeline identifier of the backgrounds.
    """
    folder = Path(__file__).parent
    base, own, script, template = (
        (folder / name).read_text(encoding="utf-8")
        for name in ("page.css", "overview.css", "overview.js", "overview.html")
    )
    style = base + own
    ordered = sorted(entries, key=lambda entry: entry.rank)
    more = ""
    if any(entry.verdict == LOOK_HERE and entry.link is None for entry in entries):
        more = (
            '<p class="note">sparsemed report writes a page on each measurement. The next '
            "sparsemed compute links it here if it lies beside the measurement, beside its result, "
            "or in the folder of this overview (-o).</p>"
        )
    if len(ordered) > MOST_ROWS:
        more += (
            f'<p class="note">{len(ordered) - MOST_ROWS:,} more, with no worse verdicts than '
            "these, are in summary.csv.</p>"
        )
    return Template(template).substitute(
        generator=escaped(f"sparsemed {__version__}, overview"),
        policy=(
            "default-src 'none'; img-src data:; "
            f"style-src '{digest(style)}'; script-src '{digest(script)}'"
        ),
        title=escaped(title),
        style=style,
        script=script,
        headline=_headline(entries),
        state=escaped(state),
        ppid=escaped(ppid),
        choices="".join(
            f'<option value="{key}">{name}</option>' for key, _, name in _COLUMNS if key
        ),
        columns="".join(_column(*column) for column in _COLUMNS),
        rows="\n".join(entry.row for entry in ordered[:MOST_ROWS]),
        more=more,
        footer=escaped(
            f"Made by sparsemed {__version__}. One file; it loads nothing. summary.csv and "
            "summary.json beside it have all values."
        ),
    )


def _column(key: str, kind: str, name: str) -> str:
    if not key:
        return f'<th scope="col" class="{kind}">{name}</th>'
    is_first = ' aria-sort="ascending"' if key == "0" else ""
    button = f'<button value="{key}" disabled>{name}</button>'
    return f'<th scope="col" class="{kind}" abbr="{name}"{is_first}>{button}</th>'


def _headline(entries: Sequence[Entry]) -> str:
    counts = Counter(entry.verdict for entry in entries)
    listed = "".join(
        f"<li><b>{counts[verdict]:,}</b> {_SIGNS[verdict]}</li>"
        for verdict in _ORDER
        if counts[verdict]
    )
    is_good = not any(counts[verdict] for verdict in (FAILED, LOOK_HERE, CANNOT_TELL))
    kind = "good" if is_good else "look"
    return f'<div class="headline {kind}" id="headline"><ul class="counts">{listed}</ul></div>'


def _text(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"


def _cut(text: str) -> str:
    return text if len(text) <= MOST_LETTERS else f"{text[:MOST_LETTERS]}…"
