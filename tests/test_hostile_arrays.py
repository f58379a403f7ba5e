# SPDX-License-Identifier: MIT
"""Arrays that no memory could hold, and arrays that change meanwhile: errors, never crashes."""

from __future__ import annotations

import numpy as np
import pytest
from problems import Options, draw, run_forward

import pygru
from pygru import _core
from pygru.reference import CELLS

HUGE = 2**60


@pytest.mark.parametrize("lengths", [None, np.zeros(0, int)])
def test_no_sequences_of_any_number_of_steps(lengths):
    gru, x = pygru.GRU(1, 1), np.zeros((2**40, 0, 1), np.float32)
    y, h_n = gru(x, lengths=lengths)
    assert y.shape == x.shape and h_n.shape == (1, 0, 1)
    with pytest.raises(ValueError, match=r"^GRU.forward: the states must fit in one array of at"):
        gru(np.zeros((HUGE, 0, 1), np.float32), lengths=lengths)


def test_no_steps_of_more_sequences_than_memory_holds():
    with pytest.raises(ValueError, match=r"^GRU.forward: the states must fit in one array"):
        pygru.GRU(1, 8)(np.zeros((0, HUGE, 1), np.float32))


def test_an_array_larger_than_memory_is_refused():
    one = np.float32(1)
    y = np.empty((0, 1), np.float32)
    with pytest.raises(ValueError, match="must be of a size that memory can have"):
        _core.linear_forward(
            np.empty((0, HUGE), np.float32), np.broadcast_to(one, (1, HUGE)), None, y
        )
    x, y, h_n = (np.empty(shape, np.float32) for shape in ((0, HUGE, 1), (0, HUGE, 0), (HUGE, 0)))
    W, U = np.empty((0, 1), np.float32), np.empty((0, 0), np.float32)
    with pytest.raises(ValueError, match="x must be of a size that memory can have"):
        _core.forward("rnn_tanh", x, None, [(False, W, U, None, None, None, y, h_n, None)])


def test_no_units_of_many_inputs_are_no_crash():
    W, U, b = (np.zeros(shape, np.float32) for shape in ((0, 33), (0, 0), 0))
    y, h_n = np.empty((2, 1, 0), np.float32), np.empty((1, 0), np.float32)
    x = np.zeros((2, 1, 33), np.float32)
    _core.forward("rnn_tanh", x, None, [(False, W, U, b, b, None, y, h_n, None)])


def test_lengths_and_classes_that_change_meanwhile_lead_nobody_out_of_bounds(succeed):
    succeed("""
import threading
import numpy as np
import pygru
from pygru import _core

stop = False
lengths, classes = np.full(64, 20), np.zeros(400, int)  # so few that NumPy keeps the GIL
block = np.zeros(4000, int)

def disturb():
    while not stop:
        for array, valid in ((lengths, 20), (classes, 0), (block[-400:], 0)):
            for wrong in (2**40, -(2**40)):
                array[:] = wrong
                array[:] = valid

thread = threading.Thread(target=disturb, daemon=True)
thread.start()
W, U, b = (np.zeros(shape, np.float32) for shape in ((24, 8), (24, 8), 24))
x, y, h_n = (np.zeros(shape, np.float32) for shape in ((20, 64, 8), (20, 64, 8), (64, 8)))
scores, weights = np.zeros((400, 500), np.float32), np.zeros(400, np.float32)
dy, sums, rests = np.empty_like(scores), np.empty_like(weights), np.empty_like(weights)
stream = pygru.Stream(pygru.Sequential(pygru.Embedding(3, 8, rng=0), pygru.GRU(8, 8, rng=0)))
made = 0
for _ in range(100):
    try:
        stream.process(block)
    except ValueError:
        pass
    try:
        _core.forward("gru_after", x, lengths, [(False, W, U, b, b, None, y, h_n, None)])
    except ValueError:
        pass
    made += _core.cross_entropy(scores, classes, weights, dy, sums, rests)
assert made, "no call saw classes that are valid"
stop = True
thread.join()
""")


def test_the_scratch_of_a_backward_pass_does_not_grow_with_the_team(succeed):
    succeed("""
import resource
import numpy as np
import pygru

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024  # MiB

rnn = pygru.RNN(1, 4, rng=0)
x = np.zeros((2, 200_000, 1), np.float32)
pygru.set_num_threads(1)
y, _, tape = rnn.forward(x)
rnn.backward(tape, y)
y, _, tape = rnn.forward(x)
before = peak()
pygru.set_num_threads(16)
rnn.backward(tape, y)
assert peak() - before < 40, f"{peak() - before} MiB"
""")


def test_a_bias_of_minus_0_stays_one_step_by_step(isa):
    for cell in CELLS:
        p = draw(cell, 1, 4, 3, 20, Options(initial=False), np.float32)
        zero = np.full_like(p.b_x, -0.0)
        p = p._replace(b_x=zero, b_h=zero, x=np.zeros_like(p.x))
        together = run_forward(p)
        for b in range(4):
            for whole, alone in zip(together, run_forward(p.only(b)), strict=True):
                part = whole[:, b : b + 1] if whole.ndim > 2 else whole[b : b + 1]
                assert np.array_equal(np.signbit(part), np.signbit(alone)), cell
