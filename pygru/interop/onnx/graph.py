# SPDX-License-Identifier: MIT
"""A model's graph, opened: nodes with their attributes, constants by name, inputs and outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from pygru.interop.blocks import Array
from pygru.interop.containers import SLACK, is_path
from pygru.interop.onnx.tensors import Tensors
from pygru.interop.onnx.wire import Message, decode

__all__ = ["Graph", "Node", "content_of", "open_graph"]

DOMAINS = ("", "ai.onnx")


class Node(NamedTuple):
    """One operation."""

    op: str
    name: str  # for messages
    inputs: list[str]  # "" where an optional one is left out
    outputs: list[str]
    attributes: dict[str, Any]

    def refuse(self, expected: str, got: Any) -> ValueError:
        """Return an error that names the node."""
        return ValueError(f"{self.name} must have {expected}, got {got}")


class Graph(NamedTuple):
    """What a model computes."""

    opset: int
    nodes: list[Node]
    constants: dict[str, Array]
    inputs: dict[str, Message]  # name -> tensor type; of what is no constant
    outputs: list[str]
    size: int  # bytes, files beside the model's included


def content_of(source: Any) -> bytes:
    """Return the bytes of a model: of a file, of an onnx.ModelProto, or as they are.

    Raises
    ------
    OSError
        When the file cannot be read.
    TypeError
        When the source is none of these.
    """
    if is_path(source):
        return Path(source).read_bytes()
    if hasattr(source, "SerializeToString"):
        content: bytes = source.SerializeToString()
        return content
    if isinstance(source, (bytes, bytearray, memoryview)):
        return bytes(source)
    raise TypeError(
        "from_onnx: source must be a path, bytes or an onnx.ModelProto, "
        f"got {type(source).__name__}"
    )


def open_graph(content: bytes, folder: Path | None) -> Graph:
    """Open a model; what it keeps in other files lies in the folder.

    Raises
    ------
    ValueError
        When it is no model that pygru can read.
    """
    model = decode(content)
    if "graph" not in model or not model["opset_import"]:
        raise ValueError("must be an ONNX model, got one without graph or operator set")
    versions = {o.get("domain", ""): o.get("version", 1) for o in model["opset_import"]}
    graph = model["graph"]
    if graph["sparse"]:
        raise ValueError("must have dense weights, got sparse ones")
    tensors = Tensors(folder)
    constants = {t.get("name", ""): tensors.array(t) for t in graph["initializer"]}
    inputs = {
        value.get("name", ""): value.get("type", {}).get("tensor_type", {})
        for value in graph["input"]
        if value.get("name", "") not in constants
    }
    nodes = [_node(node, i, tensors) for i, node in enumerate(graph["node"])]
    outputs = [value.get("name", "") for value in graph["output"]]
    opset = max(versions.get(domain, 0) for domain in DOMAINS)
    size = len(content) + sum(file.stat().st_size for file in tensors.outside) + SLACK
    return Graph(opset, nodes, constants, inputs, outputs, size)


def _node(message: Message, i: int, tensors: Tensors) -> Node:
    op, domain = message.get("op_type", ""), message.get("domain", "")
    name = f"node {message.get('name') or i} ({op})"
    if domain not in DOMAINS:
        raise ValueError(f"{name} must be one of ONNX's own operators, got one of {domain!r}")
    attributes = {a.get("name", ""): _attribute(a, tensors) for a in message["attribute"]}
    return Node(op, name, message["input"], message["output"], attributes)


def _attribute(message: Message, tensors: Tensors) -> Any:
    """Return an attribute's value by its type (onnx.AttributeProto.AttributeType)."""
    kind = message.get("type", 0)
    if kind in (1, 2):
        return message.get({1: "f", 2: "i"}[kind], 0)
    if kind == 3:
        return str(message.get("s", b""), "utf-8")
    if kind == 4:
        return tensors.array(message["t"])
    if kind in (6, 7):
        return list(message[{6: "floats", 7: "ints"}[kind]])
    if kind == 8:
        return [str(text, "utf-8") for text in message["strings"]]
    return None  # a graph (of Loop, If), which no operator here has
