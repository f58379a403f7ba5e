# SPDX-License-Identifier: MIT
"""A model small enough to follow by hand, its data, and `fit` with settings for most tests."""

from __future__ import annotations

from typing import Any

import numpy as np

from pygru import optim, training
from pygru.history import History


class Affine:
    """y = x w + b on the last axis: the protocol of a module and nothing else."""

    batch_first: bool | None = None

    def __init__(self, inputs: int = 1, dtype: Any = np.float64) -> None:
        self.flat_params = np.zeros(inputs + 1, dtype)
        self.flat_grads = np.zeros(inputs + 1, dtype)
        self.dtype = self.flat_params.dtype
        self.seen: list[Any] = []  # (x, lengths) of each forward

    def __call__(self, x: Any, *, lengths: Any = None) -> Any:
        del lengths
        return (x @ self.flat_params[:-1] + self.flat_params[-1])[..., None]

    def forward(self, x: Any, *, lengths: Any = None) -> Any:
        self.seen.append((x, lengths))
        return self(x), x

    def backward(self, tape: Any, dy: Any, *, input_gradient: bool = True) -> None:
        assert not input_gradient
        self.flat_grads[:-1] += tape.reshape(-1, tape.shape[-1]).T @ dy.ravel()
        self.flat_grads[-1] += dy.sum()


def make_data(n: int = 100, inputs: int = 1) -> tuple[Any, Any]:
    """Points of y = sum(x) * 3 + 0.5."""
    X = np.random.default_rng(0).standard_normal((n, inputs))
    return X, 3 * X.sum(axis=1, keepdims=True) + 0.5


def fit(model: Any, X: Any, Y: Any, **changes: Any) -> History:
    """`fit` with the settings most tests share."""
    settings: dict[str, Any] = {
        "loss": "mse",
        "optimizer": optim.SGD(0.1),
        "epochs": 3,
        "batch_size": 10,
        "verbose": 0,
        "rng": 0,
    }
    return training.fit(model, X, Y, **(settings | changes))
