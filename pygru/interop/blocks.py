# SPDX-License-Identifier: MIT
"""What every reader of an outside format makes: blocks, one per module, which become a model.

A block holds a class of pygru, its arguments and its arrays by pygru's names, in its gate order
(r, z, n) and orientation. Sizes come from the arrays that are there, never from what a file claims,
so that no claim can make memory be taken; all of a model is checked before any of it is built.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from pygru.checks import first_few
from pygru.layers import GRU, RNN, Embedding, Linear
from pygru.model import Sequential
from pygru.module import Module
from pygru.parameters import StateDict
from pygru.recurrent import Recurrent
from pygru.regularization import LayerNorm
from pygru.widths import SAME, Widths, chained

__all__ = [
    "Array",
    "Block",
    "Run",
    "build",
    "embedding",
    "fill",
    "linear",
    "modules_of",
    "norm",
    "one_bias",
    "plain",
    "recurrent",
    "runs_of",
    "swap_r_and_z",
]

Array: TypeAlias = npt.NDArray[Any]

GATES: dict[type[Module], int] = {GRU: 3, RNN: 1}


class Run(NamedTuple):
    """One direction of one layer, in pygru's layout; G gates."""

    W: Array  # (G*H, I or D*H)
    U: Array  # (G*H, H)
    b_x: Array | None = None  # (G*H,)
    b_h: Array | None = None  # (G*H,)


class Block(NamedTuple):
    """One module to be."""

    name: str  # as the source calls it
    cls: type[Module]
    config: dict[str, Any]
    arrays: dict[str, Array]
    widths: Widths = SAME


def recurrent(
    name: str,
    cls: type[Module],
    runs: Sequence[Run],
    *,
    bidirectional: bool = False,
    **options: Any,
) -> Block:
    """Return a block of GRU or RNN from its runs in the order of h_n: layers, then directions.

    Raises
    ------
    ValueError
        When a shape does not fit, or only some of the biases are there.
    """
    G, D = GATES[cls], 2 if bidirectional else 1
    if not runs or len(runs) % D:
        raise ValueError(f"{name} must have {D} directions in every layer, got {len(runs)} runs")
    for run in runs:
        if run.W.ndim != 2 or run.U.ndim != 2:
            raise ValueError(
                f"weights of {name} must be matrices, got shapes {run.W.shape} and {run.U.shape}"
            )
    I, H = runs[0].W.shape[1], runs[0].U.shape[1]  # noqa: E741
    if not (I and H):
        raise ValueError(f"{name} must have inputs and units, got I = {I} and H = {H}")
    bias = runs[0].b_x is not None
    arrays = {}
    for k, run in enumerate(runs):
        layer, reverse = divmod(k, D)
        suffix = f"l{layer}" + "_reverse" * reverse
        expected = {
            "weight_ih": (run.W, (G * H, D * H if layer else I)),
            "weight_hh": (run.U, (G * H, H)),
            "bias_ih": (run.b_x, (G * H,)),
            "bias_hh": (run.b_h, (G * H,)),
        }
        for kind, (array, shape) in expected.items():
            if array is None:
                if bias:
                    raise ValueError(f"{name} must have all biases or none, got no {kind}_{suffix}")
                continue
            if len(shape) == 1 and not bias:
                raise ValueError(f"{name} must have all biases or none, got only {kind}_{suffix}")
            if array.shape != shape:
                raise ValueError(
                    f"{kind}_{suffix} of {name} must have shape {shape} (H = {H}, {G} gates), "
                    f"got {array.shape}"
                )
            arrays[f"{kind}_{suffix}"] = array
    config = {
        "input_size": I,
        "hidden_size": H,
        "num_layers": len(runs) // D,
        "bias": bias,
        "bidirectional": bidirectional,
        **options,
    }
    return Block(name, cls, config, arrays, Widths(I, D * H))


def linear(name: str, W: Array, b: Array | None) -> Block:
    """Return a block of Linear from W (M, K) and b (M,)."""
    if W.ndim != 2 or not W.size or (b is not None and b.shape != W.shape[:1]):
        raise ValueError(
            f"{name} must have a weight (M, K) and a bias (M,), "
            f"got {W.shape} and {None if b is None else b.shape}"
        )
    M, K = W.shape
    config = {"in_features": K, "out_features": M, "bias": b is not None}
    arrays = {"weight": W} | ({} if b is None else {"bias": b})
    return Block(name, Linear, config, arrays, Widths(K, M))


def embedding(name: str, W: Array) -> Block:
    """Return a block of Embedding from its table (K, M)."""
    if W.ndim != 2 or not W.size:
        raise ValueError(f"{name} must have a table (K, M), got shape {W.shape}")
    K, M = W.shape
    config = {"num_embeddings": K, "embedding_dim": M}
    return Block(name, Embedding, config, {"weight": W}, Widths(gives=M, classes=True))


def norm(name: str, w: Array, b: Array, eps: float) -> Block:
    """Return a block of LayerNorm from w (K,) and b (K,)."""
    if w.ndim != 1 or not w.size or b.shape != w.shape:
        raise ValueError(f"{name} must have scale and shift (K,), got {w.shape} and {b.shape}")
    K = w.shape[0]
    config = {"normalized_shape": K, "eps": eps}
    return Block(name, LayerNorm, config, {"weight": w, "bias": b}, Widths(K, K))


