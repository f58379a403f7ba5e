# SPDX-License-Identifier: MIT
"""The loss and the metrics of one batch, and their means over several.

Depends on losses and metrics.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from reprlib import repr as short
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from pygru import checks, losses
from pygru import metrics as metrics_

__all__ = ["Means", "is_ours", "lengths_of", "weighted_loss"]

Array: TypeAlias = npt.NDArray[Any]


class Means:
    """The loss and the metrics of several batches: means over all their elements."""

    __slots__ = ("_metrics", "_sums", "_total", "_weight")

    def __init__(self, metrics: tuple[metrics_.Metric, ...]) -> None:
        self._metrics = metrics
        self._sums = [0.0] * len(metrics)
        self._total = self._weight = 0.0

    def add(self, value: float, y: Array, target: Array, ends: Array | None, weight: float) -> None:
        """Take in a batch: its loss, what the metrics look at, and how many elements it has."""
        self._total += value * weight
        self._weight += weight
        if self._metrics:
            y, target = _to_be_read(y), _to_be_read(target)
        for i, metric in enumerate(self._metrics):
            name = f"metric {metric.name}"
            part = _called(name, metric.mean, y, target, ends)
            self._sums[i] += _one_number(name, part) * weight

    @property
    def loss(self) -> float:
        """The mean loss so far."""
        return self._total / max(1.0, self._weight)

    def named(self) -> dict[str, float]:
        """Return the metrics so far by name."""
        weight = max(1.0, self._weight)
        pairs = zip(self._metrics, self._sums, strict=True)
        return {
            metric.name: _one_number(f"metric {metric.name}", metric.finish(total / weight))
            for metric, total in pairs
        }


def lengths_of(y: Array, x: Array, ends: Array | None) -> Array | None:
    """Return the lengths where y has their time axis: (B, T, ...) of x (B, T, ...), or None."""
    return ends if ends is None or y.ndim > 2 or y.shape == x.shape[:2] else None


def weighted_loss(
    loss: losses.Loss, y: Array, target: Array, ends: Array | None, *, trains: bool = False
) -> tuple[float, Array, float]:
    """Return the loss, dy, and its weight: the (valid) elements of the first two axes of y.

    Of a loss of the user's, dy is checked where something `trains` on it.
    """
    answer: Any  # of a function of the user's, perhaps
    ours = is_ours(loss)
    if not ours:
        y, target = _to_be_read(y), _to_be_read(target)
    answer = _called("loss", loss, y, target, ends)
    elements = math.prod(y.shape[:2]) if ends is None else int(ends.sum())
    if not isinstance(answer, tuple) or len(answer) != 2:
        raise TypeError(f"loss: must return (value, dy), got {short(answer)}")
    value, dy = answer
    if trains and not ours:
        dy = _as_gradient(dy, y.shape)
    return _one_number("loss", value), dy, elements


def _called(
    name: str, function: Callable[..., Any], y: Array, target: Array, ends: Array | None
) -> Any:
    """Return what a loss or metric gives, of the steps before each sequence's end."""
    if ends is None:
        return function(y, target)
    try:
        return function(y, target, lengths=ends, batch_first=True)
    except TypeError as error:
        import inspect  # here, so that importing pygru does not wait for it

        try:
            inspect.signature(function).bind(y, target, lengths=ends, batch_first=True)
        except TypeError:
            raise TypeError(
                f"{name}: must take lengths= and batch_first= where sequences have lengths and the "
                f"model answers every step, as pygru's own do, got {short(function)}"
            ) from error
        raise


def is_ours(loss: losses.Loss) -> bool:
    """Whether a loss is one of pygru's, with settings of its own or without."""
    return (loss.func if isinstance(loss, partial) else loss) in losses.LOSSES.values()


def _as_gradient(dy: Any, shape: tuple[int, ...]) -> Array:
    """Return what a loss gave as its gradient; the model, which would refuse it, knows no loss."""
    array = checks.as_array("loss", "dy", dy)
    checks.check_real("loss", "dy", array)
    if array.shape != shape:
        raise ValueError(f"loss: dy must have the shape of y, {shape}, got {array.shape}")
    return array


def _to_be_read(array: Array) -> Array:
    """Return an array that a loss or metric cannot write to: y is the tape's, targets are data."""
    view: Array = array.view()
    view.flags.writeable = False
    return view


def _one_number(where: str, value: Any) -> float:
    """Return what a loss or metric gave in full precision, whatever its own was."""
    if type(value) is float:
        return value
    array = np.asarray(value)
    if array.shape or array.dtype.kind not in "fiub":
        raise TypeError(f"{where}: value must be one real number, got {short(value)}")
    return float(array)
