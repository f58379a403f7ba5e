# SPDX-License-Identifier: MIT
"""Tensors in ONNX models: as arrays, wherever their numbers are, and back."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from pygru.interop.blocks import Array
from pygru.interop.onnx.wire import Message

__all__ = ["Tensors", "tensor"]

# onnx.TensorProto.DataType, as far as models of recurrent layers go
DTYPES = {
    1: np.float32, 2: np.uint8, 3: np.int8, 5: np.int16, 6: np.int32, 7: np.int64, 9: np.bool_,
    10: np.float16, 11: np.float64,
}  # fmt: skip
CODES: dict[Any, int] = {np.dtype(dtype): code for code, dtype in DTYPES.items()}


class Tensors:
    """The named tensors of a model.

    Parameters
    ----------
    folder : Path or None
        Where a model's file lies; what it keeps outside of itself must lie there too.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.outside: dict[Path, int] = {}  # file -> bytes of it that have not been asked for yet

    def array(self, message: Message) -> Any:
        """Return a tensor as an array, which is a view where it can be one.

        Raises
        ------
        ValueError
            When the numbers that are there are not those of its shape.
        """
        name = message.get("name", "")
        dims, code = message["dims"], message.get("data_type", 0)
        if code not in DTYPES:
            raise ValueError(f"tensor {name!r} must hold numbers pygru knows, got data type {code}")
        dtype = np.dtype(DTYPES[code]).newbyteorder("<")
        if any(dim < 0 for dim in dims):
            raise ValueError(f"tensor {name!r} must have a shape, got {dims}")
        needed = math.prod(dims)
        values = self._values(message, name, dtype, needed)
        if values.size != needed:
            raise ValueError(
                f"tensor {name!r} of shape {dims} must hold {needed} numbers, got {values.size}"
            )
        return values.reshape(dims)

    def _values(self, message: Message, name: str, dtype: Any, needed: int) -> Array:
        if message.get("data_location", 0):
            return self._outside(message, name, dtype, needed)
        if "raw_data" in message:
            raw = message["raw_data"]
            if len(raw) != needed * dtype.itemsize:
                raise ValueError(
                    f"tensor {name!r} of shape {message['dims']} must have "
                    f"{needed * dtype.itemsize} bytes, got {len(raw)}"
                )
            return np.frombuffer(raw, dtype)
        if dtype == np.float32:
            return np.asarray(message["float_data"], dtype)
        if dtype == np.float64:
            return np.asarray(message["double_data"], dtype)
        if dtype == np.int64:
            return np.asarray(message["int64_data"], dtype)
        loose = np.asarray(message["int32_data"], np.int64)
        if dtype == np.float16:  # as bits
            return loose.astype(np.uint16).view(np.float16)
        return loose.astype(dtype)

    def _outside(self, message: Message, name: str, dtype: Any, needed: int) -> Array:
        """Read a tensor from a file beside the model's, never from anywhere else."""
        where = {entry.get("key"): entry.get("value", "") for entry in message["external_data"]}
        location = where.get("location", "")
        if self.folder is None:
            raise ValueError(f"tensor {name!r} is in the file {location!r}: give the model's path")
        path = (self.folder / location).resolve()
        if not location or path.parent != self.folder.resolve():
            raise ValueError(
                f"tensor {name!r} must be in a file beside the model's, got {location!r}"
            )
        if not path.is_file():
            raise ValueError(
                f"tensor {name!r} must be in a file beside the model's, no {location!r}"
            )
        offset = int(where.get("offset") or 0)
        length = int(where.get("length") or needed * dtype.itemsize)
        if length != needed * dtype.itemsize or not 0 <= offset <= path.stat().st_size - length:
            raise ValueError(
                f"tensor {name!r} of shape {message['dims']} must be in {location!r}, got {length} "
                f"bytes at {offset} in a file of {path.stat().st_size}"
            )
        self.outside.setdefault(path, path.stat().st_size)
        self.outside[path] -= length
        if self.outside[path] < 0:
            raise ValueError(f"tensors must not share what {location!r} holds")
        return np.fromfile(path, dtype, needed, offset=offset)


def tensor(name: str, array: Array) -> Message:
    """Return an array as a tensor."""
    array = np.asarray(array, order="C")  # which keeps a single number one
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    code = CODES[array.dtype]
    return {
        "name": name,
        "dims": list(array.shape),
        "data_type": code,
        "raw_data": little.tobytes(),
    }
