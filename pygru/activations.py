# SPDX-License-Identifier: MIT
"""Functions without parameters between layers: ReLU, Sigmoid, Softmax and Tanh.

They are kernels (csrc/kernels/rows.h), so that a value gives the same bits wherever it stands. Each
derivative is a function of y, so y is all that ``backward`` needs. Names are PyTorch's.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from pygru import _core
from pygru.checks import FloatArray, as_floating
from pygru.module import Config, Layer
from pygru.registry import savable
from pygru.widths import SAME

__all__ = ["Activation", "ReLU", "Sigmoid", "Softmax", "Tanh", "last_activation"]


class Activation(Layer):
    """What the activations share: y in the shape of x, whatever it is. Not for use on its own."""

    _kernel: ClassVar[str]  # what _core knows it by
    _widths = SAME

    def __init__(self) -> None:
        super().__init__()

    def config(self) -> Config:
        """Return the constructor arguments of a layer like this one: none."""
        return {}

    def _apply(
        self, x: npt.ArrayLike, _lengths: npt.ArrayLike | None, _training: bool, /
    ) -> tuple[FloatArray, FloatArray]:
        array = np.asarray(as_floating(f"{type(self).__name__}.forward", "x", x), order="C")
        y = np.empty(array.shape, array.dtype)
        _core.activation(self._kernel, array, y)
        return y, y

    def _pull(
        self, saved: FloatArray, dy: FloatArray, input_gradient: bool, /
    ) -> FloatArray | None:
        if not input_gradient:
            return None
        dx = np.empty(saved.shape, saved.dtype)
        _core.activation_backward(self._kernel, saved, np.asarray(dy, order="C"), dx)
        return dx


@savable
class ReLU(Activation):
    """y = max(x, 0), element by element.

    Examples
    --------
    >>> pygru.ReLU()([-1.0, 2.0])
    array([0., 2.])
    """

    _kernel = "relu"


@savable
class Sigmoid(Activation):
    """y = 1 / (1 + exp(-x)), element by element; 0 where it would be below the normal numbers.

    Examples
    --------
    >>> pygru.Sigmoid()([0.0])
    array([0.5])
    """

    _kernel = "sigmoid"


@savable
class Tanh(Activation):
    """y = tanh(x), element by element.

    Examples
    --------
    >>> pygru.Tanh()([0.0])
    array([0.])
    """

    _kernel = "tanh"


@savable
class Softmax(Activation):
    """y_k = exp(x_k) / sum_j exp(x_j) along the last axis: scores become probabilities.

    To train a classifier leave it out: ``loss="cross_entropy"`` takes the scores.

    Examples
    --------
    >>> pygru.Softmax()([[0.0, 0.0, 1000.0]])
    array([[0., 0., 1.]])
    """

    _kernel = "softmax"


def last_activation(model: Any) -> Activation | None:
    """Return the activation whose values a module gives, None where there is none.

    What follows it may leave values out, as LastStep does, but none may change them.

    Examples
    --------
    >>> last_activation(pygru.Sequential(pygru.Linear(3, 2), pygru.Softmax(), pygru.LastStep()))
    Softmax()
    """
    leaves = [*model._leaves()] if hasattr(model, "_leaves") else [model]
    for leaf in reversed(leaves):
        if isinstance(leaf, Activation):
            return leaf
        if not isinstance(leaf, Layer) or not leaf._widths.same:
            break
    return None
