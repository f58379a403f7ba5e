# SPDX-License-Identifier: MIT
"""The shapes that are timed, and the one problem every contender is given for each of them.

T steps, B sequences, I inputs, H hidden units. A multiply-add counts as two operations, so a
forward pass costs 2 T B 3H (I + H) of them, and training, which does each product twice more, three
times that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

import pygru.reference

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

    @property
    def forward_flop(self) -> int:
        """Operations of one forward pass."""
        return 2 * self.T * self.B * 3 * self.H * (self.I + self.H)

    @property
    def weight_bytes(self) -> int:
        """Float32 bytes of W and U: what one streaming step has to read at least."""
        return 4 * 3 * self.H * (self.I + self.H)


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
    """Float32 weights, input and output gradient of one shape; gates stacked r, z, n."""

    shape: Shape
    reset: str  # "after" or "before"
    x: Array  # (T, B, I); a streaming shape gets a few steps so that carried state shows
    dy: Array  # (T, B, H)
    W: Array  # (3H, I)
    U: Array  # (3H, H)
    b_x: Array  # (3H,)
    b_h: Array  # (3H,)

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
        forward, backward = pygru.reference.gru_forward, pygru.reference.gru_backward
        weights = (self.W, self.U)
        reset: Any = self.reset
        y, _, tape = forward(self.x, None, *weights, self.b_x, self.b_h, reset=reset)
        if not training:
            return {"y": y}
        dx, _, dW, dU, db_x, db_h = backward(
            self.x, None, *weights, y, tape, self.dy, None, reset=reset
        )
        return {"y": y, "dx": dx, "dW": dW, "dU": dU, "db_x": db_x, "db_h": db_h}


def make_problem(shape: Shape, reset: str, seed: int = 0) -> Problem:
    """Draw weights as PyTorch initialises them, and normal input."""
    rng = np.random.default_rng(seed)
    T = 8 if shape.streaming else shape.T
    B, I, H = shape.B, shape.I, shape.H  # noqa: E741
    bound = H**-0.5

    def uniform(*size: int) -> Array:
        return rng.uniform(-bound, bound, size).astype(np.float32)

    return Problem(
        shape=shape,
        reset=reset,
        x=rng.standard_normal((T, B, I)).astype(np.float32),
        dy=rng.standard_normal((T, B, H)).astype(np.float32) / (T * B),
        W=uniform(3 * H, I),
        U=uniform(3 * H, H),
        b_x=uniform(3 * H),
        b_h=uniform(3 * H),
    )


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
