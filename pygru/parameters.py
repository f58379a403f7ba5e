# SPDX-License-Identifier: MIT
"""Named arrays over one flat buffer, and copies of them that travel.

One buffer holds all parameters of a module and a second one all gradients, so that an optimiser
step, a norm, a checkpoint and an all-reduce are each one pass over one array.

A matrix (M, K) is kept *input-major*: its block of the buffer is (K, M) C-contiguous and the array
handed out is the transpose, so that the kernels read all weights of one input side by side.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import numpy.typing as npt

from pygru.checks import LARGEST, FloatArray, FloatDType, as_values, check_bytes, first_few

__all__ = ["Arrays", "Parameter", "StateDict", "at_most", "check_size", "fitting", "overwrite"]

_most: ContextVar[int] = ContextVar("most", default=LARGEST)  # elements in one flat buffer


class Parameter(NamedTuple):
    """One named array of a module and how it lies in the flat buffer.

    Attributes
    ----------
    name : str
    shape : tuple of int
    input_major : bool
        Of a matrix (M, K): whether the buffer holds it as (K, M).

    Examples
    --------
    >>> pygru.Parameter("weight", (3, 2)).size
    6
    """

    name: str
    shape: tuple[int, ...]
    input_major: bool = False

    @property
    def size(self) -> int:
        """Return the number of elements."""
        return math.prod(self.shape)

    def view(self, block: FloatArray) -> FloatArray:
        """Return the parameter's ``size`` elements of a flat buffer in the parameter's shape."""
        if not self.input_major:
            return block.reshape(self.shape)
        view: FloatArray = block.reshape(self.shape[::-1]).T
        return view


@contextmanager
def at_most(count: int) -> Iterator[None]:
    """Refuse, within, more than ``count`` elements in one flat buffer."""
    token = _most.set(count)
    try:
        yield
    finally:
        _most.reset(token)


def check_size(where: str, parameters: Sequence[Parameter], dtype: FloatDType) -> int:
    """Return how many elements these parameters have, before any of them takes memory."""
    size = sum(p.size for p in parameters)
    check_bytes(where, "the parameters", size, dtype)
    if size > _most.get():
        raise ValueError(
            f"{where}: the parameters must have at most {_most.get()} elements, got {size}"
        )
    return size


def fitting(
    where: str,
    views: Mapping[str, FloatArray],
    state_dict: Mapping[str, npt.ArrayLike],
    dtype: FloatDType,
) -> tuple[dict[str, FloatArray], list[str]]:
    """Return the entries that fit parameters of these names and shapes, and what does not."""
    problems = [f"missing {name}" for name in views if name not in state_dict]
    problems += [f"unknown {name}" for name in state_dict if name not in views]
    arrays = {}
    for name, view in views.items():
        if name not in state_dict:
            continue
        try:
            arrays[name] = array = as_values(where, name, state_dict[name], dtype)
        except (TypeError, ValueError) as error:
            problems.append(str(error).removeprefix(f"{where}: "))
            continue
        if array.shape != view.shape:
            problems.append(f"{name} must have shape {view.shape}, got {array.shape}")
    return arrays, problems


def overwrite(where: str, name: str, view: FloatArray, values: npt.ArrayLike) -> None:
    """Write values of its shape into a parameter, a gradient or all of them."""
    array = as_values(where, name, values, view.dtype)
    if array.shape != view.shape:
        raise ValueError(f"{where}: {name} must have shape {view.shape}, got {array.shape}")
    view[...] = array


class Arrays(Mapping[str, FloatArray]):
    """Views of one flat buffer by name; assigning to a name writes into the buffer."""

    def __init__(self, views: dict[str, FloatArray]) -> None:
        self._views = views

    def __getitem__(self, name: str) -> FloatArray:
        try:
            return self._views[name]
        except KeyError:
            names = ", ".join(first_few(list(self._views))) or "none"
            raise KeyError(f"params and grads: name must be one of {names}, got {name!r}") from None

    def __setitem__(self, name: str, value: npt.ArrayLike) -> None:
        overwrite("params and grads", name, self[name], value)

    def __iter__(self) -> Iterator[str]:
        return iter(self._views)

    def __len__(self) -> int:
        return len(self._views)

    def __repr__(self) -> str:
        return repr(self._views)


class StateDict(dict[str, FloatArray]):
    """Parameters by name, and which function each set of weights belongs to.

    An ordinary dict of arrays with one attribute, ``functions``: module prefix -> for instance
    ``"reset='before'"``. Weights of two functions can have equal names and shapes, and this is
    what keeps one from being loaded as the other. Copies and unions keep it; a plain dict made of
    one, as by ``dict(...)``, does not.

    Raises
    ------
    ValueError
        In a union or an update, when the same module would get weights of two functions.

    Examples
    --------
    >>> weights = pygru.GRU(3, 4, reset="before").state_dict()
    >>> weights.functions
    {'': "reset='before'"}
    >>> (weights | {"bias_hh_l0": np.zeros(12)}).functions
    {'': "reset='before'"}
    """

    def __init__(self, arrays: Mapping[str, FloatArray], functions: Mapping[str, str]) -> None:
        super().__init__(arrays)
        self.functions = dict(functions)

    def copy(self) -> StateDict:
        """Return another one with the same arrays."""
        return StateDict(self, self.functions)

    def update(self, *others: Any, **arrays: Any) -> None:
        """Take over the arrays of another one, or of whatever `dict.update` takes."""
        theirs = {k: v for other in others for k, v in getattr(other, "functions", {}).items()}
        for prefix, function in theirs.items():
            if self.functions.get(prefix, function) != function:
                raise ValueError(
                    f"StateDict: the weights of {prefix or 'the layer'} must belong to "
                    f"{self.functions[prefix]}, got some that belong to {function}"
                )
        super().update(*others, **arrays)
        self.functions |= theirs

    def __or__(self, other: Any) -> StateDict:  # type: ignore[override]
        return _union(self, other) if isinstance(other, dict) else NotImplemented

    def __ror__(self, other: Any) -> StateDict:  # type: ignore[override]
        return _union(other, self) if isinstance(other, dict) else NotImplemented

    def __ior__(self, other: Any) -> StateDict:  # type: ignore[override]
        self.update(other)
        return self


def _union(first: Mapping[str, FloatArray], second: Mapping[str, FloatArray]) -> StateDict:
    """Return the arrays of both, those of the second where both have a name."""
    union = StateDict({}, {})
    union.update(first)
    union.update(second)
    return union
