# SPDX-License-Identifier: MIT
"""Sequences of unequal lengths: kept as they were given, padded batch by batch.

So padding costs memory only for the batch at hand, and only up to that batch's longest sequence.

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
        At least one, of equal shapes but for the first axis.
    dtype : dtype, optional
        What floating numbers become; integers stay as they are.

    Attributes
    ----------
    dtype : dtype
        What holds the values of all sequences.
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

    __slots__ = ("_sequences", "dtype", "lengths")

    def __init__(self, sequences: Sequence[Array], dtype: Any = None) -> None:
        self._sequences = sequences
        self.lengths = np.array([len(sequence) for sequence in sequences])
        given = {sequence.dtype for sequence in sequences}
        self.dtype = np.result_type(*(dtype if dtype and d.kind == "f" else d for d in given))

    def __len__(self) -> int:
        return len(self._sequences)

    def __getitem__(self, key: slice | Array | tuple[slice | Array, slice]) -> Array:
        """Return the sequences of a batch, (B, T, ...), or some steps; 0 after each one's end."""
        batch, steps = key if isinstance(key, tuple) else (key, slice(None))
        chosen = np.arange(len(self))[batch].tolist()
        first, last, _ = steps.indices(int(self.lengths[batch].max()))
        padded = np.zeros((len(chosen), last - first, *self._sequences[0].shape[1:]), self.dtype)
        for row, n in zip(padded, chosen, strict=True):
            part = self._sequences[n][first:last]
            row[: len(part)] = part
        return padded

    def pieces(self) -> Iterator[tuple[tuple[int, int], Array]]:
        """Yield one sequence after another, each with its place along N and T."""
        for n, sequence in enumerate(self._sequences):
            yield (n, 0), sequence.astype(self.dtype, copy=False)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of all sequences padded, (N, T, ...)."""
        return (len(self), int(self.lengths.max()), *self._sequences[0].shape[1:])


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
