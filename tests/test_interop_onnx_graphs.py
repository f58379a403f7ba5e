# SPDX-License-Identifier: MIT
"""Graphs that say the same in other ways are read as the same model."""

from __future__ import annotations

import numpy as np
import pytest
from onnx_models import H, I, bare, gru_node, model, node, squeezed, weights

import pygru
from pygru.interop import from_onnx, to_onnx
from pygru.interop.onnx.wire import decode


def test_nodes_that_arrange_axes_change_nothing():
    plain = squeezed(node("Identity", ["s"], ["y"]))
    for nodes, constants in (
        ([node("Constant", [], ["at"], value_ints=[2]), node("Unsqueeze", ["s", "at"], ["u"]),
          node("Squeeze", ["u", "at"], ["y"])], {}),
        ([node("Constant", [], ["at"], value_int=2), node("Unsqueeze", ["s", "at"], ["u"]),
          node("Squeeze", ["u", ""], ["y"])], {}),
        ([node("Unsqueeze", ["s", "at"], ["u"]), node("Squeeze", ["u", "at"], ["y"])],
         {"at": np.array([-2])}),
        ([node("Shape", ["s"], ["TB"], start=0, end=2), node("Concat", ["TB", "H"], ["n"], axis=0),
          node("Reshape", ["s", "n"], ["y"])], {"H": np.array([H])}),
        ([node("Shape", ["s"], ["BH"], start=1), node("Concat", ["any", "BH"], ["n"], axis=0),
          node("Reshape", ["s", "n"], ["y"])], {"any": np.array([-1])}),
        ([node("Mul", ["H", "one"], ["C"]), node("Concat", ["any", "C"], ["n"], axis=0),
          node("Reshape", ["s", "n"], ["f"]), node("Shape", ["s"], ["back"]),
          node("Reshape", ["f", "back"], ["y"])], {"H": np.array([H]), "any": np.array([-1])}),
        ([node("Shape", ["s"], ["n"]), node("Slice", ["n", "zero", "one"], ["T"]),
          node("Slice", ["n", "one", "two"], ["N"]), node("Mul", ["T", "N"], ["TN"]),
          node("Concat", ["TN", "H"], ["to"], axis=0), node("Reshape", ["s", "to"], ["f"]),
          node("Reshape", ["f", "n"], ["y"])],
         {"H": np.array([H]), "zero": np.array([0]), "two": np.array([2])}),
        ([node("Dropout", ["s", "", "off"], ["y"])], {"off": np.array(False)}),
        ([node("Identity", ["s"], ["y"]) | {"domain": "ai.onnx"}], {}),
    ):  # fmt: skip
        again = from_onnx(squeezed(*nodes, **constants))
        assert to_onnx(again) == to_onnx(from_onnx(plain))


def test_the_last_step_is_one_of_time_however_it_is_taken():
    """Attributes of Slice until opset 9, inputs since; the axes are all where none are given."""
    end = 2**31 - 1
    constants = {"last": np.array([-1]), "all": np.array([end]), "at": np.array([1])}
    sliced = [
        node("Slice", ["t"], ["l"], starts=[-1], ends=[end], axes=[1]),
        node("Slice", ["t"], ["l"], starts=[0, -1], ends=[end, end]),
        node("Slice", ["t", "last", "all", "at"], ["l"]),
    ]
    for last in sliced:
        nodes = [
            node("Transpose", ["x"], ["x_t"], perm=[1, 0, 2]),
            node("GRU", ["x_t", "W", "R", "B"], ["Y"]),
            node("Squeeze", ["Y", "at"], ["s"]),
            node("Transpose", ["s"], ["t"], perm=[1, 0, 2]),
            last,
            node("Squeeze", ["l", "at"], ["y"]),
        ]
        gru, step = from_onnx(model(nodes, weights() | constants))
        assert gru.batch_first and isinstance(step, pygru.LastStep)


def test_integers_of_32_bits_are_read_too():
    kind = {"elem_type": 6, "shape": {"dim": [{}, {}]}}
    given = [{"name": "x", "type": {"tensor_type": kind}}]
    table = np.ones((9, I), "f4")
    content = model([node("Gather", ["table", "x"], ["y"])], {"table": table}, input=given)
    (embedding,) = from_onnx(content)
    assert repr(embedding) == repr(pygru.Embedding(9, I))


