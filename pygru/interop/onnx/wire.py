# SPDX-License-Identifier: MIT
"""The part of ONNX's file format that models of recurrent layers use, read and written.

An ONNX file is one protobuf message: fields of a number and a value, nested. `MESSAGES` holds the
fields that matter, numbered as in ``onnx.proto3``; others are skipped. Doing it here means that no
package is needed, that weights stay views into the file, and that a hostile file cannot unfold: a
message of two bytes takes hundreds in memory, so there is a limit to how many are read.

References
----------
https://protobuf.dev/programming-guides/encoding and onnx/onnx.proto3 in github.com/onnx/onnx.
"""

from __future__ import annotations

import struct
from typing import Any, TypeAlias

import numpy as np

__all__ = ["Message", "decode", "encode"]

Message: TypeAlias = dict[str, Any]  # field -> value; of a repeated one ("*") always a list

# field number -> (name, kind); kinds are int, float, text, bytes, numbers of a dtype, messages
MESSAGES: dict[str, dict[int, tuple[str, str]]] = {
    "Model": {
        1: ("ir_version", "int"), 2: ("producer_name", "text"), 3: ("producer_version", "text"),
        7: ("graph", "Graph"), 8: ("opset_import", "*Opset"),
    },
    "Opset": {1: ("domain", "text"), 2: ("version", "int")},
    "Graph": {
        1: ("node", "*Node"), 2: ("name", "text"), 5: ("initializer", "*Tensor"),
        11: ("input", "*Value"), 12: ("output", "*Value"), 15: ("sparse", "*Sparse"),
    },
    "Sparse": {},
    "Node": {
        1: ("input", "*text"), 2: ("output", "*text"), 3: ("name", "text"), 4: ("op_type", "text"),
        5: ("attribute", "*Attribute"), 7: ("domain", "text"),
    },
    "Attribute": {
        1: ("name", "text"), 2: ("f", "float"), 3: ("i", "int"), 4: ("s", "bytes"),
        5: ("t", "Tensor"), 7: ("floats", "*float"), 8: ("ints", "*int"), 9: ("strings", "*bytes"),
        20: ("type", "int"),
    },
    "Tensor": {
        1: ("dims", "*int"), 2: ("data_type", "int"), 4: ("float_data", "*float"),
        5: ("int32_data", "*int"), 7: ("int64_data", "*int"), 8: ("name", "text"),
        9: ("raw_data", "bytes"), 10: ("double_data", "*double"), 13: ("external_data", "*Entry"),
        14: ("data_location", "int"),
    },
    "Entry": {1: ("key", "text"), 2: ("value", "text")},
    "Value": {1: ("name", "text"), 2: ("type", "Type")},
    "Type": {1: ("tensor_type", "TensorType")},
    "TensorType": {1: ("elem_type", "int"), 2: ("shape", "Shape")},
    "Shape": {1: ("dim", "*Dim")},
    "Dim": {1: ("dim_value", "int"), 2: ("dim_param", "text")},
}  # fmt: skip
MOST = 8192  # messages, names and loose numbers in one file
PACKED = {"float": "<f4", "double": "<f8"}  # numbers of fixed size lie side by side


def decode(content: Any) -> Message:
    """Return the model in a file's bytes; numbers and raw data are views into them.

    Raises
    ------
    ValueError
        When the bytes are no such message, or hold more than a model of layers does.
    """
    return _Decoder().message("Model", memoryview(content))


