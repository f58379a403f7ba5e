# SPDX-License-Identifier: MIT
"""One step of one recurrent layer, for people who write their own loops.

A cell has the equations, kernels and initial values of the layer of the same name, and PyTorch's
names and shapes: x (B, I) and h (B, H), or (I,) and (H,) unbatched. A whole sequence is several
times faster through the layer, which computes the gradients of many steps in one product.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from pygru.checks import (
    FloatArray,
    Random,
    as_bool,
    as_choice,
    as_float_dtype,
    as_generator,
    as_real,
    as_size,
    check_bytes,
)
from pygru.initializers import Init, fill_recurrent
from pygru.module import Config, Module
from pygru.registry import savable
from pygru.stack import (
    MOST_SLOTS,
    Run,
    Stack,
    StackTape,
    of_run,
    run_parameters,
    run_shapes,
)
from pygru.tape import Tape
from pygru.widths import Widths

__all__ = ["GRUCell", "RNNCell", "RecurrentCell"]


class RecurrentCell(Module):
    """What `GRUCell` and `RNNCell` share. Not for use on its own."""

    _variant: str
    _made_anew = (*Module._made_anew, "_stack")

    def __init__(
        self,
        cell: str,
        input_size: int,
        hidden_size: int,
        bias: bool,
        dtype: npt.DTypeLike,
        rng: Random,
        init: Init,
    ) -> None:
        name = type(self).__name__
        self.input_size = as_size(name, "input_size", input_size)
        self.hidden_size = as_size(name, "hidden_size", hidden_size)
        self.bias = as_bool(name, "bias", bias)
        self._widths = Widths(self.input_size, self.hidden_size)
        self._cell = cell
        runs = {"": run_shapes(cell, self.input_size, self.hidden_size, self.bias)}
        self._rng = as_generator(name, rng)
        super().__init__(run_parameters(runs), as_float_dtype(name, dtype))
        fill_recurrent(name, self._params, runs, init, self._rng)

    def _bind(self, flat_params: FloatArray, flat_grads: FloatArray) -> None:
        super()._bind(flat_params, flat_grads)
        run = Run(False, of_run(self._params, ""), of_run(self._grads, ""))
        self._stack = Stack(self._cell, self.hidden_size, 0.0, self._rng, [[run]])

    def config(self) -> Config:
        """Return the constructor arguments of a cell like this one, as JSON can hold them."""
        return {
            "input_size": self.input_size,
            "hidden_size": self.hidden_size,
            "bias": self.bias,
            "dtype": self.dtype.name,
            self._variant: getattr(self, self._variant),
        }

    @classmethod
    def _from_config(cls, config: Config) -> Module:
        return cls(**config, init="zeros")

    def __call__(self, x: npt.ArrayLike, h: npt.ArrayLike | None = None) -> FloatArray:
        """Inference: the next state, without a tape.

        Parameters and errors are those of `forward`.
        """
        return self._step(x, h, False)[0]

    def forward(self, x: npt.ArrayLike, h: npt.ArrayLike | None = None) -> tuple[FloatArray, Tape]:
        """Compute the next state and keep what `backward` needs.

        Parameters
        ----------
        x : array_like of shape (B, I), or (I,) unbatched
            It is never written to, and must not be changed before `backward`.
        h : array_like of shape (B, H), or (H,) unbatched, optional
            The state before this step; absent is 0. As for x.

        Returns
        -------
        h : ndarray of shape (B, H) or (H,)
        tape : Tape
            For one call of `backward`.

        Raises
        ------
        TypeError
            When x or h does not hold real numbers.
        ValueError
            When a shape does not fit.
        """
        h_n, saved = self._step(x, h, True)
        return h_n, Tape(self, saved, h_n.shape, h_n.dtype, [h_n])

    def backward(
        self, tape: Tape, dh: npt.ArrayLike, *, input_gradient: bool = True
    ) -> tuple[FloatArray | None, FloatArray | None]:
        """Add to ``grads``, return the gradients of x and of the state before the step.

        Several threads may call it at once, as `GRU.backward`.

        Parameters
        ----------
        tape : Tape
            From `forward` of this cell; it serves once.
        dh : array_like of shape (B, H) or (H,)
            Gradient of the loss with respect to the state that `forward` returned: what the loss
            says of this step plus what came back from the step after it.
        input_gradient : bool
            False when nobody needs dx.

        Returns
        -------
        dx : ndarray in the shape of x, or None
            None when not wanted.
        dh : ndarray of shape (B, H) or (H,), or None
            None when `forward` was given no h.

        Raises
        ------
        ValueError
            When dh has the wrong shape (the tape can still be used) or the tape is of another
            module.
        RuntimeError
            When the tape was used before.
        """
        saved, gradient = self._spend(tape, dh, "h")
        dh_n = gradient.reshape(1, -1, self.hidden_size)
        x_shape = (*tape.shape[:-1], self.input_size)
        dx = np.empty(x_shape, self.dtype) if input_gradient else None
        _, h_0, _ = saved
        dh_0 = None if h_0 is None else np.empty(dh_n.shape, self.dtype)
        with self._adding:
            self._stack.backward(saved, None, dh_n, None if dx is None else _one_step(dx), dh_0)
        return dx, None if dh_0 is None else dh_0.reshape(tape.shape)

    def _step(
        self, x: npt.ArrayLike, h: npt.ArrayLike | None, training: bool
    ) -> tuple[FloatArray, StackTape | None]:
        where, H = f"{type(self).__name__}.forward", self.hidden_size
        given = as_real(where, "x", x, self._flat_params.dtype)
        if given.ndim not in (1, 2) or given.shape[-1] != self.input_size:
            raise ValueError(
                f"{where}: x must have shape (B, I) or (I,) with I = {self.input_size}, "
                f"got {given.shape}"
            )
        shape = (*given.shape[:-1], H)
        B = given.size // self.input_size
        check_bytes(where, "the states", MOST_SLOTS * B * H, given.dtype)
        h_0 = None
        if h is not None:
            h_0 = as_real(where, "h", h, given.dtype)
            if h_0.shape != shape:
                symbols = "(B, H)" if given.ndim == 2 else "(H,)"
                raise ValueError(f"{where}: h must have shape {symbols} = {shape}, got {h_0.shape}")
            h_0 = _one_step(h_0)
        steps = _one_step(given)
        y = np.empty((1, steps.shape[1], H), given.dtype)
        h_n = np.empty(y.shape, given.dtype)
        saved = self._stack.forward(steps, h_0, None, y, h_n, training)
        return h_n.reshape(shape), saved


def _one_step(array: FloatArray) -> FloatArray:
    """Return (1, B, K) of (B, K) or (K,)."""
    return array[np.newaxis] if array.ndim == 2 else array[np.newaxis, np.newaxis]


@savable
class GRUCell(RecurrentCell):
    """One step of a `GRU` of one layer.

    ::

        r = sigmoid(W_r x + b_xr + U_r h' + b_hr)
        z = sigmoid(W_z x + b_xz + U_z h' + b_hz)
        after :  q = U_n h' + b_hn      n = tanh(W_n x + b_xn + r * q)
        before:                         n = tanh(W_n x + b_xn + U_n (r * h') + b_hn)
        h = z * h' + (1 - z) * n

    Parameters
    ----------
    input_size, hidden_size, bias, reset, dtype, rng, init
        As for `GRU`.

    Raises
    ------
    TypeError, ValueError
        As for `GRU`.

    Notes
    -----
    ``params`` and ``grads`` hold ``weight_ih`` (3H, I), ``weight_hh`` (3H, H), ``bias_ih`` and
    ``bias_hh`` (3H,), gates stacked r, z, n. A tape refers to the x and h it was made from: what is
    written into them before ``backward``, as into a buffer that every step uses, is what it reads.

    Examples
    --------
    >>> cell = pygru.GRUCell(3, 4, rng=0)
    >>> x = np.ones((5, 2, 3), np.float32)  # (T, B, I)
    >>> h, tapes = np.zeros((2, 4), np.float32), []
    >>> for x_t in x:
    ...     h, tape = cell.forward(x_t, h)
    ...     tapes.append(tape)

    and back, for a loss of which h is the gradient with respect to the last state:

    >>> dh = h
    >>> for tape in reversed(tapes):
    ...     dx_t, dh = cell.backward(tape, dh)
    >>> dh.shape, cell.grads["weight_hh"].shape
    ((2, 4), (12, 4))
    """

    _variant = "reset"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        *,
        reset: Literal["after", "before"] = "after",
        dtype: npt.DTypeLike = np.float32,
        rng: Random = None,
        init: Init = "pytorch",
    ) -> None:
        self.reset = as_choice("GRUCell", "reset", reset, ("after", "before"))
        super().__init__(f"gru_{self.reset}", input_size, hidden_size, bias, dtype, rng, init)


@savable
class RNNCell(RecurrentCell):
    """One step of an `RNN` of one layer.

    ::

        h = tanh(W x + b_x + U h' + b_h)        or relu in place of tanh

    Parameters
    ----------
    input_size, hidden_size, bias, nonlinearity, dtype, rng, init
        As for `RNN`.

    Raises
    ------
    TypeError, ValueError
        As for `RNN`.

    Notes
    -----
    ``params`` and ``grads`` have `GRUCell`'s names with H rows in place of 3H.

    Examples
    --------
    >>> cell = pygru.RNNCell(3, 4, nonlinearity="relu", rng=0)
    >>> cell(np.ones(3), np.zeros(4)).shape
    (4,)
    """

    _variant = "nonlinearity"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: Literal["tanh", "relu"] = "tanh",
        *,
        dtype: npt.DTypeLike = np.float32,
        rng: Random = None,
        init: Init = "pytorch",
    ) -> None:
        self.nonlinearity = as_choice("RNNCell", "nonlinearity", nonlinearity, ("tanh", "relu"))
        super().__init__(
            f"rnn_{self.nonlinearity}", input_size, hidden_size, bias, dtype, rng, init
        )
