# SPDX-License-Identifier: MIT
"""A model beside Keras's: the same row of layers made there, and both run on random input."""

from __future__ import annotations

from typing import Any

from pygru.activations import Activation
from pygru.interop.blocks import Array, modules_of
from pygru.interop.checking import outputs_of, random_input, report
from pygru.layers import GRU, Embedding, Linear
from pygru.module import Module
from pygru.pooling import BothEnds, LastStep, MeanOverTime
from pygru.recurrent import Recurrent
from pygru.regularization import Dropout, LayerNorm
from pygru.shapes import RepeatVector

__all__ = ["compare_with_keras", "keras_row"]


def compare_with_keras(where: str, model: Module, theirs: Any) -> None:
    """Compare a model with one of Keras, which is always batch first; see `report`."""
    import keras

    x = random_input(model)
    if x.ndim > len(theirs.input_shape):  # of vectors alone, where the model would take steps too
        x = random_input(model, vectors=True)
    if x.dtype.kind == "f":  # which Keras would round to
        x = x.astype(theirs.inputs[0].dtype)
    time_first = not model.batch_first
    y = theirs(x.swapaxes(0, 1) if time_first and None in _shape(x) else x, training=False)
    (y,) = map(keras.ops.convert_to_numpy, keras.tree.flatten(y))  # it may be in a list or a dict
    y = y.swapaxes(0, 1) if time_first and y.ndim == 3 else y
    report(where, f"keras {keras.__version__}", outputs_of(model, x), [y])


def keras_row(where: str, model: Module) -> Any:
    """Return the same row of layers in Keras, with some weights."""
    import keras

    rows, layers = [module for _, module in modules_of(model)], keras.layers
    x, kind = random_input(model), {"dtype": model.dtype.name}
    made: list[Any] = [keras.Input(_shape(x), dtype=x.dtype.name)]
    for before, module, after in zip([None, *rows], rows, [*rows[1:], None], strict=False):
        if isinstance(module, Recurrent):
            ends = _ends(module)
            for layer in range(module.num_layers):
                last = layer == module.num_layers - 1
                options: dict[str, Any] = {
                    "return_sequences": not (last and isinstance(after, ends))
                }
                options |= {"use_bias": module.bias, **kind}
                if isinstance(module, GRU):
                    options["reset_after"] = module.reset == "after"
                    one = layers.GRU(module.hidden_size, **options)
                else:
                    options["activation"] = module.config()["nonlinearity"]
                    one = layers.SimpleRNN(module.hidden_size, **options)
                made.append(layers.Bidirectional(one, **kind) if module.bidirectional else one)
        elif isinstance(module, Linear):
            made.append(layers.Dense(module.out_features, use_bias=module.bias, **kind))
        elif isinstance(module, Embedding):
            made.append(layers.Embedding(module.num_embeddings, module.embedding_dim, **kind))
        elif isinstance(module, LayerNorm):
            made.append(layers.LayerNormalization(epsilon=module.eps, **kind))
        elif isinstance(module, Activation):
            made.append(layers.Activation(type(module).__name__.lower(), **kind))
        elif isinstance(module, RepeatVector):
            made.append(layers.RepeatVector(module.n, **kind))
        elif isinstance(module, MeanOverTime):
            made.append(layers.GlobalAveragePooling1D(**kind))
        elif not isinstance(module, (Dropout, _ends(before))):
            raise ValueError(f"{where}: check must be False where Keras has no {module!r}")
    return keras.Sequential(made)


def _ends(module: Any) -> type[Module]:
    """Return what a layer without return_sequences does after all its steps."""
    return BothEnds if getattr(module, "bidirectional", False) else LastStep


def _shape(x: Array) -> tuple[int | None, ...]:
    """Return what Keras calls the shape of an input: without its batch, None for any steps."""
    features = x.shape[-1:] if x.dtype.kind == "f" else ()
    return (*[None] * (x.ndim - 1 - len(features)), *features)
