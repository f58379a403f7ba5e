# SPDX-License-Identifier: MIT
"""What this machine is, and what it can do at most."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from pygru import _core


def available_cores() -> list[int]:
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def cpu_name() -> str:
    """Return the processor's name where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} cores, {platform.system()}"


def limits(threads: int) -> tuple[float, float]:
    """Return GFLOP/s of multiply-adds and GB/s of reading, measured on all threads at once."""
    with ThreadPoolExecutor(threads) as pool:
        return tuple(
            sum(future.result() for future in [pool.submit(measure) for _ in range(threads)])
            for measure in (_peak, _read_bandwidth)
        )  # type: ignore[return-value]


def _peak() -> float:
    """Return the multiply-adds of one core in GFLOP/s, float32, instruction set in use."""
    return _best(50, lambda: _core.multiply_adds(50_000, "float32"))


def _read_bandwidth() -> float:
    """Return the GB/s at which one thread reads a block of memory, larger than any cache."""
    memory = np.ones(1 << 25, np.float32)  # 128 MiB

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
