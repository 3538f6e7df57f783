"""dcnum, sparsemed and the decode floor on files as they exist, in one process.

Not every file holds chunks of 32 whole frames: libraries cut tiles, recorders store each frame
alone, or all in one piece.
"""

from typing import Any, NamedTuple

from benchmarks.end_to_end import run_warm
from benchmarks.measurements import CHUNK, SHAPE, generated_measurement


class Layout(NamedTuple):
    """A way of storing frames, as `generate_measurement` takes it."""

    title: str
    frames: int
    compression: str
    chunk: tuple[int, int, int] | None
    shape: tuple[int, int] = SHAPE
    with_offsets: bool = True


def layouts(share: float) -> list[Layout]:
    """Return what is measured: as many frames each as take seconds, or a share of them."""
    counts = {count: max(300, round(count * share)) for count in (10_000, 20_000, 1_200_000)}
    return [
        Layout("tiles of 5 × 20 × 200", counts[10_000], "gzip 1", (5, 20, 200)),
        Layout("tiles of 2 × 40 × 100", counts[10_000], "gzip", (2, 40, 100)),
        Layout("one frame a chunk", counts[20_000], "zstd", (1, *SHAPE)),
        Layout("in one piece", counts[20_000], "no filter", None),
        Layout(
            "as usual, without offsets",
            counts[20_000],
            "zstd",
            CHUNK,
            with_offsets=False,
        ),
        Layout(
            "16 × 64 pixels, one frame a chunk",
            counts[1_200_000],
            "no filter",
            (1, 16, 64),
            (16, 64),
        ),
    ]


def measure(share: float, rounds: int) -> list[dict[str, Any]]:
    """Run the whole part, on a share of the frames."""
    results = []
    for each in layouts(share):
        measurement = generated_measurement(
            each.frames, 1000, each.compression, shape=each.shape, chunk=each.chunk
        )
        seconds = run_warm(measurement, rounds, offset_correction=each.with_offsets)
        results.append(each._asdict() | {"warm": seconds})
    return results
