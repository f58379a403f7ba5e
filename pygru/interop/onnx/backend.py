# SPDX-License-Identifier: MIT
"""`Backend`: an ``onnx.backend.base.Backend`` that runs models on pygru.

It is made when it is first asked for, because its base is onnx's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from pygru.interop.blocks import Array
from pygru.interop.onnx.graph import Graph, content_of, open_graph
from pygru.interop.onnx.importing import Imported, import_graph
from pygru.interop.onnx.running import run_model, run_node

__all__ = ["backend"]


class Prepared:
    """A model that is ready to run; what ``Backend.prepare`` gives."""

    def __init__(self, model: Any) -> None:
        self.graph: Graph = open_graph(content_of(model), None)
        ops = [node.op for node in self.graph.nodes]
        self.imported: Imported | None = None
        if ops not in (["GRU"], ["RNN"]):
            self.imported = import_graph(self.graph)

    def run(self, inputs: Any, **_options: Any) -> tuple[Array, ...]:
        """Return the outputs.

        Parameters
        ----------
        inputs : sequence of array, mapping or array
            In the order of the graph's inputs, or by name.
        """
        names = list(self.graph.inputs)
        if isinstance(inputs, np.ndarray):
            inputs = [inputs]
        if not isinstance(inputs, Mapping):
            inputs = dict(zip(names, inputs, strict=False))
        missing = [name for name in names if name not in inputs]
        if missing:
            raise ValueError(f"Backend.run: inputs must hold {names}, missing {missing}")
        feeds = {name: np.asarray(inputs[name]) for name in names}
        if self.imported is None:
            return tuple(run_node(self.graph, feeds))
        return tuple(run_model(self.imported, feeds))


@lru_cache(maxsize=1)
def backend() -> Any:
    """Return the class `pygru.interop.onnx.Backend`.

    Raises
    ------
    ImportError
        When onnx is not installed.
    """
    try:
        import onnx
        from onnx.backend.base import Backend as Base
        from onnx.backend.base import BackendRep
    except ImportError as error:
        raise ImportError("pygru.interop.onnx.Backend: needs onnx: pip install onnx") from error

    class PreparedRep(Prepared, BackendRep):  # type: ignore[misc]
        """`Prepared`, as onnx knows it."""

    class Backend(Base):  # type: ignore[misc]
        """Runs ONNX models on pygru: those that `from_onnx` reads, and single GRU and RNN nodes.

        Nodes run with every attribute of their operator, and weights may be inputs: direction,
        layout, linear_before_reset, sequence_lens, initial_h, clip, and the activations Relu,
        Sigmoid and Tanh. Others are a ValueError that names them.
        """

        @classmethod
        def is_compatible(cls, model: Any, device: str = "CPU", **_options: Any) -> bool:
            """Return whether pygru can run a model."""
            try:
                Prepared(model)
            except ValueError:
                return False
            return cls.supports_device(device)

        @classmethod
        def prepare(cls, model: Any, device: str = "CPU", **options: Any) -> PreparedRep:
            """Return a model that is ready to run."""
            super().prepare(model, device, **options)  # onnx's own check of the model
            return PreparedRep(model)

        @classmethod
        def run_node(
            cls, node: Any, inputs: Sequence[Array | None], device: str = "CPU",
            outputs_info: Any = None, **options: Any,
        ) -> tuple[Array, ...]:  # fmt: skip
            """Return the outputs of one node."""
            super().run_node(node, inputs, device, outputs_info, **options)
            given = [name for name in node.input if name]
            inputs = [value for value in inputs if value is not None]  # where a name is ""
            declared = [
                onnx.helper.make_tensor_value_info(
                    name, onnx.helper.np_dtype_to_tensor_dtype(np.asarray(value).dtype), None
                )
                for name, value in zip(given, inputs, strict=True)
            ]
            outputs = [onnx.helper.make_empty_tensor_value_info(n) for n in node.output if n]
            graph = onnx.helper.make_graph([node], "node", declared, outputs)
            return PreparedRep(onnx.helper.make_model(graph)).run(inputs)

        @classmethod
        def supports_device(cls, device: str) -> bool:
            """Return whether a device is the CPU."""
            return str(device).partition(":")[0] == "CPU"

    Backend.__qualname__ = "Backend"
    Backend.__module__ = "pygru.interop.onnx"
    return Backend
