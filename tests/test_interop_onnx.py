# SPDX-License-Identifier: MIT
"""ONNX models come and go: what exporters write, and every attribute of the operator."""

from __future__ import annotations

import numpy as np
import pytest
from onnx_models import (
    DATA,
    VARIANTS,
    B,
    H,
    I,
    bare,
    everything,
    gru_node,
    model,
    node,
    repeating,
    squeezed,
    weights,
)

import pygru
from pygru.interop import from_onnx, to_onnx
from pygru.interop.onnx.wire import decode, encode


@pytest.mark.parametrize("bias", [False, True], ids=["unbiased", "bias"])
@pytest.mark.parametrize("bidirectional", [False, True], ids=["one-way", "two-way"])
@pytest.mark.parametrize("num_layers", [1, 2, 3])
@pytest.mark.parametrize("variant", VARIANTS)
def test_layers_come_and_go_bit_for_bit(variant, num_layers, bidirectional, bias, dtype):
    cls, options = VARIANTS[variant]
    layer = cls(
        I, H, num_layers, bias, bidirectional, bidirectional=bidirectional, dtype=dtype, rng=0,
        **options,
    )  # fmt: skip
    content = to_onnx(layer)
    again = from_onnx(content)
    assert repr(again) == repr(layer)
    assert np.array_equal(again.flat_params, layer.flat_params)
    assert to_onnx(again) == content


@pytest.mark.parametrize("batch_first", [False, True], ids=["time-first", "batch-first"])
def test_a_whole_model_comes_and_goes(batch_first, tmp_path):
    ours = everything(batch_first)
    path = tmp_path / "model.onnx"
    path.write_bytes(to_onnx(ours))
    for source in (path, str(path), path.read_bytes()):
        again = from_onnx(source)
        assert repr(again) == repr(ours)
        assert np.array_equal(again.flat_params, ours.flat_params)
        assert to_onnx(again) == to_onnx(ours)


@pytest.mark.parametrize("batch_first", [False, True], ids=["time-first", "batch-first"])
def test_sequences_of_one_vector_come_and_go(batch_first):
    layout = {"batch_first": batch_first}
    both = pygru.GRU(I, H, 2, bidirectional=True, rng=0, **layout)
    ends = pygru.Sequential(both, pygru.BothEnds(), pygru.RepeatVector(6))
    once = pygru.Sequential(pygru.RepeatVector(1), pygru.GRU(I, H, rng=0, **layout))
    for ours in (*repeating(batch_first), ends, once):
        again = from_onnx(to_onnx(ours))
        assert repr(again) == repr(ours)
        assert np.array_equal(again.flat_params, ours.flat_params)


@pytest.mark.parametrize("pooling", [pygru.LastStep, pygru.MeanOverTime, pygru.BothEnds])
def test_poolings_come_and_go(pooling):
    for batch_first in (False, True):
        gru = pygru.GRU(I, H, bidirectional=True, batch_first=batch_first)
        ours = pygru.Sequential(gru, pooling())
        assert repr(from_onnx(to_onnx(ours))) == repr(ours)
    assert len(from_onnx(to_onnx(pygru.Linear(3, 2)))) == 1  # no layout to know


@pytest.mark.parametrize(
    "name, kinds, options",
    [
        ("torchscript_stack", ["GRU"], {"num_layers": 2, "bidirectional": True}),
        (
            "torchscript_classifier",
            ["Embedding", "GRU", "LastStep", "Linear", "Softmax"],
            {"batch_first": True},
        ),
        ("dynamo_stack", ["GRU"], {"num_layers": 2, "bidirectional": True}),
        ("dynamo_both_ends", ["GRU", "BothEnds", "Linear"], {"bidirectional": True}),
        ("dynamo_norm", ["GRU", "LayerNorm", "LastStep", "Linear", "Tanh"], {"num_layers": 2}),
        ("dynamo_state", ["GRU", "Linear"], {"batch_first": False}),
        ("tf2onnx_bidirectional", ["GRU", "BothEnds", "Linear"], {"num_layers": 2}),
    ],
)
def test_what_exporters_write_is_understood(name, kinds, options):
    imported = from_onnx(DATA / f"{name}.onnx")
    row = list(imported) if isinstance(imported, pygru.Sequential) else [imported]
    assert [type(module).__name__ for module in row] == kinds
    gru = next(module for module in row if isinstance(module, pygru.GRU))
    assert gru.reset == "after"
    for option, value in options.items():
        assert getattr(gru, option) == value


def test_both_reset_variants_are_told_apart():
    for before, reset in ((1, "after"), (0, "before")):
        gru = from_onnx(bare(linear_before_reset=before))
        assert (type(gru), gru.reset) == (pygru.GRU, reset)
    assert from_onnx(bare()).reset == "before"  # the operator's default
    z, r, n = np.split(weights()["B"][0][: 3 * H], 3)
    assert np.array_equal(gru.params["bias_ih_l0"], np.concatenate([r, z, n]))


def test_layout_1_is_batch_first():
    assert from_onnx(bare(layout=1)).batch_first
    assert not from_onnx(bare()).batch_first


