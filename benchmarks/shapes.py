# SPDX-License-Identifier: MIT
"""The shapes that are timed, and the one problem every contender is given for each of them.

T steps, B sequences, I inputs, H hidden units, G gates. A multiply-add counts as two operations, so
a forward pass costs 2 T B G H (I + H) of them, and training, which does each product twice more,
three times that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pygru import reference

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Shape:
    """One size of one layer, and the real job that it stands for."""

    name: str
    B: int
    T: int
    I: int  # noqa: E741
    H: int
    stands_for: str

    @property
    def streaming(self) -> bool:
        """Whether the job is one call per step with the state carried between calls."""
        return self.name.startswith("step")

    def forward_flop(self, gates: int) -> int:
        """Return the operations of one forward pass."""
        return 2 * self.T * self.B * gates * self.H * (self.I + self.H)

    def weight_bytes(self, gates: int) -> int:
        """Return the float32 bytes of W and U: what one streaming step has to read at least."""
        return 4 * gates * self.H * (self.I + self.H)


CELLS = {"gru_after": 3, "gru_before": 3, "rnn": 1}  # -> gates

SHAPES = {
    shape.name: shape
    for shape in (
        Shape("sine", 64, 5, 1, 64, "the sine experiment"),
        Shape("step16", 1, 1, 1, 16, "one call per step"),
        Shape("step64", 1, 1, 16, 64, "one call per step"),
        Shape("step256", 1, 1, 64, 256, "one call per step"),
        Shape("step512", 1, 1, 128, 512, "one call per step"),
        Shape("sequence", 1, 100, 64, 256, "one request"),
        Shape("forecast", 32, 96, 8, 128, "a forecaster"),
        Shape("speech", 16, 200, 80, 256, "frames of audio features"),
        Shape("h512", 32, 100, 512, 512, "a layer of a deep stack"),
        Shape("h1024", 32, 50, 1024, 1024, "a large layer"),
    )
}


@dataclass(frozen=True)
class Problem:
    """Float32 weights, input and output gradient of one shape; a GRU's gates stacked r, z, n."""

    shape: Shape
    cell: str  # a row of CELLS
    x: Array  # (T, B, I); a streaming shape gets a few steps so that carried state shows
    dy: Array  # (T, B, H)
    W: Array  # (G*H, I)
    U: Array  # (G*H, H)
    b_x: Array  # (G*H,)
    b_h: Array  # (G*H,)

    def state_dict(self) -> dict[str, Array]:
        """Return the weights under PyTorch's names."""
        return {
            "weight_ih_l0": self.W,
            "weight_hh_l0": self.U,
            "bias_ih_l0": self.b_x,
            "bias_hh_l0": self.b_h,
        }

    def expected(self, *, training: bool) -> dict[str, Array]:
        """Return what the NumPy reference answers: y, and in training the gradients."""
        name = "rnn_tanh" if self.cell == "rnn" else self.cell
        _, forward, backward = reference.CELLS[name]
        weights = (self.W, self.U)
        y, _, tape = forward(self.x, None, *weights, self.b_x, self.b_h)
        if not training:
            return {"y": y}
        dx, _, dW, dU, db_x, db_h = backward(self.x, None, *weights, y, tape, self.dy, None)
        return {"y": y, "dx": dx, "dW": dW, "dU": dU, "db_x": db_x, "db_h": db_h}


def make_problem(shape: Shape, cell: str) -> Problem:
    """Draw weights as PyTorch initialises them, and normal input."""
    rng = np.random.default_rng(0)
    T = 8 if shape.streaming else shape.T
    B, I, H = shape.B, shape.I, shape.H  # noqa: E741
    G = CELLS[cell]
    bound = H**-0.5

    def uniform(*size: int) -> Array:
        return rng.uniform(-bound, bound, size).astype(np.float32)

    return Problem(
        shape=shape,
        cell=cell,
        x=rng.standard_normal((T, B, I)).astype(np.float32),
        dy=rng.standard_normal((T, B, H)).astype(np.float32) / (T * B),
        W=uniform(G * H, I),
        U=uniform(G * H, H),
        b_x=uniform(G * H),
        b_h=uniform(G * H),
    )


Batches = list[slice]  # into the samples of an experiment
Epoch = Callable[[Batches], float]  # -> mean loss


@dataclass(frozen=True)
class Experiment:
    """What a whole training starts from: the last state through V and c predicts Y from X."""

    problem: Problem  # the GRU's initial weights
    V: Array  # (1, H)
    c: Array  # (1,)
    X: Array  # (N, T, 1)
    Y: Array  # (N, 1)
    rate: float


def check(answer: dict[str, Array], expected: dict[str, Array]) -> None:
    """Raise ValueError when an answer is not the reference's.

    A sum of thousands of float32 products in another order may differ by some 1e-4 of the largest
    element; wrong gates, layouts, reset variants or reduced precision differ by 1e-2 and more.
    """
    for name, array in answer.items():
        want = expected[name]
        if array.shape != want.shape:
            raise ValueError(f"{name} has shape {array.shape}, expected {want.shape}")
        error = float(np.abs(array - want).max() / np.abs(want).max())
        if not error < 1e-3:
            raise ValueError(f"{name} differs from the reference by {error:.1e} of its maximum")
