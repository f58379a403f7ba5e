# SPDX-License-Identifier: MIT
"""Keras's layers as blocks, and back: gate order z, r, n, matrices (inputs, outputs).

With ``reset_after=True`` a GRU has a bias of (2, 3H), input and recurrent, and is pygru's
``reset="after"``. With ``reset_after=False`` it has one of (3H,), which is b_x here, with b_h = 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pygru.activations import ReLU, Sigmoid, Softmax, Tanh
from pygru.interop import blocks
from pygru.interop.blocks import Array, Block, Run, swap_r_and_z
from pygru.layers import GRU, RNN
from pygru.module import Module
from pygru.pooling import BothEnds, LastStep, MeanOverTime
from pygru.regularization import Dropout
from pygru.shapes import RepeatVector

__all__ = [
    "activation_blocks",
    "arrays_of",
    "class_of",
    "layer_blocks",
    "recurrent_arrays",
    "recurrent_run",
]

ACTIVATIONS: dict[str, type[Module]] = {
    "relu": ReLU,
    "sigmoid": Sigmoid,
    "softmax": Softmax,
    "tanh": Tanh,
}
# What would make a recurrent layer another function. (Dropout acts in training only.)
RECURRENT = {
    "return_state": False, "go_backwards": False, "stateful": False, "time_major": False,
}  # fmt: skip
# What does nothing once training is over.
NOTHING = (
    "ActivityRegularization", "AlphaDropout", "GaussianDropout", "GaussianNoise", "Identity",
    "SpatialDropout1D",
)  # fmt: skip


def class_of(layer: dict[str, Any]) -> str:
    """Return the class of a layer or model, a user's of the same name told apart from Keras's."""
    kind: str = layer["class_name"]
    own = str(layer.get("module", "keras")).partition(".")[0] == "keras"
    return kind if own else f"{kind}, not Keras's own"


def layer_blocks(layer: dict[str, Any], arrays: Sequence[Array]) -> list[Block]:
    """Return the blocks of one layer of Keras.

    Parameters
    ----------
    layer : dict
        As Keras describes it: its class, and what ``layer.get_config()`` gives.
    arrays : sequence of array
        What ``layer.get_weights()`` gives.

    Raises
    ------
    ValueError
        When pygru has no equal of the layer.
    """
    kind, config = class_of(layer), layer["config"]
    name = f"layer {config.get('name')!r} ({kind})"
    policy = config.get("dtype") or "float32"
    if isinstance(policy, dict):
        policy = policy.get("config", {}).get("name")
    if policy not in ("float32", "float64"):
        raise ValueError(f"{name} must compute in float32 or float64, got {policy!r}")
    if kind in ("GRU", "SimpleRNN"):
        run, cls, function = _recurrent(kind, name, config, arrays)
        block = blocks.recurrent(name, cls, [run], batch_first=True, **function)
        return [block, *_pooled(name, config, LastStep)]
    if kind == "Bidirectional":
        return _bidirectional(name, config, arrays)
    if kind == "TimeDistributed":
        inner = config["layer"]
        if class_of(inner) != "Dense":
            raise ValueError(f"{name} must hold a Dense, got {class_of(inner)}")
        return layer_blocks(inner, arrays)
    if kind == "Dense":
        kernel, bias = _take(name, arrays, 1 + bool(config.get("use_bias", True)), 2)
        made = blocks.linear(name, _matrix(name, kernel).T, bias)
        return [made, *activation_blocks(name, config.get("activation"))]
    if kind == "Embedding":
        _require(name, config, {"mask_zero": False})
        return [blocks.embedding(name, _take(name, arrays, 1, 1)[0])]
    if kind == "LayerNormalization":
        _require(name, config, {"center": True, "scale": True, "rms_scaling": False})
        if config.get("axis") not in (-1, [-1]):
            raise ValueError(f"{name} must have axis=-1, got {config.get('axis')!r}")
        gamma, beta = _take(name, arrays, 2, 2)
        return [blocks.norm(name, gamma, beta, float(config["epsilon"]))]
    if arrays:
        raise ValueError(f"{name} must be a layer that pygru has an equal of")
    if kind in NOTHING:
        return []
    if kind == "Dropout":
        return [blocks.plain(name, Dropout, p=float(config["rate"]))]
    if kind == "Activation":
        return activation_blocks(name, config["activation"])
    if kind == "ReLU":
        _require(name, config, {"max_value": None, "negative_slope": 0.0, "threshold": 0.0})
        return [blocks.plain(name, ReLU)]
    if kind == "Softmax":
        _require(name, config, {"axis": -1})
        return [blocks.plain(name, Softmax)]
    if kind == "RepeatVector":
        return [blocks.plain(name, RepeatVector, n=config["n"], batch_first=True)]
    if kind == "GlobalAveragePooling1D":
        _require(name, config, {"data_format": "channels_last", "keepdims": False})
        return [blocks.plain(name, MeanOverTime, batch_first=True)]
    raise ValueError(f"{name} must be a layer that pygru has an equal of")


def _bidirectional(name: str, config: dict[str, Any], arrays: Sequence[Array]) -> list[Block]:
    _require(name, config, {"merge_mode": "concat"})
    runs, functions = [], []
    for way, direction in enumerate(("layer", "backward_layer")):
        inner = config[direction]
        kind, of = class_of(inner), inner["config"]
        half = len(arrays) // 2
        if kind not in ("GRU", "SimpleRNN"):
            raise ValueError(f"{name} must hold a GRU or SimpleRNN, got {kind}")
        if bool(of.get("go_backwards")) != bool(way):
            raise ValueError(f"{name} must read forwards and backwards, got {direction} otherwise")
        of = of | {"go_backwards": False}
        mine = arrays[way * half : (way + 1) * half]
        run, cls, function = _recurrent(kind, f"{name}.{direction}", of, mine)
        runs.append(run)
        functions.append((cls, function, bool(of.get("return_sequences"))))
    (cls, function, _), other = functions
    if functions[0] != other:
        raise ValueError(f"{name} must have two directions of one kind, got two that differ")
    block = blocks.recurrent(name, cls, runs, bidirectional=True, batch_first=True, **function)
    return [block, *_pooled(name, config["layer"]["config"], BothEnds)]


def _recurrent(
    kind: str, name: str, config: dict[str, Any], arrays: Sequence[Array]
) -> tuple[Run, type[Module], dict[str, Any]]:
    """Return weights, class and function of one direction."""
    _require(name, config, RECURRENT)
    biased = bool(config.get("use_bias", True))
    kernel, recurrent, bias = _take(name, arrays, 2 + biased, 3)
    if kind == "SimpleRNN":
        function = config.get("activation", "tanh")
        if function not in ("tanh", "relu"):
            raise ValueError(f"{name} must have activation='tanh' or 'relu', got {function!r}")
        run, _ = recurrent_run(name, RNN, kernel, recurrent, bias)
        return run, RNN, {"nonlinearity": function}
    _require(name, config, {"activation": "tanh", "recurrent_activation": "sigmoid"})
    reset = "after" if config.get("reset_after", True) else "before"
    run, found = recurrent_run(name, GRU, kernel, recurrent, bias)
    if found not in (None, reset):
        raise ValueError(
            f"{name} must have the bias of reset_after={config.get('reset_after')}, "
            f"got one of shape {bias.shape}, that of reset={found!r}"
        )
    return run, GRU, {"reset": reset}


def recurrent_run(
    name: str, cls: type[Module], kernel: Array, recurrent: Array, bias: Array | None
) -> tuple[Run, str | None]:
    """Return one direction in pygru's layout and, where the bias tells it, the reset variant."""
    W, U = _matrix(name, kernel).T, _matrix(name, recurrent).T
    if cls is RNN:
        return Run(W, U, bias, None if bias is None else np.zeros_like(bias)), None
    W, U = swap_r_and_z(W), swap_r_and_z(U)
    if bias is None:
        return Run(W, U), None
    if bias.ndim == 2 and bias.shape[0] == 2:
        return Run(W, U, swap_r_and_z(bias[0]), swap_r_and_z(bias[1])), "after"
    return Run(W, U, swap_r_and_z(bias), np.zeros_like(bias)), "before"


