# SPDX-License-Identifier: MIT
"""From a sequence to one vector: the last step, both ends, or the mean over time.

Shapes: x (T, B, K), (B, T, K) when batch_first, or (T, K) unbatched; y (B, K) or (K,).
"""

from __future__ import annotations

from abc import abstractmethod
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pygru.checks import FloatArray, IntArray, as_bool, as_floating, as_lengths, time_first
from pygru.module import Config, Layer
from pygru.registry import savable
from pygru.sums import over_time
from pygru.widths import SAME

__all__ = ["BothEnds", "LastStep", "MeanOverTime"]


class _Saved(NamedTuple):
    x_shape: tuple[int, ...]
    lengths: IntArray | None  # (B,)


class TimeLayer(Layer):
    """A layer without parameters that has to know which axis is time. Not for use on its own."""

    _widths = SAME

    def __init__(self, batch_first: bool | None) -> None:
        if batch_first is not None:
            batch_first = as_bool(type(self).__name__, "batch_first", batch_first)
        self.batch_first = batch_first
        super().__init__()

    def _adopt_layout(self, batch_first: bool | None) -> None:
        """Take a model's layout."""
        self.batch_first = batch_first


class TimePooling(TimeLayer):
    """What the poolings share: finding the time axis. Not for use on its own."""

    _axes = (2, 1)
    keeps_time = False

    def __init__(self, *, batch_first: bool | None = None) -> None:
        super().__init__(batch_first)

    def config(self) -> Config:
        """Return the constructor arguments of a layer like this one, as JSON can hold them."""
        return {"batch_first": self.batch_first}

    def _apply(
        self, x: npt.ArrayLike, lengths: npt.ArrayLike | None, _training: bool, /
    ) -> tuple[FloatArray, _Saved]:
        where = f"{type(self).__name__}.forward"
        array = as_floating(where, "x", x)
        if array.ndim not in (2, 3):
            symbols = "(B, T, K)" if self.batch_first else "(T, B, K)"
            raise ValueError(f"{where}: x must have shape {symbols} or (T, K), got {array.shape}")
        steps = time_first(array, self.batch_first)
        T, B, _ = steps.shape
        batch = (B,) if array.ndim == 3 else ()
        ends = None if lengths is None else as_lengths(where, lengths, T, batch)
        y = self._pool(steps, ends)
        return y if array.ndim == 3 else y[0], _Saved(array.shape, ends)

    def _pull(self, saved: _Saved, dy: FloatArray, input_gradient: bool, /) -> FloatArray | None:
        if not input_gradient:
            return None
        dx = np.zeros(saved.x_shape, dy.dtype)
        self._spread(
            time_first(dx, self.batch_first), saved.lengths, dy if dy.ndim == 2 else dy[np.newaxis]
        )
        return dx

    @abstractmethod
    def _pool(self, x: FloatArray, lengths: IntArray | None) -> FloatArray:
        """Return (B, K) of x (T, B, K)."""

    @abstractmethod
    def _spread(self, dx: FloatArray, lengths: IntArray | None, dy: FloatArray) -> None:
        """Write dx (T, B, K), which is 0, from dy (B, K)."""


@savable
class LastStep(TimePooling):
    """The last step of every sequence, at its own end when lengths are given.

    An empty sequence gives 0. The last step of a bidirectional layer holds the backward state after
    a single step; `BothEnds` gives the one that has read everything.

    Parameters
    ----------
    batch_first : bool or None
        Whether x is (B, T, K); None takes the layout of the other modules of its
        `Sequential`, and time first where none says.

    Examples
    --------
    >>> x = np.arange(12.0).reshape(3, 2, 2)
    >>> pygru.LastStep()(x, lengths=[3, 2])
    array([[8., 9.],
           [6., 7.]])
    """

    def _pool(self, x: FloatArray, lengths: IntArray | None) -> FloatArray:
        y = np.zeros(x.shape[1:], x.dtype)
        b, _, last = _ends(x, lengths)
        y[b] = x[last, b]
        return y

    def _spread(self, dx: FloatArray, lengths: IntArray | None, dy: FloatArray) -> None:
        b, _, last = _ends(dx, lengths)
        dx[last, b] = dy[b]


