"""Find the median image of a stack, and watch the memory that this takes.

A program of its own: ``python -m benchmarks.stack_memory stack.npy CONTENDER``. It prints the
bytes, without those of the stack and of all that is imported.
"""

import os
import sys
import time

import numpy as np
import psutil

from benchmarks.end_to_end import Watch
from benchmarks.stacks import contenders

LEAST_SECONDS = 0.3
"""What is faster is done again and again, so that it is seen."""


def main() -> None:
    images = np.load(sys.argv[1])
    contenders(images[:3, :8, :8].copy())[sys.argv[2]]()  # whatever is loaded when first used
    contender = contenders(images)[sys.argv[2]]
    before = psutil.Process().memory_info().rss
    with Watch(os.getpid(), count_workers=False) as watch:
        began = time.perf_counter()
        while time.perf_counter() - began < LEAST_SECONDS:
            contender()
    print(max(0, watch.peak - before))


if __name__ == "__main__":
    main()
