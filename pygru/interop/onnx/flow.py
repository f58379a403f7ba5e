# SPDX-License-Identifier: MIT
"""The data on its way through a graph, as far as its axes go.

Axes are names: "0" and "1" for the leading axes of the input (one of them is time), "D" for
directions, "C" for features, "u" for an axis of size 1, "0*1" for the two leading ones in one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from pygru.interop.blocks import Array
from pygru.interop.onnx.graph import Node
from pygru.interop.onnx.wire import Message

__all__ = ["INTEGERS", "REALS", "Extra", "Flow", "Rows", "State", "declared", "other", "reshaped"]

INTEGERS = (6, 7)  # int32, int64
REALS = (1, 11)  # float32, float64


class Flow(NamedTuple):
    """What a row of blocks has made of the input."""

    axes: tuple[str, ...]
    at: int  # after how many blocks
    leading: tuple[int | None, ...]  # sizes of "0" and "1", where the input declares them
    D: int = 1
    features: int | None = None  # size of "C"; None where the input does not tell
    way: int | None = None  # which half of the features: of two directions, one alone
    step: int | None = None  # 0 or -1 where that step was taken of time, but by no layer so far

    def sizes(self) -> Array:
        """Return the size of every axis: a number, or the axis's name."""
        known = {"D": self.D, "C": self.features, "u": 1}
        known |= {str(i): size for i, size in enumerate(self.leading)}
        sizes: list[Any] = []
        for axis in self.axes:
            parts = [known[part] or part for part in axis.split("*")]
            numbers = all(isinstance(part, int) for part in parts)
            sizes.append(math.prod(parts) if numbers else "*".join(map(str, parts)))
        return np.array(sizes, object)

    def units(self) -> list[int]:
        """Return which axes have size 1."""
        return [i for i, axis in enumerate(self.axes) if axis == "u" or (axis, self.D) == ("D", 1)]

    def merged(self) -> Flow:
        """Return it with directions in the features, where they stand next to each other."""
        axes = tuple(axis for axis in self.axes if axis != "D")
        return self._replace(axes=axes, D=1, features=self.D * (self.features or 0) or None)


class Rows(NamedTuple):
    """Final states: (block, direction) of each, along the axis "D", side by side or alone."""

    axes: tuple[str, ...]
    rows: tuple[tuple[int, int], ...]
    leading: tuple[int | None, ...]  # as the data has them
    features: int  # size of "C"
    width: int  # of all directions

    def units(self) -> list[int]:
        """Return which axes have size 1."""
        single = len(self.rows) == 1
        return [i for i, axis in enumerate(self.axes) if axis == "u" or (axis == "D" and single)]


class Extra(NamedTuple):
    """An input besides x: an initial state or lengths, as its use will show."""

    name: str
    kind: int  # of numbers, as the graph declares it
    axes: tuple[str, ...]  # "0", "1", "2" of the input, "u" of size 1
    of: str | None = None  # the axis that rows are taken of
    rows: tuple[int, int] | None = None  # None is all of them

    def units(self) -> list[int]:
        """Return which axes have size 1."""
        single = self.rows is not None and self.rows[1] - self.rows[0] == 1
        return [
            i for i, axis in enumerate(self.axes) if axis == "u" or (axis == self.of and single)
        ]


class State(NamedTuple):
    """The input that holds the initial state of all layers."""

    name: str
    axes: tuple[str, ...]  # which of its axes are (L*D, B, H); "u" where it has no L*D


def declared(kind: Message) -> Flow:
    """Return the data before the first layer, from the type that a graph declares."""
    dims = kind.get("shape", {}).get("dim")
    integers = kind.get("elem_type") in INTEGERS
    if dims is None:
        dims = [{}] * (2 if integers else 3)
    sizes = [max(0, dim.get("dim_value", 0)) or None for dim in dims]
    if not integers and len(sizes) < 2:
        raise ValueError(f"its input must have at least two axes, got {len(sizes)}")
    features = None if integers else sizes.pop()
    axes = tuple(str(i) for i in range(len(sizes)))
    return Flow(axes if integers else (*axes, "C"), 0, tuple(sizes), 1, features)


def other(name: str, kind: Message) -> Extra:
    """Return an input besides x, from the type that a graph declares."""
    dims = kind.get("shape", {}).get("dim")
    rank = 3 if dims is None else len(dims)
    return Extra(name, kind.get("elem_type", 0), tuple(str(i) for i in range(rank)))


def reshaped(node: Node, flow: Flow, target: Sequence[Any]) -> Flow:
    """Return what Reshape makes of it: axes merged, parted again, or of size 1 taken away.

    Raises
    ------
    ValueError
        When it is none of these.
    """
    sizes, axes = list(flow.sizes()), flow.axes
    if not node.attributes.get("allowzero", 0):
        target = [
            sizes[i] if isinstance(t, (int, np.integer)) and t == 0 and i < len(sizes) else t
            for i, t in enumerate(target)
        ]

    def fits(of: Flow) -> bool:
        """Whether the target is these sizes; where all others are, one need not be known."""
        if len(of.axes) != len(target):
            return False
        others = [(t, size) for t, size in zip(target, of.sizes(), strict=True) if t != size]
        return not others or (
            len(others) == 1
            and isinstance(others[0][0], (int, np.integer))
            and (others[0][0] == -1 or isinstance(others[0][1], str))
        )

    found = [flow]
    if axes[-2:] == ("D", "C"):
        found.append(flow.merged())
    found += [flow._replace(axes=axes[:unit] + axes[unit + 1 :]) for unit in flow.units()]
    if axes[-1] == "C" and flow.D == 1:
        leading = "*".join(axis for axis in axes[:-1] if axis not in ("D", "u"))
        found += [flow._replace(axes=(*names, "C")) for names in ([leading], leading.split("*"))]
    for made in found:
        if fits(made):
            return made
    raise node.refuse(f"a shape that keeps the axes {axes} or merges some", list(target))