class _Decoder:
    """One pass over one file, and what is left of the limit."""

    def __init__(self) -> None:
        self.left = MOST

    def message(self, kind: str, view: memoryview) -> Message:
        fields, at = MESSAGES[kind], 0
        found: Message = {}
        self.spend(1)
        for name, of in fields.values():
            if of[0] == "*":
                found[name] = []
        while at < len(view):
            tag, at = _varint(view, at)
            value, end = _field(view, at, tag & 7)
            name, of = fields.get(tag >> 3, ("", ""))
            if name and of[0] == "*":
                self.repeat(found, name, of[1:], tag & 7, value)
            elif name:
                found[name] = self.value(of, tag & 7, value)
            at = end
        return found

    def repeat(self, found: Message, name: str, kind: str, wire: int, value: Any) -> None:
        """Add to a repeated field: one value, or many packed into one."""
        if wire == 2 and kind in PACKED:
            if len(value) % np.dtype(PACKED[kind]).itemsize:
                raise ValueError(f"{name} must be whole numbers of bytes")
            if found[name]:
                raise ValueError(f"{name} must be in one piece")
            found[name] = np.frombuffer(value, PACKED[kind])
            return
        if isinstance(found[name], np.ndarray):
            raise ValueError(f"{name} must be in one piece")
        if wire == 2 and kind == "int":
            at = 0
            while at < len(value):
                self.spend(1)
                number, at = _varint(value, at)
                found[name].append(_signed(number))
            return
        self.spend(1)
        found[name].append(self.value(kind, wire, value))

    def value(self, kind: str, wire: int, value: Any) -> Any:
        expected = {"int": 0, "float": 5, "double": 1}.get(kind, 2)
        if wire != expected:
            raise ValueError(f"a field of kind {kind} must have wire type {expected}, got {wire}")
        if kind == "int":
            return _signed(value)
        if kind == "float":
            return struct.unpack("<f", value)[0]
        if kind == "double":
            return struct.unpack("<d", value)[0]
        if kind == "text":
            if len(value) > 1024:
                raise ValueError(f"a name must have at most 1024 bytes, got {len(value)}")
            return str(value, "utf-8")
        return value if kind == "bytes" else self.message(kind, value)

    def spend(self, many: int) -> None:
        self.left -= many
        if self.left < 0:
            raise ValueError(f"must hold at most {MOST} nodes, names and loose numbers")


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        if at >= len(view) or shift > 63:
            raise ValueError("must be a protobuf message, got a number without an end")
        byte = view[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number & 0xFFFF_FFFF_FFFF_FFFF, at
        shift += 7


def _signed(number: int) -> int:
    return number - (1 << 64) if number >> 63 else number


def _field(view: memoryview, at: int, wire: int) -> tuple[Any, int]:
    """Return the value of one field, as a number or its bytes, and where it ends."""
    if wire == 0:
        return _varint(view, at)
    if wire == 2:
        length, at = _varint(view, at)
    elif wire in (1, 5):
        length = 8 if wire == 1 else 4
    else:
        raise ValueError(f"must be a protobuf message, got wire type {wire}")
    if at + length > len(view):
        raise ValueError(f"must be whole, got {len(view) - at} bytes where {length} are due")
    return view[at : at + length], at + length


def encode(model: Message) -> bytes:
    """Return the bytes of a model made of the fields in `MESSAGES`."""
    return b"".join(_encode("Model", model))


def _encode(kind: str, message: Message) -> list[bytes]:
    parts: list[bytes] = []
    for number, (name, of) in MESSAGES[kind].items():
        if name not in message:
            continue
        values = message[name] if of[0] == "*" else [message[name]]
        of = of.removeprefix("*")
        for value in values:
            if of == "int":
                parts += [_number(number << 3), _number(value & 0xFFFF_FFFF_FFFF_FFFF)]
            elif of == "float":
                parts += [_number(number << 3 | 5), struct.pack("<f", value)]
            else:
                inner = [value] if of == "bytes" else [value.encode()] if of == "text" else []
                inner = inner or _encode(of, value)
                parts += [_number(number << 3 | 2), _number(sum(map(len, inner))), *inner]
    return parts


def _number(value: int) -> bytes:
    made = bytearray()
    while value > 0x7F:
        made.append(value & 0x7F | 0x80)
        value >>= 7
    made.append(value)
    return bytes(made)
