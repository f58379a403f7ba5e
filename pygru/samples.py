# SPDX-License-Identifier: MIT
"""What `fit`, `evaluate` and `predict` ask of data, checked once and before anything is computed.

Samples are the first axis of every array, or the items of a list of sequences of unequal lengths.

Depends on NumPy, `checks`, `registry`, `ragged` and `rows`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from pygru import checks
from pygru.ragged import Ragged
from pygru.registry import is_own
from pygru.rows import Rows

__all__ = [
    "Piece",
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
# x (B, T, ...), targets (B, ...), lengths and target lengths (B,), and whether it goes on from the
# piece before it
Piece: TypeAlias = "tuple[Array, Array, Array | None, Array | None, bool]"


class Samples(NamedTuple):
    """Checked data: N samples, their targets and, or None, the lengths of both.

    The targets share the samples' lengths where the model answers every step, and have none where
    it answers a sequence as a whole. Where the model reads its targets, these have their own.
    """

    X: Rows | Ragged  # (N, ...)
    Y: Rows | Ragged  # (N, ...)
    lengths: Array | None  # (N,)
    target_lengths: Array | None  # (N,)

    def longest(self, batch: slice | Array) -> int:
        """Return the steps of the longest sample of a batch."""
        return self.X.shape[1] if self.lengths is None else int(self.lengths[batch].max())

    def pieces(self, batch: slice | Array, steps: int | None) -> Iterator[Piece]:
        """Yield a batch, or what it is cut into along time: pieces of so many steps."""
        ends = None if self.lengths is None else self.lengths[batch]
        target_ends = None if self.target_lengths is None else self.target_lengths[batch]
        if steps is None:
            yield self.X[batch], self.Y[batch], ends, target_ends, False
            return
        for start in range(0, self.longest(batch), steps):
            at = batch, slice(start, start + steps)
            left = None if ends is None else np.clip(ends - start, 0, steps)
            target_left = None if target_ends is None else left
            yield self.X[at], self.Y[at], left, target_left, start > 0


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
    """Check data once; `of` is put before the arrays' names."""
    inputs, ends = check_inputs(where, model, X, lengths, of)
    targets = _finite(where, f"{of}Y", Y, lengths if keeps_time(model) else None, model.dtype)
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
            read = Rows(_read(targets, own), model.dtype)
            _check_classes(where, f"{of}Y", read, count)
        return Samples(inputs, targets, ends, own)
    if isinstance(targets, Ragged):
        _check_steps(where, model, inputs, targets, of)
    return Samples(inputs, targets, ends, ends if keeps_time(model) else None)


def check_inputs(
    where: str, model: Any, X: Any, lengths: npt.ArrayLike | None, of: str = ""
) -> tuple[Rows | Ragged, Array | None]:
    """Check what goes into a model: return X, and the lengths if there are any."""
    inputs = _finite(where, f"{of}X", X, lengths, model.dtype)
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
        if len(inputs.shape) < 3 and inputs.dtype.kind == "f":
            raise ValueError(
                f"{where}: {of}X must hold sequences of real numbers of shape (T, I), "
                f"got shape ({inputs.lengths[0]},)"
            )
        return inputs, inputs.lengths
    if inputs.shape == (0,):
        raise ValueError(f"{where}: {of}X must hold at least one sample, got none")
    _check_axes(where, f"{of}X", model, inputs.shape)
    if len(inputs.shape) < 2 and getattr(model, "_axes", None) is None:
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


def _check_classes(where: str, name: str, inputs: Rows | Ragged, count: int) -> None:
    """Refuse what is no integer in 0 .. K-1 for K = `count`, by index, padding included."""
    for place, piece in inputs.pieces():
        values = checks.as_integers(where, name, piece)
        if not values.size or 0 <= values.min() <= values.max() < count:
            continue
        at = tuple(np.argwhere((values < 0) | (values >= count))[0].tolist())
        index = (place[0], *at) if isinstance(inputs, Ragged) else _moved(at, place)
        raise ValueError(
            f"{where}: {name} must hold integers in 0 .. K-1 = {count - 1}, "
            f"got {values[at]} at index {index}"
        )


def _moved(index: tuple[int, ...], place: tuple[int, int]) -> tuple[int, ...]:
    """Return the index in the whole of what has one in a piece of it."""
    return tuple(i + offset for i, offset in zip(index, place, strict=False)) + index[2:]


def _read(targets: Rows | Ragged, lengths: Array | None) -> Array:
    """Return what a decoder reads of its targets: all steps but each sequence's last; else 0."""
    padded = targets[:]  # (N, T)
    last = (padded.shape[1] if lengths is None else lengths[:, np.newaxis]) - 1
    return np.where(np.arange(padded.shape[1]) < last, padded, 0)


def _check_steps(where: str, model: Any, inputs: Rows | Ragged, targets: Ragged, of: str) -> None:
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
    where: str, model: Any, targets: Rows | Ragged, name: str
) -> checks.IntArray | None:
    """Return how many steps of its targets a model that reads them learns, where not all."""
    ends: checks.IntArray | None = None
    if not is_own(model) or model.end is not None:  # else no need to have them all in one array
        ends = model.target_lengths(targets[:])
    if not isinstance(targets, Ragged):
        return ends
    if ends is None:
        return targets.lengths
    if model.end is not None and not any(model.end in part for _, part in targets.pieces()):
        warnings.warn(
            f"{where}: {name} should end in end = {model.end}, got it in no sequence: a model that "
            "never sees its end does not learn to stop",
            stacklevel=4,
        )
    shortened: checks.IntArray = np.minimum(ends, targets.lengths)
    return shortened


def _ends(where: str, array: Array, lengths: npt.ArrayLike | None) -> Array | None:
    """Return where samples end, past which their values do not count.

    None of what does not fit, to be refused by whoever checks it.
    """
    if lengths is None or array.ndim < 2:
        return None
    ends = checks.as_array(where, "lengths", lengths)
    return ends.copy() if ends.shape == array.shape[:1] and ends.dtype.kind in "iu" else None


def _finite(
    where: str, name: str, values: Any, lengths: npt.ArrayLike | None, dtype: Any
) -> Rows | Ragged:
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
    return _real(where, name, array, dtype, _ends(where, array, lengths))


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
        _real(where, item, array, dtype)
        sequences.append(array)
        if array.shape[1:] != sequences[0].shape[1:]:
            raise ValueError(
                f"{where}: {item} must have the shape of {name}[0] but for the first axis, "
                f"{sequences[0].shape}, got {array.shape}"
            )
    return Ragged(sequences, dtype)


def _real(where: str, name: str, array: Array, dtype: Any, ends: Array | None = None) -> Rows:
    """Return real numbers, floating ones in the model's dtype and finite up to their ends."""
    checks.check_real(where, name, array)
    rows = Rows(array, dtype, ends)
    if array.dtype.kind != "f" or not array.ndim:
        return rows
    wrong = 0
    index: tuple[int, ...] = ()
    for place, piece in rows.pieces():
        finite = np.isfinite(piece)
        if finite.all():
            continue
        if not wrong:
            index = _moved(tuple(np.argwhere(~finite)[0].tolist()), place)
        wrong += finite.size - np.count_nonzero(finite)
    if wrong:
        kind = f" in {np.dtype(dtype)}" if np.isfinite(array[index]) else ""
        raise ValueError(
            f"{where}: {name} must be finite{kind}, got {array[index]} at index {index} "
            f"({wrong} such elements)"
        )
    return rows
