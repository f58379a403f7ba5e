# SPDX-License-Identifier: MIT
"""Arithmetic of shapes: the nodes between the layers that compute from constants and sizes.

A size that is not known before the model runs is the name of its axis, so an array of sizes is one
of integers and names (dtype object). What would be one value many times over is a `Fill` and never
made, however large it claims to be.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from pygru.interop.onnx.graph import Node
from pygru.interop.onnx.tensors import DTYPES

__all__ = ["Fill", "axes_of", "constant", "fold", "passed", "slices_of"]

# What leaves one value that is everywhere what it is.
PASSING = (
    "Cast", "Concat", "Expand", "Gather", "Identity", "Reshape", "Slice", "Squeeze", "Tile",
    "Transpose", "Unsqueeze",
)  # fmt: skip


class Fill(NamedTuple):
    """One value in every element of some shape."""

    value: Any


def constant(node: Node) -> Any:
    """Return the value of a Constant node."""
    for name in ("value", "value_ints", "value_floats", "value_int", "value_float"):
        if name in node.attributes:
            return np.asarray(node.attributes[name])
    raise node.refuse("a value of numbers", sorted(node.attributes))


def axes_of(node: Node, inputs: Sequence[Any]) -> list[int] | None:
    """Return ``axes``, an attribute of older operators and the second input of newer ones."""
    if len(inputs) > 1 and inputs[1] is not None:
        return [int(axis) for axis in np.ravel(inputs[1])]
    axes = node.attributes.get("axes")
    return None if axes is None else list(axes)


def slices_of(node: Node, inputs: Sequence[Any], rank: int) -> list[slice]:
    """Return a Slice node's slice of every axis."""
    if len(inputs) > 1:
        starts, ends, axes, steps = [*inputs[1:], None, None, None][:4]
    else:
        starts, ends = node.attributes["starts"], node.attributes["ends"]
        axes, steps = node.attributes.get("axes"), None
    starts, ends = np.ravel(starts), np.ravel(ends)
    axes = range(len(starts)) if axes is None else [int(axis) for axis in np.ravel(axes)]
    steps = [1] * len(starts) if steps is None else np.ravel(steps)
    result = [slice(None)] * rank
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        if not all(isinstance(value, (int, np.integer)) for value in (start, end, step)):
            raise node.refuse("bounds that are known", [start, end, step])
        if not -rank <= axis < rank:
            raise node.refuse(f"axes of {rank}", axis)
        result[axis] = slice(int(start), None if end > 2**31 - 2 else int(end), int(step))
    return result


def _gather(node: Node, inputs: Sequence[Any]) -> Any:
    array, index = inputs
    return np.take(array, index.astype(np.int64), axis=node.attributes.get("axis", 0))


def _reshape(node: Node, inputs: Sequence[Any]) -> Any:
    array, shape = inputs
    sizes = [
        array.shape[i] if size == 0 and not node.attributes.get("allowzero", 0) else int(size)
        for i, size in enumerate(shape)
    ]
    return array.reshape(sizes)


def _transpose(node: Node, inputs: Sequence[Any]) -> Any:
    return np.transpose(inputs[0], node.attributes.get("perm"))


def _squeeze(node: Node, inputs: Sequence[Any]) -> Any:
    axes = axes_of(node, inputs)
    return np.squeeze(inputs[0], None if axes is None else tuple(axes))


def _unsqueeze(node: Node, inputs: Sequence[Any]) -> Any:
    return np.expand_dims(inputs[0], tuple(axes_of(node, inputs) or []))


def _cast(node: Node, inputs: Sequence[Any]) -> Any:
    array, to = inputs[0], DTYPES.get(node.attributes.get("to", 0))
    if to is None:
        raise node.refuse("a type that pygru knows", node.attributes.get("to"))
    return array if array.dtype == object else array.astype(to)


def _slice(node: Node, inputs: Sequence[Any]) -> Any:
    return inputs[0][tuple(slices_of(node, inputs, inputs[0].ndim))]


def _product(_node: Node, inputs: Sequence[Any]) -> Any:
    a, b = np.broadcast_arrays(*inputs)
    if a.dtype != object and b.dtype != object:
        return a * b
    pairs = [
        a * b if not isinstance(a, str) and not isinstance(b, str) else f"{a}*{b}"
        for a, b in zip(a.flat, b.flat, strict=True)
    ]
    return np.array(pairs, object).reshape(a.shape)


def _shape(node: Node, inputs: Sequence[Any]) -> Any:
    attributes = node.attributes
    return np.array(inputs[0].shape)[attributes.get("start", 0) : attributes.get("end")]


def _uniform(node: Node, inputs: Sequence[Any]) -> Fill:
    """Expand and Tile: of a single number, however often it is there already."""
    numbers = inputs[0].reshape(-1)
    if not numbers.size or (numbers != numbers[0]).any():
        raise node.refuse("one number to repeat", f"an array of shape {inputs[0].shape}")
    return Fill(numbers[0])


def _filled(node: Node, _inputs: Sequence[Any]) -> Fill:
    value = node.attributes.get("value")
    return Fill(0.0 if value is None else value.reshape(-1)[0])


FOLDS: dict[str, Callable[[Node, Sequence[Any]], Any]] = {
    "Cast": _cast,
    "Concat": lambda node, inputs: np.concatenate(inputs, axis=node.attributes.get("axis", 0)),
    "ConstantOfShape": _filled,
    "Expand": _uniform,
    "Gather": _gather,
    "Identity": lambda _node, inputs: inputs[0],
    "Mul": _product,
    "Reshape": _reshape,
    "Shape": _shape,
    "Slice": _slice,
    "Squeeze": _squeeze,
    "Tile": _uniform,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}


def passed(node: Node, given: Sequence[Any]) -> Fill:
    """Return what a node makes of a Fill: the same value, of some shape."""
    fill: Fill = given[0]
    same = node.op != "Concat" or all(value == fill for value in given)
    if node.op not in PASSING or not same:
        raise node.refuse("an operator that leaves a value what it is", node.op)
    return fill


def _size(node: Node, inputs: Sequence[Any]) -> int:
    """Return the bytes that Concat or Gather would make."""
    if node.op == "Concat":
        return sum(int(array.nbytes) for array in inputs)
    array, index = inputs
    along = array.shape[node.attributes.get("axis", 0)] if array.ndim else 1
    return int(index.size * array.nbytes // max(1, along))


def fold(node: Node, inputs: Sequence[Any], limit: int) -> Any:
    """Return what a node makes of constants; None if it is another kind of node.

    Raises
    ------
    ValueError
        When the result would have more than ``limit`` bytes.
    """
    if node.op not in FOLDS:
        return None
    if node.op in ("Concat", "Gather") and _size(node, inputs) > limit:
        raise node.refuse(f"a result of at most {limit} bytes", _size(node, inputs))
    result = FOLDS[node.op](node, inputs)
    if isinstance(result, (str, int)):  # NumPy hands out elements of arrays of objects as they are
        result = np.array(result, object)
    if not isinstance(result, Fill) and result.nbytes > limit:
        raise node.refuse(f"a result of at most {limit} bytes", result.nbytes)
    return result
