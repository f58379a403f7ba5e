# SPDX-License-Identifier: MIT
"""Named arrays over one flat buffer, and copies of them that travel.

One buffer holds all parameters of a module and a second one all gradients, so that an optimiser
step, a norm, a checkpoint and an all-reduce are each one pass over one array.

A matrix (M, K) is kept *input-major*: its block of the buffer is (K, M) C-contiguous and the array
handed out is the transpose, so that the kernels read all weights of one input side by side.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy.typing as npt

from pygru.checks import FloatArray, as_values

__all__ = ["Arrays", "Parameter", "StateDict"]


class Parameter(NamedTuple):
    """One named array of a module and how it lies in the flat buffer."""

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


class Arrays(Mapping[str, FloatArray]):
    """Views of one flat buffer by name; assigning to a name writes into the buffer."""

    def __init__(self, views: dict[str, FloatArray]) -> None:
        self._views = views

    def __getitem__(self, name: str) -> FloatArray:
        return self._views[name]

    def __setitem__(self, name: str, value: npt.ArrayLike) -> None:
        view = self._views[name]
        array = as_values("params and grads", name, value, view.dtype)
        if array.shape != view.shape:
            raise ValueError(
                f"params and grads: {name} must have shape {view.shape}, got {array.shape}"
            )
        view[...] = array

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
    what keeps one from being loaded as the other.

    Examples
    --------
    >>> pygru.GRU(3, 4, reset="before").state_dict().functions
    {'': "reset='before'"}
    """

    def __init__(self, arrays: Mapping[str, FloatArray], functions: Mapping[str, str]) -> None:
        super().__init__(arrays)
        self.functions = dict(functions)
