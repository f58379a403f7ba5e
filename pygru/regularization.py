# SPDX-License-Identifier: MIT
"""Dropout and layer normalisation."""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from pygru import _core
from pygru.checks import (
    FloatArray,
    FloatDType,
    Random,
    as_float_dtype,
    as_floating,
    as_generator,
    as_positive,
    as_probability,
    as_real,
    as_size,
)
from pygru.module import Config, Layer
from pygru.parameters import Parameter
from pygru.registry import savable
from pygru.widths import SAME, Widths

__all__ = ["Dropout", "LayerNorm"]

_Saved: TypeAlias = tuple[FloatArray, FloatArray]  # n (..., K), 1 / sqrt(var(x) + eps) (N,)


def dropout_mask(
    rng: np.random.Generator, shape: tuple[int, ...], p: float, dtype: FloatDType
) -> FloatArray:
    """Return 0 with probability p, else 1 / (1 - p): multiplying with it keeps the mean."""
    kept = rng.random(shape, dtype=np.float32) >= p
    mask: FloatArray = kept.astype(dtype) * dtype.type(1.0 / (1.0 - p) if p < 1.0 else 0.0)
    return mask


@savable
class Dropout(Layer):
    """Zero elements at random in ``forward``, scale the rest by 1 / (1 - p); inference is x itself.

    Parameters
    ----------
    p : float
        Probability of an element to be zeroed.
    rng : int, numpy.random.Generator or None
        Where the masks come from.

    Raises
    ------
    TypeError, ValueError
        When p is not a number from 0 to 1.

    References
    ----------
    N. Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from Overfitting",
    JMLR 15, 2014.

    Examples
    --------
    >>> dropout = pygru.Dropout(0.5, rng=0)
    >>> dropout(np.ones(4, np.float32))
    array([1., 1., 1., 1.], dtype=float32)
    >>> y, tape = dropout.forward(np.ones(1000))
    >>> sorted(set(y.tolist()))
    [0.0, 2.0]
    """

    _widths = SAME

    def __init__(self, p: float = 0.5, *, rng: Random = None) -> None:
        self.p = p
        self._rng = as_generator("Dropout", rng)
        super().__init__()

    @property
    def p(self) -> float:
        """Probability of an element to be zeroed; may be set."""
        return self._p

    @p.setter
    def p(self, p: float) -> None:
        self._p = as_probability("Dropout", "p", p)

    def config(self) -> Config:
        """Return the constructor arguments of a layer like this one, as JSON can hold them."""
        return {"p": self.p}

    def _generators(self) -> dict[str, np.random.Generator]:
        return {"": self._rng}

    def _apply(
        self, x: npt.ArrayLike, _lengths: npt.ArrayLike | None, training: bool, /
    ) -> tuple[FloatArray, FloatArray | None]:
        array = as_floating("Dropout.forward", "x", x)
        if not training:
            return array, None
        mask = dropout_mask(self._rng, array.shape, self.p, array.dtype)
        return array * mask, mask

    def _pull(
        self, saved: FloatArray, dy: FloatArray, input_gradient: bool, /
    ) -> FloatArray | None:
        return dy * saved if input_gradient else None


@savable
class LayerNorm(Layer):
    """Zero mean and unit variance along the last axis, then a scale and a shift per feature.

    ::

        n = (x - mean(x)) / sqrt(var(x) + eps)        y = w * n + b

    Parameters
    ----------
    normalized_shape : int
        K, the size of the last axis: x and y are (..., K).
    eps : float
        Keeps the division finite; no denormal number.
    dtype : float32 or float64

    Raises
    ------
    TypeError, ValueError
        When an argument is of the wrong kind, the size below 1, or eps not above 0.

    Notes
    -----
    ``params`` and ``grads`` hold ``weight`` (K,), at first 1, and ``bias`` (K,), at first 0.

    References
    ----------
    J. Ba, J. Kiros, G. Hinton, "Layer Normalization", arXiv:1607.06450, 2016.

    Examples
    --------
    >>> norm = pygru.LayerNorm(3, dtype=np.float64)
    >>> np.round(norm([[1.0, 2.0, 3.0]]), 3)
    array([[-1.225,  0.   ,  1.225]])
    """

    _made_anew = (*Layer._made_anew, "_weights", "_gradients")

    def __init__(
        self, normalized_shape: int, eps: float = 1e-5, *, dtype: npt.DTypeLike = np.float32
    ) -> None:
        self.normalized_shape = K = as_size("LayerNorm", "normalized_shape", normalized_shape)
        self._widths = Widths(K, K)
        precision = as_float_dtype("LayerNorm", dtype)
        self.eps = as_positive("LayerNorm", "eps", eps)
        least = float(np.finfo(precision).tiny)
        if self.eps < least:  # it would count as 0
            raise ValueError(
                f"LayerNorm: eps must be at least {least:.4g}, the least normal {precision.name}, "
                f"got {eps}"
            )
        super().__init__([Parameter("weight", (K,)), Parameter("bias", (K,))], precision)
        self._params["weight"][...] = 1.0

    def config(self) -> Config:
        """Return the constructor arguments of a layer like this one, as JSON can hold them."""
        return {
            "normalized_shape": self.normalized_shape,
            "eps": self.eps,
            "dtype": self.dtype.name,
        }

    def _bind(self, flat_params: FloatArray, flat_grads: FloatArray) -> None:
        super()._bind(flat_params, flat_grads)
        self._weights = self._params["weight"], self._params["bias"]
        self._gradients = self._grads["weight"], self._grads["bias"]

    def _apply(
        self, x: npt.ArrayLike, _lengths: npt.ArrayLike | None, training: bool, /
    ) -> tuple[FloatArray, _Saved | None]:
        array = as_real("LayerNorm.forward", "x", x, self._flat_params.dtype)
        if array.ndim == 0 or array.shape[-1] != self.normalized_shape:
            raise ValueError(
                f"LayerNorm.forward: x must have shape (..., K) = (..., {self.normalized_shape}), "
                f"got {array.shape}"
            )
        array = np.asarray(array, order="C")
        y = np.empty(array.shape, array.dtype)
        saved = None
        if training:
            saved = np.empty(y.shape, y.dtype), np.empty(math.prod(y.shape[:-1]), y.dtype)
        _core.layer_norm(array, *self._weights, self.eps, y, *(saved or (None, None)))
        return y, saved

    def _pull(self, saved: _Saved, dy: FloatArray, input_gradient: bool, /) -> FloatArray | None:
        dx = np.empty(dy.shape, dy.dtype) if input_gradient else None
        with self._adding:
            _core.layer_norm_backward(
                *saved, self._weights[0], np.asarray(dy, order="C"), dx, *self._gradients
            )
        return dx
