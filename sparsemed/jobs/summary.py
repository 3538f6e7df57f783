"""The summary of many measurements, in three files for people and programs.

``summary.csv`` has a row for each measurement, ``summary.json`` has the same content, and
``index.html`` shows it. They are updated during the run; each is replaced as a whole.
"""

import csv
import io
import json
import logging
import os
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sparsemed.jobs.done import stored_thumbnail
from sparsemed.jobs.file_result import FileResult
from sparsemed.jobs.shards import Shard
from sparsemed.jobs.stack_runs import AnyRun, kind_of
from sparsemed.printable import as_json
from sparsemed.report.overview import FAILED, NOT_JUDGED, WAITING, Entry, make_overview
from sparsemed.storage import disk
from sparsemed.version import __version__

logger = logging.getLogger(__name__)

COLUMNS = (
    "status",
    "verdict",
    "input",
    "output",
    "report",
    "ppid",
    "written",
    "frames",
    "height",
    "width",
    "windows",
    "kept",
    "seconds",
    "megabytes_per_second",
    "replaces",
    "error",
    "warnings",
)
"""Columns of the table; the quality numbers and their verdicts follow."""

OF_THE_RESULT = (
    "verdict",
    "windows",
    "kept",
    "seconds",
    "megabytes_per_second",
    "warnings",
    "quality",
    "thumbnail",
)
"""Values that a summary takes over for the result of an earlier run."""

PAUSE = 2.0
"""Least seconds between two updates of the files; more if writing takes long."""

_MARKS = {".html": b", overview", ".csv": b"status,verdict,", ".json": b'{"sparsemed": '}
"""Bytes near the beginning of each file, by its ending."""


class Summary:
    """The summary of a run, in a folder.

    Parameters
    ----------
    folder : Path
        It is made if it is missing. An earlier summary there is replaced; its values are kept for
        results that have not changed. Other files of these names are not replaced.
    runs : sequence of Run or StackRun
    ppid : str
        Pipeline identifier of the backgrounds.
    shard : Shard, optional
        The part of the measurements; it enters the names of the files.

    Raises
    ------
    OSError
        If the files cannot be written there.
    """

    def __init__(
        self, folder: Path, runs: Sequence[AnyRun], ppid: str, shard: Shard | None = None
    ) -> None:
        part = "" if shard is None else f"-{shard.number}-of-{shard.total}"
        self._page = folder / f"index{part}.html"
        self._table = folder / f"summary{part}.csv"
        self._list = folder / f"summary{part}.json"
        for path in (self._page, self._table, self._list):
            _check_replaceable(path)
        what = kind_of(runs)
        self._title = f"{len(runs):,} {what if len(runs) != 1 else what.removesuffix('s')}"
        if shard is not None:
            self._title += f", part {shard.number} of {shard.total}"
        self._ppid = ppid
        self._earlier = _read_earlier(folder)
        self._rows = {run.output: _waiting(run, ppid) for run in runs}
        self._entries = {output: self._entry(row) for output, row in self._rows.items()}
        self._next = 0.0  # when to write again
        self._left = len(runs)
        disk.make_folder(folder, "choose another folder with --summary")
        self._write()

    def add(self, result: FileResult) -> None:
        """Add the result of a measurement; the files are updated a little later."""
        row = _row(result)
        if result.status == "skipped":
            earlier = self._earlier.get(row["output"], {})
            if (earlier.get("ppid"), earlier.get("written")) == (row["ppid"], row["written"]):
                row |= {name: earlier[name] for name in OF_THE_RESULT if earlier.get(name)}
            else:
                with suppress(OSError, ValueError):  # it was changed at this moment
                    row["thumbnail"] = stored_thumbnail(result.output)
        self._rows[result.output] = row
        self._entries[result.output] = self._entry(row)
        self._left -= 1
        if time.monotonic() >= self._next:
            try:
                self._write()
            except OSError as error:  # measurements are more important; `finish` raises it
                logger.warning("%s", error)
                self._next = time.monotonic() + 30

    def finish(self) -> None:
        """Write the last state, with links to all reports that exist by now.

        Raises
        ------
        OSError
            If it cannot be written.
        """
        self._entries = {output: self._entry(row) for output, row in self._rows.items()}
        self._write(is_over=True)

    def _write(self, is_over: bool = False) -> None:
        began = time.monotonic()
        rows = list(self._rows.values())
        # with a byte order mark, by which spreadsheets recognize the encoding
        disk.replace(self._table, _as_table(rows).encode("utf-8-sig", errors="replace"))
        listed = ",\n".join(as_json(row) for row in rows)
        text = f'{{"sparsemed": {as_json(__version__)}, "measurements": [\n{listed}\n]}}\n'
        disk.replace(self._list, text.encode())
        page = make_overview(
            list(self._entries.values()), self._title, self._state(is_over), self._ppid
        )
        disk.replace(self._page, page.encode("utf-8", errors="replace"))
        ended = time.monotonic()
        self._next = ended + max(PAUSE, 20 * (ended - began))

    def _state(self, is_over: bool) -> str:
        now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        through = f"{len(self._rows) - self._left:,} of {len(self._rows):,}"
        if not is_over:
            return f"{through} are done, as of {now}. The run goes on: reload this page."
        if self._left:
            return f"Stopped on {now}: {through} are done. Repeat the command to go on."
        return f"All are done, as of {now}."

    def _entry(self, row: dict[str, Any]) -> Entry:
        source = Path(row["input"])
        report = row["report"] = self._report_of(row)
        quality = row.get("quality", {}).values()
        said = [row["error"]] if row.get("error") else []
        said += row.get("warnings", ())
        remarks = [
            f"{each['title']}: {each['text']} → {each['advice']}"
            for each in quality
            if each["advice"]
        ]
        verdict = {"failed": FAILED, "waiting": WAITING}.get(row["status"], row.get("verdict"))
        return Entry(
            name=source.name,
            folder=str(source.parent),
            verdict=verdict or NOT_JUDGED,
            remarks=(*(text.removeprefix(f"{row['input']}: ") for text in said), *remarks),
            numbers=tuple(f"{each['title']}: {each['text']}" for each in quality),
            link=None if report is None else _address(Path(report), self._page.parent),
            **{name: row.get(name) for name in _SHOWN},
        )

    def _report_of(self, row: dict[str, Any]) -> str | None:
        """Return the report on a measurement: beside its result or itself, or in this folder."""
        source, output = Path(row["input"]), Path(row["output"])
        names = [f"{path.stem}_report.html" for path in (output, source)]
        places = [path.with_name(name) for path in (output, source) for name in names]
        # `report -o` puts pages into folders with the names of those of the measurements
        folder = self._page.parent.absolute()
        tails = [source.parent.parts[first:] for first in range(1, len(source.parent.parts) + 1)]
        places += [folder.joinpath(*tail, name) for tail in tails for name in names]
        return next((str(place) for place in places if place.is_file()), None)


