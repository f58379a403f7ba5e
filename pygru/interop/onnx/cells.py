# SPDX-License-Identifier: MIT
"""The operators GRU and RNN: their attributes, and their weights in pygru's layout.

ONNX has gates z, r, h, weights W (D, G*H, I), R (D, G*H, H) and B (D, 2*G*H), which is b_x beside
b_h. ``linear_before_reset=1`` is ``reset="after"``; its default 0 is ``reset="before"``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from pygru.interop.blocks import Array, Block, Run, linear, recurrent, swap_r_and_z
from pygru.interop.onnx.graph import Node
from pygru.layers import GRU, RNN, Linear

__all__ = [
    "DEFAULTS",
    "RecurrentNode",
    "directions",
    "recurrent_arrays",
    "recurrent_node",
    "stacked",
]

DIRECTIONS = ("forward", "reverse", "bidirectional")
DEFAULTS = {"GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}  # of each direction
KNOWN = ("Relu", "Sigmoid", "Tanh")


class RecurrentNode(NamedTuple):
    """One GRU or RNN, whatever pygru makes of it."""

    node: Node
    op: str  # GRU or RNN
    direction: str
    activations: list[list[str]]  # of each direction: f, g of a GRU, f of an RNN
    clip: float | None
    time_first: bool  # layout=0: x is (T, B, I) and y (T, D, B, H); else (B, T, I) and (B, T, D, H)
    reset: str
    runs: list[Run]

    def block(self) -> Block:
        """Return the block of a layer that does the same.

        Raises
        ------
        ValueError
            When pygru's layers cannot.
        """
        if self.direction == "reverse":
            raise self.node.refuse("direction 'forward' or 'bidirectional'", "'reverse'")
        if self.clip is not None:
            raise self.node.refuse("no clip", self.clip)
        kinds = self.activations[0]
        if any(other != kinds for other in self.activations):
            raise self.node.refuse("the same activations in both directions", self.activations)
        options: dict[str, Any] = {"bidirectional": self.direction == "bidirectional"}
        if self.op == "RNN":
            if kinds == ["Sigmoid"]:
                raise self.node.refuse("activation Tanh or Relu", kinds)
            return recurrent(
                self.node.name, RNN, self.runs, nonlinearity=kinds[0].lower(), **options
            )
        if kinds != DEFAULTS["GRU"]:
            raise self.node.refuse("activations Sigmoid and Tanh", kinds)
        return recurrent(self.node.name, GRU, self.runs, reset=self.reset, **options)


def recurrent_node(node: Node, W: Array, R: Array, B: Array | None) -> RecurrentNode:
    """Return a node of the operators GRU and RNN with its weights.

    Raises
    ------
    ValueError
        When an attribute or a shape is not of these operators, or an activation is unknown.
    """
    G = 3 if node.op == "GRU" else 1
    direction = node.attributes.get("direction", "forward")
    if direction not in DIRECTIONS:
        raise node.refuse(f"a direction of {DIRECTIONS}", repr(direction))
    D = 1 + (direction == "bidirectional")
    if W.ndim != 3 or R.ndim != 3 or not (W.size and R.size):
        raise node.refuse("weights (D, gates * H, I) and (D, gates * H, H)", (W.shape, R.shape))
    H = R.shape[2]
    shapes = {"W": (D, G * H, W.shape[2]), "R": (D, G * H, H), "B": (D, 2 * G * H)}
    for (name, shape), array in zip(shapes.items(), (W, R, B), strict=True):
        if array is not None and array.shape != shape:
            raise node.refuse(f"{name} of shape {shape}", array.shape)
        if array is not None and array.dtype.kind != "f":
            raise node.refuse(f"{name} of real numbers", array.dtype)
    if node.attributes.get("hidden_size", H) != H:
        raise node.refuse(f"hidden_size {H}, as R has", node.attributes["hidden_size"])
    clip = node.attributes.get("clip")
    if clip is not None and not clip > 0:
        raise node.refuse("clip above 0", clip)
    before = node.attributes.get("linear_before_reset", 0)
    layout = node.attributes.get("layout", 0)
    if before not in (0, 1) or layout not in (0, 1):
        raise node.refuse("linear_before_reset and layout of 0 or 1", (before, layout))
    return RecurrentNode(
        node, node.op, direction, _activations(node, D), clip, layout == 0,
        "after" if before else "before",
        [_run(G, W[d], R[d], None if B is None else B[d]) for d in range(D)],
    )  # fmt: skip


def _activations(node: Node, D: int) -> list[list[str]]:
    each = len(DEFAULTS[node.op])
    named = node.attributes.get("activations") or DEFAULTS[node.op] * D
    # Names are compared without regard to case, as the operator's description has it.
    known = {name.lower(): name for name in KNOWN}
    unknown = [name for name in named if name.lower() not in known]
    if unknown or len(named) != each * D:
        raise node.refuse(f"{each * D} activations of {', '.join(KNOWN)}", named)
    names = [known[name.lower()] for name in named]
    return [names[d * each : (d + 1) * each] for d in range(D)]


def _run(G: int, W: Array, R: Array, B: Array | None) -> Run:
    arrange = swap_r_and_z if G == 3 else np.array
    if B is None:
        return Run(arrange(W), arrange(R))
    b_x, b_h = np.split(B, 2)
    return Run(arrange(W), arrange(R), arrange(b_x), arrange(b_h))


def recurrent_arrays(G: int, runs: list[Run]) -> tuple[Array, Array, Array | None]:
    """Return W, R and B of the directions of one layer, as ONNX has them."""
    arrange = swap_r_and_z if G == 3 else np.array
    W = np.stack([arrange(run.W) for run in runs])
    R = np.stack([arrange(run.U) for run in runs])
    biases = [[arrange(b) for b in (run.b_x, run.b_h) if b is not None] for run in runs]
    return W, R, np.stack([np.concatenate(pair) for pair in biases]) if biases[0] else None


def directions(block: Block) -> int:
    """Return D of a recurrent block."""
    return 2 if block.config.get("bidirectional") else 1


def stacked(row: Sequence[Block]) -> list[Block]:
    """Return the row with what belongs together as one block.

    Recurrent layers of one kind on top of each other are one stack, a product and its bias one
    Linear.
    """
    made: list[Block] = []
    for block in row:
        below = made[-1] if made else None
        shared = {"num_layers": 0, "input_size": 0}
        if (
            below is not None
            and block.cls in (GRU, RNN)
            and below.cls is block.cls
            and below.config | shared == block.config | shared
            and block.config["input_size"] == below.widths.gives
        ):
            L = below.config["num_layers"]
            arrays = {name.replace("_l0", f"_l{L}"): a for name, a in block.arrays.items()}
            config = below.config | {"num_layers": L + 1}
            made[-1] = below._replace(arrays=below.arrays | arrays, config=config)
        elif below is not None and block.cls is Linear and "weight" not in block.arrays:
            made[-1] = linear(below.name, below.arrays["weight"], block.arrays["bias"])
        else:
            made.append(block)
    return made
