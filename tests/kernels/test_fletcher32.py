import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from imagecodecs import h5checksum_fletcher32
from rings import examples

from sparsemed.kernels.fletcher32 import LANES, ROWS, fletcher32

RANDOM = np.random.default_rng(0).integers(0, 256, 2 * LANES * ROWS * 3, np.uint8)


def naive(data):
    """Return what HDF5's reference says: one word after another."""
    first = second = 0
    for high, low in zip(data[::2], data[1::2] + b"\0", strict=False):
        first += high << 8 | low
        second += first
        first, second = ((each & 0xFFFF) + (each >> 16) for each in (first, second))
    for _ in range(2):
        first, second = ((each & 0xFFFF) + (each >> 16) for each in (first, second))
    return second << 16 | first


@examples(300)
@given(st.binary(min_size=1, max_size=5 * LANES))
def test_random_bytes(data):
    assert fletcher32(data) == naive(data) == h5checksum_fletcher32(data)


ROW, BLOCK = 2 * LANES, 2 * LANES * ROWS


@pytest.mark.parametrize("fill", ["random", 0, 255], ids=str)
@pytest.mark.parametrize("more", range(-3, 4))
@pytest.mark.parametrize("size", [4 * ROW, BLOCK, BLOCK + 4 * ROW, 2 * BLOCK + 5 * ROW])
def test_ends_of_rows_and_blocks(size, more, fill):
    data = RANDOM[: size + more] if fill == "random" else np.full(size + more, fill, np.uint8)
    assert fletcher32(data) == h5checksum_fletcher32(data.tobytes())


@pytest.mark.parametrize("value", [1, 0xFFFF, 0xFFFE, 0x0100, 0xFF00])
def test_sums_that_are_multiples_of_65535(value):
    for count in (1, 2, 3, LANES, 65535):
        data = np.full(count, value, ">u2").tobytes() + bytes(7)
        assert fletcher32(data) == h5checksum_fletcher32(data)


def test_wherever_bytes_begin():
    for begin in range(5):
        data = RANDOM[begin : begin + 10_001]
        assert fletcher32(memoryview(data)) == h5checksum_fletcher32(data.tobytes())


def test_all_ones_do_not_overflow():
    data = np.full(20_000_001, 255, np.uint8)
    assert fletcher32(data) == h5checksum_fletcher32(data)


def test_many_threads():
    parts = [RANDOM[n : n + 20_000 + n] for n in range(64)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(fletcher32, parts)) == [
            h5checksum_fletcher32(each.tobytes()) for each in parts
        ]


def test_without_compiler():
    code = """
from sparsemed.kernels.fletcher32 import fletcher32
print(fletcher32(bytes(range(256)) * 5))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) == naive(bytes(range(256)) * 5)
