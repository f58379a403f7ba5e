# SPDX-License-Identifier: MIT
"""ONNX: models of recurrent layers in and out, and a backend that runs them.

Neither onnx nor protobuf is needed to read or write models; `Backend` is one of onnx's own.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pygru.checks import as_bool
from pygru.composite import check_own
from pygru.interop.checking import random_input, report, unavailable
from pygru.interop.containers import path_of, reading
from pygru.interop.onnx.backend import backend
from pygru.interop.onnx.exporting import export
from pygru.interop.onnx.flow import INTEGERS
from pygru.interop.onnx.graph import Graph, content_of, open_graph
from pygru.interop.onnx.importing import Imported, import_graph
from pygru.interop.onnx.running import run_model
from pygru.interop.onnx.tensors import DTYPES
from pygru.interop.onnx.wire import Message
from pygru.model import Sequential
from pygru.module import Module

__all__ = ["Backend", "from_onnx", "to_onnx"]


def from_onnx(source: Any, *, check: bool = False) -> Any:
    """Make a model of an ONNX model: the same functions, the same weights.

    Parameters
    ----------
    source : path-like, bytes or onnx.ModelProto
        A row of GRU, RNN, Gemm or MatMul and Add, Gather (a table, the last step, both ends),
        OneHot, Relu, Sigmoid, Softmax, Tanh, LayerNormalization, ReduceMean over time and Expand of
        one vector, with whatever arranges axes between them, as PyTorch's exporters and tf2onnx
        write it. Weights may be in a second file beside.
    check : bool
        Where ONNX Runtime is installed run both on random input, print the largest absolute
        difference.

    Returns
    -------
    Module
        A Sequential, or a single GRU or RNN where the model gives final states too. An input for
        the initial state (one for all layers) is h_0, one for the lengths ``lengths=``; neither is
        part of the model.

    Raises
    ------
    TypeError
        When the source is none of these.
    ValueError
        When an operator, or an attribute of one, has no equal in pygru's layers, named (`Backend`
        runs single GRU and RNN nodes with every attribute); when a file is corrupt.

    Examples
    --------
    >>> gru = pygru.GRU(3, 4, num_layers=2, bidirectional=True, rng=0)
    >>> same = from_onnx(to_onnx(gru))
    >>> same
    GRU(input_size=3, hidden_size=4, num_layers=2, bias=True, batch_first=False, dropout=0.0,
    bidirectional=True, reset='after', dtype='float32')
    >>> np.array_equal(same.flat_params, gru.flat_params)
    True
    """
    path = path_of("from_onnx", source)
    content = content_of(source)
    with reading("from_onnx", path, content=True):
        graph = open_graph(content, None if path is None else path.parent)
        imported = import_graph(graph)
    if check and not unavailable("from_onnx", "ONNX Runtime", "onnxruntime"):
        _check(graph, imported, content if path is None else str(path))
    return imported.model


def to_onnx(model: Module, *, state: bool = False) -> bytes:
    """Return a model as an ONNX model: what a .onnx file holds, and ONNX Runtime takes as it is.

    Parameters
    ----------
    model : Module
        A Sequential or a layer, of pygru's own classes.
    state : bool
        Whether the states go in and out, to go on from one call to the next, as in streaming.

    Returns
    -------
    bytes
        Input ``x`` in the model's layout, T and B free, or (B, K) where nothing looks at time;
        output ``y``, and ``h_n`` of a recurrent layer alone. With ``state`` also input ``h_0`` and
        output ``h_n``, (L, B, H); where there are several recurrent layers those of each, with its
        place in the model: ``h_0_0``, ``h_0_2``. Every sequence has T steps. (ONNX Runtime runs GRU
        and RNN in float32 alone.)

    Raises
    ------
    TypeError
        When a derived class computes its own way.
    ValueError
        When ONNX has no equal of a module, or with ``state`` no layer has one, or one reads
        sequences backwards or all of them at once.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> model = pygru.Sequential(pygru.GRU(3, 4, rng=0), pygru.LastStep(), pygru.Linear(4, 1))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "model.onnx"
    ...     path.write_bytes(to_onnx(model)) > 0
    ...     len(from_onnx(path))
    True
    3
    """
    check_own("to_onnx", model)
    state = as_bool("to_onnx", "state", state)
    with reading("to_onnx", None):
        return export(model, state)


def __getattr__(name: str) -> Any:
    if name == "Backend":
        return backend()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _check(graph: Graph, imported: Imported, source: bytes | str) -> None:
    """Run the same graph in ONNX Runtime, on input of the sizes that it declares."""
    import onnxruntime

    quiet = onnxruntime.SessionOptions()
    quiet.log_severity_level = 4
    model = imported.model
    T, B, vectors = _sizes(graph.inputs[imported.x], model)
    feeds = {imported.x: random_input(model, T=T, B=B, vectors=vectors)}
    if imported.lengths is not None:
        kind = DTYPES[graph.inputs[imported.lengths]["elem_type"]]
        feeds[imported.lengths] = np.full(B, T, kind)
    if imported.state is not None:
        recurrent = model.recurrent if isinstance(model, Sequential) else [model]
        rows = sum(m.num_layers * (1 + m.bidirectional) for m in recurrent)
        sizes = zip(imported.state.axes, (rows, B, recurrent[0].hidden_size), strict=True)
        shape = [size for axis, size in sorted(sizes) if axis != "u"]
        feeds[imported.state.name] = np.full(shape, 0.1, model.dtype)
    try:
        session = onnxruntime.InferenceSession(source, quiet)
        theirs = session.run(graph.outputs, feeds)
    except Exception as error:  # what it has no kernel for (float64, layout=1) is its own affair
        reason = str(error).partition("\n")[0]
        print(f"from_onnx: not checked, ONNX Runtime cannot run it: {reason}")  # noqa: T201
        return
    framework = f"onnxruntime {onnxruntime.__version__}"
    report("from_onnx", framework, run_model(imported, feeds), theirs)


def _sizes(declared: Message, model: Module) -> tuple[int, int, bool | None]:
    """Return T and B, those of the graph where it fixes them, and whether x has no steps."""
    dims = [dim.get("dim_value") or 0 for dim in declared.get("shape", {}).get("dim", [])]
    leading = dims if declared.get("elem_type") in INTEGERS else dims[:-1]
    if len(leading) < 2:
        return 7, (leading[0] if leading else 0) or 3, bool(leading) or None
    T, B = leading[1::-1] if model.batch_first else leading[:2]
    return T or 7, B or 3, False
