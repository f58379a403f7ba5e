# SPDX-License-Identifier: MIT
"""Steps that are taken of time: the last one, both ends, the mean, after whatever layer."""

from __future__ import annotations

import numpy as np
import pytest
from onnx_models import B, H, I, T, gru_node, model, node, weights
from tolerances import assert_close

import pygru
from pygru.interop import from_onnx, to_onnx


def pooled(batch_first):
    """Return models whose pooling does not read a recurrent layer."""
    layout = {"batch_first": batch_first}
    both = {"bidirectional": True, "rng": 0} | layout
    return [
        pygru.Sequential(pygru.GRU(I, H, **both), pygru.LayerNorm(2 * H), pygru.BothEnds()),
        pygru.Sequential(pygru.GRU(I, H, **both), pygru.Tanh(), pygru.BothEnds(), pygru.ReLU()),
        pygru.Sequential(pygru.RNN(I, H, **both), pygru.ReLU(), pygru.BothEnds()),
        pygru.Sequential(
            pygru.GRU(I, H, rng=0, **layout), pygru.Linear(H, 6, rng=1), pygru.BothEnds(),
        ),
        pygru.Sequential(
            pygru.GRU(I, H, **both), pygru.Softmax(), pygru.BothEnds(), pygru.RepeatVector(6),
            pygru.GRU(2 * H, H, **both), pygru.LayerNorm(2 * H), pygru.BothEnds(),
        ),
        *(pygru.Sequential(pygru.Linear(I, 2 * H, rng=0), pooling(**layout), pygru.Tanh())
          for pooling in (pygru.BothEnds, pygru.LastStep, pygru.MeanOverTime)),
        pygru.Sequential(pygru.LastStep(**layout), pygru.Linear(I, 2, rng=0)),
        pygru.Sequential(pygru.MeanOverTime(**layout), pygru.Linear(I, 2, rng=0)),
    ]  # fmt: skip


@pytest.mark.parametrize("batch_first", [False, True], ids=["time-first", "batch-first"])
def test_poolings_of_any_layer_come_and_go(batch_first):
    for ours in pooled(batch_first):
        again = from_onnx(to_onnx(ours))
        assert repr(again) == repr(ours)
        assert np.array_equal(again.flat_params, ours.flat_params)


@pytest.mark.parametrize("batch_first", [False, True], ids=["time-first", "batch-first"])
def test_onnx_runtime_pools_the_same(batch_first, runtime, rng):
    x = rng.standard_normal((B, T, I) if batch_first else (T, B, I)).astype(np.float32)
    for ours in pooled(batch_first):
        assert_close(ours(x), runtime(to_onnx(ours), {"x": x})[0], "interop", least=1.0)


def ends(*nodes, **attributes):
    """Return a model of n (T, B, 2 * H), a norm of two directions, and nodes that make y of it."""
    constants = weights(D=2) | {"w": np.ones(2 * H, "f4"), "merge": np.array([0, 0, -1])}
    constants |= {str(i): np.array(i) for i in (-1, 0, 1)} | {"sizes": np.array([3, 2 * H - 3])}
    constants |= {f"[{i}]": np.array([i]) for i in (0, 1, 2, H, 2 * H)}
    first = [
        gru_node(direction="bidirectional"), node("Transpose", ["Y"], ["t"], perm=[0, 2, 1, 3]),
        node("Reshape", ["t", "merge"], ["s"]), node("LayerNormalization", ["s", "w"], ["n"]),
    ]  # fmt: skip
    return model([*first, *nodes], constants, **attributes)


def step(place, made):
    return node("Gather", ["n", place], [made])


def part(of, start, stop, made, axis="[1]"):
    return node("Slice", [of, f"[{start}]", f"[{stop}]", axis], [made])


def halves(of, *made, axis=-1, **attributes):
    return node("Split", [of], list(made), axis=axis, **attributes)


LAST, FIRST = step("-1", "l"), step("0", "f")
TOGETHER = node("Concat", ["a", "d"], ["y"], axis=-1)


