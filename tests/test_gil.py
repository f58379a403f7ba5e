# SPDX-License-Identifier: MIT
"""Brief work keeps the GIL: giving it up costs a switching interval beside a busy Python thread."""

from __future__ import annotations

import sys
import threading
import time
from contextlib import contextmanager

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


@contextmanager
def ticking():
    """Yield a list that another thread lengthens whenever it has the GIL; only calls give it up."""
    stop, ready, ticks = threading.Event(), threading.Event(), []

    def tick():
        while not stop.is_set():
            ticks.append(None)
            ready.set()
            time.sleep(0)

    interval = sys.getswitchinterval()
    other = threading.Thread(target=tick)
    sys.setswitchinterval(1000)
    try:
        other.start()
        ready.wait()
        yield ticks
    finally:
        stop.set()
        sys.setswitchinterval(interval)
        other.join()


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_brief_call_keeps_the_gil(call):
    call()
    with ticking() as ticks:
        before = len(ticks)
        for _ in range(1000):
            call()
        assert len(ticks) == before


def zeros(*shape):
    return np.zeros(shape, np.float32)


long_x, scores = np.ones((1000, 64), np.float32), np.ones((200_000, 2), np.float32)
steps, many = np.ones((20_000, 1, 8), np.float32), np.ones(4_000_000, np.float32)
wide = pygru.Linear(64, 2000, rng=0)
weights, d_weights, h = wide.params["weight"], zeros(64, 2000).T, zeros(20_000, 1, 4)
run = (False, zeros(8, 12).T, zeros(4, 12).T, None, h, zeros(20_000, 1, 4, 4), h, None,
       *(None, None, zeros(8, 12).T, zeros(4, 12).T, None, None))  # fmt: skip
dy, each, pair = np.ones((1000, 2000), np.float32), np.ones(200_000, np.float32), zeros(2)
d_many, d_scores, sums, rests = (np.empty_like(a) for a in (many, scores, each, each))
classes = np.zeros(200_000, np.int64)
LONG = {
    "GRU": lambda: one(steps),
    "Linear": lambda: wide(long_x),
    "Softmax": lambda: pygru.Softmax()(scores),
    "LayerNorm": lambda: pygru.LayerNorm(2)(scores),
    "Tanh": lambda: pygru.Tanh()(many),
    "process": lambda: stream.process(steps[:, 0]),
    "GRU, back": lambda: _core.backward("gru_after", steps, None, [run]),
    "Linear, back": lambda: _core.linear_backward(long_x, weights, dy, None, d_weights, None),
    "LayerNorm, back": lambda: _core.layer_norm_backward(
        scores, each, pair, scores, d_scores, zeros(2), zeros(2)
    ),
    "Tanh, back": lambda: _core.activation_backward("tanh", many, many, d_many),
    "cross_entropy": lambda: _core.cross_entropy(scores, classes, each, d_scores, sums, rests),
}


@pytest.mark.parametrize("call", LONG.values(), ids=LONG)
def test_a_long_call_lets_other_threads_run(call):
    call()
    with ticking() as ticks:
        end, progress = time.perf_counter() + 20, False
        while not progress and time.perf_counter() < end:  # on busy cores it may take several
            before = len(ticks)
            call()
            progress = len(ticks) > before
    assert progress
