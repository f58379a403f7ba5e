# SPDX-License-Identifier: MIT
"""A model over many samples without training it: `predict` and `evaluate`.

Samples are the first axis of every array, or the items of a list of sequences of unequal lengths.

Depends on modules, losses, metrics and data.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import partial
from reprlib import repr as short
from typing import Any, TypeAlias, overload

import numpy as np
import numpy.typing as npt

from pygru import checks, losses
from pygru import metrics as metrics_
from pygru.data import Batch, batches
from pygru.probabilities import as_decided, warn_of_probabilities
from pygru.ragged import Ragged
from pygru.samples import (
    Samples,
    answers_steps,
    check_inputs,
    check_layout,
    check_samples,
    keeps_time,
    reads_targets,
)

__all__ = [
    "Means",
    "check_targets",
    "evaluate",
    "lengths_of",
    "measure",
    "predict",
    "weighted_loss",
]

Array: TypeAlias = npt.NDArray[Any]


@overload
def evaluate(
    model: Any,
    X: Any,
    Y: Any,
    *,
    loss: str | losses.Loss,
    metrics: tuple[()] = (),
    lengths: npt.ArrayLike | None = None,
    batch_size: int = 256,
) -> float: ...
@overload
def evaluate(
    model: Any,
    X: Any,
    Y: Any,
    *,
    loss: str | losses.Loss,
    metrics: metrics_.MetricLike | Iterable[metrics_.MetricLike],
    lengths: npt.ArrayLike | None = None,
    batch_size: int = 256,
) -> dict[str, float]: ...
def evaluate(
    model: Any,
    X: Any,
    Y: Any,
    *,
    loss: str | losses.Loss,
    metrics: Any = (),
    lengths: npt.ArrayLike | None = None,
    batch_size: int = 256,
) -> float | dict[str, float]:
    """Return the mean loss over all samples, whatever the batch size.

    Where the model answers every step, it is the mean over steps.

    Parameters, and errors about the data, are those of `fit`.

    Returns
    -------
    float, or with `metrics` dict of str to float
        The loss; with metrics "loss" and each metric by its name.

    Examples
    --------
    >>> import pygru
    >>> model = pygru.Linear(1, 1, init="zeros")
    >>> pygru.evaluate(model, [[1.0], [2.0]], [[1.0], [2.0]], loss="mse")
    2.5
    >>> pygru.evaluate(model, [[1.0], [2.0]], [[1.0], [2.0]], loss="mse", metrics="mae")
    {'loss': 2.5, 'mae': 1.5}
    """
    check_layout("evaluate", model)
    data = check_samples("evaluate", model, X, Y, lengths)
    checks.as_size("evaluate", "batch_size", batch_size)
    loss, measured = losses.get(loss, "evaluate"), metrics_.get(metrics, "evaluate")
    warn_of_probabilities("evaluate", model, loss)
    try:
        means = measure(model, data, loss, measured, batch_size)
    except (TypeError, ValueError):
        check_targets("evaluate", model, data, loss)  # says more where it is the targets
        raise
    return {"loss": means.loss, **means.named()} if measured else means.loss


def predict(
    model: Any,
    X: Any,
    *,
    lengths: npt.ArrayLike | None = None,
    batch_size: int = 256,
) -> Any:
    """Return the model's output for all samples, computed in batches.

    Parameters
    ----------
    model : Module
        Of a recurrent layer by itself, the output y is returned and h_n is not.
    X : array_like of shape (N, T, I), or what the model takes, or list of sequences (T_n, I)
    lengths : integer array_like of shape (N,), optional
    batch_size : int

    Returns
    -------
    y : array of shape (N, ...)
        For sequences of unequal lengths and a model that answers every step, a list of N arrays
        (T_n, ...).

    Raises
    ------
    TypeError
        When model is none, or one that reads its targets, whose `generate` answers from X alone.
    ValueError, TypeError
        When X or lengths does not fit the model, or there is NaN or infinity in X.

    Examples
    --------
    >>> import pygru
    >>> pygru.predict(pygru.Linear(3, 2), np.zeros((1000, 3))).shape
    (1000, 2)
    >>> [y.shape for y in pygru.predict(pygru.Linear(3, 2), [np.zeros((4, 3)), np.zeros((7, 3))])]
    [(4, 2), (7, 2)]
    """
    check_layout("predict", model)
    if reads_targets(model):
        raise TypeError(
            f"predict: model must answer from X alone, got {type(model).__name__}: use its generate"
        )
    X, ends = check_inputs("predict", model, X, lengths)
    checks.as_size("predict", "batch_size", batch_size)
    if isinstance(X, Ragged):
        return _predict_ragged(model, X, batch_size)
    first, *others = batches(len(X), batch_size) or [slice(0, 0)]
    y = infer(model, X[first], None if ends is None else ends[first])
    result = np.empty((len(X), *y.shape[1:]), y.dtype)
    result[first] = y
    for batch in others:
        result[batch] = infer(model, X[batch], None if ends is None else ends[batch])
    return result


def _predict_ragged(model: Any, X: Ragged, batch_size: int) -> Any:
    """Return one output per sequence: rows of one array, or arrays of unequal lengths."""
    result: list[Any] = [None] * len(X)
    per_step = False
    for batch in _in_order(X, batch_size):
        x, ends = X[batch], X.lengths[batch]
        y = infer(model, x, ends)
        per_step = keeps_time(model) and lengths_of(y, x, ends) is not None
        for n, row, end in zip(np.arange(len(X))[batch], y, ends, strict=True):
            result[n] = row[:end] if per_step else row
    return result if per_step else np.stack(result)


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
            if ends is None:
                part = metric.mean(y, target)
            else:
                part = metric.mean(y, target, lengths=ends, batch_first=True)
            self._sums[i] += _one_number(f"metric {metric.name}", part) * weight

    @property
    def loss(self) -> float:
        """The mean loss so far."""
        return self._total / max(1.0, self._weight)

    def named(self) -> dict[str, float]:
        """Return the metrics so far by name."""
        weight = max(1.0, self._weight)
        pairs = zip(self._metrics, self._sums, strict=True)
        return {metric.name: metric.finish(total / weight) for metric, total in pairs}


def measure(
    model: Any,
    data: Samples,
    loss: losses.Loss,
    metrics: tuple[metrics_.Metric, ...],
    batch_size: int,
) -> Means:
    """Return the loss and the metrics over all samples, in batches."""
    means = Means(as_decided(metrics, model))
    for batch in _in_order(data.X, batch_size):
        x, target, ends, target_ends = data.take(batch)
        y = _answer(model, x, target, ends, target_ends)
        ends = lengths_of(y, x, target_ends)
        value, _, elements = weighted_loss(loss, y, target, ends)
        means.add(value, y, target, ends, elements)
    return means


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
    ours = _is_ours(loss)
    if not ours:
        y, target = _to_be_read(y), _to_be_read(target)
    if ends is None:
        answer, elements = loss(y, target), math.prod(y.shape[:2])
    else:
        answer, elements = loss(y, target, lengths=ends, batch_first=True), int(ends.sum())
    if not isinstance(answer, tuple) or len(answer) != 2:
        raise TypeError(f"loss: must return (value, dy), got {short(answer)}")
    value, dy = answer
    if trains and not ours:
        dy = _as_gradient(dy, y.shape)
    return _one_number("loss", value), dy, elements


def _is_ours(loss: losses.Loss) -> bool:
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
        raise TypeError(f"{where}: value must be one real number, got {value!r}")
    return float(array)


def infer(model: Any, x: Array, ends: Array | None) -> Array:
    """Return y of a model or of a recurrent layer by itself."""
    result = model(x) if ends is None else model(x, lengths=ends)
    y: Array = result[0] if isinstance(result, tuple) else result
    return y


def _answer(
    model: Any, x: Array, target: Array, ends: Array | None, target_ends: Array | None
) -> Array:
    """Return y, of a model that reads its targets with teacher forcing."""
    if not reads_targets(model):
        return infer(model, x, ends)
    y: Array = model(x, target, lengths=ends, target_lengths=target_ends)
    return y


def _in_order(X: Array | Ragged, batch_size: int) -> list[Batch]:
    """Return batches of all samples; of unequal sequences, in the order of their lengths."""
    slices = batches(len(X), batch_size)
    if not isinstance(X, Ragged):
        return list(slices)
    order = np.argsort(X.lengths, kind="stable")
    return [order[batch] for batch in slices]


def check_targets(
    where: str,
    model: Any,
    data: Samples,
    loss: losses.Loss,
    steps: int | None = None,
    of: str = "",
) -> None:
    """Run one sample, or its first `steps`, and hold all targets against what the model answers.

    `of` is put before the names of data other than what the model is trained on.

    Raises
    ------
    TypeError, ValueError
        What one of pygru's losses would raise in the first epoch: targets of another shape than it
        wants, or out of its range.
    """
    x, target, ends, target_ends = data.take(slice(0, 1))
    if steps is not None:
        x = x[:, :steps]
        target = target[:, :steps] if target.ndim > 1 else target
        ends = None if ends is None else np.minimum(ends, steps)
        target_ends = None if target_ends is None else ends
    try:
        y = _answer(model, x, target, ends, target_ends)
    except (TypeError, ValueError) as error:
        if not of:  # the model says what it was given
            raise
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{where}: {of}data must fit the model as X and Y do: {error}") from error
    if not _is_ours(loss):
        return
    target_ends = lengths_of(y, x, target_ends)
    uneven = isinstance(data.X, Ragged) and not isinstance(data.Y, Ragged)
    if uneven and target_ends is not None and not reads_targets(model):
        raise ValueError(
            f"{where}: {of}Y must be a list of sequences as X is, (N, T, ...) = {data.X.shape}, "
            f"because the model answers every step, got shape {data.Y.shape}"
        )
    try:
        _compare(data, loss, y, target, target_ends)
    except (TypeError, ValueError) as error:
        per_step = steps is None and y.ndim > 2 and answers_steps(model)
        hint = _hint(data, loss, y, target, target_ends, per_step)
        raise type(error)(f"{where}: {of}Y must fit the loss: {error}{hint}") from None


def _compare(data: Samples, loss: losses.Loss, y: Array, target: Array, ends: Array | None) -> None:
    """Let a loss refuse the targets of one sample by their shape, and all by their range."""
    weighted_loss(loss, y, target, ends)
    values = data.Y if ends is None else _valid(data)
    values = values.values if isinstance(values, Ragged) else values
    extremes = np.array([values.min(), values.max()])
    loss(np.zeros((2, *y.shape[target.ndim :]), y.dtype), extremes)


def _hint(
    data: Samples, loss: losses.Loss, y: Array, target: Array, ends: Array | None, per_step: bool
) -> str:
    """Return what would make the targets fit, of what is usually forgotten; "" if nothing would."""
    longer, with_axis = target[..., np.newaxis], "as Y[..., np.newaxis]"
    ways: list[tuple[Array, Array, Array | None, str]] = [(y, longer, ends, with_axis)]
    if per_step:
        last, to_last = y[:, -1], "a model with a LastStep (this one answers every step)"
        ways += [(last, target, None, to_last), (last, longer, None, f"{to_last} {with_axis}")]
    for answer, fitting, answer_ends, way in ways:
        try:
            _compare(data, loss, answer, fitting, answer_ends)
        except (TypeError, ValueError):
            continue
        return f"; Y of shape {data.Y.shape} would fit {way}"
    return ""


def _valid(data: Samples) -> Array | Ragged:
    """Return the targets of the steps before each sequence's end."""
    if data.target_lengths is None or isinstance(data.Y, Ragged):
        return data.Y
    valid: Array = data.Y[np.arange(data.Y.shape[1]) < data.target_lengths[:, None]]
    return valid
