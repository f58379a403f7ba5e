# SPDX-License-Identifier: MIT
"""A model over many samples without training it: `predict` and `evaluate`.

Samples are the first axis of every array, or the items of a list of sequences of unequal lengths.

Depends on modules, losses, metrics and data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias, overload

import numpy as np
import numpy.typing as npt

from pygru import checks, losses
from pygru import metrics as metrics_
from pygru.data import Batch, batches
from pygru.means import Means, is_ours, lengths_of, weighted_loss
from pygru.probabilities import as_decided, warn_of_probabilities
from pygru.ragged import Ragged
from pygru.recurrent import Recurrent
from pygru.rows import Rows
from pygru.samples import (
    Samples,
    answers_steps,
    check_inputs,
    check_layout,
    check_samples,
    keeps_time,
    reads_targets,
)

__all__ = ["check_targets", "evaluate", "measure", "predict"]

Array: TypeAlias = npt.NDArray[Any]
_Change: TypeAlias = Callable[[Array], Array]


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


def measure(
    model: Any,
    data: Samples,
    loss: losses.Loss,
    metrics: tuple[metrics_.Metric, ...],
    batch_size: int,
    steps: int | None = None,
) -> Means:
    """Return the loss and the metrics over all samples, in batches.

    With `steps` batches are cut along time, and the state is carried over from piece to piece.
    """
    means = Means(as_decided(metrics, model))
    for batch in _in_order(data.X, batch_size):
        state = None
        for x, target, ends, target_ends, _ in data.pieces(batch, steps):
            if steps is None:
                y = _answer(model, x, target, ends, target_ends)
            else:
                run = model if isinstance(model, Recurrent) else model.run
                y, state = run(x, state, lengths=ends)
            ends = lengths_of(y, x, target_ends)
            value, _, elements = weighted_loss(loss, y, target, ends)
            means.add(value, y, target, ends, elements)
    return means


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


def _in_order(X: Rows | Ragged, batch_size: int) -> list[Batch]:
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
    x, target, ends, target_ends, _ = next(data.pieces(slice(0, 1), steps))
    try:
        y = _answer(model, x, target, ends, target_ends)
    except (TypeError, ValueError) as error:
        if not of:  # the model says what it was given
            raise
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{where}: {of}data must fit the model as X and Y do: {error}") from error
    if not is_ours(loss):
        return
    target_ends = lengths_of(y, x, target_ends)
    per_step = steps is None and y.ndim > 2 and answers_steps(model)
    uneven = isinstance(data.X, Ragged) and not isinstance(data.Y, Ragged)
    if uneven and target_ends is not None and not reads_targets(model):
        hint = _hint(data, loss, y, target, target_ends, per_step)
        raise ValueError(
            f"{where}: {of}Y must be a list of sequences as X is, (N, T, ...) = {data.X.shape}, "
            f"because the model answers every step, got shape {data.Y.shape}{hint}"
        )
    try:
        _compare(data, loss, y, target, target_ends)
    except (TypeError, ValueError) as error:
        hint = _hint(data, loss, y, target, target_ends, per_step)
        raise type(error)(f"{where}: {of}Y must fit the loss: {error}{hint}") from None


def _compare(
    data: Samples,
    loss: losses.Loss,
    y: Array,
    target: Array,
    ends: Array | None,
    change: _Change = lambda targets: targets,
) -> None:
    """Let a loss refuse the targets of one sample by their shape, and all by their range."""
    target = change(target)
    weighted_loss(loss, y, target, ends)
    extremes = _extremes(data.Y, None if ends is None else data.target_lengths, change)
    loss(np.zeros((2, *y.shape[target.ndim :]), y.dtype), extremes)


def _extremes(Y: Rows | Ragged, ends: Array | None, change: _Change) -> Array:
    """Return the least and the largest of all targets, of those before their ends if given."""
    found: list[Any] = []
    for (n, t), piece in Y.pieces():
        values = piece
        if ends is not None and not isinstance(Y, Ragged):
            steps = np.arange(t, t + piece.shape[1])
            values = piece[steps < ends[n : n + len(piece), np.newaxis]]
        values = change(values)
        if values.size:
            found += [values.min(), values.max()]
    return np.array([min(found), max(found)])


def _of_one_hot(targets: Array) -> Array:
    """Return the classes of one-hot targets."""
    if not ((targets == 0) | (targets == 1)).all() or not (targets.sum(-1) == 1).all():
        raise ValueError("targets must be one-hot")
    classes: Array = targets.argmax(-1)
    return classes


# What is usually forgotten, and how it is written: Y may be a list or a table as well.
_CHANGES: tuple[tuple[_Change, str], ...] = (
    (lambda targets: targets[..., np.newaxis], "np.asarray(Y)[..., np.newaxis]"),
    (lambda targets: targets.squeeze(-1), "np.asarray(Y)[..., 0]"),
    (_of_one_hot, "np.asarray(Y).argmax(-1)"),
)


def _hint(
    data: Samples, loss: losses.Loss, y: Array, target: Array, ends: Array | None, per_step: bool
) -> str:
    """Return what would make the targets fit, of what is usually forgotten; "" if nothing would."""
    changes = _CHANGES
    if isinstance(data.Y, Ragged):  # an array of its own for each
        changes = tuple((f, f"[{way.replace('(Y)', '(y)')} for y in Y]") for f, way in _CHANGES)
    ways = [(y, ends, change, f"as {way}") for change, way in changes]
    if per_step:
        last, to_last = y[:, -1], "a model with a LastStep (this one answers every step)"
        ways.append((last, None, lambda targets: targets, to_last))
        ways += [(last, None, change, f"{to_last} as {way}") for change, way in changes]
    for answer, answer_ends, change, way in ways:
        try:
            _compare(data, loss, answer, target, answer_ends, change)
        except (TypeError, ValueError):
            continue
        return f"; Y of shape {data.Y.shape} would fit {way}"
    return ""
