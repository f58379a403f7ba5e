# SPDX-License-Identifier: MIT
"""What `fit`, `evaluate` and `predict` ask of data, checked once and before anything is computed.

Samples are the first axis of every array, or the items of a list of sequences of unequal lengths.

Depends on NumPy, `checks` and `ragged`.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from pygru import checks
from pygru.ragged import Ragged
from pygru.registry import is_own

__all__ = [
    "Samples",
    "answers_steps",
    "check_inputs",
    "check_layout",
    "check_samples",
    "keeps_time",
    "reads_targets",
    "reads_vectors",
]

Array: TypeAlias = npt.NDArray[Any]


class Samples(NamedTuple):
    """Checked data: N samples, their targets and, or None, the lengths of both.

    The targets share the samples' lengths where the model answers every step, and have none where
    it answers a sequence as a whole. Where the model reads its targets, these have their own.
    """

    X: Array | Ragged  # (N, ...)
    Y: Array | Ragged  # (N, ...)
    lengths: Array | None  # (N,)
    target_lengths: Array | None  # (N,)

    def take(self, batch: slice | Array) -> tuple[Array, Array, Array | None, Array | None]:
        """Return x (B, ...), targets (B, ...), lengths (B,) and target lengths (B,)."""
        ends = None if self.lengths is None else self.lengths[batch]
        target_ends = None if self.target_lengths is None else self.target_lengths[batch]
        return self.X[batch], self.Y[batch], ends, target_ends


def reads_targets(model: Any) -> bool:
    """Whether a model is taught with its targets, which then have lengths of their own."""
    return hasattr(model, "target_lengths")


def reads_vectors(model: Any) -> bool:
    """Whether one sample is a single vector, without a time axis that lengths could be of."""
    axes = getattr(model, "_axes", None)
    return bool(axes is not None and axes[0] == 1)


def answers_steps(model: Any) -> bool:
    """Whether a model is known to answer every step, where it might answer the last one alone."""
    axes = getattr(model, "_axes", None)
    return bool(axes is not None and axes[1] == 2 and not reads_targets(model))


def keeps_time(model: Any) -> bool:
    """Whether a model's output has the time axis of its input, and with it the lengths."""
    return bool(getattr(model, "keeps_time", True))


def check_layout(where: str, model: Any, *parts: str) -> None:
    """Refuse what is no model, or has its time first: samples are the first axis here.

    `parts` are the attributes that a model must have, besides being callable and having a dtype.
    """
    lacks = [name for name in ("__call__", "dtype", *parts) if not hasattr(model, name)]
    if isinstance(model, type) or lacks:
        what = f"the class {model.__name__}" if isinstance(model, type) else type(model).__name__
        without = f" without {lacks[0]}" if lacks else ""
        raise TypeError(f"{where}: model must be a Module, got {what}{without}")
    if getattr(model, "_axes", None) is not None and model.batch_first is None:
        raise ValueError(
            f"{where}: model must have batch_first=True, because the first axis of X is the "
            "samples, got None: without a recurrent layer, give it to the layer that looks at "
            "time, as in LastStep(batch_first=True)"
        )
    if getattr(model, "batch_first", None) is False:
        raise ValueError(
            f"{where}: model must have batch_first=True, because the first axis of X is the "
            "samples, got batch_first=False"
        )


def check_samples(
    where: str,
    model: Any,
    X: Any,
    Y: Any,
    lengths: npt.ArrayLike | None,
    of: str = "",
) -> Samples:
    """Check data once and bring it to the model's dtype; `of` is put before the arrays' names."""
    inputs, ends = check_inputs(where, model, X, lengths, of)
    shared = lengths if keeps_time(model) and not reads_targets(model) else None
    targets = _finite(where, f"{of}Y", Y, shared, model.dtype)
    if not targets.shape or len(targets) != len(inputs):
        raise ValueError(
            f"{where}: {of}Y must have as many samples as {of}X, {len(inputs)}, "
            f"got shape {targets.shape}"
        )
    if len(inputs) == 0:
        raise ValueError(f"{where}: {of}X must hold at least one sample, got shape {inputs.shape}")
    if 0 in inputs.shape or 0 in targets.shape:
        raise ValueError(
            f"{where}: {of}X and {of}Y must have no axis of length 0, "
            f"got shapes {inputs.shape} and {targets.shape}"
        )
    if ends is not None and not ends.all():
        raise ValueError(
            f"{where}: {of}lengths must be at least 1, "
            f"got an empty sequence at index {int(np.argmin(ends))}"
        )
    if reads_targets(model):
        count = model.decoder.input_classes
        axes = ("N", "T", "O") if count is None else ("N", "T")
        if len(targets.shape) != len(axes):
            raise ValueError(
                f"{where}: {of}Y must have shape ({', '.join(axes)}) for a model that reads it, "
                f"got {targets.shape} for {of}X of shape {inputs.shape}"
            )
        own = _target_lengths(where, model, targets, f"{of}Y")
        if count is not None:
            _check_classes(where, f"{of}Y", _read(targets, own), count)
        return Samples(inputs, targets, ends, own)
    if isinstance(targets, Ragged):
        _check_steps(where, model, inputs, targets, of)
    return Samples(inputs, targets, ends, ends if keeps_time(model) else None)


