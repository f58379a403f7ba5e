# SPDX-License-Identifier: MIT
"""Losses: each gives its value and, at once, its gradient with respect to the predictions.

Every loss is called ``value, dy = loss(y, target, lengths=None, batch_first=False)`` and is the
mean over the valid elements: all of them, or with `lengths` those before each sequence's end.
Elements past an end may hold anything, NaN included; they add nothing and their gradient is 0.

`get` finds a loss by name; any callable of this form will do. Depends on NumPy, the kernels,
`checks` and `sums`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from pygru import _core, checks
from pygru.sums import dot

__all__ = [
    "Loss",
    "binary_cross_entropy",
    "cross_entropy",
    "get",
    "huber",
    "mae",
    "mse",
]

Array: TypeAlias = npt.NDArray[Any]
Loss: TypeAlias = Callable[..., tuple[float, Array]]


def mae(
    y: npt.ArrayLike,
    target: npt.ArrayLike,
    lengths: npt.ArrayLike | None = None,
    *,
    batch_first: bool = False,
) -> tuple[float, Array]:
    """Mean absolute error: mean |y - target|.

    Parameters
    ----------
    y : array_like of any shape
        Predictions; with `lengths` of shape (T, B, ...), or (B, T, ...) when `batch_first`.
    target : array_like of the shape of `y`
    lengths : integer array_like of shape (B,), optional
        Valid steps of each sequence.
    batch_first : bool
        Which of the first two axes of `y` is time; matters only with `lengths`.

    Returns
    -------
    value : float
    dy : array of the shape of `y`
        0 where y equals the target, or nearly (they differ by a denormal number), where the
        derivative is not defined. Of its dtype, float64 for integers; computed in float32 where
        that is the dtype, else in float64.

    Raises
    ------
    ValueError
        Shapes of `y` and `target` differ, or `lengths` do not fit `y`.
    TypeError
        Complex or object arrays.

    Examples
    --------
    >>> value, dy = mae([[1.0], [2.0]], [[1.5], [0.5]])
    >>> value, dy.tolist()
    (1.0, [[-0.5], [0.5]])
    """
    return of_residuals("mae", "mae", y, target, lengths, batch_first)


def mse(
    y: npt.ArrayLike,
    target: npt.ArrayLike,
    lengths: npt.ArrayLike | None = None,
    *,
    batch_first: bool = False,
) -> tuple[float, Array]:
    """Mean squared error: mean (y - target)^2.

    Parameters, results and errors are those of `mae`.

    Examples
    --------
    >>> value, dy = mse([[1.0], [2.0]], [[1.5], [0.5]])
    >>> value, dy.tolist()
    (1.25, [[-0.5], [1.5]])
    """
    return of_residuals("mse", "mse", y, target, lengths, batch_first)


def huber(
    y: npt.ArrayLike,
    target: npt.ArrayLike,
    lengths: npt.ArrayLike | None = None,
    *,
    batch_first: bool = False,
    delta: float = 1.0,
) -> tuple[float, Array]:
    """Huber's loss: e^2 / 2 where |e| <= delta, delta (|e| - delta / 2) beyond, for e = y - target.

    Parameters, results and errors are those of `mae`, and `delta`, where the parabola ends.
    `functools.partial(huber, delta=0.1)` fixes it for `fit`.

    References
    ----------
    Huber (1964), "Robust estimation of a location parameter".

    Examples
    --------
    >>> value, dy = huber([[0.5], [3.0]], [[0.0], [0.0]])
    >>> value, dy.tolist()
    (1.3125, [[0.25], [0.5]])
    """
    delta = checks.as_positive("huber", "delta", delta)
    return of_residuals("huber", "huber", y, target, lengths, batch_first, delta)


def cross_entropy(
    y: npt.ArrayLike,
    target: npt.ArrayLike,
    lengths: npt.ArrayLike | None = None,
    *,
    batch_first: bool = False,
) -> tuple[float, Array]:
    """Cross-entropy of the softmax over the last axis with integer classes, in nats.

    ::

        p = exp(y) / sum_c exp(y_c)      value = -mean log p[target]      dy = (p - onehot) / count

    Parameters
    ----------
    y : array_like of shape (B, C), (T, B, C), or (B, T, C) when `batch_first`
        Scores before the softmax (logits).
    target : integer array_like of the shape of `y` without its last axis
        Class indices, 0 <= index < C; past a sequence's end they may be anything.
    lengths, batch_first
        As in `mae`.

    Returns
    -------
    value : float
    dy : array of the shape of `y`

    Raises
    ------
    ValueError
        The shapes do not fit, or a class index is out of range.
    TypeError
        `target` does not hold integers, or `y` is complex or an object array.

    Examples
    --------
    >>> value, dy = cross_entropy([[0.0, 0.0], [5.0, 5.0]], [0, 1])
    >>> round(value, 6), dy.tolist()
    (0.693147, [[-0.25, 0.25], [0.25, -0.25]])
    """
    y, target = _floating("cross_entropy", y), checks.as_array("cross_entropy", "target", target)
    if target.dtype.kind not in "iu":
        hint = "; labels that are whole numbers become integers by astype(int)"
        raise TypeError(
            f"cross_entropy: target must hold integer class indices, got dtype {target.dtype}"
            + hint * (target.dtype.kind == "f")
        )
    if not y.shape or y.shape[-1] == 0:
        raise ValueError(
            f"cross_entropy: y must have at least one class along its last axis, got {y.shape}"
        )
    if target.shape != y.shape[:-1]:
        raise ValueError(
            f"cross_entropy: target must have the shape of y without its last axis (classes), "
            f"{y.shape[:-1]} for y of shape {y.shape}, got {target.shape}"
        )
    valid, count = valid_elements("cross_entropy", y.shape[:-1], lengths, batch_first)
    if valid is not None:
        y, target = np.where(valid[..., None], y, 0), np.where(valid, target, 0)
    given = y.dtype
    precision: Any = np.dtype(np.float32 if given.char == "f" else np.float64)
    scores = np.asarray(checks.as_real("cross_entropy", "y", y, precision), order="C")
    classes = np.require(target, np.int64, ("C", "A")).reshape(-1)
    weights = np.full(classes.size, 1 / count, scores.dtype)
    if valid is not None:
        weights *= np.broadcast_to(valid, target.shape).reshape(-1)
    dy, sums, rests = np.empty_like(scores), np.empty_like(weights), np.empty_like(weights)
    if not _core.cross_entropy(scores, classes, weights, dy, sums, rests):
        last = y.shape[-1] - 1
        worst = target.max() if target.max() > last else target.min()
        raise ValueError(
            f"cross_entropy: target must hold class indices in 0 .. {last} for y of {last + 1} "
            f"classes, got {worst}"
        )
    return dot(np.log(sums) + rests, weights), dy.astype(given, copy=False)


def binary_cross_entropy(
    y: npt.ArrayLike,
    target: npt.ArrayLike,
    lengths: npt.ArrayLike | None = None,
    *,
    batch_first: bool = False,
) -> tuple[float, Array]:
    """Cross-entropy of sigmoid(y) with probabilities, from logits, without overflow.

    ::

        value = mean( max(y, 0) - y target + log(1 + exp(-|y|)) )
        dy = (sigmoid(y) - target) / count

    Parameters, results and errors are those of `mae`; besides, a target outside 0 .. 1 is a
    ValueError.

    Examples
    --------
    >>> value, dy = binary_cross_entropy([[0.0], [1000.0]], [[1.0], [1.0]])
    >>> round(value, 6), dy.tolist()
    (0.346574, [[-0.25], [0.0]])
    """
    y, target, valid, count = _pair("binary_cross_entropy", y, target, lengths, batch_first)
    if target.size and not 0 <= target.min() <= target.max() <= 1:
        worst = target.max() if target.max() > 1 else target.min()
        raise ValueError(f"binary_cross_entropy: target must lie in 0 .. 1, got {worst}")
    losses = np.maximum(y, 0) - y * target + np.log1p(np.exp(-np.abs(y)))
    dy = np.asarray(0.5 * (1 + np.tanh(0.5 * y)) - target)
    if valid is not None:
        losses, dy = losses * valid, dy * valid
    dy *= 1 / count
    return float(np.add.reduce(losses.ravel(), dtype=np.float64)) / count, dy


LOSSES: dict[str, Loss] = {
    "mae": mae,
    "mse": mse,
    "huber": huber,
    "cross_entropy": cross_entropy,
    "binary_cross_entropy": binary_cross_entropy,
}


def get(loss: str | Loss, where: str = "get") -> Loss:
    """Return a loss by its name, or a callable as it is.

    Parameters
    ----------
    loss : {"mae", "mse", "huber", "cross_entropy", "binary_cross_entropy"} or callable
        A callable takes (y, target), which it must not change, and lengths= and batch_first= when
        there are lengths, and returns (value, dy).
    where : str
        The function that was given the name, for errors.

    Raises
    ------
    ValueError
        No loss of this name.
    TypeError
        Neither a name nor a callable.

    Examples
    --------
    >>> get("mae") is mae
    True
    """
    if callable(loss):
        return loss
    if not isinstance(loss, str):
        raise TypeError(f"{where}: loss must be a name or a callable, got {type(loss).__name__}")
    if loss not in LOSSES:
        raise ValueError(f"{where}: loss must be one of {', '.join(LOSSES)}, got {loss!r}")
    return LOSSES[loss]


def of_residuals(
    where: str,
    loss: str,
    y: npt.ArrayLike,
    target: npt.ArrayLike,
    lengths: npt.ArrayLike | None,
    batch_first: bool,
    delta: float = 0.0,
) -> tuple[float, Array]:
    """Return the mean of a loss of y - target that the kernels know by name, and its gradient."""
    y, target, _, count = _pair(where, y, target, lengths, batch_first)
    given = y.dtype
    if given.char not in "fd":
        y, target = y.astype(np.float64), target.astype(np.float64)
    dy = np.empty(y.shape, y.dtype.char)
    total = _core.residual_loss(loss, y, target, dy, 1 / count, delta)
    return total / count, dy if given.char in "fd" else dy.astype(given)


def _pair(
    name: str,
    y: npt.ArrayLike,
    target: npt.ArrayLike,
    lengths: npt.ArrayLike | None,
    batch_first: bool,
) -> tuple[Array, Array, Array | None, int]:
    """Return both in y's dtype and one shape, 0 where not valid, and what `valid_elements` does."""
    y, target = _floating(name, y), _floating(name, target, "target")
    if y.shape != target.shape:
        raise ValueError(f"{name}: target must have the shape of y, {y.shape}, got {target.shape}")
    valid, count = valid_elements(name, y.shape, lengths, batch_first)
    if valid is not None:  # first of all: what lies past an end need not even fit y's dtype
        y, target = np.where(valid, y, 0), np.where(valid, target, 0)
    return y, target if target.dtype == y.dtype else target.astype(y.dtype), valid, count


