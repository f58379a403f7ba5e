# SPDX-License-Identifier: MIT
"""What nodes that only arrange axes do to the data and to final states."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pygru.interop.onnx.constants import axes_of, slices_of
from pygru.interop.onnx.flow import INTEGERS, REALS, Extra, Flow, Rows, State, reshaped
from pygru.interop.onnx.graph import Node

__all__ = ["ARRANGING", "ended", "halves", "part_of_state", "state_of"]

# Where each direction has read everything: (direction, place in time).
ENDS = ((0, -1), (1, 0))


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
    if isinstance(value, Extra):
        raise node.refuse("data or final states to reshape", "another input")
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
        raise node.refuse(
            "final states alone to put side by side", [type(value).__name__ for value in given]
        )
    if first.axes[axis] not in ("D", "C"):
        raise node.refuse("final states side by side", f"axis {axis}")
    rows = tuple(row for value in given for row in value.rows)
    if first.axes[axis] == "D":
        return first._replace(rows=rows)
    axes = tuple("u" if i in first.units() else name for i, name in enumerate(first.axes))
    return first._replace(axes=axes, rows=rows, features=sum(value.features for value in given))


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


def halves(node: Node, value: Any, axis: int) -> list[Any]:
    """Return the two halves of the features, as if each were of one direction."""
    if (
        not (isinstance(value, Flow) and value.axes[axis] == "C" and value.way is None)
        or "D" in value.axes
        or (value.features or 1) % 2
    ):
        raise node.refuse("an even number of features to part in two", f"axis {axis}")
    H = (value.features or 0) // 2
    return [ended(value._replace(features=H, way=way)) for way in (0, 1)]


def ended(flow: Flow) -> Flow | Rows:
    """Return one direction's step as its final state, where it is that."""
    if (flow.way, flow.step) not in ENDS:
        return flow
    H = flow.features or 0
    return Rows(flow.axes, ((flow.at - 1, flow.way or 0),), flow.leading, H, 2 * H)


def part_of_state(node: Node, value: Extra, given: Sequence[Any]) -> Extra:
    """Return some rows of an initial state, which Gather or Slice take along one axis."""
    axes, axis, part = list(value.axes), node.attributes.get("axis", 0), slice(None)
    if node.op == "Slice":
        parts = slices_of(node, given, len(axes))
        taken = [i for i, one in enumerate(parts) if one != slice(None)]
        if len(taken) == 1:
            axis, part = taken[0], parts[taken[0]]
    elif isinstance(given[1], np.ndarray) and given[1].shape in ((), (1,)):
        place = given[1].reshape(-1)[0]
        part = slice(place, place + 1, 1) if isinstance(place, np.integer) else part
    start, stop = part.start, part.stop
    if None in (start, stop) or part.step != 1 or not 0 <= start < stop or value.rows:
        raise node.refuse("known rows of the initial state to take", node.op)
    of = axes[axis]
    if node.op == "Gather" and given[1].shape == ():
        del axes[axis]
    return value._replace(axes=tuple(axes), of=of, rows=(int(start), int(stop)))


def state_of(node: Node, value: Extra, time_first: bool) -> State:
    """Return what an initial state is, by the axes with which a layer reads it.

    Raises
    ------
    ValueError
        When it is not of layers, sequences and features, or rows are taken of another axis.
    """
    rows, batch, features = value.axes if len(value.axes) == 3 else ("", "", "")
    if not time_first:
        rows, batch = batch, rows
    if value.of and rows in ("u", value.of):
        rows = value.of
    axes = (rows, batch, features)
    known = axes in (("0", "1", "2"), ("1", "0", "2"), ("u", "0", "1"))
    if not known or value.of not in (None, rows):
        raise node.refuse("initial_h (L*D, B, H) of an input", f"axes {value.axes}")
    return State(value.name, axes)
