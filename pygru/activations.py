# SPDX-License-Identifier: MIT
"""Functions without parameters between layers: ReLU, Sigmoid, Softmax and Tanh.

y comes from the kernels (csrc/kernels/rows.h), so that a value gives the same bits wherever it
stands. Each derivative is a function of y, so y is all that ``backward`` needs. Names are
PyTorch's.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from pygru import _core
from pygru.checks import FloatArray, as_floating
from pygru.module import Config, Layer
from pygru.registry import savable
from pygru.widths import SAME

__all__ = ["Activation", "ReLU", "Sigmoid", "Softmax", "Tanh"]


class Activation(Layer):
    """What the activations share: y in the shape of x, whatever it is. Not for use on its own."""

    kernel: ClassVar[str]  # what the kernels know it by
    along_rows: ClassVar[bool] = False  # not each element on its own
    _widths = SAME

    def __init__(self) -> None:
        super().__init__()

    def config(self) -> Config:
        """Return the constructor arguments of a layer like this one: none."""
        return {}

    def _apply(
        self, x: npt.ArrayLike, _lengths: npt.ArrayLike | None, _training: bool, /
    ) -> tuple[FloatArray, FloatArray]:
        where = f"{type(self).__name__}.forward"
        array = np.asarray(as_floating(where, "x", x), order="C")
        if self.along_rows and array.ndim == 0:
            raise ValueError(f"{where}: x must have shape (..., K), got ()")
        y = np.empty(array.shape, array.dtype)
        if y.size:
            rows = (-1, array.shape[-1]) if self.along_rows else (1, -1)
            _core.activation(self.kernel, array.reshape(rows), y.reshape(rows))
        return y, y

    def _pull(
        self, saved: FloatArray, dy: FloatArray, input_gradient: bool, /
    ) -> FloatArray | None:
        return self._gradient(saved, dy) if input_gradient else None

    @abstractmethod
    def _gradient(self, y: FloatArray, dy: FloatArray) -> FloatArray:
        """Return dx."""


@savable
class ReLU(Activation):
    """y = max(x, 0), element by element.

    Examples
    --------
    >>> pygru.ReLU()([-1.0, 2.0])
    array([0., 2.])
    """

    kernel = "relu"

    def _gradient(self, y: FloatArray, dy: FloatArray) -> FloatArray:
        return dy * (y > 0)


@savable
class Sigmoid(Activation):
    """y = 1 / (1 + exp(-x)), element by element.

    Examples
    --------
    >>> pygru.Sigmoid()([0.0])
    array([0.5])
    """

    kernel = "sigmoid"

    def _gradient(self, y: FloatArray, dy: FloatArray) -> FloatArray:
        return dy * y * (1 - y)


@savable
class Tanh(Activation):
    """y = tanh(x), element by element.

    Examples
    --------
    >>> pygru.Tanh()([0.0])
    array([0.])
    """

    kernel = "tanh"

    def _gradient(self, y: FloatArray, dy: FloatArray) -> FloatArray:
        return dy * (1 - y * y)


@savable
class Softmax(Activation):
    """y_k = exp(x_k) / sum_j exp(x_j) along the last axis: scores become probabilities.

    To train a classifier leave it out: ``loss="cross_entropy"`` takes the scores.

    Examples
    --------
    >>> pygru.Softmax()([[0.0, 0.0, 1000.0]])
    array([[0., 0., 1.]])
    """

    kernel = "softmax"
    along_rows = True

    def _gradient(self, y: FloatArray, dy: FloatArray) -> FloatArray:
        dx: FloatArray = y * (dy - (y * dy).sum(axis=-1, keepdims=True))
        return dx
