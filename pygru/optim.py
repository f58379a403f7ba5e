# SPDX-License-Identifier: MIT
"""Optimisers: one pass after another over one flat array of parameters and one of gradients.

An optimiser works in place, allocates its state at the first step and never again, and folds every
scalar it can (bias corrections, learning rate) into one number, because at the size of a small GRU
the passes are the cost. Large arrays are walked in blocks that stay in the cache.

Depends on NumPy, the kernels and `optimizer`, where counting, state and the walk in blocks are.
Settings out of range are a ValueError everywhere, also where they are changed later.
"""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from pygru import _core
from pygru.optimizer import Optimizer

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "Optimizer",
    "RMSprop",
]

Array: TypeAlias = npt.NDArray[Any]


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum and Nesterov's form of it.

    ::

        v = momentum v + g
        p = p - lr v                         nesterov:  p = p - lr (g + momentum v)

    Parameters
    ----------
    lr : float
    momentum : float
        0 <= momentum < 1. Where it is changed from 0 to more, the velocity starts from 0.
    nesterov : bool
        Needs a momentum.

    References
    ----------
    Sutskever et al. (2013), "On the importance of initialization and momentum in deep learning", in
    PyTorch's form, in which the learning rate stands outside the momentum.

    Examples
    --------
    >>> params = np.array([1.0, 2.0])
    >>> SGD(0.5).step(params, np.array([1.0, -1.0]))
    >>> params.tolist()
    [0.5, 2.5]
    """

    settings = ("lr", "momentum", "nesterov")
    nesterov = False

    def __init__(self, lr: float = 0.01, momentum: float = 0.0, nesterov: bool = False) -> None:
        super().__init__(lr)
        self.momentum, self.nesterov = momentum, nesterov
        if nesterov and not momentum:
            raise ValueError("SGD: nesterov needs a momentum above 0, got 0")

    @property
    def momentum(self) -> float:
        """The part of the velocity that a step leaves; may be changed between steps."""
        return self._momentum

    @momentum.setter
    def momentum(self, momentum: float) -> None:
        self._momentum = momentum
        if self._like is not None and len(self._state or ()) != len(self.slots):
            self._allocate(*self._like)

    @property
    def slots(self) -> tuple[str, ...]:  # type: ignore[override]
        """The velocity; without momentum there is none to keep."""
        return ("v",) if self.momentum else ()

    def _update(self, params: Array, grads: Array, scratch: Array, *state: Array) -> None:
        direction = grads
        if state:
            (v,) = state
            v *= self.momentum
            v += grads
            direction = v
            if self.nesterov:
                direction = np.multiply(v, self.momentum, out=scratch)
                direction += grads
        np.multiply(direction, self.lr, out=scratch)
        params -= scratch


class Adam(Optimizer):
    """Adam, with its bias correction as published.

    ::

        m = beta_1 m + (1 - beta_1) g        m_hat = m / (1 - beta_1^t)
        v = beta_2 v + (1 - beta_2) g^2      v_hat = v / (1 - beta_2^t)
        p = p - lr m_hat / (sqrt(v_hat) + eps)

    One pass in C++. The state holds m / (1 - beta_1) and v / (1 - beta_2), and is scaled where the
    betas are changed; all constant factors of the last line meet in two scalars.

    Parameters
    ----------
    lr : float
    betas : (float, float)
        Decay of the two moments, 0 <= beta < 1.
    eps : float
        Keeps the quotient finite where all gradients were 0: with 0, or too little for the
        parameters' dtype, it is NaN there.

    References
    ----------
    Kingma and Ba (2015), "Adam: a method for stochastic optimization", algorithm 1.

    Examples
    --------
    >>> params = np.array([1.0, 2.0])
    >>> Adam(0.5, eps=0.0).step(params, np.array([3.0, -0.1]))
    >>> params.tolist()
    [0.5, 2.5]
    """

    settings: tuple[str, ...] = ("lr", "betas", "eps")
    slots = ("m", "v")
    squares = ("v",)
    _betas = (0.9, 0.999)

    def __init__(
        self, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8
    ) -> None:
        super().__init__(lr)
        self.betas, self.eps = betas, eps

    @property
    def betas(self) -> tuple[float, float]:
        """What a step leaves of the two moments; may be changed between steps."""
        return self._betas

    @betas.setter
    def betas(self, betas: tuple[float, float]) -> None:
        _rescale(self._state, self._betas, betas)
        self._betas = betas

    def _update(self, params: Array, grads: Array, scratch: Array, *state: Array) -> None:
        del scratch  # one pass keeps everything in registers
        self._step(params, grads, state)

    def _step(
        self, params: Array, grads: Array, state: tuple[Array, ...], weight_decay: float = 0.0
    ) -> None:
        m, v = state
        beta_1, beta_2 = self.betas
        # sqrt(v_hat) = root sqrt(v), so lr m_hat / (sqrt(v_hat) + eps) is
        # lr (1 - beta_1) / (1 - beta_1^t) / root * m / (sqrt(v) + eps / root).
        root = math.sqrt((1 - beta_2) / (1 - beta_2**self.steps))
        rate = self.lr * (1 - beta_1) / (1 - beta_1**self.steps) / root
        decay = 1 - self.lr * weight_decay
        _core.adam(params, grads, m, v, rate, beta_1, beta_2, self.eps / root, decay)


class AdamW(Adam):
    """Adam with weight decay that does not pass through the moments.

    ::

        p = p - lr weight_decay p            then as `Adam`

    Parameters
    ----------
    lr, betas, eps
        As in `Adam`.
    weight_decay : float
        Part of each parameter taken away per step and learning rate.

    References
    ----------
    Loshchilov and Hutter (2019), "Decoupled weight decay regularization", as in PyTorch.

    Examples
    --------
    >>> params = np.array([1.0, 2.0])
    >>> AdamW(0.5, weight_decay=0.5).step(params, np.zeros(2))
    >>> params.tolist()
    [0.75, 1.5]
    """

    settings = ("lr", "betas", "eps", "weight_decay")

    def __init__(
        self,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(lr, betas, eps)
        self.weight_decay = weight_decay

    def _update(self, params: Array, grads: Array, scratch: Array, *state: Array) -> None:
        del scratch
        self._step(params, grads, state, self.weight_decay)


class RMSprop(Optimizer):
    """RMSprop: the gradient over its running root mean square.

    ::

        v = alpha v + (1 - alpha) g^2        p = p - lr g / (sqrt(v) + eps)

    Parameters
    ----------
    lr : float
    alpha : float
        Decay of the mean square, 0 <= alpha < 1.
    eps : float
        As in `Adam`.

    References
    ----------
    Tieleman and Hinton (2012), COURSERA: Neural networks for machine learning, lecture 6.5; eps
    stands outside the root, as in PyTorch.

    Examples
    --------
    >>> params = np.array([1.0, 2.0])
    >>> RMSprop(0.5, alpha=0.0, eps=0.0).step(params, np.array([3.0, -0.1]))
    >>> params.tolist()
    [0.5, 2.5]
    """

    settings = ("lr", "alpha", "eps")
    slots = squares = ("v",)
    _alpha = 0.99

    def __init__(self, lr: float = 0.01, alpha: float = 0.99, eps: float = 1e-8) -> None:
        super().__init__(lr)
        self.alpha, self.eps = alpha, eps

    @property
    def alpha(self) -> float:
        """What a step leaves of the mean square; may be changed between steps."""
        return self._alpha

    @alpha.setter
    def alpha(self, alpha: float) -> None:
        _rescale(self._state, (self._alpha,), (alpha,))
        self._alpha = alpha

    def _update(self, params: Array, grads: Array, scratch: Array, *state: Array) -> None:
        (v,) = state  # v / (1 - alpha): one pass fewer
        np.multiply(grads, grads, out=scratch)
        v *= self.alpha
        v += scratch
        root = math.sqrt(1 - self.alpha)
        np.sqrt(v, out=scratch)
        scratch += self.eps / root
        np.divide(grads, scratch, out=scratch)
        scratch *= self.lr / root
        params -= scratch


def _rescale(
    state: tuple[Array, ...] | None, before: tuple[float, ...], after: tuple[float, ...]
) -> None:
    """Bring running means, kept as the mean / (1 - decay), from one decay to another."""
    for array, old, new in zip(state or (), before, after, strict=False):
        array *= (1 - old) / (1 - new)
