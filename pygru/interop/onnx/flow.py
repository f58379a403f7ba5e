# SPDX-License-Identifier: MIT
"""The data on its way through a graph, as far as its axes go.

Axes are names: "0" and "1" for the leading axes of the input (one of them is time), "D" for
directions, "C" for features, "u" for an axis of size 1, "0*1" for the two leading ones in one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from pygru.interop.blocks import Array
from pygru.interop.onnx.graph import Node

__all__ = ["Extra", "Flow", "Rows", "reshaped"]


class Flow(NamedTuple):
    """What a row of blocks has made of the input."""

    axes: tuple[str, ...]
    at: int  # after how many blocks
    D: int = 1
    features: int | None = None  # size of "C"; None where the input does not tell
    way: int | None = None  # which of two directions, where it is one of them alone

    def sizes(self) -> Array:
        """Return the size of every axis: a number, or the axis's name."""
        known = {"D": self.D, "C": self.features or "C", "u": 1}
        return np.array([known.get(axis, axis) for axis in self.axes], object)

    def units(self) -> list[int]:
        """Return which axes have size 1."""
        return [i for i, axis in enumerate(self.axes) if axis == "u" or (axis, self.D) == ("D", 1)]

    def merged(self) -> Flow:
        """Return it with directions in the features, where they stand next to each other."""
        axes = tuple(axis for axis in self.axes if axis != "D")
        return self._replace(axes=axes, D=1, features=self.D * (self.features or 0) or None)


class Rows(NamedTuple):
    """Final states: (block, direction) of each, along the axis "D" or alone."""

    axes: tuple[str, ...]
    rows: tuple[tuple[int, int], ...]

    def units(self) -> list[int]:
        """Return which axes have size 1."""
        single = len(self.rows) == 1
        return [i for i, axis in enumerate(self.axes) if axis == "u" or (axis == "D" and single)]


class Extra(NamedTuple):
    """An input besides x: an initial state or lengths, as its use will show."""

    name: str
    rows: tuple[int, int] | None = None  # the part of it along its first axis; None is all


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

    def fits(names: Sequence[str], of: Flow) -> bool:
        """Whether the target can be the sizes of these axes; a leading one may be any number."""
        known = of._replace(axes=tuple(names)).sizes()
        number = [isinstance(t, (int, np.integer)) for t in target]
        return (
            len(names) == len(target)
            and sum(1 for t, n in zip(target, number, strict=True) if n and t == -1) <= 1
            and all(
                (n and t == -1) or t == size or (n and t > 0 and axis in ("0", "1"))
                for t, n, size, axis in zip(target, number, known, names, strict=True)
            )
        )

    if fits(axes, flow):
        return flow
    if axes[-2:] == ("D", "C") and fits(flow.merged().axes, flow.merged()):
        return flow.merged()
    for unit in flow.units():
        fewer = flow._replace(axes=axes[:unit] + axes[unit + 1 :])
        if fits(fewer.axes, fewer):
            return fewer
    if axes[-1] == "C" and flow.D == 1:
        leading = tuple(axis for axis in axes[:-1] if axis not in ("D", "u"))
        for names in (("*".join(leading), "C"), (*"*".join(leading).split("*"), "C")):
            if fits(names, flow):
                return flow._replace(axes=names)
    raise node.refuse(f"a shape that keeps the axes {axes} or merges some", list(target))
