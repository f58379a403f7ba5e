# SPDX-License-Identifier: MIT
"""The layers with weight matrices: the recurrent ones by cell, and the maps in and out.

Names, shapes, defaults and initial values are PyTorch's wherever PyTorch has the layer.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from pygru import _core
from pygru.checks import (
    FloatArray,
    Random,
    as_bool,
    as_choice,
    as_classes,
    as_float_dtype,
    as_generator,
    as_real,
    as_size,
    check_bytes,
)
from pygru.initializers import EMBEDDING, LINEAR, Init
from pygru.module import Config, Layer, Module
from pygru.parameters import Parameter
from pygru.recurrent import Recurrent
from pygru.registry import savable
from pygru.widths import Widths

__all__ = ["GRU", "RNN", "Embedding", "Linear"]

_IntArray: TypeAlias = npt.NDArray[np.integer[Any]]


@savable
class GRU(Recurrent):
    """Gated recurrent units: one or more layers, in one direction or two.

    ::

        r = sigmoid(W_r x + b_xr + U_r h' + b_hr)
        z = sigmoid(W_z x + b_xz + U_z h' + b_hz)
        after :  q = U_n h' + b_hn      n = tanh(W_n x + b_xn + r * q)
        before:                         n = tanh(W_n x + b_xn + U_n (r * h') + b_hn)
        h = z * h' + (1 - z) * n

    Parameters
    ----------
    input_size, hidden_size : int
        I and H.
    num_layers : int
        L, at most 1000; each layer reads the one below.
    bias : bool
        Whether there are b_x and b_h.
    batch_first : bool
        Whether x and y are (B, T, ...) instead of (T, B, ...). h_0 and h_n are not affected.
    dropout : float
        Probability with which ``forward`` zeroes elements of every layer's output but the last's.
    bidirectional : bool
        Whether every layer also reads each sequence backwards: D = 2, and y holds both states.
    reset : {"after", "before"}
        Where the reset gate acts: after the recurrent product (PyTorch, cuDNN, Keras) or before
        it (the original GRU, TensorFlow 1). These are two different functions.
    dtype : float32 or float64
    rng : int, numpy.random.Generator or None
        Where the initial values and the dropout masks come from.
    init : str or mapping
        Initial values: a scheme of `pygru.initializers` ("pytorch", "keras", "tensorflow1",
        "zeros"), or initialisers by parameter ("weight_hh_l0") or kind of parameter ("weight_hh");
        the rest is then PyTorch's.

    Raises
    ------
    TypeError
        When an argument is of the wrong kind.
    ValueError
        When a size is out of range, dropout not a probability, a word unknown, or the parameters
        could not fit in memory.

    Notes
    -----
    ``params`` and ``grads`` hold ``weight_ih_l{k}`` (3H, I; D*H above the first layer),
    ``weight_hh_l{k}`` (3H, H), ``bias_ih_l{k}`` and ``bias_hh_l{k}`` (3H,), gates stacked r, z, n,
    with ``_reverse`` appended for the second direction. Denormal numbers count as 0 in its kernels.

    References
    ----------
    K. Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder for Statistical
    Machine Translation", EMNLP 2014 (arXiv:1406.1078v3 resets before, v1 after).

    Examples
    --------
    >>> gru = pygru.GRU(input_size=8, hidden_size=64, rng=0)
    >>> x = np.zeros((7, 2, 8), np.float32)
    >>> y, h_n = gru(x, lengths=[7, 5])
    >>> y.shape, h_n.shape
    ((7, 2, 64), (1, 2, 64))

    With its gradient:

    >>> y, h_n, tape = gru.forward(x)
    >>> dx, dh_0 = gru.backward(tape, np.ones_like(y))
    >>> dx.shape, gru.grads["weight_hh_l0"].shape
    ((7, 2, 8), (192, 64))
    """

    _variant = "reset"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        reset: Literal["after", "before"] = "after",
        dtype: npt.DTypeLike = np.float32,
        rng: Random = None,
        init: Init = "pytorch",
    ) -> None:
        self.reset = as_choice("GRU", "reset", reset, ("after", "before"))
        super().__init__(
            f"gru_{self.reset}", input_size, hidden_size, num_layers, bias, batch_first,
            dropout, bidirectional, dtype, rng, init,
        )  # fmt: skip


@savable
class RNN(Recurrent):
    """The Elman network: one or more layers, in one direction or two.

    ::

        h = tanh(W x + b_x + U h' + b_h)        or relu in place of tanh

    Parameters
    ----------
    input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, dtype, rng, init
        As for `GRU`.
    nonlinearity : {"tanh", "relu"}

    Raises
    ------
    TypeError, ValueError
        As for `GRU`.

    Notes
    -----
    ``params`` and ``grads`` have `GRU`'s names with H rows in place of 3H.

    References
    ----------
    J. Elman, "Finding Structure in Time", Cognitive Science 14, 1990.

    Examples
    --------
    >>> rnn = pygru.RNN(8, 64, bidirectional=True, rng=0)
    >>> y, h_n = rnn(np.zeros((7, 2, 8)))
    >>> y.shape, h_n.shape
    ((7, 2, 128), (2, 2, 64))
    """

    _variant = "nonlinearity"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        nonlinearity: Literal["tanh", "relu"] = "tanh",
        dtype: npt.DTypeLike = np.float32,
        rng: Random = None,
        init: Init = "pytorch",
    ) -> None:
        self.nonlinearity = as_choice("RNN", "nonlinearity", nonlinearity, ("tanh", "relu"))
        super().__init__(
            f"rnn_{self.nonlinearity}", input_size, hidden_size, num_layers, bias,
            batch_first, dropout, bidirectional, dtype, rng, init,
        )  # fmt: skip


@savable
class Linear(Layer):
    """y = W x + b along the last axis of anything.

    Parameters
    ----------
    in_features, out_features : int
        K and M: x is (..., K), y is (..., M).
    bias : bool
        Whether there is b.
    dtype : float32 or float64
    rng : int, numpy.random.Generator or None
        Where the initial values come from.
    init : {"pytorch", "keras", "tensorflow1", "zeros"}
        "pytorch" draws W and b from U(-1/sqrt K, 1/sqrt K); "keras" and "tensorflow1" draw W Glorot
        uniform and set b to 0.

    Raises
    ------
    TypeError, ValueError
        When an argument is of the wrong kind, a size below 1, or a word unknown.

    Notes
    -----
    ``params`` and ``grads`` hold ``weight`` (M, K) and ``bias`` (M,).

    Examples
    --------
    >>> linear = pygru.Linear(64, 1, rng=0)
    >>> linear(np.zeros((7, 2, 64))).shape
    (7, 2, 1)
    """

    _made_anew = (*Layer._made_anew, "_weights", "_gradients")

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        dtype: npt.DTypeLike = np.float32,
        rng: Random = None,
        init: str = "pytorch",
    ) -> None:
        self.in_features = K = as_size("Linear", "in_features", in_features)
        self.out_features = M = as_size("Linear", "out_features", out_features)
        self._widths = Widths(K, M)
        self.bias = as_bool("Linear", "bias", bias)
        scheme = LINEAR[as_choice("Linear", "init", init, LINEAR)]
        parameters = [Parameter("weight", (M, K), input_major=True), Parameter("bias", (M,))]
        super().__init__(parameters[: 1 + self.bias], as_float_dtype("Linear", dtype))
        W, b = scheme(M, K, as_generator("Linear", rng))
        self._params["weight"][...] = W
        if self.bias:
            self._params["bias"][...] = b

    def config(self) -> Config:
        """Return the constructor arguments of a layer like this one, as JSON can hold them."""
        return {
            "in_features": self.in_features,
            "out_features": self.out_features,
            "bias": self.bias,
            "dtype": self.dtype.name,
        }

    @classmethod
    def _from_config(cls, config: Config) -> Module:
        return cls(**config, init="zeros")

    def _bind(self, flat_params: FloatArray, flat_grads: FloatArray) -> None:
        super()._bind(flat_params, flat_grads)
        self._weights = self._params["weight"], self._params.get("bias")
        self._gradients = self._grads["weight"], self._grads.get("bias")

    def _apply(
        self, x: npt.ArrayLike, _lengths: npt.ArrayLike | None, _training: bool, /
    ) -> tuple[FloatArray, FloatArray]:
        given = as_real("Linear.forward", "x", x, self._flat_params.dtype)
        if given.ndim == 0 or given.shape[-1] != self.in_features:
            raise ValueError(
                f"Linear.forward: x must have shape (..., K) = (..., {self.in_features}), "
                f"got {given.shape}"
            )
        M = self.out_features
        check_bytes("Linear.forward", "y", given.size // self.in_features * M, given.dtype)
        y = np.empty((*given.shape[:-1], M), given.dtype)
        _core.linear_forward(_rows(given), *self._weights, _rows(y))
        return y, given

    def _pull(
        self, saved: FloatArray, dy: FloatArray, input_gradient: bool, /
    ) -> FloatArray | None:
        dx = np.empty(saved.shape, saved.dtype) if input_gradient else None
        with self._adding:
            _core.linear_backward(
                _rows(saved),
                self._weights[0],
                _rows(dy),
                None if dx is None else _rows(dx),
                *self._gradients,
            )
        return dx


def _rows(array: FloatArray) -> FloatArray:
    """Return (N, K) of (..., K)."""
    return array if array.ndim == 2 else array.reshape(-1, array.shape[-1])


@savable
class Embedding(Layer):
    """A table of vectors, looked up by integer.

    Parameters
    ----------
    num_embeddings, embedding_dim : int
        K rows of M numbers: x is integers of any shape (...), y is (..., M).
    dtype : float32 or float64
    rng : int, numpy.random.Generator or None
        Where the initial values come from.
    init : {"pytorch", "keras", "tensorflow1", "zeros"}
        "pytorch" is standard normal, "keras" uniform within 0.05 of 0, "tensorflow1" Glorot.

    Raises
    ------
    TypeError, ValueError
        When an argument is of the wrong kind, a size below 1, or a word unknown; in ``forward``
        when x does not hold integers, or one of them is not in 0 .. K-1.

    Notes
    -----
    ``params`` and ``grads`` hold ``weight`` (K, M). ``backward`` touches only the rows that were
    looked up, and returns None: integers have no gradient.

    Examples
    --------
    >>> table = pygru.Embedding(10, 4, rng=0)
    >>> table([[1, 2, 1]]).shape
    (1, 3, 4)
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        dtype: npt.DTypeLike = np.float32,
        rng: Random = None,
        init: str = "pytorch",
    ) -> None:
        self.num_embeddings = K = as_size("Embedding", "num_embeddings", num_embeddings)
        self.embedding_dim = M = as_size("Embedding", "embedding_dim", embedding_dim)
        self._widths = Widths(gives=M, classes=True)
        initializer = EMBEDDING[as_choice("Embedding", "init", init, EMBEDDING)]
        # Input-major already: the input is one of K, and its M weights lie side by side.
        super().__init__([Parameter("weight", (K, M))], as_float_dtype("Embedding", dtype))
        self._params["weight"][...] = initializer((K, M), rng=as_generator("Embedding", rng))

    def config(self) -> Config:
        """Return the constructor arguments of a layer like this one, as JSON can hold them."""
        return {
            "num_embeddings": self.num_embeddings,
            "embedding_dim": self.embedding_dim,
            "dtype": self.dtype.name,
        }

    @classmethod
    def _from_config(cls, config: Config) -> Module:
        return cls(**config, init="zeros")

    @property
    def input_classes(self) -> int:
        """K: x is integers that stand for classes."""
        return self.num_embeddings

    def _apply(
        self, x: npt.ArrayLike, _lengths: npt.ArrayLike | None, training: bool, /
    ) -> tuple[FloatArray, _IntArray]:
        indices = as_classes("Embedding.forward", "x", x, self.num_embeddings)
        return self._params["weight"][indices], indices.copy() if training else indices

    def _pull(self, saved: _IntArray, dy: FloatArray, _input_gradient: bool, /) -> None:
        if not saved.size:
            return
        # Sorted by row, the gradients of one row lie side by side. Few bits sort in one pass.
        indices = saved.reshape(-1).astype(np.min_scalar_type(self.num_embeddings - 1))
        order = np.argsort(indices, kind="stable")
        rows, starts = np.unique(indices[order], return_index=True)
        sorted_dy = dy.reshape(-1, self.embedding_dim)[order]
        dW = self._grads["weight"]
        with self._adding:
            if len(order) < 16 * len(rows):
                dW[rows] += np.add.reduceat(sorted_dy, starts, axis=0)
            else:  # few rows, each many times: whole blocks add up faster, up to 4x
                for row, block in zip(rows, np.split(sorted_dy, starts[1:]), strict=True):
                    dW[row] += block.sum(axis=0)