@pytest.mark.parametrize("shape", [(), (1, 1, 1), (1, B, H)])
def test_an_initial_state_of_zeros_is_none(shape):
    """Where sizes are fixed, PyTorch's exporter expands zeros that are all there already."""
    constants = weights() | {"zeros": np.zeros(shape, "f4"), "sizes": np.array([1, B, H])}
    nodes = [node("Expand", ["zeros", "sizes"], ["h"]), gru_node("", "h")]
    imported = from_onnx(model(nodes, constants, outputs=("Y", "Y_h")))
    assert to_onnx(imported) == to_onnx(from_onnx(bare()))


def test_final_states_are_read_with_and_without_axes_of_size_1():
    constants = weights() | {"m": np.ones((H, 2), "f4"), "zero": np.array([0])}
    product = node("MatMul", ["h", "m"], ["y"])
    for nodes in (
        [node("Identity", ["Y_h"], ["h"])],
        [node("Squeeze", ["Y_h", "zero"], ["h"])],
        [node("Squeeze", ["Y_h", "zero"], ["s"]), node("Unsqueeze", ["s", "zero"], ["h"])],
    ):
        imported = from_onnx(model([gru_node(), *nodes, product], constants))
        assert [type(module).__name__ for module in imported] == ["GRU", "LastStep", "Linear"]


@pytest.mark.parametrize(
    "content, message",
    [
        (bare(clip=0.5), "node 0 (GRU) must have no clip, got 0.5"),
        (bare(direction="reverse"), "must have direction 'forward' or 'bidirectional'"),
        (bare(direction="sideways"), "must have a direction of ('forward', 'reverse'"),
        (bare(activations=["Relu", "Tanh"]), "must have activations Sigmoid and Tanh, got ['Relu'"),
        (bare(activations=["Sigmoid", "Softsign"]), "must have 2 activations of Relu, Sigmoid"),
        (bare(activations=["Sigmoid"]), "must have 2 activations"),
        (bare(op="RNN", activations=["Sigmoid"]), "must have activation Tanh or Relu"),
        (bare(hidden_size=5), "must have hidden_size 4, as R has, got 5"),
        (bare(layout=2), "must have linear_before_reset and layout of 0 or 1"),
        (bare(D=2), "must have W of shape (1, 12, 3), got (2, 12, 3)"),
        (
            bare(D=2, direction="bidirectional", activations=["Sigmoid", "Tanh", "Relu", "Tanh"]),
            "must have the same activations in both directions",
        ),
        (model([node("LSTM", ["x"], ["y"])]), "node 0 (LSTM) must be an operator that pygru has"),
        (model([node("GRU", ["x", "x", "R"], ["y"])], weights()), "W that is a constant of real"),
        (model([node("Loop", ["x"], ["y"])]), "how tf2onnx writes those it does not know"),
        (model([node("GRU", ["x", "a"], ["y"])]), "must have inputs that are there, got 'a'"),
        (model([node("Relu", ["x"], ["z"])]), "output 'y' must be y of the last layer"),
        (model([], inputs=()), "must have an input, got none"),
        (model([node("Relu", ["x"], ["y"]) | {"domain": "mine"}]), "ONNX's own operators"),
        (model([node("Relu", ["x"], ["y"])], sparse=[{}]), "must have dense weights"),
        (squeezed(node("Tanh", ["x"], ["y"])), "must read all that the layer before it gives"),
        (squeezed(node("Softmax", ["s"], ["y"], axis=0)), "must have axis=-1, the features"),
        (squeezed(node("Transpose", ["s"], ["y"], perm=[1, 0, 2])), "the order of the input's"),
        (
            squeezed(node("Transpose", ["s"], ["t"], perm=[1, 0, 2]),
                     node("Reshape", ["t", "to"], ["y"]), to=np.array([-1, H])),
            "the order of the input's",
        ),
        (
            squeezed(node("Gather", ["s", "last"], ["h"]), node("Unsqueeze", ["h", "zero"], ["u"]),
                     node("Shape", ["x"], ["n"]), node("Gather", ["n", "zero"], ["T"]),
                     node("Concat", ["T", "one", "one"], ["to"]),
                     node("Expand", ["u", "to"], ["y"]),
                     last=np.array(-1), zero=np.array([0])),
            "must have a known number of steps, got the size of axis '0'",
        ),
        (squeezed(node("Add", ["s", "b"], ["y"]), b=np.ones(H, "f4")), "a matrix product before"),
        (squeezed(node("ReduceMean", ["s"], ["y"], axes=[2])), "must have time as its axis"),
        (squeezed(node("Gather", ["s", "i"], ["y"]), i=np.array(3)), "the last step of time"),
        (
            squeezed(node("Gemm", ["s", "m"], ["y"], alpha=2.0), m=np.ones((H, 2), "f4")),
            "must have alpha=1, beta=1, transA=0",
        ),
        (
            squeezed(node("MatMul", ["s", "m"], ["y"]), m=np.ones((9, 2), "f4")),
            "must read what node 0 (GRU) gives, K = 4, got one that reads 9",
        ),
        (squeezed(node("Reshape", ["s", "to"], ["y"]), to=np.array([2, -1])), "keeps the axes"),
        (
            model([gru_node("", "h")], weights() | {"h": np.ones((1, B, H), "f4")}, (), ("Y",)),
            "must have an input, got none",
        ),
        (
            model([gru_node("", "h")], weights() | {"h": np.ones((1, B, H), "f4")}, ("x",), ("Y",)),
            "must have initial_h from an input, or 0",
        ),
        (
            model([gru_node("l")], weights() | {"l": np.full(B, 3)}, ("x",), ("Y",)),
            "must have sequence_lens from an input, got a constant",
        ),
        (
            model([gru_node("l"), node("Squeeze", ["Y", "o"], ["s"]),
                   node("ReduceMean", ["s"], ["y"], axes=[0])],
                  weights() | {"o": np.array([1])}, ("x", "l")),
            "must have time as its axis, of sequences of one length",
        ),
        (
            model([gru_node("l"), node("Squeeze", ["Y", "o"], ["s"]),
                   node("Gather", ["s", "i"], ["y"])],
                  weights() | {"o": np.array([1]), "i": np.array(-1)}, ("x", "l")),
            "must have Y_h to read, as sequences have lengths of their own",
        ),
        (
            model([node("Slice", ["h", "o", "p", "z"], ["h1"]), gru_node("", "h1")],
                  weights() | {"z": np.array([0]), "o": np.array([1]), "p": np.array([2])},
                  ("x", "h"), ("Y",)),
            "must have rows (0, 1) of the one initial state",
        ),
        (
            model([node("Gather", ["h", "x"], ["h1"]), gru_node("", "h1")], weights(),
                  ("x", "h"), ("Y",)),
            "must have known rows of the initial state to take",
        ),
        (b"", "must be an ONNX model, got one without graph"),
        (b"\x3a\x05ab", "must be whole, got 2 bytes where 5 are due"),
        (b"\x0b", "must be a protobuf message, got wire type 3"),
    ],
)  # fmt: skip
def test_what_has_no_equal_is_refused_by_name(content, message, tmp_path):
    with pytest.raises(ValueError) as error:
        from_onnx(content)
    assert str(error.value).startswith("from_onnx: ")
    assert message in str(error.value)
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(ValueError) as error:
        from_onnx(path)
    assert str(error.value).startswith(f"from_onnx: {path}: ")