def plain(name: str, cls: type[Module], **config: Any) -> Block:
    """Return a block of a class without parameters."""
    return Block(name, cls, config, {})


def build(blocks: Sequence[Block], *, row: bool) -> Any:
    """Return the module of one block, or a Sequential of them.

    Parameters
    ----------
    blocks : sequence of Block
    row : bool
        A Sequential even of one.

    Raises
    ------
    ValueError
        When a block does not take what the one before it gives, or precisions are mixed.
    """
    if not blocks:
        raise ValueError("there must be a layer that pygru knows, got none")
    for i, block in enumerate(blocks):
        if block.widths.classes and i:
            raise ValueError(
                f"{block.name} reads integers and must come first, got it as module {i}"
            )
    chained((block.name, block.widths) for block in blocks)
    dtype = _precision(blocks)
    modules = [_module(block, dtype) for block in blocks]
    return Sequential(*modules) if row or len(modules) > 1 else modules[0]  # type: ignore[arg-type]


def _precision(blocks: Sequence[Block]) -> np.dtype[Any]:
    """Return the one precision of all arrays; half is read as single."""
    found = {array.dtype.newbyteorder("=") for block in blocks for array in block.arrays.values()}
    if found <= {np.dtype(np.float32), np.dtype(np.float16)}:
        return np.dtype(np.float32)
    if found == {np.dtype(np.float64)}:
        return np.dtype(np.float64)
    raise ValueError(
        f"weights must all be float32 or all be float64, got {', '.join(sorted(map(str, found)))}"
    )


def _module(block: Block, dtype: np.dtype[Any]) -> Module:
    config = dict(block.config)
    if block.arrays:
        config["dtype"] = dtype
    module = block.cls._from_config(config)
    for name, array in block.arrays.items():
        module.params[name] = array
    return module


def fill(
    into: Module,
    groups: Sequence[tuple[str, Mapping[str, Array], str | None]],
    *,
    ordered: bool = True,
) -> dict[str, Array]:
    """Load groups of arrays into the modules of a model that have parameters.

    Parameters
    ----------
    into : Module
    groups : sequence of (name, arrays, function)
        For each module its arrays by pygru's names, and the function they belong to
        (``"reset='after'"``) where the source tells.
    ordered : bool
        Whether the groups are in the order of the modules. If not, names and shapes tell which is
        which.

    Returns
    -------
    dict
        The arrays by the model's names.

    Raises
    ------
    ValueError
        When numbers, names, shapes or functions do not fit, or they fit in several ways. Nothing
        has been changed then.
    """
    targets = [(prefix, m) for prefix, m in modules_of(into) if m.flat_params.size]
    names = ", ".join(first_few([name or "the only one" for name, _, _ in groups]))
    if len(targets) != len(groups):
        raise ValueError(
            f"into must have as many modules with parameters as the source, {len(groups)} "
            f"({names}), got {len(targets)}"
        )
    if not ordered and len(groups) > 1:
        by_shapes = {_shapes(arrays): (name, arrays, f) for name, arrays, f in groups}
        if len(by_shapes) < len(groups):
            raise ValueError(f"several of {names} have the same shapes: give a dict in order")
        try:
            groups = [by_shapes.pop(_shapes(m.params)) for _, m in targets]
        except KeyError:
            raise ValueError(
                f"into must have modules of the names and shapes of {names}, got "
                f"{', '.join(first_few([repr(m) for _, m in targets]))}"
            ) from None
    arrays: dict[str, Array] = {}
    functions = {}
    for (prefix, _), (_, named, function) in zip(targets, groups, strict=True):
        arrays |= {prefix + key: array for key, array in named.items()}
        if function is not None:
            functions[prefix] = function
    into.load_state_dict(StateDict(arrays, functions))
    return arrays


def _shapes(arrays: Mapping[str, Array]) -> frozenset[tuple[str, tuple[int, ...]]]:
    return frozenset((name, array.shape) for name, array in arrays.items())


def modules_of(model: Module, prefix: str = "") -> list[tuple[str, Module]]:
    """Return every module that is not a Sequential, in order, with the prefix of its names."""
    if not isinstance(model, Sequential):
        return [(prefix, model)]
    return [pair for i, m in enumerate(model) for pair in modules_of(m, f"{prefix}{i}.")]


def runs_of(module: Recurrent) -> list[Run]:
    """Return copies of a layer's weights in the order of h_n: layers, then directions."""
    arrays = module.state_dict()
    names = [name for name in arrays if name.startswith("weight_ih_")]
    runs = []
    for name in names:
        suffix = name.removeprefix("weight_ih_")
        runs.append(
            Run(
                arrays[name],
                arrays[f"weight_hh_{suffix}"],
                arrays.get(f"bias_ih_{suffix}"),
                arrays.get(f"bias_hh_{suffix}"),
            )
        )
    return runs


def one_bias(b_x: Array, b_h: Array) -> Array:
    """Return b_x + b_h for systems that have one; b_x bit for bit (-0 included) where b_h is 0."""
    return np.where(b_h == 0, b_x, b_x + b_h)


def swap_r_and_z(array: Array) -> Array:
    """Exchange the first two of three blocks of rows: between r, z, n and z, r, n."""
    if array.shape[0] % 3:
        raise ValueError(f"gates must come in three blocks of H, got {array.shape[0]} of them")
    first, second, third = np.split(array, 3)
    return np.concatenate([second, first, third])
