# SPDX-License-Identifier: MIT
"""Streaming inference: a model's packed weights and its state in one object, one call per step.

The work is done in C++ (csrc/runtime/stream.h); this file says which layers of a model a stream
runs and shares packed weights between the streams of one model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias
from weakref import WeakValueDictionary

import numpy as np
import numpy.typing as npt

from pygru import _core
from pygru.activations import Activation
from pygru.checks import FloatArray, as_array, as_integers, as_real, as_size
from pygru.composite import check_own
from pygru.layers import Embedding, Linear
from pygru.model import Sequential
from pygru.module import Module
from pygru.pooling import LastStep
from pygru.recurrent import Recurrent
from pygru.regularization import Dropout, LayerNorm
from pygru.shapes import OneHot

__all__ = ["Stream"]

_Layer: TypeAlias = tuple[Any, ...]  # as `_core.PackedModel` takes it

# digest of what is packed -> packed weights, while a stream holds them
_packed: WeakValueDictionary[bytes, _Packed] = WeakValueDictionary()


class Stream(_core.Stream):
    """A model run step by step, with its state kept inside.

    The weights are packed once, as they are now: later training does not reach a stream. Streams of
    one model share them. After construction `step` and `process` allocate nothing when ``out`` is
    given, unless the number of threads has changed. The result is bit for bit that of
    ``model(whole_sequence)`` at each step.

    Parameters
    ----------
    model : Sequential, GRU, RNN, Linear or LayerNorm
        Of recurrent layers in one direction, Linear, LayerNorm and activations, and as the first an
        Embedding or OneHot. Dropout does nothing here, and LastStep above the recurrent layers
        nothing either: every step is the last one so far.
    batch : int, optional
        Number of sequences B that advance together. Absent: one, without an axis for it.

    Raises
    ------
    TypeError
        When model is no module of pygru, or holds a layer that can't be streamed: a bidirectional
        one needs the future, and what a derived class computes its own way is not known here.
    ValueError
        When batch is out of range.

    Examples
    --------
    >>> gru = pygru.GRU(3, 8, rng=0)
    >>> x = np.ones((5, 3), np.float32)
    >>> stream = pygru.Stream(gru)
    >>> np.array_equal([stream.step(x_t) for x_t in x], gru(x)[0])
    True
    >>> stream.state[0].shape  # (L, H)
    (1, 8)
    """

    def __init__(self, model: Module, batch: int | None = None) -> None:
        if not isinstance(model, Module):
            got = f"the class {model.__name__}" if isinstance(model, type) else type(model).__name__
            raise TypeError(
                f"Stream: model must be a Sequential, GRU, RNN, Linear or LayerNorm, got {got}"
            )
        batch = -1 if batch is None else as_size("Stream", "batch", batch, _core.MOST_SEQUENCES)
        check_own("Stream", model)
        modules: list[Module] = [*model._leaves()] if isinstance(model, Sequential) else [model]
        packed = _shared(model, list(_layers(modules)))
        super().__init__(packed.model, batch)
        self._packed = packed
        self._recurrent = [m for m in modules if isinstance(m, Recurrent)]
        self._batch, self._dtype = batch if batch >= 0 else None, model.dtype
        sizes = [described for m in modules if (described := _sizes(m))]
        self._sizes = f"{', '.join(sizes)}, batch={self._batch}"

    def reset(self, sequences: npt.ArrayLike | None = None) -> None:
        """Begin again: set the state of every layer to 0, or that of some sequences of the batch.

        Parameters
        ----------
        sequences : int, integer array_like of shape (N,), or boolean array_like of shape (B,)
            Which of the B sequences, by their numbers or one answer each. Absent: all.

        Raises
        ------
        TypeError
            When they are neither integers nor booleans, or the stream has no batch.
        ValueError
            When there is no such sequence; nothing is changed.

        Examples
        --------
        >>> stream = pygru.Stream(pygru.GRU(1, 2, rng=0), batch=3)
        >>> y = stream.step(np.ones((3, 1)))
        >>> stream.reset([True, False, True])
        >>> stream.state[0].any(axis=-1)  # (L, B)
        array([[False,  True, False]])
        """
        if sequences is None:
            return self._reset(None)
        B = self._batch
        if B is None:
            raise TypeError("Stream.reset: sequences must be absent in a stream without a batch")
        given = as_array("Stream.reset", "sequences", sequences)
        if given.dtype == bool:
            if given.shape != (B,):
                raise ValueError(
                    f"Stream.reset: sequences must have shape (B,) = {(B,)} where they are "
                    f"booleans, got {given.shape}"
                )
            given = np.flatnonzero(given)
        given = as_integers("Stream.reset", "sequences", given)
        if given.ndim > 1:
            raise ValueError(
                f"Stream.reset: sequences must be one integer or have shape (N,), got {given.shape}"
            )
        wrong = given[(given < 0) | (given >= B)]
        if wrong.size:
            raise ValueError(
                f"Stream.reset: sequences must be in 0 .. B-1 = {B - 1}, got {wrong.flat[0]}"
            )
        return self._reset(np.array(given, np.int64, ndmin=1))

    @property
    def state(self) -> list[FloatArray]:
        """The state of each recurrent module: (L, H), or (L, B, H) with a batch.

        A copy that can't be written to: assigning a list of such arrays sets the state, `reset`
        sets it to 0.
        """
        states = iter(self._states())
        stacks = [np.stack([next(states) for _ in range(m.num_layers)]) for m in self._recurrent]
        for stack in stacks:
            stack.flags.writeable = False  # or whoever writes to it would believe the stream hears
        return stacks if self._batch is not None else [stack[:, 0] for stack in stacks]

    @state.setter
    def state(self, state: Sequence[npt.ArrayLike]) -> None:
        now = self.state
        no_axis = isinstance(state, np.ndarray) and state.ndim == 0
        if no_axis or not isinstance(state, (Sequence, np.ndarray)):
            raise TypeError(
                "Stream.state: state must be a list of one array per recurrent module, "
                f"got {type(state).__name__}{' of shape ()' * no_axis}"
            )
        if len(state) != len(now):
            raise ValueError(
                f"Stream.state: state must have one array per recurrent module = {len(now)}, "
                f"got {len(state)}"
            )
        layers: list[FloatArray] = []
        for k, (given, old) in enumerate(zip(state, now, strict=True)):
            array = as_real("Stream.state", f"state[{k}]", given, self._dtype)
            if array.shape != old.shape:
                symbols = "(L, B, H)" if self._batch is not None else "(L, H)"
                raise ValueError(
                    f"Stream.state: state[{k}] must have shape {symbols} = {old.shape}, "
                    f"got {array.shape}"
                )
            layers.extend(
                np.ascontiguousarray(h if self._batch is not None else h[None]) for h in array
            )
        self._set_states(layers)

    def __repr__(self) -> str:
        return f"Stream({self._sizes}, dtype={self._dtype.name!r})"

    def __reduce__(self) -> Any:
        raise TypeError("Stream: can't be copied or pickled; make another from the model")


def _sizes(module: Module) -> str | None:
    """Return a module's name and sizes; None of one that does nothing in a stream."""
    if isinstance(module, Recurrent):
        layers = f", num_layers={module.num_layers}" * (module.num_layers > 1)
        sizes = f"{module.input_size}, {module.hidden_size}{layers}"
    elif isinstance(module, Linear):
        sizes = f"{module.in_features}, {module.out_features}"
    elif isinstance(module, Embedding):
        sizes = f"{module.num_embeddings}, {module.embedding_dim}"
    elif isinstance(module, OneHot):
        sizes = f"{module.num_classes}"
    elif isinstance(module, LayerNorm):
        sizes = f"{module.normalized_shape}"
    elif isinstance(module, Activation):
        sizes = ""
    else:
        return None
    return f"{type(module).__name__}({sizes})"


