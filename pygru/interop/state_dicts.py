# SPDX-License-Identifier: MIT
"""State dicts: which modules their names and shapes tell of.

A state_dict holds weights and not the function they belong to. What it leaves open (nonlinearity,
eps, what stands between the modules) is asked for, never guessed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from pygru.cells import RecurrentCell
from pygru.checks import first_few, listed
from pygru.interop import blocks
from pygru.interop.blocks import Array, Block, Run
from pygru.layers import GRU, RNN
from pygru.module import Module

__all__ = ["as_array", "as_arrays", "from_arrays", "recurrent_block"]

# The rows of weight_hh_l0 over its columns are the gates.
CELLS_BY_GATES = {1: "RNN", 3: "GRU", 4: "LSTM"}


def from_arrays(
    named: Mapping[str, Array], into: Module | None, *, ordered: bool
) -> tuple[Any, dict[str, Array]]:
    """Make a model of the arrays of a state_dict, or load them into one.

    Returns
    -------
    model : Module
    arrays : dict
        The same arrays by the model's names.
    """
    groups = _groups(named)
    ordered = ordered or _numbered(groups)
    if into is not None:
        parts = []
        for name, group in groups.items():
            layer = _as_layer(group)
            fitting = group if isinstance(into, RecurrentCell) else layer
            parts.append((name, fitting, _function(layer)))
        return into, blocks.fill(into, parts, ordered=ordered)
    row = _of_state_dict(groups, ordered)
    prefixes = [f"{i}." for i in range(len(row))] if len(row) > 1 else [""]
    pairs = zip(prefixes, groups.values(), strict=True)
    arrays = {prefix + key: array for prefix, group in pairs for key, array in group.items()}
    return blocks.build(row, row=False), arrays


def as_arrays(state_dict: Mapping[str, Any]) -> dict[str, Array]:
    """Return tensors or arrays by name as arrays."""
    named = {}
    for name, value in state_dict.items():
        if not isinstance(name, str):
            raise ValueError(f"state_dict must have names as keys, got {name!r}")
        named[name] = as_array(name, value)
    if not named:
        raise ValueError("state_dict must hold weights, got none")
    return named


def as_array(name: str, value: Any) -> Array:
    """Return a tensor or array as an array, bfloat16 as float32."""
    if ".parametrizations." in f".{name}" or name.endswith(("_orig", "_g")):
        raise ValueError(
            f"weights must be what the module computes with, got {name!r}: call remove_"
            "parametrizations, remove_weight_norm, remove_spectral_norm or prune.remove first"
        )
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        if str(value.dtype) == "torch.bfloat16":
            value = value.float()
        value = value.numpy()
    if not isinstance(value, np.ndarray) or value.dtype.kind != "f":
        kind = value.dtype if isinstance(value, np.ndarray) else type(value).__name__
        raise ValueError(f"state_dict must hold arrays of real numbers, got {kind} at {name!r}")
    return value


def _groups(named: Mapping[str, Array]) -> dict[str, dict[str, Array]]:
    """Return prefix -> its arrays, in the order in which the prefixes first occur."""
    groups: dict[str, dict[str, Array]] = {}
    for name, array in named.items():
        prefix, _, short = name.rpartition(".")
        groups.setdefault(prefix, {})[short] = array
    if _numbered(groups):  # a file may be sorted by name, 10 before 2
        order = sorted(groups, key=lambda prefix: [int(part) for part in prefix.split(".")])
        groups = {prefix: groups[prefix] for prefix in order}
    return groups


def _numbered(groups: Mapping[str, Any]) -> bool:
    """Return whether modules are called 0, 1, 2.0, 2.1 ..., so that names give their order."""
    return all(part.isdigit() for prefix in groups for part in prefix.split("."))


def _as_layer(arrays: dict[str, Array]) -> dict[str, Array]:
    """Return the arrays of a GRUCell or RNNCell by the names of a layer of one, others as given."""
    if "weight_hh" not in arrays:
        return arrays
    return {f"{key}_l0": array for key, array in arrays.items()}


def _cell(arrays: Mapping[str, Array]) -> str | None:
    """Return GRU, RNN or LSTM for the arrays of a recurrent layer, None for another's."""
    W, U = arrays.get("weight_ih_l0"), arrays.get("weight_hh_l0")
    if W is None or U is None:
        return None
    if "weight_hr_l0" in arrays or any(key.startswith("weight_hr_l") for key in arrays):
        return "LSTM with proj_size"
    if W.ndim != 2 or U.ndim != 2 or not U.shape[1] or U.shape[0] % U.shape[1]:
        raise ValueError(
            f"weight_hh_l0 must have shape (gates * H, H), got {U.shape} and {W.shape} for "
            "weight_ih_l0"
        )
    gates = U.shape[0] // U.shape[1]
    return CELLS_BY_GATES.get(gates, f"a layer of {gates} gates")


