# SPDX-License-Identifier: MIT
"""Keras 3: whole models in .keras files, weights in .weights.h5 files and models in memory.

Neither Keras nor TensorFlow is imported to read or write weights, h5py is. Keras is always
batch first, and so are the models made here.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pygru.checks import listed
from pygru.composite import check_own
from pygru.files import as_path
from pygru.interop import blocks
from pygru.interop.blocks import Array, Block, modules_of, runs_of
from pygru.interop.checking import unavailable
from pygru.interop.containers import check_into, is_path, path_of, reading
from pygru.interop.keras_check import compare_with_keras, keras_row
from pygru.interop.keras_files import read_archive, read_weights, write_weights
from pygru.interop.keras_layers import (
    arrays_of,
    class_of,
    layer_blocks,
    recurrent_arrays,
    recurrent_run,
)
from pygru.layers import GRU, Embedding, Linear
from pygru.module import Module
from pygru.recurrent import Recurrent
from pygru.regularization import LayerNorm

__all__ = ["from_keras", "to_keras_weights", "write_keras_weights"]

CLASSES = {Linear: "dense", Embedding: "embedding", LayerNorm: "layer_normalization"}


def from_keras(source: Any, into: Module | None = None, *, check: bool = False) -> Any:
    """Make a model of a Keras 3 model: same functions, same weights, bit for bit.

    Parameters
    ----------
    source : path-like or keras.Model
        A .keras file, a .weights.h5 file, or a model: a row (Sequential, or a functional model
        without branches) of GRU, SimpleRNN, Bidirectional of these, Dense, Embedding, Dropout,
        LayerNormalization, Activation, ReLU, Softmax, RepeatVector, GlobalAveragePooling1D.
    into : Module, optional
        For a .weights.h5 file, which holds weights alone: the model to load them into. Every layer
        of a GRU or RNN is a layer of its own in Keras.
    check : bool
        Where Keras is installed run both on random input, print the largest absolute difference.

    Returns
    -------
    Sequential
        Or ``into``, if given. A recurrent layer without return_sequences is followed by LastStep,
        or by BothEnds if bidirectional; reset_after is ``reset``. What acts in training only
        (dropout inside a recurrent layer, noise, regularisers, constraints) does not come along.

    Raises
    ------
    TypeError
        When the source is none of these.
    ValueError
        When a layer or an option of one has no equal in pygru, named; when a file is corrupt.
    ImportError
        When a file is given and h5py is not installed.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> model = pygru.Sequential(pygru.GRU(3, 4, reset="before", batch_first=True, rng=0))
    >>> with tempfile.TemporaryDirectory() as folder:  # doctest: +SKIP
    ...     path = pathlib.Path(folder) / "model.weights.h5"
    ...     write_keras_weights(model, path)
    ...     from_keras(path, into=pygru.GRU(3, 4, reset="before"))
    GRU(input_size=3, hidden_size=4, ..., reset='before', dtype='float32')
    """
    check_into("from_keras", into)
    if not is_path(source) and not hasattr(source, "get_config"):
        raise TypeError(
            f"from_keras: source must be a path or a keras.Model, got {type(source).__name__}"
        )
    path = path_of("from_keras", source)
    with reading("from_keras", path):
        whole = path is None or path.suffix == ".keras"
        if whole and into is not None:
            raise ValueError("into must be None for a whole model, which tells everything itself")
        if path is not None and not whole:
            with path.open("rb") as file:
                groups = read_weights(file)
            if into is None:
                raise ValueError("holds weights alone, needs into, a model to load them into")
            model: Module = into
            _fill(into, groups)
        elif path is not None:
            config, weights = read_archive(path)
            rows = _rows(config)
            model = blocks.build(_of_archive(rows, read_weights(weights)), row=True)
        else:
            cls = type(source)
            config = {"class_name": cls.__name__, "module": cls.__module__}
            rows = _rows(config | {"config": source.get_config()})
            named = {layer.name: layer.get_weights() for layer in source.layers}
            made = [
                layer_blocks(layer, named.get(layer["config"].get("name"), [])) for layer in rows
            ]
            model = blocks.build([block for row in made for block in row], row=True)
    if check and not unavailable("from_keras", "keras", "keras"):
        _check(model, source, path)
    return model


def _rows(model: Any) -> list[dict[str, Any]]:
    """Return every layer of a model that is a row of layers, as Keras describes it."""
    kind, config = class_of(model), model["config"]
    if kind not in ("Sequential", "Functional", "Model"):
        raise ValueError(f"must be a Sequential or Functional model, got {kind}")
    rows: list[dict[str, Any]] = []
    before = None
    for layer in config["layers"]:
        name = layer["config"].get("name")
        if kind != "Sequential":
            read = list(_inputs(layer.get("inbound_nodes", [])))
            if read != ([] if before is None else [before]):
                raise ValueError(
                    f"layer {name!r} must read the layer before it alone, {before!r}, got {read}"
                )
        before = name
        if layer["class_name"] != "InputLayer":
            rows.append(layer)
    if kind != "Sequential" and (outputs := list(_outputs(config["output_layers"]))) != [before]:
        raise ValueError(f"must have one output, that of its last layer, got {outputs}")
    return rows


def _inputs(nodes: Any) -> Iterator[str]:
    """Give the layer of every tensor that a call refers to."""
    if isinstance(nodes, dict):
        if "keras_history" in nodes:
            yield nodes["keras_history"][0]
        nodes = list(nodes.values())
    if isinstance(nodes, (list, tuple)):
        for node in nodes:
            yield from _inputs(node)


def _outputs(nest: Any) -> Iterator[str]:
    """Give the layer of every output: [name, node, place], or a list or dict of these."""
    values = list(nest.values()) if isinstance(nest, dict) else nest
    if values and isinstance(values[0], str):
        yield values[0]
        return
    for value in values:
        yield from _outputs(value)


def _of_archive(rows: list[dict[str, Any]], groups: dict[str, list[Array]]) -> list[Block]:
    """Return the blocks of a .keras file."""
    made: list[Block] = []
    used: dict[str, int] = {}
    for layer in rows:
        kind = layer["class_name"]
        at = f"layers/{_group(kind, used)}"
        arrays: list[Array] = []
        for inside in {
            "GRU": ["/cell"],
            "SimpleRNN": ["/cell"],
            "Bidirectional": ["/forward_layer/cell", "/backward_layer/cell"],
            "TimeDistributed": ["/layer"],
        }.get(kind, [""]):
            arrays += groups.pop(f"{at}{inside}/vars", [])
        made += layer_blocks(layer, arrays)
    _all_used(groups)
    return made


def _group(kind: str, used: dict[str, int]) -> str:
    """Return what Keras calls the next layer of a class: simple_rnn, simple_rnn_1, ..."""
    import re

    snake = re.sub(r"\W+", "", kind)
    snake = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", snake)
    snake = re.sub("([a-z])([A-Z])", r"\1_\2", snake).lower()
    used[snake] = used.get(snake, -1) + 1
    return f"{snake}_{used[snake]}" if used[snake] else snake


def _all_used(groups: dict[str, list[Array]]) -> None:
    if groups:
        got = listed(sorted(groups))
        raise ValueError(f"must hold the weights of its layers alone, got also {got}")


# Weights alone


def _layers(model: Module) -> Iterator[tuple[str, Module, int]]:
    """Give every layer that Keras would have: its group, the module, which layer of it."""
    used: dict[str, int] = {}
    for _, module in modules_of(model):
        if isinstance(module, Recurrent):
            kind = "GRU" if isinstance(module, GRU) else "SimpleRNN"
            for layer in range(module.num_layers):
                name = "Bidirectional" if module.bidirectional else kind
                yield f"layers/{_group(name, used)}", module, layer
        elif type(module) in CLASSES:
            yield f"layers/{_group(CLASSES[type(module)], used)}", module, 0
        elif module.flat_params.size:
            raise ValueError(f"model must be of modules that Keras has, got {module!r}")


def _cells(group: str, module: Recurrent) -> list[str]:
    """Return the groups of one layer's directions."""
    if module.bidirectional:
        return [f"{group}/forward_layer/cell/vars", f"{group}/backward_layer/cell/vars"]
    return [f"{group}/cell/vars"]


