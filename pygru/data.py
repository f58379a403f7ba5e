# SPDX-License-Identifier: MIT
"""Series cut into windows, and the order in which samples are put into batches.

A *sampler* is what `fit` takes as ``sampler=``: any callable ``sampler(n, batch_size, rng)`` that
yields, for one epoch, what to index the samples with: slices (no copy is made then) or integer
arrays.

Depends on NumPy and `checks`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from pygru import checks

__all__ = [
    "Batch",
    "BucketedBatches",
    "ContiguousBatches",
    "Sampler",
    "ShuffledBatches",
    "batches",
    "fold",
    "sine",
    "windows",
]

Array: TypeAlias = npt.NDArray[Any]
Batch: TypeAlias = "slice | npt.NDArray[np.intp]"
# Quoted, because NumPy imports numpy.random when it is first named: a third of pygru's own import.
Sampler: TypeAlias = "Callable[[int, int, np.random.Generator], Iterable[Batch]]"


def sine(start: float, stop: float, samples: int, *, dtype: npt.DTypeLike = np.float32) -> Array:
    """Return sin at `samples` evenly spaced points from `start` to `stop`, both included.

    Parameters
    ----------
    start, stop : float
        In radians.
    samples : int
    dtype : dtype
        float32 or float64; computed in float64 and rounded once.

    Returns
    -------
    series : array of shape (samples,)

    Raises
    ------
    ValueError
        When samples is not at least 1, or start or stop not finite.
    TypeError
        When dtype is another, or something no number.

    Examples
    --------
    >>> sine(0, np.pi, 3, dtype=np.float64).round(6).tolist()
    [0.0, 1.0, 0.0]
    """
    start, stop = checks.as_finite("sine", "start", start), checks.as_finite("sine", "stop", stop)
    samples = checks.as_size("sine", "samples", samples)
    checks.check_bytes("sine", "samples", samples, np.dtype(np.float64))
    return np.sin(np.linspace(start, stop, samples)).astype(checks.as_float_dtype("sine", dtype))


def windows(series: npt.ArrayLike, length: int, horizon: int = 1) -> tuple[Array, Array]:
    """Cut a series into all its windows, each with the values that follow it.

    Parameters
    ----------
    series : array_like of shape (S,) or (S, F)
        S steps of one value, or of F features.
    length : int
        Steps in a window.
    horizon : int
        Steps to be predicted after it.

    Returns
    -------
    X : array of shape (N, length, F), N = S - length - horizon + 1 and F = 1 for one value
        A read-only view of the series, which is not copied.
    Y : array of shape (N, horizon * F)
        The `horizon` steps after each window, one after another.

    Raises
    ------
    ValueError
        The series is too short, has no values, or has neither one nor two axes.

    Examples
    --------
    >>> X, Y = windows(np.arange(10.0), length=5)
    >>> X.shape, Y.shape
    ((5, 5, 1), (5, 1))
    >>> X[2, :, 0].tolist(), Y[2].tolist()
    ([2.0, 3.0, 4.0, 5.0, 6.0], [7.0])

    Of classes, for an `Embedding` and cross-entropy, without the axis of features:

    >>> X, Y = windows(np.array([3, 1, 4, 1, 5]), length=3)
    >>> X[..., 0].tolist(), Y[..., 0].tolist()
    ([[3, 1, 4], [1, 4, 1]], [1, 5])
    """
    array = checks.as_array("windows", "series", series)
    length = checks.as_size("windows", "length", length)
    horizon = checks.as_size("windows", "horizon", horizon)
    checks.check_real("windows", "series", array)
    if array.ndim not in (1, 2):
        raise ValueError(f"windows: series must have shape (S,) or (S, F), got {array.shape}")
    N = len(array) - length - horizon + 1
    if N < 1:
        raise ValueError(
            f"windows: series must have at least length + horizon = {length + horizon} steps, "
            f"got {len(array)}"
        )
    if array.size == 0:
        raise ValueError(f"windows: series must have at least one value a step, got {array.shape}")
    series_2d = np.ascontiguousarray(array.reshape(len(array), -1))  # (S, F)
    slide = np.lib.stride_tricks.sliding_window_view
    X = slide(series_2d[: N + length - 1], length, axis=0).transpose(0, 2, 1)
    Y = slide(series_2d[length:], horizon, axis=0).transpose(0, 2, 1).reshape(N, -1)
    return X, Y


def fold(series: npt.ArrayLike, n: int) -> Array:
    """Cut one long series into n of equal length, side by side.

    This is how one series becomes a batch for truncated BPTT (``bptt=`` of `fit`).

    Parameters
    ----------
    series : array_like of shape (S, ...)
    n : int
        1 <= n <= S.

    Returns
    -------
    X : array of shape (n, S // n, ...)
        A view where possible. The last S % n steps are left out.

    Raises
    ------
    ValueError
        The series has fewer than n steps, no values, or no axis.

    Examples
    --------
    >>> fold(np.arange(11), 2)
    array([[0, 1, 2, 3, 4],
           [5, 6, 7, 8, 9]])
    """
    array = checks.as_array("fold", "series", series)
    n = checks.as_size("fold", "n", n)
    if array.ndim == 0 or len(array) < n:
        raise ValueError(
            f"fold: series must have shape (S, ...) of at least n = {n} steps, got {array.shape}"
        )
    if array.size == 0:
        raise ValueError(f"fold: series must have at least one value a step, got {array.shape}")
    return array[: len(array) // n * n].reshape(n, -1, *array.shape[1:])


def batches(n: int, batch_size: int) -> list[slice]:
    """Return slices that cover n samples in order; the last one may be shorter.

    Examples
    --------
    >>> batches(5, 2)
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    n = checks.as_count("batches", "n", n)
    batch_size = checks.as_size("batches", "batch_size", batch_size)
    return [slice(start, min(start + batch_size, n)) for start in range(0, n, batch_size)]


class ShuffledBatches:
    """The default sampler: every sample once per epoch, in a random order.

    Parameters
    ----------
    drop_last : bool
        Leave out the last batch of an epoch when it is not full.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> [len(batch) for batch in ShuffledBatches()(5, 2, rng)]
    [2, 2, 1]
    """

    def __init__(self, *, drop_last: bool = False) -> None:
        self.drop_last = checks.as_bool("ShuffledBatches", "drop_last", drop_last)

    def __call__(self, n: int, batch_size: int, rng: np.random.Generator) -> Iterator[Batch]:
        """Yield the index arrays of one epoch."""
        order = rng.permutation(n)
        for batch in batches(n, batch_size):
            if not self.drop_last or batch.stop - batch.start == batch_size:
                yield order[batch]

    def __repr__(self) -> str:
        return f"ShuffledBatches(drop_last={self.drop_last})"


class BucketedBatches:
    """Every sample once per epoch, in random batches of similar lengths.

    The default of `fit` for sequences of unequal lengths. Samples are sorted by length times a
    random factor from 1 to 1 + `spread` and cut into batches, which are shuffled. So little of a
    batch is padding, and batches still differ from epoch to epoch.

    Parameters
    ----------
    lengths : integer array_like of shape (n,)
    spread : float
        0 sorts by length alone; a large one is plain shuffling.

    Examples
    --------
    >>> lengths = np.array([7, 1, 8, 2])
    >>> rng = np.random.default_rng(0)
    >>> sorted(sorted(lengths[b].tolist()) for b in BucketedBatches(lengths)(4, 2, rng))
    [[1, 2], [7, 8]]
    """

    def __init__(self, lengths: npt.ArrayLike, spread: float = 0.25) -> None:
        self.lengths = checks.as_integers("BucketedBatches", "lengths", lengths)
        if not 0 <= checks.as_number("BucketedBatches", "spread", spread) < np.inf:
            raise ValueError(f"BucketedBatches: spread must be finite and >= 0, got {spread}")
        self.spread = float(spread)

    def __call__(self, n: int, batch_size: int, rng: np.random.Generator) -> Iterator[Batch]:
        """Yield the index arrays of one epoch."""
        if self.lengths.shape != (n,):
            raise ValueError(
                f"BucketedBatches: lengths must have shape (n,) = ({n},), got {self.lengths.shape}"
            )
        order = np.argsort(self.lengths * (1 + self.spread * rng.random(n)), kind="stable")
        cuts = batches(n, batch_size)
        for i in rng.permutation(len(cuts)).tolist():
            yield order[cuts[i]]

    def __repr__(self) -> str:
        return f"BucketedBatches(spread={self.spread})"


class ContiguousBatches:
    """Batches of neighbouring samples, drawn with replacement; slices, so that nothing is copied.

    The samples are divided into n // batch_size full batches; each step takes one of the first
    `choices` of them.

    Parameters
    ----------
    steps : int, optional
        Batches per epoch; by default as many as there are full batches.
    choices : int, optional
        How many of the full batches to draw from; by default all.

    Raises
    ------
    ValueError
        When called with fewer full batches than `choices`, or none.

    Examples
    --------
    >>> sampler = ContiguousBatches(steps=156, choices=155)
    >>> epoch = list(sampler(9995, 64, np.random.default_rng(0)))
    >>> len(epoch), all(b.start % 64 == 0 and b.stop - b.start == 64 for b in epoch)
    (156, True)
    """

    def __init__(self, *, steps: int | None = None, choices: int | None = None) -> None:
        where = "ContiguousBatches"
        self.steps = None if steps is None else checks.as_size(where, "steps", steps)
        self.choices = None if choices is None else checks.as_size(where, "choices", choices)

    def __call__(self, n: int, batch_size: int, rng: np.random.Generator) -> Iterator[slice]:
        """Yield the slices of one epoch."""
        full = n // batch_size
        choices = full if self.choices is None else self.choices
        if not 1 <= choices <= full:
            raise ValueError(
                f"ContiguousBatches: {n} samples must hold at least {max(1, choices)} full batches "
                f"of {batch_size}, got {full}"
            )
        for k in rng.integers(choices, size=full if self.steps is None else self.steps).tolist():
            yield slice(k * batch_size, (k + 1) * batch_size)

    def __repr__(self) -> str:
        return f"ContiguousBatches(steps={self.steps}, choices={self.choices})"
