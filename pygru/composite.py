# SPDX-License-Identifier: MIT
"""Modules that are made of modules: one flat buffer for all, one dtype, one layout of time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar
from weakref import ref

import numpy as np

from pygru.checks import FloatArray, FloatDType
from pygru.files import PathLike, save
from pygru.module import Module
from pygru.parameters import Parameter
from pygru.pooling import TimeLayer
from pygru.registry import overridden

__all__ = ["Composite", "PutBack", "check_own"]

_T = TypeVar("_T")


class Composite(Module):
    """What `Sequential` and `EncoderDecoder` share. Not for use on its own.

    The model owns one flat buffer. Its parts' parameters move into it and are named
    ``"{part}.{name}"``, so a part belongs to one model only.
    """

    _parts: Mapping[str, Module] = {}  # still empty while Module.__init__ binds
    _made_anew = (*Module._made_anew, "_flat_params", "_flat_grads")  # the parts carry theirs

    def __init__(self, parts: Mapping[str, Module]) -> None:
        modules = list(parts.values())
        for i, (key, module) in enumerate(parts.items()):
            owned = module._owner is not None and module._owner() is not None
            if owned or any(module is other for other in modules[:i]):
                raise ValueError(
                    f"{self._label(key, module)} must be in one place only, got one that already "
                    "belongs to a model: put that model in its place, or a copy.copy of the module"
                )
        self._check_order(modules)
        dtype = self._common_dtype(parts)
        layout = self._common_layout(parts)
        # Nothing has been changed up to here, and from here on nothing can fail but memory.
        parameters = [
            Parameter(f"{key}.{p.name}", p.shape, p.input_major)
            for key, module in parts.items()
            for p in module._parameters
        ]
        super().__init__(parameters, dtype)
        self._parts = dict(parts)
        self._join()
        self._adopt_layout(layout)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._join()

    def _join(self) -> None:
        """Move the parameters and gradients of the parts into buffers of the model's own."""
        parts = self._parts.values()
        if parts:
            self._bind(
                np.concatenate([module.flat_params for module in parts]),
                np.concatenate([module.flat_grads for module in parts]),
            )
        else:
            self._bind(np.zeros(0, np.float32), np.zeros(0, np.float32))

    def _bind(self, flat_params: FloatArray, flat_grads: FloatArray) -> None:
        super()._bind(flat_params, flat_grads)
        start = 0
        for module in self._parts.values():
            end = start + module.flat_params.size
            module._bind(flat_params[start:end], flat_grads[start:end])
            module._owner = ref(self)
            start = end

    def _check_order(self, modules: list[Module]) -> None:
        """Refuse modules that do not fit one after the other, where they run so."""

    def _adopt_layout(self, batch_first: bool | None) -> None:
        """Give the layout, which is that of those parts that were told one, to the others."""
        self.batch_first = batch_first
        for module in self._parts.values():
            if isinstance(module, (Composite, TimeLayer)):
                module._adopt_layout(batch_first)

    def _functions(self) -> dict[str, str]:
        parts = self._parts.items()
        return {f"{key}.{k}": v for key, m in parts for k, v in m._functions().items()}

    def _generators(self) -> dict[str, np.random.Generator]:
        parts = self._parts.items()
        return {f"{key}.{k}": v for key, m in parts for k, v in m._generators().items()}

    def save(self, path: PathLike) -> None:
        """Write the model to a file that `pygru.load` reads; see `pygru.save`."""
        save(self, path)

    def _label(self, key: str, module: Module) -> str:
        """Return what an error calls a part."""
        name = f"module {key}" if key.isdigit() else key
        return f"{type(self).__name__}: {name} ({type(module).__name__})"

    def _common_dtype(self, parts: Mapping[str, Module]) -> FloatDType:
        """Return the dtype of all parts with parameters."""
        dtypes = {key: m.dtype for key, m in parts.items() if m.flat_params.size}
        return self._the_same("dtype", parts, dtypes) or np.dtype(np.float32)

    def _common_layout(self, parts: Mapping[str, Module]) -> bool | None:
        """Return batch_first of all parts that look at time, None where none says."""
        told = {key: m.batch_first for key, m in parts.items() if m.batch_first is not None}
        return self._the_same("batch_first", parts, told)

    def _the_same(
        self, what: str, parts: Mapping[str, Module], values: Mapping[str, _T]
    ) -> _T | None:
        """Return the value of all parts that have one; None where none has."""
        first = next(iter(values), None)
        if first is None:
            return None
        for key, value in values.items():
            if value != values[first]:
                raise ValueError(
                    f"{self._label(key, parts[key])} must have the {what} of "
                    f"{self._label(first, parts[first]).partition(': ')[2]}, {values[first]}, "
                    f"got {value}"
                )
        return values[first]


class PutBack:
    """Generators, put back where a call is refused: a part may have drawn before another."""

    __slots__ = ("_before",)

    def __init__(self, generators: Iterable[np.random.Generator]) -> None:
        self._before = [(rng, rng.bit_generator.state) for rng in generators]

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and issubclass(kind, Exception):
            for rng, state in self._before:
                rng.bit_generator.state = state


def check_own(where: str, model: Module) -> None:
    """Refuse a model of which some part computes otherwise than the class of pygru's it comes from.

    For whoever computes in a model's place, from its classes and its weights.

    Raises
    ------
    TypeError
        Then, or when it is no model.
    """
    if not isinstance(model, Module):
        got = f"the class {model.__name__}" if isinstance(model, type) else type(model).__name__
        raise TypeError(f"{where}: model must be a Module, got {got}")
    changed = overridden(model)
    if changed is not None:
        raise TypeError(
            f"{where}: model must compute what pygru's own classes do, "
            f"got a {type(model).__name__} with its own {changed}"
        )
    if isinstance(model, Composite):
        for part in model._parts.values():
            check_own(where, part)
