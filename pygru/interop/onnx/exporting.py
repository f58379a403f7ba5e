# SPDX-License-Identifier: MIT
"""From a row of modules to a graph of ONNX's operators, opset 17.

GRU and RNN take time first, so a Transpose comes before the first of them where a model is batch
first, and another one after the last where there still are steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pygru.activations import Activation, Softmax
from pygru.interop.blocks import GATES, modules_of, runs_of
from pygru.interop.onnx.cells import recurrent_arrays
from pygru.interop.onnx.tensors import CODES, tensor
from pygru.interop.onnx.wire import Message, encode
from pygru.layers import GRU, Embedding, Linear
from pygru.module import Module
from pygru.pooling import BothEnds, LastStep, MeanOverTime, TimeLayer
from pygru.recurrent import Recurrent
from pygru.regularization import Dropout, LayerNorm
from pygru.shapes import OneHot, RepeatVector

__all__ = ["export"]

IR_VERSION, OPSET = 8, 17  # of ONNX 1.12, 2022: LayerNormalization


def export(model: Module, state: bool) -> bytes:
    """Return the bytes of an ONNX model; see `pygru.interop.to_onnx`."""
    return _Exporter(model, state).run()


class _Exporter:
    def __init__(self, model: Module, state: bool) -> None:
        self.modules = modules_of(model)
        self.carries, self.gives = state, state or isinstance(model, Recurrent)
        self.several = sum(isinstance(module, Recurrent) for _, module in self.modules) > 1
        self.dtype, self.batch_first = model.dtype, bool(model.batch_first)
        self.nodes: list[Message] = []
        self.initializers: dict[str, Message] = {}
        self.time: int | None = int(self.batch_first)  # axis of time now; None after a pooling
        self.width: int | str = "K"  # of the features now
        self.states: list[str] = []  # final states of the recurrent module just before
        self.h_0s: list[Message] = []  # inputs and outputs: the states of each recurrent module
        self.h_ns: list[Message] = []

    def run(self) -> bytes:
        value, given = "x", self.input()
        for prefix, module in self.modules:
            value = self.module(prefix, module, value)
        y = _value("y", CODES[self.dtype], [*self.leading(), self.width])
        if self.time is not None and self.time != int(self.batch_first):
            self.node("Transpose", [value], output="y", perm=[1, 0, 2])
        else:
            self.node("Identity", [value], output="y")
        if self.carries and not self.h_0s:
            raise ValueError("state must be False for a model without a recurrent layer, got True")
        graph = {
            "node": self.nodes,
            "name": "pygru",
            "initializer": list(self.initializers.values()),
            "input": [given, *self.h_0s],
            "output": [y, *self.h_ns],
        }
        return encode(
            {
                "ir_version": IR_VERSION,
                "producer_name": "pygru",
                "graph": graph,
                "opset_import": [{"domain": "", "version": OPSET}],
            }
        )

    def input(self) -> Message:
        """Return the declaration of x, and find out whether there is time in it."""
        modules = [module for _, module in self.modules]
        timed = next((m for m in modules if isinstance(m, (Recurrent, TimeLayer))), None)
        if timed is None or isinstance(timed, RepeatVector):
            self.time = None
        first = next((m for m in modules if not isinstance(m, (Dropout, Activation))), None)
        if isinstance(first, (Embedding, OneHot)):
            return _value("x", CODES[np.dtype(np.int64)], self.leading())
        for name in ("input_size", "in_features", "normalized_shape"):
            self.width = getattr(first, name, self.width)
        return _value("x", CODES[self.dtype], [*self.leading(), self.width])

    def leading(self) -> list[int | str]:
        """Return the axes before the features, as things stand."""
        if self.time is None:
            return ["B"]
        return ["B", "T"] if self.batch_first else ["T", "B"]

    # Parts

    def node(
        self, op: str, inputs: Sequence[str], count: int = 1, output: str = "", **attributes: Any
    ) -> list[str]:
        """Add a node and return its outputs."""
        name = f"{op}_{len(self.nodes)}"
        outputs = [output] if output else [f"{name}_{i}" for i in range(count)]
        described = [_attribute(key, value) for key, value in attributes.items()]
        self.nodes.append(
            {"input": inputs, "output": outputs, "name": name, "op_type": op,
             "attribute": described}
        )  # fmt: skip
        return outputs

    def constant(self, name: str, array: Any) -> str:
        self.initializers[name] = tensor(name, np.asarray(array))
        return name

    def module(self, prefix: str, module: Module, value: str) -> str:
        """Add the nodes of one module and return the name of what it gives."""
        states, self.states = self.states, []
        if isinstance(module, Recurrent):
            return self.recurrent(prefix, module, value)
        if isinstance(module, Dropout):
            self.states = states
            return value
        if isinstance(module, RepeatVector):
            self.time = int(self.batch_first)
            times = np.where(np.arange(3) == self.time, module.n, 1)
            (value,) = self.node("Unsqueeze", [value, self.constant(f"{prefix}at", [self.time])])
            return self.node("Expand", [value, self.constant(f"{prefix}times", times)])[0]
        if isinstance(module, TimeLayer):
            return self.pooling(module, value, states)
        weights = {key: self.constant(prefix + key, w) for key, w in module.state_dict().items()}
        if isinstance(module, Linear):
            self.constant(prefix + "weight", module.state_dict()["weight"].T)
            self.width = module.out_features
            (value,) = self.node("MatMul", [value, weights["weight"]])
            return self.node("Add", [value, weights["bias"]])[0] if module.bias else value
        if isinstance(module, Embedding):
            self.width = module.embedding_dim
            return self.node("Gather", [weights["weight"], value], axis=0)[0]
        if isinstance(module, OneHot):
            self.width = module.num_classes
            depth = self.constant(prefix + "depth", module.num_classes)
            inputs = [value, depth, self.constant("off_on", np.array([0, 1], self.dtype))]
            return self.node("OneHot", inputs, axis=-1)[0]
        if isinstance(module, LayerNorm):
            inputs = [value, weights["weight"], weights["bias"]]
            return self.node("LayerNormalization", inputs, axis=-1, epsilon=module.eps)[0]
        if isinstance(module, Softmax):
            return self.node("Softmax", [value], axis=-1)[0]
        if isinstance(module, Activation):
            return self.node(type(module).__name__.replace("ReLU", "Relu"), [value])[0]
        raise ValueError(f"model must be of modules that ONNX has, got {module!r}")

    def recurrent(self, prefix: str, module: Recurrent, value: str) -> str:
        op, D = ("GRU" if isinstance(module, GRU) else "RNN"), 1 + module.bidirectional
        options: dict[str, Any] = {"hidden_size": module.hidden_size}
        options["direction"] = "bidirectional" if module.bidirectional else "forward"
        if isinstance(module, GRU):
            options["linear_before_reset"] = int(module.reset == "after")
        else:
            options["activations"] = [module.config()["nonlinearity"].capitalize()] * D
        if self.time == 1:
            (value,) = self.node("Transpose", [value], perm=[1, 0, 2])
        self.time, self.width = 0, D * module.hidden_size
        suffix = f"_{prefix}".rstrip(".") if self.several else ""
        shape: list[int | str] = [module.num_layers * D, "B", module.hidden_size]
        if self.carries:
            if D > 1:
                raise ValueError(
                    f"state must be False for a model that reads backwards, got True and {module!r}"
                )
            self.h_0s.append(_value(f"h_0{suffix}", CODES[self.dtype], shape))
        runs = runs_of(module)
        for layer in range(module.num_layers):
            arrays = recurrent_arrays(GATES[type(module)], runs[layer * D : (layer + 1) * D])
            names = [
                "" if array is None else self.constant(f"{prefix}{name}_l{layer}", array)
                for name, array in zip("WRB", arrays, strict=True)
            ]
            if self.carries:
                names += ["", self.layer_of(f"h_0{suffix}", layer, module.num_layers)]
            elif not names[-1]:
                names.pop()
            y, state = self.node(op, [value, *names], count=2, **options)
            self.states.append(state)
            if D == 1:
                (value,) = self.node("Squeeze", [y, self.constant("axis_1", np.array([1]))])
            else:
                (y,) = self.node("Transpose", [y], perm=[0, 2, 1, 3])
                (value,) = self.node("Reshape", [y, self.constant("merge", np.array([0, 0, -1]))])
        if self.gives:
            self.node("Concat", self.states, output=f"h_n{suffix}", axis=0)
            self.h_ns.append(_value(f"h_n{suffix}", CODES[self.dtype], shape))
        return value

    def layer_of(self, h_0: str, layer: int, layers: int) -> str:
        """Return the state of one layer, (1, B, H)."""
        if layers == 1:
            return h_0
        at = [self.constant(f"place_{i}", np.array([i])) for i in (layer, layer + 1, 0)]
        return self.node("Slice", [h_0, *at])[0]

    def end(self, which: str) -> str:
        """Return an index: of the first or the last place."""
        return self.constant(which, np.array({"first": 0, "last": -1}[which]))

    def pooling(self, module: Module, value: str, states: list[str]) -> str:
        time, self.time = self.time, None
        if time is None:
            raise ValueError(f"model must have steps where a module takes some, got {module!r}")
        if isinstance(module, LastStep):
            return self.node("Gather", [value, self.end("last")], axis=time)[0]
        if isinstance(module, MeanOverTime):
            if self.carries:
                raise ValueError("state must be False for a mean over all of time, got True")
            return self.node("ReduceMean", [value], axes=[time], keepdims=0)[0]
        if not isinstance(module, BothEnds):
            raise ValueError(f"model must be of modules that ONNX has, got {module!r}")
        first, last = self.end("first"), self.end("last")
        if states:
            ways = [self.node("Gather", [states[-1], place], axis=0)[0] for place in (first, last)]
        else:
            ends = [self.node("Gather", [value, place], axis=time)[0] for place in (last, first)]
            (forward, _), (_, backward) = (
                self.node("Split", [end], count=2, axis=-1) for end in ends
            )
            ways = [forward, backward]
        return self.node("Concat", ways, axis=-1)[0]


def _value(name: str, code: int, shape: Sequence[int | str]) -> Message:
    """Return the declaration of an input or output."""
    dims = [{"dim_value" if isinstance(d, int) else "dim_param": d} for d in shape]
    return {"name": name, "type": {"tensor_type": {"elem_type": code, "shape": {"dim": dims}}}}


def _attribute(name: str, value: Any) -> Message:
    """Return an attribute with the type that its value tells."""
    if isinstance(value, list):
        if isinstance(value[0], str):
            return {"name": name, "strings": [text.encode() for text in value], "type": 8}
        return {"name": name, "ints": value, "type": 7}
    if isinstance(value, str):
        return {"name": name, "s": value.encode(), "type": 3}
    if isinstance(value, float):
        return {"name": name, "f": value, "type": 1}
    return {"name": name, "i": int(value), "type": 2}