def check_inputs(
    where: str, model: Any, X: Any, lengths: npt.ArrayLike | None, of: str = ""
) -> tuple[Array | Ragged, Array | None]:
    """Check what goes into a model: return X, and the lengths if there are any."""
    ends = None if reads_vectors(model) else lengths
    inputs = _finite(where, f"{of}X", X, ends, model.dtype)
    classes = getattr(model, "input_classes", None)
    if classes is not None:
        _check_classes(where, f"{of}X", inputs, classes)
    if isinstance(inputs, Ragged):
        if lengths is not None:
            raise ValueError(
                f"{where}: {of}lengths must be None for a list of sequences, which have their own"
            )
        if reads_vectors(model):
            raise ValueError(
                f"{where}: {of}X must be a rectangular array for a model that reads single "
                "vectors, got sequences of unequal lengths"
            )
        _check_axes(where, f"{of}X", model, inputs.shape)
        if inputs.values.ndim < 2 and inputs.values.dtype.kind == "f":
            raise ValueError(
                f"{where}: {of}X must hold sequences of real numbers of shape (T, I), "
                f"got shape ({inputs.lengths[0]},)"
            )
        return inputs, inputs.lengths
    if inputs.shape == (0,):
        raise ValueError(f"{where}: {of}X must hold at least one sample, got none")
    _check_axes(where, f"{of}X", model, inputs.shape)
    if inputs.ndim < 2 and getattr(model, "_axes", None) is None:
        raise ValueError(
            f"{where}: {of}X must have shape (N, ...) of at least two axes, got {inputs.shape}"
        )
    if lengths is None:
        return inputs, None
    if reads_vectors(model):
        raise ValueError(
            f"{where}: {of}lengths must be None for a model that reads single vectors, which have "
            "no time axis"
        )
    T, batch = inputs.shape[1], inputs.shape[:1]
    return inputs, checks.as_lengths(where, lengths, T, batch, f"{of}lengths")


def _check_axes(where: str, name: str, model: Any, shape: tuple[int, ...]) -> None:
    """Refuse samples that a model which looks at time would take for something else."""
    if getattr(model, "_axes", None) is None:
        return
    expected = ["N", "I"] if reads_vectors(model) else ["N", "T", "I"]
    if getattr(model, "input_classes", None) is not None:
        del expected[-1]
    if len(shape) != len(expected):
        read = "single vectors" if reads_vectors(model) else "sequences"
        symbols = f"({', '.join(expected)}{',' * (len(expected) == 1)})"
        raise ValueError(
            f"{where}: {name} must have shape {symbols} for a model that reads {read}, got {shape}"
        )
    width = model._widths.reads if expected[-1] == "I" and is_own(model) else None
    if width not in (None, shape[-1]):
        raise ValueError(
            f"{where}: {name} must have shape ({', '.join(expected)}) with I = {width}, got {shape}"
        )


def _check_classes(where: str, name: str, inputs: Array | Ragged, count: int) -> None:
    """Refuse what is no integer in 0 .. K-1 for K = `count`, by index, padding included."""
    given = inputs.values if isinstance(inputs, Ragged) else inputs
    values = checks.as_integers(where, name, given)
    if not values.size or 0 <= values.min() <= values.max() < count:
        return
    at = index = tuple(np.argwhere((values < 0) | (values >= count))[0].tolist())
    if isinstance(inputs, Ragged):
        index = (*inputs.index(at[0]), *at[1:])
    raise ValueError(
        f"{where}: {name} must hold integers in 0 .. K-1 = {count - 1}, "
        f"got {values[at]} at index {index}"
    )


def _read(targets: Array | Ragged, lengths: Array | None) -> Array:
    """Return what a decoder reads of its targets: all steps but each sequence's last; else 0."""
    padded = targets[:]  # (N, T)
    last = (padded.shape[1] if lengths is None else lengths[:, np.newaxis]) - 1
    return np.where(np.arange(padded.shape[1]) < last, padded, 0)


