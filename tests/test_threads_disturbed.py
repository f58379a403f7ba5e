# SPDX-License-Identifier: MIT
"""Threads that are no use cost next to nothing: on busy cores, and where calls are far apart."""

from __future__ import annotations

import os
import sys
import textwrap

import pytest

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux") or len(os.sched_getaffinity(0)) < 2,
    reason="needs two cores, and a scheduler that shares them as Linux does",
)

# One thread and two in turn, a while of each: the mean times of a call of each, after two seconds
# in which the pool finds out what its threads are worth.
MEANS = """
import subprocess, sys, time
import numpy as np
import pygru

def means(T, B, I, H, pause=0.0):
    gru = pygru.GRU(I, H, rng=0)
    x = np.zeros((T, B, I), np.float32)
    spent = np.zeros((2, 2))  # by threads: seconds, calls
    start = time.perf_counter()
    while (now := time.perf_counter()) < start + 4:
        if now < start + 2:
            spent[:] = 0
        for threads in (1, 2):
            pygru.set_num_threads(threads)
            until = time.perf_counter() + 0.05
            while time.perf_counter() < until:
                time.sleep(pause)
                before = time.perf_counter()
                gru(x)
                spent[threads - 1] += time.perf_counter() - before, 1
    return spent[:, 0] / spent[:, 1]
"""


@pytest.fixture
def script(succeed):
    """Run code after `MEANS`; it must succeed."""
    return lambda code: succeed(MEANS + textwrap.dedent(code))


@pytest.mark.parametrize("shape", [(5, 64, 1, 64), (100, 1, 64, 256)], ids=["sequences", "units"])
def test_two_threads_on_busy_cores_are_as_fast_as_one(script, shape):
    script(f"""
        busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
        try:
            alone, together = means{shape}
        finally:
            for process in busy:
                process.kill()
        assert together < 1.5 * alone, (together, alone)
    """)


def test_two_threads_that_must_be_woken_for_every_call_are_as_fast_as_one(script):
    script("""
        alone, together = means(5, 24, 1, 64, pause=0.001)
        assert together < 1.5 * alone, (together, alone)
    """)
