# SPDX-License-Identifier: MIT
"""Where threads wake: not behind the one that wakes them, and where the user lets them be."""

from __future__ import annotations

import os
import sys
import textwrap

import pytest

SCRIPT = """
import os, pathlib, time
import numpy as np
import pygru

gru = pygru.GRU(8, 128, rng=0)
x = np.random.default_rng(0).standard_normal((96, 32, 8)).astype(np.float32)

def cpu_of(thread):  # on which it ran last
    stat = pathlib.Path(f"/proc/self/task/{thread}/stat").read_text()
    return int(stat.rpartition(")")[2].split()[36])

def turns_of(thread):  # how often it got a CPU
    return int(pathlib.Path(f"/proc/self/task/{thread}/schedstat").read_text().split()[2])

def call_after_a_rest():
    time.sleep(0.02)
    gru(x)

allowed = os.sched_getaffinity(0)
pygru.set_num_threads(1)
gru(x)
before = set(os.listdir("/proc/self/task"))
pygru.set_num_threads(2)
gru(x)
(member,) = map(int, set(os.listdir("/proc/self/task")) - before)
"""

pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc"),
    pytest.mark.skipif(
        not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2,
        reason="needs two CPUs",
    ),
]


@pytest.fixture
def script(succeed):
    """Run code after `SCRIPT`; it must succeed."""
    return lambda code: succeed(SCRIPT + textwrap.dedent(code))


def test_members_that_slept_long_do_not_wake_behind_the_caller(script):
    script("""
        apart = together = 0
        for _ in range(40):
            before = turns_of(member)
            call_after_a_rest()
            if turns_of(member) > before:  # else the caller made it alone
                apart += cpu_of(member) != cpu_of(os.getpid())
                together += 1
        assert apart > 0.7 * together, (apart, together)
    """)


def test_where_threads_may_run_is_afterwards_what_it_was(script):
    script("""
        for _ in range(20):
            call_after_a_rest()
            time.sleep(0.002)
            assert os.sched_getaffinity(member) == allowed
            assert os.sched_getaffinity(0) == allowed
    """)


def test_a_thread_that_the_user_gave_one_cpu_stays_there(script):
    script("""
        first, *_ = allowed
        os.sched_setaffinity(member, {first})
        os.sched_setaffinity(0, {first})
        for _ in range(20):
            call_after_a_rest()
            assert os.sched_getaffinity(member) == os.sched_getaffinity(0) == {first}
    """)