def test_nodes_that_arrange_axes_change_nothing():
    plain = squeezed(node("Identity", ["s"], ["y"]))
    for nodes, constants in (
        ([node("Transpose", ["s"], ["t"]), node("Transpose", ["t"], ["y"])], {}),
        ([node("Unsqueeze", ["s", "at"], ["u"]), node("Squeeze", ["u", "at"], ["y"])],
         {"at": np.array([2])}),
        ([node("Shape", ["s"], ["n"]), node("Reshape", ["s", "flat"], ["f"]),
          node("Reshape", ["f", "n"], ["y"])], {"flat": np.array([-1, H])}),
        ([node("Slice", ["s", "zero", "end", "zero"], ["y"])],
         {"zero": np.array([0]), "end": np.array([2**63 - 1])}),
        ([node("Dropout", ["s"], ["d"]), node("Cast", ["d"], ["y"], to=1)], {}),
    ):  # fmt: skip
        again = from_onnx(squeezed(*nodes, **constants))
        assert to_onnx(again) == to_onnx(from_onnx(plain))


def test_wrong_kinds_are_type_errors():
    with pytest.raises(TypeError, match="source must be a path, bytes or an onnx"):
        from_onnx(3)


def test_all_kinds_of_number_fields_are_read():
    floats = np.arange(6, dtype="<f4")
    for packed in (
        {"float_data": list(floats)}, {"raw_data": floats.tobytes()},
    ):  # fmt: skip
        given = {"name": "m", "dims": [3, 2], "data_type": 1} | packed
        content = model([node("MatMul", ["x", "m"], ["y"])], initializer=[given])
        assert np.array_equal(from_onnx(content).params["0.weight"], floats.reshape(3, 2).T)
    # As protobuf writes a repeated field of numbers: side by side.
    raw = b"\x08\x03\x08\x02\x10\x01\x22\x18" + floats.tobytes() + b"\x42\x01m"
    graph = bytearray(model([node("MatMul", ["x", "m"], ["y"])]))
    decoded = decode(bytes(graph))
    assert decoded["graph"]["initializer"] == []
    spliced = encode({"opset_import": [{"version": 17}]}) + b"\x3a"
    inner = encode(decoded)[4:]
    start = inner.index(b"\x0a")  # the graph's first node
    inner = inner[start : inner.index(b"\x42", len(inner) - 8)] + b"\x2a" + bytes([len(raw)]) + raw
    spliced += bytes([len(inner) & 0x7F | 0x80, len(inner) >> 7]) + inner
    assert np.array_equal(from_onnx(spliced).params["0.weight"], floats.reshape(3, 2).T)
