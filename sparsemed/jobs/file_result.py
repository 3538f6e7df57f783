"""The result of one measurement of many."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from sparsemed.quality.finding import Finding
from sparsemed.storage.places import AnyPath

Status = Literal["done", "skipped", "failed", "planned"]


@dataclass(frozen=True)
class FileResult:
    """The result of one measurement of many; see `sparsemed.compute_files`.

    Attributes
    ----------
    input : Path or RemotePath
        The measurement.
    output : Path
        The file with its background.
    status : str
        ``"done"``; ``"skipped"``: it was up to date; ``"failed"``; or ``"planned"``, in a dry
        run.
    ppid : str
        Pipeline identifier of the background.
    error : str or None
        Why it failed, in one line.
    warnings : tuple of str
        Warnings about it.
    frames, height, width : int or None
        Number of frames, and of their rows and columns, if known.
    windows, kept : int or None
        Number of background images before and after cleansing.
    frames_per_window, change : int, str or None
        In a dry run: frames in a window, and what would happen to the output.
    seconds, megabytes_per_second : float or None
        Time taken, and uncompressed bytes of frames per time without compiling.
    replaces : str or None
        Pipeline identifier of the background that this one replaced.
    verdict : str or None
        Verdict on the background; see `sparsemed.quality.overall`. Of a skipped measurement, it
        is the verdict stored in the result.
    findings : tuple of Finding
        The numbers behind the verdict.
    thumbnail : str or None
        A small background image as a data URL, for summaries.
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
        """Return the known values, ready for JSON, without the thumbnail."""
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