def _function(arrays: Mapping[str, Array]) -> str | None:
    return "reset='after'" if _cell(arrays) == "GRU" else None


def _of_state_dict(groups: dict[str, dict[str, Array]], ordered: bool) -> list[Block]:
    """Return the blocks of a state_dict, as far as it tells."""
    names = ", ".join(first_few(list(groups)))
    if len(groups) > 1 and not ordered:
        raise ValueError(
            f"holds modules sorted by name ({names}) and does not tell which reads "
            "which: needs into"
        )
    if any(prefix.isdigit() for prefix in groups) and list(groups) != [
        str(i) for i in range(len(groups))
    ]:
        raise ValueError(
            f"state_dict must name modules 0, 1, 2 ... without a gap, got {names}; it "
            "does not tell what stands between: needs into"
        )
    result: list[Block] = []
    for i, (prefix, arrays) in enumerate(groups.items()):
        name, cell = prefix or "the state_dict", _cell(arrays)
        if cell == "GRU":
            result.append(recurrent_block(name, arrays, {"reset": "after"}))
        elif cell == "RNN":
            raise ValueError(
                f"{name} is an RNN and a state_dict does not tell its nonlinearity: needs into"
            )
        elif cell is not None:
            raise ValueError(f"{name} must be a GRU or an RNN, got {cell}")
        elif set(arrays) == {"weight", "bias"} and arrays["weight"].ndim == 2:
            result.append(blocks.linear(name, arrays["weight"], arrays["bias"]))
        elif set(arrays) == {"weight"} and arrays["weight"].ndim == 2:
            result.append(_table_or_linear(name, arrays["weight"], groups, i))
        elif set(arrays) == {"weight", "bias"} and arrays["weight"].ndim == 1:
            raise ValueError(
                f"{name} is a normalisation and a state_dict does not tell its eps: needs into"
            )
        else:
            shapes = {key: array.shape for key, array in arrays.items()}
            raise ValueError(f"{name} must be a module that pygru has, got {shapes}")
    return result


def _table_or_linear(
    name: str, weight: Array, groups: dict[str, dict[str, Array]], i: int
) -> Block:
    """Tell an Embedding from a Linear without bias by what reads its output."""
    if i > 0:
        return blocks.linear(name, weight, None)
    following = list(groups.values())[1:2]
    reader = [g[key].shape[-1] for g in following for key in ("weight_ih_l0", "weight") if key in g]
    fits = [axis for axis in (0, 1) if reader and weight.shape[axis] == reader[0]]
    if fits == [1]:
        return blocks.embedding(name, weight)
    if fits == [0]:
        return blocks.linear(name, weight, None)
    raise ValueError(
        f"{name} is an Embedding or a Linear without bias, which a state_dict does not tell: "
        "needs into"
    )


def recurrent_block(name: str, arrays: Mapping[str, Array], options: dict[str, Any]) -> Block:
    """Return the block of one recurrent layer's arrays by PyTorch's names."""
    runs, left = [], dict(arrays)
    bidirectional = any(key.endswith("_reverse") for key in arrays)
    for layer in range(len(arrays)):
        for suffix in (f"l{layer}", f"l{layer}_reverse")[: 1 + bidirectional]:
            if f"weight_ih_{suffix}" not in left or f"weight_hh_{suffix}" not in left:
                continue
            W, U = left.pop(f"weight_ih_{suffix}"), left.pop(f"weight_hh_{suffix}")
            b_x, b_h = left.pop(f"bias_ih_{suffix}", None), left.pop(f"bias_hh_{suffix}", None)
            runs.append(Run(W, U, b_x, b_h))
    if left:
        got = listed(sorted(left))
        raise ValueError(f"{name} must hold whole layers of a GRU or RNN, got also {got}")
    cls = GRU if "reset" in options else RNN
    return blocks.recurrent(name, cls, runs, bidirectional=bidirectional, **options)
