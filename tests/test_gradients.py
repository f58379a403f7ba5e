# SPDX-License-Identifier: MIT
"""Gradients of every combination: cell x layers x directions x layout x lengths x what reads y.

One element after another is for single modules (test_layers); here the derivative along random
directions of all parameters and inputs at once stands for all elements, so that all combinations
are affordable.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from layer_problems import RECURRENT
from tolerances import assert_close

import pygru

T, B, I, H = 4, 3, 2, 4  # noqa: E741
# What reads y (T, B, K)
READERS = {
    "each step": lambda K: [pygru.LayerNorm(K, dtype=np.float64)],
    "last step": lambda _: [pygru.LastStep()],
    "both ends": lambda _: [pygru.BothEnds()],
    "mean": lambda _: [pygru.Sequential(pygru.MeanOverTime(), pygru.Sigmoid())],
    "last of a function": lambda _: [pygru.Tanh(), pygru.LastStep()],
    "one vector again": lambda _: [pygru.LastStep(), pygru.RepeatVector(3), pygru.Softmax()],
}
LENGTHS = {"full": None, "lengths": [4, 0, 2]}


def check_directions(model, run, x, rng, count=4):
    """Hold grads and dx against central differences along random directions."""
    state = model.rng_state()

    def forward():
        model.load_rng_state(state)  # the same dropout masks every time
        return run()

    y, tape = forward()
    dy = rng.standard_normal(y.shape)
    model.zero_grad()
    dx = model.backward(tape, dy)
    moved = [(model.flat_params, model.flat_grads), (x, dx)]
    analytic, numeric, step = [], [], 1e-5
    for _ in range(count):
        directions = [rng.standard_normal(array.shape) / 4 for array, _ in moved]
        pairs = list(zip(moved, directions, strict=True))
        analytic.append(sum(float(np.sum(gradient * v)) for (_, gradient), v in pairs))
        losses = []
        for move in (step, -2 * step, step):  # above, below, and back
            for (array, _), v in pairs:
                array += move * v
            losses.append(float(np.sum(dy * forward()[0])))
        numeric.append((losses[0] - losses[1]) / (2 * step))
    assert_close(np.array(analytic), np.array(numeric), "finite differences", "directions")


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("cell", RECURRENT)
def test_gradients_of_every_combination_are_finite_differences(cell, reader, lengths, rng):
    for layers, bidirectional, first in itertools.product((1, 2), (False, True), (False, True)):
        if reader == "both ends" and not bidirectional:
            continue
        K = H * (1 + bidirectional)
        options = {"batch_first": first, "dtype": np.float64, "rng": rng}
        dropout = {"dropout": 0.4} if layers > 1 else {}
        model = pygru.Sequential(
            pygru.Linear(I, I, dtype=np.float64, rng=rng),
            pygru.Dropout(0.2, rng=rng),
            RECURRENT[cell](I, H, layers, bidirectional=bidirectional, **dropout, **options),
            *READERS[reader](K),
            pygru.Linear(K, 2, dtype=np.float64, rng=rng),
        )
        batch = rng.standard_normal((B, T, I) if first else (T, B, I))
        one = batch[0].copy() if first else batch[:, 0].copy()
        for x, ends in ((batch, LENGTHS[lengths]), (one, LENGTHS[lengths] and 3)):
            check_directions(model, lambda m=model, x=x, e=ends: m.forward(x, lengths=e), x, rng)


@pytest.mark.parametrize("cell", RECURRENT)
def test_gradients_of_pieces_with_carried_state_are_finite_differences(cell, rng):
    for layers, first, pooled in itertools.product((1, 2), (False, True), (False, True)):
        options = {"batch_first": first, "dtype": np.float64, "rng": rng}
        model = pygru.Sequential(
            RECURRENT[cell](I, H, layers, **options),
            pygru.Sequential(RECURRENT[cell](H, H, **options)),
            *([pygru.LastStep()] if pooled else []),
        )
        x = rng.standard_normal((B, T, I) if first else (T, B, I))
        _, tape = model.forward(x)
        carried = tape.state

        def run(model=model, x=x, carried=carried):
            return model.forward(x, state=carried, lengths=[4, 0, 2])

        check_directions(model, run, x, rng)
