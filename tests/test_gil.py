# SPDX-License-Identifier: MIT
"""Brief work keeps the GIL: giving it up costs a switching interval beside a busy Python thread."""

from __future__ import annotations

import statistics
import sys
import threading
import time

import numpy as np
import pytest

import pygru
from pygru import _core

x = np.ones((1, 8), np.float32)


def layer(kind):
    def call():
        y, tape = kind.forward(x)
        kind.backward(tape, y)

    return call


def gru():
    y, _, tape = one.forward(x)
    one.backward(tape, y)


one = pygru.GRU(8, 4, rng=0)
stream = pygru.Stream(one)
CALLS = {
    "GRU": gru,
    "Linear": layer(pygru.Linear(8, 4, rng=0)),
    "Softmax": layer(pygru.Softmax()),
    "LayerNorm": layer(pygru.LayerNorm(8)),
    "cross_entropy": lambda: pygru.losses.cross_entropy(x, [3]),
    "mse": lambda: pygru.losses.mse(x, x),
    "Adam": lambda: optimizer.step(params, params),
    "dot": lambda: _core.dot(x[0], x[0]),
    "step": lambda: stream.step(x[0]),
}
params, optimizer = np.ones(8, np.float32), pygru.Adam()


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_brief_call_does_not_wait_for_a_busy_thread(call):
    stop, interval = threading.Event(), sys.getswitchinterval()

    def spin():
        while not stop.is_set():
            pass

    busy = threading.Thread(target=spin)
    call()
    busy.start()
    try:
        sys.setswitchinterval(0.05)
        times = []
        for _ in range(21):
            started = time.perf_counter()
            call()
            times.append(time.perf_counter() - started)
    finally:
        stop.set()
        sys.setswitchinterval(interval)
        busy.join()
    assert statistics.median(times) < 0.02
