# SPDX-License-Identifier: MIT
"""Files of every format by the end of their name: one row of `FORMATS` each.

What is safetensors by its beginning is read as that whatever its name, as pygru's `save` writes it.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pygru.files import CHECKPOINT, load, save, write_beside
from pygru.interop.checking import outputs_of, random_input, report
from pygru.interop.containers import is_safetensors, reading
from pygru.interop.keras import from_keras, write_keras_weights
from pygru.interop.onnx import from_onnx, to_onnx
from pygru.interop.rtneural import from_rtneural, to_rtneural
from pygru.interop.tensorflow1 import from_tf1, to_tf1
from pygru.interop.torch import from_torch, to_torch
from pygru.module import Module

__all__ = ["FORMATS", "Format", "format_of", "kind_of", "read", "writable", "write"]


STATE_DICT = "PyTorch state_dict"


class Format(NamedTuple):
    """One kind of file."""

    name: str
    read: Callable[[Path, Module | None, bool], Any]  # file, into, check
    write: Callable[[Module, Path], None] | None


def _read_safetensors(path: Path, into: Module | None, check: bool) -> Any:
    """Read a file of pygru's own, or a state_dict."""
    if kind_of(path) == STATE_DICT:
        return from_torch(path, into, check=check)
    return load(_whole(path, into))


def _whole(path: Path, into: Module | None) -> Path:
    if into is not None:
        raise ValueError(f"{path}: into must be None for what is a whole model")
    return path


def _read_torch(path: Path, into: Module | None, check: bool) -> Any:
    return from_torch(path, into, check=check)


def _write_torch(model: Module, path: Path) -> None:
    theirs, content = to_torch(model), io.BytesIO()
    import torch

    torch.save(theirs.state_dict(), content)
    write_beside(path, content.getvalue())


def _read_keras(path: Path, into: Module | None, check: bool) -> Any:
    return from_keras(path, into, check=check)


def _read_onnx(path: Path, into: Module | None, check: bool) -> Any:
    return from_onnx(_whole(path, into), check=check)


def _write_onnx(model: Module, path: Path) -> None:
    write_beside(path, to_onnx(model))


def _read_rtneural(path: Path, into: Module | None, check: bool) -> Any:
    return from_rtneural(path, into, check=check)


def _write_rtneural(model: Module, path: Path) -> None:
    write_beside(path, json.dumps(to_rtneural(model)).encode())


def _read_tf1(path: Path, into: Module | None, check: bool) -> Any:
    return from_tf1(_whole(path, into), check=check)


def _write_tf1(model: Module, path: Path) -> None:
    content = io.BytesIO()
    arrays: dict[str, Any] = dict(to_tf1(model))
    np.savez(content, **arrays)
    write_beside(path, content.getvalue())


SAFETENSORS = Format("pygru model", _read_safetensors, save)  # or what `kind_of` finds
FORMATS = {
    ".safetensors": SAFETENSORS,
    ".pt": Format(STATE_DICT, _read_torch, _write_torch),
    ".pth": Format(STATE_DICT, _read_torch, _write_torch),
    ".keras": Format("Keras 3 model", _read_keras, None),
    ".weights.h5": Format("Keras 3 weights", _read_keras, write_keras_weights),
    ".onnx": Format("ONNX model", _read_onnx, _write_onnx),
    ".json": Format("RTNeural model", _read_rtneural, _write_rtneural),
    ".npz": Format("TensorFlow 1 GRUCell", _read_tf1, _write_tf1),
}


def format_of(path: Path) -> Format:
    """Return the format of a file by the end of its name.

    Raises
    ------
    ValueError
        When there is none, with those there are.

    Examples
    --------
    >>> format_of(Path("model.weights.h5")).name
    'Keras 3 weights'
    """
    for ending, found in FORMATS.items():
        if path.name.endswith(ending):
            return found
    raise ValueError(f"{path}: the name must end in one of {', '.join(FORMATS)}")


def kind_of(path: Path) -> str:
    """Return what a file is in words: its format, and of safetensors which of three it is.

    Raises
    ------
    OSError
        When the file cannot be read.
    ValueError
        When it has no format, or is no safetensors file in spite of its name.
    """
    if not is_safetensors(path):
        return format_of(path).name
    from safetensors import safe_open

    with reading("load", path), safe_open(path, framework="numpy") as file:
        told = (file.metadata() or {}).get("format", "")
    return {"pygru": SAFETENSORS.name, CHECKPOINT: CHECKPOINT}.get(told, STATE_DICT)


def writable(path: Path) -> Format:
    """Return the format of a file to be.

    Raises
    ------
    ValueError
        When there is none, or pygru only reads it.
    """
    found = format_of(path)
    if found.write is None:
        raise ValueError(f"{path}: a {found.name} can be read, not written; write .weights.h5")
    return found


def read(path: Path, into: Module | None = None, *, check: bool = False) -> Any:
    """Read a model from a file of any format; see the ``from_*`` function of the format."""
    found = SAFETENSORS if is_safetensors(path) else format_of(path)
    return found.read(path, into, check)


def write(model: Module, path: Path, *, check: bool = False) -> None:
    """Write a model to a file of any format that can be written.

    Parameters
    ----------
    model : Module
    path : Path
    check : bool
        Read the file again, and let the format's own framework run it where it is installed.

    Raises
    ------
    ValueError
        When the format cannot be written, or has no equal of a module.
    """
    found = writable(path)
    found.write(model, path)  # type: ignore[misc]
    if check:
        _check(model, path, found)


def _check(model: Module, path: Path, found: Format) -> None:
    """Read a file that was written, run it in its own framework and beside the model."""
    import copy

    weights_only = found.name in (STATE_DICT, "Keras 3 weights")
    if found is FORMATS[".json"]:  # whose numbers have no precision of their own
        again = from_rtneural(path, dtype=model.dtype, check=True)
    else:
        again = found.read(path, copy.deepcopy(model) if weights_only else None, True)
    x = random_input(model)
    turned = model.batch_first is not None and bool(again.batch_first) != bool(model.batch_first)
    theirs = outputs_of(again, x.swapaxes(0, 1) if turned else x)[0]
    if turned and theirs.ndim == 3:
        theirs = theirs.swapaxes(0, 1)
    report(f"{path.name}", "the model that was written", outputs_of(model, x)[:1], [theirs])
