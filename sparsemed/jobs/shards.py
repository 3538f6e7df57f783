"""A fixed part of many runs, for many jobs without a common scheduler."""

import heapq
import re
from collections.abc import Sequence
from contextlib import suppress
from math import prod
from typing import NamedTuple

from sparsemed.jobs.shares import sizes_of
from sparsemed.jobs.stack_runs import AnyRun
from sparsemed.rtdc.measurement import Measurement


class Shard(NamedTuple):
    """Part `number` of `total`, counted from 1."""

    number: int
    total: int


def read_shard(text: str) -> Shard:
    """Return the part in a text such as ``2/8``.

    Raises
    ------
    ValueError
        If the text is no part.

    Examples
    --------
    >>> read_shard("2/8")
    Shard(number=2, total=8)
    """
    found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise ValueError(
            f"--shard {text}: expected I/N, part I of N, where I is from 1 to N (as 1/4 … 4/4)"
        )
    return Shard(int(found[1]), int(found[2]))


def take_shard(runs: Sequence[AnyRun], shard: Shard) -> list[AnyRun]:
    """Return the runs that belong to a part.

    Each run belongs to one part; all parts are about equally large. The parts depend only on the
    measurements, not on place or time, on which of them are done, or on stored backgrounds.

    Raises
    ------
    OSError
        If a server does not tell the size of a measurement, without which the parts are unknown.
    """
    sizes = zip(runs, sizes_of(runs, must_be_known=True), strict=True)
    weights = {run: _own_weight(run) if run.in_place else size for run, size in sizes}
    parts = [(0, number) for number in range(1, shard.total + 1)]
    taken = set()
    for run in sorted(runs, key=lambda run: (-weights[run], str(run.output))):
        size, number = heapq.heappop(parts)
        heapq.heappush(parts, (size + weights[run], number))
        if number == shard.number:
            taken.add(run)
    return [run for run in runs if run in taken]


def _own_weight(run: AnyRun) -> int:
    """Return the bytes of the images of a measurement, which do not depend on a background."""
    with suppress(OSError, ValueError, TypeError), Measurement(run.source, "off") as measurement:
        image = measurement.own("image")
        return 1 if image is None else max(1, prod(image.shape) * image.dtype.itemsize)
    return 1
