# SPDX-License-Identifier: MIT
"""Stacks and directions of recurrent layers, whatever the cell.

Parameters under PyTorch's names, checks, and the user's layout are here; `pygru.stack` runs the
layers, on time-first views of the user's arrays.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from pygru.checks import (
    FloatArray,
    Random,
    as_bool,
    as_float_dtype,
    as_generator,
    as_lengths,
    as_probability,
    as_real,
    as_size,
    check_bytes,
    time_first,
)
from pygru.initializers import Init, fill_recurrent
from pygru.module import Config, Module
from pygru.stack import (
    MOST_SLOTS,
    Run,
    RunShapes,
    Stack,
    StackTape,
    of_run,
    run_parameters,
    run_shapes,
)
from pygru.tape import Tape, check_tape
from pygru.widths import Widths

__all__ = ["Recurrent"]

MOST_LAYERS = 1000  # each is a run of its own, and objects in Python, however few its units

# What `Recurrent.backward` needs: the stack's own, and the shape of x as the user gave it.
_Saved: TypeAlias = tuple[StackTape, tuple[int, ...]]


class Recurrent(Module):
    """What GRU and RNN share: everything but the cell. Not for use on its own."""

    batch_first: bool
    _axes = (2, 2)
    _variant: str
    _made_anew = (*Module._made_anew, "_stack")

    def __init__(
        self,
        cell: str,
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
        self.num_layers = as_size(name, "num_layers", num_layers, MOST_LAYERS)
        self.bias = as_bool(name, "bias", bias)
        self.batch_first = as_bool(name, "batch_first", batch_first)
        self._dropout = as_probability(name, "dropout", dropout)
        self.bidirectional = as_bool(name, "bidirectional", bidirectional)
        if self._dropout and self.num_layers == 1:
            warnings.warn(
                f"{name}: dropout acts between layers, so dropout={self._dropout} does nothing "
                "with num_layers=1",
                stacklevel=3,
            )
        self._cell = cell
        self._directions = 2 if self.bidirectional else 1
        self._widths = Widths(self.input_size, self._directions * self.hidden_size)
        self._where = f"{name}.forward"
        precision = as_float_dtype(name, dtype)
        runs = self._runs()
        self._rng = as_generator(name, rng)
        super().__init__(run_parameters(runs), precision)
        fill_recurrent(name, self._params, runs, init, self._rng)

    # Parameters

    def _runs(self) -> dict[str, RunShapes]:
        """Return "_l0", "_l0_reverse", "_l1", ... -> shapes of one run of the cell, as in h_n."""
        runs = {}
        H, D = self.hidden_size, self._directions
        for layer in range(self.num_layers):
            inputs = self.input_size if layer == 0 else D * H
            for suffix in (f"_l{layer}", f"_l{layer}_reverse")[:D]:
                runs[suffix] = run_shapes(self._cell, inputs, H, self.bias)
        return runs

    def _bind(self, flat_params: FloatArray, flat_grads: FloatArray) -> None:
        super()._bind(flat_params, flat_grads)
        layers: list[list[Run]] = []
        for suffix in self._runs():
            reverse = suffix.endswith("_reverse")
            if not reverse:
                layers.append([])
            layers[-1].append(
                Run(reverse, of_run(self._params, suffix), of_run(self._grads, suffix))
            )
        self._stack = Stack(self._cell, self.hidden_size, self._dropout, self._rng, layers)

    @property
    def dropout(self) -> float:
        """Probability with which `forward` zeroes what passes from layer to layer; may be set."""
        return self._dropout

    @dropout.setter
    def dropout(self, dropout: float) -> None:
        name = type(self).__name__
        self._stack.dropout = self._dropout = as_probability(name, "dropout", dropout)

    def layer_weights(
        self,
    ) -> Iterator[tuple[str, FloatArray, FloatArray, FloatArray | None, FloatArray | None]]:
        """Yield the cell and W, U, b_x, b_h of each layer and direction, in the order of h_n."""
        for layer in self._stack.layers:
            for run in layer:
                yield self._cell, *run.weights

    def _generators(self) -> dict[str, np.random.Generator]:
        return {"": self._rng} if self.dropout and self.num_layers > 1 else {}

    def config(self) -> Config:
        """Return the constructor arguments of a layer like this one, as JSON can hold them."""
        return {
            "input_size": self.input_size,
            "hidden_size": self.hidden_size,
            "num_layers": self.num_layers,
            "bias": self.bias,
            "batch_first": self.batch_first,
            "dropout": self.dropout,
            "bidirectional": self.bidirectional,
            self._variant: getattr(self, self._variant),
            "dtype": self.dtype.name,
        }

    @classmethod
    def _from_config(cls, config: Config) -> Module:
        return cls(**config, init="zeros")

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
            Any strides; it is never written to, and neither it, nor y, nor a parameter must be
            changed before `backward`.
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
        return y, h_n, Tape(self, saved, y.shape, y.dtype, [h_n])

    def backward(
        self,
        tape: Tape,
        dy: npt.ArrayLike | None = None,
        dh_n: npt.ArrayLike | None = None,
        *,
        input_gradient: bool = True,
    ) -> tuple[FloatArray | None, FloatArray | None]:
        """Back-propagate through time: add to ``grads``, return the gradients of x and h_0.

        Several threads may call it at once: each adds in turn, so that only the last bits of the
        sums, which depend on the order, can differ from run to run.

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
        check_tape(self, tape)
        if dy is not None:
            dy = self._check_gradient(tape, dy)
        if dh_n is not None:
            where = f"{type(self).__name__}.backward"
            batch = tape.shape[0 if self.batch_first else 1] if len(tape.shape) == 3 else None
            dh_n = self._check_state(where, "dh_n", dh_n, batch)
        return self._backward(tape.spend(), dy, dh_n, input_gradient, True)

    # What a model composes; see `Layer`.

    def _carry_forward(
        self,
        x: npt.ArrayLike,
        lengths: npt.ArrayLike | None,
        training: bool,
        h_0s: Iterator[npt.ArrayLike | None] | None,
        h_ns: list[FloatArray],
        /,
    ) -> tuple[FloatArray, _Saved | None]:
        h_0 = None if h_0s is None else next(h_0s)
        y, h_n, saved = self._forward(x, h_0, lengths, training)
        h_ns.append(h_n)
        return y, saved

    def _carry_backward(
        self,
        saved: _Saved,
        dy: FloatArray | None,
        input_gradient: bool,
        dh_ns: list[FloatArray | None] | None,
        dh_0s: list[FloatArray | None] | None,
        /,
    ) -> FloatArray | None:
        """Take dh_n from the end of dh_ns, append dh_0 to dh_0s; None is neither."""
        dh_n = None if dh_ns is None else dh_ns.pop()
        if dh_n is not None and dh_n.ndim == 2:  # unbatched
            dh_n = dh_n[:, np.newaxis]
        dx, dh_0 = self._backward(saved, dy, dh_n, input_gradient, dh_0s is not None)
        if dh_0s is not None:
            dh_0s.append(dh_0)
        return dx

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

    def _forward(
        self,
        x: npt.ArrayLike,
        h_0: npt.ArrayLike | None,
        lengths: npt.ArrayLike | None,
        training: bool,
    ) -> tuple[FloatArray, FloatArray, _Saved | None]:
        dtype, H, D = self._flat_params.dtype, self.hidden_size, self._directions
        given = as_real(self._where, "x", x, dtype)
        shape = given.shape
        batched = len(shape) == 3
        if not (batched or len(shape) == 2) or shape[-1] != self.input_size:
            symbols = "(B, T, I)" if self.batch_first else "(T, B, I)"
            raise ValueError(
                f"{self._where}: x must have shape {symbols} or (T, I) with I = {self.input_size}, "
                f"got {shape}"
            )
        x = time_first(given, self.batch_first)
        T, B, _ = x.shape
        check_bytes(self._where, "the states", MOST_SLOTS * max(T, 1) * max(B, 1) * H * D, dtype)
        if lengths is not None:
            lengths = as_lengths(self._where, lengths, T, (B,) if batched else ())
        if h_0 is not None:
            h_0 = self._check_state(self._where, "h_0", h_0, B if batched else None)

        h_n = np.empty((self.num_layers * D, B, H), dtype)
        out = np.empty((*shape[:-1], D * H), dtype)
        tape = self._stack.forward(
            x, h_0, lengths, time_first(out, self.batch_first), h_n, training
        )
        saved = None if tape is None else (tape, shape)
        return out, h_n if batched else h_n[:, 0], saved

    def _backward(
        self,
        saved: _Saved,
        dy: FloatArray | None,
        dh_n: FloatArray | None,
        input_gradient: bool,
        state_gradient: bool,
    ) -> tuple[FloatArray | None, FloatArray | None]:
        """Back-propagate; dh_n may hold the last few of the L*D states only."""
        tape, x_shape = saved
        dx = np.empty(x_shape, self._flat_params.dtype) if input_gradient else None
        _, h_0, _ = tape
        dh_0 = None
        if state_gradient and h_0 is not None:
            dh_0 = np.empty(h_0.shape, h_0.dtype)
        with self._adding:
            self._stack.backward(
                tape,
                None if dy is None else time_first(dy, self.batch_first),
                dh_n,
                None if dx is None else time_first(dx, self.batch_first),
                dh_0,
            )
        return dx, dh_0 if dh_0 is None or len(x_shape) == 3 else dh_0[:, 0]