def _fill(into: Module, groups: dict[str, list[Array]]) -> None:
    """Load the groups of a weights file into a model."""
    found: dict[int, tuple[str, dict[str, Array], str | None]] = {}
    for group, module, layer in _layers(into):
        name, arrays, function = found.setdefault(id(module), (group, {}, None))
        if isinstance(module, Recurrent):
            for way, cell in enumerate(_cells(group, module)):
                taken = [*_pop(groups, cell, 2 + module.bias), None][:3]
                run, reset = recurrent_run(cell, type(module), *taken)
                suffix = f"l{layer}" + "_reverse" * way
                kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
                arrays |= {
                    f"{kind}_{suffix}": array
                    for kind, array in zip(kinds, run, strict=True)
                    if array is not None
                }
                if reset is not None:
                    function = f"reset={reset!r}"
            found[id(module)] = (name, arrays, function)
        else:
            taken = _pop(groups, f"{group}/vars", len(module.params))
            if isinstance(module, Linear):
                taken[0] = taken[0].T
            arrays |= dict(zip(module.params, taken, strict=True))
    _all_used(groups)
    blocks.fill(into, list(found.values()))


def _pop(groups: dict[str, list[Array]], group: str, count: int) -> list[Any]:
    arrays = groups.pop(group, [])
    if len(arrays) != count:
        raise ValueError(f"must hold {count} arrays in {group}, got {len(arrays)}")
    return list(arrays)


