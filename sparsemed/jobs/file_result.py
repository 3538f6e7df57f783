"""The result of one measurement of many, and what it tells of a plan or a background."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sparsemed.quality.finding import Finding, overall
from sparsemed.storage.places import AnyPath

if TYPE_CHECKING:
    from sparsemed.method.compute import Plan
    from sparsemed.result import SparseBackground

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


class Stopwatch:
    """Measures the seconds of a run, and those of them without compiling."""

    def __init__(self) -> None:
        from sparsemed.kernels.compiling import seconds_compiling

        self._compiling = seconds_compiling
        self._began, self._compiled = time.perf_counter(), seconds_compiling()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Do not count what is done meanwhile."""
        paused, compiled = time.perf_counter(), self._compiling()
        yield
        self._began += time.perf_counter() - paused
        self._compiled += self._compiling() - compiled

    def read(self) -> tuple[float, float]:
        """Return the seconds so far: all, and those without compiling."""
        seconds = time.perf_counter() - self._began
        return seconds, seconds - (self._compiling() - self._compiled)


def planned_values(
    shape: tuple[int, int, int], planned: "Plan", change: str, replaces: str | None = None
) -> dict[str, Any]:
    """Return the values of a `FileResult` of a dry run."""
    frames, height, width = shape
    return {
        "status": "planned",
        "frames": frames,
        "height": height,
        "width": width,
        "windows": len(planned.steps),
        "frames_per_window": planned.length,
        "change": change,
        "replaces": replaces,
    }


def done_values(
    background: "SparseBackground",
    findings: Sequence[Finding],
    stopwatch: Stopwatch,
    replaces: str | None = None,
    *,
    with_thumbnail: bool,
) -> dict[str, Any]:
    """Return the values of a `FileResult` of a background that was computed and written."""
    from sparsemed.report.pictures import thumbnail

    seconds, working = stopwatch.read()
    images = background.images
    kept, height, width = images.shape
    size = len(background) * height * width * images.itemsize
    return {
        "status": "done",
        "frames": len(background),
        "height": height,
        "width": width,
        "windows": len(background.series),
        "kept": kept,
        "seconds": round(seconds, 3),
        "megabytes_per_second": round(size / working / 1e6, 3),
        "replaces": replaces,
        "verdict": overall(findings),
        "findings": findings,
        "thumbnail": thumbnail(images[kept // 2]) if with_thumbnail else None,
    }
