# SPDX-License-Identifier: MIT
"""The layers and directions of a recurrent layer, over arrays that have been checked.

The kernels run one layer, in one direction or two. A `Stack` goes through the layers, from the
lowest up in `forward` and from the highest down in `backward`, and gives the kernels each layer's
weights, input and part of the state, in the order that `_core.pyi` names. Time is the first axis of
everything; equations are in `pygru.reference`.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import numpy as np

from pygru import _core
from pygru.checks import FloatArray, IntArray
from pygru.parameters import Arrays, Parameter
from pygru.regularization import dropout_mask

__all__ = [
    "CELLS",
    "MOST_SLOTS",
    "Run",
    "RunShapes",
    "Stack",
    "StackTape",
    "of_run",
    "run_parameters",
    "run_shapes",
]


class CellSize(NamedTuple):
    """What the arrays of a cell are multiples of."""

    gates: int  # W has gates * H rows
    slots: int  # S: what is kept per unit and step for backward


CELLS: dict[str, CellSize] = {
    "gru_after": CellSize(3, 4),
    "gru_before": CellSize(3, 4),
    "rnn_tanh": CellSize(1, 1),
    "rnn_relu": CellSize(1, 1),
}
"""Every cell by the name the kernels know it by."""

MOST_SLOTS = max(cell.slots for cell in CELLS.values())


# "weight_ih" and so on -> shape, for one run of a cell.
RunShapes: TypeAlias = dict[str, tuple[int, ...]]


def run_shapes(cell: str, inputs: int, hidden_size: int, bias: bool) -> RunShapes:
    """Return the parameters of one run of a cell and their shapes."""
    rows = CELLS[cell].gates * hidden_size
    shapes: RunShapes = {"weight_ih": (rows, inputs), "weight_hh": (rows, hidden_size)}
    return shapes | {"bias_ih": (rows,), "bias_hh": (rows,)} if bias else shapes


def run_parameters(runs: dict[str, RunShapes]) -> list[Parameter]:
    """Return the parameters of all runs, by suffix and kind."""
    return [
        Parameter(f"{kind}{suffix}", shape, input_major=len(shape) == 2)
        for suffix, shapes in runs.items()
        for kind, shape in shapes.items()
    ]


class Run(NamedTuple):
    """One direction of one layer: its weights and their gradients."""

    reverse: bool  # each sequence backwards within its own length
    weights: tuple[FloatArray, FloatArray, FloatArray | None, FloatArray | None]  # W, U, b_x, b_h
    gradients: tuple[FloatArray, FloatArray, FloatArray | None, FloatArray | None]


def of_run(
    arrays: Arrays, suffix: str
) -> tuple[FloatArray, FloatArray, FloatArray | None, FloatArray | None]:
    """Return W, U, b_x and b_h of one run out of params or grads."""
    return (
        arrays[f"weight_ih{suffix}"],
        arrays[f"weight_hh{suffix}"],
        arrays.get(f"bias_ih{suffix}"),
        arrays.get(f"bias_hh{suffix}"),
    )


# What one layer keeps: x (T, B, I or D*H); y (T, B, H) of each direction; what the kernels keep,
# (D, T, B, S, H); and (T, B, D*H) or None, what dropout multiplied this layer's output with.
_LayerTape: TypeAlias = tuple[FloatArray, list[FloatArray], FloatArray, "FloatArray | None"]


# What a whole stack keeps: of its layers; h_0 (L*D, B, H); lengths (B,).
StackTape: TypeAlias = tuple[list[_LayerTape], "FloatArray | None", "IntArray | None"]


class Stack:
    """L layers of D directions of one cell.

    Parameters
    ----------
    cell : str
        One of `CELLS`.
    hidden_size : int
        H.
    dropout : float
        Probability with which elements of every layer's output but the last's are zeroed.
    rng : numpy.random.Generator
        Where the masks come from.
    layers : list of list of Run
        By layer and direction.
    """

    def __init__(
        self,
        cell: str,
        hidden_size: int,
        dropout: float,
        rng: np.random.Generator,
        layers: list[list[Run]],
    ) -> None:
        self.cell, self.slots, self.H = cell, CELLS[cell].slots, hidden_size
        self.dropout, self.rng, self.layers = dropout, rng, layers
        self.D = len(layers[0])

    def forward(
        self,
        x: FloatArray,  # (T, B, I)
        h_0: FloatArray | None,  # (L*D, B, H)
        lengths: IntArray | None,  # (B,)
        y: FloatArray,  # (T, B, D*H)  out
        h_n: FloatArray,  # (L*D, B, H)  out
        training: bool,
    ) -> StackTape | None:
        """Run the sequences; when training return what `backward` needs."""
        T, B, _ = x.shape
        H, D, dtype = self.H, self.D, x.dtype
        last = len(self.layers) - 1
        kept: list[_LayerTape] = []
        for layer, directions in enumerate(self.layers):
            out = y if layer == last else np.empty((T, B, D * H), dtype)
            ys = [out] if D == 1 else [out[:, :, :H], out[:, :, H:]]
            tapes = np.empty((D, T, B, self.slots, H), dtype) if training else None
            runs = []
            for d, run in enumerate(directions):
                k = layer * D + d
                W, U, b_x, b_h = run.weights
                runs.append((
                    run.reverse, W, U, b_x, b_h,
                    None if h_0 is None else h_0[k],
                    ys[d], h_n[k],
                    None if tapes is None else tapes[d],
                ))  # fmt: skip
            _core.forward(self.cell, x, lengths, runs)
            mask = None
            if tapes is not None:
                if self.dropout and layer < last:
                    mask = dropout_mask(self.rng, out.shape, self.dropout, dtype)
                kept.append((x, ys, tapes, mask))
            x = out if mask is None else out * mask
        return (kept, h_0, lengths) if training else None

    def backward(
        self,
        saved: StackTape,
        dy: FloatArray | None,  # (T, B, D*H), None is 0
        dh_n: FloatArray | None,  # (L*D, B, H), or the last few of these; None is 0
        dx: FloatArray | None,  # (T, B, I)  out
        dh_0: FloatArray | None,  # (L*D, B, H)  out
    ) -> None:
        """Add to the gradients of the weights, write dx and dh_0 where they are wanted."""
        kept, h_0, lengths = saved
        H, D = self.H, self.D
        first = 0 if dh_n is None else len(self.layers) * D - len(dh_n)  # that dh_n holds
        above = dy
        for layer in reversed(range(len(self.layers))):
            x, ys, tapes, mask = kept[layer]
            if above is not None and mask is not None:
                above *= mask  # what the layer above wrote: the last one has no mask
            below = dx if layer == 0 else np.empty(x.shape, x.dtype)  # what is passed down
            dxs = [] if below is None else [below]
            if below is not None and D == 2:
                dxs.append(np.empty(x.shape, x.dtype))
            runs = []
            for d, run in enumerate(self.layers[layer]):
                k = layer * D + d
                W, U, _, _ = run.weights
                dW, dU, db_x, db_h = run.gradients
                runs.append((
                    run.reverse, W, U,
                    None if h_0 is None else h_0[k],
                    ys[d], tapes[d],
                    above if above is None or D == 1 else above[:, :, d * H : (d + 1) * H],
                    None if dh_n is None or k < first else dh_n[k - first],
                    dxs[d] if dxs else None,
                    None if dh_0 is None else dh_0[k],
                    dW, dU, db_x, db_h,
                ))  # fmt: skip
            _core.backward(self.cell, x, lengths, runs)
            if len(dxs) == 2:
                dxs[0] += dxs[1]
            above = below