@savable
class BothEnds(TimePooling):
    """The first half of the last step beside the second half of the first step.

    Of a bidirectional layer's y these are the two states that have read the whole sequence: h_n of
    both directions, side by side. The last step is each sequence's own when lengths are given, and
    an empty sequence gives 0.

    Parameters
    ----------
    batch_first : bool or None
        Whether x is (B, T, K), K even; None takes the layout of the other modules of its
        `Sequential`, and time first where none says.

    Raises
    ------
    ValueError
        In ``forward`` when K is odd.

    Examples
    --------
    >>> gru = pygru.GRU(3, 4, bidirectional=True, rng=0)
    >>> y, h_n = gru(np.ones((5, 2, 3)))
    >>> np.array_equal(pygru.BothEnds()(y), np.concatenate([h_n[0], h_n[1]], axis=-1))
    True
    """

    def _pool(self, x: FloatArray, lengths: IntArray | None) -> FloatArray:
        H, odd = divmod(x.shape[2], 2)
        if odd:
            raise ValueError(
                f"BothEnds.forward: K must be even, two directions of H, got {x.shape[2]}"
            )
        y = np.zeros(x.shape[1:], x.dtype)
        b, first, last = _ends(x, lengths)
        y[b, :H] = x[last, b, :H]
        y[b, H:] = x[first, b, H:]
        return y

    def _spread(self, dx: FloatArray, lengths: IntArray | None, dy: FloatArray) -> None:
        H = dx.shape[2] // 2
        b, first, last = _ends(dx, lengths)
        dx[last, b, :H] = dy[b, :H]
        dx[first, b, H:] = dy[b, H:]


@savable
class MeanOverTime(TimePooling):
    """The mean over the steps of every sequence, up to its own end when lengths are given.

    An empty sequence gives 0.

    Parameters
    ----------
    batch_first : bool or None
        Whether x is (B, T, K); None takes the layout of the other modules of its
        `Sequential`, and time first where none says.

    Examples
    --------
    >>> x = np.arange(12.0).reshape(3, 2, 2)
    >>> pygru.MeanOverTime()(x, lengths=[3, 2])
    array([[4., 5.],
           [4., 5.]])
    """

    def _pool(self, x: FloatArray, lengths: IntArray | None) -> FloatArray:
        if lengths is not None:
            x = np.where(_active(x, lengths), x, 0)
        y = over_time(x)
        y *= _weights(x, lengths)
        return y

    def _spread(self, dx: FloatArray, lengths: IntArray | None, dy: FloatArray) -> None:
        dx[...] = dy * _weights(dx, lengths)
        if lengths is not None:
            dx[...] = np.where(_active(dx, lengths), dx, 0)


def _counts(x: FloatArray, lengths: IntArray | None) -> IntArray:
    """Return the number of steps of every sequence, (B,)."""
    T, B, _ = x.shape
    return np.full(B, T) if lengths is None else lengths


def _ends(x: FloatArray, lengths: IntArray | None) -> tuple[IntArray, IntArray, IntArray]:
    """Return the sequences that are not empty, and the first and the last step of each."""
    counts = _counts(x, lengths)
    b = np.flatnonzero(counts)
    return b, np.zeros_like(b), counts[b] - 1


def _active(x: FloatArray, lengths: IntArray) -> npt.NDArray[np.bool_]:
    """Return whether step t belongs to sequence b, (T, B, 1)."""
    return (np.arange(x.shape[0])[:, np.newaxis] < lengths)[:, :, np.newaxis]


def _weights(x: FloatArray, lengths: IntArray | None) -> FloatArray:
    """Return 1 / length of every sequence, (B, 1); of an empty one 1."""
    counts = _counts(x, lengths)
    weights: FloatArray = (1.0 / np.maximum(counts, 1)).astype(x.dtype)[:, np.newaxis]
    return weights
