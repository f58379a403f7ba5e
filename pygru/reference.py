# SPDX-License-Identifier: MIT
"""The specification: each cell or layer forward and, directly below it, backward, in NumPy.

Finite differences prove this file and this file proves the kernels, so it is written to be
read, not to be fast. It needs NumPy alone, computes in the dtype given and checks nothing.

Letters: ``T`` steps, ``B`` batch, ``I`` inputs, ``H`` hidden units. ``W`` (3H, I) input weights,
``U`` (3H, H) recurrent weights, ``b_x``, ``b_h`` (3H,) biases, gates stacked r, z, n. ``h'``
(``h_prev``) is the state before a step, ``s_k`` the pre-activation of gate k, ``dX`` the gradient
of the loss with respect to ``X``.

Time runs the same way for every cell. A sequence b is *active* at the steps t < lengths[b]; where
it is not, its state stands still and its output is 0. A reverse layer visits the steps T-1 .. 0,
so a short sequence stands at h_0 until its own last step is reached: it is read backwards within
its own length.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = [
    "CELLS",
    "Cell",
    "gru_backward",
    "gru_forward",
    "layer_norm_backward",
    "layer_norm_forward",
    "rnn_backward",
    "rnn_forward",
    "sigmoid",
]

Array: TypeAlias = npt.NDArray[Any]
Gradients: TypeAlias = tuple[Array, Array, Array, Array, Array, Array]


def sigmoid(s: Array) -> Array:
    """1 / (1 + exp(-s)), written so that no finite s overflows.

    Examples
    --------
    >>> sigmoid(np.array([-1000.0, 0.0, 1000.0])).tolist()
    [0.0, 0.5, 1.0]
    """
    return 0.5 * (1 + np.tanh(0.5 * s))


def gru_forward(
    x: Array,
    h_0: Array | None,
    W: Array,
    U: Array,
    b_x: Array | None,
    b_h: Array | None,
    *,
    reset: Literal["after", "before"],
    lengths: Array | None = None,
    reverse: bool = False,
) -> tuple[Array, Array, Array]:
    """One layer of gated recurrent units, in one direction.

    ::

        r = sigmoid(W_r x + b_xr + U_r h' + b_hr)
        z = sigmoid(W_z x + b_xz + U_z h' + b_hz)
        after :  q = U_n h' + b_hn      n = tanh(W_n x + b_xn + r * q)
        before:                         n = tanh(W_n x + b_xn + U_n (r * h') + b_hn)
        h = z * h' + (1 - z) * n

    Parameters
    ----------
    x : array of shape (T, B, I)
    h_0 : array of shape (B, H) or None
        State before the first step; None is 0.
    W, U : arrays of shape (3H, I) and (3H, H)
    b_x, b_h : arrays of shape (3H,) or None
    reset : {"after", "before"}
        Whether the reset gate acts after the recurrent product or before it.
    lengths : integer array of shape (B,) or None
        Steps of each sequence, 0 <= length <= T; None is T for all.
    reverse : bool
        Run each sequence backwards within its own length.

    Returns
    -------
    y : array of shape (T, B, H)
        The state after each step, 0 past a sequence's end.
    h_n : array of shape (B, H)
        The state after each sequence's last visited step.
    tape : array of shape (T, B, 4, H)
        r, z, n, q for `gru_backward` (q stays 0 when reset is "before").

    References
    ----------
    Cho et al. (2014), "Learning phrase representations using RNN encoder-decoder for statistical
    machine translation" (reset before); PyTorch's `nn.GRU`, as in cuDNN (reset after).

    Examples
    --------
    >>> x, W, U = np.ones((7, 2, 3)), np.full((12, 3), 0.1), np.full((12, 4), 0.1)
    >>> lengths = np.array([7, 5])
    >>> y, h_n, tape = gru_forward(x, None, W, U, None, None, reset="after", lengths=lengths)
    >>> y.shape, h_n.shape, tape.shape
    ((7, 2, 4), (2, 4), (7, 2, 4, 4))
    >>> bool((y[4, 1] == h_n[1]).all() and (y[5:, 1] == 0).all())
    True
    """
    T, B, _ = x.shape
    H = U.shape[1]
    active = _active(T, B, lengths)  # (T, B, 1)
    W_r, W_z, W_n = np.split(W, 3)  # (H, I) each
    U_r, U_z, U_n = np.split(U, 3)  # (H, H) each
    b_xr, b_xz, b_xn = np.zeros((3, H), x.dtype) if b_x is None else np.split(b_x, 3)  # (H,) each
    b_hr, b_hz, b_hn = np.zeros((3, H), x.dtype) if b_h is None else np.split(b_h, 3)  # (H,) each

    y = np.zeros((T, B, H), x.dtype)
    tape = np.zeros((T, B, 4, H), x.dtype)
    h = np.zeros((B, H), x.dtype) if h_0 is None else h_0  # (B, H)
    for t in _steps(T, reverse):
        h_prev, x_t = h, x[t]  # (B, H), (B, I)
        r = sigmoid(x_t @ W_r.T + b_xr + h_prev @ U_r.T + b_hr)  # (B, H)
        z = sigmoid(x_t @ W_z.T + b_xz + h_prev @ U_z.T + b_hz)  # (B, H)
        if reset == "after":
            q = h_prev @ U_n.T + b_hn  # (B, H)
            n = np.tanh(x_t @ W_n.T + b_xn + r * q)  # (B, H)
            tape[t, :, 3] = q
        else:
            n = np.tanh(x_t @ W_n.T + b_xn + (r * h_prev) @ U_n.T + b_hn)  # (B, H)
        tape[t, :, 0], tape[t, :, 1], tape[t, :, 2] = r, z, n
        h = np.where(active[t], z * h_prev + (1 - z) * n, h_prev)
        y[t] = np.where(active[t], h, 0)
    return y, h.copy(), tape


def gru_backward(
    x: Array,
    h_0: Array | None,
    W: Array,
    U: Array,
    y: Array,
    tape: Array,
    dy: Array | None,
    dh_n: Array | None,
    *,
    reset: Literal["after", "before"],
    lengths: Array | None = None,
    reverse: bool = False,
) -> Gradients:
    """Back-propagation through time for `gru_forward`.

    With dh = dy_t + what came back from the step that was visited next::

        ds_z = dh (h' - n) z (1 - z)        ds_n = dh (1 - z) (1 - n^2)
        after :  ds_r = ds_n q r (1 - r)    dq = ds_n r
                 dh' = dh z + U_r^T ds_r + U_z^T ds_z + U_n^T dq
                 dU = [ds_r; ds_z; dq] h'^T      db_h = [ds_r; ds_z; dq]
        before:  g = U_n^T ds_n             ds_r = g h' r (1 - r)
                 dh' = dh z + g r + U_r^T ds_r + U_z^T ds_z
                 dU_n = ds_n (r h')^T
        both  :  dW = [ds_r; ds_z; ds_n] x^T     db_x = [ds_r; ds_z; ds_n]
                 dx = W^T [ds_r; ds_z; ds_n]

    Parameters
    ----------
    x, h_0, W, U, reset, lengths, reverse
        As given to `gru_forward`.
    y, tape : arrays of shape (T, B, H) and (T, B, 4, H)
        As returned by it.
    dy : array of shape (T, B, H) or None
    dh_n : array of shape (B, H) or None

    Returns
    -------
    dx, dh_0, dW, dU, db_x, db_h : arrays shaped as x, h_n, W, U and (3H,) twice

    Examples
    --------
    >>> x, W, U = np.ones((7, 2, 3)), np.full((12, 3), 0.1), np.full((12, 4), 0.1)
    >>> y, h_n, tape = gru_forward(x, None, W, U, None, None, reset="after")
    >>> dx, dh_0, *_ = gru_backward(x, None, W, U, y, tape, None, np.ones((2, 4)), reset="after")
    >>> dx.shape, dh_0.shape
    ((7, 2, 3), (2, 4))
    """
    T, B, _ = x.shape
    H = U.shape[1]
    active = _active(T, B, lengths)  # (T, B, 1)
    U_r, U_z, U_n = np.split(U, 3)  # (H, H) each
    h_prev = _previous_states(y, h_0, lengths, reverse)  # (T, B, H)

    ds_x = np.zeros((T, B, 3 * H), x.dtype)  # [ds_r; ds_z; ds_n], what W and b_x see
    ds_h = np.zeros((T, B, 3 * H), x.dtype)  # [ds_r; ds_z; dq], what U and b_h see
    dh_next = np.zeros((B, H), x.dtype) if dh_n is None else dh_n  # (B, H)
    for t in reversed(_steps(T, reverse)):
        r, z, n, q = (tape[t, :, k] for k in range(4))  # (B, H) each
        dh = dh_next if dy is None else dh_next + dy[t]  # (B, H)
        ds_z = dh * (h_prev[t] - n) * z * (1 - z)  # (B, H)
        ds_n = dh * (1 - z) * (1 - n**2)  # (B, H)
        if reset == "after":
            ds_r = ds_n * q * r * (1 - r)  # (B, H)
            dq = ds_n * r  # (B, H)
            dh_prev = dh * z + ds_r @ U_r + ds_z @ U_z + dq @ U_n  # (B, H)
        else:
            g = ds_n @ U_n  # (B, H)
            ds_r = g * h_prev[t] * r * (1 - r)  # (B, H)
            dq = ds_n
            dh_prev = dh * z + g * r + ds_r @ U_r + ds_z @ U_z  # (B, H)
        ds_x[t] = np.where(active[t], np.concatenate((ds_r, ds_z, ds_n), axis=1), 0)
        ds_h[t] = np.where(active[t], np.concatenate((ds_r, ds_z, dq), axis=1), 0)
        dh_next = np.where(active[t], dh_prev, dh_next)

    dU = _outer(ds_h, h_prev)  # (3H, H)
    if reset == "before":  # U_n was multiplied with r * h', not with h'
        dU[2 * H :] = _outer(ds_h[:, :, 2 * H :], np.where(active, tape[:, :, 0] * h_prev, 0))
    dW = _outer(ds_x, np.where(active, x, 0))  # (3H, I)
    return ds_x @ W, dh_next.copy(), dW, dU, ds_x.sum((0, 1)), ds_h.sum((0, 1))


def rnn_forward(
    x: Array,
    h_0: Array | None,
    W: Array,
    U: Array,
    b_x: Array | None,
    b_h: Array | None,
    *,
    activation: Literal["tanh", "relu"],
    lengths: Array | None = None,
    reverse: bool = False,
) -> tuple[Array, Array, None]:
    """One Elman layer in one direction: h = activation(W x + b_x + U h' + b_h).

    Shapes are those of `gru_forward` with one gate: W (H, I), U (H, H), b_x and b_h (H,). There is
    no tape: the derivative of either activation can be read off the output.

    References
    ----------
    Elman (1990), "Finding structure in time".

    Examples
    --------
    >>> x, W, U = np.ones((7, 2, 3)), np.full((4, 3), 0.1), np.full((4, 4), 0.1)
    >>> y, h_n, _ = rnn_forward(x, None, W, U, None, None, activation="tanh")
    >>> y.shape, h_n.shape, bool((y[-1] == h_n).all())
    ((7, 2, 4), (2, 4), True)
    """
    T, B, _ = x.shape
    H = U.shape[1]
    active = _active(T, B, lengths)  # (T, B, 1)
    b_x = np.zeros(H, x.dtype) if b_x is None else b_x  # (H,)
    b_h = np.zeros(H, x.dtype) if b_h is None else b_h  # (H,)

    y = np.zeros((T, B, H), x.dtype)
    h = np.zeros((B, H), x.dtype) if h_0 is None else h_0  # (B, H)
    for t in _steps(T, reverse):
        s = x[t] @ W.T + b_x + h @ U.T + b_h  # (B, H)
        h = np.where(active[t], np.tanh(s) if activation == "tanh" else np.maximum(s, 0), h)
        y[t] = np.where(active[t], h, 0)
    return y, h.copy(), None


def rnn_backward(
    x: Array,
    h_0: Array | None,
    W: Array,
    U: Array,
    y: Array,
    tape: None,  # noqa: ARG001  all cells have the same parameters
    dy: Array | None,
    dh_n: Array | None,
    *,
    activation: Literal["tanh", "relu"],
    lengths: Array | None = None,
    reverse: bool = False,
) -> Gradients:
    """Back-propagation through time for `rnn_forward`.

    ::

        tanh:  ds = dh (1 - h^2)            relu:  ds = dh where h > 0, else 0
        both:  dh' = U^T ds     dU = ds h'^T     dW = ds x^T     db_x = db_h = ds     dx = W^T ds

    Parameters and results are those of `gru_backward`; `tape` is None.

    Examples
    --------
    >>> x, W, U = np.ones((7, 2, 3)), np.full((4, 3), 0.1), np.full((4, 4), 0.1)
    >>> y, h_n, tape = rnn_forward(x, None, W, U, None, None, activation="relu")
    >>> dx, *_ = rnn_backward(x, None, W, U, y, tape, np.ones_like(y), None, activation="relu")
    >>> dx.shape
    (7, 2, 3)
    """
    T, B, _ = x.shape
    H = U.shape[1]
    active = _active(T, B, lengths)  # (T, B, 1)

    ds = np.zeros((T, B, H), x.dtype)
    dh_next = np.zeros((B, H), x.dtype) if dh_n is None else dh_n  # (B, H)
    for t in reversed(_steps(T, reverse)):
        dh = dh_next if dy is None else dh_next + dy[t]  # (B, H)
        slope = 1 - y[t] ** 2 if activation == "tanh" else y[t] > 0  # (B, H)
        ds[t] = np.where(active[t], dh * slope, 0)
        dh_next = np.where(active[t], ds[t] @ U, dh_next)

    dU = _outer(ds, _previous_states(y, h_0, lengths, reverse))  # (H, H)
    dW = _outer(ds, np.where(active, x, 0))  # (H, I)
    db = ds.sum((0, 1))  # (H,)
    return ds @ W, dh_next.copy(), dW, dU, db, db.copy()


def layer_norm_forward(x: Array, w: Array, b: Array, eps: float) -> tuple[Array, Array, Array]:
    """Return y = w n + b with n = (x - mean) scale, n, and scale = 1 / sqrt(var + eps).

    x, y and n are (..., K), w and b (K,), scale is (..., 1). Ba, Kiros & Hinton (2016).
    """
    n = x - x.mean(axis=-1, keepdims=True)  # (..., K)
    scale = 1 / np.sqrt((n * n).mean(axis=-1, keepdims=True) + eps)  # (..., 1)
    n *= scale
    return w * n + b, n, scale


def layer_norm_backward(n: Array, scale: Array, w: Array, dy: Array) -> tuple[Array, Array, Array]:
    """Return dx (..., K), dw and db (K,) of `layer_norm_forward`."""
    rows = tuple(range(dy.ndim - 1))
    dn = w * dy  # (..., K)
    along_n = (dn * n).mean(axis=-1, keepdims=True)  # (..., 1)
    dx: Array = (dn - dn.mean(axis=-1, keepdims=True) - n * along_n) * scale
    return dx, (dy * n).sum(rows), dy.sum(rows)


class Cell(NamedTuple):
    """One row of `CELLS`: how many gates are stacked in W and U, and the two functions."""

    gates: int
    forward: Callable[..., tuple[Array, Array, Array | None]]
    backward: Callable[..., Gradients]


CELLS: dict[str, Cell] = {
    "gru_after": Cell(3, partial(gru_forward, reset="after"), partial(gru_backward, reset="after")),
    "gru_before": Cell(
        3, partial(gru_forward, reset="before"), partial(gru_backward, reset="before")
    ),
    "rnn_tanh": Cell(
        1, partial(rnn_forward, activation="tanh"), partial(rnn_backward, activation="tanh")
    ),
    "rnn_relu": Cell(
        1, partial(rnn_forward, activation="relu"), partial(rnn_backward, activation="relu")
    ),
}
"""Every cell by the name the kernels know it by; the tests run over these rows."""


def _steps(T: int, reverse: bool) -> range:
    """Return the steps in the order in which they are visited."""
    return range(T - 1, -1, -1) if reverse else range(T)


def _active(T: int, B: int, lengths: Array | None) -> Array:
    """Return whether step t belongs to sequence b, (T, B, 1)."""
    ends = np.full(B, T) if lengths is None else lengths  # (B,)
    return (np.arange(T)[:, None] < ends)[:, :, None]


def _previous_states(y: Array, h_0: Array | None, lengths: Array | None, reverse: bool) -> Array:
    """Return h' of every step, (T, B, H): the output before it, h_0 at the first step visited."""
    T, B, H = y.shape
    h_0 = np.zeros((B, H), y.dtype) if h_0 is None else h_0  # (B, H)
    ends = np.full(B, T) if lengths is None else lengths  # (B,)
    first = np.arange(T)[:, None] == (ends - 1 if reverse else 0)  # (T, B) or (T, 1)
    return np.where(first[:, :, None], h_0, np.roll(y, -1 if reverse else 1, axis=0))


def _outer(ds: Array, v: Array) -> Array:
    """Sum ds v^T over every step and sequence: (T, B, M) and (T, B, K) to (M, K)."""
    N, M, K = ds.shape[0] * ds.shape[1], ds.shape[2], v.shape[2]
    product: Array = ds.reshape(N, M).T @ v.reshape(N, K)
    return product
