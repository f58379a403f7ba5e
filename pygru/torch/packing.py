# SPDX-License-Identifier: MIT
"""Packed sequences as the kernels see them: (T, B, ...) with lengths, and back.

A `torch.nn.utils.rnn.PackedSequence` holds the rows (t, b) of all sequences that have a step t, by
t and then by b, longest sequence first. Where all are equally long that is (T, B, ...) already;
elsewhere its rows are copied to their places. What lies past a sequence's end is some other row:
nobody looks at it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

__all__ = ["Packing"]


class _Rows(torch.autograd.Function):  # type: ignore[misc]
    """rows[there]; ``back`` is what undoes it, and hence the way of the gradient."""

    generate_vmap_rule = True

    @staticmethod
    def forward(rows: torch.Tensor, there: torch.Tensor, _back: torch.Tensor) -> torch.Tensor:
        return rows.index_select(0, there)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[torch.Tensor, ...], _output: torch.Tensor) -> None:
        ctx.save_for_backward(*inputs[1:])

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        there, back = ctx.saved_tensors
        return _Rows.apply(gradient, back, there), None, None


class Packing(NamedTuple):
    """How the rows of one packed batch lie; N rows in all."""

    steps: int  # T
    batch: int  # B
    batch_sizes: torch.Tensor  # (T,)
    lengths: npt.NDArray[np.int64] | None = None  # (B,), None where all are T
    place: torch.Tensor | None = None  # (N,) of each row: t * B + b
    row: torch.Tensor | None = None  # (T*B,) the row for each place, 0 where there is none

    @classmethod
    def of(cls, batch_sizes: torch.Tensor, rows: int) -> Packing | None:
        """Read ``batch_sizes`` (T,); None where they do not describe ``rows`` rows."""
        sizes = batch_sizes.numpy()
        T, B = len(sizes), int(sizes[0])
        if sizes[-1] < 1 or (np.diff(sizes) > 0).any() or sizes.sum() != rows:
            return None
        if sizes[-1] == B:
            return cls(T, B, batch_sizes)
        exists = np.arange(B) < sizes[:, np.newaxis]  # (T, B)
        place = np.flatnonzero(exists)
        row = np.zeros(T * B, np.int64)
        row[place] = np.arange(rows)
        lengths = exists.sum(axis=0, dtype=np.int64)
        return cls(T, B, batch_sizes, lengths, torch.from_numpy(place), torch.from_numpy(row))

    def unpack(self, data: torch.Tensor) -> torch.Tensor:
        """Return the rows of data (N, K) as (T, B, K)."""
        places = data if self.row is None else _Rows.apply(data, self.row, self.place)
        return places.view(self.steps, self.batch, -1)

    def pack(self, padded: torch.Tensor) -> torch.Tensor:
        """Return padded (T, B, K) as rows (N, K)."""
        places = padded.reshape(self.steps * self.batch, -1)
        return places if self.place is None else _Rows.apply(places, self.place, self.row)
