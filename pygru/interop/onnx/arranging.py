# SPDX-License-Identifier: MIT
"""What nodes that only arrange axes do to the data and to final states."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pygru.interop.onnx.constants import axes_of, slices_of
from pygru.interop.onnx.flow import INTEGERS, REALS, Extra, Flow, Rows, reshaped
from pygru.interop.onnx.graph import Node

__all__ = ["ARRANGING", "part_of_state"]


def _same(_node: Node, given: Sequence[Any]) -> Any:
    return given[0]


def _cast(node: Node, given: Sequence[Any]) -> Any:
    """Integers are places or lengths, and narrower ones would wrap; real numbers stay real."""
    value, to = given[0], node.attributes.get("to")
    places = isinstance(value, Flow) and "C" not in value.axes
    places = places or (isinstance(value, Extra) and value.kind in INTEGERS)
    if to not in (INTEGERS if places else REALS):
        kinds = "int32 or int64 (6, 7)" if places else "float32 or float64 (1, 11)"
        raise node.refuse(f"a cast to {kinds}", to)
    return value


def _dropout(node: Node, given: Sequence[Any]) -> Any:
    if len(given) > 2 and given[2] is not None and np.any(given[2]):
        raise node.refuse("training_mode=False", given[2])
    return given[0]


def _shape(node: Node, given: Sequence[Any]) -> Any:
    if not isinstance(given[0], Flow):
        raise node.refuse("the data to take the shape of", type(given[0]).__name__)
    return given[0].sizes()[node.attributes.get("start", 0) : node.attributes.get("end")]


def _transpose(node: Node, given: Sequence[Any]) -> Any:
    value, rank = given[0], len(given[0].axes)
    perm = node.attributes.get("perm") or list(range(rank))[::-1]
    if sorted(perm) != list(range(rank)):
        raise node.refuse(f"a permutation of {rank} axes", perm)
    return value._replace(axes=tuple(value.axes[i] for i in perm))


def _squeeze(node: Node, given: Sequence[Any]) -> Any:
    value, axes = given[0], axes_of(node, given)
    units, rank = value.units(), len(value.axes)
    gone = units if axes is None else [axis % rank for axis in axes]
    if not set(gone) <= set(units):
        raise node.refuse(f"axes of size 1 to take away from {value.axes}", axes)
    return value._replace(axes=tuple(a for i, a in enumerate(value.axes) if i not in gone))


def _unsqueeze(node: Node, given: Sequence[Any]) -> Any:
    value, axes = given[0], axes_of(node, given) or []
    rank = len(value.axes) + len(axes)
    new, old = {axis % rank for axis in axes}, iter(value.axes)
    return value._replace(axes=tuple("u" if i in new else next(old, "u") for i in range(rank)))


def _reshape(node: Node, given: Sequence[Any]) -> Any:
    value, shape = given
    if not isinstance(shape, np.ndarray) or shape.ndim != 1:
        raise node.refuse("a known shape", type(shape).__name__)
    if isinstance(value, Flow):
        return reshaped(node, value, shape.tolist())
    D = len(value.rows) if "D" in value.axes else 1
    made = reshaped(node, Flow(value.axes, 0, value.leading, D, value.features), shape.tolist())
    return value._replace(axes=made.axes, features=made.features)


def _concat(node: Node, given: Sequence[Any]) -> Any:
    first, axis = given[0], node.attributes.get("axis", 0)
    if isinstance(first, Flow):  # the two directions of a layer, parted before
        if len(given) != 2 or first.way != 0 or given[1] != first._replace(way=1):
            raise node.refuse("the two directions of one layer", [str(v) for v in given])
        if first.axes[axis] != "C":
            raise node.refuse("two directions side by side", f"axis {axis}")
        return first._replace(features=2 * (first.features or 0), way=None)
    if not all(isinstance(value, Rows) and value.axes == first.axes for value in given):
        raise node.refuse("final states alone", [type(value).__name__ for value in given])
    if first.axes[axis] not in ("D", "C"):
        raise node.refuse("final states side by side", f"axis {axis}")
    return first._replace(rows=tuple(row for value in given for row in value.rows))


ARRANGING: dict[str, Callable[[Node, Sequence[Any]], Any]] = {
    "Cast": _cast,
    "Concat": _concat,
    "Dropout": _dropout,
    "Identity": _same,
    "Reshape": _reshape,
    "Shape": _shape,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}


def part_of_state(node: Node, value: Extra, given: Sequence[Any]) -> Extra:
    """Return what a node takes of an initial state: all of it, or some of its rows."""
    if node.op == "Gather":
        index = given[1] if isinstance(given[1], np.ndarray) else np.zeros(0)
        known = index.size == 1 and node.attributes.get("axis", 0) == 0
        start = int(index.reshape(-1)[0]) if known else 0
        stop: int | None = start + 1
    elif node.op == "Slice":
        rows, *rest = slices_of(node, given, 3)
        known = rows.step in (None, 1) and all(part == slice(None) for part in rest)
        start, stop = (0 if rows.start is None else rows.start), rows.stop
    else:
        return value
    if not known or stop is None or not 0 <= start < stop or value.rows:
        raise node.refuse("known rows of the initial state to take", node.op)
    return value._replace(rows=(start, stop))