def test_a_layout_comes_along_without_a_recurrent_layer():
    for batch_first in (False, True):
        ours = pygru.Sequential(pygru.RepeatVector(6, batch_first=batch_first), pygru.Linear(I, 2))
        assert from_onnx(to_onnx(ours)).batch_first == batch_first


def test_deep_models_come_and_go():
    layer = pygru.GRU(I, H, 40, bidirectional=True, rng=0)
    again = from_onnx(to_onnx(layer))
    assert repr(again) == repr(layer)


def declared(exported, which):
    """Return the name and the axes of every input or output of a model."""
    values = decode(to_onnx(exported))["graph"][which]
    return [
        (value["name"], *[
            dim.get("dim_param", dim.get("dim_value"))
            for dim in value["type"]["tensor_type"]["shape"]["dim"]
        ])
        for value in values
    ]  # fmt: skip


def test_axes_are_declared_as_they_are():
    two = pygru.GRU(I, H, 3, bidirectional=True, batch_first=True)
    assert declared(two, "input") == [("x", "B", "T", I)]
    assert declared(two, "output") == [("y", "B", "T", 2 * H), ("h_n", 6, "B", H)]
    for first in (pygru.Tanh(), pygru.Dropout(0.5)):
        row = pygru.Sequential(first, pygru.GRU(I, H), pygru.LastStep(), pygru.Linear(H, 2))
        assert declared(row, "input") == [("x", "T", "B", I)]
        assert declared(row, "output") == [("y", "B", 2)]
    for vectors in (pygru.Linear(I, 2), pygru.Sequential(pygru.LayerNorm(I), pygru.Linear(I, 2))):
        assert declared(vectors, "input") == [("x", "B", I)]
        assert declared(vectors, "output") == [("y", "B", 2)]
    table = pygru.Embedding(9, I)
    assert declared(table, "input") == [("x", "B")]
    assert declared(table, "output") == [("y", "B", I)]
    assert declared(pygru.OneHot(9), "output") == [("y", "B", 9)]
    ids = pygru.Sequential(pygru.OneHot(9), pygru.GRU(9, H, batch_first=True))
    assert declared(ids, "input") == [("x", "B", "T")]


def test_bytes_are_read_whatever_holds_them():
    content = to_onnx(pygru.GRU(I, H, rng=0))
    for source in (bytearray(content), memoryview(content)):
        assert to_onnx(from_onnx(source)) == content


@pytest.mark.parametrize(
    "nodes",
    [
        [node("Squeeze", ["Y"], ["s"])],
        [node("Squeeze", ["Y", "third"], ["s"])],
        [node("Squeeze", ["Y"], ["s"], axes=[1])],
        [node("Transpose", ["Y"], ["t"], perm=[0, 2, 3, 1]), node("Squeeze", ["t", "end"], ["s"])],
    ],
)
def test_directions_are_taken_away_wherever_they_are(nodes):
    constants = weights() | {"third": np.array([-3]), "end": np.array([3])}
    constants["m"] = np.ones((H, 2), "f4")
    product = node("MatMul", ["s", "m"], ["y"])
    again = from_onnx(model([gru_node(), *nodes, product], constants))
    assert to_onnx(again) == to_onnx(from_onnx(squeezed(product, m=constants["m"])))
    above = node("GRU", ["s", "W2", "R", "B"], ["y"])
    constants["W2"] = np.ones((1, 3 * H, H), "f4")
    (gru,) = from_onnx(model([gru_node(), *nodes, above], constants))
    assert gru.num_layers == 2


