# SPDX-License-Identifier: MIT
"""Running what was imported as its graph would: same inputs, same outputs, in its layout.

Whole models run on the layers they became. A single GRU or RNN node runs with every attribute of
its operator: on pygru's kernels where they have the function, else (clip, other activations) by the
equations below, which are the operator's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from pygru.activations import ReLU, Sigmoid, Tanh
from pygru.interop import blocks
from pygru.interop.blocks import Array, Run
from pygru.interop.onnx.cells import DEFAULTS, RecurrentNode, recurrent_node
from pygru.interop.onnx.flow import State
from pygru.interop.onnx.graph import Graph
from pygru.interop.onnx.importing import Imported, Output
from pygru.layers import GRU, RNN
from pygru.model import Sequential

__all__ = ["run_model", "run_node"]

FUNCTIONS: dict[str, Callable[[Array], Array]] = {
    "Relu": ReLU(),
    "Sigmoid": Sigmoid(),
    "Tanh": Tanh(),
}


# Whole models


def run_model(imported: Imported, feeds: Mapping[str, Array]) -> list[Array]:
    """Return the outputs of a graph that became a model.

    Parameters
    ----------
    imported : Imported
    feeds : mapping
        The graph's inputs by name.
    """
    model, x = imported.model, feeds[imported.x]
    h_0 = None if imported.state is None else _rows_first(feeds, imported.state)
    lengths = None if imported.lengths is None else feeds[imported.lengths]
    if isinstance(model, Sequential):
        # Past `run`, which refuses a state of two directions: a whole sequence may start from one.
        h_ns: list[Array] = []
        h_0s = None if h_0 is None else iter(_split(model, h_0))
        y, _ = model._carry_forward(x, lengths, False, h_0s, h_ns)
    else:
        y, h_n = model(x, h_0, lengths=lengths)
        h_ns = [h_n]
    return [
        _in_layout(output, y if output.kind == "y" else np.concatenate(h_ns))
        for output in imported.outputs
    ]


def _rows_first(feeds: Mapping[str, Array], state: State) -> Array:
    """Return the initial state (L*D, B, H)."""
    h_0 = feeds[state.name]
    if "u" in state.axes:
        return h_0[np.newaxis]
    return h_0 if state.axes[0] == "0" else h_0.swapaxes(0, 1)


def _split(model: Sequential, h_0: Array) -> list[Array]:
    """Return the part of every recurrent module."""
    counts = [m.num_layers * (1 + m.bidirectional) for m in model.recurrent]
    if len(h_0) != sum(counts):
        raise ValueError(f"the initial state must have {sum(counts)} rows, got {len(h_0)}")
    return np.split(h_0, np.cumsum(counts)[:-1])


def _in_layout(output: Output, value: Array) -> Array:
    """Return y (..., D*H) or h_n (L*D, B, H) with the axes that the graph gives it."""
    kind, axes, D = output
    if "0*1" in axes:
        value = value.reshape(-1, *value.shape[2:])
    if kind == "h_n":
        value = np.moveaxis(value, 0, axes.index("D"))
    elif "D" in axes:
        value = np.moveaxis(value.reshape(*value.shape[:-1], D, -1), -2, axes.index("D"))
    for i, axis in enumerate(axes):
        if axis == "u":
            value = np.expand_dims(value, i)
    return value


# Single nodes


def run_node(graph: Graph, feeds: Mapping[str, Array]) -> list[Array]:
    """Return the outputs of a graph of one GRU or RNN node, whose weights may be inputs too."""
    (node,) = graph.nodes
    values = {**graph.constants, **feeds}
    given = [values[name] if name else None for name in node.inputs]
    X, W, R, B, lengths, h_0 = [*given, None, None, None][:6]
    if X is None or W is None or R is None or X.ndim != 3:
        raise node.refuse("X, W and R", [None if v is None else v.shape for v in (X, W, R)])
    spec = recurrent_node(node, W, R, B)
    made = dict(zip(node.outputs, _run(spec, X, lengths, h_0), strict=False))
    return [made[name] for name in graph.outputs]


def _run(
    spec: RecurrentNode, X: Array, lengths: Array | None, h_0: Array | None
) -> tuple[Array, Array]:
    """Return Y and Y_h of a node."""
    x = X if spec.time_first else X.swapaxes(0, 1)  # (T, B, I)
    T, B, I = x.shape  # noqa: E741
    D, H = len(spec.runs), spec.runs[0].U.shape[1]
    if spec.runs[0].W.shape[1] != I:
        raise spec.node.refuse(f"X of {spec.runs[0].W.shape[1]} features, as W has", I)
    dtype = np.result_type(x.dtype, np.float32)  # half precision is computed in single
    ends = np.full(B, T) if lengths is None else np.asarray(lengths)
    if ends.shape != (B,) or (B and not 0 <= ends.min() <= ends.max() <= T):
        raise spec.node.refuse(f"sequence_lens (B,) from 0 to T = {T}", ends)
    if h_0 is not None:
        h_0 = h_0 if spec.time_first else h_0.swapaxes(0, 1)  # (D, B, H)
        if h_0.shape != (D, B, H):
            raise spec.node.refuse(f"initial_h of shape {(D, B, H)}", h_0.shape)
    Y, Y_h = np.empty((T, D, B, H), dtype), np.empty((D, B, H), dtype)
    for d, run in enumerate(spec.runs):
        backwards = spec.direction == "reverse" or d == 1
        given = _reversed(x, ends) if backwards else x
        state = np.zeros((B, H), dtype) if h_0 is None else h_0[d].astype(dtype)
        y, Y_h[d] = _direction(spec, d, run, given.astype(dtype), state, ends)
        Y[:, d] = _reversed(y, ends) if backwards else y
    if not spec.time_first:
        Y, Y_h = Y.transpose(2, 0, 1, 3), Y_h.swapaxes(0, 1)
    return Y.astype(x.dtype), Y_h.astype(x.dtype)


def _reversed(x: Array, ends: Array) -> Array:
    """Return every sequence backwards within its own length."""
    t = np.arange(len(x))[:, np.newaxis]
    order = np.where(t < ends, ends - 1 - t, t)  # (T, B)
    return np.take_along_axis(x, order[:, :, np.newaxis], axis=0)


def _direction(
    spec: RecurrentNode, d: int, run: Run, x: Array, h_0: Array, ends: Array
) -> tuple[Array, Array]:
    """Return y (T, B, H), 0 past a sequence's end, and h_n (B, H)."""
    kinds = spec.activations[d]
    biases = (None if bias is None else bias.astype(x.dtype) for bias in run[2:])
    run = Run(run.W.astype(x.dtype), run.U.astype(x.dtype), *biases)
    known = kinds == DEFAULTS["GRU"] if spec.op == "GRU" else kinds in (["Tanh"], ["Relu"])
    if known and spec.clip is None:
        options: dict[str, Any] = {"reset": spec.reset}
        if spec.op == "RNN":
            options = {"nonlinearity": kinds[0].lower()}
        cls = GRU if spec.op == "GRU" else RNN
        layer = blocks.build([blocks.recurrent(spec.node.name, cls, [run], **options)], row=False)
        y, h_n = layer(x, h_0[np.newaxis], lengths=ends)
        return y, h_n[0]
    y, h = np.zeros((len(x), *h_0.shape), x.dtype), h_0.copy()
    for t, x_t in enumerate(x):
        active = t < ends
        h[active] = _step(spec, kinds, run, x_t[active], h[active])
        y[t, active] = h[active]
    return y, h


def _step(spec: RecurrentNode, kinds: list[str], run: Run, x: Array, h: Array) -> Array:
    """Return h after one step: the equations of the operator, clip and activations included."""
    W, U, b_x, b_h = run

    def activated(kind: str, s: Array) -> Array:
        bounded: Array = s if spec.clip is None else np.clip(s, -spec.clip, spec.clip)
        return FUNCTIONS[kind](bounded)

    s_x = x @ W.T + (0 if b_x is None else b_x)
    if spec.op == "RNN":
        return activated(kinds[0], s_x + h @ U.T + (0 if b_h is None else b_h))
    f, g = kinds
    x_r, x_z, x_n = np.split(s_x, 3, axis=1)
    U_r, U_z, U_n = np.split(U, 3)
    b_r, b_z, b_n = np.zeros((3, U.shape[1]), U.dtype) if b_h is None else np.split(b_h, 3)
    r, z = activated(f, x_r + h @ U_r.T + b_r), activated(f, x_z + h @ U_z.T + b_z)
    q = r * (h @ U_n.T + b_n) if spec.reset == "after" else (r * h) @ U_n.T + b_n
    n = activated(g, x_n + q)
    made: Array = z * h + (1 - z) * n
    return made