def test_both_ends_are_read_however_they_are_taken():
    for nodes in (
        [LAST, FIRST, part("l", 0, H, "a"), part("f", H, 2 * H, "d"), TOGETHER],
        [LAST, FIRST, halves("l", "a", "b"), halves("f", "c", "d"), TOGETHER],
        [LAST, halves("l", "a", "b", split=[H, H]), FIRST, halves("f", "c", "d", axis=1), TOGETHER],
        [halves("n", "l", "f"), node("Gather", ["l", "-1"], ["a"]),
         node("Gather", ["f", "0"], ["d"]), TOGETHER],
    ):  # fmt: skip
        kinds = [type(module) for module in from_onnx(ends(*nodes))]
        assert kinds == [pygru.GRU, pygru.LayerNorm, pygru.BothEnds]
    whole = [halves("n", "a", "d"), TOGETHER]
    assert [type(module) for module in from_onnx(ends(*whole))] == [pygru.GRU, pygru.LayerNorm]


@pytest.mark.parametrize(
    ("nodes", "told"),
    [
        ([step("0", "y")], "the output must read the last step of time, got the first"),
        ([FIRST, node("Relu", ["f"], ["y"])], "must read the last step of time, got the first"),
        ([LAST, FIRST, node("Relu", ["l"], ["r"]), node("Relu", ["f"], ["y"])], "no branches"),
        ([LAST, halves("l", "y", "b")], "the output must read the final states of the last layer"),
        ([LAST, halves("l", "a", "y")], "output must read all that the layer before it gives"),
        ([FIRST, halves("f", "y", "d")], "output must read all that the layer before it gives"),
        ([LAST, FIRST, halves("l", "a", "b"), halves("f", "c", "d"),
          node("Concat", ["d", "a"], ["y"], axis=-1)], "must read the final states of the last"),
        ([LAST, FIRST, halves("l", "b", "a"), halves("f", "d", "c"), TOGETHER],
         "must have the two directions of one layer"),
        ([LAST, FIRST, halves("l", "a", "b"), halves("f", "c", "d"),
          node("Relu", ["a"], ["y"])], "must read the final states of the last layer"),
        ([LAST, part("l", 1, H, "y")], "must have one half of the features, or all of them"),
        ([LAST, part("l", 0, 2, "y")], "must have one half of the features, or all of them"),
        ([LAST, node("Split", ["l", "sizes"], ["a", "y"], axis=-1)], "must have two equal parts"),
        ([LAST, halves("l", "a", "b", "c", "y")], "must have two equal parts"),
        ([LAST, halves("l", "a", "y", axis=0)], "must have an even number of features to part in"),
        ([LAST, halves("l", "a", "b"), halves("b", "c", "y")], "must have an even number of feat"),
    ],
)  # fmt: skip
def test_other_parts_of_the_features_or_of_time_are_refused(nodes, told):
    with pytest.raises(ValueError) as error:
        from_onnx(ends(*nodes))
    assert told in str(error.value)


def test_states_side_by_side_keep_their_axis_of_size_1():
    after = [node("Gather", ["c", "zero"], ["h"]), node("Relu", ["h"], ["y"])]
    beside = node("Concat", ["a", "b"], ["c"], axis=2)
    rows = [
        node("Slice", ["Y_h", "[0]", "[1]"], ["a"]),
        node("Slice", ["Y_h", "[1]", "[2]"], ["b"]),
    ]
    constants = weights(D=2) | {f"[{i}]": np.array([i]) for i in range(3)} | {"zero": np.array(0)}
    both = model([gru_node(direction="bidirectional"), *rows, beside, *after], constants)
    assert [type(module) for module in from_onnx(both)] == [pygru.GRU, pygru.BothEnds, pygru.ReLU]
    itself = node("Concat", ["Y_h", "Y_h"], ["c"], axis=2)
    with pytest.raises(ValueError, match="must read the final states of the last layer"):
        from_onnx(model([gru_node(), itself, *after], weights() | {"zero": np.array(0)}))


def test_layers_agree_about_time_where_a_pooling_told_first():
    nodes = [node("Gather", ["x", "last"], ["l"], axis=1), gru_node()]
    with pytest.raises(ValueError, match="must have axis 1 as time, as layers before it have"):
        from_onnx(model(nodes, weights() | {"last": np.array(-1)}, outputs=("Y",)))
