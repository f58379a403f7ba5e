# SPDX-License-Identifier: MIT
"""Metrics: what is reported beside the loss, by `fit` after each epoch and by `evaluate`.

A metric is called as a loss is, ``metric(y, target, lengths=None, batch_first=False)``, and returns
one number, the mean over the valid elements. `get` finds metrics by name; any callable of this form
will do. Batches are averaged, each by its number of elements: what is no mean, such as F1 or R^2,
is computed of all that `predict` gives.

Depends on NumPy, the losses and the columns of the history.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from pygru import checks, losses
from pygru.history import COLUMNS

__all__ = ["Metric", "MetricLike", "accuracy", "get", "mae", "rmse"]

MetricLike: TypeAlias = "str | Callable[..., float] | Metric"


def accuracy(
    y: npt.ArrayLike,
    target: npt.ArrayLike,
    lengths: npt.ArrayLike | None = None,
    *,
    batch_first: bool = False,
    threshold: float = 0.0,
) -> float:
    """Return the share of decisions that are right.

    Parameters
    ----------
    y : array_like of shape (..., C), or (...) for yes-or-no decisions
        Logits.
    target : array_like of shape (...)
        Class indices: right where y is largest at that index. Or probabilities, in the shape of
        `y`: right where y > threshold and target > 1/2, or neither. Where y is NaN nothing is
        right.
    lengths, batch_first
        As in `losses.mae`.
    threshold : float
        From where y means yes: 0 for logits, 1/2 for probabilities. ``metrics="accuracy"`` takes
        1/2 for a model that ends in `Sigmoid`.

    Raises
    ------
    ValueError
        The shape of `target` is neither that of `y` nor that without the last axis, or there are
        fewer than two classes to decide between.
    TypeError
        Strings, complex or object arrays.

    Examples
    --------
    >>> accuracy([[0.1, 0.9], [2.0, -1.0]], [1, 1])
    0.5
    """
    if math.isnan(checks.as_number("accuracy", "threshold", threshold)):
        raise ValueError("accuracy: threshold must be a number, got nan")
    y, target = checks.as_array("accuracy", "y", y), checks.as_array("accuracy", "target", target)
    for name, array in (("y", y), ("target", target)):
        checks.check_real("accuracy", name, array)
    if target.shape == y.shape:
        right = ((y > threshold) == (target > 0.5)) & ~np.isnan(y)
    elif target.shape == y.shape[:-1]:
        if y.shape[-1] < 2:
            raise ValueError(
                "accuracy: y must have at least two classes along its last axis, got shape "
                f"{y.shape}; for yes-or-no decisions give target the shape of y"
            )
        right = (y.argmax(axis=-1) == target) & ~np.isnan(y).any(axis=-1)
    else:
        raise ValueError(
            f"accuracy: target must have the shape of y, {y.shape}, with or without the last axis "
            f"(classes), got {target.shape}"
        )
    valid, count = losses.valid_elements("accuracy", right.shape, lengths, batch_first)
    return float(np.count_nonzero(right if valid is None else right & valid) / count)


def mae(
    y: npt.ArrayLike,
    target: npt.ArrayLike,
    lengths: npt.ArrayLike | None = None,
    *,
    batch_first: bool = False,
) -> float:
    """Return the mean absolute error: mean |y - target|; parameters as in `losses.mae`.

    Examples
    --------
    >>> mae([[1.0], [2.0]], [[1.5], [0.5]])
    1.0
    """
    return losses.mae(y, target, lengths, batch_first=batch_first)[0]


def rmse(
    y: npt.ArrayLike,
    target: npt.ArrayLike,
    lengths: npt.ArrayLike | None = None,
    *,
    batch_first: bool = False,
) -> float:
    """Return the root mean squared error: sqrt(mean (y - target)^2); parameters as in `losses.mse`.

    Over several batches it is the root of the mean over all of them, and not a mean of roots.

    Examples
    --------
    >>> round(rmse([[1.0], [2.0]], [[1.0], [4.0]]), 4)
    1.4142
    """
    return math.sqrt(_mse(y, target, lengths, batch_first=batch_first))


def _mse(y: Any, target: Any, lengths: Any = None, *, batch_first: bool = False) -> float:
    return losses.of_residuals("rmse", "mse", y, target, lengths, batch_first)[0]


class Metric(NamedTuple):
    """A metric over several batches: ``finish`` of the weighted mean of what ``mean`` gives.

    Examples
    --------
    >>> def square(y, target, lengths=None, *, batch_first=False):
    ...     return pygru.losses.mse(y, target, lengths, batch_first=batch_first)[0]
    >>> decibel = Metric("decibel", square, lambda mean: 10 * math.log10(mean))
    >>> linear = pygru.Linear(1, 1, init="zeros")
    >>> scores = pygru.evaluate(linear, [[1.0]], [[0.1]], loss="mse", metrics=decibel)
    >>> round(scores["decibel"], 3)
    -20.0
    """

    name: str
    mean: Callable[..., float]
    finish: Callable[[float], float]


METRICS: dict[str, Callable[..., float]] = {"accuracy": accuracy, "mae": mae, "rmse": rmse}


def get(metrics: MetricLike | Iterable[MetricLike], where: str = "get") -> tuple[Metric, ...]:
    """Return metrics by name, or made of callables.

    Parameters
    ----------
    metrics : one or several of "accuracy", "mae", "rmse", a callable or a `Metric`
        A callable takes (y, target), and lengths= and batch_first= when there are lengths.
    where : str
        The function that was given the names, for errors.

    Raises
    ------
    ValueError
        No metric of this name, two of one name, or a name that `History` has for another column.
    TypeError
        Neither a name nor a callable, or a `Metric` of the wrong kinds.

    Examples
    --------
    >>> [metric.name for metric in get(["mae", rmse])]
    ['mae', 'rmse']
    """
    if isinstance(metrics, (str, Metric)) or callable(metrics):
        metrics = [metrics]
    elif isinstance(metrics, Mapping) or not isinstance(metrics, Iterable):
        raise TypeError(
            f"{where}: metrics must be a name, a callable or an iterable of these, "
            f"got {type(metrics).__name__}"
        )
    result = tuple(_metric(metric, where) for metric in metrics)
    names = [metric.name for metric in result]
    if len(set(names)) < len(names):
        raise ValueError(f"{where}: metrics must have different names, got {names}")
    for name in names:
        if name in COLUMNS or name.startswith("validation_"):
            raise ValueError(
                f"{where}: metrics must have other names than the columns of History "
                f"({', '.join(COLUMNS)}, validation_...), got {name!r}"
            )
    return result


def _metric(metric: Any, where: str) -> Metric:
    if isinstance(metric, Metric):
        if not isinstance(metric.name, str):
            raise TypeError(f"{where}: name of a Metric must be a str, got {metric.name!r}")
        for field in ("mean", "finish"):
            value = getattr(metric, field)
            if not callable(value):
                raise TypeError(
                    f"{where}: {field} of Metric {metric.name} must be callable, got {value!r}"
                )
        return metric
    if isinstance(metric, str):
        if metric not in METRICS:
            raise ValueError(f"{where}: metric must be one of {', '.join(METRICS)}, got {metric!r}")
        metric = METRICS[metric]
    if not callable(metric):
        raise TypeError(
            f"{where}: metric must be a name, a callable or a Metric, got {type(metric).__name__}"
        )
    if metric is rmse:
        return Metric("rmse", _mse, math.sqrt)
    function = getattr(metric, "func", metric)  # of a functools.partial
    return Metric(getattr(function, "__name__", type(metric).__name__), metric, float)
