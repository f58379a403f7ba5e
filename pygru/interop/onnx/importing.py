# SPDX-License-Identifier: MIT
"""From a graph to a row of modules: every node's effect on the data's axes, followed in order.

Exporters surround each layer with nodes that arrange axes and compute shapes. They are followed,
not matched: whatever they are, what comes out of them must be the data in a layout that pygru has.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from pygru.activations import ReLU, Sigmoid, Softmax, Tanh
from pygru.interop import blocks
from pygru.interop.blocks import Array, Block
from pygru.interop.onnx.arranging import ARRANGING, ended, halves, part_of_state, state_of
from pygru.interop.onnx.cells import directions, recurrent_node, stacked
from pygru.interop.onnx.constants import Fill, axes_of, constant, fold, passed, slices_of
from pygru.interop.onnx.flow import Extra, Flow, Rows, State, declared, other
from pygru.interop.onnx.graph import Graph, Node
from pygru.layers import GRU, RNN, Linear
from pygru.module import Module
from pygru.pooling import BothEnds, LastStep, MeanOverTime, TimeLayer
from pygru.shapes import OneHot, RepeatVector
from pygru.widths import Widths

__all__ = ["Imported", "Output", "import_graph"]

ELEMENTWISE: dict[str, type[Module]] = {"Relu": ReLU, "Sigmoid": Sigmoid, "Tanh": Tanh}
Handler: TypeAlias = Callable[[Node, Sequence[Any]], Sequence[Any]]


class Output(NamedTuple):
    """What one output of a graph is."""

    kind: str  # "y" or "h_n"
    axes: tuple[str, ...]
    D: int  # directions, where they have an axis of their own


class Imported(NamedTuple):
    """A model, and which of the graph's inputs and outputs are what."""

    model: Any
    x: str
    state: State | None  # inputs, where the graph has them
    lengths: str | None
    outputs: list[Output]


def import_graph(graph: Graph) -> Imported:
    """Make a model of a graph.

    Raises
    ------
    ValueError
        When the graph is no row of layers that pygru has.
    """
    return _Importer(graph).run()


