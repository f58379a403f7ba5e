# SPDX-License-Identifier: MIT
"""What the tests of layers share: sizes, every recurrent layer, and a check of gradients."""

from __future__ import annotations

import numpy as np
from tolerances import assert_close, finite_difference

import pygru

T, B, I, H = 7, 5, 3, 8  # noqa: E741
LENGTHS = [7, 0, 1, 4, 6]
RECURRENT = {
    "gru_after": lambda *a, **k: pygru.GRU(*a, reset="after", **k),
    "gru_before": lambda *a, **k: pygru.GRU(*a, reset="before", **k),
    "rnn_tanh": lambda *a, **k: pygru.RNN(*a, nonlinearity="tanh", **k),
    "rnn_relu": lambda *a, **k: pygru.RNN(*a, nonlinearity="relu", **k),
}


def check_gradients(layer, x, rng, lengths=None):
    """Hold backward of a layer against finite differences of sum(dy * y)."""
    state = layer.rng_state()

    def run():
        layer.load_rng_state(state)  # the same dropout masks every time
        return layer.forward(x, lengths=lengths)

    y, tape = run()
    dy = rng.standard_normal(y.shape)
    layer.zero_grad()
    dx = layer.backward(tape, dy)
    targets = {name: (layer.params[name], layer.grads[name]) for name in layer.params}
    if dx is not None:
        targets["x"] = (x, dx)
    for name, (array, gradient) in targets.items():
        expected = finite_difference(lambda: float(np.sum(dy * run()[0])), array)
        assert_close(gradient, expected, "finite differences", f"d{name}")