def _floating(name: str, values: npt.ArrayLike, argument: str = "y") -> Array:
    """Return real values as a floating array."""
    array = checks.as_array(name, argument, values)
    if array.dtype.kind == "f":
        return array
    checks.check_real(name, argument, array)
    return array.astype(np.float64)


def valid_elements(
    name: str, shape: tuple[int, ...], lengths: npt.ArrayLike | None, batch_first: bool
) -> tuple[Array | None, int]:
    """Return which elements come before their sequence's end (None: all), and how many do.

    The count is at least 1, so that a mean over nothing is 0 and not NaN.
    """
    if lengths is None:
        return None, max(1, math.prod(shape))
    if len(shape) < 2:
        raise ValueError(f"{name}: lengths need a y with a time axis, got shape {shape}")
    batch_first = checks.as_bool(name, "batch_first", batch_first)
    batch, time = (0, 1) if batch_first else (1, 0)
    lengths = checks.as_array(name, "lengths", lengths)
    if lengths.shape == (shape[time],) != (shape[batch],) and not batch_first:
        raise ValueError(
            f"{name}: lengths must have shape (B,) = ({shape[batch]},) for a y of (T, B, ...), got "
            f"{lengths.shape}: batch_first=True reads (B, T, ...)"
        )
    ends = checks.as_lengths(name, lengths, shape[time], (shape[batch],))
    steps = np.arange(shape[time])
    valid = steps < ends[:, None] if batch_first else steps[:, None] < ends
    valid = valid.reshape(valid.shape + (1,) * (len(shape) - 2))
    return valid, max(1, int(ends.sum()) * math.prod(shape[2:]))
