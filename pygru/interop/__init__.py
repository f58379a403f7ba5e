# SPDX-License-Identifier: MIT
"""Weights of other systems, in and out: one file per system, each importing it only when it must.

Each ``from_*`` takes a file or what the system holds in memory and makes a model of the same
function with the same weights; what pygru has no equal of is refused by name. Each ``to_*`` gives
the same weights back, bit for bit. With ``check=True`` both are run on random input.
"""

from __future__ import annotations

from pygru.interop.keras import from_keras, to_keras_weights, write_keras_weights
from pygru.interop.onnx import from_onnx, to_onnx
from pygru.interop.rtneural import from_rtneural, to_rtneural
from pygru.interop.tensorflow1 import from_tf1, to_tf1
from pygru.interop.torch import from_torch, to_torch

__all__ = [
    "from_keras",
    "from_onnx",
    "from_rtneural",
    "from_tf1",
    "from_torch",
    "to_keras_weights",
    "to_onnx",
    "to_rtneural",
    "to_tf1",
    "to_torch",
    "write_keras_weights",
]
