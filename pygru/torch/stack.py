# SPDX-License-Identifier: MIT
"""What forward of a module is given, brought to its layers: layouts, packing, dropout.

What PyTorch would find wrong is not found out about here: it goes to PyTorch, whose errors users
know.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch.nn.utils.rnn import PackedSequence

from pygru.torch.coverage import reason_against, say_once, untraced
from pygru.torch.layer import Operands, Plan, recur
from pygru.torch.packing import Packing

__all__ = ["run"]

_Pair: TypeAlias = tuple[torch.Tensor, torch.Tensor]


@untraced
def run(module: Any, pytorch: Callable[..., Any], given: Any, hx: torch.Tensor | None) -> Any:
    """Return ``pytorch(given, hx)``, forward of an nn.GRU or nn.RNN, by the kernels if they can."""
    packed = isinstance(given, PackedSequence)
    tensors = [given.data if packed else given, *module._flat_weights]
    if hx is not None:
        tensors.append(hx)
    reason = reason_against(tensors)
    if reason is None and _plausible(module, tensors):
        result = _run_packed(module, given, hx) if packed else _run_padded(module, given, hx)
        if result is not None:
            return result
    result = pytorch(given, hx)
    if reason is not None:
        say_once(type(module).__name__, reason)
    return result


def _plausible(module: Any, tensors: list[torch.Tensor]) -> bool:
    data, dtype = tensors[0], tensors[0].dtype
    return (
        module.proj_size == 0
        and data.shape[-1:] == (module.input_size,)
        and data.numel() > 0
        and all(t.dtype is dtype for t in tensors)
    )


# These return None where PyTorch would find the arguments wrong.


def _run_padded(module: Any, data: torch.Tensor, hx: torch.Tensor | None) -> _Pair | None:
    if data.dim() == 2:
        if hx is not None and hx.dim() != 2:
            return None
        result = _run_layers(module, data.unsqueeze(1), hx if hx is None else hx.unsqueeze(1))
        return None if result is None else (result[0].squeeze(1), result[1].squeeze(1))
    if data.dim() != 3:
        return None
    if not module.batch_first:
        return _run_layers(module, data, hx)
    result = _run_layers(module, data.transpose(0, 1), hx)
    return None if result is None else (result[0].transpose(0, 1), result[1])


def _run_packed(
    module: Any, given: PackedSequence, hx: torch.Tensor | None
) -> tuple[PackedSequence, torch.Tensor] | None:
    data, batch_sizes, sorted_indices, unsorted_indices = given
    packing = Packing.of(batch_sizes, len(data)) if data.dim() == 2 else None
    if packing is None:
        return None
    if hx is not None:
        hx = module.permute_hidden(hx, sorted_indices)
    result = _run_layers(module, packing.unpack(data), hx, packing)
    if result is None:
        return None
    rows = PackedSequence(packing.pack(result[0]), batch_sizes, sorted_indices, unsorted_indices)
    return rows, module.permute_hidden(result[1], unsorted_indices)


def _run_layers(
    module: Any, x: torch.Tensor, h_0: torch.Tensor | None, packing: Packing | None = None
) -> _Pair | None:
    """Return y (T, B, D*H) and h_n (L*D, B, H) of x (T, B, I) and h_0 (L*D, B, H) or None."""
    L, D = module.num_layers, 2 if module.bidirectional else 1
    if h_0 is not None and h_0.shape != (L * D, x.shape[1], module.hidden_size):
        return None
    plan = Plan(type(module).__name__, module.mode, D, packing)
    weights = module._flat_weights
    each = len(weights) // L
    states = []
    for layer in range(L):
        h_0l = h_0 if h_0 is None or L == 1 else h_0[layer * D : (layer + 1) * D]
        parameters = tuple(weights[layer * each : (layer + 1) * each])
        x, h_n = recur(plan, Operands(x, h_0l, parameters))
        states.append(h_n)
        if module.training and module.dropout and layer < L - 1:
            x = _dropout(x, module.dropout, packing)
    return x, states[0] if L == 1 else torch.cat(states)


def _dropout(x: torch.Tensor, p: float, packing: Packing | None) -> torch.Tensor:
    """Zero elements as PyTorch would: the same draws for the same rows."""
    if packing is None:
        return torch.dropout(x, p, True)
    return packing.unpack(torch.dropout(packing.pack(x), p, True))
