"""What became of one measurement of many."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from sparsemed.quality.finding import Finding
from sparsemed.storage.places import AnyPath

Status = Literal["done", "skipped", "failed", "planned"]


@dataclass(frozen=True)
class FileResult:
    """What became of one measurement of many; see `sparsemed.compute_files`.

    Attributes
    ----------
    input : Path or RemotePath
        The measurement.
    output : Path
        Where its background is.
    status : str
        ``"done"``; ``"skipped"``: its background was there already, with these
        parameters; ``"failed"``; or ``"planned"``, of a dry run.
    ppid : str
        Pipeline identifier of the background that was asked for.
    error : str or None
        Why it failed, in one line.
    warnings : tuple of str
        What was said about it meanwhile.
    frames, height, width : int or None
        Number of frames, and of their rows and columns, as far as known.
    windows, kept : int or None
        Background images before cleansing, and after it.
    frames_per_window, change : int, str or None
        Of a dry run: frames in a window, and what would become of the output.
    seconds, megabytes_per_second : float or None
        How long it took; and how much of its frames, uncompressed, that makes a second, of which
        none was spent on compiling.
    replaces : str or None
        Pipeline identifier of the background that this one took the place of.
    verdict : str or None
        Verdict on the background; see `sparsemed.quality.overall`. Of a background that was there
        already, it is the one that was written along with it.
    findings : tuple of Finding
        The numbers it is made of.
    thumbnail : str or None
        One of the background images, small, as a data URL; for summaries.
    """

    input: AnyPath
    output: Path
    status: Status
    ppid: str
    error: str | None = None
    warnings: tuple[str, ...] = ()
    frames: int | None = None
    height: int | None = None
    width: int | None = None
    windows: int | None = None
    kept: int | None = None
    frames_per_window: int | None = None
    change: str | None = None
    seconds: float | None = None
    megabytes_per_second: float | None = None
    replaces: str | None = None
    verdict: str | None = None
    findings: tuple[Finding, ...] = ()
    thumbnail: str | None = None

    def as_row(self) -> dict[str, Any]:
        """Return what is known, as JSON can hold it; the thumbnail is left out."""
        row = {field.name: getattr(self, field.name) for field in fields(self)}
        del row["thumbnail"]
        row |= {name: str(row[name]) for name in ("input", "output")}
        row["findings"] = [finding._asdict() for finding in self.findings]
        row["warnings"] = list(self.warnings)
        always = {"warnings"} | ({"replaces"} if self.status in ("done", "planned") else set())
        return {
            name: value
            for name, value in row.items()
            if name in always or (value is not None and value not in ((), []))
        }
