# SPDX-License-Identifier: MIT
"""Stacks and directions of recurrent layers, whatever the cell.

The kernels run one layer in one or both directions; this file stacks layers, lays out parameters
under PyTorch's names, and carries h_0, h_n and lengths to every layer and back. Equations are in
`pygru.reference`. Layout inside is time first; batch_first is a matter of views.
"""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from pygru import _core
from pygru.checks import (
    FloatArray,
    IntArray,
    Random,
    as_float_dtype,
    as_lengths,
    as_probability,
    as_real,
    as_size,
    check_bytes,
)
from pygru.initializers import Init, fill_recurrent
from pygru.module import Config, Module, Tape
from pygru.parameters import Arrays, Parameter
from pygru.regularization import dropout_mask

__all__ = ["Recurrent"]

# W, U, b_x, b_h of one direction of one layer, or their gradients; and with `reverse` before them
_Arrays: TypeAlias = tuple[FloatArray, FloatArray, FloatArray | None, FloatArray | None]
_Weights: TypeAlias = tuple[bool, FloatArray, FloatArray, FloatArray | None, FloatArray | None]


class _LayerTape(NamedTuple):
    """What one layer keeps; one entry per direction in the lists."""

    x: FloatArray  # (T, B, I or D*H)
    ys: list[FloatArray]  # (T, B, H) each
    tapes: list[FloatArray | None]  # (T, B, S, H) each
    mask: FloatArray | None  # (T, B, D*H)  what dropout multiplied this layer's output with


class _Saved(NamedTuple):
    """What a whole stack keeps."""

    layers: list[_LayerTape]
    h_0: FloatArray | None  # (L*D, B, H)
    lengths: IntArray | None  # (B,)
    x_shape: tuple[int, ...]  # as the user gave it