def to_keras_weights(model: Module) -> list[Array]:
    """Return a model's weights as ``set_weights`` of the same Keras model takes them.

    Every layer of a GRU or RNN is a layer of its own there. Where Keras has one bias (SimpleRNN,
    and GRU with reset_after=False) it gets b_x + b_h.

    Parameters
    ----------
    model : Module

    Returns
    -------
    list of ndarray

    Raises
    ------
    ValueError
        When Keras has no equal of a module.
    TypeError
        When a part of the model computes otherwise than pygru's own classes do.

    Examples
    --------
    >>> [w.shape for w in to_keras_weights(pygru.GRU(3, 4))]
    [(3, 12), (4, 12), (2, 12)]
    """
    check_own("to_keras_weights", model)
    with reading("to_keras_weights", None):
        return [array for arrays in _groups_of(model).values() for array in arrays]


def write_keras_weights(model: Module, path: Any) -> None:
    """Write a model's weights to a .weights.h5 file, for ``load_weights`` of the same Keras model.

    Parameters
    ----------
    model : Module
    path : path-like
        Replaced if it exists, and only once the whole file has been written.

    Raises
    ------
    ValueError
        When Keras has no equal of a module.
    TypeError
        When a part of the model computes otherwise than pygru's own classes do.
    ImportError
        When h5py is not installed.
    OSError
        When the file cannot be written.

    Examples
    --------
    >>> write_keras_weights(pygru.Linear(3, 1), "linear.weights.h5")  # doctest: +SKIP
    """
    check_own("write_keras_weights", model)
    file = as_path("write_keras_weights", "path", path)
    with reading("write_keras_weights", None):
        groups = _groups_of(model)
    write_weights(file, groups)


def _groups_of(model: Module) -> dict[str, list[Array]]:
    groups: dict[str, list[Array]] = {}
    for group, module, layer in _layers(model):
        if isinstance(module, Recurrent):
            cells = _cells(group, module)
            runs = runs_of(module)[layer * len(cells) :]
            for cell, run in zip(cells, runs, strict=False):
                reset = getattr(module, "reset", None)
                groups[cell] = recurrent_arrays(type(module), reset, run)
        else:
            groups[f"{group}/vars"] = arrays_of(module)
    return groups


# The proof


def _check(model: Module, source: Any, path: Path | None) -> None:
    import keras

    if path is None:
        theirs = source
    elif path.suffix == ".keras":
        theirs = keras.models.load_model(path, compile=False, safe_mode=True)
    else:
        theirs = keras_row("from_keras", model)
        theirs.load_weights(path)
    compare_with_keras("from_keras", model, theirs)
