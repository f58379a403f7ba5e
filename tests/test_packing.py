# SPDX-License-Identifier: MIT
"""What the extension itself refuses to pack or to step through, whoever calls it."""

from __future__ import annotations

import numpy as np
import pytest

import pygru
from pygru import _core


@pytest.mark.parametrize(
    "use",
    [
        lambda: pygru.Stream.__new__(pygru.Stream).step(np.zeros(3)),
        lambda: pygru.Stream.__new__(pygru.Stream).process(np.zeros((2, 3))),
        lambda: pygru.Stream.__new__(pygru.Stream).reset(),
        lambda: _core.Stream.__new__(_core.Stream)._states(),
        lambda: _core.Stream.__new__(_core.Stream)._set_states([]),
        lambda: _core.Stream(_core.PackedModel.__new__(_core.PackedModel), 1),
    ],
    ids=["step", "process", "reset", "states", "set_states", "model"],
)
def test_a_stream_without_its_init_is_an_error(use):
    with pytest.raises(RuntimeError, match="used before its __init__"):
        use()


def packing(dtype=np.float32, **changed):
    """A layer of a GRU with H = 4, I = 3 as it is packed, with changes."""
    shapes = {"W": (12, 3), "U": (12, 4), "b_x": (12,), "b_h": (12,)}
    layer = {"cell": "gru_after"} | {k: np.zeros(s, dtype) for k, s in shapes.items()} | changed
    return tuple(layer.values())


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"W": np.zeros((13, 3), np.float32)}, r"W must be of shape .* G = 3, got \(13, 3\)"),
        ({"W": np.zeros(12, np.float32)}, r"W must be of shape .*, got \(12,\)"),
        ({"W": np.zeros((12, 3), np.float64)}, "W must be an array of float32, .*of float64"),
        ({"W": [[0.0] * 3] * 12}, "W must be an array"),
        ({"U": np.zeros((12, 3), np.float32)}, r"U must be of shape .* = \(12, 4\)"),
        ({"U": None}, "U must be an array of float32, got NoneType"),
        ({"b_x": np.zeros(13, np.float32)}, r"b_x must be of shape .* = \(12,\)"),
        ({"b_h": np.zeros(4, np.float32)}, r"b_h must be of shape .* = \(12,\)"),
    ],
)
def test_packing_refuses_weights_that_do_not_fit(changed, told):
    below = packing(W=np.zeros((12, 5), np.float32))
    above = packing(**{"W": np.zeros((12, 4), np.float32)} | changed)
    with pytest.raises((TypeError, ValueError), match="_core: " + told):
        _core.PackedModel([below, above])


def test_packing_refuses_layers_that_are_none():
    below = packing(W=np.zeros((12, 5), np.float32))
    no_input = packing(W=np.zeros((12, 0), np.float32))
    no_unit = ("gru_after", np.zeros((0, 3), np.float32), np.zeros((0, 0), np.float32), None, None)
    W, w = np.zeros((5, 4), np.float32), np.zeros(5, np.float32)
    norm = ("layer_norm", w[:4], w[:4], 1e-5)
    wrong = [
        [],
        [()],
        [below, ()],
        [below[:-1]],
        [below, below],
        [no_input],
        [no_unit],
        [("tanh", 4)],  # no weights
        [("one_hot", 3)],
        [("one_hot", 3), below[:-1]],
        [("one_hot", 4), below],
        [("embedding", W[:, :3]), below],
        [below, ("embedding", W[:4]), ("linear", W, w)],
        [below, ("one_hot", 4), ("linear", W, w)],
        [("embedding", W[:0]), ("linear", W, w)],
        [("embedding",), ("linear", W, w)],
        [below, ("tanh", 5)],
        [below, ("exp",)],
        [below, ("gelu", 4)],
        [below, ("linear", W)],
        [below, ("linear", W, w[:4])],
        [below, ("linear", W, w), norm],
        [below, (*norm, None)],
        [below, ("layer_norm", w[:4], w, 1e-5)],
        [below, ("layer_norm", w[np.newaxis, :4], w[:4], 1e-5)],
        [("layer_norm", w[:0], w[:0], 1e-5)],
    ]
    for layers in wrong:
        with pytest.raises(ValueError, match="_core: "):
            _core.PackedModel(layers)


def test_a_stream_refuses_states_that_do_not_fit():
    second = packing(W=np.zeros((12, 4), np.float32))
    stream = _core.Stream(_core.PackedModel([packing(), second]), 2)
    state = np.ones((2, 4), np.float32)
    apart = np.repeat(state, 2, axis=0)[::2]
    for states in ([], [state], [state] * 3):
        with pytest.raises(ValueError, match="_core: states must have one entry per recurrent"):
            stream._set_states(states)
    for wrong, told in ((state[:1], "of shape"), (apart, "contiguous")):
        for states in ([wrong, state], [state, wrong]):
            with pytest.raises(ValueError, match=f"_core: state must be {told}"):
                stream._set_states(states)
    assert not any(h.any() for h in stream._states())
