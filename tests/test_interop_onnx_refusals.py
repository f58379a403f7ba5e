# SPDX-License-Identifier: MIT
"""What pygru has no equal of is refused, by the name of the node."""

from __future__ import annotations

import numpy as np
import pytest
from onnx_models import B, H, I, bare, gru_node, model, node, squeezed, weights

from pygru.interop import from_onnx
from pygru.interop.onnx.wire import encode

ALL = np.array([2**63 - 1])


def reading_both_ends(*nodes, **constants):
    """Return a model of a GRU in two directions and nodes that make y of its final states."""
    given = weights(D=2) | {"zero": np.array([0]), "one": np.array([1]), "all": ALL} | constants
    return model([gru_node(direction="bidirectional"), *nodes], given)


def parts():
    """Return nodes that take the two final states, f and b, (B, H) each."""
    return [
        node("Gather", ["Y_h", "first"], ["f"]),
        node("Gather", ["Y_h", "second"], ["b"]),
    ]


PLACES = {"first": np.array(0), "second": np.array(1)}


@pytest.mark.parametrize(
    "content, message",
    [
        # outputs
        (
            squeezed(node("Identity", ["s"], ["y"]), node("Tanh", ["s"], ["t"])),
            "output 'y' must be y of the last layer or all final states",
        ),
        (model([node("Relu", ["x"], ["y"]), node("Identity", ["y"], ["z"])], outputs=("y", "z")),
         "must give one y, besides final states, got ['y', 'z']"),
        (model([gru_node()], weights(), outputs=("Y_h",)), "must give one y, besides final states"),
        (
            model(
                [gru_node(outputs=("Y", "a")), node("Squeeze", ["Y", "one"], ["s"]),
                 node("GRU", ["s", "W2", "R", "B"], ["y", "b"])],
                weights() | {"one": np.array([1]), "W2": np.ones((1, 3 * H, H), "f4")},
                outputs=("y", "a"),
            ),
            "output 'a' must be y of the last layer or all final states",
        ),
        (squeezed(node("Transpose", ["s"], ["y"], perm=[0, 2, 1])), "the order of the input's"),
        (squeezed(node("Transpose", ["s"], ["y"])), "the order of the input's"),  # all reversed
        (squeezed(node("Transpose", ["s"], ["y"], perm=[0, 0, 2])), "a permutation of 3 axes"),
        # values that are the same everywhere
        (
            model(
                [node("ConstantOfShape", ["n"], ["a"]), node("Expand", ["o", "n"], ["b"]),
                 node("Concat", ["a", "b"], ["h"], axis=0), gru_node("", "h")],
                weights() | {"n": np.array([1, B, H]), "o": np.ones(1, "f4")}, outputs=("Y",),
            ),
            "node 2 (Concat) must have an operator that leaves a value what it is",
        ),
        (
            model([node("ConstantOfShape", ["n"], ["a"]), node("Sigmoid", ["a"], ["h"]),
                   gru_node("", "h")], weights() | {"n": np.array([1, B, H])}, outputs=("Y",)),
            "node 1 (Sigmoid) must have an operator that leaves a value what it is",
        ),
        # steps
        (
            squeezed(node("Slice", ["s", "zero", "all", "zero", "two"], ["y"]),
                     zero=np.array([0]), all=ALL, two=np.array([2])),
            "must have the last step of time, or all of it, got slice(0, None, 2)",
        ),
        (
            squeezed(node("Shape", ["x"], ["n"]), node("Gather", ["n", "one"], ["B"]),
                     node("Slice", ["s", "zero", "B", "zero"], ["y"]), zero=np.array([0])),
            "must have bounds that are known",
        ),
        (
            squeezed(node("Dropout", ["s", "p", "on"], ["y"]), p=np.array(0.5, "f4"),
                     on=np.array(True)),
            "must have training_mode=False, got True",
        ),
        # functions
        (squeezed(node("ReduceMean", ["s"], ["y"])), "must have time as its axis"),
        (squeezed(node("ReduceMean", ["s"], ["y"], axes=[0, 2])), "must have time as its axis"),
        (model([node("OneHot", ["x", "K", "v"], ["y"])],
               {"K": np.array(9), "v": np.array([0, 1], "f4")}),
         "must have integers of the input, and the classes last"),
        (reading_both_ends(node("Reshape", ["Y", "to"], ["y"]), to=np.array([7, B, 2 * H])),
         "a shape that keeps the axes ('0', 'D', '1', 'C')"),
        (reading_both_ends(node("Reshape", ["Y", "to"], ["y"]), to=np.array([-1, H])),
         "a shape that keeps the axes ('0', 'D', '1', 'C')"),
        (squeezed(node("LayerNormalization", ["s", "w"], ["y"], axis=1), w=np.ones(H, "f4")),
         "must have axis=-1, the features, got 1"),
        (
            squeezed(node("Transpose", ["s"], ["t"], perm=[0, 2, 1]),
                     node("LayerNormalization", ["t", "w"], ["y"]), w=np.ones(B, "f4")),
            "must have axis=-1, the features",
        ),
        (reading_both_ends(node("LayerNormalization", ["Y", "w"], ["y"]), w=np.ones(H, "f4")),
         "must have axis=-1, the features"),
        (squeezed(node("Softmax", ["s"], ["y"], axis=1)), "must have axis=-1, the features, got 1"),
        (
            model([gru_node(), node("Squeeze", ["Y"], ["s"], axes=[1]),
                   node("Softmax", ["s"], ["y"])],
                  weights(), opset=12),
            "must have axis=-1, the features, got 1",
        ),
        (
            squeezed(node("MatMul", ["s", "m"], ["p"]), node("Add", ["p", "b"], ["q"]),
                     node("Add", ["q", "b"], ["y"]), m=np.ones((H, 2), "f4"), b=np.ones(2, "f4")),
            "must have a matrix product before it, whose bias it adds",
        ),
        (squeezed(node("Gemm", ["s", "m"], ["y"], beta=2.0), m=np.ones((H, 2), "f4")),
         "must have alpha=1, beta=1, transA=0"),
        (squeezed(node("Gemm", ["s", "m"], ["y"], transA=1), m=np.ones((H, 2), "f4")),
         "must have alpha=1, beta=1, transA=0"),
        (
            squeezed(node("Transpose", ["s"], ["t"], perm=[0, 2, 1]),
                     node("MatMul", ["t", "m"], ["y"]), m=np.ones((H, 2), "f4")),
            "must have input (..., K), got axes ('0', 'C', '1')",
        ),
        (squeezed(node("Cast", ["m"], ["n"], to=16), node("MatMul", ["s", "n"], ["y"]),
                  m=np.ones((H, 2), "f4")),
         "must have a type that pygru knows, got 16"),
        (squeezed(node("Reshape", ["s", "to"], ["y"], allowzero=1), to=np.array([0, 0, -1])),
         "a shape that keeps the axes"),
        (bare(clip=0.0), "must have clip above 0, got 0.0"),
        (bare(activations=["Sigmoid", "Relu"]), "must have activations Sigmoid and Tanh, got ['S"),
        # final states
        (
            reading_both_ends(*parts(), node("Concat", ["b", "f"], ["c"], axis=-1),
                              node("Relu", ["c"], ["y"]), **PLACES),
            "must read the final states of the last layer, all directions side by side",
        ),
        (
            reading_both_ends(node("Reshape", ["Y_h", "to"], ["h"]), node("Relu", ["h"], ["y"]),
                              to=np.array([-1, 2 * H])),  # which mixes the sequences of a batch
            "a shape that keeps the axes ('D', '1', 'C') or merges some, got [-1, 8]",
        ),
        (
            reading_both_ends(*parts(), node("Relu", ["b"], ["y"]), **PLACES),
            "must read the final states of the last layer, all directions side by side",
        ),
        (
            reading_both_ends(node("Relu", ["Y_h"], ["y"])),
            "must read the final states of the last layer, all directions side by side",
        ),
        (
            reading_both_ends(node("Gather", ["Y", "zero"], ["g"], axis=1),
                              node("Squeeze", ["g", "one"], ["f"]), node("Relu", ["f"], ["y"])),
            "must read all that the layer before it gives: no branches",
        ),
        # what layers share
        (
            model([node("MatMul", ["x", "m"], ["a"]), node("MatMul", ["a", "n"], ["b"]),
                   node("MatMul", ["b", "n"], ["y"])],
                  {"m": np.ones((I, 200), "f4"), "n": np.ones((200, 200), "f4")}),
            "node 2 (MatMul) must have weights of its own, got some that other nodes use too",
        ),
        (
            squeezed(node("Transpose", ["s"], ["t"], perm=[1, 0, 2]),
                     node("GRU", ["t", "W2", "R", "B"], ["y"]),
                     W2=np.ones((1, 3 * H, H), "f4")),
            "must have axis 0 as time, as layers before it have, got 1",
        ),
        (
            model([node("Unsqueeze", ["v", "one"], ["x"]), gru_node()],
                  weights() | {"one": np.array([1])}, outputs=("Y",),
                  input=[{"name": "v", "type": {"tensor_type": {"elem_type": 1, "shape": {
                      "dim": [{}, {"dim_value": I}]}}}}]),
            "must have input (T, B, I), got axes ('0', 'u', 'C')",
        ),
        # lengths
        (
            model([node("Slice", ["l", "zero", "one"], ["m"]), gru_node("m")],
                  weights() | {"zero": np.array([0]), "one": np.array([1])}, ("x", "l"), ("Y",)),
            "must have sequence_lens as layers before it have",
        ),
        (
            model([gru_node("l"), node("Squeeze", ["Y", "one"], ["s"]),
                   node("GRU", ["s", "W2", "R", "B", "m"], ["y"])],
                  weights() | {"one": np.array([1]), "W2": np.ones((1, 3 * H, H), "f4")},
                  ("x", "l", "m")),
            "must have sequence_lens as layers before it have",
        ),
        (
            model([node("Expand", ["three", "n"], ["l"]), gru_node("l")],
                  weights() | {"three": np.array([3]), "n": np.array([B])}, outputs=("Y",)),
            "must have sequence_lens from an input, got a constant",
        ),
        # states
        (
            model([gru_node("", "h"), node("Squeeze", ["Y", "one"], ["s"]),
                   node("GRU", ["s", "W2", "R", "B", "", "h"], ["y"])],
                  weights() | {"one": np.array([1]), "W2": np.ones((1, 3 * H, H), "f4")},
                  ("x", "h")),
            "must have rows (1, 2) of the one initial state",
        ),
        (
            model([gru_node("", "h"), node("Squeeze", ["Y", "one"], ["s"]),
                   node("Slice", ["k", "one", "two", "zero"], ["k1"]),
                   node("GRU", ["s", "W2", "R", "B", "", "k1"], ["y"])],
                  weights() | {"zero": np.array([0]), "one": np.array([1]), "two": np.array([2]),
                               "W2": np.ones((1, 3 * H, H), "f4")},
                  ("x", "h", "k")),
            "must have rows (1, 2) of the one initial state",
        ),
        (
            model([node("Expand", ["o", "n"], ["h"]), gru_node("", "h")],
                  weights() | {"o": np.ones(1, "f4"), "n": np.array([1, B, H])}, outputs=("Y",)),
            "must have initial_h from an input, or 0",
        ),
        (squeezed(node("Squeeze", ["s", "zero"], ["y"]), zero=np.array([0])),
         "must have axes of size 1 to take away"),
        (reading_both_ends(node("Squeeze", ["Y_h", "zero"], ["h"]), node("Relu", ["h"], ["y"])),
         "must have axes of size 1 to take away"),
        (encode({"opset_import": [{"version": 17}]}), "without graph or operator set"),
        (model([node("If", ["x"], ["y"])]), "how tf2onnx writes those it does not know"),
        (encode({"graph": {"input": [{"name": "x"}]}}), "without graph or operator set"),
    ],
)  # fmt: skip
def test_what_has_no_equal_is_refused_by_name(content, message):
    with pytest.raises(ValueError) as error:
        from_onnx(content)
    assert str(error.value).startswith("from_onnx: ")
    assert message in str(error.value)