class _Importer:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.left = graph.size  # bytes of weights; nodes may not share what a file holds once
        self.blocks: list[Block] = []
        self.time: str | None = None
        self.state: State | None = None
        self.lengths: str | None = None
        if not graph.inputs:
            raise ValueError("must have an input, got none")
        self.values: dict[str, Any] = dict(graph.constants)
        names = list(graph.inputs)
        self.values |= {name: other(name, kind) for name, kind in graph.inputs.items()}
        self.x = names[0]
        self.values[self.x] = declared(graph.inputs[self.x])

    def run(self) -> Imported:
        loops = [node.name for node in self.graph.nodes if node.op in ("If", "Loop", "Scan")]
        if loops:
            raise ValueError(
                f"must have its recurrent layers as GRU and RNN, got {loops[0]}, which is how "
                "tf2onnx writes those it does not know: use from_keras on the Keras model itself"
            )
        for node in self.graph.nodes:
            given = [self.value(node, name) for name in node.inputs]
            made = self.step(node, given)
            for name, value in zip(node.outputs, made, strict=False):
                self.values[name] = value
        outputs = [self.output(name) for name in self.graph.outputs]
        if [output.kind for output in outputs].count("y") != 1:
            raise ValueError(f"must give one y, besides final states, got {self.graph.outputs}")
        batch_first = None if self.time is None else self.time == "1"
        row = [self.laid_out(block, batch_first) for block in stacked(self.blocks)]
        alone = len(row) == 1 and len(outputs) > 1
        return Imported(blocks.build(row, row=not alone), self.x, self.state, self.lengths, outputs)

    def laid_out(self, block: Block, batch_first: bool | None) -> Block:
        if block.cls in (GRU, RNN) or issubclass(block.cls, TimeLayer):
            return block._replace(config=block.config | {"batch_first": bool(batch_first)})
        return block

    def value(self, node: Node, name: str) -> Any:
        if name == "":
            return None
        if name not in self.values:
            raise node.refuse("inputs that are there", repr(name))
        return self.values[name]

    def output(self, name: str) -> Output:
        value = self.values.get(name)
        taken = isinstance(value, Flow) and value.step is not None
        if taken or (isinstance(value, Rows) and "D" not in value.axes):
            value = self.entering(None, value)
        recurrent = [i for i, block in enumerate(self.blocks) if block.cls in (GRU, RNN)]
        states = tuple((i, d) for i in recurrent for d in range(directions(self.blocks[i])))
        if isinstance(value, Rows) and value.rows == states:
            return Output("h_n", value.axes, 1)
        if not isinstance(value, Flow) or value.at != len(self.blocks):
            raise ValueError(f"output {name!r} must be y of the last layer or all final states")
        leading = [a for axis in value.axes for a in axis.split("*") if a in "01"]
        if leading != sorted(leading) or value.axes[-1] != "C":
            raise ValueError(f"output {name!r} must have the order of the input's axes")
        return Output("y", value.axes, value.D)

    # One node

    def step(self, node: Node, given: Sequence[Any]) -> Sequence[Any]:
        """Return a node's outputs."""
        if node.op == "Constant":
            return [constant(node)]
        first = given[0] if given else None
        if all(value is None or isinstance(value, np.ndarray) for value in given):
            folded = fold(node, [v for v in given if v is not None], self.graph.size)
            if folded is not None:
                return [folded]
        if isinstance(first, Fill):
            return [passed(node, given)]
        if isinstance(first, Extra) and node.op in ("Gather", "Slice"):
            return [part_of_state(node, first, given)]
        handler: Handler | None = getattr(self, f"on_{node.op}", None)
        if node.op in ARRANGING:
            return [ARRANGING[node.op](node, given)]
        if node.op in ELEMENTWISE:
            return [self.append(node, given[0], blocks.plain(node.name, ELEMENTWISE[node.op]))]
        if handler is None:
            raise ValueError(f"{node.name} must be an operator that pygru has an equal of")
        return handler(node, given)

    def entering(self, node: Node | None, value: Any) -> Flow:
        """Return what a layer reads, final states as the pooling that gives them."""
        if isinstance(value, Rows):
            last, units = len(self.blocks) - 1, value.units()
            axes = tuple("u" if i in units else axis for i, axis in enumerate(value.axes))
            all_of_it = value.rows == ((last, 0), (last, 1))[: len(value.rows)]
            all_of_it = all_of_it and value.features == value.width
            if not all_of_it or "D" in axes or len(axes) != 2 + len(units):
                raise ValueError(
                    f"{node.name if node else 'the output'} must read the final states of the "
                    "last layer, all directions side by side"
                )
            pooling = LastStep if len(value.rows) == 1 else BothEnds
            self.blocks.append(blocks.plain("the final state", pooling))
            return Flow(axes, len(self.blocks), value.leading, 1, value.width)
        where = node.name if node else "the output"
        if not isinstance(value, Flow):
            raise ValueError(f"{where} must read the data, got another input or a constant")
        if value.at != len(self.blocks) or value.way is not None:
            raise ValueError(f"{where} must read all that the layer before it gives: no branches")
        if value.step == 0:
            raise ValueError(f"{where} must read the last step of time, got the first")
        if value.step == -1:
            self.blocks.append(blocks.plain("the last step", LastStep))
            return value._replace(at=len(self.blocks), step=None)
        return value

    def append(self, node: Node, value: Any, block: Block) -> Flow:
        flow = self.entering(node, value)
        self.blocks.append(block)
        width = flow.features if block.widths.gives is None else block.widths.gives
        return flow._replace(at=len(self.blocks), features=width)

    def weights(self, node: Node, value: Any, what: str) -> Array:
        """Return a constant that is a weight."""
        if not isinstance(value, np.ndarray) or value.dtype.kind != "f":
            raise node.refuse(f"{what} that is a constant of real numbers", type(value).__name__)
        self.left -= value.nbytes
        if self.left < 0:
            raise node.refuse("weights of its own", "some that other nodes use too")
        return value

    # Layers

    def on_GRU(self, node: Node, given: Sequence[Any]) -> Sequence[Any]:
        x, W, R, B, lengths, h_0 = [*given, None, None, None, None, None][:6]
        arrays = [self.weights(node, a, n) for a, n in ((W, "W"), (R, "R")) if a is not None]
        if len(arrays) != 2:
            raise node.refuse("W and R", f"{len(arrays)} of them")
        bias = None if B is None else self.weights(node, B, "B")
        spec = recurrent_node(node, arrays[0], arrays[1], bias)
        block, flow = spec.block(), self.entering(node, x)
        axes = tuple(flow.axes)
        if len(axes) != 3 or axes[-1] != "C" or not set(axes[:2]) <= {"0", "1"}:
            raise node.refuse("input (T, B, I)", f"axes {axes}")
        time, batch = axes[:2] if spec.time_first else axes[1::-1]
        if self.time not in (None, time):
            raise node.refuse(f"axis {self.time} as time, as layers before it have", time)
        self.time, T = time, flow.sizes()[axes.index(time)]
        if isinstance(lengths, Extra):
            whole = lengths == self.values[lengths.name]
            if not whole or self.lengths not in (None, lengths.name):
                raise node.refuse("sequence_lens as layers before it have", lengths)
            self.lengths = lengths.name
        elif lengths is not None and not (isinstance(lengths, Fill) and lengths.value == T):
            raise node.refuse("sequence_lens from an input", "a constant")
        if isinstance(h_0, Extra):
            before = sum(directions(b) for b in self.blocks if b.cls in (GRU, RNN))
            mine = (before, before + len(spec.runs))
            state = state_of(node, h_0, spec.time_first)
            if (h_0.rows or (0, mine[1])) != mine or self.state not in (None, state):
                raise node.refuse(
                    f"rows {mine} of the one initial state of all layers",
                    f"rows {h_0.rows or 'all'} of {h_0.name!r}",
                )
            self.state = state
        elif h_0 is not None and np.any(h_0.value if isinstance(h_0, Fill) else h_0):
            raise node.refuse("initial_h from an input, or 0", "another")
        made = self.append(node, flow, block)
        D, H, k = len(spec.runs), spec.runs[0].U.shape[1], len(self.blocks) - 1
        y_axes = (time, "D", batch, "C") if spec.time_first else (batch, time, "D", "C")
        h_axes = ("D", batch, "C") if spec.time_first else (batch, "D", "C")
        states = Rows(h_axes, tuple((k, d) for d in range(D)), flow.leading, H, D * H)
        return [made._replace(axes=y_axes, D=D, features=H), states]

    def on_RNN(self, node: Node, given: Sequence[Any]) -> Sequence[Any]:
        return self.on_GRU(node, given)

    def on_Gemm(self, node: Node, given: Sequence[Any]) -> Sequence[Any]:
        a = node.attributes
        if a.get("alpha", 1.0) != 1.0 or a.get("beta", 1.0) != 1.0 or a.get("transA", 0):
            raise node.refuse("alpha=1, beta=1, transA=0", a)
        W = self.weights(node, given[1], "B")
        flow = self.linear(node, given[0], W if a.get("transB", 0) else W.T)
        return [self.biased(node, flow, given[2]) if len(given) > 2 else flow]

    def on_MatMul(self, node: Node, given: Sequence[Any]) -> Sequence[Any]:
        W = self.weights(node, given[1], "its second factor")
        return [self.linear(node, given[0], W.T)]

    def linear(self, node: Node, value: Any, W: Array) -> Flow:
        flow = self.entering(node, value)
        if flow.axes[-1] != "C" or flow.D != 1:
            raise node.refuse("input (..., K)", f"axes {flow.axes}")
        return self.append(node, flow, blocks.linear(node.name, W, None))

    def on_Add(self, node: Node, given: Sequence[Any]) -> Sequence[Any]:
        flow, constant = given if isinstance(given[0], Flow) else given[::-1]
        return [self.biased(node, flow, constant)]

    def biased(self, node: Node, value: Any, constant: Any) -> Flow:
        """Add the bias of the product before it: a block of its own, as that may be read too."""
        bias, flow = self.weights(node, constant, "a bias"), self.entering(node, value)
        product = self.blocks[-1] if self.blocks else None
        if product is None or product.cls is not Linear or "bias" in product.arrays:
            raise node.refuse("a matrix product before it, whose bias it adds", "something else")
        M = product.widths.gives
        shape = tuple(M if axis == "C" else 1 for axis in flow.axes)
        if (1,) * (len(shape) - bias.ndim) + bias.shape != shape:
            raise node.refuse(f"a bias of shape {shape}, along the features", bias.shape)
        block = Block(node.name, Linear, {}, {"bias": bias.reshape(-1)}, Widths(M, M))
        return self.append(node, flow, block)

    def on_LayerNormalization(self, node: Node, given: Sequence[Any]) -> Sequence[Any]:
        flow = self.entering(node, given[0])
        axis = node.attributes.get("axis", -1)
        if axis not in (-1, len(flow.axes) - 1) or flow.axes[-1] != "C" or flow.D != 1:
            raise node.refuse("axis=-1, the features", axis)
        w = self.weights(node, given[1], "a scale")
        b = self.weights(node, given[2], "a bias") if len(given) > 2 else np.zeros_like(w)
        eps = float(str(np.float32(node.attributes.get("epsilon", 1e-5))))  # 1e-5 for its float32
        return [self.append(node, flow, blocks.norm(node.name, w, b, eps))]

    def on_Softmax(self, node: Node, given: Sequence[Any]) -> Sequence[Any]:
        flow = self.entering(node, given[0])
        axis = node.attributes.get("axis", -1 if self.graph.opset >= 13 else 1)
        if axis not in (-1, len(flow.axes) - 1) or flow.axes[-1] != "C" or flow.D != 1:
            raise node.refuse("axis=-1, the features", axis)
        return [self.append(node, flow, blocks.plain(node.name, Softmax))]

    def on_ReduceMean(self, node: Node, given: Sequence[Any]) -> Sequence[Any]:
        flow = self.entering(node, given[0])
        axes = axes_of(node, given)
        if axes is None or len(axes) != 1 or not self.is_time(flow, axes[0]) or self.lengths:
            raise node.refuse("time as its axis, of sequences of one length", axes)
        rest = ("u",) if node.attributes.get("keepdims", 1) else ()
        at = axes[0] % len(flow.axes)
        made = self.append(node, flow, blocks.plain(node.name, MeanOverTime))
        return [made._replace(axes=flow.axes[:at] + rest + flow.axes[at + 1 :])]

    def on_OneHot(self, node: Node, given: Sequence[Any]) -> Sequence[Any]:
        flow, depth, values = self.entering(node, given[0]), *given[1:]
        if "C" in flow.axes or node.attributes.get("axis", -1) not in (-1, len(flow.axes)):
            raise node.refuse("integers of the input, and the classes last", flow.axes)
        if not (np.size(depth) == 1 and np.array_equal(values, [0, 1])):
            raise node.refuse("a known number of classes, 0 and 1", (depth, values))
        K = int(np.ravel(depth)[0])
        made = self.append(node, flow, blocks.plain(node.name, OneHot, num_classes=K))
        return [made._replace(axes=(*flow.axes, "C"), features=K)]

    def on_Expand(self, node: Node, given: Sequence[Any]) -> Sequence[Any]:
        flow, sizes = self.entering(node, given[0]), np.asarray(given[1]).tolist()
        at = [i for i, axis in enumerate(flow.axes) if axis == "u"]
        others = [size for i, size in enumerate(sizes) if i not in at]
        if len(at) != 1 or others != [1, 1] or flow.axes[2:] != ("C",):
            raise node.refuse("one vector (B, K) to repeat at every step", sizes)
        n, i = sizes[at[0]], at[0]
        if not isinstance(n, int):
            raise node.refuse("a known number of steps", f"the size of axis {n!r}")
        made = self.append(node, flow, blocks.plain(node.name, RepeatVector, n=n))
        if self.time not in (None, str(i)):
            raise node.refuse(f"axis {self.time} as time, as layers before it have", i)
        self.time = str(i)
        leading = [made.leading[int(axis)] for axis in made.axes if axis in ("0", "1")]
        leading.insert(i, n)
        return [made._replace(axes=("0", "1", "C"), leading=tuple(leading))]

    # Parts of the data

    def on_Gather(self, node: Node, given: Sequence[Any]) -> Sequence[Any]:
        value, index = given
        axis = node.attributes.get("axis", 0)
        if isinstance(value, np.ndarray) and isinstance(index, Flow):
            if axis != 0 or "C" in index.axes:
                raise node.refuse("a table and integers of the input", f"axis {axis}")
            table = self.weights(node, value, "a table")
            made = self.append(node, index, blocks.embedding(node.name, table))
            return [made._replace(axes=(*index.axes, "C"), features=table.shape[1])]
        if not isinstance(index, np.ndarray) or index.size != 1 or index.dtype == object:
            raise node.refuse("one known place to take from the data", type(index).__name__)
        kept = ("u",) * index.ndim
        return [self.taken(node, value, axis, int(index.reshape(-1)[0]), kept)]

    def taken(self, node: Node, value: Any, axis: int, place: int, kept: tuple[str, ...]) -> Any:
        """Return the data or the states at one place of an axis."""
        if not isinstance(value, (Flow, Rows)) or not -len(value.axes) <= axis < len(value.axes):
            raise node.refuse("the data to take from", type(value).__name__)
        axis %= len(value.axes)
        name, axes = value.axes[axis], value.axes[:axis] + kept + value.axes[axis + 1 :]
        if isinstance(value, Rows) and name == "D":
            if not -len(value.rows) <= place < len(value.rows):
                raise node.refuse(f"one of {len(value.rows)} states", place)
            return value._replace(axes=axes, rows=(value.rows[place],))
        if axis in value.units() and place in (0, -1):
            return value._replace(axes=axes)
        if isinstance(value, Flow) and name == "D":
            return value._replace(axes=axes, D=1, way=range(2)[place])
        if self.lengths is not None and name == self.time:
            raise node.refuse("Y_h to read, as sequences have lengths of their own", name)
        if isinstance(value, Flow) and self.is_time(value, axis) and place in (0, -1):
            return ended(value._replace(axes=axes, step=place))
        raise node.refuse("the last step of time, or one final state", f"{place} of axis {axis}")

    def is_time(self, flow: Flow, axis: int) -> bool:
        """Whether an axis is time: where no layer has told, the one that is asked for first."""
        if self.time is None and set(flow.axes) == {"0", "1", "C"} and flow.axes[axis] != "C":
            self.time = flow.axes[axis]
        return flow.axes[axis] == self.time

    def on_Split(self, node: Node, given: Sequence[Any]) -> Sequence[Any]:
        sizes = given[1] if len(given) > 1 else node.attributes.get("split")
        if len(node.outputs) != 2 or (sizes is not None and len(set(np.ravel(sizes))) != 1):
            raise node.refuse("two equal parts", sizes)
        return halves(node, given[0], node.attributes.get("axis", 0))

    def on_Slice(self, node: Node, given: Sequence[Any]) -> Sequence[Any]:
        value = given[0]
        rank = len(value.axes)
        for axis, part in enumerate(slices_of(node, given, rank)):
            start, stop, step = part.start or 0, part.stop, part.step or 1
            if (start, stop, step) == (0, None, 1):
                continue
            if isinstance(value, Rows) and value.axes[axis] == "D" and step == 1:
                value = value._replace(rows=value.rows[start:stop])
                if not value.rows:
                    raise node.refuse("some states to keep", part)
            elif isinstance(value, Flow) and value.axes[axis] == "C" and step == 1:
                H = (value.features or 0) // 2
                if (start, stop) not in ((0, H), (H, None), (H, 2 * H)):
                    raise node.refuse("one half of the features, or all of them", part)
                value = halves(node, value, axis)[start > 0]
            elif step == 1 and stop == (start + 1 or None):
                value = self.taken(node, value, axis, start, ("u",))
            else:
                raise node.refuse("the last step of time, or all of it", part)
        return [value]
