# SPDX-License-Identifier: MIT
"""One recurrent layer, in one direction or two, as an operation of PyTorch's autograd.

The kernels work on NumPy views of the tensors. What PyTorch asks of an operation beyond one
backward is answered here too: an output that was written to and a graph that is gone through twice
make the layer run again (to the same bits), and a gradient that is itself to be differentiated is
PyTorch's own.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from pygru import _core
from pygru.stack import CELLS
from pygru.torch.coverage import plain, say_once, untraced
from pygru.torch.packing import Packing

__all__ = ["Operands", "Plan", "recur"]

_Tensors: TypeAlias = tuple[torch.Tensor, ...]
_Gradients: TypeAlias = list[torch.Tensor | None]
_Array: TypeAlias = npt.NDArray[Any]

# By nn.RNNBase.mode: the kernels' cell and PyTorch's own function.
_MODES = {
    "GRU": ("gru_after", torch.gru),
    "RNN_TANH": ("rnn_tanh", torch.rnn_tanh),
    "RNN_RELU": ("rnn_relu", torch.rnn_relu),
}


class Plan(NamedTuple):
    """What the layers of a module are told besides tensors."""

    module: str  # its class's name, for warnings
    mode: str
    directions: int  # D
    packing: Packing | None

    @property
    def lengths(self) -> npt.NDArray[np.int64] | None:
        """Of each sequence, (B,); None where all are T long."""
        return None if self.packing is None else self.packing.lengths


class Operands(NamedTuple):
    """What a layer computes with: float32 or float64 throughout, on the CPU."""

    x: torch.Tensor  # (T, B, I)
    h_0: torch.Tensor | None  # (D, B, H)
    # W (G*H, I), U (G*H, H) and, with biases, b_x and b_h (G*H,): of one direction after the other
    weights: _Tensors


def recur(plan: Plan, given: Operands) -> tuple[torch.Tensor, torch.Tensor]:
    """Return y (T, B, D*H) and h_n (D, B, H), with a graph where a gradient is wanted."""
    x, h_0, weights = given
    x, h_0 = _with_rows(x), None if h_0 is None else _with_rows(h_0)
    tensors = weights if h_0 is None else (h_0, *weights)
    if torch.is_grad_enabled() and (x.requires_grad or any(t.requires_grad for t in tensors)):
        y, h_n = _Layer.apply(plan, x, h_0, *weights)
    else:
        y, h_n, _ = _forward(plan, Operands(x, h_0, weights), taped=False)
    return y, h_n


class _Layer(torch.autograd.Function):  # type: ignore[misc]
    """`recur`, with its gradient."""

    @staticmethod
    def forward(
        ctx: Any, plan: Plan, x: torch.Tensor, h_0: torch.Tensor | None, *weights: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        y, h_n, tapes = _forward(plan, Operands(x, h_0, weights), taped=True)
        ctx.plan, ctx.tape_is_spent = plan, False
        # PyTorch allows its users to write to y, which backward reads. An output that is saved may
        # not be written to; an alias may, and counts how often it was.
        ctx.y, ctx.writes = y.detach(), y._version
        ctx.save_for_backward(x, h_0, *weights, *tapes)
        ctx.set_materialize_grads(False)
        return y, h_n

    @staticmethod
    @untraced
    def backward(
        ctx: Any, dy: torch.Tensor | None, dh_n: torch.Tensor | None
    ) -> tuple[torch.Tensor | None, ...]:
        if dy is None and dh_n is None:
            return (None,) * len(ctx.needs_input_grad)
        plan, D = ctx.plan, ctx.plan.directions
        x, h_0, *saved = ctx.saved_tensors
        given, tapes = Operands(x, h_0, tuple(saved[:-D])), tuple(saved[-D:])
        wanted = ctx.needs_input_grad[1:]
        if torch.is_grad_enabled() or not plain((dy, dh_n)):
            say_once(plan.module, "gradients of gradients and batched gradients")
            return None, *_pytorch_backward(plan, given, dy, dh_n, wanted)
        y = ctx.y
        if ctx.tape_is_spent or y._version != ctx.writes:
            y, _, tapes = _forward(plan, given, taped=True)
        ctx.tape_is_spent = True
        return None, *_backward(plan, given, y, tapes, dy, dh_n, wanted)


def _forward(
    plan: Plan, given: Operands, *, taped: bool
) -> tuple[torch.Tensor, torch.Tensor, _Tensors]:
    """Return y, h_n and a tape (T, B, S, H) for each direction, or none."""
    cell, _ = _MODES[plan.mode]
    x, h_0, weights = given
    (T, B, _), D, H = x.shape, plan.directions, weights[1].shape[1]
    y, h_n = x.new_empty(T, B, D * H), x.new_empty(D, B, H)
    tapes = tuple(x.new_empty(T, B, CELLS[cell].slots, H) for _ in range(D if taped else 0))
    y_, h_n_, h_0_ = _array(y), _array(h_n), None if h_0 is None else _array(h_0)
    runs = [
        (
            d == 1, *parameters,
            None if h_0_ is None else h_0_[d],
            y_[:, :, d * H : (d + 1) * H], h_n_[d],
            _array(tapes[d]) if taped else None,
        )
        for d, parameters in enumerate(_by_direction(weights, D))
    ]  # fmt: skip
    # No more threads than PyTorch would use here.
    _core.forward(cell, _array(x), plan.lengths, runs, most=torch.get_num_threads())
    return y, h_n, tapes


def _backward(
    plan: Plan,
    given: Operands,
    y: torch.Tensor,
    tapes: _Tensors,
    dy: torch.Tensor | None,
    dh_n: torch.Tensor | None,
    wanted: tuple[bool, ...],
) -> _Gradients:
    """Return the gradients of x, h_0 and the weights, as far as wanted; this spends the tapes."""
    x, h_0, weights = given
    D, H = plan.directions, weights[1].shape[1]
    dxs = [torch.empty_like(x) for _ in range(D if wanted[0] else 0)]
    dh_0 = torch.empty_like(h_0) if h_0 is not None and wanted[1] else None
    # dW and dU as the kernels add to them: transposes of contiguous arrays.
    gradients = [torch.zeros(w.shape[::-1], dtype=w.dtype).t() for w in weights]
    y_, h_0_ = _array(y), None if h_0 is None else _array(h_0)
    dy_ = None if dy is None else _array(_with_rows(dy))
    dh_n_ = None if dh_n is None else _array(_with_rows(dh_n))
    dh_0_ = None if dh_0 is None else _array(dh_0)
    parameters, their_gradients = _by_direction(weights, D), _by_direction(gradients, D)
    runs = [
        (
            d == 1, *parameters[d][:2],
            None if h_0_ is None else h_0_[d],
            y_[:, :, d * H : (d + 1) * H],
            _array(tapes[d]),
            None if dy_ is None else dy_[:, :, d * H : (d + 1) * H],
            None if dh_n_ is None else dh_n_[d],
            _array(dxs[d]) if dxs else None,
            None if dh_0_ is None else dh_0_[d],
            *their_gradients[d],
        )
        for d in range(D)
    ]  # fmt: skip
    cell = _MODES[plan.mode][0]
    _core.backward(cell, _array(x), plan.lengths, runs, most=torch.get_num_threads())
    dx = None if not dxs else dxs[0] if D == 1 else dxs[0].add_(dxs[1])
    # A parameter takes over a gradient that lies as it does itself, and would copy any other.
    return [
        dx,
        dh_0,
        *(g.contiguous() if w else None for g, w in zip(gradients, wanted[2:], strict=True)),
    ]


def _pytorch_backward(
    plan: Plan,
    given: Operands,
    dy: torch.Tensor | None,
    dh_n: torch.Tensor | None,
    wanted: tuple[bool, ...],
) -> _Gradients:
    """Return the same gradients by PyTorch's operations, hence with a graph of their own."""
    x, h_0, weights = given
    D, H, packing = plan.directions, weights[1].shape[1], plan.packing
    function = _MODES[plan.mode][1]
    inputs = [t for t, want in zip((x, h_0, *weights), wanted, strict=True) if want]
    with torch.enable_grad():
        state = x.new_zeros(D, x.shape[1], H) if h_0 is None else h_0
        biased, layers, dropout, training = len(weights) == 4 * D, 1, 0.0, False
        settings = (biased, layers, dropout, training, D == 2)
        if packing is None:
            y, h_n = function(x, state, weights, *settings, False)
        else:
            rows, sizes = packing.pack(x), packing.batch_sizes
            y, h_n = function(rows, sizes, state, weights, *settings)
            y = packing.unpack(y)
    outputs = [(out, gradient) for out, gradient in ((y, dy), (h_n, dh_n)) if gradient is not None]
    found = iter(
        torch.autograd.grad(
            [out for out, _ in outputs],
            inputs,
            [gradient for _, gradient in outputs],
            create_graph=torch.is_grad_enabled(),
            allow_unused=True,
        )
    )
    return [next(found) if want else None for want in wanted]


def _with_rows(t: torch.Tensor) -> torch.Tensor:
    """Return t itself where its last axis is contiguous, as the kernels need it, else a copy."""
    return t if t.shape[-1] == 1 or t.stride(-1) == 1 else t.contiguous()


def _array(t: torch.Tensor) -> _Array:
    array: _Array = (t.detach() if t.requires_grad else t).numpy()
    return array


def _by_direction(tensors: _Tensors | list[torch.Tensor], D: int) -> list[list[Any]]:
    """Return W, U, b_x, b_h of each direction, or what goes with them."""
    arrays = [_array(t) for t in tensors]
    each = len(arrays) // D
    missing = [None] * (4 - each)
    return [[*arrays[d * each : (d + 1) * each], *missing] for d in range(D)]