def test_weights_may_be_arranged_by_nodes():
    m = np.arange(6, dtype="f4").reshape(I, 2)
    for nodes, constants, expected in (
        ([node("Gather", ["m", "i"], ["w"], axis=1)], {"i": np.array([1, 0])}, m[:, [1, 0]]),
        ([node("Gather", ["m", "i"], ["w"])], {"i": np.array([2, 0, 1])}, m[[2, 0, 1]]),
        ([node("Reshape", ["m", "n"], ["w"])], {"n": np.array([0, -1])}, m),
        ([node("Transpose", ["n"], ["w"], perm=[1, 0])], {"n": m.T}, m),
        ([node("Cast", ["n"], ["w"], to=1)], {"n": m.astype("f8")}, m),
        ([node("Identity", ["m"], ["w"])], {}, m),
        ([node("Concat", ["m", "m"], ["w"], axis=1)], {}, np.hstack([m, m])),
        ([node("Slice", ["n", "a", "b", "c"], ["w"])],
         {"n": np.hstack([m, m + 9]), "a": np.array([2]), "b": np.array([4]), "c": np.array([1])},
         m + 9),
    ):  # fmt: skip
        content = model([*nodes, node("MatMul", ["x", "w"], ["y"])], {"m": m} | constants)
        again = from_onnx(content)
        assert again.dtype == np.float32
        assert np.array_equal(again.params["0.weight"], expected.T)


def test_weights_of_a_layer_may_be_arranged_by_nodes():
    given = weights()
    turned = {"W_": given.pop("W").swapaxes(1, 2), "R_": given.pop("R")[np.newaxis]}
    nodes = [
        node("Transpose", ["W_"], ["W"], perm=[0, 2, 1]),
        node("Squeeze", ["R_", "zero"], ["R"]), gru_node(),
    ]  # fmt: skip
    content = model(nodes, given | turned | {"zero": np.array([0])}, outputs=("Y", "Y_h"))
    assert to_onnx(from_onnx(content)) == to_onnx(from_onnx(bare()))


def test_every_layer_takes_its_rows_of_an_initial_state():
    """Two of each layer where it reads both ways; the stack has all of them."""
    constants = weights(D=2) | {"W2": np.ones((2, 3 * H, 2 * H), "f4")}
    constants |= {str(i): np.array([i]) for i in (0, 2, 4)} | {"to": np.array([0, 0, -1])}
    ways = {"direction": "bidirectional"}

    def stack(*rows):
        return model(
            [
                node("Slice", ["h", *rows[:2], "0"], ["h1"]),
                node("Slice", ["h", *rows[2:], "0"], ["h2"]), gru_node("", "h1", **ways),
                node("Transpose", ["Y"], ["t"], perm=[0, 2, 1, 3]),
                node("Reshape", ["t", "to"], ["s"]),
                node("GRU", ["s", "W2", "R", "B", "", "h2"], ["y"], **ways),
            ],
            constants, ("x", "h"),
        )  # fmt: skip

    (gru,) = from_onnx(stack("0", "2", "2", "4"))
    assert (gru.num_layers, gru.bidirectional) == (2, True)
    with pytest.raises(ValueError, match=r"must have rows \(0, 2\) of the one initial state"):
        from_onnx(stack("2", "4", "0", "2"))


def test_half_precision_is_read_as_single():
    half = np.arange(6, dtype="<f2").reshape(I, 2) / 8
    bits = [int(bit) for bit in half.view("<u2").reshape(-1)]
    for given in ({"raw_data": half.tobytes()}, {"int32_data": bits}):
        m = {"name": "m", "dims": [I, 2], "data_type": 10} | given
        linear = from_onnx(model([node("MatMul", ["x", "m"], ["y"])], initializer=[m]))
        assert linear.dtype == np.float32
        assert np.array_equal(linear.params["0.weight"], half.T)


def test_lengths_that_are_all_of_time_are_none():
    """tf2onnx gives every sequence the length that x has."""
    nodes = [
        node("Shape", ["x"], ["n"]), node("Gather", ["n", "zero"], ["T"]),
        node("Gather", ["n", "one"], ["b"]), node("Unsqueeze", ["b", "zero"], ["to"]),
        node("Expand", ["T", "to"], ["l64"]), node("Cast", ["l64"], ["l"], to=6),
        gru_node("l"),
    ]  # fmt: skip
    constants = weights() | {"zero": np.array([0]), "one": np.array([1])}
    imported = from_onnx(model(nodes, constants, outputs=("Y", "Y_h")))
    assert to_onnx(imported) == to_onnx(from_onnx(bare()))


