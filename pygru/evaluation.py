# SPDX-License-Identifier: MIT
"""A model over many samples without training it: `predict`, `evaluate`, and the checks of data.

Samples are the first axis of every array. Data is checked once and before anything is computed.

Depends on modules, losses and data.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from pygru import checks, losses
from pygru.data import batches

__all__ = [
    "Samples",
    "check_layout",
    "check_samples",
    "evaluate",
    "mean_loss",
    "predict",
    "weighted_loss",
]

Array: TypeAlias = npt.NDArray[Any]


def evaluate(
    model: Any,
    X: npt.ArrayLike,
    Y: npt.ArrayLike,
    *,
    loss: str | losses.Loss,
    lengths: npt.ArrayLike | None = None,
    batch_size: int = 256,
) -> float:
    """Return the mean loss over all samples, whatever the batch size.

    Parameters, and errors about the data, are those of `fit`.

    Examples
    --------
    >>> import pygru
    >>> model = pygru.Linear(1, 1, init="zeros")
    >>> pygru.evaluate(model, [[1.0], [2.0]], [[1.0], [2.0]], loss="mse")
    2.5
    """
    check_layout("evaluate", model)
    data = check_samples("evaluate", model, X, Y, lengths)
    checks.as_size("evaluate", "batch_size", batch_size)
    return mean_loss(model, data, losses.get(loss), batch_size)


def predict(
    model: Any,
    X: npt.ArrayLike,
    *,
    lengths: npt.ArrayLike | None = None,
    batch_size: int = 256,
) -> Array:
    """Return the model's output for all samples, computed in batches.

    Parameters
    ----------
    model : Module
        Of a recurrent layer by itself, the output y is returned and h_n is not.
    X : array_like of shape (N, T, I), or what the model takes
    lengths : integer array_like of shape (N,), optional
    batch_size : int

    Returns
    -------
    y : array of shape (N, ...)

    Examples
    --------
    >>> import pygru
    >>> pygru.predict(pygru.Linear(3, 2), np.zeros((1000, 3))).shape
    (1000, 2)
    """
    check_layout("predict", model)
    X, ends = _inputs("predict", model, X, lengths, "")
    checks.as_size("predict", "batch_size", batch_size)
    first, *others = batches(len(X), batch_size) or [slice(0, 0)]
    y = _infer(model, X[first], None if ends is None else ends[first])
    result = np.empty((len(X), *y.shape[1:]), y.dtype)
    result[first] = y
    for batch in others:
        result[batch] = _infer(model, X[batch], None if ends is None else ends[batch])
    return result


class Samples(NamedTuple):
    """Checked data: N samples, their targets and, or None, their lengths."""

    X: Array  # (N, ...)
    Y: Array  # (N, ...)
    lengths: Array | None  # (N,)


def weighted_loss(
    loss: losses.Loss, y: Array, target: Array, ends: Array | None
) -> tuple[float, Array, float]:
    """Return value, dy and what the mean weighs: sequences, or valid steps where they count."""
    if ends is None or y.ndim < 3:
        value, dy = loss(y, target)
        return value, dy, len(y)
    value, dy = loss(y, target, lengths=ends, batch_first=True)
    return value, dy, int(ends.sum())


def _infer(model: Any, x: Array, ends: Array | None) -> Array:
    """Return y of a model or of a recurrent layer by itself."""
    result = model(x) if ends is None else model(x, lengths=ends)
    y: Array = result[0] if isinstance(result, tuple) else result
    return y


def mean_loss(model: Any, data: Samples, loss: losses.Loss, batch_size: int) -> float:
    """Return the loss over all samples, in batches."""
    total = weight = 0.0
    for batch in batches(len(data.X), batch_size):
        ends = None if data.lengths is None else data.lengths[batch]
        y = _infer(model, data.X[batch], ends)
        value, _, elements = weighted_loss(loss, y, data.Y[batch], ends)
        total += value * elements
        weight += elements
    return total / max(1.0, weight)


def check_layout(where: str, model: Any) -> None:
    """Refuse a model whose first axis is time: samples are the first axis here."""
    if getattr(model, "batch_first", None) is False:
        raise ValueError(
            f"{where}: model must have batch_first=True, because the first axis of X is the "
            "samples, got batch_first=False"
        )


def check_samples(
    where: str,
    model: Any,
    X: npt.ArrayLike,
    Y: npt.ArrayLike,
    lengths: npt.ArrayLike | None,
    of: str = "",
) -> Samples:
    """Check data once and bring it to the model's dtype; `of` is put before the arrays' names."""
    inputs, ends = _inputs(where, model, X, lengths, of)
    targets = _finite(where, f"{of}Y", Y, model.dtype)
    if targets.ndim == 0 or len(targets) != len(inputs):
        raise ValueError(
            f"{where}: {of}Y must have as many samples as {of}X, {len(inputs)}, "
            f"got shape {targets.shape}"
        )
    if len(inputs) == 0:
        raise ValueError(f"{where}: {of}X must hold at least one sample, got shape {inputs.shape}")
    return Samples(inputs, targets, ends)


def _inputs(
    where: str, model: Any, X: npt.ArrayLike, lengths: npt.ArrayLike | None, of: str
) -> tuple[Array, Array | None]:
    inputs = _finite(where, f"{of}X", X, model.dtype)
    if inputs.ndim < 2:
        raise ValueError(
            f"{where}: {of}X must have shape (N, ...) of at least two axes, got {inputs.shape}"
        )
    if lengths is None:
        return inputs, None
    where = f"{where}: {of}".rstrip(": ")
    return inputs, checks.as_lengths(where, lengths, inputs.shape[1], inputs.shape[:1])


def _finite(where: str, name: str, values: npt.ArrayLike, dtype: Any) -> Array:
    """Return real values, floating ones in the model's dtype; refuse NaN and infinity by index."""
    try:
        array = np.asarray(values)
    except ValueError:
        raise ValueError(
            f"{where}: {name} must be a rectangular array, got sequences of unequal lengths"
        ) from None
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{where}: {name} must hold real numbers, got dtype {array.dtype}")
    if array.dtype.kind != "f":
        return array
    finite = np.isfinite(array)
    if not finite.all():
        index = tuple(np.argwhere(~finite)[0].tolist())
        raise ValueError(
            f"{where}: {name} must be finite, got {array[index]} at index {index} "
            f"({finite.size - np.count_nonzero(finite)} such elements)"
        )
    return array.astype(dtype, copy=False)