_SHOWN = ("thumbnail", "frames", "kept", "windows", "seconds", "megabytes_per_second")


def _waiting(run: AnyRun, ppid: str) -> dict[str, Any]:
    source, output = (str(path.absolute()) for path in (run.source, run.output))
    return {"status": "waiting", "input": source, "output": output, "ppid": ppid}


def _row(result: FileResult) -> dict[str, Any]:
    row = result.as_row()
    here = f"{result.input}: "
    row |= {name: str(Path(row[name]).absolute()) for name in ("input", "output")}
    there = f"{row['input']}: "
    said = [result.error or "", *result.warnings]
    said = [there + text.removeprefix(here) if text.startswith(here) else text for text in said]
    row |= {"error": said[0] or None, "warnings": said[1:]}
    row["thumbnail"] = result.thumbnail
    row["quality"] = {
        each.key: {
            "title": each.title,
            "value": each.value,
            "text": each.text,
            "verdict": each.verdict,
            "advice": each.advice,
        }
        for each in result.findings
    }
    row.pop("findings", None)
    row["written"] = None
    if result.status in ("done", "skipped"):
        with suppress(OSError):  # it was removed at this moment
            written = result.output.stat().st_mtime
            row["written"] = datetime.fromtimestamp(written, UTC).isoformat()
    return row


def _as_table(rows: Sequence[dict[str, Any]]) -> str:
    keys = list(dict.fromkeys(key for row in rows for key in row.get("quality", {})))
    text = io.StringIO()
    table = csv.writer(text)
    numbers = [f"{key} {name}" for key in keys for name in ("value", "verdict")]
    table.writerow([*COLUMNS, *numbers])
    for row in rows:
        shown = {**row, "warnings": "; ".join(row.get("warnings", ()))}
        quality = row.get("quality", {})
        values = (quality.get(key, {}).get(name) for key in keys for name in ("value", "verdict"))
        table.writerow([*(shown.get(name) for name in COLUMNS), *values])
    return text.getvalue()


def _address(path: Path, folder: Path) -> str:
    """Return the link to a path from a page in a folder."""
    try:
        return quote(os.path.relpath(path, folder).replace(os.sep, "/"))
    except ValueError:  # another drive of Windows
        return path.absolute().as_uri()


def _check_replaceable(path: Path) -> None:
    """Check that a file is missing, or belongs to an earlier summary."""
    nearest = next(each for each in (path.parent, *path.parents) if os.path.lexists(each))
    if not nearest.is_dir():
        raise NotADirectoryError(
            f"{nearest}: is no folder; --summary needs a folder, which is made if it is missing"
        )
    if not os.path.lexists(path):
        return
    with open(path, "rb") as file:
        start = file.read(1000)
    if start and _MARKS[path.suffix] not in start:
        raise FileExistsError(
            f"{path}: is no earlier summary, and is not replaced; choose another folder"
        )


def _read_earlier(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the rows of earlier summaries in a folder, also of parts, by their outputs."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.glob("summary*.json")):
        try:
            rows: Iterable[dict[str, Any]] = json.loads(path.read_bytes())["measurements"]
            for row in rows:
                if row.get("verdict") or row["output"] not in found:
                    found[row["output"]] = row
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            logger.warning("%s: is no summary, and is ignored", path)
    return found