def recurrent_arrays(cls: type[Module], reset: str | None, run: Run) -> list[Array]:
    """Return kernel, recurrent kernel and bias of one direction, as Keras has them.

    Where Keras has one bias it is b_x + b_h, which is b_x itself where b_h is 0.
    """
    W, U, b_x, b_h = run
    if cls is GRU:
        W, U = swap_r_and_z(W), swap_r_and_z(U)
    arrays = [np.ascontiguousarray(W.T), np.ascontiguousarray(U.T)]
    if b_x is None or b_h is None:
        return arrays
    if cls is RNN:
        return [*arrays, blocks.one_bias(b_x, b_h)]
    if reset == "before":
        return [*arrays, swap_r_and_z(blocks.one_bias(b_x, b_h))]
    return [*arrays, np.stack([swap_r_and_z(b_x), swap_r_and_z(b_h)])]


def arrays_of(module: Module) -> list[Array]:
    """Return the weights of Linear, Embedding or LayerNorm, as Keras has them."""
    arrays = list(module.state_dict().values())
    if type(module).__name__ == "Linear":
        arrays[0] = np.ascontiguousarray(arrays[0].T)
    return arrays


def _pooled(name: str, config: dict[str, Any], cls: type[Module]) -> list[Block]:
    """Return what a recurrent layer that gives its last state alone is followed by."""
    return [] if config.get("return_sequences") else [blocks.plain(name, cls, batch_first=True)]


def activation_blocks(name: str, activation: Any) -> list[Block]:
    """Return the block of an activation by its name, none for that which does nothing."""
    if activation in (None, "", "linear"):
        return []
    if not isinstance(activation, str) or activation not in ACTIVATIONS:
        raise ValueError(
            f"{name} must have one of the activations {sorted(ACTIVATIONS)}, got {activation!r}"
        )
    return [blocks.plain(name, ACTIVATIONS[activation])]


def _require(name: str, config: dict[str, Any], values: dict[str, Any]) -> None:
    for key, value in values.items():
        if config.get(key, value) != value:
            raise ValueError(f"{name} must have {key}={value!r}, got {config[key]!r}")


def _take(name: str, arrays: Sequence[Array], count: int, places: int) -> list[Any]:
    """Return exactly ``count`` arrays, None in the places that are left."""
    if len(arrays) != count:
        raise ValueError(f"{name} must have {count} arrays of weights, got {len(arrays)}")
    for array in arrays:
        if array.dtype.kind != "f":
            raise ValueError(f"weights of {name} must be real numbers, got {array.dtype}")
    return [*arrays, *[None] * (places - count)]


def _matrix(name: str, array: Array) -> Array:
    if array.ndim != 2:
        raise ValueError(f"{name} must have kernels (inputs, outputs), got shape {array.shape}")
    return array