class _Packed:
    """Packed weights that can be referred to weakly."""

    def __init__(self, layers: list[_Layer]) -> None:
        self.model = _core.PackedModel(layers)


def _shared(model: Module, layers: list[_Layer]) -> _Packed:
    """Return the packed weights of a model, those of another stream if they are the same."""
    import hashlib  # here, because it loads OpenSSL, and importing pygru should not wait for that

    kinds = [[getattr(entry, "shape", entry) for entry in layer] for layer in layers]
    digest = hashlib.blake2b(f"{_core.isa()} {model.dtype} {kinds}".encode())
    digest.update(model.flat_params.data)
    packed = _packed.get(digest.digest())
    if packed is None:
        _packed[digest.digest()] = packed = _Packed(layers)
    return packed


def _layers(modules: list[Module]) -> Iterator[_Layer]:
    # What comes before the first module that says how much it reads gives as much as it reads.
    width = reads = next((m._widths.reads for m in modules if m._widths.reads is not None), None)
    for module in modules:
        name = type(module).__name__
        if module._widths.classes and module is not modules[0]:
            raise TypeError(f"Stream: {name} must be the first layer, as it reads integers")
        if isinstance(module, Embedding):
            yield "embedding", module.params["weight"]
        elif isinstance(module, OneHot):
            yield "one_hot", module.num_classes
        elif isinstance(module, Recurrent):
            if module.bidirectional:
                raise TypeError(f"Stream: a bidirectional {name} needs the future of its input")
            yield from module.layer_weights()
        elif isinstance(module, Linear):
            yield "linear", module.params["weight"], module.params.get("bias")
        elif isinstance(module, LayerNorm):
            yield "layer_norm", module.params["weight"], module.params["bias"], module.eps
        elif isinstance(module, Activation):
            yield module._kernel, width
        elif not isinstance(module, Dropout | LastStep):
            raise TypeError(
                "Stream: model must consist of Embedding, OneHot, GRU, RNN, Linear, LayerNorm, "
                f"activations, Dropout and LastStep, got {name}"
            )
        width = width if module._widths.same else module._widths.gives
    if reads is None:
        raise TypeError("Stream: model must hold a GRU, an RNN, a Linear or a LayerNorm")
