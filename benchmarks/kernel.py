"""The median of one window of frames: sparsemed's kernel beside others, in one process."""

import importlib
import time
from collections.abc import Callable
from typing import Any

import click
import h5py
import hdf5plugin  # noqa: F401  (lets HDF5 read Zstandard)
import numpy as np

from benchmarks.measurements import generated_measurement
from sparsemed import median_image
from sparsemed.kernels.cores import available_cores
from sparsemed.kernels.median import median_images

LENGTH = 200
"""Frames of a window."""

OVERLAPS = (0, 0.75, 0.975)
"""Fractions of a window that are in the window before, too."""

LEAST_SECONDS = 0.02
"""What is faster is called several times in each round."""

COPY = "copy of the window"


def core_counts() -> list[int]:
    """Return the numbers of cores to try: powers of two, and all."""
    count = available_cores()
    return [2**n for n in range(count.bit_length()) if 2**n < count] + [count]


def threads(count: int) -> str:
    """Return how results call a number of threads."""
    return f"{count} thread" + "s" * (count > 1)


def window_contenders(window: np.ndarray) -> dict[str, Callable[[], Any]]:
    """Return functions that find the median image of a window, by name.

    All start from frames along the first axis, of 8 or 16 bits. All return the same,
    but the medians of NumPy and bottleneck, which are means of the middle two, and the
    copy, which finds nothing.
    """
    half = len(window) // 2
    shape = window.shape[1:]
    copy = np.empty_like(window)
    contenders: dict[str, Callable[[], Any]] = {
        COPY: lambda: np.copyto(copy, window),
        "np.partition": lambda: np.partition(window, half, axis=0)[half],
        "np.median": lambda: np.median(window, axis=0),
    }
    if bottleneck := imported("bottleneck"):
        # Its fast functions do not know short integers; it is spared the conversion.
        whole = window.astype(np.int32)
        contenders["bottleneck.median (int32)"] = lambda: bottleneck.median(whole, axis=0)
        contenders["bottleneck.partition (int32)"] = lambda: bottleneck.partition(
            whole, half, axis=0
        )[half]
    if cv2 := imported("cv2"):
        flat = window.reshape(len(window), -1)
        contenders["cv2.sort"] = lambda: cv2.sort(np.ascontiguousarray(flat.T), cv2.SORT_EVERY_ROW)[
            :, half
        ].reshape(shape)
    if window.dtype == np.uint8 and (torch := imported("torch")):  # lacks short unsigned integers
        tensor = torch.from_numpy(window)
        contenders["torch.kthvalue"] = lambda: torch.kthvalue(tensor, half + 1, dim=0).values
    for count in core_counts():
        contenders[f"sparsemed, {threads(count)}"] = lambda count=count: median_image(window, count)
    return contenders


def as_16_bits(images: np.ndarray) -> np.ndarray:
    """Return images of bytes as a camera of 12 bits would have taken them."""
    finer = np.random.default_rng(0).integers(16, size=images.shape, dtype=np.uint16)
    return images.astype(np.uint16) * 16 + finer


def has_avx512() -> bool:
    """Tell whether NumPy may use AVX-512 here; with it, it partitions 16 bits much faster."""
    return "AVX512_ICL" in np.show_config("dicts")["SIMD Extensions"].get("found", ())


def imported(name: str) -> Any:
    """Return a module, or None and say so if it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        click.echo(f"without {name}, which is not installed", err=True)
        return None


def require_same_medians(contenders: dict[str, Callable[[], Any]]) -> None:
    """Fail if contenders that find the same rank do not find the same values."""
    expected = contenders["np.partition"]()
    for name, contender in contenders.items():
        if name == COPY or ".median" in name:
            continue
        if not np.array_equal(np.asarray(contender()), expected):
            raise click.ClickException(f"{name} finds other medians than np.partition")


def time_in_turn(contenders: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Call all contenders in turn, in rounds; return the seconds of a call, by name."""
    calls = {}
    for name, contender in contenders.items():
        contender()  # warms up
        calls[name] = max(1, round(LEAST_SECONDS / max(_seconds(contender, 1), 1e-6)))
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, contender in contenders.items():
            seconds[name].append(_seconds(contender, calls[name]))
    return seconds


def _seconds(contender: Callable[[], Any], calls: int) -> float:
    began = time.perf_counter()
    for _ in range(calls):
        contender()
    return (time.perf_counter() - began) / calls


def time_overlaps(frames: np.ndarray, rounds: int) -> list[dict[str, Any]]:
    """Time windows that overlap; return the seconds of a window for each overlap."""
    contenders = {}
    windows = {}
    rows = np.arange(len(frames))
    for overlap in OVERLAPS:
        starts = np.arange(0, len(frames) - LENGTH + 1, round(LENGTH * (1 - overlap)))
        images = np.empty((len(starts), *frames.shape[1:]), frames.dtype)
        for count in sorted({1, available_cores()}):
            contenders[overlap, count] = lambda s=starts, i=images, c=count: median_images(
                frames, rows, s, LENGTH, i, c
            )
            windows[overlap, count] = len(starts)
    return [
        {
            "overlap": overlap,
            "threads": count,
            "seconds": [s / windows[overlap, count] for s in seconds],
        }
        for (overlap, count), seconds in time_in_turn(contenders, rounds).items()
    ]


def measure(frames: int, rounds: int) -> dict[str, Any]:
    """Run the whole part, on frames of a generated measurement of so many frames."""
    with h5py.File(generated_measurement(frames, 1000)) as h5:
        images = h5["events/image"][: 16 * LENGTH]
    results: dict[str, Any] = {"avx512": has_avx512()}
    window = images[:LENGTH].copy()
    for name, frames_of_it in (("window", window), ("window of 16 bits", as_16_bits(window))):
        contenders = window_contenders(frames_of_it)
        require_same_medians(contenders)
        click.echo(f"kernel, one {name}, {rounds} rounds", err=True)
        results[name] = time_in_turn(contenders, rounds)
    click.echo(f"kernel, overlapping windows, {rounds} rounds", err=True)
    return results | {"overlaps": time_overlaps(images, rounds)}
