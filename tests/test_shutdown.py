# SPDX-License-Identifier: MIT
"""The end of the process, whatever daemon threads are doing: no crash, no hang, not a word."""

from __future__ import annotations

import os

import pytest

TINY_CALLS = """
import os, threading
import numpy as np
import pygru

x = np.ones((5, 4, 8), np.float32)
gru = pygru.GRU(8, 16, rng=0)
started = threading.Event()
def work():
    started.set()
    while True:
        gru(x)

for _ in range(20):  # each child ends with its threads at another place
    child = os.fork()
    if not child:
        break
    assert os.waitpid(child, 0)[1] == 0
else:
    os._exit(0)
for _ in range(4):
    threading.Thread(target=work, daemon=True).start()
started.wait()
"""

ONE_LONG_CALL = """
import os, sys, threading, time, types
import numpy as np
import pygru

class Given(np.ndarray):
    def __del__(self, write=os.write, too_late=sys.is_finalizing):
        if too_late():
            write(2, b"freed without the GIL")

class Block:  # an array that nobody but the running call holds
    def __array__(self, dtype=None, copy=None):
        block = Given((200_000, 8), np.float32)
        block.fill(1)
        started.set()
        return block

class Slow:  # the interpreter shuts down for longer than the call takes
    def __del__(self, sleep=time.sleep):
        sleep(1)

sys.modules["slow"] = types.ModuleType("slow")
sys.modules["slow"].slow = Slow()
sys.setswitchinterval(1000)  # only the call gives the GIL up
started = threading.Event()
def work():
    stream = pygru.Stream(pygru.GRU(8, 64, rng=0))
    stream.process(Block())
threading.Thread(target=work, daemon=True).start()
started.wait()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_process_ends_quietly_while_daemon_threads_are_inside_calls(python):
    process = python(TINY_CALLS)
    assert (process.returncode, process.stderr) == (0, "")


def test_a_call_that_outlives_the_interpreter_touches_no_object(python):
    process = python(ONE_LONG_CALL)
    assert (process.returncode, process.stderr) == (0, "")
