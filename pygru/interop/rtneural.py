# SPDX-License-Identifier: MIT
"""RTNeural's JSON, in both flavours: layers as Keras has them, or a state_dict of PyTorch's.

The Keras flavour is ``{"in_shape": [..., I], "layers": [{"type": "gru", "shape": [..., H],
"activation": "tanh", "weights": [kernel, recurrent kernel, bias (2, 3H)]}, ...]}``, gates z, r, h;
the other one ``{"gru.weight_ih_l0": [[...]], ...}``, gates r, z, n. RTNeural's GRU is
``reset="after"``, always has a bias, and gives every step.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from reprlib import repr as short
from typing import Any

import numpy as np
import numpy.typing as npt

from pygru.activations import Activation
from pygru.checks import as_choice, as_float_dtype
from pygru.composite import check_own
from pygru.interop import blocks
from pygru.interop.blocks import Array, Block, modules_of, runs_of
from pygru.interop.checking import unavailable
from pygru.interop.containers import check_into, is_path, path_of, reading
from pygru.interop.json_arrays import read_json
from pygru.interop.keras_check import compare_with_keras, keras_row
from pygru.interop.keras_layers import (
    activation_blocks,
    arrays_of,
    recurrent_arrays,
    recurrent_run,
)
from pygru.interop.state_dicts import from_arrays
from pygru.interop.torch import compare_with_torch
from pygru.layers import GRU, Linear
from pygru.module import Module
from pygru.regularization import Dropout

__all__ = ["from_rtneural", "to_rtneural"]

DENSE = ("dense", "time-distributed-dense")


def from_rtneural(
    source: Any,
    into: Module | None = None,
    *,
    dtype: npt.DTypeLike = np.float32,
    check: bool = False,
) -> Any:
    """Make a model of RTNeural's JSON: every layer of the file, the same weights.

    Parameters
    ----------
    source : path-like or dict
        A file or what it holds: GRU, dense and activation layers, or a state_dict of nested lists.
    into : Module, optional
        For the torch flavour, as for `from_torch`.
    dtype : float32 or float64
        Of the model. A number in JSON has no precision of its own.
    check : bool
        Where Keras (or PyTorch, for its flavour) is installed, give it the file's weights, run both
        on random input and print the largest absolute difference.

    Returns
    -------
    Module
        A Sequential, or of the torch flavour whatever `from_torch` gives. Time first.

    Raises
    ------
    TypeError
        When the source is none of these.
    ValueError
        When a layer has no equal in pygru, named; when a file is corrupt.

    Examples
    --------
    >>> model = pygru.Sequential(pygru.GRU(1, 8, rng=0), pygru.Linear(8, 1, rng=1), pygru.Tanh())
    >>> [layer["type"] for layer in to_rtneural(model)["layers"]]
    ['gru', 'dense']
    >>> same = from_rtneural(to_rtneural(model))
    >>> np.array_equal(same.flat_params, model.flat_params)
    True
    """
    check_into("from_rtneural", into)
    if not is_path(source) and not isinstance(source, Mapping):
        raise TypeError(
            f"from_rtneural: source must be a path or a dict, got {type(source).__name__}"
        )
    precision = as_float_dtype("from_rtneural", dtype)
    path = path_of("from_rtneural", source)
    with reading("from_rtneural", path):
        content = source if path is None else read_json(path, precision)
        if not isinstance(content, Mapping):
            raise ValueError(f"must hold an object, got {type(content).__name__}")
        if not content:
            raise ValueError("must hold layers or a state_dict, got an empty object")
        whole = "layers" in content
        if whole:
            if into is not None:
                raise ValueError("into must be None where the file tells the layers")
            made, given = _of_layers(content, precision)
            model = blocks.build(made, row=True)
        else:
            named = {name: _array(name, value, precision) for name, value in content.items()}
            model, weights = from_arrays(named, into, ordered=True)
    if check and whole and not unavailable("from_rtneural", "keras", "keras"):
        theirs = keras_row("from_rtneural", model)
        theirs.set_weights(given)
        compare_with_keras("from_rtneural", model, theirs)
    elif check and not whole and not unavailable("from_rtneural", "torch", "torch"):
        compare_with_torch("from_rtneural", model, weights)
    return model


def _of_layers(content: Mapping[str, Any], dtype: Any) -> tuple[list[Block], list[Array]]:
    """Return the blocks of the Keras flavour, and all weights as the file has them."""
    made: list[Block] = []
    given: list[Array] = []
    width = _last(content.get("in_shape"))
    if not isinstance(content["layers"], (list, tuple)):
        raise ValueError("layers must be a list of objects")
    for i, layer in enumerate(content["layers"]):
        if not isinstance(layer, Mapping) or "type" not in layer:
            raise ValueError(f"layer {i} must be an object with a type, got {short(layer)}")
        kind = layer["type"]
        name = f"layer {i} ({kind})"
        listed = layer.get("weights", [])
        many = listed.ndim if isinstance(listed, np.ndarray) else isinstance(listed, Sequence)
        if not many:
            raise ValueError(f"{name} must have a list of weights, got {short(listed)}")
        weights = [_array(f"weights of {name}", w, dtype) for w in listed]
        activation, out = layer.get("activation", ""), None
        if kind == "gru":
            if len(weights) != 3:
                raise ValueError(f"{name} must have kernel, recurrent kernel and bias")
            if weights[2].ndim == 1:
                raise ValueError(
                    f"{name} must have a bias (2, 3H), that of reset='after', which is RTNeural's "
                    f"only GRU; got {weights[2].shape}, the bias of reset='before'"
                )
            if activation not in ("", "tanh"):
                raise ValueError(f"{name} must have activation 'tanh', got {activation!r}")
            run, _ = recurrent_run(name, GRU, *weights)
            made.append(blocks.recurrent(name, GRU, [run], reset="after"))
            out = made[-1].widths.gives
        elif kind in DENSE:
            if len(weights) not in (1, 2) or weights[0].ndim != 2:
                raise ValueError(f"{name} must have a kernel (inputs, outputs) and maybe a bias")
            made.append(
                blocks.linear(name, weights[0].T, weights[1] if len(weights) == 2 else None)
            )
            out = made[-1].widths.gives
            made += activation_blocks(name, activation)
        elif kind == "activation":
            made += activation_blocks(name, activation)
        else:
            raise ValueError(f"{name} must be one of gru, {', '.join(DENSE)}, activation")
        shape = _last(layer.get("shape"))
        if None not in (out, shape) and out != shape:
            raise ValueError(f"{name} must give the {shape} features of its shape, got {out}")
        given += weights
    first = next((b.widths.reads for b in made if b.widths.reads is not None), None)
    if None not in (first, width) and first != width:
        raise ValueError(f"the first layer must take the {width} of in_shape, got {first}")
    return made, given


def _last(shape: Any) -> int | None:
    """Return the last number of a shape like [null, null, 8]."""
    if not isinstance(shape, Sequence | np.ndarray) or len(shape) == 0 or shape[-1] is None:
        return None
    return int(shape[-1])


def _array(name: str, value: Any, dtype: Any) -> Array:
    try:
        array = np.asarray(value, dtype)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be a list of equal lists of numbers") from None
    return array


# Back


def to_rtneural(model: Module, *, flavour: str = "keras") -> dict[str, Any]:
    """Return a model as RTNeural's JSON holds it, for ``json.dump``.

    Parameters
    ----------
    model : Module
        GRU with ``reset="after"`` in one direction, Linear and activations; Dropout does nothing
        there.
    flavour : {"keras", "torch"}
        Layers for ``RTNeural::json_parser``, or a state_dict for ``RTNeural::torch_helpers``.

    Returns
    -------
    dict

    Raises
    ------
    TypeError, ValueError
        When RTNeural has no equal of a module, a derived class computes its own way, or the flavour
        is unknown.

    Examples
    --------
    >>> gru = pygru.GRU(1, 8, rng=0)
    >>> list(to_rtneural(gru, flavour="torch"))
    ['weight_ih_l0', 'weight_hh_l0', 'bias_ih_l0', 'bias_hh_l0']
    """
    as_choice("to_rtneural", "flavour", flavour, ("keras", "torch"))
    check_own("to_rtneural", model)
    layers = [layer for _, module in modules_of(model) for layer in _layers(module)]
    if flavour == "torch":
        return {name: array.tolist() for name, array in model.state_dict().items()}
    merged: list[dict[str, Any]] = []
    width = None
    for layer in layers:
        if layer["type"] == "activation":
            if merged and merged[-1]["type"] == "dense" and not merged[-1]["activation"]:
                merged[-1]["activation"] = layer["activation"]
                continue
            layer["shape"] = [None, None, width]
        width = layer["shape"][-1]
        merged.append(layer)
    first = next((layer for layer in merged if layer["weights"]), None)
    if first is None:
        raise ValueError("to_rtneural: model must hold a GRU or a Linear")
    return {"in_shape": [None, None, len(first["weights"][0])], "layers": merged}


def _layers(module: Module) -> Iterator[dict[str, Any]]:
    """Give the layers of one module."""
    if isinstance(module, GRU) and module.reset == "after" and not module.bidirectional:
        for run in runs_of(module):
            H = run.U.shape[1]
            if run.b_x is None or run.b_h is None:  # RTNeural's always has one
                zeros = np.zeros(3 * H, module.dtype)
                run = run._replace(b_x=zeros, b_h=zeros)
            yield _layer("gru", "tanh", H, recurrent_arrays(GRU, "after", run))
    elif isinstance(module, Linear):
        yield _layer("dense", "", module.out_features, arrays_of(module))
    elif isinstance(module, Activation):
        yield _layer("activation", type(module).__name__.lower(), None, [])
    elif not isinstance(module, Dropout):
        raise ValueError(
            "to_rtneural: model must be of GRU with reset='after' in one direction, Linear and "
            f"activations, got {module!r}"
        )


def _layer(kind: str, activation: str, width: int | None, weights: list[Array]) -> dict[str, Any]:
    return {
        "type": kind,
        "activation": activation,
        "shape": [None, None, width],
        "weights": [array.tolist() for array in weights],
    }