def _check_steps(where: str, model: Any, inputs: Array | Ragged, targets: Ragged, of: str) -> None:
    """Refuse sequences as targets where they do not match the model's output step by step."""
    if not isinstance(inputs, Ragged):
        raise ValueError(
            f"{where}: {of}Y must be a rectangular array as {of}X is, {inputs.shape}, "
            "got sequences of unequal lengths"
        )
    wrong = np.flatnonzero(inputs.lengths != targets.lengths)
    if wrong.size:
        n = int(wrong[0])
        raise ValueError(
            f"{where}: {of}Y[{n}] must have as many steps as {of}X[{n}], {inputs.lengths[n]}, "
            f"got {targets.lengths[n]}"
        )
    if not keeps_time(model):
        raise ValueError(
            f"{where}: {of}Y must be a rectangular array, as the model's output does not have the "
            "time axis of X, got sequences of unequal lengths"
        )


def _target_lengths(
    where: str, model: Any, targets: Array | Ragged, name: str
) -> checks.IntArray | None:
    """Return how many steps of its targets a model that reads them learns, where not all."""
    ends: checks.IntArray | None = model.target_lengths(targets[:])
    if not isinstance(targets, Ragged):
        return ends
    if ends is None:
        return targets.lengths
    if model.end not in targets.values:
        warnings.warn(
            f"{where}: {name} should end in end = {model.end}, got it in no sequence: a model that "
            "never sees its end does not learn to stop",
            stacklevel=4,
        )
    shortened: checks.IntArray = np.minimum(ends, targets.lengths)
    return shortened


def _blank(where: str, values: Array, lengths: npt.ArrayLike | None) -> Array:
    """Return values with 0 for integers, NaN and infinity past a sequence's end, which is padding.

    What does not fit is returned as it is, to be refused by whoever checks it.
    """
    if lengths is None or values.dtype.kind not in "fiu" or values.ndim < 2:
        return values
    ends = checks.as_array(where, "lengths", lengths)
    if ends.shape != values.shape[:1] or ends.dtype.kind not in "iu":
        return values
    past = np.arange(values.shape[1]) >= ends[:, np.newaxis]  # (N, T)
    numbers = np.isfinite(values) if values.dtype.kind == "f" else values == 0
    empty = ~numbers & past.reshape(past.shape + (1,) * (values.ndim - 2))
    return np.where(empty, values.dtype.type(0), values) if empty.any() else values


def _finite(
    where: str, name: str, values: Any, lengths: npt.ArrayLike | None, dtype: Any
) -> Array | Ragged:
    """Return real values, floating ones in the model's dtype; refuse NaN and infinity by index."""
    checks.check_unmasked(where, name, values)
    if isinstance(values, (list, tuple)):
        for n, value in enumerate(values):
            if isinstance(value, np.ndarray):
                checks.check_unmasked(where, f"{name}[{n}]", value)
    try:
        array = np.asarray(values)
    except ValueError:
        return _unequal(where, name, values, dtype)
    if array.dtype == object and array.ndim == 0:
        raise TypeError(
            f"{where}: {name} must be an array or a list of arrays, got {type(values).__name__}"
        )
    if array.dtype == object and array.ndim == 1 and not isinstance(values, (list, tuple)):
        first = array[0] if len(array) else None
        if isinstance(first, (list, tuple)) or getattr(first, "ndim", 0) > 0:
            raise TypeError(
                f"{where}: {name} must be a list where sequences have lengths of their own, got "
                f"{type(values).__name__} of {type(first).__name__}: list({name}) makes one"
            )
    return _real(where, name, _blank(where, array, lengths), dtype)


def _unequal(where: str, name: str, values: Sequence[Any], dtype: Any) -> Ragged:
    """Return what is no rectangular array as sequences of unequal lengths."""
    sequences = []
    for n, value in enumerate(values):
        item = f"{name}[{n}]"
        try:
            array = np.asarray(value)
        except ValueError:
            raise ValueError(
                f"{where}: {item} must be a rectangular array (T, ...), got a "
                f"{type(value).__name__} of unequal parts"
            ) from None
        if array.ndim == 0 or len(array) == 0:
            raise ValueError(f"{where}: {item} must hold at least one step, got {array.shape}")
        sequences.append(_real(where, item, array, dtype))
        if array.shape[1:] != sequences[0].shape[1:]:
            raise ValueError(
                f"{where}: {item} must have the shape of {name}[0] but for the first axis, "
                f"{sequences[0].shape}, got {array.shape}"
            )
    return Ragged(sequences)


def _real(where: str, name: str, array: Array, dtype: Any) -> Array:
    """Return finite real numbers, floating ones in the model's dtype."""
    checks.check_real(where, name, array)
    if array.dtype.kind != "f":
        return array
    with np.errstate(over="ignore"):
        cast = array.astype(dtype, copy=False)
    finite = np.isfinite(cast)
    if not finite.all():
        index = tuple(np.argwhere(~finite)[0].tolist())
        kind = f" in {cast.dtype}" if np.isfinite(array[index]) else ""
        raise ValueError(
            f"{where}: {name} must be finite{kind}, got {array[index]} at index {index} "
            f"({finite.size - np.count_nonzero(finite)} such elements)"
        )
    return cast
