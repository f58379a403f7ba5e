# SPDX-License-Identifier: MIT
"""Samples in one array: kept as they were given, made ready to compute on batch by batch.

So data of another precision than the model's, or with padding that is no number, take no second
place in memory.

Depends on NumPy alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["Rows"]

Array: TypeAlias = npt.NDArray[Any]

_PIECE = 1 << 16  # elements: a piece and what is made of it stay in a cache


class Rows:
    """N samples; indexed like their array, it gives batches in the model's dtype.

    Parameters
    ----------
    array : array of shape (N, ...)
        Real numbers.
    dtype : dtype
        What floating numbers become; integers stay as they are.
    ends : integer array of shape (N,), optional
        Where each sample of an array (N, T, ...) ends along time: integers, NaN and infinity past
        it are padding, and become 0.

    Examples
    --------
    >>> rows = Rows(np.array([[1.0, np.nan], [3.0, 4.0]]), np.dtype(np.float32), np.array([1, 2]))
    >>> rows[:]
    array([[1., 0.],
           [3., 4.]], dtype=float32)
    >>> rows[np.array([1]), 1:]
    array([[4.]], dtype=float32)
    """

    __slots__ = ("_array", "_dtype", "_ends")

    def __init__(self, array: Array, dtype: Any, ends: Array | None = None) -> None:
        self._array, self._ends = array, ends
        self._dtype = np.dtype(dtype) if array.dtype.kind == "f" else array.dtype

    def __len__(self) -> int:
        return len(self._array)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of all samples, (N, ...)."""
        return self._array.shape

    def __getitem__(self, key: slice | Array | tuple[slice | Array, slice]) -> Array:
        """Return the samples of a batch, (B, ...), or with a second slice some steps of them."""
        rows: Array = self._array[key]
        if rows.dtype != self._dtype:
            with np.errstate(over="ignore"):
                rows = rows.astype(self._dtype)
        if self._ends is None:
            return rows
        numbers = np.isfinite(rows) if rows.dtype.kind == "f" else rows == 0
        if numbers.all():
            return rows
        batch, steps = key if isinstance(key, tuple) else (key, slice(None))
        past = np.arange(self.shape[1])[steps] >= self._ends[batch][:, np.newaxis]  # (B, T)
        empty = ~numbers & past.reshape(past.shape + (1,) * (rows.ndim - 2))
        return np.where(empty, rows.dtype.type(0), rows) if empty.any() else rows

    def pieces(self) -> Iterator[tuple[tuple[int, int], Array]]:
        """Yield all samples, some or a part of one at a time, each with its place along N and T."""
        N, T = (*self.shape, 1)[:2]
        step = math.prod(self.shape[2:])  # elements
        wide = min(max(T, 1), _PIECE // max(step, 1) + 1)
        tall = _PIECE // max(wide * step, 1) + 1
        for n in range(0, N, tall):
            rows = slice(n, n + tall)
            if len(self.shape) == 1:
                yield (n, 0), self[rows]
                continue
            for t in range(0, T, wide):
                yield (n, t), self[rows, t : t + wide]
