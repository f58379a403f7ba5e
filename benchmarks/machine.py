# SPDX-License-Identifier: MIT
"""What one core of this machine can do: the ceilings that the results are set against.

Both are the best of many short runs: what the machine does when nobody disturbs it.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from pygru import _core


def peak() -> float:
    """Return the multiply-adds of one core in GFLOP/s, float32, instruction set in use."""
    return _best(50, lambda: _core.multiply_adds(50_000, "float32"))


def read_bandwidth(megabytes: int = 256) -> float:
    """Return the GB/s at which one thread reads a block of memory of that size."""
    memory = np.ones(megabytes << 18, np.float32)

    def read() -> float:
        _core.read(memory)
        return memory.nbytes

    return _best(5, read)


def _best(times: int, work: Callable[[], float]) -> float:
    """Return the most that ``work`` did in a nanosecond, by the amount that it says it did."""
    most = 0.0
    for _ in range(times):
        start = time.perf_counter()
        amount = work()
        most = max(most, amount / (time.perf_counter() - start))
    return most / 1e9