class Recurrent(Module):
    """What GRU and RNN share: everything but the cell. Not for use on its own."""

    batch_first: bool

    def __init__(
        self,
        cell: str,
        gates: int,
        slots: int,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        bias: bool,
        batch_first: bool,
        dropout: float,
        bidirectional: bool,
        dtype: npt.DTypeLike,
        rng: Random,
        init: Init,
    ) -> None:
        name = type(self).__name__
        self.input_size = as_size(name, "input_size", input_size)
        self.hidden_size = as_size(name, "hidden_size", hidden_size)
        self.num_layers = as_size(name, "num_layers", num_layers)
        self.bias = bool(bias)
        self.batch_first = bool(batch_first)
        self.dropout = as_probability(name, "dropout", dropout)
        self.bidirectional = bool(bidirectional)
        if self.dropout and self.num_layers == 1:
            warnings.warn(
                f"{name}: dropout acts between layers, so dropout={self.dropout} does nothing "
                "with num_layers=1",
                stacklevel=3,
            )
        self._cell, self._gates, self._slots = cell, gates, slots
        self._directions = 2 if self.bidirectional else 1
        self._where = f"{name}.forward"
        precision = as_float_dtype(name, dtype)
        most = gates * self.num_layers * self.hidden_size * (self.input_size + self.hidden_size)
        check_bytes(name, "the parameters", most, precision)  # before they are even listed
        runs = self._runs()
        parameters = [
            Parameter(f"{kind}_{suffix}", shape, input_major=len(shape) == 2)
            for suffix, shapes in runs.items()
            for kind, shape in shapes.items()
        ]
        super().__init__(parameters, precision)
        self._rng = np.random.default_rng(rng)
        fill_recurrent(name, self._params, runs, init, self._rng)

    # Parameters

    def _runs(self) -> dict[str, dict[str, tuple[int, ...]]]:
        """Return "l0", "l0_reverse", "l1", ... -> shapes: one run of the cell each, as in h_n."""
        runs = {}
        H, D, rows = self.hidden_size, self._directions, self._gates * self.hidden_size
        for layer in range(self.num_layers):
            inputs = self.input_size if layer == 0 else D * H
            for suffix in (f"l{layer}", f"l{layer}_reverse")[:D]:
                shapes: dict[str, tuple[int, ...]]
                shapes = {"weight_ih": (rows, inputs), "weight_hh": (rows, H)}
                if self.bias:
                    shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
                runs[suffix] = shapes
        return runs

    def _bind(self, flat_params: FloatArray, flat_grads: FloatArray) -> None:
        super()._bind(flat_params, flat_grads)
        self._weights: list[list[_Weights]] = []  # [layer][direction]
        self._gradients: list[list[_Arrays]] = []
        for suffix in self._runs():
            reverse = suffix.endswith("_reverse")
            if not reverse:
                self._weights.append([])
                self._gradients.append([])
            self._weights[-1].append((reverse, *_of_run(self._params, suffix)))
            self._gradients[-1].append(_of_run(self._grads, suffix))

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        del state["_weights"], state["_gradients"]
        return state

    def _generators(self) -> dict[str, np.random.Generator]:
        return {"": self._rng} if self.dropout and self.num_layers > 1 else {}

    def _sizes(self) -> Config:
        """Return the arguments that GRU and RNN share."""
        return {
            "input_size": self.input_size,
            "hidden_size": self.hidden_size,
            "num_layers": self.num_layers,
            "bias": self.bias,
            "batch_first": self.batch_first,
            "dropout": self.dropout,
            "bidirectional": self.bidirectional,
        }

    # Forward and backward

    def __call__(
        self,
        x: npt.ArrayLike,
        h_0: npt.ArrayLike | None = None,
        *,
        lengths: npt.ArrayLike | None = None,
    ) -> tuple[FloatArray, FloatArray]:
        """Inference: y and h_n, without a tape and without dropout.

        Parameters and errors are those of `forward`.
        """
        y, h_n, _ = self._forward(x, h_0, lengths, False)
        return y, h_n

    def forward(
        self,
        x: npt.ArrayLike,
        h_0: npt.ArrayLike | None = None,
        *,
        lengths: npt.ArrayLike | None = None,
    ) -> tuple[FloatArray, FloatArray, Tape]:
        """Run the sequences and keep what `backward` needs.

        Parameters
        ----------
        x : array_like of shape (T, B, I), (B, T, I) when batch_first, or (T, I) unbatched
            Any strides; it is never written to, and must not be changed before `backward`.
        h_0 : array_like of shape (L*D, B, H), or (L*D, H) unbatched, optional
            State before the first step of every layer and direction; absent is 0. As for x.
        lengths : array_like of int of shape (B,), or an int unbatched, optional
            Number of steps of each sequence, 0 <= length <= T; absent is T.

        Returns
        -------
        y : ndarray of shape (T, B, D*H), (B, T, D*H) or (T, D*H)
            The last layer's state after each step; 0 past a sequence's end.
        h_n : ndarray of shape (L*D, B, H) or (L*D, H)
            Every layer's and direction's state after its last step: a sequence's own end, or its
            beginning in the reverse direction.
        tape : Tape
            For one call of `backward`.

        Raises
        ------
        TypeError
            When x or h_0 does not hold real numbers, or lengths no integers.
        ValueError
            When a shape or a length does not fit.
        """
        y, h_n, saved = self._forward(x, h_0, lengths, True)
        return y, h_n, Tape(self, saved, y.shape, y.dtype)

    def backward(
        self,
        tape: Tape,
        dy: npt.ArrayLike | None = None,
        dh_n: npt.ArrayLike | None = None,
        *,
        input_gradient: bool = True,
    ) -> tuple[FloatArray | None, FloatArray | None]:
        """Back-propagate through time: add to ``grads``, return the gradients of x and h_0.

        Parameters
        ----------
        tape : Tape
            From `forward` of this layer; it serves once.
        dy : array_like in the shape of y, optional
            Gradient of the loss with respect to y; absent is 0. What lies past a sequence's end is
            not looked at.
        dh_n : array_like in the shape of h_n, optional
            Gradient of the loss with respect to h_n; absent is 0.
        input_gradient : bool
            False when nobody needs dx.

        Returns
        -------
        dx : ndarray in the shape of x, or None
            None when not wanted.
        dh_0 : ndarray in the shape of h_n, or None
            None when `forward` was given no h_0.

        Raises
        ------
        ValueError
            When dy or dh_n has the wrong shape (the tape can still be used) or the tape is of
            another module.
        RuntimeError
            When the tape was used before.
        """
        self._check_tape(tape)
        if dy is not None:
            dy = self._check_gradient(tape, dy)
        if dh_n is not None:
            where = f"{type(self).__name__}.backward"
            dh_n = as_real(where, "dh_n", dh_n, self.dtype)
            batch = tape.shape[int(self.batch_first is False)] if len(tape.shape) == 3 else None
            dh_n = self._check_state(where, "dh_n", dh_n, batch)
        return self._backward(tape.spend(), dy, dh_n, input_gradient)

    def _apply(
        self, x: npt.ArrayLike, lengths: npt.ArrayLike | None, training: bool, /
    ) -> tuple[FloatArray, _Saved | None]:
        y, _, saved = self._forward(x, None, lengths, training)
        return y, saved

    def _pull(self, saved: _Saved, dy: FloatArray, input_gradient: bool, /) -> FloatArray | None:
        return self._backward(saved, dy, None, input_gradient)[0]

    def _check_state(
        self, where: str, name: str, state: npt.ArrayLike, batch: int | None
    ) -> FloatArray:
        """Return h_0 or dh_n as (L*D, B, H); ``batch`` is None for an unbatched sequence."""
        array = as_real(where, name, state, self.dtype)
        runs, H = self.num_layers * self._directions, self.hidden_size
        shape = (runs, H) if batch is None else (runs, batch, H)
        if array.shape != shape:
            symbols = "(L*D, H)" if batch is None else "(L*D, B, H)"
            raise ValueError(
                f"{where}: {name} must have shape {symbols} = {shape}, got {array.shape}"
            )
        return array[:, np.newaxis] if batch is None else array

    def _time_first(self, array: FloatArray) -> FloatArray:
        """Return a (T, B, ...) view of what has the user's layout."""
        if array.ndim == 2:
            return array[:, np.newaxis]
        return array.swapaxes(0, 1) if self.batch_first else array

    def _wrong_input(self, shape: tuple[int, ...]) -> ValueError:
        symbols = "(B, T, I)" if self.batch_first else "(T, B, I)"
        return ValueError(
            f"{self._where}: x must have shape {symbols} or (T, I) with I = {self.input_size}, "
            f"got {shape}"
        )

    def _forward(
        self,
        x: npt.ArrayLike,
        h_0: npt.ArrayLike | None,
        lengths: npt.ArrayLike | None,
        training: bool,
    ) -> tuple[FloatArray, FloatArray, _Saved | None]:
        dtype, H, D = self._flat_params.dtype, self.hidden_size, self._directions
        given = as_real(self._where, "x", x, dtype)
        batched = given.ndim == 3
        if not (batched or given.ndim == 2) or given.shape[-1] != self.input_size:
            raise self._wrong_input(given.shape)
        x = self._time_first(given)
        T, B, _ = x.shape
        check_bytes(self._where, "the states", 4 * T * B * H * D, dtype)
        if lengths is not None:
            lengths = as_lengths(self._where, lengths, T, (B,) if batched else ())
        if h_0 is not None:
            h_0 = self._check_state(self._where, "h_0", h_0, B if batched else None)

        h_n = np.empty((self.num_layers * D, B, H), dtype)
        last = self.num_layers - 1
        layers: list[_LayerTape] = []
        for layer, weights in enumerate(self._weights):
            if layer == last and batched and self.batch_first:
                y = np.empty((B, T, D * H), dtype).swapaxes(0, 1)
            else:
                y = np.empty((T, B, D * H), dtype)
            ys = [y] if D == 1 else [y[:, :, :H], y[:, :, H:]]
            tapes = [np.empty((T, B, self._slots, H), dtype) if training else None for _ in ys]
            runs = []
            for d, parameters in enumerate(weights):
                k = layer * D + d
                h_0k = None if h_0 is None else h_0[k]
                runs.append((*parameters, h_0k, ys[d], h_n[k], tapes[d]))
            _core.forward(self._cell, x, lengths, runs)
            mask = None
            if training:
                if self.dropout and layer < last:
                    mask = dropout_mask(self._rng, y.shape, self.dropout, y.dtype)
                layers.append(_LayerTape(x, ys, tapes, mask))
            x = y if mask is None else y * mask

        saved = _Saved(layers, h_0, lengths, given.shape) if training else None
        if not batched:
            return y[:, 0], h_n[:, 0], saved
        return (y.swapaxes(0, 1) if self.batch_first else y), h_n, saved

    def _backward(
        self,
        saved: _Saved,
        dy: FloatArray | None,
        dh_n: FloatArray | None,
        input_gradient: bool,
    ) -> tuple[FloatArray | None, FloatArray | None]:
        dtype, H, D = self._flat_params.dtype, self.hidden_size, self._directions
        batched = len(saved.x_shape) == 3
        dh_0 = None if saved.h_0 is None else np.empty(saved.h_0.shape, dtype)
        above = None if dy is None else self._time_first(dy)  # (T, B, D*H)
        dx = None
        for layer in reversed(range(self.num_layers)):
            x, ys, tapes, mask = saved.layers[layer]
            if above is not None and mask is not None:
                above = above * mask
            dxs: list[FloatArray] = []  # (T, B, I or D*H) each; what the directions pass down
            if layer > 0:
                dxs = [np.empty(x.shape, dtype) for _ in range(D)]
            elif input_gradient:
                dx = np.empty(saved.x_shape, dtype)
                dxs = [self._time_first(dx), np.empty(x.shape, dtype)][:D]
            runs = []
            for d, (reverse, W, U, _, _) in enumerate(self._weights[layer]):
                k = layer * D + d
                runs.append((
                    reverse, W, U,
                    None if saved.h_0 is None else saved.h_0[k],
                    ys[d], tapes[d],
                    None if above is None else above[:, :, d * H : (d + 1) * H],
                    None if dh_n is None else dh_n[k],
                    dxs[d] if dxs else None,
                    None if dh_0 is None else dh_0[k],
                    *self._gradients[layer][d],
                ))  # fmt: skip
            _core.backward(self._cell, x, saved.lengths, runs)
            above = dxs[0] if dxs else None
            if len(dxs) == 2:
                dxs[0] += dxs[1]
        return dx, (dh_0 if dh_0 is None or batched else dh_0[:, 0])


def _of_run(arrays: Arrays, suffix: str) -> _Arrays:
    """Return what one run of the cell uses out of params or grads."""
    return (
        arrays[f"weight_ih_{suffix}"],
        arrays[f"weight_hh_{suffix}"],
        arrays.get(f"bias_ih_{suffix}"),
        arrays.get(f"bias_hh_{suffix}"),
    )
