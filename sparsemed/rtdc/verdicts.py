"""The verdict on a background, stored beside it as a log and a table, as in dcnum and dclab.

The log is for people. The table has the same content for programs; it is read back.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import h5py
import numpy as np

from sparsemed.hdf5.datasets import storage_options
from sparsemed.hdf5.entries import Attributes, as_text, entry, has_entry, subgroup
from sparsemed.printable import printable
from sparsemed.rtdc.measurement import Measurement
from sparsemed.rtdc.references import WRITER
from sparsemed.warned import warn

LOG = "logs/sparsemed-verdict"
TABLE = "tables/sparsemed-verdict"
VERDICT = (LOG, TABLE)

COLUMNS = ("key", "number", "value", "text", "verdict", "explanation", "advice")
"""Columns of the table; a number has a key for programs and a name for people."""

MOST_ROWS = 1000
"""A table with more rows is not from sparsemed."""

Row = tuple[str, str, float, str, str, str, str]
"""A row of the table."""


def store_verdict(h5: h5py.File, lines: Sequence[str], rows: Sequence[Row], ppid: str) -> None:
    """Write a verdict; an earlier one must have been removed.

    Parameters
    ----------
    h5 : h5py.File
    lines : sequence of str
        Lines of the log.
    rows : sequence of Row
        Rows of the table.
    ppid : str
        Pipeline identifier of the background.
    """
    kinds = [(name, float if name == "value" else _kind(text)) for name, text in _columns(rows)]
    coded = [tuple(c.encode() if isinstance(c, str) else c for c in row) for row in rows]
    log = np.array([line.encode() for line in lines], _kind(lines))
    for name, data in ((LOG, log), (TABLE, np.array(coded, np.dtype(kinds)))):
        topic = name.partition("/")[0]
        if has_entry(h5, topic) and not _is_own(h5, topic):
            warn(f"{printable(h5.filename)}: {topic} is no group in it, so no verdict is stored")
            continue
        stored = h5.create_dataset(name, data=data, chunks=data.shape, **storage_options(True))
        stored.attrs.update({"software": WRITER, "dcnum ppid background": ppid})


def _columns(rows: Sequence[Row]) -> Iterator[tuple[str, list[str]]]:
    for name, values in zip(COLUMNS, zip(*rows, strict=True), strict=True):
        yield name, [str(value) for value in values]


def _kind(texts: Sequence[str]) -> np.dtype[np.bytes_]:
    """Return the data type of text of fixed length that holds all of these texts."""
    kind: np.dtype[np.bytes_] = h5py.string_dtype(
        "utf-8", max(1, *(len(text.encode()) for text in texts))
    )
    return kind


def _is_own(h5: h5py.File, topic: str) -> bool:
    with suppress(ValueError):  # a link to another file, or no group
        return subgroup(h5, topic) is not None
    return False


def earlier_verdict(h5: h5py.File) -> list[str]:
    """Return the names of the log and the table of a verdict that a file has."""
    found = [name for name in VERDICT if _is_own(h5, name.partition("/")[0])]
    return [name for name in found if has_entry(h5, name)]


def read_verdict(measurement: Measurement) -> tuple[Row, ...]:
    """Return the verdict on the background of a measurement; nothing if it is on another one.

    Another program may have replaced the background and left the verdict.
    """
    images = measurement.feature("image_bg")
    if images is None:
        return ()
    try:
        table = entry(images.dataset.file, TABLE)
        if (
            not isinstance(table, h5py.Dataset)
            or table.dtype.names != COLUMNS
            or table.ndim != 1
            or len(table) > MOST_ROWS
            or _ppid(table) is None
            or _ppid(table) != _ppid(images.dataset)
        ):
            return ()
        return tuple(_row(*cells) for cells in table[()].tolist())
    except (OSError, ValueError, TypeError):  # it is not from sparsemed
        return ()


def _row(key: Any, number: Any, value: Any, *texts: Any) -> Row:
    text, verdict, explanation, advice = map(as_text, texts)
    return as_text(key), as_text(number), float(value), text, verdict, explanation, advice


def _ppid(dataset: h5py.Dataset) -> str | None:
    ppid = Attributes(dataset).get("dcnum ppid background")
    return None if ppid is None else as_text(ppid)
