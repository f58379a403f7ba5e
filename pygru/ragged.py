# SPDX-License-Identifier: MIT
"""Sequences of unequal lengths: kept without padding, padded batch by batch.

The steps of all sequences lie one after another in one array, so that padding costs memory only
for the batch at hand, and only up to that batch's longest sequence.

Depends on NumPy alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["Ragged", "padded"]

Array: TypeAlias = npt.NDArray[Any]


class Ragged:
    """N sequences, (T_n, ...) each; indexed like an array, it gives padded batches.

    Parameters
    ----------
    sequences : sequence of arrays
        At least one, of one dtype and of equal shapes but for the first axis.

    Attributes
    ----------
    values : array of shape (S, ...)
        The steps of all sequences, one sequence after another.
    lengths : array of shape (N,)

    Examples
    --------
    >>> ragged = Ragged([np.array([1, 2, 3]), np.array([4])])
    >>> ragged[:]
    array([[1, 2, 3],
           [4, 0, 0]])
    >>> ragged[np.array([1])]
    array([[4]])
    """

    __slots__ = ("_starts", "lengths", "values")

    def __init__(self, sequences: Sequence[Array]) -> None:
        self.values = np.concatenate(sequences)
        self.lengths = np.array([len(sequence) for sequence in sequences])
        self._starts = np.cumsum(self.lengths) - self.lengths

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, key: slice | Array | tuple[slice | Array, slice]) -> Array:
        """Return the sequences of a batch, (B, T, ...), or some steps; 0 after each one's end."""
        batch, steps = key if isinstance(key, tuple) else (key, slice(None))
        lengths, starts = self.lengths[batch].tolist(), self._starts[batch].tolist()
        first, last, _ = steps.indices(max(lengths))
        padded = np.zeros((len(lengths), last - first, *self.values.shape[1:]), self.values.dtype)
        for row, start, length in zip(padded, starts, lengths, strict=True):
            part = self.values[start + first : start + min(last, length)]
            row[: len(part)] = part
        return padded

    def pieces(self) -> Iterator[tuple[tuple[int, int], Array]]:
        """Yield the steps of all sequences as one piece, as `Rows.pieces` yields several."""
        yield (0, 0), self.values

    def index(self, step: int) -> tuple[int, int]:
        """Return (n, t), sequence and step of it, of a row of `values`."""
        n = int(np.searchsorted(self._starts, step, side="right")) - 1
        return n, step - int(self._starts[n])

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of all sequences padded, (N, T, ...)."""
        return (len(self), int(self.lengths.max()), *self.values.shape[1:])


def padded(sequences: Any, time: int) -> tuple[Array, Array] | None:
    """Return a list of sequences in one array, and their lengths.

    Time is axis ``time`` of the array, 0 or 1. None of what is no list of sequences (T_n, ...), or
    where one of them is empty.

    Examples
    --------
    >>> array, lengths = padded([[1, 2, 3], [4]], time=0)
    >>> array.tolist(), lengths.tolist()
    ([[1, 4], [2, 0], [3, 0]], [3, 1])
    """
    if not isinstance(sequences, (list, tuple)):
        return None
    arrays = []
    for sequence in sequences:
        try:
            array = np.asarray(sequence)
        except ValueError:  # no rectangle
            return None
        if array.ndim == 0 or len(array) == 0:
            return None
        arrays.append(array)
    if len({array.shape[1:] for array in arrays}) != 1:
        return None
    ragged = Ragged(arrays)
    return np.moveaxis(ragged[:], 1, time), ragged.lengths