def test_a_product_is_read_either_way_round():
    """Gemm with its default transB=0; the bias of a MatMul before it or after."""
    m, b = np.arange(9, dtype="f4").reshape(I, I), np.arange(I, dtype="f4")
    for nodes, weight in (
        ([node("Gemm", ["x", "m", "b"], ["y"])], m.T),
        ([node("Gemm", ["x", "m", "b"], ["y"], transB=0)], m.T),
        ([node("Gemm", ["x", "m", "b"], ["y"], transB=1)], m),
        ([node("MatMul", ["x", "m"], ["p"]), node("Add", ["p", "b"], ["y"])], m.T),
        ([node("MatMul", ["x", "m"], ["p"]), node("Add", ["b", "p"], ["y"])], m.T),
    ):
        (linear,) = from_onnx(model(nodes, {"m": m, "b": b}))
        assert np.array_equal(linear.params["weight"], weight)
        assert np.array_equal(linear.params["bias"], b)


def test_weights_may_be_declared_as_inputs_too():
    """As files had to until IR version 4."""
    content = model([gru_node()], weights(), ("x", "W", "R", "B"), ("Y", "Y_h"))
    assert to_onnx(from_onnx(content)) == to_onnx(from_onnx(bare()))


def test_norms_come_and_go_with_their_numbers(rng):
    norm = pygru.LayerNorm(H, eps=0.25)
    norm.flat_params[:] = rng.standard_normal(2 * H)
    (again,) = from_onnx(to_onnx(norm))
    assert repr(again) == repr(norm)
    assert np.array_equal(again.flat_params, norm.flat_params)
    for attributes in ({}, {"axis": -1}, {"axis": 2}):  # without a bias and an epsilon
        one = node("LayerNormalization", ["s", "w"], ["y"], **attributes)
        _, last = from_onnx(squeezed(one, w=norm.params["weight"]))
        assert np.array_equal(last.params["weight"], norm.params["weight"])
        assert not last.params["bias"].any()
        assert last.eps == 1e-5


def test_softmax_is_over_the_features_by_default_as_far_as_its_version_says():
    rows = [node("MatMul", ["x", "m"], ["s"])]
    kind = {"elem_type": 1, "shape": {"dim": [{}, {"dim_value": I}]}}
    for opset in (12, 13):
        for attributes in ({}, {"axis": -1}, {"axis": 1}):
            content = model(
                [*rows, node("Softmax", ["s"], ["y"], **attributes)], {"m": np.ones((I, 2), "f4")},
                opset=opset, input=[{"name": "x", "type": {"tensor_type": kind}}],
            )  # fmt: skip
            assert len(from_onnx(content)) == 2
    for attributes in ({}, {"axis": 2}):
        assert len(from_onnx(squeezed(node("Softmax", ["s"], ["y"], **attributes)))) == 2


def test_softmax_of_every_step_comes_and_goes():
    for batch_first in (False, True):
        ours = pygru.Sequential(pygru.GRU(I, H, batch_first=batch_first, rng=0), pygru.Softmax())
        assert repr(from_onnx(to_onnx(ours))) == repr(ours)


def one_hot(values=(0, 1), **attributes):
    """Return a model of a OneHot of nine classes, of integers (T, B)."""
    kind = {"elem_type": 7, "shape": {"dim": [{}, {}]}}
    return model(
        [node("OneHot", ["x", "K", "v"], ["y"], **attributes)],
        {"K": np.array(9), "v": np.array(values, "f4")},
        input=[{"name": "x", "type": {"tensor_type": kind}}],
    )


def test_one_hot_is_of_ones_and_comes_last():
    for attributes in ({}, {"axis": -1}, {"axis": 2}):
        (again,) = from_onnx(one_hot(**attributes))
        assert repr(again) == repr(pygru.OneHot(9))
    with pytest.raises(ValueError, match="must have integers of the input, and the classes last"):
        from_onnx(one_hot(axis=0))
    for values in ((1, 0), (0, 5), (-1, 1)):
        with pytest.raises(ValueError, match="must have a known number of classes, 0 and 1"):
            from_onnx(one_hot(values))


def test_a_mean_keeps_its_axis_by_default():
    mean = node("ReduceMean", ["s"], ["m"], axes=[0])
    _, mean = from_onnx(squeezed(mean, node("Squeeze", ["m", "zero"], ["y"]), zero=np.array([0])))
    assert isinstance(mean, pygru.MeanOverTime)
