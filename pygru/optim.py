# SPDX-License-Identifier: MIT
"""Optimisers: one pass after another over one flat array of parameters and one of gradients.

An optimiser works in place, allocates its state at the first step and never again, and folds every
scalar it can (bias corrections, learning rate) into one number, because at the size of a small GRU
the passes are the cost. Large arrays are walked in blocks that stay in the cache.

Depends on NumPy alone. An optimiser belongs to one model: its state has that model's size. Settings
out of range are a ValueError everywhere.
"""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from pygru import _core

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "Optimizer",
    "RMSprop",
]

Array: TypeAlias = npt.NDArray[Any]

# Elements updated at a time: parameters, gradients, two state arrays and the scratch array are
# 320 KiB in float32, which a second-level cache of 512 KiB holds.
BLOCK = 16384


class Optimizer:
    """What all optimisers share: counting, state, saving and loading it.

    A subclass names its state arrays in `slots` and its scalars in `settings`, and updates one
    block in `_update`.

    Attributes
    ----------
    lr : float
        The learning rate; may be changed between steps.
    steps : int
        Steps taken so far.
    """

    settings: tuple[str, ...] = ("lr",)
    slots: tuple[str, ...] = ()

    def __init__(self, lr: float) -> None:
        self.lr = _number(self, "lr", lr, 0, math.inf)
        self.steps = 0
        self._state: tuple[Array, ...] | None = None
        self._scratch: Array = np.empty(0)

    def step(self, flat_params: Array, flat_grads: Array) -> None:
        """Update the parameters in place.

        Parameters
        ----------
        flat_params, flat_grads : arrays of shape (P,), of one floating dtype
            `flat_grads` is only read.

        Raises
        ------
        ValueError
            Not one-dimensional, of different shapes or dtypes, or of another size than before.
        """
        if self._state is None:
            self._allocate(flat_params)
        state, scratch, size = self._state or (), self._scratch, flat_params.size
        if flat_params.shape != flat_grads.shape or flat_params.dtype != flat_grads.dtype:
            raise ValueError(
                f"{type(self).__name__}.step: flat_grads must be like flat_params, "
                f"{flat_params.shape} {flat_params.dtype}, "
                f"got {flat_grads.shape} {flat_grads.dtype}"
            )
        if state and (state[0].shape != flat_params.shape or state[0].dtype != flat_params.dtype):
            raise ValueError(
                f"{type(self).__name__}.step: the state of this optimiser belongs to parameters "
                f"{state[0].shape} {state[0].dtype}, got {flat_params.shape} {flat_params.dtype}"
            )
        self.steps += 1
        if size <= BLOCK:
            self._update(flat_params, flat_grads, scratch[:size], *state)
            return
        for start in range(0, size, BLOCK):
            block = slice(start, min(start + BLOCK, size))
            self._update(
                flat_params[block],
                flat_grads[block],
                scratch[: block.stop - start],
                *(array[block] for array in state),
            )

    def state_dict(self) -> dict[str, Any]:
        """Return everything a later `load_state_dict` needs to go on exactly: copies.

        Returns
        -------
        dict
            "type" (str), "steps" (int), the settings by name (numbers), and after the first step
            the state arrays by name, (P,) each.

        Examples
        --------
        >>> Adam(1e-3).state_dict()
        {'type': 'Adam', 'steps': 0, 'lr': 0.001, 'betas': [0.9, 0.999], 'eps': 1e-08}
        """
        result: dict[str, Any] = {"type": type(self).__name__, "steps": self.steps}
        for name in self.settings:
            value = getattr(self, name)
            result[name] = list(value) if isinstance(value, tuple) else value
        if self._state is not None:
            result.update({name: a.copy() for name, a in zip(self.slots, self._state, strict=True)})
        return result

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned; the settings are taken over, too.

        Raises
        ------
        ValueError
            Of another type of optimiser, or with missing, unknown or misshapen entries; nothing
            has been changed then.

        Examples
        --------
        >>> first, second, params = Adam(1e-3), Adam(0.5), np.zeros(3)
        >>> first.step(params, np.ones(3))
        >>> second.load_state_dict(first.state_dict())
        >>> second.lr, second.steps
        (0.001, 1)
        """
        who = f"{type(self).__name__}.load_state_dict"
        if state_dict.get("type") != type(self).__name__:
            raise ValueError(
                f"{who}: the state must be of type {type(self).__name__!r}, "
                f"got {state_dict.get('type')!r}"
            )
        wanted = {"type", "steps", *self.settings}
        if state_dict.get("steps", 0):
            wanted.update(self.slots)
        missing, unknown = wanted - set(state_dict), set(state_dict) - wanted
        if missing or unknown:
            raise ValueError(f"{who}: missing {sorted(missing)}, unknown {sorted(unknown)}")
        arrays = {name: np.array(state_dict[name]) for name in self.slots if name in wanted}
        shapes = {name: array.shape for name, array in arrays.items()}
        if any(len(shape) != 1 for shape in shapes.values()) or len(set(shapes.values())) > 1:
            raise ValueError(f"{who}: the state arrays must have one shape (P,), got {shapes}")

        for name in self.settings:
            value = state_dict[name]
            setattr(self, name, tuple(value) if isinstance(value, list) else value)
        self.steps = int(state_dict["steps"])
        self._state = None
        if arrays:
            self._allocate(next(iter(arrays.values())))
            self._state = tuple(arrays.values())

    def _allocate(self, like: Array) -> None:
        """Check the parameters once, and make state and scratch for them."""
        if like.ndim != 1 or like.dtype.kind != "f":
            raise ValueError(
                f"{type(self).__name__}.step: flat_params must be a floating array of shape (P,), "
                f"got {like.shape} {like.dtype}"
            )
        self._state = tuple(np.zeros_like(like) for _ in self.slots)
        self._scratch = np.empty(min(like.size, BLOCK), like.dtype)

    def _update(self, params: Array, grads: Array, scratch: Array, *state: Array) -> None:
        """Update one block in place; all arrays have one shape, `scratch` holds nothing."""
        raise NotImplementedError

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.settings)
        return f"{type(self).__name__}({settings})"


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum and Nesterov's form of it.

    ::

        v = momentum v + g
        p = p - lr v                         nesterov:  p = p - lr (g + momentum v)

    Parameters
    ----------
    lr : float
    momentum : float
        0 <= momentum < 1.
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

    def __init__(self, lr: float = 0.01, momentum: float = 0.0, nesterov: bool = False) -> None:
        super().__init__(lr)
        self.momentum = _number(self, "momentum", momentum, 0, 1)
        self.nesterov = bool(nesterov)
        if nesterov and not momentum:
            raise ValueError("SGD: nesterov needs a momentum above 0, got 0")

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

    One pass in C++. The state holds m / (1 - beta_1) and v / (1 - beta_2); all constant factors of
    the last line meet in two scalars.

    Parameters
    ----------
    lr : float
    betas : (float, float)
        Decay of the two moments, 0 <= beta < 1.
    eps : float

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
    weight_decay = 0.0

    def __init__(
        self, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8
    ) -> None:
        super().__init__(lr)
        beta_1, beta_2 = betas
        self.betas = (
            _number(self, "betas[0]", beta_1, 0, 1),
            _number(self, "betas[1]", beta_2, 0, 1),
        )
        self.eps = _number(self, "eps", eps, 0, math.inf)

    def _update(self, params: Array, grads: Array, scratch: Array, *state: Array) -> None:
        del scratch  # one pass keeps everything in registers
        m, v = state
        beta_1, beta_2 = self.betas
        # sqrt(v_hat) = root sqrt(v), so lr m_hat / (sqrt(v_hat) + eps) is
        # lr (1 - beta_1) / (1 - beta_1^t) / root * m / (sqrt(v) + eps / root).
        root = math.sqrt((1 - beta_2) / (1 - beta_2**self.steps))
        rate = self.lr * (1 - beta_1) / (1 - beta_1**self.steps) / root
        decay = 1 - self.lr * self.weight_decay
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
        self.weight_decay = _number(self, "weight_decay", weight_decay, 0, math.inf)


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
    slots = ("v",)

    def __init__(self, lr: float = 0.01, alpha: float = 0.99, eps: float = 1e-8) -> None:
        super().__init__(lr)
        self.alpha = _number(self, "alpha", alpha, 0, 1)
        self.eps = _number(self, "eps", eps, 0, math.inf)

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


def _number(owner: object, name: str, value: float, low: float, high: float) -> float:
    """Return a setting as a float if low <= value < high."""
    if not low <= value < high:
        raise ValueError(
            f"{type(owner).__name__}: {name} must satisfy {low} <= {name} < {high}, got {value}"
        )
    return float(value)
