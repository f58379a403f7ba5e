# SPDX-License-Identifier: MIT
"""ONNX models for tests: single nodes, whole graphs, and layers that have an equal there."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import pygru
from pygru.interop.onnx.exporting import _attribute
from pygru.interop.onnx.tensors import tensor
from pygru.interop.onnx.wire import encode

DATA = Path(__file__).resolve().parent / "data" / "onnx"
I, H, T, B = 3, 4, 7, 5  # noqa: E741
VARIANTS = {
    "after": (pygru.GRU, {"reset": "after"}),
    "before": (pygru.GRU, {"reset": "before"}),
    "tanh": (pygru.RNN, {"nonlinearity": "tanh"}),
    "relu": (pygru.RNN, {"nonlinearity": "relu"}),
}


def node(op, inputs, outputs, **attributes):
    described = [_attribute(key, value) for key, value in attributes.items()]
    return {"op_type": op, "input": inputs, "output": outputs, "attribute": described}


def model(nodes, constants=None, inputs=("x",), outputs=("y",), opset=17, **fields):
    """Return the bytes of a model; x is float32 of three axes."""
    kind = {"elem_type": 1, "shape": {"dim": [{}, {}, {"dim_value": I}]}}
    graph = {
        "name": "test",
        "node": nodes,
        "initializer": [tensor(k, np.asarray(v)) for k, v in (constants or {}).items()],
        "input": [{"name": name, "type": {"tensor_type": kind}} for name in inputs],
        "output": [{"name": name, "type": {"tensor_type": kind}} for name in outputs],
    } | fields  # fmt: skip
    return encode({"ir_version": 8, "graph": graph, "opset_import": [{"version": opset}]})


def weights(gates=3, D=1, bias=True, seed=0, dtype=np.float32):
    rng = np.random.default_rng(seed)
    shapes = {"W": (D, gates * H, I), "R": (D, gates * H, H), "B": (D, 2 * gates * H)}
    made = {k: rng.uniform(-0.5, 0.5, shape).astype(dtype) for k, shape in shapes.items()}
    return made if bias else {k: w for k, w in made.items() if k != "B"}


def gru_node(*inputs, outputs=("Y", "Y_h"), op="GRU", **attributes):
    return node(op, ["x", "W", "R", "B", *inputs], list(outputs), **attributes)


def bare(*inputs, op="GRU", D=1, **attributes):
    """Return a model of one node."""
    constants = weights(3 if op == "GRU" else 1, D)
    names = ("x", *(name for name in inputs if name))
    return model([gru_node(*inputs, op=op, **attributes)], constants, names, ("Y", "Y_h"))


def everything(batch_first):
    """Return a model with one of each module that ONNX has an equal of."""
    layout = {"batch_first": batch_first}
    return pygru.Sequential(
        pygru.Embedding(9, I, rng=0), pygru.Linear(I, I, rng=1),
        pygru.GRU(I, H, 2, bidirectional=True, rng=2, **layout), pygru.LayerNorm(2 * H),
        pygru.Tanh(), pygru.RNN(2 * H, H, nonlinearity="relu", rng=3, **layout), pygru.ReLU(),
        pygru.GRU(H, H, reset="before", bidirectional=True, rng=4, **layout),
        pygru.BothEnds(), pygru.Sigmoid(), pygru.Linear(2 * H, 2, bias=False, rng=5),
        pygru.Softmax(),
    )  # fmt: skip


def repeating(batch_first):
    """Return models that make a sequence of one vector, of which one begins with a sequence."""
    layout = {"batch_first": batch_first}
    return [
        pygru.Sequential(
            pygru.OneHot(9), pygru.GRU(9, H, rng=0, **layout), pygru.LastStep(),
            pygru.RepeatVector(6), pygru.GRU(H, H, rng=1, **layout), pygru.Linear(H, 2, rng=2),
        ),
        pygru.Sequential(
            pygru.Linear(1, H, rng=0), pygru.RepeatVector(6), pygru.GRU(H, H, rng=1, **layout),
        ),
    ]  # fmt: skip


def squeezed(*nodes, **constants):
    """Return a model of a GRU and more nodes, whose last output is y."""
    first = [gru_node(), node("Squeeze", ["Y", "one"], ["s"])]
    return model([*first, *nodes], weights() | {"one": np.array([1])} | constants)
